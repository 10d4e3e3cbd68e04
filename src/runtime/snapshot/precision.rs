//! Recurrent states in half precision.

use half::f16;

/// How exactly the recurrent state of a snapshot is kept. Logits are always whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// As it was: f32.
    #[default]
    Whole,
    /// f16 at half the size, with a power of two for each row that brings its largest value into the range. Each value is
    /// off by at most 2^-11 of itself, or 2^-40 of the largest of its row.
    Half,
}

/// The exponent that the largest value of a row gets: 2^15 is the largest power of two in f16.
const TOP: i32 = 15;

/// The power of two that a row of these values is divided by. Within the exponents of f32, so that it and its inverse exist.
pub(super) fn scale(row: &[f32]) -> f32 {
    let largest = row.iter().filter(|v| v.is_finite()).fold(0.0f32, |largest, v| largest.max(v.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = i32::try_from((largest.to_bits() >> 23) & 0xff).expect("eight bits") - 127;
    2f32.powi((exponent - TOP).clamp(-126, 126))
}

/// A value of a row in f16. What rounding carries over the end of the range becomes the end.
pub(super) fn narrow(value: f32, scale: f32) -> f16 {
    let scaled = value / scale;
    if scaled.is_finite() { f16::from_f32(scaled.clamp(-65504.0, 65504.0)) } else { f16::from_f32(scaled) }
}

pub(super) fn widen(value: f16, scale: f32) -> f32 {
    value.to_f32() * scale
}

/// Rounds the values of so many rows to what f16 keeps of them.
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
                // Rows as small as this have no power of two that brings them into the range.
                let allowed = allowed.max(2f64.powi(-126 - 25));
                assert!(off <= allowed, "{v:e} is off by {off:e}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_and_what_is_no_number_go_through() {
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
