//! The registry of architectures. A new one is a folder beside `mamba/`, a line in [`REGISTRY`] and a variant of
//! [`Architecture`]; the compiler then lists what the variant must answer.

use super::capacity::Capacity;
use super::config::{Config, ConfigEntry, GgufKeys, Json, Keys};
use super::mamba::{self, Mamba};
use super::state::StateLayout;
use super::weights::Weights;
use crate::error::Result;
use crate::format::TensorSource;
use crate::format::gguf::Metadata;
use crate::gpu::Caps;
use crate::kernels::variants::Sizes;
use serde_json::{Map, Value};

// What general code holds of an architecture. It names their methods and never their fields, so that a second architecture makes
// enums of these and changes nothing else.
pub(super) use super::mamba::{
    Layer, LayerReference, LayerState as ReferenceState, PrefillScratch, TensorNames, Tuned, decode as record_decode,
    prefill as record_prefill,
};
pub use super::mamba::{LayerTensorId, LayerTensors, TensorId};

/// The names that mean an architecture, and the functions that read its configs.
pub(super) struct Entry {
    /// Whether a config.json is of it.
    pub(super) claims: fn(&Json<'_>) -> bool,
    /// Reads a config.json that it claims.
    pub(super) from_json: fn(&Json<'_>, &TensorSource) -> Result<Config>,
    /// `general.architecture` of its GGUF files.
    pub(super) gguf_name: &'static str,
    /// Reads the metadata of such a file.
    pub(super) from_gguf: fn(&GgufKeys<'_>, &TensorSource) -> Result<Config>,
    /// The values of [`Architecture::name`].
    pub(super) names: &'static [&'static str],
    /// Reads a [`Config::entry`] with one of these names.
    pub(super) from_entry: fn(&ConfigEntry<'_>) -> Result<Config, String>,
    /// The config of a published model by its name.
    pub(super) shape: fn(&str) -> Option<Config>,
}

/// All architectures.
pub(super) const REGISTRY: [Entry; 1] = [mamba::ENTRY];

/// The architecture of a model, with the sizes that only it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Architecture {
    /// Mamba-1: Mamba and Falcon Mamba.
    Mamba(Mamba),
}

impl Architecture {
    /// Its name, as `model_type` of transformers.
    pub fn name(&self) -> &'static str {
        match self {
            Architecture::Mamba(mamba) => mamba.name(),
        }
    }

    /// Its name for people.
    pub fn display_name(&self) -> &'static str {
        match self {
            Architecture::Mamba(mamba) => mamba.display_name(),
        }
    }

    /// Names and values of the sizes that only it has.
    pub fn dimensions(&self) -> impl Iterator<Item = (&'static str, usize)> {
        match self {
            Architecture::Mamba(mamba) => mamba.dimensions().into_iter(),
        }
    }

    /// Epsilon of the norms inside a mixer; `None` where it has none.
    pub fn inner_norm_eps(&self) -> Option<f32> {
        match self {
            Architecture::Mamba(mamba) => mamba.inner_norm_eps(),
        }
    }

    /// Changes the epsilon of the norms inside a mixer; `false` where it has none.
    pub fn set_inner_norm_eps(&mut self, eps: f32) -> bool {
        match self {
            Architecture::Mamba(mamba) => mamba.set_inner_norm_eps(eps),
        }
    }

