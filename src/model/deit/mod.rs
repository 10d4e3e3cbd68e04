//! DeiT (Touvron et al., 2021, <https://arxiv.org/abs/2012.12877>), the vision transformer that Vision Mamba is compared with: a class
//! token before the patches, learned positions, layers of attention and an MLP, each behind a LayerNorm. It has made-up weights
//! only: it is here to be measured.

mod forward;
mod scratch;
#[cfg(test)]
mod tests;
mod weights;

pub use forward::DeitForward;
pub use weights::DeitWeights;

use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::Caps;
use crate::kernels::attention::{Heads, stored::Stored};
use crate::kernels::patches::Patches;
use crate::kernels::{floats, stride};
use crate::model::recipe::{Recipe, Role};
use scratch::Scratch;

/// How attention treats the scores of all tokens with all tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Tile by tile, without storing them: FlashAttention.
    Tiled,
    /// Stored for all heads, and again after softmax, as in the Vision Mamba paper's comparison.
    Stored,
}

impl Attention {
    /// Both.
    pub const ALL: [Attention; 2] = [Attention::Tiled, Attention::Stored];
}

impl std::fmt::Display for Attention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Attention::Tiled => "tiled",
            Attention::Stored => "stored",
        })
    }
}

/// Sizes of a DeiT.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deit {
    /// Channels of a picture.
    pub channels: usize,
    /// Side of a patch; patches do not overlap.
    pub patch: usize,
    /// Width of the residual stream, E.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Width of the MLP.
    pub mlp: usize,
    /// Classes.
    pub classes: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
}

impl Deit {
    /// DeiT-Ti, DeiT-S or DeiT-B: `deit-tiny`, `deit-small`, `deit-base`.
    pub fn named(name: &str) -> Option<Self> {
        let hidden = match name {
            "deit-tiny" => 192,
            "deit-small" => 384,
            "deit-base" => 768,
            _ => return None,
        };
        Some(Deit {
            channels: 3,
            patch: 16,
            hidden,
            layers: 12,
            heads: hidden / 64,
            mlp: 4 * hidden,
            classes: 1000,
            norm_eps: 1e-6,
        })
    }

    /// How pictures of a height and width are cut.
    pub fn patches(&self, [height, width]: [usize; 2]) -> Patches {
        Patches { width, height, channels: self.channels, patch: self.patch, step: self.patch, class_at: 0 }
    }

    /// The heads of a picture of `tokens` tokens.
    fn heads(&self, tokens: usize) -> Heads {
        Heads { tokens, heads: self.heads, width: self.hidden / self.heads }
    }

    /// Rows and columns of the matrices of a layer: qkv, proj, fc1, fc2.
    fn layer_matrices(&self) -> [[usize; 2]; 4] {
        let (e, m) = (self.hidden, self.mlp);
        [[3 * e, e], [e, e], [m, e], [e, m]]
    }

    /// Parameters, for pictures of a height and width.
    pub fn parameters(&self, image: [usize; 2]) -> usize {
        let (e, patches) = (self.hidden, self.patches(image));
        let layer: usize = self.layer_matrices().iter().map(|[rows, columns]| rows * (columns + 1)).sum();
        let ends = e * (patches.columns() + 1 + 1 + patches.tokens()) + 2 * e + self.classes * (e + 1);
        self.layers * (layer + 4 * e) + ends
    }

    /// Bytes of the weights on the device, without positions.
    pub fn weight_bytes(&self, format: WeightFormat) -> u64 {
        let matrix = |role: Role, [rows, columns]: [usize; 2]| {
            rows * Recipe::To(format).format(role, WeightFormat::F32, columns).device_row_bytes(columns)
        };
        let padded = |len: usize| floats(stride(len));
        let of_layer = |[rows, columns]: [usize; 2]| matrix(Role::Projection, [rows, columns]) + padded(rows);
        let layer: usize = self.layer_matrices().into_iter().map(of_layer).sum::<usize>() + 4 * padded(self.hidden);
        let patch_embed = matrix(Role::Projection, [self.hidden, self.patches([self.patch; 2]).columns()]);
        let head = matrix(Role::Head, [self.classes, self.hidden]) + padded(self.classes);
        (self.layers * layer + patch_embed + head + 2 * padded(self.hidden)) as u64
    }

    /// Bytes of positions and activations for a batch, before anything is allocated and whether or not an adapter can run it.
    pub fn activation_bytes(&self, batch: &PictureBatch) -> u64 {
        let heads = self.heads(self.patches(batch.image).tokens());
        let scores = match batch.attention {
            Attention::Tiled => 0,
            Attention::Stored => Stored::bytes(heads, batch.pictures),
        };
        let positions = floats(heads.tokens * stride(self.hidden)) as u64;
        positions + Scratch::bytes(self, batch) + scores
    }

    /// Refuses a batch that the adapter cannot bind or dispatch, whatever memory is free.
    pub fn check(&self, caps: &Caps, batch: &PictureBatch) -> Result<()> {
        let cut = self.patches(batch.image);
        if cut.across_and_down().contains(&0) {
            let [height, width] = batch.image;
            let problem = "a picture must be at least as large as a patch";
            return Err(Error::BadSetting { name: "image", value: format!("{height}x{width}"), problem });
        }
        if batch.pictures == 0 {
            let problem = "a batch has at least one picture";
            return Err(Error::BadSetting { name: "batch", value: "0".to_owned(), problem });
        }
        let rows = batch.pictures * cut.tokens();
        if rows > caps.max_groups as usize {
            let groups = u32::try_from(rows).unwrap_or(u32::MAX);
            return Err(Error::TooManyGroups { what: "rows of pictures".to_owned(), groups, limit: caps.max_groups });
        }
        let (bytes, limit) = (Scratch::largest(self, batch), caps.span_limit());
        if bytes > limit {
            return Err(Error::RowTooLarge { what: "activations of a batch of pictures".to_owned(), bytes, limit });
        }
        match batch.attention {
            Attention::Tiled => Ok(()),
            Attention::Stored => Stored::check(caps, self.heads(cut.tokens())),
        }
    }
}

/// The pictures of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureBatch {
    /// Height and width of a picture.
    pub image: [usize; 2],
    /// Pictures.
    pub pictures: usize,
    /// How attention is made.
    pub attention: Attention,
}
