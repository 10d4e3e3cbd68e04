//! How many rows the activation buffers hold, and the bytes that they take.

use super::chunk;
use super::config::Config;
use super::options::{AUTOMATIC, ForwardOptions};
use super::state::VERSIONS;
use crate::kernels::select::{SamplingParams, SelectVariant, Tallies, WINDOW};
use crate::kernels::{ROW_ALIGN, RowEntry};

/// Bytes of logits that prefill makes at a time.
const LOGITS_BYTES: usize = 32 << 20;

/// Rows of everything that is neither weight nor state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) slots: usize,
    /// Tokens of a chunk.
    pub(super) chunk: usize,
    /// Rows of logits that prefill makes at a time.
    pub(super) head_rows: usize,
    /// Segments that the scan cuts a chunk into.
    pub(super) segments: usize,
}

impl Capacity {
    /// The rows that the options ask for, limited to what the adapter binds at a time.
    pub(super) fn of(config: &Config, options: ForwardOptions, span_limit: u64) -> Self {
        let limit = usize::try_from(span_limit).unwrap_or(usize::MAX);
        let most = limit / usize::try_from(config.widest_row()).unwrap_or(usize::MAX);
        let asked = if options.chunk == AUTOMATIC { chunk::USUAL } else { options.chunk };
        let chunk = asked.min(most.max(1));
        let head_rows = LOGITS_BYTES.min(limit) / (config.vocab * size_of::<f32>());
        Capacity { slots: options.slots, chunk, head_rows: chunk.min(head_rows.max(1)), segments: options.segments }
    }

    /// Bytes of activations, logits and the tables of sampling, without the parameters of dispatches.
    pub(super) fn bytes(&self, config: &Config) -> u64 {
        let Capacity { slots, chunk, head_rows, .. } = *self;
        let word = size_of::<f32>();
        let head = head_rows * (config.hidden.next_multiple_of(ROW_ALIGN) + config.vocab) * word;
        let tallies = Tallies::words(SelectVariant::of(config.vocab), config.vocab);
        let words = config.vocab * (VERSIONS + 2) + WINDOW + tallies;
        let of_slot = words * word + size_of::<SamplingParams>() + size_of::<RowEntry>();
        (config.activation_bytes(self) + head + slots * of_slot + chunk * size_of::<RowEntry>()) as u64
    }
}