    /// `general.architecture` of its GGUF files.
    pub(crate) fn gguf_name(&self) -> &'static str {
        match self {
            Architecture::Mamba(_) => mamba::ENTRY.gguf_name,
        }
    }

    /// The sizes that two copies of a model share, by name; those that every model has aside.
    pub(crate) fn identity(&self) -> Vec<(&'static str, String)> {
        match self {
            Architecture::Mamba(mamba) => mamba.identity(),
        }
    }

    /// Sets what an exported config.json must say and the original may lack.
    pub(crate) fn complete_json(&self, config: &mut Value) {
        match self {
            Architecture::Mamba(mamba) => mamba.complete_json(config),
        }
    }

    /// Sets what an exported GGUF file must say beside the keys of llama.cpp.
    pub(crate) fn complete_gguf(&self, keys: &mut Metadata) {
        match self {
            Architecture::Mamba(mamba) => mamba.complete_gguf(keys),
        }
    }

    /// Its keys in config.json.
    pub(super) fn json_keys(&self) -> Keys {
        match self {
            Architecture::Mamba(_) => mamba::JSON_KEYS,
        }
    }

    /// Its keys in GGUF files, without its name.
    pub(super) fn gguf_keys(&self) -> Keys {
        match self {
            Architecture::Mamba(_) => mamba::GGUF_KEYS,
        }
    }

    /// Refuses sizes that the kernels do not run. `file` is the name for messages.
    pub(super) fn check(&self, file: &str) -> Result<()> {
        match self {
            Architecture::Mamba(mamba) => mamba.check(file),
        }
    }

    /// Parameters of a layer.
    pub(super) fn layer_parameters(&self, hidden: usize) -> usize {
        match self {
            Architecture::Mamba(mamba) => mamba.layer_parameters(hidden),
        }
    }

    /// Rows and columns of the matrices of a layer.
    pub(super) fn layer_matrices(&self, hidden: usize) -> impl Iterator<Item = [usize; 2]> + Clone {
        match self {
            Architecture::Mamba(mamba) => mamba.layer_matrices(hidden).into_iter(),
        }
    }

    /// Bytes on the device of the vectors of a layer.
    pub(super) fn vector_bytes(&self, hidden: usize) -> usize {
        match self {
            Architecture::Mamba(mamba) => mamba.vector_bytes(hidden),
        }
    }

    /// Bytes of the largest of them.
    pub(super) fn largest_vector(&self) -> usize {
        match self {
            Architecture::Mamba(mamba) => mamba.largest_vector(),
        }
    }

    /// Segments that suit the adapter, where a full chunk is cut for the scan.
    pub(super) fn segments(&self, caps: &Caps, chunk: usize) -> usize {
        match self {
            Architecture::Mamba(mamba) => mamba.segments(caps, chunk),
        }
    }

    /// The sizes that forms of kernels are chosen by.
    pub(super) fn kernel_sizes(&self, weights: &Weights) -> Sizes {
        match self {
            Architecture::Mamba(mamba) => mamba.kernel_sizes(weights),
        }
    }
}

impl Config {
    /// What the state of a conversation consists of.
    pub fn state_layout(&self) -> StateLayout {
        let tensors = match &self.architecture {
            Architecture::Mamba(mamba) => mamba.state_tensors(self.layers),
        };
        StateLayout::new(tensors, self.vocab)
    }

    /// The config as state files write it; [`ConfigEntry::config`] reads it. It leaves out what varies between copies of a model.
    pub(crate) fn entry(&self) -> Map<String, Value> {
        match &self.architecture {
            Architecture::Mamba(mamba) => mamba.config_entry(self),
        }
    }

    /// A config.json of this config.
    pub(crate) fn to_json(&self, tied: bool) -> Value {
        match &self.architecture {
            Architecture::Mamba(mamba) => mamba.describe_json(self, tied),
        }
    }

    /// Sets the keys that llama.cpp's converter writes of this config.
    pub(crate) fn describe_gguf(&self, keys: &mut Metadata) {
        match &self.architecture {
            Architecture::Mamba(mamba) => mamba.describe_gguf(self, keys),
        }
    }

    /// Bytes of a row of the widest activation.
    pub(super) fn widest_row(&self) -> u64 {
        match &self.architecture {
            Architecture::Mamba(mamba) => mamba.widest_row(self.hidden),
        }
    }

    /// Bytes of the activations of the layers.
    pub(super) fn activation_bytes(&self, capacity: &Capacity) -> usize {
        match &self.architecture {
            Architecture::Mamba(mamba) => mamba.activation_bytes(self.hidden, capacity),
        }
    }
}
