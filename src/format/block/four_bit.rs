//! NF4 and FP4: 64 values with one f32 scale and 4-bit indices into a map of 16 values from -1 to 1.

use super::fit;

/// Values in a block.
const N: usize = 64;

/// Scales to try, as fractions of the largest value.
const TRIED: [f32; 6] = [1.0, 0.95, 0.9, 0.85, 1.05, 1.1];

/// Upper limit on a scale: the largest value keeps the code of 1.
const MOST: f32 = 1.15;

/// The code map of a format.
pub struct FourBit {
    /// The value of each code.
    pub map: [f32; 16],
    /// The code of zero.
    pub zero: u8,
    /// The codes in the order of their values. One of FP4's two codes for zero is left out, and the last code is repeated.
    order: [u8; 16],
    /// Values above one of these get the next code in that order.
    limits: [f32; 15],
    /// Differences between neighboring values.
    steps: [f32; 15],
}

impl FourBit {
    const fn new(map: [f32; 16], order: [u8; 16]) -> Self {
        let (mut limits, mut steps) = ([f32::INFINITY; 15], [0.0; 15]);
        let mut i = 0;
        while i < 15 {
            let (this, next) = (map[order[i] as usize], map[order[i + 1] as usize]);
            // The repeated code is never reached.
            if next > this {
                limits[i] = (this + next) / 2.0;
                steps[i] = next - this;
            }
            i += 1;
        }
        FourBit { map, zero: order[7], order, limits, steps }
    }
}

/// The 4-bit normal float: quantiles of the normal distribution. QLoRA, arXiv:2305.14314, appendix E.
#[expect(clippy::excessive_precision, reason = "as published")]
pub static NF4: FourBit = FourBit::new(
    [
        -1.0,
        -0.696_192_800_998_687_7,
        -0.525_073_051_452_636_7,
        -0.394_917_488_098_144_5,
        -0.284_441_381_692_886_35,
        -0.184_773_430_228_233_34,
        -0.091_050_036_251_544_95,
        0.0,
        0.079_580_299_556_255_34,
        0.160_930_201_411_247_25,
        0.246_112_301_945_686_34,
        0.337_915_241_718_292_24,
        0.440_709_829_330_444_34,
        0.562_617_003_917_694_1,
        0.722_956_836_223_602_3,
        1.0,
    ],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
);

/// The 4-bit float of bitsandbytes, divided by 12: a sign, two exponent bits, one mantissa bit.
pub static FP4: FourBit = FourBit::new(
    [
        0.0,
        0.0625 / 12.0,
        8.0 / 12.0,
        1.0,
        4.0 / 12.0,
        6.0 / 12.0,
        2.0 / 12.0,
        3.0 / 12.0,
        0.0,
        -0.0625 / 12.0,
        -8.0 / 12.0,
        -1.0,
        -4.0 / 12.0,
        -6.0 / 12.0,
        -2.0 / 12.0,
        -3.0 / 12.0,
    ],
    [11, 10, 13, 12, 15, 14, 9, 0, 1, 6, 7, 4, 5, 2, 3, 3],
);

impl FourBit {
    /// w = map[code] scale; the first of two codes in a byte is the high nibble.
    pub fn decode(&self, block: &[u8; 36], values: &mut [f32; N]) {
        let (scale, codes) = block.split_first_chunk().expect("36 bytes are more than four");
        let scale = f32::from_le_bytes(*scale);
        for (pair, byte) in values.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *pair = [byte >> 4, byte & 15].map(|code| self.map[usize::from(code)] * scale);
        }
    }

    /// The scale is near the largest value, which gets the code of 1 or -1. Encoding the values of a block gives the same block.
    pub fn encode(&self, values: &[f32; N], block: &mut [u8; 36]) {
        let largest = fit::extreme(values).abs();
        let mut unit = *values;
        unit.iter_mut().for_each(|v| *v /= largest);
        if largest == 0.0 {
            unit.fill(0.0);
        }
        if !self.write(values, &unit, largest, block) {
            let (mut best, mut most) = (1.0, 0.0);
            for scale in TRIED {
                let (xv, vv) = self.products(&unit, 1.0 / scale);
                // The least error of these codes is sum(x^2) minus this.
                let explained = xv * xv / vv;
                if explained > most && xv <= MOST * vv {
                    (best, most) = (xv / vv, explained);
                }
            }
            let inverse = 1.0 / best;
            unit.iter_mut().for_each(|v| *v *= inverse);
            self.write(values, &unit, (best * largest).min(f32::MAX), block);
        }
    }

    /// Writes a block with the codes of `unit`, the values divided by the scale; returns whether it decodes to them exactly.
    fn write(&self, values: &[f32; N], unit: &[f32; N], scale: f32, block: &mut [u8; 36]) -> bool {
        let mut ranks = [0u32; N];
        for (rank, v) in ranks.iter_mut().zip(unit) {
            self.limits.iter().for_each(|limit| *rank += u32::from(v > limit));
        }
        let codes = ranks.map(|rank| self.order[rank as usize]);
        block[..4].copy_from_slice(&scale.to_le_bytes());
        for (byte, pair) in block[4..].iter_mut().zip(codes.as_chunks::<2>().0) {
            *byte = pair[0] << 4 | pair[1];
        }
        codes.iter().zip(values).all(|(code, value)| self.map[usize::from(*code)] * scale == *value)
    }

    /// The sums of x v and of v^2, where v is the value of the code nearest to x times `inverse`.
    fn products(&self, unit: &[f32; N], inverse: f32) -> (f32, f32) {
        let mut means = [self.map[usize::from(self.order[0])]; N];
        for (v, x) in means.iter_mut().zip(unit) {
            let x = x * inverse;
            self.limits.iter().zip(&self.steps).for_each(|(limit, step)| *v += if x > *limit { *step } else { 0.0 });
        }
        (fit::dot(unit, &means), fit::dot(&means, &means))
    }
}
