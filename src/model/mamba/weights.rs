//! The weights of a Mamba layer on the device.

use super::tensors::LayerTensors;
use super::{Mamba, sizes};
use crate::error::Result;
use crate::gpu::Buf;
use crate::kernels::linear::Linear;
use crate::kernels::{ROW_ALIGN, conv, floats, scan};
use crate::model::config::Config;
use crate::model::recipe::Role;
use crate::model::weights::{Generator, Loader};

/// A layer's weights.
pub(in crate::model) struct Layer {
    pub(super) norm: Buf<f32>,
    pub(super) in_proj: Linear,
    pub(super) conv_taps: Buf<f32>,
    pub(super) x_proj: Linear,
    pub(super) dt_proj: Linear,
    pub(super) dt_bias: Buf<f32>,
    pub(super) a_skip: Buf<f32>,
    pub(super) out_proj: Linear,
}

impl Mamba {
    /// Rows and columns of the matrices of a layer: in_proj, x_proj, dt_proj, out_proj.
    pub(in crate::model) fn layer_matrices(&self, hidden: usize) -> [[usize; 2]; 4] {
        let (d, r) = (self.inner, self.dt_rank);
        [[2 * d, hidden], [self.x_proj_rows(), d], [d, r], [hidden, d]]
    }

    /// Bytes on the device of the vectors of a layer: norm, dt bias, taps with bias, A with the skip D.
    pub(in crate::model) fn vector_bytes(&self, hidden: usize) -> usize {
        let vector = |len: usize| floats(len.next_multiple_of(ROW_ALIGN));
        let packed = self.packed_bytes(self.conv_kernel + 1) + self.packed_bytes(self.state + 1);
        vector(hidden) + vector(self.inner) + packed
    }

    /// Bytes of the largest of them.
    pub(in crate::model) fn largest_vector(&self) -> usize {
        self.packed_bytes(self.state.max(self.conv_kernel) + 1)
    }

    /// Bytes of a buffer with `values` values a channel.
    fn packed_bytes(&self, values: usize) -> usize {
        floats(values * self.inner).next_multiple_of(16)
    }
}

impl Layer {
    /// Makes the buffers of a layer and lists their uploads.
    pub(in crate::model) fn load<'a>(loader: &mut Loader<'_, 'a>, tensors: &'a LayerTensors<'a>) -> Result<Self> {
        let [channels, states] = [tensors.a.shape[0], tensors.a.shape[1]];
        let taps = tensors.conv_weight.shape[2];
        let convolution: Vec<_> = [&tensors.conv_weight].into_iter().chain(&tensors.conv_bias).collect();
        Ok(Layer {
            norm: loader.vector(&tensors.norm)?,
            in_proj: loader.matrix(Role::Projection, &tensors.in_proj)?,
            conv_taps: loader.packed(&convolution, channels * (taps + 1), || tensors.conv_taps())?,
            x_proj: loader.matrix(Role::Projection, &tensors.x_proj)?,
            dt_proj: loader.matrix(Role::Projection, &tensors.dt_proj)?,
            dt_bias: loader.vector(&tensors.dt_bias)?,
            a_skip: loader.packed(&[&tensors.a, &tensors.skip], channels * (states + 1), || tensors.a_skip())?,
            out_proj: loader.matrix(Role::Projection, &tensors.out_proj)?,
        })
    }

    /// Made-up weights of a layer. Time steps and decays are as in a model before training, so that no state grows without
    /// bound.
    pub(in crate::model) fn made_up(made: &mut Generator<'_>, config: &Config, layer: usize) -> Result<Self> {
        let mamba = sizes(config);
        let Mamba { inner: d, state: n, conv_kernel: k, .. } = *mamba;
        let [in_proj, x_proj, dt_proj, out_proj] = mamba.layer_matrices(config.hidden);
        let name = |what: &str| format!("layer.{layer}.{what}");
        let dt_bias = made.dt_bias(d);
        let taps = conv::pack(&made.random.uniforms(d * k, -0.5, 0.5), &vec![0.0; d]);
        let a_log: Vec<f32> = (0..d).flat_map(|_| (1..=n).map(|n| (n as f32).ln())).collect();
        let a_skip = scan::pack(&a_log, &vec![1.0; d]);
        let matrix =
            |what: &str, [rows, columns]: [usize; 2]| made.matrix(&name(what), Role::Projection, rows, columns);
        Ok(Layer {
            norm: made.vector(&name("norm"), &vec![1.0; config.hidden])?,
            in_proj: matrix("in_proj", in_proj)?,
            conv_taps: made.vector(&name("conv"), &taps)?,
            x_proj: matrix("x_proj", x_proj)?,
            dt_proj: matrix("dt_proj", dt_proj)?,
            dt_bias: made.vector(&name("dt_bias"), &dt_bias)?,
            a_skip: made.vector(&name("A"), &a_skip)?,
            out_proj: matrix("out_proj", out_proj)?,
        })
    }

    /// Its matrices.
    pub(in crate::model) fn matrices(&self) -> [&Linear; 4] {
        [&self.in_proj, &self.x_proj, &self.dt_proj, &self.out_proj]
    }

    /// The matrices that a decode step multiplies by products of their own, with their names.
    pub(in crate::model) fn step_matrices(&self) -> [(&'static str, &Linear); 3] {
        [("in_proj", &self.in_proj), ("x_proj", &self.x_proj), ("out_proj", &self.out_proj)]
    }

    /// Whether the matrices whose results other products read are sharded by whole groups of rows.
    pub(in crate::model) fn cut_by_groups(&self) -> bool {
        self.dt_proj.cut_by_groups() && self.out_proj.cut_by_groups()
    }
}
