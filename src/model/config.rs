//! The config of a model. If a [`Config`] exists, peregrine can run the model.

mod entry;
mod gguf;
mod json;
mod keys;

pub(crate) use entry::ConfigEntry;
pub(super) use gguf::GgufKeys;
pub(super) use json::Json;
pub use keys::UnusedKeys;
pub(super) use keys::{Keys, asks_nothing};

use super::architecture::{Architecture, REGISTRY};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input::shown;
use serde_json::Value;

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The architecture, with the sizes that only it has.
    pub architecture: Architecture,
    /// Tokens, V: rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream, H.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Epsilon of the norms before each mixer and the head.
    pub norm_eps: f32,
    /// The head is the embedding, and the files have none.
    pub tied: bool,
    /// EOS tokens of config.json.
    pub eos: Vec<u32>,
}

/// Largest size of any dimension: products of two stay below 2^40, and every index of an activation below 2^32.
pub(super) const LARGEST: usize = 1 << 20;

impl Config {
    /// Reads a config.json of transformers or mamba_ssm. Sizes that it lacks come from the shapes of the weights. `file` is the
    /// name for messages.
    pub fn from_json(file: &str, value: &Value, source: &TensorSource) -> Result<Self> {
        let json = Json::new(file, value)?;
        let Some(entry) = REGISTRY.iter().find(|entry| (entry.claims)(&json)) else { return Err(unclaimed(&json)) };
        keys::check(&json)?;
        (entry.from_json)(&json, source)?.check(file)
    }

    /// Refuses a config.json of another architecture: a quick look, before the weights are there. `file` is the name for messages.
    pub fn check_architecture(file: &str, value: &Value) -> Result<()> {
        let json = Json::new(file, value)?;
        if REGISTRY.iter().any(|entry| (entry.claims)(&json)) { Ok(()) } else { Err(unclaimed(&json)) }
    }

    /// Refuses what the kernels do not run. `file` is the name for messages.
    pub(super) fn check(self, file: &str) -> Result<Self> {
        self.architecture.check(file)?;
        if self.layers > 4096 {
            let what = format!("{} layers", self.layers);
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what,
                hint: "supported are up to 4096".to_owned(),
            });
        }
        Ok(self)
    }

    /// Number of parameters, the head counted once if it is tied to the embedding.
    pub fn parameters(&self, tied: bool) -> u64 {
        let layer = self.architecture.layer_parameters(self.hidden);
        let table = self.vocab * self.hidden;
        (layer * self.layers + table * if tied { 1 } else { 2 } + self.hidden) as u64
    }
}

/// Why no architecture claims this config.json.
fn unclaimed(json: &Json<'_>) -> Error {
    const SUPPORTED: &str = "supported are falcon_mamba, mamba and mamba_ssm checkpoints";
    let architectures = json.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match (json.get("model_type"), json.get("error"), architectures) {
        (Some(kind), ..) if kind == "vim" => {
            json.unsupported("a model of pictures, Vision Mamba,", "the commands classify and features run it")
        }
        (Some(other), ..) => json.unsupported(format!("model_type {}", shown(other)), SUPPORTED),
        (None, Some(error), _) => {
            let found = format!("an error that a server sent instead of the file: {}", shown(error));
            let advice = "download it again, perhaps with a login".to_owned();
            Error::WrongKind { file: json.file.to_owned(), found, advice }
        }
        (None, None, []) => json.unsupported("a config without model_type", SUPPORTED),
        (None, None, [first, ..]) => {
            json.unsupported(format!("a config without model_type, of the architecture {},", shown(first)), SUPPORTED)
        }
    }
}

/// `eos_token_id` of a config or generation config: a number, a list, or absent.
pub fn eos_ids(json: &Value) -> Vec<u32> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match json.get("eos_token_id") {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => vec![],
    }
}
