//! x packed as int8, which fast arithmetic multiplies with weight codes by integer products. 32 adjacent values are a group with the
//! scale max |x| / 127. A row of U groups is 10 U words: codes of values 0 to 15 of each group, those of values 16 to 31, then the
//! scale of each group and the sum of its codes, both f32. `shaders/lib/int8_pack.wgsl` writes rows, `unit_x_int8.wgsl` reads them.

/// Values of a group.
pub const GROUP: usize = 32;
/// Words of a group.
pub(in crate::kernels) const WORDS: usize = 10;
/// Groups whose values are all below 2^-100 are zero.
const LEAST: f32 = 7.888_609e-31;

/// Scale and codes of each group of a row.
fn groups(values: &[f32]) -> impl Iterator<Item = (f32, [i8; GROUP])> {
    values.chunks(GROUP).map(|group| {
        let top = group.iter().fold(0.0f32, |top, v| top.max(v.abs()));
        let up = if top < LEAST { 0.0 } else { 127.0 / top };
        let mut codes = [0; GROUP];
        codes.iter_mut().zip(group).for_each(|(code, v)| *code = (v * up).round_ties_even() as i8);
        (if top < LEAST { 0.0 } else { top / 127.0 }, codes)
    })
}

/// A row's values after rounding to int8, as a product's twin uses them.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    let all = groups(values).flat_map(|(scale, codes)| codes.map(|code| scale * f32::from(code)));
    all.take(values.len()).collect()
}

/// The words of a row.
pub(in crate::kernels) fn pack(values: &[f32]) -> Vec<u32> {
    let units = values.len().div_ceil(GROUP);
    let mut words = vec![0; WORDS * units];
    for (unit, (scale, codes)) in groups(values).enumerate() {
        for (quad, four) in codes.chunks_exact(4).enumerate() {
            words[4 * (quad / 4 * units + unit) + quad % 4] =
                u32::from_le_bytes([four[0], four[1], four[2], four[3]].map(|code| code as u8));
        }
        let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
        words[8 * units + 2 * unit] = scale.to_bits();
        words[8 * units + 2 * unit + 1] = (sum as f32).to_bits();
    }
    words
}

/// Scale, sum and codes of a group among the words of a row.
pub(in crate::kernels) fn unpack(words: &[u32], unit: usize, units: usize) -> (f32, f32, Vec<i8>) {
    let word = |quad: usize| words[4 * (quad / 4 * units + unit) + quad % 4];
    let codes = (0..8).flat_map(|quad| word(quad).to_le_bytes()).map(|byte| byte as i8).collect();
    let pair = [0, 1].map(|i| f32::from_bits(words[8 * units + 2 * unit + i]));
    (pair[0], pair[1], codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_values_are_packed_as_zero() {
        assert_eq!(pack(&[1e-35; 4]), [0; 10]);
    }
}
