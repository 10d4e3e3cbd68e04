//! Block types that GGUF files have and the device has not: each becomes a format that it has.

use super::WeightFormat;

/// A block type that becomes another on its way to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RareBlock {
    /// 32 values: f16 scale, f16 minimum, 4 bits.
    Q4_1,
    /// 32 values: f16 scale, 5 bits. Becomes q8_0 without loss.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 5 bits.
    Q5_1,
    /// 256 values in 16 groups with a scale and a minimum each, 2 bits.
    Q2K,
    /// 256 values in 16 groups with a scale each, 3 bits. Becomes q6_K without loss.
    Q3K,
    /// 32 values: f16 scale, 4 bits into a map of whole numbers. Becomes q8_0 without loss.
    Iq4Nl,
    /// 256 values in 8 groups with a scale each, 4 bits into that map.
    Iq4Xs,
}

impl RareBlock {
    /// What it becomes: the same values where a format can hold them, else f16, rounded.
    pub fn held_as(self) -> WeightFormat {
        match self {
            RareBlock::Q5_0 | RareBlock::Iq4Nl => WeightFormat::Q8_0,
            RareBlock::Q3K => WeightFormat::Q6K,
            RareBlock::Q4_1 | RareBlock::Q5_1 | RareBlock::Q2K | RareBlock::Iq4Xs => WeightFormat::F16,
        }
    }

    /// Whether it becomes `format` without loss.
    pub fn becomes(self, format: WeightFormat) -> bool {
        self.held_as() == format && format != WeightFormat::F16
    }

    /// Values in a block.
    pub const fn block_values(self) -> usize {
        match self {
            RareBlock::Q4_1 | RareBlock::Q5_0 | RareBlock::Q5_1 | RareBlock::Iq4Nl => 32,
            RareBlock::Q2K | RareBlock::Q3K | RareBlock::Iq4Xs => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            RareBlock::Q4_1 => 20,
            RareBlock::Q5_0 => 22,
            RareBlock::Q5_1 => 24,
            RareBlock::Q2K => 84,
            RareBlock::Q3K => 110,
            RareBlock::Iq4Nl => 18,
            RareBlock::Iq4Xs => 136,
        }
    }

    /// Bytes of a row of `columns` values.
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns.div_ceil(self.block_values()) * self.block_bytes()
    }

    /// The values of a row of blocks; exact.
    pub fn decode_row(self, _row: &[u8], _values: &mut [f32]) {
        todo!()
    }

    /// A row of blocks as what it becomes without loss.
    pub fn transcode_row(self, _row: &[u8], _blocks: &mut [u8]) {
        todo!()
    }
}
