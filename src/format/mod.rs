//! Checkpoints on disk: containers of tensors, and how weights lie in memory.

mod safetensors;
mod weight;

pub use safetensors::TensorSource;
pub use weight::WeightFormat;

use crate::error::{Error, Result};
use half::{bf16, f16};

/// A tensor of a checkpoint: its bytes as they lie in the file, little endian, row major.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Its name in the file.
    pub name: String,
    /// The file that holds it.
    pub file: &'a str,
    /// How its values are stored.
    pub format: WeightFormat,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// The values, widened to f32; exact.
    pub fn to_f32(&self) -> Vec<f32> {
        let pair = |b: &[u8]| <[u8; 2]>::try_from(b).expect("chunks_exact(2) yields two bytes");
        match self.format {
            WeightFormat::F32 => self
                .bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().expect("chunks_exact(4) yields four bytes")))
                .collect(),
            WeightFormat::F16 => self.bytes.chunks_exact(2).map(|b| f16::from_le_bytes(pair(b)).to_f32()).collect(),
            WeightFormat::Bf16 => self.bytes.chunks_exact(2).map(|b| bf16::from_le_bytes(pair(b)).to_f32()).collect(),
        }
    }

    /// Checks the dimensions.
    pub fn shaped(self, wanted: &[usize]) -> Result<Self> {
        if self.shape == wanted {
            return Ok(self);
        }
        Err(Error::WrongShape {
            tensor: self.name,
            file: self.file.to_owned(),
            found: self.shape,
            wanted: wanted.to_vec(),
        })
    }
}
