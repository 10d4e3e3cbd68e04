//! NF4 and FP4: 64 values with one f32 scale, and 4-bit codes into a map of 16 values from -1 to 1.

/// Values in a block.
const N: usize = 64;

/// What the codes of a format mean.
#[derive(Debug, PartialEq)]
pub struct FourBit {
    /// The value of each code.
    pub map: [f32; 16],
    /// The code of zero.
    pub zero: u8,
}

/// The 4-bit normal float: quantiles of the normal distribution. QLoRA, arXiv:2305.14314, appendix E.
#[expect(clippy::excessive_precision, reason = "as published")]
pub const NF4: FourBit = FourBit {
    map: [
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
    zero: 7,
};

/// The 4-bit float of bitsandbytes, over 12: a sign, two bits of exponent, one of mantissa.
pub const FP4: FourBit = FourBit {
    map: [
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
    zero: 0,
};

impl FourBit {
    /// w = map[code] scale; of two codes in a byte the first is the high one.
    pub fn decode(&self, block: &[u8; 36], values: &mut [f32; N]) {
        let (scale, codes) = block.split_first_chunk().expect("36 bytes are more than four");
        let scale = f32::from_le_bytes(*scale);
        for (pair, byte) in values.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *pair = [byte >> 4, byte & 15].map(|code| self.map[usize::from(code)] * scale);
        }
    }

    pub fn encode(&self, values: &[f32; N], block: &mut [u8; 36]) {
        let scale = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let nearest = |v: f32| -> u8 {
            let mut best = self.zero;
            for code in 0..16u8 {
                let off = |code: u8| (v * inverse - self.map[usize::from(code)]).abs();
                if off(code) < off(best) {
                    best = code;
                }
            }
            best
        };
        block[..4].copy_from_slice(&scale.to_le_bytes());
        for (byte, pair) in block[4..].iter_mut().zip(values.as_chunks::<2>().0) {
            *byte = nearest(pair[0]) << 4 | nearest(pair[1]);
        }
    }
}
