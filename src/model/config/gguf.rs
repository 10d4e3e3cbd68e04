//! The metadata of GGUF files, as far as it is about the model.

use super::keys::Use;
use super::{Config, LARGEST, UnusedKeys};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::format::gguf::{Metadata, Value};
use crate::model::architecture::{Architecture, REGISTRY};

/// Typed access to the keys of an architecture: `embedding_length` is `mamba.embedding_length`.
pub(crate) struct GgufKeys<'a> {
    pub(in crate::model) metadata: &'a Metadata,
    architecture: &'static str,
}

impl Config {
    /// Reads the metadata of a GGUF file.
    pub fn from_gguf(metadata: &Metadata, source: &TensorSource) -> Result<Self> {
        let said = metadata.text("general.architecture")?;
        let Some(entry) = REGISTRY.iter().find(|entry| said == Some(entry.gguf_name)) else {
            let what = said.map_or("no general.architecture".to_owned(), |a| format!("the architecture {a:?}"));
            let hint = "supported is mamba, which Falcon Mamba has as well".to_owned();
            return Err(Error::Unsupported { file: metadata.file().to_owned(), what, hint });
        };
        let keys = GgufKeys { metadata, architecture: entry.gguf_name };
        if let Some(other) = metadata.text("general.type")?.filter(|kind| *kind != "model") {
            return Err(keys.unsupported(format!("a GGUF file of the type {other:?}"), "give that of the model itself"));
        }
        (entry.from_gguf)(&keys, source)?.check(metadata.file())
    }
}

impl GgufKeys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.metadata.file().to_owned(), problem }
    }

    fn unsupported(&self, what: String, hint: &str) -> Error {
        Error::Unsupported { file: self.metadata.file().to_owned(), what, hint: hint.to_owned() }
    }

    /// Refuses these keys of other architectures, unless their values ask for nothing.
    pub(in crate::model) fn refuse(&self, keys: &[&str], hint: &str) -> Result<()> {
        for key in keys.iter().map(|key| self.key(key)) {
            let neutral = |value: &Value| value.is_zero() || (key.ends_with("_scale") && *value == Value::F32(1.0));
            if self.metadata.get(&key).is_some_and(|value| !neutral(value)) {
                return Err(self.unsupported(key, hint));
            }
        }
        Ok(())
    }

    /// A size.
    pub(in crate::model) fn size(&self, key: &str) -> Result<usize> {
        let key = self.key(key);
        let value = self.metadata.whole(&key)?.ok_or_else(|| self.bad(format!("{key} is missing")))?;
        let size = usize::try_from(value).ok().filter(|n| (1..=LARGEST).contains(n));
        size.ok_or_else(|| self.bad(format!("{key} is {value}, it must be from 1 to {LARGEST}")))
    }

    /// An epsilon under this whole key.
    pub(in crate::model) fn eps_at(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata.float(key)? {
            Some(eps) if !(0.0..1.0).contains(&eps) => {
                Err(self.bad(format!("{key} is {eps}, it must be a small number from 0 on")))
            }
            eps => Ok(eps),
        }
    }

    /// An epsilon.
    pub(in crate::model) fn eps(&self, key: &str) -> Result<Option<f32>> {
        self.eps_at(&self.key(key))
    }

    /// A flag; `false` where absent.
    pub(in crate::model) fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.metadata.flag(&self.key(key))?.unwrap_or(false))
    }

    /// The rows of a table of embeddings with this name.
    pub(in crate::model) fn vocab(&self, embedding: &str, source: &TensorSource) -> Result<usize> {
        let rows = source.shape(embedding).and_then(|shape| shape.first().copied());
        match rows {
            None => Err(Error::MissingTensor {
                tensor: embedding.to_owned(),
                file: self.metadata.file().to_owned(),
                hint: "the file holds no whole model".to_owned(),
            }),
            Some(rows) if rows > LARGEST => {
                Err(self.bad(format!("{embedding} has {rows} rows, it may have {LARGEST}")))
            }
            Some(rows) => Ok(rows),
        }
    }

    /// EOS tokens: the end of a text, of a turn and of a message.
    pub(in crate::model) fn eos(&self) -> Result<Vec<u32>> {
        let mut eos = Vec::new();
        for key in ["eos", "eot", "eom"] {
            eos.extend(self.metadata.id(&format!("tokenizer.ggml.{key}_token_id"))?);
        }
        Ok(eos)
    }
}

impl UnusedKeys {
    /// The unused keys of a GGUF file, whose config has this architecture. Keys that are not about the architecture, the text or
    /// the sampling only describe the file.
    pub fn of_gguf(architecture: &Architecture, metadata: &Metadata) -> Self {
        let mut unused = UnusedKeys::default();
        let prefix = format!("{}.", architecture.gguf_name());
        let of_architecture = architecture.gguf_keys();
        for (key, _) in metadata.entries() {
            let used =
                ["tokenizer.", "split.", "peregrine.", "general.sampling."].iter().any(|known| key.starts_with(known));
            if used || ["general.architecture", "general.type", "general.alignment"].contains(&key.as_str()) {
                continue;
            }
            match key.strip_prefix(&prefix) {
                None => unused.known.push(key.clone()),
                Some(of_model) => match of_architecture.find(of_model) {
                    Some(Use::Followed) => {}
                    Some(Use::Unneeded) => unused.known.push(key.clone()),
                    None => unused.unknown.push(key.clone()),
                },
            }
        }
        unused
    }
}
