//! A checkpoint: weights, config, tokenizer, chat template and sampling defaults, from a folder, a GGUF file or memory.

mod chat;
mod component;
pub(super) mod defaults;
mod files;
pub(super) mod gguf;
mod memory;
mod near;

use super::sampler::{Sampling, SamplingDefaults};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input;
use crate::model::{Config, ModelTensors, UnusedKeys, eos_ids};
#[cfg(feature = "grammar")]
use crate::text::{Constraint, Grammar, Tokens};
use crate::text::{GrammarCompiler, Template, Tokenizer, TokenizerSettings};
use chat::Chat;
pub(super) use chat::template_of;
use component::Component;
use defaults::Defaults;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model as published. Opening maps its files and reads the small ones; weights stay on disk.
///
/// ```no_run
/// # fn main() -> peregrine::Result<()> {
/// use peregrine::Checkpoint;
/// let folder = Checkpoint::open("falcon-mamba-7b-instruct")?; // config.json, tokenizer.json, *.safetensors
/// let gguf = Checkpoint::open("falcon-mamba-7b-instruct-q8_0.gguf")?;
/// # Ok(())
/// # }
/// ```
pub struct Checkpoint {
    label: String,
    source: Arc<TensorSource>,
    config: Config,
    unused_keys: UnusedKeys,
    tokenizer: Component<Tokenizer>,
    chat: Chat,
    eos: Vec<u32>,
    defaults: Defaults,
    location: Location,
    grammars: GrammarCompiler,
}

/// Where a checkpoint is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// In memory.
    Memory {
        name: String,
        /// The name for messages.
        label: String,
        /// All but the weights.
        files: Arc<BTreeMap<String, Cow<'static, [u8]>>>,
    },
}

/// End-of-turn tokens of common chat formats.
const END_OF_TURN: &[&str] =
    &["<|im_end|>", "<|eot_id|>", "<|end|>", "<|end_of_turn|>", "<end_of_turn>", "<|end_of_text|>"];

/// Reads a small file of a checkpoint by its name.
type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

