//! Q8_0 and Q4_0: 32 values with one f16 scale.

use super::fit::{self, Codes};
use super::{f16_at, to_f16};

/// Values in a block.
const N: usize = 32;

/// w = q d.
pub fn decode_q8_0(block: &[u8; 34], values: &mut [f32; N]) {
    let d = f16_at(block, 0);
    values.iter_mut().zip(&block[2..]).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * d);
}

/// w = d (q - 8); the low nibbles hold the first 16 values.
pub fn decode_q4_0(block: &[u8; 18], values: &mut [f32; N]) {
    let d = f16_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        values[i] = d * (f32::from(byte & 15) - 8.0);
        values[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

pub fn encode_q8_0(values: &[f32; N], block: &mut [u8; 34]) {
    let d = to_f16(fit::scale_of_bytes(values));
    let codes = fit::BYTES.nearest(values, fit::inverse(d.to_f32()), 0.0);
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..].iter_mut().zip(codes).for_each(|(byte, code)| *byte = (code as i8).cast_unsigned());
}

/// d may be negative, so that the value of the largest magnitude can get the code -8, which has no positive counterpart.
pub fn encode_q4_0(values: &[f32; N], block: &mut [u8; 18]) {
    const CODES: Codes = Codes { low: -8.0, high: 7.0 };
    let tried = [-8.0, -7.0, 7.0, -7.5, -8.5, -9.0, 7.5, 8.0];
    let d = to_f16(CODES.scale(values, fit::extreme(values), &tried));
    let codes = CODES.nearest(values, fit::inverse(d.to_f32()), 0.0).map(|code| (code + 8.0) as u8);
    block[..2].copy_from_slice(&d.to_le_bytes());
    (0..16).for_each(|i| block[2 + i] = codes[i] | codes[i + 16] << 4);
}
