//! A Vision Mamba on the device: the plans for a resolution, and their runs.

use super::Vim;
use super::scratch::Scratch;
use super::weights::{Layer, VimWeights};
use crate::error::{Error, Result};
use crate::gpu::{Buf, Gpu, Plan, Stages, Totals, Usage};
use crate::kernels::conv::PictureConv;
use crate::kernels::dbc_norm::{self, Projected};
use crate::kernels::linear::{Epilogue, Product, Prologue};
use crate::kernels::pictures::Pictures;
use crate::kernels::rms_norm::Every;
use crate::kernels::scan::{Operands, Over, Scan, ScanVariant};
use crate::kernels::variants::Variants;
use crate::kernels::{Activation, Batch, merge, padded_rows, patches, rms_norm, size};
use std::sync::Arc;

/// A Vision Mamba ready for batches of pictures of one size.
pub struct VimForward {
    gpu: Gpu,
    vim: Vim,
    weights: Arc<VimWeights>,
    image: [usize; 2],
    pictures: Pictures,
    scratch: Scratch,
    /// For the layers: rows of all pictures.
    batch: Buf<Batch>,
    /// For the head: a row per picture.
    head_batch: Buf<Batch>,
    body: Plan,
    /// Norm of the class tokens, and the head.
    head: Plan,
    /// Norm of all rows.
    dense: Plan,
}

/// A value inside the model, `[rows, width]`, by its name: `tokens`, then of each layer `norm`, `forward`, `backward` (each
/// direction's gated scan, in the pictures' order) and `x`, the residual stream after it.
pub struct VimTap<'a> {
    /// `None` for `tokens`.
    pub layer: Option<usize>,
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: &'a [f32],
}

impl VimForward {
    /// Records the plans and allocates the activations for at most `most` pictures of a height and width.
    pub fn new(
        gpu: &Gpu,
        vim: &Vim,
        weights: Arc<VimWeights>,
        (image, most): ([usize; 2], usize),
        variants: &Variants,
    ) -> Result<Self> {
        let cut = vim.patches(image);
        let pictures = Pictures { tokens: cut.tokens(), most };
        let segments = vim.segments(gpu.caps(), pictures.tokens);
        let scratch = Scratch::new(gpu, vim, image, pictures, segments)?;
        let batch = gpu.buffer("pictures", 1, Usage::Uniform)?;
        let head_batch = gpu.buffer("class tokens", 1, Usage::Uniform)?;
        let mut body = Plan::new(gpu, "pictures");
        let recorder =
            Recorder { vim, on: &scratch, pictures, batch: &batch, product: variants.prefill(), scan: variants.scan };
        recorder.embed(&mut body, &weights, &cut)?;
        for (i, layer) in weights.layers.iter().enumerate() {
            recorder.layer(&mut body, i, layer)?;
        }
        let last = &scratch.x[vim.layers % 2];
        let norm = (&weights.norm_f, vim.norm_eps);
        let mut head = Plan::new(gpu, "class");
        let classes = Every { first: cut.class_at, step: cut.tokens() };
        rms_norm::record_every(&mut head, "final_norm", (last, classes, &scratch.features), norm, &head_batch)?;
        if let Some((matrix, bias)) = &weights.head {
            let epilogue = (Prologue::None, Epilogue::Table(bias));
            let product = (variants.prefill(), &head_batch);
            matrix.record(&mut head, "head", (&scratch.features, &scratch.logits), epilogue, product)?;
        }
        let mut dense = Plan::new(gpu, "dense");
        rms_norm::record(&mut dense, "final_norm", (last, &scratch.normed), norm.0, norm.1, &batch)?;
        let (gpu, vim) = (gpu.clone(), vim.clone());
        Ok(VimForward { gpu, vim, weights, image, pictures, scratch, batch, head_batch, body, head, dense })
    }

    /// Height and width of its pictures.
    pub fn image(&self) -> [usize; 2] {
        self.image
    }

    /// Most pictures of a batch.
    pub fn most(&self) -> usize {
        self.pictures.most
    }

    /// Rows of a picture.
    pub fn tokens(&self) -> usize {
        self.pictures.tokens
    }

