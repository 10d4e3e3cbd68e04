//! Recurrent states in half precision.

use half::f16;

/// The precision of a snapshot's recurrent state. Logits are always f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32, without loss.
    #[default]
    Whole,
    /// f16, at half the size. Each row is scaled by a power of two that brings its largest value into range. The error of a value is
    /// at most 2^-11 of itself, or 2^-40 of the largest of its row.
    Half,
}

/// The exponent of a row's largest value after scaling: 2^15 is the largest power of two in f16.
const TOP: i32 = 15;

/// The power of two that a row is divided by. Both it and its inverse are normal f32.
pub(super) fn scale(row: &[f32]) -> f32 {
    let largest = row.iter().filter(|v| v.is_finite()).fold(0.0f32, |largest, v| largest.max(v.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = i32::try_from((largest.to_bits() >> 23) & 0xff).expect("eight bits") - 127;
    2f32.powi((exponent - TOP).clamp(-126, 126))
}

/// A value of a row in f16. Rounding does not overflow: it stops at the largest finite value.
pub(super) fn narrow(value: f32, scale: f32) -> f16 {
    let scaled = value / scale;
    if scaled.is_finite() { f16::from_f32(scaled.clamp(-65504.0, 65504.0)) } else { f16::from_f32(scaled) }
}

pub(super) fn widen(value: f16, scale: f32) -> f32 {
    value.to_f32() * scale
}

/// Rounds the values of this many rows to half precision, in place.
pub(super) fn round_rows(values: &mut [f32], rows: usize) {
    let columns = values.len().div_ceil(rows.max(1)).max(1);
    for row in values.chunks_mut(columns) {
        let scale = scale(row);
        row.iter_mut().for_each(|v| *v = widen(narrow(*v, scale), scale));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::case::Random;

    #[test]
    fn rows_of_any_size_keep_their_values_within_the_stated_error() {
        let mut random = Random::new(3);
        for exponent in [-126, -60, -20, 0, 10, 15, 16, 40, 100, 127] {
            let unit = 2f32.powi(exponent);
            let row: Vec<f32> = random.uniforms(500, -1.0, 1.0).into_iter().map(|v| v * unit).collect();
            let scale = scale(&row);
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for v in &row {
                let off = f64::from((widen(narrow(*v, scale), scale) - v).abs());
                let allowed = (f64::from(v.abs()) * 2f64.powi(-11)).max(f64::from(largest) * 2f64.powi(-40));
                // Rows this small have no power of two that brings them into range.
                let allowed = allowed.max(2f64.powi(-126 - 25));
                assert!(off <= allowed, "{v:e} is off by {off:e}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_infinity_and_nan_are_kept() {
        // 65519.99 would round to 65536, which f16 does not have.
        let row = [65519.99f32, -65519.99, 1e-30, 0.0];
        let scale = scale(&row);
        assert_eq!(scale, 1.0);
        assert_eq!(row.map(|v| narrow(v, scale).to_f32()), [65504.0, -65504.0, 0.0, 0.0]);
        assert_eq!(narrow(f32::INFINITY, 1.0), f16::INFINITY);
        assert!(narrow(f32::NAN, 1.0).is_nan());
        assert_eq!(super::scale(&[0.0, 0.0]), 1.0);
        let tiny = [f32::from_bits(1)];
        assert_eq!(widen(narrow(tiny[0], super::scale(&tiny)), super::scale(&tiny)), tiny[0]);
        let huge = [f32::MAX];
        assert!((widen(narrow(huge[0], super::scale(&huge)), super::scale(&huge)) / f32::MAX - 1.0).abs() < 1e-3);
    }
}
