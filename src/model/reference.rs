//! The same model from the CPU twins of the kernels, in f64: slow and simple, the definition of right.

use super::architecture::{LayerReference, ReferenceState};
use super::config::Config;
use super::tensors::ModelTensors;
use crate::error::{Error, Result};
use crate::kernels::{embed, linear, rms_norm};

/// A model on the CPU.
pub struct Reference {
    config: Config,
    embedding: Vec<f32>,
    layers: Vec<LayerReference>,
    norm_f: Vec<f32>,
    head: Option<Vec<f32>>,
}

/// The recurrent state of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct State(Vec<ReferenceState>);

impl Reference {
    /// Widens a checkpoint's tensors.
    pub fn new(config: &Config, tensors: &ModelTensors<'_>) -> Self {
        Reference {
            config: config.clone(),
            embedding: tensors.embedding.to_f32(),
            layers: tensors.layers.iter().map(LayerReference::new).collect(),
            norm_f: tensors.norm_f.to_f32(),
            head: tensors.head.as_ref().map(|head| head.to_f32()),
        }
    }

    /// The state before any token.
    pub fn start(&self) -> State {
        State((0..self.config.layers).map(|_| ReferenceState::zero(&self.config)).collect())
    }

    /// Logits `[ids, V]` after each of `ids`, and the state after the last. `tap` receives every intermediate value by name:
    /// `embed`, those of each layer as `layer.{i}.NAME`, `final_norm`.
    pub fn forward(&self, ids: &[u32], state: &mut State, mut tap: impl FnMut(&str, &[f64])) -> Result<Vec<f64>> {
        let c = &self.config;
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= c.vocab) {
            return Err(Error::IdOutOfRange { id: *id, at, vocab: c.vocab });
        }
        let mut x = embed::cpu(ids, &self.embedding, c.hidden);
        tap("embed", &x);
        for (i, (layer, state)) in self.layers.iter().zip(&mut state.0).enumerate() {
            layer.forward(c, &mut x, state, &mut |name, values| tap(&format!("layer.{i}.{name}"), values));
        }
        let normed = rms_norm::cpu(&x, &self.norm_f, c.norm_eps);
        tap("final_norm", &normed);
        Ok(linear::cpu(&normed, self.head.as_ref().unwrap_or(&self.embedding), c.hidden))
    }
}
