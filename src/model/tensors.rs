//! A model's tensors in its checkpoint, found by name and checked against the config.

use super::architecture::{LayerTensors, TensorId, TensorNames};
use super::config::Config;
use super::embeddings::Embeddings;
use super::naming::Naming;
use super::recipe::Role;
use super::unused::{self, Unused};
use crate::error::{Error, Result};
use crate::format::{Tensor, TensorSource};
use std::sync::Arc;

/// What each value of a tensor goes through on its way from one container to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueMap {
    /// It stays.
    Same,
    /// `-exp(v)`: A_log to A.
    MinusExp,
    /// `ln(-v)`: A to A_log.
    LogOfMinus,
}

impl ValueMap {
    /// Maps a value, in f64.
    pub(crate) fn of(self, value: f32) -> f32 {
        match self {
            ValueMap::Same => value,
            ValueMap::MinusExp => -f64::from(value).exp() as f32,
            ValueMap::LogOfMinus => (-f64::from(value)).ln() as f32,
        }
    }
}

/// All tensors of a model as the checkpoint stores them, their shapes checked.
pub struct ModelTensors<'a> {
    /// `[V, H]`.
    pub embedding: Tensor<'a>,
    /// Layers, in order.
    pub layers: Vec<LayerTensors<'a>>,
    /// `[H]`.
    pub norm_f: Tensor<'a>,
    /// `[V, H]`; absent where it is the embedding.
    pub head: Option<Tensor<'a>>,
    /// Tensors of the files that the model does not need.
    pub unused: Vec<Unused>,
    pub(super) source: &'a Arc<TensorSource>,
}

impl<'a> ModelTensors<'a> {
    /// Finds every tensor under the names of transformers, of mamba_ssm or of GGUF, with any prefix. Every tensor of the files
    /// must belong to the model or be known to be unneeded, else the model is refused.
    pub fn find(config: &Config, source: &'a Arc<TensorSource>) -> Result<Self> {
        let (vocab, hidden) = (config.vocab, config.hidden);
        let names = TensorNames::of(source)?;
        unused::refuse_foreign(source)?;
        if !names.has_layers() {
            let first = source.names().next().map_or(String::new(), |name| format!("; the first is {name}"));
            return Err(Error::MissingTensor {
                tensor: names.name(TensorId::Layer(0, LayerTensors::FIRST)),
                file: source.label().to_owned(),
                hint: format!("none of its {} tensors is of a layer of a Mamba model{first}", source.names().count()),
            });
        }
        let get = |id: TensorId, dims: &[usize]| source.get(&names.name(id), dims);
        let embedding = get(TensorId::Embedding, &[vocab, hidden])?;
        let layers = (0..config.layers).map(|layer| LayerTensors::find(config, source, &names, layer));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let norm_f = get(TensorId::FinalNorm, &[hidden])?;
        // A head in the files is used. mamba_ssm stores a tied head too: the same bytes are not loaded twice.
        let head = match names.has(TensorId::Head) {
            true => Some(get(TensorId::Head, &[vocab, hidden])?),
            false if !config.tied => {
                return Err(Error::MissingTensor {
                    tensor: names.name(TensorId::Head),
                    file: source.label().to_owned(),
                    hint: "config.json says that the head is not the embedding (tie_word_embeddings or tie_embeddings \
                           is false): is the checkpoint whole?"
                        .to_owned(),
                });
            }
            false => None,
        };
        let unused = unused::account(source, &names, config)?;
        let head = head.filter(|head| head.held_as() != embedding.held_as() || head.bytes != embedding.bytes);
        Ok(ModelTensors { embedding, layers, norm_f, head, unused, source })
    }

    /// All tensors in the order of the model: the embedding, the layers, the last norm, a head that is not tied.
    pub fn all(&self) -> impl Iterator<Item = (TensorId, &Tensor<'a>)> {
        let of_layers = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(i, layer)| layer.all().map(move |(id, tensor)| (TensorId::Layer(i, id), tensor)));
        let last = [Some((TensorId::FinalNorm, &self.norm_f)), self.head.as_ref().map(|head| (TensorId::Head, head))];
        std::iter::once((TensorId::Embedding, &self.embedding)).chain(of_layers).chain(last.into_iter().flatten())
    }

    /// How a tensor's values change for a container that names tensors so.
    pub(crate) fn value_map(&self, id: TensorId, to: Naming) -> ValueMap {
        match id {
            TensorId::Layer(i, id) => self.layers[i].value_map(id, to),
            TensorId::Embedding | TensorId::FinalNorm | TensorId::Head => ValueMap::Same,
        }
    }

    /// Releases the mapped memory of `bytes`, a piece of one of these tensors; see [`TensorSource::release`].
    pub fn release(&self, bytes: &[u8]) {
        self.source.release(bytes);
    }

    /// The matrices: what products and the embedding read.
    pub fn matrices(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.roles().map(|(_, tensor)| tensor)
    }

    /// The matrices with their roles.
    pub fn roles(&self) -> impl Iterator<Item = (Role, &Tensor<'a>)> {
        let tied = self.head.is_none();
        self.all().filter_map(move |(id, tensor)| Some((id.role(tied)?, tensor)))
    }

    /// Where the table of embeddings is kept: as wanted, but a tied head needs it on the device.
    pub fn embeddings(&self, wanted: Embeddings) -> Embeddings {
        if self.head.is_some() { wanted } else { Embeddings::Device }
    }

    /// Bytes of all tensors in their files.
    pub fn bytes(&self) -> u64 {
        self.all().map(|(_, tensor)| tensor.bytes.len() as u64).sum()
    }
}
