//! 64 values with one f32 scale.

use super::fit;

/// Values in a block.
const N: usize = 64;

/// w = q scale.
pub fn decode(block: &[u8; 68], values: &mut [f32; N]) {
    let (scale, codes) = block.split_first_chunk().expect("68 bytes are more than four");
    let scale = f32::from_le_bytes(*scale);
    values.iter_mut().zip(codes).for_each(|(value, q)| *value = f32::from(q.cast_signed()) * scale);
}

pub fn encode(values: &[f32; N], block: &mut [u8; 68]) {
    let mut write = |scale: f32| {
        let codes = fit::BYTES.nearest(values, fit::inverse(scale), 0.0);
        block[..4].copy_from_slice(&scale.to_le_bytes());
        block[4..].iter_mut().zip(codes).for_each(|(byte, code)| *byte = (code as i8).cast_unsigned());
        codes.iter().zip(values).all(|(code, value)| code * scale == *value)
    };
    // Encoding the values of a block gives the same block. 127 scale was rounded, so the scale is one of three.
    let plain = fit::extreme(values).abs() / 127.0;
    if ![plain, plain.next_up(), plain.next_down()].into_iter().any(&mut write) {
        write(fit::scale_of_bytes(values));
    }
}
