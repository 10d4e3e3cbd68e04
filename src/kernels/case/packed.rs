//! Comparison of rows packed as int8 with the twin's values.

use super::compare::{FILL, Mismatch, Reached};
use super::io::Io;
use crate::error::Result;
use crate::kernels::activation::int8::{GROUP, WORDS, unpack};
use crate::kernels::activation::{Activation, Order, ROW_ALIGN};

/// Compares a row of packed values with the twin's. A value may be off by a little over half a step, because the kernel's division is
/// not exact; the padding must stay unwritten.
fn judge(output: &str, words: &[u32], cpu: &[f64], at: usize) -> Result<Reached, Mismatch> {
    let units = cpu.len().div_ceil(GROUP);
    if let Some(stray) = (WORDS * units..words.len()).find(|i| words[*i] != FILL) {
        return Err(Mismatch::Stray { output: output.to_owned(), at: (at + stray) as isize });
    }
    if let Some(unwritten) = (0..WORDS * units).find(|i| words[*i] == FILL) {
        return Err(Mismatch::Unwritten { output: output.to_owned(), at: at + unwritten });
    }
    let mut reached = Reached::default();
    let mut near = |what: String, gpu: f64, cpu: f64, allowed: f64| {
        let error = (gpu - cpu).abs();
        if error.is_nan() || error > allowed {
            return Err(Mismatch::Far { output: what, at, gpu, cpu, allowed });
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
    /// Activations that the kernel writes as int8; `cpu` has the twin's values, `width` per row.
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
    use crate::kernels::activation::int8::{pack, rounded};

    #[test]
    fn a_packed_row_agrees_with_its_values_and_errors_are_found() {
        let values: Vec<f32> = (0..70).map(|i| (i as f32 - 30.0) * if i < 32 { 1e-3 } else { 10.0 }).collect();
        let words = pack(&values);
        let wide: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(words.len(), 30);
        assert!(judge("x", &words, &wide, 0).is_ok());
        let rounded = rounded(&values);
        assert!(values.iter().zip(&rounded).all(|(v, r)| (v - r).abs() <= if v.abs() < 0.1 { 2e-4 } else { 2.0 }));
        // One code, a scale, a sum, a word past the last group.
        for (at, wrong) in [(3, words[3] ^ 0x0200), (24, 0), (25, 7f32.to_bits())] {
            let mut words = words.clone();
            words[at] = wrong;
            assert!(judge("x", &words, &wide, 0).is_err(), "word {at}");
        }
        let longer = [words, vec![1]].concat();
        assert!(matches!(judge("x", &longer, &wide, 0), Err(Mismatch::Stray { at: 30, .. })));
    }
}