impl Checkpoint {
    /// Opens a GGUF file or a folder. A folder holds a single GGUF model and no .safetensors file, or has Hugging Face's layout:
    /// config.json, one or more .safetensors files, tokenizer.json, tokenizer_config.json and generation_config.json. Without the
    /// last three the model still makes logits.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let dir = path.as_ref();
        if gguf::is_gguf(dir) {
            return Self::open_gguf(dir);
        }
        if !dir.is_dir() {
            return Err(near::not_a_model(dir));
        }
        if let Some(file) = gguf::only_one_in(dir)? {
            return Self::open_gguf(&file);
        }
        let read = |name: &str| input::read_if_present(&dir.join(name));
        if read("config.json")?.is_none() {
            if dir.join("adapter_config.json").exists() {
                return Err(Error::Unsupported {
                    file: dir.display().to_string(),
                    what: "an adapter (LoRA) without its model".to_owned(),
                    hint: "merge it into the model first, with merge_and_unload of PEFT".to_owned(),
                });
            }
            return Err(Error::IncompleteCheckpoint { dir: dir.to_owned(), missing: "config.json".to_owned() });
        }
        let name = |file: &str| dir.join(file).display().to_string();
        Self::assemble(&name, TensorSource::open(dir)?, &read, Location::Folder(dir.to_owned()))
    }

    /// Refuses a folder whose config.json names an architecture that peregrine does not run. Reads no other file: a download asks this
    /// before it fetches the weights.
    pub fn check_architecture(dir: impl AsRef<Path>) -> Result<()> {
        let path = dir.as_ref().join("config.json");
        let bytes = std::fs::read(&path).map_err(|problem| Error::unreadable(&path, problem))?;
        let file = path.display().to_string();
        Config::check_architecture(&file, &input::json(&file, &bytes)?)
    }

    fn assemble(
        name: &dyn Fn(&str) -> String,
        source: TensorSource,
        read: Read<'_>,
        location: Location,
    ) -> Result<Self> {
        let json = |file: &str| -> Result<Value> {
            let Some(bytes) = read(file)? else { return Ok(Value::Null) };
            input::json(&name(file), &bytes)
        };
        let label = match &location {
            Location::Folder(path) | Location::Gguf(path) => path.display().to_string(),
            Location::Memory { label, .. } => label.clone(),
        };
        let said = json("config.json")?;
        let config = Config::from_json(&name("config.json"), &said, &source)?;
        let unused_keys = UnusedKeys::of_json(&config.architecture, &said);
        // Only text and chats need these two files.
        let settings = json("tokenizer_config.json").and_then(|config| {
            let map = json("special_tokens_map.json")?;
            Ok((TokenizerSettings::new(config.clone(), map), config))
        });
        let tokenizer = match (read("tokenizer.json")?, &settings) {
            (None, _) => Component::Missing(Error::IncompleteCheckpoint {
                dir: label.clone().into(),
                missing: "tokenizer.json".to_owned(),
            }),
            (Some(_), Err(error)) => Component::unusable(error),
            (Some(bytes), Ok((settings, _))) => {
                Component::of(Tokenizer::from_json_with(&name("tokenizer.json"), &bytes, settings))
            }
        };
        let file = name("generation_config.json");
        let (mut eos, defaults) = match json("generation_config.json") {
            Ok(generation) => (eos_ids(&generation), Defaults::of_json(file, &generation)),
            Err(error) => (vec![], Defaults::unreadable(file, error)),
        };
        if eos.is_empty() {
            eos.clone_from(&config.eos);
        }
        let chat = match &settings {
            Ok((settings, config)) => Chat::of_folder(settings, config, read("chat_template.jinja")?.as_deref(), name),
            Err(error) => Chat { template: Component::unusable(error), tokens: serde_json::Map::new() },
        };
        let source = Arc::new(source);
        let mut checkpoint = Checkpoint {
            label,
            source,
            config,
            unused_keys,
            tokenizer,
            chat,
            eos,
            defaults,
            location,
            grammars: GrammarCompiler::default(),
        };
        checkpoint.add_end_of_turn();
        Ok(checkpoint)
    }

    /// Its path, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The model's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights, their shapes checked against the config.
    pub fn tensors(&self) -> Result<ModelTensors<'_>> {
        ModelTensors::find(&self.config, &self.source)
    }

    /// Overrides the epsilon of the norms on dt, B and C. Fails for models without these norms.
    pub fn set_mixer_rms_eps(&mut self, eps: f32) -> Result<()> {
        let bad = |problem| Error::BadSetting { name: "mixer_rms_eps", value: eps.to_string(), problem };
        if !(0.0..1.0).contains(&eps) {
            return Err(bad("it must be a small number from 0 on"));
        }
        match self.config.architecture.set_inner_norm_eps(eps) {
            true => Ok(()),
            false => Err(bad("this model has no norms in its mixer")),
        }
    }

    /// The tokenizer; an error says why it is missing or unusable.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.get()
    }

    /// Overrides the tokenizer.
    pub fn set_tokenizer(&mut self, tokenizer: Tokenizer) {
        self.tokenizer = Component::Ready(tokenizer);
        self.add_end_of_turn();
    }

    /// Whether the checkpoint has a usable chat template.
    pub fn has_template(&self) -> bool {
        self.template().is_ok()
    }

    /// Whether the chat template mentions a name, such as a message's field.
    pub fn template_mentions(&self, name: &str) -> bool {
        self.template().is_ok_and(|template| template.mentions(name))
    }

    /// The chat template; an error says why it is missing or unusable.
    pub fn template(&self) -> Result<&Template> {
        self.chat.template.get()
    }

    /// Why the chat template cannot be used; `None` where it can, or where there is no template.
    pub fn template_problem(&self) -> Option<Error> {
        match &self.chat.template {
            Component::Unusable(_) => self.template().err(),
            Component::Ready(_) | Component::Missing(_) => None,
        }
    }

    /// Overrides the chat template. The special tokens that it may name are still the checkpoint's.
    pub fn set_template(&mut self, template: Template) {
        self.chat.template = Component::Ready(template);
        self.add_end_of_turn();
    }

    /// Adds end-of-turn tokens to the EOS tokens, even where the configs omit them.
    fn add_end_of_turn(&mut self) {
        if let (Component::Ready(tokenizer), Component::Ready(_)) = (&self.tokenizer, &self.chat.template) {
            let ids = END_OF_TURN.iter().filter_map(|token| tokenizer.id(token));
            self.eos.extend(ids.filter(|id| tokenizer.is_special(*id)));
        }
        self.eos.sort_unstable();
        self.eos.dedup();
        self.grammars = GrammarCompiler::default();
    }

    /// EOS tokens: each ends a text or an answer.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Compiles a constraint for its tokens; [`Error::BadConstraint`] says why it cannot be used. Time and memory are bounded for any
    /// constraint: a few seconds at most, and a few milliseconds for ordinary ones.
    #[cfg(feature = "grammar")]
    pub fn grammar(&self, constraint: &Constraint) -> Result<Grammar> {
        self.grammars
            .compile(constraint, &Tokens { tokenizer: self.tokenizer()?, eos: &self.eos, vocab: self.config.vocab })
    }

    /// Sampling defaults of generation_config.json or a GGUF file; see [`Checkpoint::sampling`].
    pub fn defaults(&self) -> &SamplingDefaults {
        &self.defaults.values
    }

    /// Sampling parameters: the values asked for, else the checkpoint's, else llama.cpp's defaults. An invalid value of the
    /// checkpoint that is not overridden is an error that names its file.
    pub fn sampling(&self, asked: &SamplingDefaults, seed: u64) -> Result<Sampling> {
        self.defaults.check(asked)?;
        Ok(asked.over(&self.defaults.values, seed))
    }

    /// Keys of config.json or of a GGUF file that have no effect.
    pub fn unused_keys(&self) -> &UnusedKeys {
        &self.unused_keys
    }

    /// Ids with a row in the model but no token in the tokenizer: they must never be sampled.
    pub fn ids_without_token(&self) -> Vec<u32> {
        let Ok(tokenizer) = self.tokenizer() else { return vec![] };
        (0..u32::try_from(self.config.vocab).unwrap_or(u32::MAX)).filter(|id| tokenizer.bytes(*id).is_none()).collect()
    }
}
