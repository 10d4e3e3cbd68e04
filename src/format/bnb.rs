//! Weights that bitsandbytes quantized: 4-bit codes with scales for each 64 of them, plain or quantized once more, and 8-bit
//! codes with a scale for each row. Format: `QuantState.as_dict` of bitsandbytes' functional.py.

use super::WeightFormat;

/// Scales and map of a matrix of 4-bit codes.
#[derive(Debug, Clone)]
pub struct Bnb4<'a> {
    marker: std::marker::PhantomData<&'a u8>,
}

impl Bnb4<'_> {
    /// The format that holds rows of `columns` values without loss: NF4 or FP4 where no block of 64 in a row has two scales
    /// and the map is the usual one, else f32.
    pub fn held_as(&self, _columns: usize) -> WeightFormat {
        todo!()
    }

    /// The values from number `first` of the matrix on; exact.
    pub fn decode(&self, _codes: &[u8], _first: usize, _values: &mut [f32]) {
        todo!()
    }

    /// The row of `columns` values that begins with number `first` of the matrix, as blocks of [`Bnb4::held_as`].
    pub fn blocks(&self, _codes: &[u8], _first: usize, _columns: usize, _blocks: &mut [u8]) {
        todo!()
    }
}

/// The values of a row of 8-bit codes.
pub(super) fn decode_int8(_codes: &[u8], _scale: f32, _values: &mut [f32]) {
    todo!()
}

/// A row of 8-bit codes as blocks of [`WeightFormat::Int8`].
pub(super) fn int8_blocks(_codes: &[u8], _scale: f32, _blocks: &mut [u8]) {
    todo!()
}
