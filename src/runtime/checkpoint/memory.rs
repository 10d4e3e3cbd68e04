//! Checkpoints whose files are in memory: compiled in, or fetched by a program that has no file system, as in a browser.

use super::{Checkpoint, Location};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file's name and bytes.
type File = (String, Cow<'static, [u8]>);

impl Checkpoint {
    /// Opens a model whose files are in memory: a GGUF file, or the files of a folder in Hugging Face's layout by their names, with
    /// any number of .safetensors files. `name` is the model's, for messages. The weights stay in memory as long as the checkpoint.
    ///
    /// ```no_run
    /// # fn fetch(_: &str) -> Vec<u8> { vec![] }
    /// # fn main() -> peregrine::Result<()> {
    /// use peregrine::Checkpoint;
    /// let names = ["config.json", "tokenizer.json", "model.safetensors"];
    /// let files = names.map(|name| (name.to_owned(), fetch(name)));
    /// let checkpoint = Checkpoint::from_files("my-model", files)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_files(name: &str, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self> {
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into())).collect();
        Self::of_memory(name, name, files)
    }

    /// The compiled-in model, tiny-chat.
    #[cfg(feature = "embedded-model")]
    pub fn embedded() -> Result<Self> {
        let files = TINY_CHAT.iter().map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes))).collect();
        Self::of_memory("tiny-chat", "tiny-chat (compiled in)", files)
    }

    fn of_memory(name: &str, label: &str, files: Vec<File>) -> Result<Self> {
        let missing = |file: &str| Error::IncompleteCheckpoint { dir: name.into(), missing: file.to_owned() };
        let (weights, small): (Vec<File>, Vec<File>) = files.into_iter().partition(|(name, _)| holds_weights(name));
        let small = Arc::new(BTreeMap::from_iter(small));
        let path = |file: &str| format!("{name}/{file}");
        let location = |files| Location::Memory { name: name.to_owned(), label: label.to_owned(), files };
        if small.contains_key("config.json") {
            let weights = weights.into_iter().map(|(name, bytes)| (path(&name), bytes));
            let source = TensorSource::from_files(name, weights)?;
            let read = |name: &str| Ok(small.get(name).map(|bytes| bytes.to_vec()));
            return Self::assemble(&path, source, &read, location(small.clone()));
        }
        match <[File; 1]>::try_from(weights) {
            Ok([(file, bytes)]) if file.ends_with(".gguf") => {
                Self::from_gguf(TensorSource::from_bytes(&file, bytes)?, location(small))
            }
            _ => Err(missing("config.json")),
        }
    }
}

fn holds_weights(name: &str) -> bool {
    [".safetensors", ".gguf"].iter().any(|ending| name.ends_with(ending))
}

/// The files of the compiled-in model.
#[cfg(feature = "embedded-model")]
const TINY_CHAT: &[(&str, &[u8])] = {
    macro_rules! files {
        ($($name:literal),*) => {
            &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat/", $name)))),*]
        };
    }
    files!("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
};
