//! How the weights of a matrix lie in GPU memory: rows of 16-byte units, the last unit of a row filled up with zeros.

/// The type that a matrix's weights are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// Bytes that a kernel loads at a time.
pub const UNIT_BYTES: usize = 16;

impl WeightFormat {
    /// All formats, for tests and tables.
    pub const ALL: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Bf16 => "bf16",
        }
    }

    /// Bytes of one value in a file.
    pub fn value_bytes(self) -> usize {
        match self {
            WeightFormat::F32 => 4,
            WeightFormat::F16 | WeightFormat::Bf16 => 2,
        }
    }

    /// Units in a row of `columns` values.
    pub fn row_units(self, columns: usize) -> usize {
        (columns * self.value_bytes()).div_ceil(UNIT_BYTES)
    }

    /// Bytes of a row of `columns` values in GPU memory.
    pub fn row_bytes(self, columns: usize) -> usize {
        self.row_units(columns) * UNIT_BYTES
    }
}