    /// The weights.
    pub fn weights(&self) -> &Arc<VimWeights> {
        &self.weights
    }

    /// Uploads pictures `[picture, channel, height, width]`; returns their number.
    fn upload(&self, pixels: &[f32]) -> Result<usize> {
        let values = self.vim.patches(self.image).values();
        let count = pixels.len() / values;
        if !pixels.len().is_multiple_of(values) || !(1..=self.pictures.most).contains(&count) {
            return Err(Error::BadSetting {
                name: "pixels",
                value: format!("{} values", pixels.len()),
                problem: "a batch has the values of 1 to its most pictures",
            });
        }
        self.gpu.write(&self.scratch.pixels, 0, pixels)?;
        self.gpu.write(&self.batch, 0, &[self.pictures.batch(count)])?;
        self.gpu.write(&self.head_batch, 0, &[Batch { rows: size(count), ..Batch::default() }])?;
        Ok(count)
    }

    /// Runs a batch of pictures `[picture, channel, height, width]`, normalized, from its upload to the head. Submits and returns
    /// their number.
    pub fn run(&self, pixels: &[f32]) -> Result<usize> {
        let count = self.upload(pixels)?;
        self.body.run(count * self.pictures.tokens)?;
        self.head.run(count)?;
        Ok(count)
    }

    /// Logits `[pictures, classes]` of the last run, which had `count` pictures; empty where the model has no head.
    pub async fn logits(&self, count: usize) -> Result<Vec<f32>> {
        if self.weights.head.is_none() {
            return Ok(vec![]);
        }
        self.scratch.logits.read(&self.gpu, count, 0..self.vim.classes).await
    }

    /// Features `[pictures, E]` of the last run: the class tokens after the final norm.
    pub async fn features(&self, count: usize) -> Result<Vec<f32>> {
        self.scratch.features.read(&self.gpu, count, 0..self.vim.hidden).await
    }

    /// All rows `[pictures * tokens, E]` of the last run after the final norm.
    pub async fn dense(&self, count: usize) -> Result<Vec<f32>> {
        let rows = count * self.pictures.tokens;
        self.dense.run(rows)?;
        self.scratch.normed.read(&self.gpu, rows, 0..self.vim.hidden).await
    }

