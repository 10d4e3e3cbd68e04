//! Q4_K, Q5_K and Q6_K: 256 values in groups with integer scales, which share an f16 scale.

use super::{f16_at, k_search};

/// Values in a block.
const N: usize = 256;

/// The 6-bit scale and minimum of group `j` of 8, from 12 bytes.
pub fn scale_and_minimum(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    }
}

/// Packs 8 scales and minima of 6 bits into 12 bytes.
fn pack_scales(scales: &[u8; 8], minima: &[u8; 8], packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = minima[j] | minima[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | (minima[j + 4] & 15) << 4;
    }
}

/// w = (d sc) q - (dmin mn), 8 groups of 32; a byte holds codes of two groups.
pub fn decode_q4(block: &[u8; 144], values: &mut [f32; N]) {
    decode_affine(block, &block[16..], |_, _| 0, values);
}

/// As Q4_K; a byte holds the fifth bits of eight groups.
pub fn decode_q5(block: &[u8; 176], values: &mut [f32; N]) {
    decode_affine(block, &block[48..], |group, i| block[16 + i] >> group & 1, values);
}

/// `fifth` is the highest bit of a group's value.
fn decode_affine(block: &[u8], codes: &[u8], fifth: impl Fn(usize, usize) -> u8, values: &mut [f32; N]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        let codes = &codes[group / 2 * 32..][..32];
        for (i, (value, byte)) in values.iter_mut().zip(codes).enumerate() {
            let q = byte >> (group % 2 * 4) & 15 | fifth(group, i) << 4;
            *value = scale * f32::from(q) - minimum;
        }
    }
}

/// w = (d sc) (q - 32), 16 groups of 16. In each half of the block, a byte holds the low nibbles of two values that are 64 apart,
/// and another the two high bits of four values that are 32 apart.
pub fn decode_q6(block: &[u8; 210], values: &mut [f32; N]) {
    let d = f16_at(block, 208);
    for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + group].cast_signed());
        let (half, quarter, first) = (group / 8, group / 2 % 4, group % 2 * 16);
        let low = &block[64 * half + 32 * (quarter % 2) + first..][..16];
        let high = &block[128 + 32 * half + first..][..16];
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let q = low >> (quarter / 2 * 4) & 15 | (high >> (2 * quarter) & 3) << 4;
            *value = scale * (f32::from(q) - 32.0);
        }
    }
}

/// `used` values come before the row's end; the rest are zeros.
pub fn encode_q4(values: &[f32; N], used: usize, block: &mut [u8; 144]) {
    let parts = k_search::affine(values, used, 15.0);
    write_head(&parts, block);
    pack_nibbles(&parts.codes, &mut block[16..]);
}

/// `used` values come before the row's end; the rest are zeros.
pub fn encode_q5(values: &[f32; N], used: usize, block: &mut [u8; 176]) {
    let parts = k_search::affine(values, used, 31.0);
    write_head(&parts, block);
    block[16..48].fill(0);
    for (group, codes) in parts.codes.as_chunks::<32>().0.iter().enumerate() {
        block[16..48].iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code >> 4 << group);
    }
    pack_nibbles(&parts.codes, &mut block[48..]);
}

fn write_head(parts: &k_search::Affine, block: &mut [u8]) {
    block[..2].copy_from_slice(&parts.d.to_le_bytes());
    block[2..4].copy_from_slice(&parts.dmin.to_le_bytes());
    pack_scales(&parts.scales, &parts.minima, &mut block[4..16]);
}

fn pack_nibbles(codes: &[u8; N], packed: &mut [u8]) {
    for (codes, packed) in codes.as_chunks::<64>().0.iter().zip(packed.as_chunks_mut::<32>().0) {
        (0..32).for_each(|i| packed[i] = codes[i] & 15 | codes[i + 32] << 4);
    }
}

pub fn encode_q6(values: &[f32; N], block: &mut [u8; 210]) {
    let parts = k_search::symmetric(values);
    write_q6(parts.d.to_le_bytes(), &parts.scales, &parts.codes, block);
}

/// Writes a block of Q6_K: d as f16, sc, and q from 0 to 63.
pub fn write_q6(d: [u8; 2], scales: &[i8; 16], codes: &[u8; N], block: &mut [u8; 210]) {
    block.fill(0);
    block[208..].copy_from_slice(&d);
    for (group, (scale, codes)) in scales.iter().zip(codes.as_chunks::<16>().0).enumerate() {
        block[192 + group] = scale.cast_unsigned();
        let (half, quarter, first) = (group / 8, group / 2 % 4, group % 2 * 16);
        for (i, q) in codes.iter().enumerate() {
            block[64 * half + 32 * (quarter % 2) + first + i] |= (q & 15) << (quarter / 2 * 4);
            block[128 + 32 * half + first + i] |= q >> 4 << (2 * quarter);
        }
    }
}
