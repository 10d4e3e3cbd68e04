//! The search for scales and codes of K-quants: each group gets its best scale (and minimum); these are rounded to integers of a
//! common unit, trying neighbors; then the units are fitted to all codes.

use super::fit::{Codes, bounds, dot, extreme, inverse, sum};
use super::to_f16;
use half::f16;

/// Values in a block.
const N: usize = 256;

/// The largest scale or minimum of Q4_K and Q5_K, in units.
const MOST: f32 = 63.0;

/// The contents of a block of Q4_K or Q5_K: w = (d sc) q - (dmin mn).
pub struct Affine {
    pub d: f16,
    pub dmin: f16,
    pub scales: [u8; 8],
    pub minima: [u8; 8],
    pub codes: [u8; N],
}

/// The contents of a block of Q6_K: w = (d sc) (q - 32).
pub struct Symmetric {
    pub d: f16,
    pub scales: [i8; 16],
    pub codes: [u8; N],
}

/// A group of Q4_K or Q5_K.
struct Group<'a> {
    values: &'a [f32; 32],
    sum: f32,
    codes: Codes,
}

/// Codes of a group, with the sums that determine their error and their best scale.
struct Trial {
    codes: [f32; 32],
    q: f32,
    qq: f32,
    xq: f32,
}

impl Group<'_> {
    /// The codes for a scale and a minimum.
    fn trial(&self, (scale, minimum): (f32, f32)) -> Trial {
        let inverse = inverse(scale);
        let codes = self.codes.nearest(self.values, inverse, minimum * inverse);
        Trial { codes, q: sum(&codes), qq: dot(&codes, &codes), xq: dot(self.values, &codes) }
    }

    /// Their squared error, minus the sum of the squared values.
    fn error(&self, t: &Trial, (scale, minimum): (f32, f32)) -> f32 {
        scale * (scale * t.qq - 2.0 * t.xq) + minimum * (2.0 * (self.sum - scale * t.q) + 32.0 * minimum)
    }

    /// The best scale and minimum for the codes. A minimum is not negative.
    fn best(&self, t: &Trial) -> (f32, f32) {
        let scale = (32.0 * t.xq - self.sum * t.q) / (32.0 * t.qq - t.q * t.q);
        let minimum = (scale * t.q - self.sum) / 32.0;
        if scale > 0.0 && minimum > 0.0 { (scale, minimum) } else { ((t.xq * inverse(t.qq)).max(0.0), 0.0) }
    }

    /// The best real-valued scale and minimum. Each of `tried` is a number of codes to spread the values over.
    fn fit(&self, tried: &[f32]) -> (f32, f32) {
        let (low, high) = bounds(self.values);
        // Equal values that are not positive need only the minimum.
        let (mut best, mut least) = ((0.0, -low), f32::INFINITY);
        for codes in tried {
            let mut now = ((high - low) / codes, -low);
            for _ in 0..2 {
                let trial = self.trial(now);
                now = self.best(&trial);
                let error = self.error(&trial, now);
                if error < least {
                    (best, least) = (now, error);
                }
            }
        }
        best
    }

    /// Scale and minimum in whole units: the nearest, or neighbors with less error.
    fn whole(&self, (scale, minimum): (f32, f32), (d, dmin): (f32, f32)) -> (u8, u8) {
        let nearest = |v: f32, unit: f32| (v * inverse(unit) + 0.5).clamp(0.0, MOST) as u8;
        let (sc, mut mn) = (nearest(scale, d), nearest(minimum, dmin));
        let (mut best, mut least) = ((sc, mn), f32::INFINITY);
        for sc in sc.saturating_sub(1)..=(sc + 1).min(MOST as u8) {
            // Codes for the minimum, then a minimum for the codes.
            for _ in 0..2 {
                let now = (d * f32::from(sc), dmin * f32::from(mn));
                let trial = self.trial(now);
                let error = self.error(&trial, now);
                if error < least {
                    (best, least) = ((sc, mn), error);
                }
                let moved = nearest((now.0 * trial.q - self.sum) / 32.0, dmin);
                if moved == mn {
                    break;
                }
                mn = moved;
            }
        }
        best
    }
}

/// Encodes values as a block whose largest code is `top`, 15 or 31. Values from `used` on lie past the row's end: they must be
/// zero, and decode to zero.
pub fn affine(values: &[f32; N], used: usize, top: f32) -> Affine {
    let codes = Codes { low: 0.0, high: top };
    let groups = values.as_chunks::<32>().0;
    let groups: [Group; 8] = std::array::from_fn(|i| Group { values: &groups[i], sum: sum(&groups[i]), codes });
    let tried = [1.0, 0.96, 1.04, 1.1].map(|part| part * top);
    let mut fits: [(f32, f32); 8] = std::array::from_fn(|i| groups[i].fit(&tried));
    let largest =
        |fits: &[(f32, f32); 8]| fits.iter().fold((0.0f32, 0.0f32), |m, fit| (m.0.max(fit.0), m.1.max(fit.1)));
    if used.is_multiple_of(32) {
        let (scale, minimum) = largest(&fits);
        let units = (unit(scale / MOST, f16::MAX), unit(minimum / MOST, f16::MAX));
        let wide = (units.0.to_f32(), units.1.to_f32());
        let whole = std::array::from_fn(|i| groups[i].whole(fits[i], wide));
        let first = with_units(&groups, &whole, units);
        let refined = with_units(&groups, &whole, first.better);
        return if refined.error < first.error { refined.block } else { first.block };
    }
    // The row ends inside a group, so one of its codes must decode to 0: with dmin = 8 d and mn = sc it is 8 (16 with 5 bits).
    let zero = (top + 1.0) / 2.0;
    let last = used / 32;
    let scale = extreme(groups[last].values).abs() / zero;
    fits[last] = (scale, scale * zero);
    let (scale, minimum) = largest(&fits);
    let d = unit(scale.max(minimum / zero) / MOST, f16::from_f32(f16::MAX.to_f32() / 32.0));
    let units = (d, f16::from_f32(d.to_f32() * zero));
    let wide = (units.0.to_f32(), units.1.to_f32());
    let mut whole: [(u8, u8); 8] = std::array::from_fn(|i| groups[i].whole(fits[i], wide));
    let nearest = (fits[last].0 * inverse(wide.0)).round().min(MOST) as u8;
    let error = |sc: u8| {
        let now = (wide.0 * f32::from(sc), wide.1 * f32::from(sc));
        groups[last].error(&groups[last].trial(now), now)
    };
    let near = nearest.saturating_sub(2)..=(nearest + 2).min(MOST as u8);
    let sc = near.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(nearest);
    whole[last] = (sc, sc);
    with_units(&groups, &whole, units).block
}

