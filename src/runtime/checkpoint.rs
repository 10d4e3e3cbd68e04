//! A checkpoint: weights, shape, tokenizer, template and defaults, from a folder, from a GGUF file or compiled in.

pub(super) mod defaults;
mod files;
pub(super) mod gguf;
mod near;

use super::sampler::{Sampling, SamplingDefaults};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input;
use crate::model::{Config, Family, ModelTensors, UnusedKeys, eos_ids};
use crate::text::{Message, Span, Specials, Template, Tokenizer};
use defaults::Defaults;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A model as it was published. Opening maps its files and reads the small ones; weights stay where they are.
pub struct Checkpoint {
    label: String,
    source: Arc<TensorSource>,
    config: Config,
    unused_keys: UnusedKeys,
    tokenizer: Option<Tokenizer>,
    /// Why there is none, where a file says more than that it is missing.
    no_tokenizer: Option<String>,
    template: Option<Template>,
    eos: Vec<u32>,
    defaults: Defaults,
    origin: Origin,
}

/// Where a checkpoint came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A folder.
    Folder(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
    /// This program.
    #[cfg_attr(not(feature = "embedded-model"), allow(dead_code, reason = "no model is compiled in"))]
    CompiledIn,
}

/// The small files of a checkpoint, by name.
type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

impl Checkpoint {
    /// Opens a GGUF file, or a folder: one that holds a single GGUF model and no .safetensors file, or one in Hugging Face's
    /// layout, with config.json, one or many .safetensors files, tokenizer.json, tokenizer_config.json and
    /// generation_config.json. Without the last three it still gives logits.
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
        let read = |name: &str| {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::unreadable(&path, e)),
            }
        };
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
        Self::assemble(&name, TensorSource::open(dir)?, &read, Origin::Folder(dir.to_owned()))
    }

    /// The model that is compiled in, tiny-chat.
    #[cfg(feature = "embedded-model")]
    pub fn embedded() -> Result<Self> {
        let read = |name: &str| Ok(shipped(name).map(<[u8]>::to_vec));
        let weights = shipped("model.safetensors").expect("it is compiled in");
        let source = TensorSource::from_bytes("tiny-chat/model.safetensors", weights)?;
        Self::assemble(&|file| format!("tiny-chat/{file}"), source, &read, Origin::CompiledIn)
    }

    fn assemble(name: &dyn Fn(&str) -> String, source: TensorSource, read: Read<'_>, origin: Origin) -> Result<Self> {
        let json = |file: &str| -> Result<Value> {
            let Some(bytes) = read(file)? else { return Ok(Value::Null) };
            input::json(&name(file), &bytes)
        };
        let said = json("config.json")?;
        let config = Config::from_json(&name("config.json"), &said, &source)?;
        let unused_keys = UnusedKeys::of_json(&said);
        let tokenizer = match read("tokenizer.json")? {
            Some(bytes) => Some(Tokenizer::from_json(&name("tokenizer.json"), &bytes)?),
            None => None,
        };
        let generation = json("generation_config.json")?;
        let mut eos = eos_ids(&generation);
        if eos.is_empty() {
            eos.clone_from(&config.eos);
        }
        let own = read("chat_template.jinja")?.unwrap_or_default();
        let template = template(
            &json("tokenizer_config.json")?,
            (&name("tokenizer_config.json"), &name("chat_template.jinja")),
            &own,
        )?;
        let defaults = Defaults::of_json(name("generation_config.json"), &generation);
        let label = match &origin {
            Origin::Folder(path) | Origin::Gguf(path) => path.display().to_string(),
            Origin::CompiledIn => "tiny-chat (compiled in)".to_owned(),
        };
        let source = Arc::new(source);
        let mut checkpoint = Checkpoint {
            label,
            source,
            config,
            unused_keys,
            tokenizer,
            no_tokenizer: None,
            template,
            eos,
            defaults,
            origin,
        };
        checkpoint.end_turns();
        Ok(checkpoint)
    }

    /// Where it came from.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The weights, each with its shape checked against the config.
    pub fn tensors(&self) -> Result<ModelTensors<'_>> {
        ModelTensors::find(&self.config, &self.source)
    }

    /// Takes another epsilon for the norms on dt, B and C than the checkpoint's; refused for models without them.
    pub fn set_mixer_rms_eps(&mut self, eps: f32) -> Result<()> {
        let bad = |problem| Error::BadSetting { name: "mixer_rms_eps", value: eps.to_string(), problem };
        if !(0.0..1.0).contains(&eps) {
            return Err(bad("it must be a small number from 0 on"));
        }
        match &mut self.config.family {
            Family::FalconMamba { mixer_rms_eps } => *mixer_rms_eps = eps,
            Family::Mamba => return Err(bad("this model is plain Mamba, which has no norms in its mixer")),
        }
        Ok(())
    }

    /// The tokenizer; an error that says why there is none, or names the missing file.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| match &self.no_tokenizer {
            Some(problem) => Error::Tokenizer { file: self.label.clone(), problem: problem.clone() },
            None => {
                Error::IncompleteCheckpoint { dir: self.label.clone().into(), missing: "tokenizer.json".to_owned() }
            }
        })
    }

    /// Takes another tokenizer than the checkpoint's.
    pub fn set_tokenizer(&mut self, tokenizer: Tokenizer) {
        self.tokenizer = Some(tokenizer);
        self.end_turns();
    }

    /// Whether the checkpoint brings a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// Takes another chat template than the checkpoint's.
    pub fn set_template(&mut self, template: Template) {
        self.template = Some(template);
        self.end_turns();
    }

    /// The end of a turn ends an answer, whether or not the configs say so.
    fn end_turns(&mut self) {
        if let (Some(tokenizer), Some(_)) = (&self.tokenizer, &self.template) {
            self.eos.extend(tokenizer.id("<|im_end|>").filter(|id| tokenizer.is_special(*id)));
        }
        self.eos.sort_unstable();
        self.eos.dedup();
    }

    /// Tokens that end a text or an answer.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// What generation_config.json, or a GGUF file, says about sampling; see [`Checkpoint::sampling`].
    pub fn defaults(&self) -> &SamplingDefaults {
        &self.defaults.values
    }

    /// Values that somebody asks for, over the checkpoint's, over llama.cpp's. A value of the checkpoint that cannot be and that
    /// nothing stands over is an error that names its file.
    pub fn sampling(&self, asked: &SamplingDefaults, seed: u64) -> Result<Sampling> {
        self.defaults.check(asked)?;
        Ok(asked.over(&self.defaults.values, seed))
    }

    /// Keys of config.json, or of a GGUF file, that nothing is computed with.
    pub fn unused_keys(&self) -> &UnusedKeys {
        &self.unused_keys
    }

    /// Ids that the model has rows for but the tokenizer no token: they must never be chosen.
    pub fn ids_without_token(&self) -> Vec<u32> {
        let Some(tokenizer) = &self.tokenizer else { return vec![] };
        (0..u32::try_from(self.config.vocab).unwrap_or(u32::MAX)).filter(|id| tokenizer.bytes(*id).is_none()).collect()
    }

    /// A conversation in the model's own form, see [`Template::render`].
    pub fn render(&self, messages: &[Message], answer_next: bool) -> Result<Vec<Span>> {
        self.render_unless(&Arc::default(), messages, answer_next)
    }

    /// The same, but for somebody who cancels it.
    pub(super) fn render_unless(
        &self,
        cancelled: &Arc<AtomicBool>,
        messages: &[Message],
        answer_next: bool,
    ) -> Result<Vec<Span>> {
        let template = self.template.as_ref().ok_or_else(|| Error::Template {
            file: self.label.clone(),
            problem: "tokenizer_config.json has no chat_template; this model continues text but does not chat"
                .to_owned(),
        })?;
        let specials = self.tokenizer()?.special_texts();
        template.render_unless(cancelled, (messages, answer_next), specials, &Value::Null)
    }

    /// The ids of a rendered conversation: its structure becomes special tokens, what people typed never does.
    pub fn encode(&self, spans: &[Span]) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut ids = Vec::new();
        for span in spans {
            ids.extend(tokenizer.encode(&span.text, if span.literal { Specials::Literal } else { Specials::Parse })?);
        }
        Ok(ids)
    }
}

