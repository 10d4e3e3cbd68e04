//! Blocking forms of the calls of a Vision Mamba.

use super::{Class, FeatureOptions, Features, Picture, VisionCheckpoint, VisionModel, VisionOptions};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::model::Progress;
use pollster::block_on;

impl VisionModel {
    /// Blocking [`VisionModel::load_async`].
    pub fn load(
        gpu: &Gpu,
        checkpoint: VisionCheckpoint,
        options: VisionOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        block_on(Self::load_async(gpu, checkpoint, options, progress))
    }

    /// Blocking [`VisionModel::classify_async`].
    pub fn classify(
        &mut self,
        pictures: &[Picture],
        top: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<Class>>> {
        block_on(self.classify_async(pictures, top, progress))
    }

    /// Blocking [`VisionModel::logits_async`].
    pub fn logits(&mut self, pictures: &[Picture], progress: &mut dyn FnMut(usize)) -> Result<Vec<Vec<f32>>> {
        block_on(self.logits_async(pictures, progress))
    }

    /// Blocking [`VisionModel::features_async`].
    pub fn features(
        &mut self,
        pictures: &[Picture],
        wanted: &FeatureOptions,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Features>> {
        block_on(self.features_async(pictures, wanted, progress))
    }
}
