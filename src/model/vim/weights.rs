//! The weights of a Vision Mamba on the device.

use super::Vim;
use super::tensors::{Direction, VimLayer, VimTensors};
use crate::error::Result;
use crate::format::WeightFormat;
use crate::gpu::{Buf, Gpu};
use crate::kernels::case::Random;
use crate::kernels::linear::Linear;
use crate::kernels::pictures::DIRECTIONS;
use crate::kernels::{conv, scan};
use crate::model::recipe::{Recipe, Role};
use crate::model::weights::{Generator, Loader, Progress};

/// A layer's weights.
pub(super) struct Layer {
    pub(super) norm: Buf<f32>,
    pub(super) in_proj: Linear,
    /// `[direction][K + 1, D]`.
    pub(super) taps: Buf<f32>,
    pub(super) x_proj: [Linear; DIRECTIONS],
    pub(super) dt_proj: [Linear; DIRECTIONS],
    pub(super) dt_bias: [Buf<f32>; DIRECTIONS],
    /// `[direction][N + 1, D]`.
    pub(super) a_skip: Buf<f32>,
    pub(super) out_proj: Linear,
}

/// What the positions of any resolution are made of, on the host.
pub(super) struct Embedding {
    /// `[tokens, E]` of the trained resolution.
    pub(super) positions: Vec<f32>,
    pub(super) class_token: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// A Vision Mamba's weights on the device, each matrix in the format that its recipe gives it.
pub struct VimWeights {
    pub(super) embedding: Embedding,
    pub(super) patch_embed: Linear,
    pub(super) layers: Vec<Layer>,
    pub(super) norm_f: Buf<f32>,
    /// With its bias, padded.
    pub(super) head: Option<(Linear, Buf<f32>)>,
}

impl VimWeights {
    /// Uploads a checkpoint piece by piece; `progress` is called as they arrive.
    pub fn load(
        gpu: &Gpu,
        tensors: &VimTensors<'_>,
        recipe: Recipe,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut loader = Loader::new(gpu, recipe);
        let embedding = Embedding {
            positions: tensors.positions.to_f32(),
            class_token: tensors.class_token.to_f32(),
            bias: tensors.patch_bias.to_f32(),
        };
        let patch_embed = loader.matrix(Role::Projection, &tensors.patch_embed)?;
        let mut layers = Vec::with_capacity(tensors.layers.len());
        for layer in &tensors.layers {
            layers.push(Layer::load(&mut loader, layer)?);
        }
        let norm_f = loader.vector(&tensors.norm_f)?;
        let head = match &tensors.head {
            None => None,
            Some([weight, bias]) => Some((loader.matrix(Role::Head, weight)?, loader.vector(bias)?)),
        };
        loader.run(tensors.bytes(), |piece| tensors.source.release(piece), progress)?;
        Ok(VimWeights { embedding, patch_embed, layers, norm_f, head })
    }

    /// Made-up weights of a shape, their matrices generated on the device: a model of this cost without its files.
    pub fn made_up(gpu: &Gpu, vim: &Vim, format: WeightFormat) -> Result<Self> {
        let mut made = Generator::new(gpu, Recipe::To(format));
        let patches = vim.patches(vim.image);
        let embedding = Embedding {
            positions: made.random.uniforms(patches.tokens() * vim.hidden, -0.02, 0.02),
            class_token: made.random.uniforms(vim.hidden, -0.02, 0.02),
            bias: vec![0.0; vim.hidden],
        };
        let patch_embed = made.matrix("patch_embed", Role::Projection, vim.hidden, patches.columns())?;
        let layers = (0..vim.layers).map(|i| Layer::made_up(&mut made, vim, i)).collect::<Result<_>>()?;
        let norm_f = made.vector("norm_f", &vec![1.0; vim.hidden])?;
        let head = match vim.classes {
            0 => None,
            classes => {
                let bias = made.vector("head.bias", &vec![0.0; classes])?;
                Some((made.matrix("head", Role::Head, classes, vim.hidden)?, bias))
            }
        };
        gpu.flush()?;
        Ok(VimWeights { embedding, patch_embed, layers, norm_f, head })
    }

