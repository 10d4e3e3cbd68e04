//! The order of the layers, recorded as plans: the only place that knows it on the device.

use super::config::{Config, Family};
use super::scratch::{Layout, Scratch, layout};
use super::state::{StateBank, VERSIONS};
use super::weights::Weights;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Plan, Readback, Usage};
use crate::kernels::conv::Conv;
use crate::kernels::linear::Epilogue;
use crate::kernels::scan::{Operands, Scan, Segments};
use crate::kernels::select::{Rules, Select};
use crate::kernels::variants::Variants;
use crate::kernels::{Activation, Batch, Phase, Row, dbc_norm, embed, rms_norm};

/// Prefill: a chunk of one slot's tokens.
pub(super) struct Prefill {
    pub(super) batch: Buf<Batch>,
    pub(super) rows: Buf<Row>,
    pub(super) scratch: Scratch,
    pub(super) body: Plan,
    pub(super) head_batch: Buf<Batch>,
    pub(super) head: Plan,
    pub(super) head_rows: usize,
    pub(super) logits: Activation,
    pub(super) select: Plan,
    pub(super) chosen: Buf<u32>,
}

/// Decode: one token of each slot in the row table.
pub(super) struct Decode {
    pub(super) batch: Buf<Batch>,
    pub(super) plan: Plan,
    pub(super) logits: Activation,
    pub(super) chosen: Buf<u32>,
    pub(super) readbacks: Vec<Readback<u32>>,
}

/// What the plans are recorded from.
pub(super) struct Builder<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) variants: Variants,
    pub(super) config: &'a Config,
    pub(super) weights: &'a Weights,
    pub(super) state: &'a StateBank,
    pub(super) table: &'a Buf<Row>,
    pub(super) rules: &'a Buf<Rules>,
    pub(super) bias: &'a Buf<f32>,
    pub(super) recent: &'a Buf<u32>,
}

impl Builder<'_> {
    /// Embedding and layers, the same for both phases; gives where the residual stream ends up.
    fn body<'s>(
        &self,
        plan: &mut Plan,
        on: &'s Scratch,
        rows: &Buf<Row>,
        batch: &Buf<Batch>,
        segments: Option<&Segments>,
    ) -> Result<&'s Activation> {
        let config = self.config;
        let phase = if segments.is_some() { Phase::Prefill } else { Phase::Decode };
        let product = self.variants.product(phase);
        let layout = layout(config);
        let mixer_eps = match config.family {
            Family::Mamba => None,
            Family::FalconMamba { mixer_rms_eps } => Some(mixer_rms_eps),
        };
        embed::record(plan, &self.weights.embedding, rows, &on.x[0])?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let at = |name: &str| format!("layer.{i}.{name}");
            let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
            let (conv_state, ssm_state) = (&self.state.conv[i], &self.state.ssm[i]);
            rms_norm::record(plan, &at("norm"), (x, &on.normed), &layer.norm, config.norm_eps, batch)?;
            layer.in_proj.record(plan, &at("in_proj"), (&on.normed, &on.xz), Epilogue::Store, (product, batch))?;
            let conv = Conv {
                taps: &layer.conv_taps,
                state: conv_state,
                inner: config.inner,
                kernel: config.conv_kernel,
                versions: VERSIONS,
            };
            conv.record(plan, &at("conv"), (&on.xz, &on.conv), (phase, batch, rows))?;
            layer.x_proj.record(plan, &at("x_proj"), (&on.conv, &on.projected), Epilogue::Store, (product, batch))?;
            dbc_norm::record(plan, &at("dbc"), (&on.projected, &on.dbc), layout, mixer_eps)?;
            let softplus = Epilogue::Softplus(&layer.dt_bias);
            layer.dt_proj.record(plan, &at("dt_proj"), (&on.dbc, &on.dt), softplus, (product, batch))?;
            let operands = Operands { dt: &on.dt, x: &on.conv, xz: &on.xz, dbc: &on.dbc, y: &on.gated };
            let scan = Scan {
                a_skip: &layer.a_skip,
                state: ssm_state,
                inner: config.inner,
                layout,
                versions: VERSIONS,
                form: self.variants.scan,
            };
            match segments {
                Some(segments) => scan.record_chunk(plan, &at("scan"), operands, segments, batch)?,
                None => scan.record_step(plan, &at("scan"), operands, rows)?,
            }
            let residual = Epilogue::Residual(x);
            layer.out_proj.record(plan, &at("out_proj"), (&on.gated, x_next), residual, (product, batch))?;
        }
        Ok(&on.x[config.layers % 2])
    }

    /// The last norm and the head.
    fn head(
        &self,
        plan: &mut Plan,
        (x, normed, logits): (&Activation, &Activation, &Activation),
        (phase, batch): (Phase, &Buf<Batch>),
    ) -> Result<()> {
        rms_norm::record(plan, "final_norm", (x, normed), &self.weights.norm_f, self.config.norm_eps, batch)?;
        self.weights.head.record(
            plan,
            "logits",
            (normed, logits),
            Epilogue::Store,
            (self.variants.product(phase), batch),
        )
    }

    fn select(&self, plan: &mut Plan, logits: &Activation, chosen: &Buf<u32>, batch: &Buf<Batch>) -> Result<()> {
        let select =
            Select { logits, bias: self.bias, rules: self.rules, recent: self.recent, rows: self.table, chosen };
        select.record(plan, batch)
    }

    pub(super) fn prefill(&self, layout: Layout) -> Result<Prefill> {
        let (gpu, config) = (self.gpu, self.config);
        let Layout { chunk, head_rows, segments, .. } = layout;
        let batch = gpu.buffer("prefill batch", 1, Usage::Uniform)?;
        let rows = gpu.buffer("prefill rows", chunk, Usage::Storage)?;
        let scratch = Scratch::new(gpu, config, chunk)?;
        let segments = Segments::new(gpu, chunk, segments, config.inner, config.state)?;
        let mut body = Plan::new(gpu, "prefill");
        let x = self.body(&mut body, &scratch, &rows, &batch, Some(&segments))?;

        let head_batch = gpu.buffer("head batch", 1, Usage::Uniform)?;
        let normed = Activation::new(gpu, "head normed", head_rows, config.hidden)?;
        let logits = Activation::dense(gpu, "prefill logits", head_rows, config.vocab)?;
        let mut head = Plan::new(gpu, "head");
        self.head(&mut head, (x, &normed, &logits), (Phase::Prefill, &head_batch))?;
        let chosen = gpu.buffer("chosen first", 1, Usage::Storage)?;
        let mut select = Plan::new(gpu, "select");
        self.select(&mut select, &logits, &chosen, &head_batch)?;
        Ok(Prefill { batch, rows, scratch, body, head_batch, head, head_rows, logits, select, chosen })
    }

    pub(super) fn decode(&self, slots: usize) -> Result<Decode> {
        let (gpu, config) = (self.gpu, self.config);
        let batch = gpu.buffer("decode batch", 1, Usage::Uniform)?;
        let scratch = Scratch::new(gpu, config, slots)?;
        let logits = Activation::dense(gpu, "decode logits", slots, config.vocab)?;
        let chosen = gpu.buffer("chosen", slots, Usage::Storage)?;
        let mut plan = Plan::new(gpu, "decode");
        let x = self.body(&mut plan, &scratch, self.table, &batch, None)?;
        self.head(&mut plan, (x, &scratch.normed, &logits), (Phase::Decode, &batch))?;
        self.select(&mut plan, &logits, &chosen, &batch)?;
        Ok(Decode { batch, plan, logits, chosen, readbacks: vec![] })
    }
}
