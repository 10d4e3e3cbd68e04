//! Activations: what a step needs of memory beside weights and state.

use super::config::Config;
use super::options::{AUTOMATIC, ForwardOptions};
use super::state::VERSIONS;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};
use crate::kernels::linear::gate_first;
use crate::kernels::scan::MOST_SEGMENTS;
use crate::kernels::select::{SamplingParams, SelectVariant, Tallies, WINDOW};
use crate::kernels::{Activation, ROW_ALIGN, RowEntry, dbc_norm};

/// Bytes of logits that prefill makes at a time.
const LOGITS_BYTES: usize = 32 << 20;

/// Activations of a decode step of at most so many rows.
pub(super) struct StepScratch {
    /// The residual stream; each layer reads one and writes the other.
    pub(super) x: [Activation; 2],
    /// The stream times the weights of the next norm.
    pub(super) normed: Activation,
    /// Its squares, summed up in parts.
    pub(super) squares: Buf<f32>,
    /// After the convolution, and the gate; both after SiLU.
    pub(super) xg: Activation,
    pub(super) projected: Activation,
    pub(super) gated: Activation,
}

impl StepScratch {
    /// With sums of squares in so many parts.
    pub(super) fn new(gpu: &Gpu, config: &Config, rows: usize, parts: usize) -> Result<Self> {
        let new = |label, width| Activation::new(gpu, label, rows, width);
        Ok(StepScratch {
            x: [new("step x even", config.hidden)?, new("step x odd", config.hidden)?],
            normed: new("step normed", config.hidden)?,
            squares: gpu.buffer("step squares", rows * parts.next_multiple_of(4), Usage::Storage)?,
            xg: new("step xg", 2 * gate_first(config.inner))?,
            projected: new("step projected", config.dt_rank + 2 * config.state)?,
            gated: new("step gated", config.inner)?,
        })
    }

    /// Bytes of a row of all of them.
    fn row_bytes(config: &Config) -> usize {
        let (h, d) = (config.hidden, config.inner);
        // The squares are a part for a row, four rows or somewhere between.
        bytes(&[h, h, h, 2 * gate_first(d), config.dt_rank + 2 * config.state, d]) + h * size_of::<f32>()
    }
}

/// Bytes of rows of these widths.
fn bytes(widths: &[usize]) -> usize {
    widths.iter().map(|width| width.next_multiple_of(ROW_ALIGN)).sum::<usize>() * size_of::<f32>()
}

/// Activations of a chunk of at most so many tokens.
pub(super) struct Scratch {
    /// The residual stream; each layer reads one and writes the other.
    pub(super) x: [Activation; 2],
    pub(super) normed: Activation,
    pub(super) xz: Activation,
    pub(super) conv: Activation,
    pub(super) projected: Activation,
    pub(super) dbc: Activation,
    pub(super) dt: Activation,
    pub(super) gated: Activation,
}

impl Scratch {
    pub(super) fn new(gpu: &Gpu, config: &Config, rows: usize) -> Result<Self> {
        let new = |label, width| Activation::new(gpu, label, rows, width);
        Ok(Scratch {
            x: [new("x even", config.hidden)?, new("x odd", config.hidden)?],
            normed: new("normed", config.hidden)?,
            xz: new("xz", 2 * config.inner)?,
            conv: new("conv", config.inner)?,
            projected: new("projected", config.dt_rank + 2 * config.state)?,
            dbc: new("dbc", layout(config).width())?,
            dt: new("dt", config.inner)?,
            gated: new("gated", config.inner)?,
        })
    }

    /// Bytes of a row of all of them.
    fn row_bytes(config: &Config) -> usize {
        let (h, d) = (config.hidden, config.inner);
        bytes(&[h, h, h, 2 * d, d, config.dt_rank + 2 * config.state, layout(config).width(), d, d])
    }

    /// Bytes of a row of the widest.
    pub(super) fn widest_row(config: &Config) -> u64 {
        let widest = (2 * config.inner).max(config.hidden).max(config.dt_rank + 2 * config.state);
        (widest.next_multiple_of(ROW_ALIGN) * size_of::<f32>()) as u64
    }
}

pub(super) fn layout(config: &Config) -> dbc_norm::DbcLayout {
    dbc_norm::DbcLayout { dt_rank: config.dt_rank, state: config.state }
}

/// Rows of everything that is not weight or state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) slots: usize,
    /// Tokens of a chunk.
    pub(super) chunk: usize,
    /// Rows of logits that prefill makes at a time.
    pub(super) head_rows: usize,
    pub(super) segments: usize,
}

impl Layout {
    /// What the options ask for, as far as the adapter binds it at a time.
    pub(super) fn of(config: &Config, options: ForwardOptions, span_limit: u64) -> Self {
        let limit = usize::try_from(span_limit).unwrap_or(usize::MAX);
        let most = limit / usize::try_from(Scratch::widest_row(config)).unwrap_or(usize::MAX);
        let chunk = options.chunk.min(most.max(1));
        let head_rows = LOGITS_BYTES.min(limit) / (config.vocab * size_of::<f32>());
        Layout { slots: options.slots, chunk, head_rows: chunk.min(head_rows.max(1)), segments: options.segments }
    }

    /// Bytes that it takes, but for the parameters of dispatches.
    pub(super) fn bytes(&self, config: &Config) -> u64 {
        let Layout { slots, chunk, head_rows, segments } = *self;
        let word = size_of::<f32>();
        let scratch = chunk * Scratch::row_bytes(config) + slots * StepScratch::row_bytes(config);
        let head = head_rows * (config.hidden.next_multiple_of(ROW_ALIGN) + config.vocab) * word;
        let segments = if segments == AUTOMATIC { MOST_SEGMENTS } else { segments };
        let carried = if segments > 1 { segments.min(chunk) * config.inner * (config.state + 1) * word } else { 0 };
        let tallies = Tallies::words(SelectVariant::of(config.vocab), config.vocab);
        let words = config.vocab * (VERSIONS + 2) + WINDOW + tallies;
        let of_slot = words * word + size_of::<SamplingParams>() + size_of::<RowEntry>();
        (scratch + head + carried + slots * of_slot + chunk * size_of::<RowEntry>()) as u64
    }
}
