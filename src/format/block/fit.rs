//! Scales of least squared error. Given the codes, the best scale has a closed form; given the scale, the best codes are the
//! nearest. So the search tries a few scales, improves each by its codes, and takes the best.

/// The range of a format's integer codes.
#[derive(Clone, Copy)]
pub struct Codes {
    pub low: f32,
    pub high: f32,
}

impl Codes {
    /// The codes nearest to `values * inverse + offset`. NaN gets the lowest.
    pub fn nearest<const N: usize>(self, values: &[f32; N], inverse: f32, offset: f32) -> [f32; N] {
        // Adding and subtracting 1.5 * 2^23 rounds numbers below 2^22 to integers: the sum has no fraction bits.
        const SHIFT: f32 = 12_582_912.0;
        let mut codes = *values;
        for code in &mut codes {
            let v = *code * inverse + offset;
            let v = if v > self.low { v } else { self.low };
            let v = if v < self.high { v } else { self.high };
            *code = (v + SHIFT) - SHIFT;
        }
        codes
    }

    /// The scale of `values`, of which `extreme` has the largest magnitude. Each of `tried` is a code for `extreme`, possibly
    /// fractional or out of range, and so a scale to try.
    pub fn scale<const N: usize>(self, values: &[f32; N], extreme: f32, tried: &[f32]) -> f32 {
        if extreme == 0.0 {
            return 0.0;
        }
        // Scaled to -1 to 1, so that no square overflows f32.
        let mut unit = *values;
        unit.iter_mut().for_each(|v| *v /= extreme);
        let (mut best, mut most) = (1.0 / tried[0], 0.0);
        for code in tried {
            let codes = self.nearest(&unit, *code, 0.0);
            let (xq, qq) = (dot(&unit, &codes), dot(&codes, &codes));
            // The least error of these codes is sum(x^2) minus this.
            let explained = xq * xq / qq;
            if explained > most {
                (best, most) = (xq / qq, explained);
            }
        }
        best * extreme
    }
}

/// Symmetric 8-bit codes.
pub const BYTES: Codes = Codes { low: -127.0, high: 127.0 };

/// The scale of values for codes in [`BYTES`]. The largest always gets 127, so that encoding a block's values gives it again.
pub fn scale_of_bytes<const N: usize>(values: &[f32; N]) -> f32 {
    let largest = extreme(values).abs();
    let scale = BYTES.scale(values, largest, &[127.0, 126.6, 126.8, 127.2, 127.4]);
    // Rounding the scale to f16 changes it by at most 2^-11: 0.06 of a code.
    let (least, most) = (largest / 127.42, largest / 126.58);
    if scale > most {
        most
    } else if scale < least {
        least
    } else {
        scale
    }
}

/// The value of the largest magnitude, with its sign. Skips NaN.
pub fn extreme<const N: usize>(values: &[f32; N]) -> f32 {
    let (low, high) = bounds(values);
    if -low > high { low } else { high }
}

/// The least and the largest value, both including 0. Skips NaN.
pub fn bounds<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = ([0.0f32; 8], [0.0f32; 8]);
    for part in values.as_chunks::<8>().0 {
        for i in 0..8 {
            low[i] = if part[i] < low[i] { part[i] } else { low[i] };
            high[i] = if part[i] > high[i] { part[i] } else { high[i] };
        }
    }
    (low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max))
}

pub fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        (0..8).for_each(|i| lanes[i] += a[i] * b[i]);
    }
    lanes.into_iter().sum()
}

pub fn sum<const N: usize>(values: &[f32; N]) -> f32 {
    let mut lanes = [0.0; 8];
    for part in values.as_chunks::<8>().0 {
        (0..8).for_each(|i| lanes[i] += part[i]);
    }
    lanes.into_iter().sum()
}

/// 1 / v; 0 where that is not finite or v is NaN.
pub fn inverse(v: f32) -> f32 {
    let inverse = 1.0 / v;
    if inverse.is_finite() { inverse } else { 0.0 }
}
