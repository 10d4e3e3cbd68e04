//! The same model from the CPU twins, in f64: slow, obvious, and the definition of right.

use super::config::{Config, Family};
use super::tensors::ModelTensors;
use crate::error::{Error, Result};
use crate::kernels::dbc_norm::DbcLayout;
use crate::kernels::maths::softplus;
use crate::kernels::{conv, dbc_norm, embed, linear, rms_norm, scan};

/// Weights of a layer, widened to f32.
struct Layer {
    norm: Vec<f32>,
    in_proj: Vec<f32>,
    conv_taps: Vec<f32>,
    x_proj: Vec<f32>,
    dt_proj: Vec<f32>,
    dt_bias: Vec<f32>,
    a_skip: Vec<f32>,
    out_proj: Vec<f32>,
}

/// A model on the CPU.
pub struct Reference {
    config: Config,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm_f: Vec<f32>,
    head: Option<Vec<f32>>,
}

/// The recurrent state of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// A layer: `[K - 1, D]`, oldest first.
    pub conv: Vec<Vec<f64>>,
    /// A layer: `[N, D]`.
    pub ssm: Vec<Vec<f64>>,
}

impl Reference {
    /// Widens a checkpoint's tensors.
    pub fn new(config: &Config, tensors: &ModelTensors<'_>) -> Self {
        Reference {
            config: config.clone(),
            embedding: tensors.embedding.to_f32(),
            layers: tensors
                .layers
                .iter()
                .map(|layer| Layer {
                    norm: layer.norm.to_f32(),
                    in_proj: layer.in_proj.to_f32(),
                    conv_taps: layer.conv_taps(),
                    x_proj: layer.x_proj.to_f32(),
                    dt_proj: layer.dt_proj.to_f32(),
                    dt_bias: layer.dt_bias.to_f32(),
                    a_skip: layer.a_skip(),
                    out_proj: layer.out_proj.to_f32(),
                })
                .collect(),
            norm_f: tensors.norm_f.to_f32(),
            head: tensors.head.as_ref().map(|head| head.to_f32()),
        }
    }

    /// The state before any token.
    pub fn start(&self) -> State {
        let c = &self.config;
        State {
            conv: vec![vec![0.0; (c.conv_kernel - 1) * c.inner]; c.layers],
            ssm: vec![vec![0.0; c.state * c.inner]; c.layers],
        }
    }

    /// Logits `[ids, V]` after each of `ids`, and the state after the last. Every value on the way goes to `tap`, by name:
    /// `embed`, `layer.{i}.{norm,x,z,conv,dt,B,C,delta,scan,gated,out,resid}`, `final_norm`.
    pub fn forward(&self, ids: &[u32], state: &mut State, mut tap: impl FnMut(&str, &[f64])) -> Result<Vec<f64>> {
        let c = &self.config;
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= c.vocab) {
            return Err(Error::IdOutOfRange { id: *id, at, vocab: c.vocab });
        }
        let mut x = embed::cpu(ids, &self.embedding, c.hidden);
        tap("embed", &x);
        for (i, (layer, (conv_state, h))) in
            self.layers.iter().zip(state.conv.iter_mut().zip(&mut state.ssm)).enumerate()
        {
            let mut tap = |name: &str, values: &[f64]| tap(&format!("layer.{i}.{name}"), values);
            let normed = rms_norm::cpu(&x, &layer.norm, c.norm_eps);
            tap("norm", &normed);
            let xz = linear::cpu(&normed, &layer.in_proj, c.hidden);
            let half = |first: usize| -> Vec<f64> {
                xz.chunks_exact(2 * c.inner).flat_map(|row| &row[first..first + c.inner]).copied().collect()
            };
            let (u, z) = (half(0), half(c.inner));
            tap("x", &u);
            tap("z", &z);
            let convolved = conv::cpu(&u, &layer.conv_taps, c.inner, conv_state);
            tap("conv", &convolved);
            let projected = linear::cpu(&convolved, &layer.x_proj, c.inner);
            let eps = match c.family {
                Family::Mamba => None,
                Family::FalconMamba { mixer_rms_eps } => Some(mixer_rms_eps),
            };
            let layout = DbcLayout { dt_rank: c.dt_rank, state: c.state };
            let [dt, b, c_out] = dbc_norm::cpu(&projected, layout, eps);
            tap("dt", &dt);
            tap("B", &b);
            tap("C", &c_out);
            let mut delta = linear::cpu(&dt, &layer.dt_proj, c.dt_rank);
            for (j, v) in delta.iter_mut().enumerate() {
                *v = softplus(*v + f64::from(layer.dt_bias[j % c.inner]));
            }
            tap("delta", &delta);
            let on = scan::CpuOperands { dt: &delta, x: &convolved, z: &z, b: &b, c: &c_out, a_skip: &layer.a_skip };
            let (readout, gated) = scan::cpu(&on, h, c.inner);
            tap("scan", &readout);
            tap("gated", &gated);
            let out = linear::cpu(&gated, &layer.out_proj, c.inner);
            tap("out", &out);
            for (x, out) in x.iter_mut().zip(&out) {
                *x += out;
            }
            tap("resid", &x);
        }
        let normed = rms_norm::cpu(&x, &self.norm_f, c.norm_eps);
        tap("final_norm", &normed);
        Ok(linear::cpu(&normed, self.head.as_ref().unwrap_or(&self.embedding), c.hidden))
    }
}