    /// The formats of its matrices, joined by `+`.
    pub fn formats(&self) -> String {
        let of_layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.in_proj, &layer.out_proj].into_iter().chain(&layer.x_proj).chain(&layer.dt_proj));
        let ends = [&self.patch_embed].into_iter().chain(self.head.iter().map(|(head, _)| head));
        let mut names: Vec<&str> = of_layers.chain(ends).map(|matrix| matrix.format().name()).collect();
        names.sort_unstable();
        names.dedup();
        names.join("+")
    }
}

impl Layer {
    fn load<'a>(loader: &mut Loader<'_, 'a>, tensors: &'a VimLayer<'a>) -> Result<Self> {
        let VimLayer { norm, in_proj, directions, out_proj } = tensors;
        let [forward, backward] = directions;
        let [d, n] = [forward.a_log.shape[0], forward.a_log.shape[1]];
        let taps = forward.conv_weight.shape[2];
        let convs = [&forward.conv_weight, &forward.conv_bias, &backward.conv_weight, &backward.conv_bias];
        let scans = [&forward.a_log, &forward.skip, &backward.a_log, &backward.skip];
        Ok(Layer {
            norm: loader.vector(norm)?,
            in_proj: loader.matrix(Role::Projection, in_proj)?,
            taps: loader.packed(&convs, DIRECTIONS * d * (taps + 1), || {
                directions.iter().flat_map(Direction::taps).collect()
            })?,
            x_proj: [
                loader.matrix(Role::Projection, &forward.x_proj)?,
                loader.matrix(Role::Projection, &backward.x_proj)?,
            ],
            dt_proj: [
                loader.matrix(Role::Projection, &forward.dt_proj)?,
                loader.matrix(Role::Projection, &backward.dt_proj)?,
            ],
            dt_bias: [loader.vector(&forward.dt_bias)?, loader.vector(&backward.dt_bias)?],
            a_skip: loader
                .packed(&scans, DIRECTIONS * d * (n + 1), || directions.iter().flat_map(Direction::a_skip).collect())?,
            out_proj: loader.matrix(Role::Projection, out_proj)?,
        })
    }

    fn made_up(made: &mut Generator<'_>, vim: &Vim, layer: usize) -> Result<Self> {
        let (d, n, k) = (vim.inner, vim.state, vim.conv_kernel);
        let name = |what: &str| format!("layers.{layer}.{what}");
        let random_taps = |random: &mut Random| conv::pack(&random.uniforms(d * k, -0.5, 0.5), &vec![0.0; d]);
        let taps = [random_taps(&mut made.random), random_taps(&mut made.random)].concat();
        let a_log: Vec<f32> = (0..d).flat_map(|_| (1..=n).map(|n| (n as f32).ln())).collect();
        let a_skip = scan::pack(&a_log, &vec![1.0; d]).repeat(DIRECTIONS);
        let dt_biases: [Vec<f32>; DIRECTIONS] = std::array::from_fn(|_| made.dt_bias(d));
        let [in_proj, x_proj, dt_proj, x_proj_b, dt_proj_b, out_proj] = vim.layer_matrices();
        let matrix =
            |what: &str, [rows, columns]: [usize; 2]| made.matrix(&name(what), Role::Projection, rows, columns);
        Ok(Layer {
            norm: made.vector(&name("norm"), &vec![1.0; vim.hidden])?,
            in_proj: matrix("in_proj", in_proj)?,
            taps: made.vector(&name("conv"), &taps)?,
            x_proj: [matrix("x_proj", x_proj)?, matrix("x_proj_b", x_proj_b)?],
            dt_proj: [matrix("dt_proj", dt_proj)?, matrix("dt_proj_b", dt_proj_b)?],
            dt_bias: [made.vector(&name("dt_bias"), &dt_biases[0])?, made.vector(&name("dt_bias_b"), &dt_biases[1])?],
            a_skip: made.vector(&name("A"), &a_skip)?,
            out_proj: matrix("out_proj", out_proj)?,
        })
    }
}
