//! Blocks of values as files store them: decoding and encoding.
//! Formats: <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h> and bitsandbytes' functional.py.
//! Decoding computes in f32 and in the order of operations of those two, so that values equal theirs bit for bit.

mod fit;
mod four_bit;
mod int8;
mod k_quants;
mod k_search;
mod q32;

pub(super) use four_bit::{FP4, NF4};
pub(super) use k_quants::{scale_and_minimum, write_q6};

use super::WeightFormat;
use half::{bf16, f16};

impl WeightFormat {
    /// Decodes a row of blocks; exact. `row` has [`WeightFormat::row_bytes`] of `values`.
    pub fn decode_row(self, row: &[u8], values: &mut [f32]) {
        match self {
            WeightFormat::F32 => decode_each(row, values, f32::from_le_bytes),
            WeightFormat::F16 => decode_each(row, values, |b| f16::from_le_bytes(b).to_f32()),
            WeightFormat::Bf16 => decode_each(row, values, |b| bf16::from_le_bytes(b).to_f32()),
            WeightFormat::Q8_0 => decode_blocks(row, values, q32::decode_q8_0),
            WeightFormat::Q4_0 => decode_blocks(row, values, q32::decode_q4_0),
            WeightFormat::Q4K => decode_blocks(row, values, k_quants::decode_q4),
            WeightFormat::Q5K => decode_blocks(row, values, k_quants::decode_q5),
            WeightFormat::Q6K => decode_blocks(row, values, k_quants::decode_q6),
            WeightFormat::Nf4 => decode_blocks(row, values, |block, values| NF4.decode(block, values)),
            WeightFormat::Fp4 => decode_blocks(row, values, |block, values| FP4.decode(block, values)),
            WeightFormat::Int8 => decode_blocks(row, values, int8::decode),
        }
    }

    /// Encodes rows of `columns` values as blocks; see [`WeightFormat::encode_row`].
    pub fn encode(self, values: &[f32], columns: usize) -> Vec<u8> {
        let mut blocks = vec![0; values.len() / columns * self.row_bytes(columns)];
        let rows = values.chunks_exact(columns).zip(blocks.chunks_exact_mut(self.row_bytes(columns)));
        rows.for_each(|(values, row)| self.encode_row(values, row));
        blocks
    }

    /// Encodes a row of values as blocks, with scales chosen for the least squared error. `row` has [`WeightFormat::row_bytes`] of
    /// `values`.
    pub fn encode_row(self, values: &[f32], row: &mut [u8]) {
        match self {
            WeightFormat::F32 => encode_each(values, row, f32::to_le_bytes),
            WeightFormat::F16 => encode_each(values, row, |v| f16::from_f32(v).to_le_bytes()),
            WeightFormat::Bf16 => encode_each(values, row, |v| bf16::from_f32(v).to_le_bytes()),
            WeightFormat::Q8_0 => encode_blocks(values, row, |values, _, block| q32::encode_q8_0(values, block)),
            WeightFormat::Q4_0 => encode_blocks(values, row, |values, _, block| q32::encode_q4_0(values, block)),
            WeightFormat::Q4K => encode_blocks(values, row, k_quants::encode_q4),
            WeightFormat::Q5K => encode_blocks(values, row, k_quants::encode_q5),
            WeightFormat::Q6K => encode_blocks(values, row, |values, _, block| k_quants::encode_q6(values, block)),
            WeightFormat::Nf4 => encode_blocks(values, row, |values, _, block| NF4.encode(values, block)),
            WeightFormat::Fp4 => encode_blocks(values, row, |values, _, block| FP4.encode(values, block)),
            WeightFormat::Int8 => encode_blocks(values, row, |values, _, block| int8::encode(values, block)),
        }
    }
}

fn decode_each<const B: usize>(row: &[u8], values: &mut [f32], decode: impl Fn([u8; B]) -> f32) {
    row.as_chunks().0.iter().zip(values).for_each(|(bytes, value)| *value = decode(*bytes));
}

fn encode_each<const B: usize>(values: &[f32], row: &mut [u8], encode: impl Fn(f32) -> [u8; B]) {
    values.iter().zip(row.as_chunks_mut().0).for_each(|(value, bytes)| *bytes = encode(*value));
}

/// Decodes blocks of `B` bytes to `N` values each; the last block may be cut.
pub(super) fn decode_blocks<const B: usize, const N: usize>(
    row: &[u8],
    values: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    for (block, values) in row.as_chunks().0.iter().zip(values.chunks_mut(N)) {
        if let Ok(whole) = values.try_into() {
            decode(block, whole);
        } else {
            let mut whole = [0.0; N];
            decode(block, &mut whole);
            values.copy_from_slice(&whole[..values.len()]);
        }
    }
}

/// Encodes `N` values each to blocks of `B` bytes. `encode` gets the values of a block, zeros past the row's end, and the number
/// of values before that end.
fn encode_blocks<const B: usize, const N: usize>(
    values: &[f32],
    row: &mut [u8],
    encode: impl Fn(&[f32; N], usize, &mut [u8; B]),
) {
    for (values, block) in values.chunks(N).zip(row.as_chunks_mut().0) {
        if let Ok(whole) = values.try_into() {
            encode(whole, N, block);
        } else {
            let mut whole = [0.0; N];
            whole[..values.len()].copy_from_slice(values);
            encode(&whole, values.len(), block);
        }
    }
}

/// The f16 at `at`, widened.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The f16 that a scale is stored as: the nearest finite one, and 0 for NaN.
fn to_f16(scale: f32) -> f16 {
    if scale.is_nan() { f16::ZERO } else { f16::from_f32(scale.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())) }
}
