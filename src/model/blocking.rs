//! Blocking forms of loading.

use super::{Config, Forward, ForwardOptions, ModelTensors, Progress, Weights};
use crate::error::Result;
use crate::gpu::Gpu;
use pollster::block_on;
use std::sync::Arc;

impl Forward {
    /// Blocking [`Forward::new_async`].
    pub fn new(gpu: &Gpu, config: &Config, weights: Arc<Weights>, options: ForwardOptions) -> Result<Self> {
        block_on(Self::new_async(gpu, config, weights, options))
    }

    /// Blocking [`Forward::load_async`].
    pub fn load(
        gpu: &Gpu,
        config: &Config,
        tensors: &ModelTensors<'_>,
        options: ForwardOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        block_on(Self::load_async(gpu, config, tensors, options, progress))
    }
}
