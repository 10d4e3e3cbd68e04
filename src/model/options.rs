//! How a model is laid out on the device.

use super::recipe::Recipe;
use super::table::Embeddings;
use super::tune::Tune;
use crate::kernels::variants::Math;

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
    /// Class of arithmetic, where the adapter offers a choice.
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
