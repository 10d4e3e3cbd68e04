//! A DeiT on the device: the plans for a batch of pictures, and their runs.

use super::scratch::Scratch;
use super::weights::{DeitWeights, Layer};
use super::{Attention, Deit, PictureBatch};
use crate::error::{Error, Result};
use crate::gpu::{Buf, Gpu, Plan, Stages, Totals, Usage};
use crate::kernels::attention::{AttentionVariant, Heads, stored::Stored, tiled};
use crate::kernels::linear::{Epilogue, Linear, Product, Prologue};
use crate::kernels::pictures::Pictures;
use crate::kernels::rms_norm::Every;
use crate::kernels::variants::Variants;
use crate::kernels::{Activation, Batch, case::Random, padded_rows, size};

/// A DeiT ready for batches of one number of pictures of one size.
pub struct DeitForward {
    gpu: Gpu,
    deit: Deit,
    batch: PictureBatch,
    on: Scratch,
    body: Plan,
    /// Norm of the class tokens, and the head.
    head: Plan,
    // The plans use them.
    _weights: DeitWeights,
    _stored: Option<Stored>,
}

impl DeitForward {
    /// Records the plans and allocates the activations for runs of this batch; the product's form is that of `variants`.
    pub fn new(gpu: &Gpu, deit: &Deit, weights: DeitWeights, batch: PictureBatch, variants: &Variants) -> Result<Self> {
        let tokens = deit.patches(batch.image).tokens();
        // The class token and the bias of the patches are parts of the positions.
        let positions = Random::new(1).uniforms(tokens * deit.hidden, -0.02, 0.02);
        Self::with_positions(gpu, deit, (weights, &positions), batch, variants)
    }

    /// The same with positions `[tokens, E]`.
    pub(super) fn with_positions(
        gpu: &Gpu,
        deit: &Deit,
        (weights, positions): (DeitWeights, &[f32]),
        batch: PictureBatch,
        variants: &Variants,
    ) -> Result<Self> {
        deit.check(gpu.caps(), &batch)?;
        let cut = deit.patches(batch.image);
        let pictures = Pictures { tokens: cut.tokens(), most: batch.pictures };
        let heads = deit.heads(cut.tokens());
        let stored = match batch.attention {
            Attention::Tiled => None,
            Attention::Stored => Some(Stored::new(gpu, heads, batch.pictures)?),
        };
        let on = Scratch::new(gpu, deit, &batch)?;
        let rows = gpu.upload("pictures", &[pictures.batch(batch.pictures)], Usage::Uniform)?;
        let classes = Batch { rows: size(batch.pictures), ..Batch::default() };
        let classes = gpu.upload("class tokens", &[classes], Usage::Uniform)?;
        let product = variants.prefill();

        let mut body = Plan::new(gpu, "pictures");
        cut.record(&mut body, "patches", (&on.pixels, &on.patches), &rows)?;
        let table = gpu.upload("positions", &padded_rows(positions, deit.hidden), Usage::Storage)?;
        let epilogue = (Prologue::None, Epilogue::Table(&table));
        weights.patch_embed.record(&mut body, "patch_embed", (&on.patches, &on.x[0]), epilogue, (product, &rows))?;
        let variant = AttentionVariant::of(gpu.caps(), heads.width);
        let recorder = Recorder { deit, on: &on, heads, stored: stored.as_ref(), variant, product, rows: &rows };
        for (i, layer) in weights.layers.iter().enumerate() {
            recorder.layer(&mut body, i, layer)?;
        }

        let mut head = Plan::new(gpu, "class");
        let every = Every { first: cut.class_at, step: cut.tokens() };
        weights.norm.with(deit.norm_eps).record(&mut head, "norm", (&on.x[0], every, &on.features))?;
        let epilogue = (Prologue::None, Epilogue::Table(&weights.head.bias));
        let ends = (&on.features, &on.logits);
        weights.head.matrix.record(&mut head, "head", ends, epilogue, (product, &classes))?;
        Ok(DeitForward { gpu: gpu.clone(), deit: *deit, batch, on, body, head, _weights: weights, _stored: stored })
    }

    /// Runs a batch `[picture, channel, height, width]`, normalized, from its upload to the head. Submits and returns.
    pub fn run(&self, pixels: &[f32]) -> Result<()> {
        if pixels.len() != self.on.pixels.len() {
            return Err(Error::BadSetting {
                name: "pixels",
                value: format!("{} values", pixels.len()),
                problem: "a batch has the values of all its pictures",
            });
        }
        self.gpu.write(&self.on.pixels, 0, pixels)?;
        self.body.run(self.rows())?;
        self.head.run(self.batch.pictures)?;
        Ok(())
    }

    /// Logits `[pictures, classes]` of the last run.
    pub async fn logits(&self) -> Result<Vec<f32>> {
        self.on.logits.read(&self.gpu, self.batch.pictures, 0..self.deit.classes).await
    }

    /// Dispatches, work and traffic of a run.
    pub fn totals(&self) -> Totals {
        self.body.totals(self.rows(), Stages::ALL).and(self.head.totals(self.batch.pictures, Stages::ALL))
    }

    fn rows(&self) -> usize {
        self.batch.pictures * self.deit.patches(self.batch.image).tokens()
    }
}

/// What the plan of the layers is recorded from.
struct Recorder<'a> {
    deit: &'a Deit,
    on: &'a Scratch,
    heads: Heads,
    stored: Option<&'a Stored>,
    variant: AttentionVariant,
    product: Product,
    rows: &'a Buf<Batch>,
}

impl Recorder<'_> {
    /// Records layer `i`: attention and MLP, each behind a norm and added to the stream.
    fn layer(&self, plan: &mut Plan, i: usize, layer: &Layer) -> Result<()> {
        let Recorder { deit, on, heads, stored, variant, .. } = self;
        let at = |name: &str| format!("blocks.{i}.{name}");
        let [x, after_attention] = &on.x;
        let all = Every { first: 0, step: 1 };
        layer.norm1.with(deit.norm_eps).record(plan, &at("norm1"), (x, all, &on.normed))?;
        let bias = Epilogue::Table(&layer.qkv.bias);
        self.product(plan, &at("qkv"), &layer.qkv.matrix, (&on.normed, &on.qkv), bias)?;
        let attended = (&on.qkv, &on.normed);
        match stored {
            Some(stored) => stored.record(plan, &at("attention"), attended, *variant)?,
            None => tiled::record(plan, &at("attention"), *heads, attended, *variant)?,
        }
        let residual = Epilogue::BiasResidual(&layer.proj.bias, x);
        self.product(plan, &at("proj"), &layer.proj.matrix, (&on.normed, after_attention), residual)?;
        layer.norm2.with(deit.norm_eps).record(plan, &at("norm2"), (after_attention, all, &on.normed))?;
        let gelu = Epilogue::Gelu(&layer.fc1.bias);
        self.product(plan, &at("fc1"), &layer.fc1.matrix, (&on.normed, &on.mlp), gelu)?;
        let residual = Epilogue::BiasResidual(&layer.fc2.bias, after_attention);
        self.product(plan, &at("fc2"), &layer.fc2.matrix, (&on.mlp, x), residual)
    }

    fn product(
        &self,
        plan: &mut Plan,
        label: &str,
        matrix: &Linear,
        ends: (&Activation, &Activation),
        epilogue: Epilogue<'_>,
    ) -> Result<()> {
        matrix.record(plan, label, ends, (Prologue::None, epilogue), (self.product, self.rows))
    }
}
