//! A Mamba layer from the CPU twins of the kernels, in f64.

use super::sizes;
use super::tensors::LayerTensors;
use crate::kernels::maths::softplus;
use crate::kernels::{conv, dbc_norm, linear, rms_norm, scan};
use crate::model::config::Config;

/// The weights of a layer, widened to f32.
pub(in crate::model) struct LayerReference {
    norm: Vec<f32>,
    in_proj: Vec<f32>,
    conv_taps: Vec<f32>,
    x_proj: Vec<f32>,
    dt_proj: Vec<f32>,
    dt_bias: Vec<f32>,
    a_skip: Vec<f32>,
    out_proj: Vec<f32>,
}

/// The state of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) struct LayerState {
    /// `[K - 1, D]`, oldest first.
    conv: Vec<f64>,
    /// `[N, D]`.
    ssm: Vec<f64>,
}

impl LayerState {
    /// The state before any token.
    pub(in crate::model) fn zero(config: &Config) -> Self {
        let mamba = sizes(config);
        LayerState { conv: vec![0.0; (mamba.conv_kernel - 1) * mamba.inner], ssm: vec![0.0; mamba.state * mamba.inner] }
    }
}

impl LayerReference {
    /// Widens a layer's tensors.
    pub(in crate::model) fn new(tensors: &LayerTensors<'_>) -> Self {
        LayerReference {
            norm: tensors.norm.to_f32(),
            in_proj: tensors.in_proj.to_f32(),
            conv_taps: tensors.conv_taps(),
            x_proj: tensors.x_proj.to_f32(),
            dt_proj: tensors.dt_proj.to_f32(),
            dt_bias: tensors.dt_bias.to_f32(),
            a_skip: tensors.a_skip(),
            out_proj: tensors.out_proj.to_f32(),
        }
    }

    /// Passes the residual stream `[rows, H]` through the layer and advances its state. `tap` receives every intermediate value:
    /// `norm`, `x`, `z`, `conv`, `dt`, `B`, `C`, `delta`, `scan`, `gated`, `out`, `resid`.
    pub(in crate::model) fn forward(
        &self,
        config: &Config,
        x: &mut [f64],
        state: &mut LayerState,
        tap: &mut dyn FnMut(&str, &[f64]),
    ) {
        let (mamba, d) = (sizes(config), sizes(config).inner);
        let normed = rms_norm::cpu(x, &self.norm, config.norm_eps);
        tap("norm", &normed);
        let xz = linear::cpu(&normed, &self.in_proj, config.hidden);
        let half = |first: usize| -> Vec<f64> {
            xz.chunks_exact(2 * d).flat_map(|row| &row[first..first + d]).copied().collect()
        };
        let (u, z) = (half(0), half(d));
        tap("x", &u);
        tap("z", &z);
        let convolved = conv::cpu(&u, &self.conv_taps, d, &mut state.conv);
        tap("conv", &convolved);
        let projected = linear::cpu(&convolved, &self.x_proj, d);
        let [dt, b, c] = dbc_norm::cpu(&projected, mamba.dbc_layout(), mamba.inner_norm_eps());
        tap("dt", &dt);
        tap("B", &b);
        tap("C", &c);
        let mut delta = linear::cpu(&dt, &self.dt_proj, mamba.dt_rank);
        for (j, v) in delta.iter_mut().enumerate() {
            *v = softplus(*v + f64::from(self.dt_bias[j % d]));
        }
        tap("delta", &delta);
        let on = scan::CpuOperands { dt: &delta, x: &convolved, z: &z, b: &b, c: &c, a_skip: &self.a_skip };
        let (readout, gated) = scan::cpu(&on, &mut state.ssm, d);
        tap("scan", &readout);
        tap("gated", &gated);
        let out = linear::cpu(&gated, &self.out_proj, d);
        tap("out", &out);
        for (x, out) in x.iter_mut().zip(&out) {
            *x += out;
        }
        tap("resid", x);
    }
}
