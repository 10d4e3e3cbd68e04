//! How a model is laid out on the device.

use super::recipe::Recipe;
use super::table::Embeddings;
use super::tune::Tune;
use crate::error::{Error, Result};
use crate::kernels::linear::Math;

/// Tokens of a chunk, slots and segments, at most.
const MOST: usize = 8192;

/// Leaves the number of segments to the adapter and the model's shape.
pub const AUTOMATIC: usize = 0;

/// How a [`Forward`](super::Forward) is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardOptions {
    /// Conversations held at once.
    pub slots: usize,
    /// Tokens that a prefill step takes, at most; less where the adapter's bindings are small.
    pub chunk: usize,
    /// Segments that the scan cuts a full chunk into. [`AUTOMATIC`]: as many as suit the adapter and the model's shape, one on
    /// a CPU.
    pub segments: usize,
    /// Class of arithmetic.
    pub math: Math,
    /// How the forms of kernels are chosen.
    pub tune: Tune,
    /// Which format each matrix of a checkpoint gets.
    pub weights: Recipe,
    /// Bytes that the model may take of the device's memory. Without it: what [`Gpu::free_memory`](crate::gpu::Gpu::free_memory)
    /// tells, and where that tells nothing, as much as the device gives.
    pub memory: Option<u64>,
    /// Where the table of embeddings lies.
    pub embeddings: Embeddings,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        ForwardOptions {
            slots: 1,
            chunk: 512,
            segments: 1,
            math: Math::Exact,
            tune: Tune::Static,
            weights: Recipe::AsStored,
            memory: None,
            embeddings: Embeddings::Device,
        }
    }
}

impl ForwardOptions {
    /// That its numbers are in their range.
    pub fn check(&self) -> Result<()> {
        let segments = if self.segments == AUTOMATIC { 1 } else { self.segments };
        for (name, value) in [("slots", self.slots), ("chunk", self.chunk), ("segments", segments)] {
            if !(1..=MOST).contains(&value) {
                return Err(Error::BadSetting { name, value: value.to_string(), problem: "it must be from 1 to 8192" });
            }
        }
        Ok(())
    }
}
