//! The order of the layers, recorded as plans: the only place that knows it on the device.

use super::config::{Config, Family};
use super::scratch::{Layout, Scratch, StepScratch, layout};
use super::state::{StateBank, VERSIONS};
use super::weights::{Table, Weights};
use crate::error::Result;
use crate::gpu::{Buf, Clock, Gpu, Plan, Readback, Usage};
use crate::kernels::conv::Conv;
use crate::kernels::embed::GivenRows;
use crate::kernels::linear::Linear;
use crate::kernels::linear::{Epilogue, NextNorm, Product, Prologue};
use crate::kernels::scan::{Operands, Scan, Segments};
use crate::kernels::select::{SamplingParams, Select, Tallies};
use crate::kernels::ssm_step::{SsmStep, StepOperands};
use crate::kernels::variants::Variants;
use crate::kernels::{Activation, Batch, RowEntry, dbc_norm, embed, rms_norm};

/// Prefill: a chunk of one slot's tokens.
pub(super) struct Prefill {
    pub(super) batch: Buf<Batch>,
    pub(super) rows: Buf<RowEntry>,
    /// What the rows of the tokens go through where the table of embeddings is on the host.
    pub(super) given: Option<GivenRows>,
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
    /// As in [`Prefill`].
    pub(super) given: Option<GivenRows>,
    pub(super) plan: Plan,
    pub(super) chosen: Buf<u32>,
    pub(super) readbacks: Vec<Readback<u32>>,
    /// Reads the device's clock before and after each step, where steps are timed.
    pub(super) clock: Option<Clock>,
}

/// What the plans are recorded from.
pub(super) struct Builder<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) variants: &'a Variants,
    pub(super) config: &'a Config,
    pub(super) weights: &'a Weights,
    pub(super) state: &'a StateBank,
    pub(super) table: &'a Buf<RowEntry>,
    pub(super) rules: &'a Buf<SamplingParams>,
    pub(super) bias: &'a Buf<f32>,
    pub(super) recent: &'a Buf<u32>,
    pub(super) tallies: &'a Tallies,
}

