//! Options of loading a model on a device.

use super::embeddings::Embeddings;
use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::kernels::linear::Math;

/// Upper limit on tokens of a chunk, slots and segments.
const MOST: usize = 8192;

/// A number of segments, or of tokens of a chunk, that suits the adapter and the model.
pub const AUTOMATIC: usize = 0;

/// How the forms of kernels are chosen. The class of arithmetic stays the same; the order of sums may change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tune {
    /// The forms that run on every adapter.
    Off,
    /// By the adapter's type and features.
    #[default]
    Static,
    /// By measuring each on this adapter with this model. The result is cached in the folder of [`Gpu::keep_in`](crate::gpu::Gpu::keep_in).
    Auto,
}

/// How weights are loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightOptions {
    /// The format of each matrix.
    pub recipe: Recipe,
    /// Where the table of embeddings is kept.
    pub embeddings: Embeddings,
}

/// How a model is loaded.
///
/// ```
/// # use peregrine::EngineOptions;
/// let options = EngineOptions::default().slots(4).memory(6 << 30);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// Conversations held at once.
    pub slots: usize,
    /// Most tokens of a prefill step; fewer where the adapter's bindings are small. [`AUTOMATIC`]: 2048 on a discrete GPU whose memory
    /// has room, else 512.
    pub chunk: usize,
    /// Segments that the scan cuts a full chunk into. [`AUTOMATIC`]: as many as suit the adapter and the model's shape; one on a
    /// CPU.
    pub segments: usize,
    /// Class of arithmetic.
    pub math: Math,
    /// How the forms of kernels are chosen.
    pub tune: Tune,
    /// The format of each matrix.
    pub weights: Recipe,
    /// Most bytes of device memory that the model may take. Without it: what [`Gpu::free_memory`](crate::gpu::Gpu::free_memory)
    /// reports; if that is unknown, no limit.
    pub memory: Option<u64>,
    /// Where the table of embeddings is kept.
    pub embeddings: Embeddings,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        ForwardOptions {
            slots: 1,
            chunk: AUTOMATIC,
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
    /// Sets [`ForwardOptions::slots`].
    pub fn slots(self, slots: usize) -> Self {
        ForwardOptions { slots, ..self }
    }

    /// Sets [`ForwardOptions::chunk`].
    pub fn chunk(self, chunk: usize) -> Self {
        ForwardOptions { chunk, ..self }
    }

    /// Sets [`ForwardOptions::segments`].
    pub fn segments(self, segments: usize) -> Self {
        ForwardOptions { segments, ..self }
    }

    /// Sets [`ForwardOptions::math`].
    pub fn math(self, math: Math) -> Self {
        ForwardOptions { math, ..self }
    }

    /// Sets [`ForwardOptions::tune`].
    pub fn tune(self, tune: Tune) -> Self {
        ForwardOptions { tune, ..self }
    }

    /// Sets [`ForwardOptions::weights`].
    pub fn weights(self, weights: Recipe) -> Self {
        ForwardOptions { weights, ..self }
    }

    /// Sets [`ForwardOptions::memory`].
    pub fn memory(self, memory: impl Into<Option<u64>>) -> Self {
        ForwardOptions { memory: memory.into(), ..self }
    }

    /// Sets [`ForwardOptions::embeddings`].
    pub fn embeddings(self, embeddings: Embeddings) -> Self {
        ForwardOptions { embeddings, ..self }
    }

    /// The options of loading weights.
    pub fn weight_options(&self) -> WeightOptions {
        WeightOptions { recipe: self.weights, embeddings: self.embeddings }
    }

    /// Checks that its numbers are in range.
    pub fn check(&self) -> Result<()> {
        for (name, value, least) in
            [("slots", self.slots, 1), ("chunk", self.chunk, AUTOMATIC), ("segments", self.segments, AUTOMATIC)]
        {
            if !(least..=MOST).contains(&value) {
                return Err(Error::BadSetting { name, value: value.to_string(), problem: "it must be from 1 to 8192" });
            }
        }
        Ok(())
    }
}
