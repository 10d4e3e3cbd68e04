//! The tensors of a Vision Mamba: names and shapes, and the values that kernels get of them.

use super::Vim;
use crate::error::{Error, Result};
use crate::format::{Tensor, TensorSource};
use crate::kernels::{conv, scan};
use std::collections::BTreeSet;

/// The tensors of one direction of a mixer.
pub struct Direction<'a> {
    /// `[D, 1, K]`.
    pub conv_weight: Tensor<'a>,
    /// `[D]`.
    pub conv_bias: Tensor<'a>,
    /// `[R + 2N, D]`.
    pub x_proj: Tensor<'a>,
    /// `[D, R]`.
    pub dt_proj: Tensor<'a>,
    /// `[D]`.
    pub dt_bias: Tensor<'a>,
    /// `[D, N]`.
    pub a_log: Tensor<'a>,
    /// `[D]`.
    pub skip: Tensor<'a>,
}

impl<'a> Direction<'a> {
    fn all(&self) -> [&Tensor<'a>; 7] {
        let Direction { conv_weight, conv_bias, x_proj, dt_proj, dt_bias, a_log, skip } = self;
        [a_log, skip, conv_weight, conv_bias, x_proj, dt_proj, dt_bias]
    }

    /// Taps and bias of the convolution, packed for the kernels.
    pub(super) fn taps(&self) -> Vec<f32> {
        conv::pack(&self.conv_weight.to_f32(), &self.conv_bias.to_f32())
    }

    /// A and the skip D, packed for the kernels.
    pub(super) fn a_skip(&self) -> Vec<f32> {
        scan::pack(&self.a_log.to_f32(), &self.skip.to_f32())
    }
}

/// The tensors of one layer.
pub struct VimLayer<'a> {
    /// `[E]`.
    pub norm: Tensor<'a>,
    /// `[2D, E]`: rows of u, then of z.
    pub in_proj: Tensor<'a>,
    /// From the first row to the last, and back.
    pub directions: [Direction<'a>; 2],
    /// `[E, D]`.
    pub out_proj: Tensor<'a>,
}

/// All tensors of a Vision Mamba as the checkpoint stores them, their shapes checked.
pub struct VimTensors<'a> {
    /// `[E, channels * P * P]`.
    pub patch_embed: Tensor<'a>,
    /// `[E]`.
    pub patch_bias: Tensor<'a>,
    /// `[1, 1, E]`.
    pub class_token: Tensor<'a>,
    /// `[1, tokens, E]`.
    pub positions: Tensor<'a>,
    /// Layers, in order.
    pub layers: Vec<VimLayer<'a>>,
    /// `[E]`.
    pub norm_f: Tensor<'a>,
    /// `[classes, E]` and `[classes]`.
    pub head: Option<[Tensor<'a>; 2]>,
    pub(super) source: &'a TensorSource,
}

impl<'a> VimTensors<'a> {
    /// Finds every tensor under the names of the released models. Every tensor of the files must belong to the model.
    pub fn find(vim: &Vim, source: &'a TensorSource) -> Result<Self> {
        let Vim { channels, patch, hidden: e, inner: d, state: n, dt_rank: r, conv_kernel: k, classes, .. } = *vim;
        let get = |name: &str, dims: &[usize]| source.get(name, dims);
        let layer = |i: usize| -> Result<VimLayer<'a>> {
            let of = |what: &str, dims: &[usize]| source.get(&format!("layers.{i}.{what}"), dims);
            let direction = |suffix: &str| -> Result<Direction<'a>> {
                let of = |what: String, dims: &[usize]| of(&format!("mixer.{what}"), dims);
                Ok(Direction {
                    conv_weight: of(format!("conv1d{suffix}.weight"), &[d, 1, k])?,
                    conv_bias: of(format!("conv1d{suffix}.bias"), &[d])?,
                    x_proj: of(format!("x_proj{suffix}.weight"), &[r + 2 * n, d])?,
                    dt_proj: of(format!("dt_proj{suffix}.weight"), &[d, r])?,
                    dt_bias: of(format!("dt_proj{suffix}.bias"), &[d])?,
                    a_log: of(format!("A{suffix}_log"), &[d, n])?,
                    skip: of(format!("D{suffix}"), &[d])?,
                })
            };
            Ok(VimLayer {
                norm: of("norm.weight", &[e])?,
                in_proj: of("mixer.in_proj.weight", &[2 * d, e])?,
                directions: [direction("")?, direction("_b")?],
                out_proj: of("mixer.out_proj.weight", &[e, d])?,
            })
        };
        let patch_embed = get("patch_embed.proj.weight", &[e, channels, patch, patch])?;
        let columns = channels * patch * patch;
        let tensors = VimTensors {
            patch_embed: Tensor { shape: vec![e, columns], ..patch_embed },
            patch_bias: get("patch_embed.proj.bias", &[e])?,
            class_token: get("cls_token", &[1, 1, e])?,
            positions: get("pos_embed", &[1, vim.patches(vim.image).tokens(), e])?,
            layers: (0..vim.layers).map(layer).collect::<Result<_>>()?,
            norm_f: get("norm_f.weight", &[e])?,
            head: match classes {
                0 => None,
                _ => Some([get("head.weight", &[classes, e])?, get("head.bias", &[classes])?]),
            },
            source,
        };
        tensors.refuse_others()?;
        Ok(tensors)
    }

    /// Refuses tensors that the model would ignore.
    fn refuse_others(&self) -> Result<()> {
        let used: BTreeSet<&str> = self.all().map(|tensor| tensor.name.as_str()).collect();
        let mut others = self.source.names().filter(|name| !used.contains(name));
        let Some(first) = others.next() else { return Ok(()) };
        Err(Error::UnusedTensor {
            tensor: first.to_owned(),
            file: self.source.file_of(first).unwrap_or_default().to_owned(),
            more: others.count(),
            hint: "it belongs to another variant of Vision Mamba; supported are those of the released models: bimamba v2, \
                   a class token, absolute positions, RMSNorm"
                .to_owned(),
        })
    }

    /// All tensors.
    pub fn all(&self) -> impl Iterator<Item = &Tensor<'a>> {
        let of_layers = self.layers.iter().flat_map(|layer| {
            let directions = layer.directions.iter().flat_map(Direction::all);
            [&layer.norm, &layer.in_proj, &layer.out_proj].into_iter().chain(directions)
        });
        [&self.patch_embed, &self.patch_bias, &self.class_token, &self.positions, &self.norm_f]
            .into_iter()
            .chain(of_layers)
            .chain(self.head.iter().flatten())
    }

    /// Bytes of all tensors in their files.
    pub fn bytes(&self) -> u64 {
        self.all().map(|tensor| tensor.bytes.len() as u64).sum()
    }
}
