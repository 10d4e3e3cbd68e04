//! GGUF block types without kernels of their own: each is converted to a format that the device holds.

use super::WeightFormat;
use super::block::{decode_blocks, f16_at, write_q6};

/// A block type that is converted on its way to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RareBlock {
    /// 32 values: f16 scale, f16 minimum, 4 bits.
    Q4_1,
    /// 32 values: f16 scale, 5 bits. Converts to q8_0 without loss.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 5 bits.
    Q5_1,
    /// 256 values in 16 groups, each with a scale and a minimum; 2 bits.
    Q2K,
    /// 256 values in 16 groups, each with a scale; 3 bits. Converts to q6_K without loss.
    Q3K,
    /// 32 values: f16 scale, 4-bit indices into a table of integers. Converts to q8_0 without loss.
    Iq4Nl,
    /// 256 values in 8 groups, each with a scale; 4-bit indices into the same table.
    Iq4Xs,
}

impl RareBlock {
    /// The format that it converts to: a lossless one where there is one, else f16 (rounded).
    pub fn held_as(self) -> WeightFormat {
        match self {
            RareBlock::Q5_0 | RareBlock::Iq4Nl => WeightFormat::Q8_0,
            RareBlock::Q3K => WeightFormat::Q6K,
            RareBlock::Q4_1 | RareBlock::Q5_1 | RareBlock::Q2K | RareBlock::Iq4Xs => WeightFormat::F16,
        }
    }

    /// Whether it converts to `format` without loss.
    pub fn converts_to(self, format: WeightFormat) -> bool {
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

    /// Decodes a row of blocks; exact.
    pub fn decode_row(self, row: &[u8], values: &mut [f32]) {
        match self {
            RareBlock::Q4_1 => decode_blocks::<20, 32>(row, values, |block, values| {
                let (d, m) = (f16_at(block, 0), f16_at(block, 2));
                *values = nibbles(&block[4..]).map(|q| d * f32::from(q) + m);
            }),
            RareBlock::Q5_0 => decode_blocks::<22, 32>(row, values, |block, values| {
                let d = f16_at(block, 0);
                *values = five_bits(&block[2..]).map(|q| d * (f32::from(q) - 16.0));
            }),
            RareBlock::Q5_1 => decode_blocks::<24, 32>(row, values, |block, values| {
                let (d, m) = (f16_at(block, 0), f16_at(block, 2));
                *values = five_bits(&block[4..]).map(|q| d * f32::from(q) + m);
            }),
            RareBlock::Q2K => decode_blocks::<84, 256>(row, values, decode_q2_k),
            RareBlock::Q3K => decode_blocks::<110, 256>(row, values, |block, values| {
                let (d, scales, codes) = parts_of_q3_k(block);
                for (i, (value, code)) in values.iter_mut().zip(codes).enumerate() {
                    *value = d * f32::from(scales[i / 16]) * f32::from(code);
                }
            }),
            RareBlock::Iq4Nl => decode_blocks::<18, 32>(row, values, |block, values| {
                let d = f16_at(block, 0);
                *values = nibbles(&block[2..]).map(|q| d * f32::from(IQ4[usize::from(q)]));
            }),
            RareBlock::Iq4Xs => decode_blocks::<136, 256>(row, values, decode_iq4_xs),
        }
    }

    /// Converts a row of blocks without loss; see [`RareBlock::converts_to`].
    pub fn transcode_row(self, row: &[u8], blocks: &mut [u8]) {
        match self {
            RareBlock::Q5_0 => transcode(row, blocks, |block: &[u8; 22], into| {
                q8_0(block, five_bits(&block[2..]).map(|q| q.cast_signed() - 16), into);
            }),
            RareBlock::Iq4Nl => transcode(row, blocks, |block: &[u8; 18], into| {
                q8_0(block, nibbles(&block[2..]).map(|q| IQ4[usize::from(q)]), into);
            }),
            RareBlock::Q3K => transcode(row, blocks, |block: &[u8; 110], into| {
                let (_, scales, codes) = parts_of_q3_k(block);
                let scale = [block[108], block[109]];
                write_q6(scale, &scales, &codes.map(|code| (code + 32).cast_unsigned()), into);
            }),
            RareBlock::Q4_1 | RareBlock::Q5_1 | RareBlock::Q2K | RareBlock::Iq4Xs => {
                unreachable!("{self:?} has no lossless conversion")
            }
        }
    }
}

/// The values of the IQ4 types' codes.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn transcode<const A: usize, const B: usize>(row: &[u8], blocks: &mut [u8], each: impl Fn(&[u8; A], &mut [u8; B])) {
    row.as_chunks().0.iter().zip(blocks.as_chunks_mut().0).for_each(|(from, into)| each(from, into));
}

/// A block of Q8_0 with the scale that `from` begins with.
fn q8_0(from: &[u8], codes: [i8; 32], into: &mut [u8; 34]) {
    into[..2].copy_from_slice(&from[..2]);
    into[2..].iter_mut().zip(codes).for_each(|(byte, code)| *byte = code.cast_unsigned());
}

/// 32 codes from 16 bytes, the first half in the low nibbles.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// 32 codes from four bytes of fifth bits and 16 of nibbles.
fn five_bits(bytes: &[u8]) -> [u8; 32] {
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|i| low[i] | (bytes[i / 8] >> (i % 8) & 1) << 4)
}

/// The two bits of value `i` of 256: a byte has those of four values, 32 apart.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3
}

/// w = (d sc) q - (dmin mn), 16 groups of 16.
fn decode_q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (i, value) in values.iter_mut().enumerate() {
        let scales = block[i / 16];
        let q = two_bits(&block[16..80], i);
        *value = d * f32::from(scales & 15) * f32::from(q) - dmin * f32::from(scales >> 4);
    }
}

/// d, sc of 16 groups and q of 256 values; w = (d sc) q.
fn parts_of_q3_k(block: &[u8; 110]) -> (f32, [i8; 16], [i8; 256]) {
    let packed = &block[96..108];
    let scales = std::array::from_fn(|i| {
        let (low, high) = (packed[i % 8] >> (i / 8 * 4) & 15, packed[8 + i % 4] >> (i / 4 * 2) & 3);
        (low | high << 4).cast_signed() - 32
    });
    let codes = std::array::from_fn(|i| {
        let above = block[i % 32] >> (i / 32) & 1;
        two_bits(&block[32..96], i).cast_signed() - if above == 1 { 0 } else { 4 }
    });
    (f16_at(block, 108), scales, codes)
}

/// w = (d sc) map[q], 8 groups of 32.
fn decode_iq4_xs(block: &[u8; 136], values: &mut [f32; 256]) {
    let d = f16_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let scale = (low | ((high >> (2 * group) & 3) as u8) << 4).cast_signed() - 32;
        let scale = d * f32::from(scale);
        *values = nibbles(&block[8 + 16 * group..]).map(|q| scale * f32::from(IQ4[usize::from(q)]));
    }
}
