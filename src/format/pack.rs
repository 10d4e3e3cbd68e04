//! The layout of a row of weights in GPU memory: planes of codes, then planes of scales, each padded to whole units of 16 bytes,
//! the size of one load in a kernel. `shaders/lib/weights_*.wgsl` read them.
//!
//! | format | planes, per 32 values |
//! |---|---|
//! | f32, f16, bf16 | the values |
//! | q8_0, int8 | 16 bytes of codes of values 0 to 15; in a second plane, those of values 16 to 31 |
//! | q4_0, q4_K, nf4, fp4 | 16 bytes of codes: byte i has value i in its low nibble and value i + 16 in its high nibble |
//! | q5_K | the same, then 4 bytes of fifth bits: bit 8 k + q is that of value 4 q + k |
//! | q6_K | the same, then 8 bytes of fifth and sixth bits: bits 8 k + 2 q of word w are those of value 16 w + 4 q + k |
//!
//! Then the scales: f16 per 32 values (q8_0, q4_0), f32 per 64 (nf4, fp4, int8), 16 bytes per 256 (q4_K and q5_K: both f16
//! scales, the low four bits of the 8 scales, those of the 8 minima, then the upper two bits of each scale and each minimum;
//! q6_K: 16 × i8, followed by a plane with an f16 per 256).
//! These are the bytes of the file, plus the padding of planes.

use super::WeightFormat;
use super::block::scale_and_minimum;

/// Bytes of one load in a kernel.
pub const UNIT_BYTES: usize = 16;

/// Values that a kernel unpacks at a time in formats with scales.
const GROUP: usize = 32;

impl WeightFormat {
    /// Values that a kernel unpacks at a time, from one or more loads: a unit of values.
    pub const fn unit_values(self) -> usize {
        match self {
            WeightFormat::F32 => 4,
            WeightFormat::F16 | WeightFormat::Bf16 => 8,
            _ => GROUP,
        }
    }

    /// Units in a row of `columns` values.
    pub const fn row_units(self, columns: usize) -> usize {
        columns.div_ceil(self.unit_values())
    }

    /// Bytes of each plane of a row of `columns` values, without padding: codes, their upper bits, scales, second-level scales.
    fn planes(self, columns: usize) -> [usize; 4] {
        let blocks = self.row_blocks(columns);
        let groups = blocks * self.block_values() / GROUP;
        match self {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => [self.row_bytes(columns), 0, 0, 0],
            WeightFormat::Q8_0 | WeightFormat::Int8 => [32 * groups, 0, 2 * groups, 0],
            WeightFormat::Q4_0 | WeightFormat::Nf4 | WeightFormat::Fp4 => [16 * groups, 0, 2 * groups, 0],
            WeightFormat::Q4K => [16 * groups, 0, 16 * blocks, 0],
            WeightFormat::Q5K => [16 * groups, 4 * groups, 16 * blocks, 0],
            WeightFormat::Q6K => [16 * groups, 8 * groups, 16 * blocks, 2 * blocks],
        }
    }

    /// Bytes of a row of `columns` values in GPU memory.
    pub fn device_row_bytes(self, columns: usize) -> usize {
        self.planes(columns).iter().map(|bytes| bytes.next_multiple_of(UNIT_BYTES)).sum()
    }

    /// Where the planes of a row end in GPU memory: codes, their upper bits, scales, second-level scales.
    pub(crate) fn plane_ends(self, columns: usize) -> [usize; 4] {
        let mut end = 0;
        self.planes(columns).map(|bytes| {
            end += bytes.next_multiple_of(UNIT_BYTES);
            end
        })
    }

