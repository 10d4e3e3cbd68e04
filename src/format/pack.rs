//! How a row of weights lies in GPU memory: in units of 16 bytes, which are what a kernel loads at a time.

use super::WeightFormat;

/// Bytes that a kernel loads at a time.
pub const UNIT_BYTES: usize = 16;

impl WeightFormat {
    /// Units in a row of `columns` values.
    pub fn row_units(self, columns: usize) -> usize {
        self.row_bytes(columns).div_ceil(UNIT_BYTES)
    }

    /// A row of blocks as it lies in GPU memory.
    pub fn pack_row(self, blocks: &[u8], _columns: usize, packed: &mut [u8]) {
        packed[..blocks.len()].copy_from_slice(blocks);
        packed[blocks.len()..].fill(0);
    }

    /// Bytes of a row of `columns` values in GPU memory.
    pub fn device_row_bytes(self, columns: usize) -> usize {
        self.row_units(columns) * UNIT_BYTES
    }
}
