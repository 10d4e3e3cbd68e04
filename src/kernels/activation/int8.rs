//! x as int8, which fast arithmetic multiplies with codes by integer products: 32 values side by side are a group, with the scale
//! max |x| / 127. A row of U groups is 10 U words: codes of values 0 to 15 of each group, those of values 16 to 31, then for each
//! group its scale and the sum of its codes, both f32. `shaders/lib/int8_pack.wgsl` writes rows, `unit_x_int8.wgsl` reads them.

use super::case::{FILL, Fault, Io, Reached};
use super::{Activation, Order, ROW_ALIGN, linear::Linear};
use crate::error::Result;
use crate::format::WeightFormat;
use crate::gpu::{Source, wgsl};

/// Values of a group.
pub const GROUP: usize = 32;
/// Words of a group.
const WORDS: usize = 10;
/// Groups whose values are all below this are zero: 2^-100.
const LEAST: f32 = 7.888_609e-31;

/// What makes codes of a format's units for integer products; `None` where its values are no multiples of whole numbers.
pub(super) fn codes_part(format: WeightFormat) -> Option<Source> {
    match format {
        WeightFormat::Q8_0 | WeightFormat::Int8 => Some(wgsl!("lib/int8_of_8.wgsl")),
        WeightFormat::Q4_0 => Some(wgsl!("lib/int8_of_q4_0.wgsl")),
        WeightFormat::Q4K => Some(wgsl!("lib/int8_of_q4_k.wgsl")),
        WeightFormat::Q5K => Some(wgsl!("lib/int8_of_q5_k.wgsl")),
        WeightFormat::Q6K => Some(wgsl!("lib/int8_of_q6_k.wgsl")),
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 | WeightFormat::Nf4 | WeightFormat::Fp4 => None,
    }
}

impl Linear {
    /// Whether each shard begins with a whole group of rows, so that what it makes can be packed.
    pub fn cut_by_groups(&self) -> bool {
        self.shards().iter().all(|shard| shard.first.is_multiple_of(GROUP))
    }
}

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

/// What is left of a row's values: what a product's twin multiplies with.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    let all = groups(values).flat_map(|(scale, codes)| codes.map(|code| scale * f32::from(code)));
    all.take(values.len()).collect()
}

/// The words of a row.
pub(super) fn pack(values: &[f32]) -> Vec<u32> {
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
fn unpack(words: &[u32], unit: usize, units: usize) -> (f32, f32, Vec<i8>) {
    let word = |quad: usize| words[4 * (quad / 4 * units + unit) + quad % 4];
    let codes = (0..8).flat_map(|quad| word(quad).to_le_bytes()).map(|byte| byte as i8).collect();
    let pair = [0, 1].map(|i| f32::from_bits(words[8 * units + 2 * unit + i]));
    (pair[0], pair[1], codes)
}

/// Holds a row of packed values against the twin's. A value may be off by half a step, and a little, as the kernel's division is not
/// exact; what fills the row up must be untouched.
fn judge(output: &str, words: &[u32], cpu: &[f64], at: usize) -> Result<Reached, Fault> {
    let units = cpu.len().div_ceil(GROUP);
    if let Some(stray) = (WORDS * units..words.len()).find(|i| words[*i] != FILL) {
        return Err(Fault::Stray { output: output.to_owned(), at: (at + stray) as isize });
    }
    if let Some(unwritten) = (0..WORDS * units).find(|i| words[*i] == FILL) {
        return Err(Fault::Unwritten { output: output.to_owned(), at: at + unwritten });
    }
    let mut reached = Reached::default();
    let mut near = |what: String, gpu: f64, cpu: f64, allowed: f64| {
        let error = (gpu - cpu).abs();
        if error.is_nan() || error > allowed {
            return Err(Fault::Far { output: what, at, gpu, cpu, allowed });
        }
        reached.max_abs = reached.max_abs.max(error);
        reached.share = reached.share.max(error / allowed);
        Ok(())
    };
    for (unit, group) in cpu.chunks(GROUP).enumerate() {
        let (scale, sum, codes) = unpack(words, unit, units);
        let step = group.iter().fold(0.0f64, |top, v| top.max(v.abs())) / 127.0;
        let of = |what: &str| format!("{output}, {what} of group {unit}");
        near(of("scale"), scale.into(), step, 2e-5 * step + 1e-30)?;
        let codes_sum: f64 = codes.iter().map(|code| f64::from(*code)).sum();
        near(of("sum"), sum.into(), codes_sum, 1e-9)?;
        for (i, code) in codes.iter().enumerate() {
            let value = group.get(i).copied().unwrap_or(0.0);
            near(of("a value"), f64::from(scale) * f64::from(*code), value, 0.502 * step + 1e-30)?;
        }
    }
    Ok(reached)
}

impl Io {
    /// Activations that the kernel writes as int8; the twin's values, `width` a row.
    pub fn rows_out_int8(&mut self, name: &str, cpu: &[f64], width: usize) -> Result<Activation> {
        let stride = width.next_multiple_of(ROW_ALIGN);
        let (label, cpu) = (name.to_owned(), cpu.to_vec());
        let rows = cpu.len() / width;
        let buf = self.output_words(name, &vec![None; rows * stride], move |words| {
            let rows = words.chunks_exact(stride).zip(cpu.chunks_exact(width)).enumerate();
            rows.map(|(r, (words, cpu))| judge(&label, words, cpu, r * stride))
                .try_fold(Reached::default(), |worst, reached| Ok(worst.worst(reached?)))
        })?;
        Ok(Activation { buf: buf.reinterpret(), width, stride, order: Order::Int8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_packed_and_found_again() {
        let values: Vec<f32> = (0..70).map(|i| (i as f32 - 30.0) * if i < 32 { 1e-3 } else { 10.0 }).collect();
        let words = pack(&values);
        let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(words.len(), 30);
        assert!(judge("x", &words, &wide, 0).is_ok());
        let rounded = rounded(&values);
        assert!(values.iter().zip(&rounded).all(|(v, r)| (v - r).abs() <= if v.abs() < 0.1 { 2e-4 } else { 2.0 }));
        // One code, a scale, a sum, a place that belongs to no group.
        for (at, wrong) in [(3, words[3] ^ 0x0200), (24, 0), (25, 7f32.to_bits())] {
            let mut words = words.clone();
            words[at] = wrong;
            assert!(judge("x", &words, &wide, 0).is_err(), "word {at}");
        }
        let longer = [words, vec![1]].concat();
        assert!(matches!(judge("x", &longer, &wide, 0), Err(Fault::Stray { at: 30, .. })));
    }

    #[test]
    fn what_is_all_but_zero_is_zero() {
        assert_eq!(pack(&[1e-35; 4]), [0; 10]);
    }
}
