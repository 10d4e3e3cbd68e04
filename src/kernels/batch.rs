//! The rows of one step: what the host writes before each step, and the row table.

use crate::gpu::params;

params! {
    /// The rows of one step; the host writes it before the step.
    #[derive(Default)]
    pub struct Batch {
        /// Rows of this step: tokens of a prefill chunk, or decoding slots.
        rows: u32,
        /// First row of the residual stream that the head looks at.
        first: u32,
        /// Prefill: the slot whose state continues.
        slot: u32,
        /// Prefill: the version of its state to read.
        read_version: u32,
        /// Prefill: the version of its state to write.
        write_version: u32,
        /// First entry of the row table that select updates.
        entry: u32,
        /// 1: select adds one to position and version.
        advance: u32,
        /// Pictures: rows of a picture.
        tokens: u32,
        /// Pictures: rows from the values of one direction to those of the other.
        direction_rows: u32,
    }
}

params! {
    /// One entry of the row table: the slot of a row, the token it reads and the version of its state.
    #[derive(Default, Eq)]
    pub struct RowEntry {
        /// The slot.
        slot: u32,
        /// The token that this row reads next.
        id: u32,
        /// Tokens that the slot has consumed, modulo 2^32.
        position: u32,
        /// Steps that the slot has taken; its state is this version modulo the number of versions.
        version: u32,
    }
}

/// Rows of x that one weight load may serve in a decode step: the smallest that holds all rows, or several passes of the largest.
pub(super) const X_ROWS: [u32; 4] = [1, 2, 4, 8];
