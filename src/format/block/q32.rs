//! Q8_0 and Q4_0: 32 values with one f16 scale.

use super::{f16_at, to_f16};

/// Values in a block.
const N: usize = 32;

/// w = q d.
pub fn decode_q8_0(block: &[u8; 34], values: &mut [f32; N]) {
    let d = f16_at(block, 0);
    values.iter_mut().zip(&block[2..]).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * d);
}

/// w = d (q - 8); the first 16 values lie in the low nibbles.
pub fn decode_q4_0(block: &[u8; 18], values: &mut [f32; N]) {
    let d = f16_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        values[i] = d * (f32::from(byte & 15) - 8.0);
        values[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

pub fn encode_q8_0(values: &[f32; N], block: &mut [u8; 34]) {
    let d = to_f16(values.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0);
    let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / d.to_f32() };
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..].iter_mut().zip(values).for_each(|(q, v)| *q = ((v * inverse).round() as i8).cast_unsigned());
}

pub fn encode_q4_0(values: &[f32; N], block: &mut [u8; 18]) {
    let extreme = values.iter().fold(0.0f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    let d = to_f16(extreme / -8.0);
    let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / d.to_f32() };
    let code = |v: f32| (v * inverse + 8.0).round().clamp(0.0, 15.0) as u8;
    block[..2].copy_from_slice(&d.to_le_bytes());
    (0..16).for_each(|i| block[2 + i] = code(values[i]) | code(values[i + 16]) << 4);
}