/// The smallest f16 that is not clearly below `v`: among subnormals the nearest may be as little as half of `v`.
fn unit(v: f32, most: f16) -> f16 {
    let d = to_f16(v.min(most.to_f32()));
    if d < most && d.to_f32() < 0.999 * v { f16::from_bits(d.to_bits() + 1) } else { d }
}

/// A block of given scales and units.
struct Encoded {
    block: Affine,
    /// Its squared error, minus the sum of the squared values.
    error: f32,
    /// The best units, d and dmin, for its codes.
    better: (f16, f16),
}

/// Encodes a block with these scales and units.
fn with_units(groups: &[Group; 8], whole: &[(u8, u8); 8], (d, dmin): (f16, f16)) -> Encoded {
    let mut codes = [0; N];
    let mut error = 0.0;
    // Products of a = sc q, b = mn and x, over all values.
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((group, (sc, mn)), codes) in groups.iter().zip(whole).zip(codes.as_chunks_mut::<32>().0) {
        let (sc, mn) = (f32::from(*sc), f32::from(*mn));
        let now = (d.to_f32() * sc, dmin.to_f32() * mn);
        let trial = group.trial(now);
        error += group.error(&trial, now);
        aa += sc * sc * trial.qq;
        ab += sc * mn * trial.q;
        bb += 32.0 * mn * mn;
        ax += sc * trial.xq;
        bx += mn * group.sum;
        codes.iter_mut().zip(trial.codes).for_each(|(code, q)| *code = q as u8);
    }
    let per_det = inverse(aa * bb - ab * ab);
    let better = if per_det > 0.0 {
        ((ax * bb - ab * bx) * per_det, (ax * ab - aa * bx) * per_det)
    } else {
        (ax * inverse(aa), 0.0)
    };
    let scales = whole.map(|(sc, _)| sc);
    let minima = whole.map(|(_, mn)| mn);
    Encoded { block: Affine { d, dmin, scales, minima, codes }, error, better: (to_f16(better.0), to_f16(better.1)) }
}

/// Encodes values as a block of Q6_K.
pub fn symmetric(values: &[f32; N]) -> Symmetric {
    const CODES: Codes = Codes { low: -32.0, high: 31.0 };
    const TRIED: [f32; 5] = [-32.0, 31.0, -31.0, -32.5, 31.5];
    let groups = values.as_chunks::<16>().0;
    let fits: [f32; 16] = std::array::from_fn(|i| CODES.scale(&groups[i], extreme(&groups[i]), &TRIED));
    let d = unit(fits.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0, f16::MAX);
    let per_d = inverse(d.to_f32());
    let mut scales = [0i8; 16];
    let (mut qq, mut xq) = (0.0, 0.0);
    for ((scale, fit), values) in scales.iter_mut().zip(fits).zip(groups) {
        let nearest = (fit * per_d).round().clamp(-127.0, 127.0);
        let mut least = f32::INFINITY;
        let mut sums = (0.0, 0.0);
        for sc in [nearest, nearest - 1.0, nearest + 1.0] {
            let now = sc * d.to_f32();
            let codes = CODES.nearest(values, inverse(now), 0.0);
            let (now_qq, now_xq) = (dot(&codes, &codes), dot(values, &codes));
            let error = now * (now * now_qq - 2.0 * now_xq);
            if error < least {
                (least, *scale, sums) = (error, sc as i8, (sc * sc * now_qq, sc * now_xq));
            }
        }
        qq += sums.0;
        xq += sums.1;
    }
    let with_unit = |d: f16| {
        let mut codes = [0; N];
        let mut error = 0.0;
        for ((codes, sc), values) in codes.as_chunks_mut::<16>().0.iter_mut().zip(scales).zip(groups) {
            let now = d.to_f32() * f32::from(sc);
            let q = CODES.nearest(values, inverse(now), 0.0);
            error += now * (now * dot(&q, &q) - 2.0 * dot(values, &q));
            codes.iter_mut().zip(q).for_each(|(code, q)| *code = (q + 32.0) as u8);
        }
        (Symmetric { d, scales, codes }, error)
    };
    let (block, error) = with_unit(d);
    let (refined, less) = with_unit(to_f16(xq * inverse(qq)));
    if less < error { refined } else { block }
}
