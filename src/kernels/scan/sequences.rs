//! The sequences that a scan runs over, and the segments that it cuts them into.

use crate::error::Result;
use crate::gpu::{Buf, Count, Gpu, Usage};
use crate::kernels::pictures::{Before, DIRECTIONS, Pictures};
use crate::kernels::sizes::{floats, size};

/// What a scan runs over.
#[derive(Clone, Copy)]
pub enum Over<'a> {
    /// A chunk of a slot's tokens, from its state.
    Slot {
        /// `[slot][version][N][D]`.
        state: &'a Buf<f32>,
        /// Versions of a slot's state.
        versions: usize,
    },
    /// The pictures of a batch in both directions, each from zero.
    Pictures(Pictures),
}

impl<'a> Over<'a> {
    pub(super) fn before(self) -> Before {
        match self {
            Over::Slot { .. } => Before::State,
            Over::Pictures(_) => Before::Zero,
        }
    }

    pub(super) fn directions(self) -> usize {
        match self {
            Over::Slot { .. } => 1,
            Over::Pictures(_) => DIRECTIONS,
        }
    }

    pub(super) fn versions(self) -> usize {
        match self {
            Over::Slot { versions, .. } => versions,
            Over::Pictures(_) => 0,
        }
    }

    pub(super) fn state(self) -> Option<&'a Buf<f32>> {
        match self {
            Over::Slot { state, .. } => Some(state),
            Over::Pictures(_) => None,
        }
    }

    /// Workgroups over the segments of all sequences of a direction.
    pub(super) fn segments(self, segments: &Segments) -> Count {
        match self {
            Over::Slot { .. } => Count::Rows(size(segments.tokens)),
            Over::Pictures(pictures) => Count::Each { rows: size(pictures.tokens), groups: size(segments.count) },
        }
    }

    /// Workgroups over the states of all sequences of a direction.
    pub(super) fn states(self, states: usize) -> Count {
        match self {
            Over::Slot { .. } => Count::of(states, 1),
            Over::Pictures(pictures) => Count::Each { rows: size(pictures.tokens), groups: size(states) },
        }
    }
}

/// The segments of a sequence, and the buffers between the passes.
pub struct Segments {
    pub(super) tokens: usize,
    pub(super) count: usize,
    pub(super) carry: Buf<f32>,
    pub(super) dt_sum: Buf<f32>,
}

impl Segments {
    /// At most `count` segments for chunks of at most `chunk` tokens, D channels and N states.
    pub fn new(gpu: &Gpu, chunk: usize, count: usize, inner: usize, state: usize) -> Result<Self> {
        Self::of_sequences(gpu, (1, chunk), count, (inner, state))
    }

    /// At most `count` segments of each sequence of a full batch of pictures.
    pub fn of_pictures(gpu: &Gpu, pictures: Pictures, count: usize, inner: usize, state: usize) -> Result<Self> {
        Self::of_sequences(gpu, (DIRECTIONS * pictures.most, pictures.tokens), count, (inner, state))
    }

    fn of_sequences(
        gpu: &Gpu,
        (sequences, rows): (usize, usize),
        count: usize,
        (inner, state): (usize, usize),
    ) -> Result<Self> {
        let (tokens, count) = cut(rows, count);
        let carried = carried(sequences, count);
        Ok(Segments {
            tokens,
            count,
            carry: gpu.buffer("scan carry", carried * inner * state, Usage::Storage)?,
            dt_sum: gpu.buffer("scan dt_sum", carried * inner, Usage::Storage)?,
        })
    }

    /// Bytes of the buffers of a full batch of pictures.
    pub fn bytes_of_pictures(pictures: Pictures, count: usize, inner: usize, state: usize) -> usize {
        let (_, count) = cut(pictures.tokens, count);
        floats(carried(DIRECTIONS * pictures.most, count) * inner * (state + 1))
    }
}

/// Tokens of a segment, and segments, where `rows` are cut into at most `count`.
fn cut(rows: usize, count: usize) -> (usize, usize) {
    let tokens = rows.div_ceil(count.max(1)).max(1);
    (tokens, rows.div_ceil(tokens))
}

/// Segments that are carried from one to the next: none where there is one.
fn carried(sequences: usize, count: usize) -> usize {
    if count > 1 { sequences * count } else { 0 }
}