    /// Packs a row of blocks for GPU memory; `packed` is [`WeightFormat::device_row_bytes`] long.
    pub fn pack_row(self, blocks: &[u8], columns: usize, packed: &mut [u8]) {
        let [codes, bits, scales, _] = self.plane_ends(columns);
        let (head, tops) = packed.split_at_mut(scales);
        let (head, scales) = head.split_at_mut(bits);
        let (codes, bits) = head.split_at_mut(codes);
        [&mut *bits, scales, tops].into_iter().for_each(|plane| plane.fill(0));
        let blocks = blocks.chunks_exact(self.block_bytes()).enumerate();
        match self {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => unreachable!("{self} is copied"),
            WeightFormat::Q8_0 => blocks.for_each(|(i, block)| {
                scales[2 * i..][..2].copy_from_slice(&block[..2]);
                pack_bytes(codes, i, &block[2..]);
            }),
            WeightFormat::Int8 => blocks.for_each(|(i, block)| {
                scales[4 * i..][..4].copy_from_slice(&block[..4]);
                let groups = block[4..].chunks_exact(GROUP).enumerate();
                groups.for_each(|(j, group)| pack_bytes(codes, 2 * i + j, group));
            }),
            WeightFormat::Q4_0 => blocks.for_each(|(i, block)| {
                scales[2 * i..][..2].copy_from_slice(&block[..2]);
                codes[16 * i..][..16].copy_from_slice(&block[2..]);
            }),
            WeightFormat::Nf4 | WeightFormat::Fp4 => blocks.for_each(|(i, block)| {
                scales[4 * i..][..4].copy_from_slice(&block[..4]);
                // Value 2 j is the high half of byte j.
                let code = |at: usize| (block[4 + at / 2] >> (4 * (1 - at % 2))) & 15;
                pack_nibbles(&mut codes[32 * i..][..32], code);
            }),
            WeightFormat::Q4K => blocks.for_each(|(i, block)| {
                scales[16 * i..][..16].copy_from_slice(&group_scales(block));
                pack_nibbles(&mut codes[128 * i..][..128], |at| k_nibble(&block[16..], at));
            }),
            WeightFormat::Q5K => blocks.for_each(|(i, block)| {
                scales[16 * i..][..16].copy_from_slice(&group_scales(block));
                pack_nibbles(&mut codes[128 * i..][..128], |at| k_nibble(&block[48..], at));
                // Value l of group j has bit j of byte l.
                for (j, word) in bits[32 * i..][..32].chunks_exact_mut(4).enumerate() {
                    let bit = |at: usize| u32::from((block[16 + at] >> j) & 1) << (8 * (at % 4) + at / 4);
                    word.copy_from_slice(&(0..GROUP).map(bit).sum::<u32>().to_le_bytes());
                }
            }),
            WeightFormat::Q6K => blocks.for_each(|(i, block)| {
                tops[2 * i..][..2].copy_from_slice(&block[208..]);
                scales[16 * i..][..16].copy_from_slice(&block[192..208]);
                // Value 128 a + 32 k + l: four bits in byte 64 a + 32 (k % 2) + l, two more in byte 32 a + l of the next 64.
                let low = |at: usize| {
                    let (a, k, l) = (at / 128, at / 32 % 4, at % 32);
                    (block[64 * a + 32 * (k % 2) + l] >> (4 * (k / 2))) & 15
                };
                pack_nibbles(&mut codes[128 * i..][..128], low);
                for (w, word) in bits[64 * i..][..64].chunks_exact_mut(4).enumerate() {
                    let two = |at: usize| {
                        let (a, k, l) = ((16 * w + at) / 128, (16 * w + at) / 32 % 4, (16 * w + at) % 32);
                        u32::from((block[128 + 32 * a + l] >> (2 * k)) & 3) << (8 * (at % 4) + 2 * (at / 4))
                    };
                    word.copy_from_slice(&(0..16).map(two).sum::<u32>().to_le_bytes());
                }
            }),
        }
    }
}

/// Puts half of a group's 8-bit codes into each plane.
fn pack_bytes(codes: &mut [u8], group: usize, values: &[u8]) {
    let (low, high) = codes.split_at_mut(codes.len() / 2);
    low[16 * group..][..16].copy_from_slice(&values[..16]);
    high[16 * group..][..16].copy_from_slice(&values[16..]);
}

/// Packs 4-bit codes two to a byte: values i and i + 16 of each 32.
fn pack_nibbles(packed: &mut [u8], code: impl Fn(usize) -> u8) {
    for (group, bytes) in packed.chunks_exact_mut(GROUP / 2).enumerate() {
        let first = group * GROUP;
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = code(first + i) | code(first + i + 16) << 4;
        }
    }
}

/// The low four bits of a value of q4_K or q5_K; groups 2 i and 2 i + 1 share 32 bytes.
fn k_nibble(codes: &[u8], at: usize) -> u8 {
    let (group, l) = (at / GROUP, at % GROUP);
    (codes[32 * (group / 2) + l] >> (4 * (group % 2))) & 15
}

/// Scales and minima of a block of q4_K or q5_K, laid out so that a kernel reads those of every group alike.
fn group_scales(block: &[u8]) -> [u8; 16] {
    let (mut scales, mut minima, mut high) = (0u32, 0u32, 0u32);
    for j in 0..8 {
        let (scale, minimum) = scale_and_minimum(&block[4..16], j);
        let (scale, minimum) = (u32::from(scale), u32::from(minimum));
        scales |= (scale & 15) << (4 * j);
        minima |= (minimum & 15) << (4 * j);
        high |= (scale >> 4) << (2 * j) | (minimum >> 4) << (16 + 2 * j);
    }
    let mut packed = [0; 16];
    packed[..4].copy_from_slice(&block[..4]);
    for (bytes, word) in packed[4..].chunks_exact_mut(4).zip([scales, minima, high]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    packed
}
