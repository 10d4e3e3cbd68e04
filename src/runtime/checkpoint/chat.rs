//! Rendering conversations with a checkpoint's chat template, and encoding the result.

use super::{Checkpoint, component::Component};
use crate::error::{Error, Result};
use crate::text::{Message, Span, Specials, Template, TokenizerSettings};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A checkpoint's chat template and special tokens.
pub(super) struct Chat {
    pub template: Component<Template>,
    /// Special tokens that templates may name.
    pub tokens: Map<String, Value>,
}

impl Chat {
    /// Those of tokenizer_config.json and chat_template.jinja, which takes precedence. `name` gives a file's name for messages.
    pub fn of_folder(
        settings: &TokenizerSettings,
        config: &Value,
        own: Option<&[u8]>,
        name: &dyn Fn(&str) -> String,
    ) -> Self {
        let tokens = settings.names();
        let file = name("tokenizer_config.json");
        let template = match own.filter(|own| !own.is_empty()) {
            Some(own) => {
                let file = name("chat_template.jinja");
                let bad = || Error::Template { file: file.clone(), problem: "it is not UTF-8 text".to_owned() };
                Component::of(
                    std::str::from_utf8(own).map_err(|_| bad()).and_then(|source| Template::new(&file, source)),
                )
            }
            None => match template_of(config) {
                Some(source) => Component::of(Template::new(&file, source)),
                None => {
                    Component::Missing(Error::Template { problem: no_template(&named(config), "chat_template"), file })
                }
            },
        };
        Chat { template, tokens }
    }
}

/// Why there is no default template, where templates of these names exist. `key` is where it would be.
pub(super) fn no_template(named: &[&str], key: &str) -> String {
    match named {
        [] => {
            format!("it has no {key}; this model continues text but does not chat, unless a template is given for it")
        }
        named => format!("its templates are named {}, and none \"default\"; give the one to use", named.join(", ")),
    }
}

/// The template in tokenizer_config.json; of several named ones, "default".
pub(in crate::runtime) fn template_of(config: &Value) -> Option<&str> {
    match config.get("chat_template")? {
        Value::String(source) => Some(source),
        Value::Array(named) => {
            let is_default = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
            named.iter().find(is_default)?.get("template")?.as_str()
        }
        named => named.get("default")?.as_str(),
    }
}

/// The names of the templates in tokenizer_config.json.
fn named(config: &Value) -> Vec<&str> {
    match &config["chat_template"] {
        Value::Array(named) => named.iter().filter_map(|template| template["name"].as_str()).collect(),
        Value::Object(named) => named.keys().map(String::as_str).collect(),
        _ => vec![],
    }
}

impl Checkpoint {
    /// Renders a conversation with the chat template; see [`Template::render`].
    pub fn render(&self, messages: &[Message], answer_next: bool) -> Result<Vec<Span>> {
        self.render_unless(&Arc::default(), messages, answer_next)
    }

    /// The same with functions that the model may call, which the template gets as `tools`.
    pub fn render_with_tools(&self, messages: &[Message], answer_next: bool, tools: &[Value]) -> Result<Vec<Span>> {
        let mut variables = self.chat.tokens.clone();
        variables.insert("tools".to_owned(), tools.into());
        let specials = self.tokenizer()?.special_texts();
        self.template()?.render_with(messages, answer_next, specials, &Value::Object(variables))
    }

    /// The same, until `cancelled` is set.
    pub(in crate::runtime) fn render_unless(
        &self,
        cancelled: &Arc<AtomicBool>,
        messages: &[Message],
        answer_next: bool,
    ) -> Result<Vec<Span>> {
        let template = self.template()?;
        let specials = self.tokenizer()?.special_texts();
        let tokens = Value::Object(self.chat.tokens.clone());
        template.render_unless(cancelled, (messages, answer_next), specials, &tokens)
    }

    /// Encodes a rendered conversation. Its structure may become special tokens; the text of messages never does.
    pub fn encode(&self, spans: &[Span]) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        let mut ids = Vec::new();
        for span in spans {
            ids.extend(match span.literal {
                true => tokenizer.encode(&span.text, Specials::Literal)?,
                false => tokenizer.encode_written(&span.text)?,
            });
        }
        Ok(ids)
    }
}
