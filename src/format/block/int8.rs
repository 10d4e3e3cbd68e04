//! 64 values with one f32 scale.

/// Values in a block.
const N: usize = 64;

/// w = q scale.
pub fn decode(block: &[u8; 68], values: &mut [f32; N]) {
    let (scale, codes) = block.split_first_chunk().expect("68 bytes are more than four");
    let scale = f32::from_le_bytes(*scale);
    values.iter_mut().zip(codes).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * scale);
}

pub fn encode(values: &[f32; N], block: &mut [u8; 68]) {
    let scale = values.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    block[..4].copy_from_slice(&scale.to_le_bytes());
    block[4..].iter_mut().zip(values).for_each(|(q, v)| *q = ((v * inverse).round() as i8).cast_unsigned());
}
