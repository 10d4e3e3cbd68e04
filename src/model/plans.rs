//! The plans of prefill and decode: the frame around the layers, which the architecture records.

use super::architecture::{PrefillScratch, record_decode, record_prefill};
use super::capacity::Capacity;
use super::config::Config;
use super::state::{StateBank, VERSIONS};
use super::weights::{EmbeddingTable, Weights};
use crate::error::Result;
use crate::gpu::{Buf, Clock, Gpu, Plan, Readback, Usage};
use crate::kernels::embed::GivenRows;
use crate::kernels::linear::{Epilogue, Linear, Prologue};
use crate::kernels::select::{SamplingParams, Select, Tallies};
use crate::kernels::variants::Variants;
use crate::kernels::{Activation, Batch, RowEntry, rms_norm};
use std::ops::Range;

/// Prefill: a chunk of one slot's tokens.
pub(super) struct Prefill {
    pub(super) batch: Buf<Batch>,
    pub(super) rows: Buf<RowEntry>,
    /// Embeddings of the chunk's tokens, where the table of embeddings is on the host.
    pub(super) given: Option<GivenRows>,
    pub(super) scratch: PrefillScratch,
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
    /// Embeddings of the step's tokens, where the table of embeddings is on the host.
    pub(super) given: Option<GivenRows>,
    pub(super) plan: Plan,
    pub(super) chosen: Buf<u32>,
    pub(super) readbacks: Vec<Readback<u32>>,
    /// Reads the device's clock before and after each step, where steps are timed.
    pub(super) clock: Option<Clock>,
}

/// Where embeddings come from.
pub(super) struct Lookup<'a> {
    /// A table of embeddings.
    pub(super) table: &'a Linear,
    /// The rows of it.
    pub(super) rows: &'a Buf<RowEntry>,
}

/// What the plans are recorded from.
pub(super) struct Recorder<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) variants: &'a Variants,
    pub(super) config: &'a Config,
    pub(super) weights: &'a Weights,
    pub(super) state: &'a StateBank,
    /// The row table: a row for each slot, and one more for the choice after a prefill.
    pub(super) table: &'a Buf<RowEntry>,
    pub(super) rules: &'a Buf<SamplingParams>,
    pub(super) bias: &'a Buf<f32>,
    pub(super) recent: &'a Buf<u32>,
    pub(super) tallies: &'a Tallies,
}

impl Recorder<'_> {
    /// Memory for embeddings from the host; `None` where the table is on the device.
    fn given(&self, rows: usize) -> Result<Option<GivenRows>> {
        let on_host = self.weights.embedding.on_host();
        on_host.map(|table| GivenRows::new(self.gpu, table.format(), rows, self.config.hidden)).transpose()
    }

    /// The table that embeddings are looked up in, and the rows to look up: by id on the device, by place among the given ones.
    fn lookup<'s>(&'s self, given: &'s Option<GivenRows>, rows: &'s Buf<RowEntry>) -> Lookup<'s> {
        match (&self.weights.embedding, given) {
            (EmbeddingTable::Device(table), _) => Lookup { table, rows },
            (EmbeddingTable::Host(_), given) => {
                let given = given.as_ref().expect("there is memory for rows where the table is on the host");
                let (table, rows) = given.as_table();
                Lookup { table, rows }
            }
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

    pub(super) fn prefill(&self, capacity: Capacity) -> Result<Prefill> {
        let (gpu, config) = (self.gpu, self.config);
        let Capacity { chunk, head_rows, .. } = capacity;
        let batch = gpu.buffer("prefill batch", 1, Usage::Uniform)?;
        let rows = gpu.buffer("prefill rows", chunk, Usage::Storage)?;
        let given = self.given(chunk)?;
        let mut body = Plan::new(gpu, "prefill");
        let scratch = record_prefill(self, &mut body, &self.lookup(&given, &rows), &batch, capacity)?;
        let x = scratch.last_x(config.layers);

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
        let gpu = self.gpu;
        let batch = gpu.buffer("decode batch", 1, Usage::Uniform)?;
        let chosen = gpu.buffer("chosen", slots, Usage::Storage)?;
        let mut plan = Plan::new(gpu, "decode");
        let given = self.given(slots)?;
        record_decode(self, &mut plan, &self.lookup(&given, self.table), &batch, slots)?;
        self.select(&mut plan, &chosen, &batch)?;
        Ok(Decode { batch, given, plan, chosen, readbacks: vec![], clock: None })
    }
}

/// Where a kernel leaves a named value.
pub(super) struct Place<'a> {
    pub(super) name: &'static str,
    pub(super) activation: &'a Activation,
    pub(super) columns: Range<usize>,
}