/// A file of the model that is compiled in.
#[cfg(feature = "embedded-model")]
pub(super) fn shipped(name: &str) -> Option<&'static [u8]> {
    macro_rules! files {
        ($($name:literal),*) => {
            match name {
                $($name => Some(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat/", $name))),)*
                _ => None,
            }
        };
    }
    files!("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
}

#[cfg(not(feature = "embedded-model"))]
pub(super) fn shipped(_: &str) -> Option<&'static [u8]> {
    None
}

/// A token of tokenizer_config.json: given by its text, or by an object with it.
pub(super) fn token<'a>(config: &'a Value, key: &str) -> &'a str {
    match config.get(key) {
        Some(Value::String(text)) => text,
        Some(object) => object.get("content").and_then(Value::as_str).unwrap_or_default(),
        None => "",
    }
}

/// The template in tokenizer_config.json.
pub(super) fn template_of(config: &Value) -> Option<&str> {
    match config.get("chat_template")? {
        Value::String(source) => Some(source),
        // Several by name: the one called "default".
        Value::Array(named) => {
            let is_default = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
            named.iter().find(is_default)?.get("template")?.as_str()
        }
        _ => None,
    }
}

/// The template of chat_template.jinja (`own`, empty if there is none), else of tokenizer_config.json.
fn template(config: &Value, (file, own_file): (&str, &str), own: &[u8]) -> Result<Option<Template>> {
    let (bos, eos) = (token(config, "bos_token"), token(config, "eos_token"));
    if !own.is_empty() {
        let source = input::text(own_file, own)?;
        return Template::new(own_file, source, bos, eos).map(Some);
    }
    template_of(config).map(|source| Template::new(file, source, bos, eos)).transpose()
}