    /// Runs a batch dispatch by dispatch and calls `see` with the values that `wanted` names by layer and name, in order.
    pub async fn run_tapped(
        &self,
        pixels: &[f32],
        wanted: impl Fn(Option<usize>, &str) -> bool,
        mut see: impl FnMut(VimTap<'_>),
    ) -> Result<usize> {
        let count = self.upload(pixels)?;
        let rows = count * self.pictures.tokens;
        let Scratch { x, normed, dt_y, .. } = &self.scratch;
        let [forward, backward] = [0, 1].map(|direction| self.pictures.one(dt_y, direction));
        let gpu = &self.gpu;
        let seen = async |label: &str| {
            let (layer, places): (Option<usize>, Vec<(&'static str, &Activation)>) = match parsed(label) {
                None if label == "patch_embed" => (None, vec![("tokens", &x[0])]),
                Some((layer, "norm")) => (Some(layer), vec![("norm", normed)]),
                Some((layer, "scan")) => (Some(layer), vec![("forward", &forward), ("backward", &backward)]),
                Some((layer, "out_proj")) => (Some(layer), vec![("x", &x[(layer + 1) % 2])]),
                _ => return Ok(()),
            };
            for (name, place) in places.into_iter().filter(|(name, _)| wanted(layer, name)) {
                let values = place.read(gpu, rows, 0..place.width).await?;
                see(VimTap { layer, name, values: &values });
            }
            Ok(())
        };
        self.body.run_stepwise(rows, seen).await?;
        self.head.run(count)?;
        Ok(count)
    }

    /// Dispatches, work and traffic of a batch of this many pictures.
    pub fn totals(&self, count: usize) -> Totals {
        let body = self.body.totals(count * self.pictures.tokens, Stages::ALL);
        body.and(self.head.totals(count, Stages::ALL))
    }
}

/// The layer and the kernel of a label such as `layers.3.norm`.
fn parsed(label: &str) -> Option<(usize, &str)> {
    let (layer, kernel) = label.strip_prefix("layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, kernel))
}

/// What the plan of the layers is recorded from.
struct Recorder<'a> {
    vim: &'a Vim,
    on: &'a Scratch,
    pictures: Pictures,
    batch: &'a Buf<Batch>,
    product: Product,
    scan: ScanVariant,
}

impl Recorder<'_> {
    /// Records patches, their embedding and positions.
    fn embed(&self, plan: &mut Plan, weights: &VimWeights, cut: &patches::Patches) -> Result<()> {
        let Recorder { vim, on, batch, .. } = self;
        cut.record(plan, "patches", (&on.pixels, &on.patches), batch)?;
        // Row of a patch: its position and the bias; of the class token: its position and the token.
        let embedding = &weights.embedding;
        let mut table = vim.positions(&embedding.positions, [cut.height, cut.width]);
        for (t, row) in table.chunks_exact_mut(vim.hidden).enumerate() {
            let constant = if t == cut.class_at { &embedding.class_token } else { &embedding.bias };
            row.iter_mut().zip(constant).for_each(|(value, constant)| *value += constant);
        }
        let table = plan.gpu().upload("positions", &padded_rows(&table, vim.hidden), Usage::Storage)?;
        let epilogue = (Prologue::None, Epilogue::Table(&table));
        weights.patch_embed.record(plan, "patch_embed", (&on.patches, &on.x[0]), epilogue, (self.product, batch))
    }

    /// Records layer `i`: norm, mixer in both directions, residual.
    fn layer(&self, plan: &mut Plan, i: usize, layer: &Layer) -> Result<()> {
        let Recorder { vim, on, pictures, batch, .. } = self;
        let product = (self.product, *batch);
        let store = (Prologue::None, Epilogue::Store);
        let layout = vim.dbc_layout();
        let at = |name: &str| format!("layers.{i}.{name}");
        let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
        rms_norm::record(plan, &at("norm"), (x, &on.normed), &layer.norm, vim.norm_eps, batch)?;
        layer.in_proj.record(plan, &at("in_proj"), (&on.normed, &on.xz), store, product)?;
        let conv = PictureConv { taps: &layer.taps, inner: vim.inner, kernel: vim.conv_kernel };
        conv.record(plan, &at("conv"), (&on.xz, &on.conv), batch)?;
        for (direction, suffix) in ["", "_b"].into_iter().enumerate() {
            let own = |both: &Activation| pictures.one(both, direction);
            let (conv, dbc, dt) = (own(&on.conv), own(&on.dbc), own(&on.dt_y));
            let x_proj = &layer.x_proj[direction];
            let slices = self.product.slices(plan.gpu().caps(), x_proj, layout.planes_in_dt(vim.inner));
            let memory = on.apart.as_ref().map_or_else(|| dt.clone(), own);
            let projected = Projected::at(&memory, pictures.rows(), layout, slices);
            let sliced = (Prologue::None, Epilogue::Slices(slices));
            x_proj.record(plan, &at(&format!("x_proj{suffix}")), (&conv, &projected.planes), sliced, product)?;
            dbc_norm::record(plan, &at(&format!("dbc{suffix}")), (&projected, &dbc), layout, None)?;
            let softplus = (Prologue::None, Epilogue::Softplus(&layer.dt_bias[direction]));
            layer.dt_proj[direction].record(plan, &at(&format!("dt_proj{suffix}")), (&dbc, &dt), softplus, product)?;
        }
        let over = Over::Pictures(*pictures);
        let scan = Scan { a_skip: &layer.a_skip, inner: vim.inner, layout, variant: self.scan, over };
        let operands = Operands { dt: &on.dt_y, x: &on.conv, xz: &on.xz, dbc: &on.dbc, y: &on.dt_y };
        scan.record(plan, &at("scan"), operands, &on.segments, batch)?;
        merge::record(plan, &at("merge"), &on.dt_y, if vim.halved { 0.5 } else { 1.0 }, batch)?;
        let gated = pictures.one(&on.dt_y, 0);
        let residual = (Prologue::None, Epilogue::Residual(x));
        layer.out_proj.record(plan, &at("out_proj"), (&gated, x_next), residual, product)
    }
}
