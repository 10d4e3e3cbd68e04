//! The rows of one step: what the host writes before each step, and the row table.

use crate::gpu::params;
use bytemuck::{Pod, Zeroable};

params! {
    /// What one step works on; the host writes it before the step.
    #[derive(Default)]
    pub struct Batch {
        /// Rows of this step: tokens of a prefill chunk, or decoding slots.
        rows: u32,
        /// First row of the residual stream that the head looks at.
        first: u32,
        /// Prefill: the slot whose state is carried on.
        slot: u32,
        /// Prefill: the version of that state to start from.
        read_version: u32,
        /// Prefill: the version of that state to leave behind.
        write_version: u32,
        /// First entry of the row table that select writes.
        entry: u32,
        /// 1: select moves position and version on by one.
        advance: u32,
    }
}

/// One entry of the row table: which slot a row belongs to, the token it reads, and where its state stands.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RowEntry {
    /// The slot.
    pub slot: u32,
    /// The token this row feeds next.
    pub id: u32,
    /// Tokens the slot has consumed, modulo 2^32.
    pub position: u32,
    /// Steps the slot has taken; its state lies in this modulo the number of versions.
    pub version: u32,
}

/// Rows of x that one weight load may serve in a decode step: the smallest that holds all rows, or several passes of the largest.
pub(super) const X_ROWS: [u32; 4] = [1, 2, 4, 8];
