//! The small files of a checkpoint, for exports.

use super::{Checkpoint, Location, gguf};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input;
use crate::text::TokenizerSettings;
use serde_json::{Map, Value, json};

impl Checkpoint {
    /// Where it is stored.
    pub(in crate::runtime) fn location(&self) -> &Location {
        &self.location
    }

    /// Its tensors.
    pub(in crate::runtime) fn source(&self) -> &TensorSource {
        &self.source
    }

    /// A small file of its folder; `None` where there is no such file or no folder.
    pub(in crate::runtime) fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.location {
            Location::Folder(dir) => input::read_if_present(&dir.join(name)),
            Location::Memory { files, .. } => Ok(files.get(name).map(|bytes| bytes.to_vec())),
            Location::Gguf(_) => Ok(None),
        }
    }

    /// [`Checkpoint::small_file`], parsed.
    pub(in crate::runtime) fn small_json(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.small_file(name)? else { return Ok(None) };
        input::json(&format!("{}: {name}", self.label), &bytes).map(Some)
    }

    /// tokenizer.json, completed by the files beside it; `None` where there is no such file or no folder.
    pub(in crate::runtime) fn tokenizer_json(&self) -> Result<Option<Value>> {
        let Some(mut json) = self.small_json("tokenizer.json")? else { return Ok(None) };
        let [config, map] = ["tokenizer_config.json", "special_tokens_map.json"].map(|name| self.small_json(name));
        TokenizerSettings::new(config?.unwrap_or_default(), map?.unwrap_or_default()).complete(&mut json);
        Ok(Some(json))
    }

    /// tokenizer.json and tokenizer_config.json of a GGUF file's tokenizer; `None` where it has none. An unsupported one is an
    /// error.
    pub(in crate::runtime) fn tokenizer_of_gguf(&self) -> Result<Option<(Value, Value)>> {
        let Some(metadata) = self.source.metadata() else { return Ok(None) };
        if matches!(metadata.text("tokenizer.ggml.model")?, None | Some("no_vocab")) {
            return Ok(None);
        }
        let vocabulary = gguf::vocabulary(metadata, self.config.vocab)?;
        let vocabulary = vocabulary.map_err(|problem| Error::Tokenizer { file: self.label.clone(), problem })?;
        let json = vocabulary.to_json(&self.label)?;
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        for (key, name) in gguf::TOKENS {
            let id = metadata.id(&format!("tokenizer.ggml.{key}_token_id"))?;
            if let Some(token) = id.and_then(|id| vocabulary.tokens.get(id as usize)) {
                config.insert(name.to_owned(), json!(token));
            }
        }
        for (name, added) in [("add_bos_token", vocabulary.around[0]), ("add_eos_token", vocabulary.around[1])] {
            config.insert(name.to_owned(), added.is_some().into());
        }
        if let Some(template) = metadata.text("tokenizer.chat_template")? {
            config.insert("chat_template".to_owned(), template.into());
        }
        Ok(Some((json, config.into())))
    }
}
