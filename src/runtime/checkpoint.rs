//! A checkpoint: weights, shape, tokenizer, template and defaults, from a folder or compiled in.

use super::sampler::SamplingDefaults;
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::model::{Config, ModelTensors, eos_ids};
use crate::text::{Message, Span, Specials, Template, Tokenizer};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// A model as it was published. Opening maps its files and reads the small ones; weights stay where they are.
pub struct Checkpoint {
    label: String,
    source: Arc<TensorSource>,
    config: Config,
    tokenizer: Option<Tokenizer>,
    template: Option<Template>,
    eos: Vec<u32>,
    defaults: SamplingDefaults,
}

/// The small files of a checkpoint, by name.
type Read<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>>;

impl Checkpoint {
    /// Opens a folder in Hugging Face's layout: config.json, one or many .safetensors files, tokenizer.json,
    /// tokenizer_config.json and generation_config.json. Without the last three it still gives logits.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            return Err(Error::ModelNotFound { path: dir.to_owned() });
        }
        let read = |name: &str| {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::io("read", &path, e)),
            }
        };
        if read("config.json")?.is_none() {
            return Err(Error::IncompleteCheckpoint { dir: dir.to_owned(), missing: "config.json".to_owned() });
        }
        let name = |file: &str| dir.join(file).display().to_string();
        Self::assemble(&dir.display().to_string(), &name, TensorSource::open(dir)?, &read)
    }

    /// The model that is compiled in, tiny-chat.
    #[cfg(feature = "embedded-model")]
    pub fn embedded() -> Result<Self> {
        macro_rules! shipped {
            ($name:literal) => {
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-chat/", $name)).as_slice()
            };
        }
        let files = [
            ("config.json", shipped!("config.json")),
            ("generation_config.json", shipped!("generation_config.json")),
            ("tokenizer.json", shipped!("tokenizer.json")),
            ("tokenizer_config.json", shipped!("tokenizer_config.json")),
        ];
        let read = |name: &str| Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| bytes.to_vec()));
        let source = TensorSource::from_bytes("tiny-chat/model.safetensors", shipped!("model.safetensors"))?;
        Self::assemble("tiny-chat (compiled in)", &|file| format!("tiny-chat/{file}"), source, &read)
    }

    fn assemble(label: &str, name: &dyn Fn(&str) -> String, source: TensorSource, read: Read<'_>) -> Result<Self> {
        let json = |file: &str| -> Result<Value> {
            let Some(bytes) = read(file)? else { return Ok(Value::Null) };
            serde_json::from_slice(&bytes).map_err(|e| Error::BadJson { file: name(file), problem: e.to_string() })
        };
        let config = Config::from_json(&name("config.json"), &json("config.json")?, &source)?;
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
        let defaults = SamplingDefaults::from_generation_config(&generation);
        let mut checkpoint =
            Checkpoint { label: label.to_owned(), source: source.into(), config, tokenizer, template, eos, defaults };
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

    /// The tokenizer; an error that names the missing file where there is none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| Error::IncompleteCheckpoint {
            dir: self.label.clone().into(),
            missing: "tokenizer.json".to_owned(),
        })
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

    /// What generation_config.json says about sampling.
    pub fn defaults(&self) -> &SamplingDefaults {
        &self.defaults
    }

    /// Ids that the model has rows for but the tokenizer no token: they must never be chosen.
    pub fn ids_without_token(&self) -> Vec<u32> {
        let Some(tokenizer) = &self.tokenizer else { return vec![] };
        (0..u32::try_from(self.config.vocab).unwrap_or(u32::MAX)).filter(|id| tokenizer.bytes(*id).is_none()).collect()
    }

    /// A conversation in the model's own form, see [`Template::render`].
    pub fn render(&self, messages: &[Message], answer_next: bool) -> Result<Vec<Span>> {
        let template = self.template.as_ref().ok_or_else(|| Error::Template {
            file: self.label.clone(),
            problem: "tokenizer_config.json has no chat_template; this model continues text but does not chat"
                .to_owned(),
        })?;
        template.render(messages, answer_next, self.tokenizer()?.special_texts())
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

/// The template of chat_template.jinja (`own`, empty if there is none), else of tokenizer_config.json.
fn template(config: &Value, (file, own_file): (&str, &str), own: &[u8]) -> Result<Option<Template>> {
    // A token is given by its text, or by an object with it.
    let token = |key: &str| match config.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(object) => object.get("content").and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let (bos, eos) = (token("bos_token"), token("eos_token"));
    if !own.is_empty() {
        let problem = || Error::Template { file: own_file.to_owned(), problem: "it is not UTF-8 text".to_owned() };
        let source = std::str::from_utf8(own).map_err(|_| problem())?;
        return Template::new(own_file, source, &bos, &eos).map(Some);
    }
    let source = match config.get("chat_template") {
        Some(Value::String(source)) => source.as_str(),
        // Several by name: the one called "default".
        Some(Value::Array(named)) => {
            let is_default = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
            match named.iter().find(is_default).and_then(|t| t.get("template")).and_then(Value::as_str) {
                Some(source) => source,
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Template::new(file, source, &bos, &eos).map(Some)
}