impl Builder<'_> {
    /// Epsilon of the norms of dt, B and C, where the model has them.
    fn mixer_eps(&self) -> Option<f32> {
        match self.config.family {
            Family::Mamba => None,
            Family::FalconMamba { mixer_rms_eps } => Some(mixer_rms_eps),
        }
    }

    /// The convolution of a layer.
    fn conv(&self, layer: usize) -> Conv<'_> {
        Conv {
            taps: &self.weights.layers[layer].conv_taps,
            state: &self.state.conv[layer],
            inner: self.config.inner,
            kernel: self.config.conv_kernel,
            versions: VERSIONS,
        }
    }

    /// Room for rows of the embedding, where its table is on the host.
    fn given(&self, rows: usize) -> Result<Option<GivenRows>> {
        let on_host = self.weights.embedding.on_host();
        on_host.map(|table| GivenRows::new(self.gpu, table.format(), rows, self.config.hidden)).transpose()
    }

    /// What a token's row is looked up in, and by: its id in the table, or its place among the rows given.
    fn embedding<'s>(
        &'s self,
        given: &'s Option<GivenRows>,
        rows: &'s Buf<RowEntry>,
    ) -> (&'s Linear, &'s Buf<RowEntry>) {
        match (&self.weights.embedding, given) {
            (Table::Device(table), _) => (table, rows),
            (Table::Host(_), given) => given.as_ref().expect("there is room where the table is on the host").as_table(),
        }
    }

    /// Embedding and layers for a chunk of tokens; gives where the residual stream ends up.
    fn chunk<'s>(
        &self,
        plan: &mut Plan,
        on: &'s Scratch,
        (table, rows): (&Linear, &Buf<RowEntry>),
        batch: &Buf<Batch>,
        segments: &Segments,
    ) -> Result<&'s Activation> {
        let config = self.config;
        let product = (self.variants.prefill(), batch);
        let store = (Prologue::None, Epilogue::Store);
        let layout = layout(config);
        embed::record(plan, table, rows, &on.x[0], None)?;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let at = |name: &str| format!("layer.{i}.{name}");
            let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
            rms_norm::record(plan, &at("norm"), (x, &on.normed), &layer.norm, config.norm_eps, batch)?;
            layer.in_proj.record(plan, &at("in_proj"), (&on.normed, &on.xz), store, product)?;
            self.conv(i).record(plan, &at("conv"), (&on.xz, &on.conv), batch)?;
            layer.x_proj.record(plan, &at("x_proj"), (&on.conv, &on.projected), store, product)?;
            dbc_norm::record(plan, &at("dbc"), (&on.projected, &on.dbc), layout, self.mixer_eps())?;
            let softplus = (Prologue::None, Epilogue::Softplus(&layer.dt_bias));
            layer.dt_proj.record(plan, &at("dt_proj"), (&on.dbc, &on.dt), softplus, product)?;
            let operands = Operands { dt: &on.dt, x: &on.conv, xz: &on.xz, dbc: &on.dbc, y: &on.gated };
            let scan = Scan {
                a_skip: &layer.a_skip,
                state: &self.state.ssm[i],
                inner: config.inner,
                layout,
                versions: VERSIONS,
                variant: self.variants.scan,
            };
            scan.record(plan, &at("scan"), operands, segments, batch)?;
            let residual = (Prologue::None, Epilogue::Residual(x));
            layer.out_proj.record(plan, &at("out_proj"), (&on.gated, x_next), residual, product)?;
        }
        Ok(&on.x[config.layers % 2])
    }

    /// Embedding, layers and head for one token of each row: four dispatches a layer, each of which needs the one before. The
    /// logits go to the slots' state.
    fn step(
        &self,
        plan: &mut Plan,
        on: &StepScratch,
        (table, rows): (&Linear, &Buf<RowEntry>),
        batch: &Buf<Batch>,
    ) -> Result<()> {
        let config = self.config;
        let product = |name: &str, matrix: &Linear| (self.variants.decode(name, matrix), batch);
        let order = |name: &str, matrix: &Linear| self.variants.decode(name, matrix).order(matrix);
        let weights = self.weights;
        let normed = |parts| Prologue::Norm { squares: &on.squares, parts, eps: config.norm_eps };
        // What comes before a norm makes the stream ready for it, in the order of the product that reads it.
        let of_layer = |layer: usize| match weights.layers.get(layer) {
            Some(layer) => (&layer.norm, order("in_proj", &layer.in_proj)),
            None => (&weights.norm_f, order("head", &weights.head)),
        };
        let normed_of = |layer: usize| on.normed.ordered(config.hidden, of_layer(layer).1);
        let mut normed_x = normed_of(0);
        let next = NextNorm { weight: of_layer(0).0, normed: &normed_x, squares: &on.squares };
        embed::record(plan, table, rows, &on.x[0], Some(next))?;
        let mut parts = 1;
        for (i, layer) in self.weights.layers.iter().enumerate() {
            let at = |name: &str| format!("layer.{i}.{name}");
            let (x, x_next) = (&on.x[i % 2], &on.x[(i + 1) % 2]);
            let xg = on.xg.ordered(on.xg.width, order("x_proj", &layer.x_proj));
            let mixer = (normed(parts), Epilogue::Mixer(self.conv(i), self.table));
            layer.in_proj.record(plan, &at("in_proj"), (&normed_x, &xg), mixer, product("in_proj", &layer.in_proj))?;
            let store = (Prologue::None, Epilogue::Store);
            layer.x_proj.record(plan, &at("x_proj"), (&xg, &on.projected), store, product("x_proj", &layer.x_proj))?;
            let step = SsmStep {
                dt_proj: &layer.dt_proj,
                dt_bias: &layer.dt_bias,
                a_skip: &layer.a_skip,
                state: &self.state.ssm[i],
                layout: layout(config),
                eps: self.mixer_eps(),
                versions: VERSIONS,
            };
            let gated = on.gated.ordered(config.inner, order("out_proj", &layer.out_proj));
            let operands = StepOperands { projected: &on.projected, xg: &xg, y: &gated };
            step.record(plan, &at("ssm_step"), operands, (self.variants.step, batch), self.table)?;
            normed_x = normed_of(i + 1);
            let next = NextNorm { weight: of_layer(i + 1).0, normed: &normed_x, squares: &on.squares };
            let residual = (Prologue::None, Epilogue::ResidualNorm(x, next));
            let out_proj = product("out_proj", &layer.out_proj);
            layer.out_proj.record(plan, &at("out_proj"), (&gated, x_next), residual, out_proj)?;
            parts = self.square_parts(&layer.out_proj);
        }
        let head = &weights.head;
        let then = (normed(parts), Epilogue::Logits(self.table, VERSIONS));
        head.record(plan, "logits", (&normed_x, &self.state.logits), then, product("head", head))
    }

    /// Parts in which an out_proj leaves the squares of a token.
    fn square_parts(&self, out_proj: &Linear) -> usize {
        match self.variants.decode("out_proj", out_proj) {
            Product::Matvec(form) => out_proj.square_parts(form.square_rows as usize),
            Product::Matmul(_) => unreachable!("a decode step multiplies by matvec"),
        }
    }

    fn select(&self, plan: &mut Plan, chosen: &Buf<u32>, batch: &Buf<Batch>) -> Result<()> {
        let select = Select {
            logits: &self.state.logits,
            versions: VERSIONS,
            bias: self.bias,
            rules: self.rules,
            recent: self.recent,
            rows: self.table,
            chosen,
            tallies: self.tallies,
        };
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
        let given = self.given(chunk)?;
        let x = self.chunk(&mut body, &scratch, self.embedding(&given, &rows), &batch, &segments)?;

        let head_batch = gpu.buffer("head batch", 1, Usage::Uniform)?;
        let normed = Activation::new(gpu, "head normed", head_rows, config.hidden)?;
        let logits = Activation::dense(gpu, "prefill logits", head_rows, config.vocab)?;
        let mut head = Plan::new(gpu, "head");
        rms_norm::record(&mut head, "final_norm", (x, &normed), &self.weights.norm_f, config.norm_eps, &head_batch)?;
        let store = (Prologue::None, Epilogue::Store);
        let product = (self.variants.prefill(), &head_batch);
        self.weights.head.record(&mut head, "logits", (&normed, &logits), store, product)?;
        let chosen = gpu.buffer("chosen first", 1, Usage::Storage)?;
        let mut select = Plan::new(gpu, "select");
        self.select(&mut select, &chosen, &head_batch)?;
        Ok(Prefill { batch, rows, given, scratch, body, head_batch, head, head_rows, logits, select, chosen })
    }

    pub(super) fn decode(&self, slots: usize) -> Result<Decode> {
        let (gpu, config) = (self.gpu, self.config);
        let batch = gpu.buffer("decode batch", 1, Usage::Uniform)?;
        let parts = self.weights.layers.iter().map(|layer| self.square_parts(&layer.out_proj)).max().unwrap_or(1);
        let scratch = StepScratch::new(gpu, config, slots, parts)?;
        let chosen = gpu.buffer("chosen", slots, Usage::Storage)?;
        let mut plan = Plan::new(gpu, "decode");
        let given = self.given(slots)?;
        self.step(&mut plan, &scratch, self.embedding(&given, self.table), &batch)?;
        self.select(&mut plan, &chosen, &batch)?;
        Ok(Decode { batch, given, plan, chosen, readbacks: vec![], clock: None })
    }
}
