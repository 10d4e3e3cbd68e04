//! The weight formats of the device and the blocks that make up a row, as files store them. [`super::pack`] has the layout that
//! kernels read.

use std::fmt;

/// How the weights of a matrix are stored. A row consists of whole blocks; its last block is padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 32 values: f16 scale, 32 × i8. GGUF's Q8_0.
    Q8_0,
    /// 32 values: f16 scale, 32 × 4 bits. GGUF's Q4_0.
    Q4_0,
    /// 256 values in 8 groups, each with a scale and a minimum; 4 bits. GGUF's Q4_K.
    Q4K,
    /// 256 values in 8 groups, each with a scale and a minimum; 5 bits. GGUF's Q5_K.
    Q5K,
    /// 256 values in 16 groups, each with a scale; 6 bits. GGUF's Q6_K.
    Q6K,
    /// 64 values: f32 scale, 64 × 4-bit indices into the normal-float map. bitsandbytes' NF4: 32 bytes of codes, the first of two
    /// in the high nibble.
    Nf4,
    /// As [`WeightFormat::Nf4`], with the map of 4-bit floats. bitsandbytes' FP4.
    Fp4,
    /// 64 values: f32 scale, 64 × i8; a value is `q * scale`. bitsandbytes' int8 has one scale for a whole row; here it is divided
    /// by 127 and repeated in each block.
    Int8,
}

impl WeightFormat {
    /// All formats, for tests and tables.
    pub const ALL: [WeightFormat; 11] = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::Bf16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
        WeightFormat::Q4K,
        WeightFormat::Q5K,
        WeightFormat::Q6K,
        WeightFormat::Nf4,
        WeightFormat::Fp4,
        WeightFormat::Int8,
    ];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Q8_0 => "q8_0",
            WeightFormat::Q4_0 => "q4_0",
            WeightFormat::Q4K => "q4_K",
            WeightFormat::Q5K => "q5_K",
            WeightFormat::Q6K => "q6_K",
            WeightFormat::Nf4 => "nf4",
            WeightFormat::Fp4 => "fp4",
            WeightFormat::Int8 => "int8",
        }
    }

    /// The format of this name, in any case. `q8` is q8_0, `q4` is q4_K.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "q8" => Some(WeightFormat::Q8_0),
            "q4" => Some(WeightFormat::Q4K),
            lower => Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(lower)),
        }
    }

    /// Whether its values are plain floats without scales.
    pub const fn is_plain(self) -> bool {
        self.block_values() == 1
    }

    /// Values in a block.
    pub const fn block_values(self) -> usize {
        match self {
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => 1,
            WeightFormat::Q8_0 | WeightFormat::Q4_0 => 32,
            WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => 64,
            WeightFormat::Q4K | WeightFormat::Q5K | WeightFormat::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            WeightFormat::F32 => 4,
            WeightFormat::F16 | WeightFormat::Bf16 => 2,
            WeightFormat::Q8_0 => 34,
            WeightFormat::Q4_0 => 18,
            WeightFormat::Q4K => 144,
            WeightFormat::Q5K => 176,
            WeightFormat::Q6K => 210,
            WeightFormat::Nf4 | WeightFormat::Fp4 => 36,
            WeightFormat::Int8 => 68,
        }
    }

    /// Bits per value, including its share of the scales.
    pub const fn bits(self) -> f64 {
        (8 * self.block_bytes()) as f64 / self.block_values() as f64
    }

    /// Blocks of a row of `columns` values.
    pub const fn row_blocks(self, columns: usize) -> usize {
        columns.div_ceil(self.block_values())
    }

    /// Bytes of the blocks of a row of `columns` values.
    pub const fn row_bytes(self, columns: usize) -> usize {
        self.row_blocks(columns) * self.block_bytes()
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
