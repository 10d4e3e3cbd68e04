//! The weights of a DeiT on the device.

use super::Deit;
use crate::error::Result;
use crate::format::WeightFormat;
use crate::gpu::{Buf, Gpu};
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::linear::Linear;
use crate::model::recipe::{Recipe, Role};
use crate::model::weights::Generator;

/// Weight and bias of a norm, padded.
pub(super) struct Norm {
    pub(super) weight: Buf<f32>,
    pub(super) bias: Buf<f32>,
}

impl Norm {
    /// With the model's epsilon.
    pub(super) fn with(&self, eps: f32) -> LayerNorm<'_> {
        LayerNorm { weight: &self.weight, bias: &self.bias, eps }
    }
}

/// A matrix and its bias, padded.
pub(super) struct Biased {
    pub(super) matrix: Linear,
    pub(super) bias: Buf<f32>,
}

/// A layer's weights.
pub(super) struct Layer {
    pub(super) norm1: Norm,
    pub(super) qkv: Biased,
    pub(super) proj: Biased,
    pub(super) norm2: Norm,
    pub(super) fc1: Biased,
    pub(super) fc2: Biased,
}

/// A DeiT's weights on the device. Positions belong to a resolution.
pub struct DeitWeights {
    pub(super) patch_embed: Linear,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Norm,
    pub(super) head: Biased,
}

impl DeitWeights {
    /// Made-up weights, their matrices generated on the device: a model of this cost without its files.
    pub fn made_up(gpu: &Gpu, deit: &Deit, format: WeightFormat) -> Result<Self> {
        let made = Generator::new(gpu, Recipe::To(format));
        let norm = |name: &str| -> Result<Norm> {
            Ok(Norm {
                weight: made.vector(name, &vec![1.0; deit.hidden])?,
                bias: made.vector(name, &vec![0.0; deit.hidden])?,
            })
        };
        let biased = |name: &str, role: Role, [rows, columns]: [usize; 2]| -> Result<Biased> {
            let bias = made.vector(name, &vec![0.0; rows])?;
            Ok(Biased { matrix: made.matrix(name, role, rows, columns)?, bias })
        };
        let [qkv, proj, fc1, fc2] = deit.layer_matrices();
        let layer = |i: usize| -> Result<Layer> {
            let at = |name: &str| format!("blocks.{i}.{name}");
            let matrix = |name: &str, shape| biased(&at(name), Role::Projection, shape);
            Ok(Layer {
                norm1: norm(&at("norm1"))?,
                qkv: matrix("attn.qkv", qkv)?,
                proj: matrix("attn.proj", proj)?,
                norm2: norm(&at("norm2"))?,
                fc1: matrix("mlp.fc1", fc1)?,
                fc2: matrix("mlp.fc2", fc2)?,
            })
        };
        let columns = deit.patches([deit.patch; 2]).columns();
        let weights = DeitWeights {
            patch_embed: made.matrix("patch_embed", Role::Projection, deit.hidden, columns)?,
            layers: (0..deit.layers).map(layer).collect::<Result<_>>()?,
            norm: norm("norm")?,
            head: biased("head", Role::Head, [deit.classes, deit.hidden])?,
        };
        gpu.flush()?;
        Ok(weights)
    }
}
