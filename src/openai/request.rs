//! Parsing of request bodies.

use super::chat::Chat;
use super::completions::{self, Prompt};
use super::constraint::AskedConstraint;
use super::fields::Fields;
use super::logprobs;
use super::request_error::{FieldPath, RequestError};
use super::sampling::{Limits, Settings, read_answers};
use super::tools::Tools;
use super::tools::calls::{CallForm, CallReader};
use crate::error::Result as Outcome;
use crate::runtime::{self, AnswerOptions, Checkpoint, Sampling, Session};
use crate::text::Specials;
use serde_json::Value;

/// An endpoint of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Chat completions: the next message of a conversation.
    Chat,
    /// Completions: the continuation of a text.
    Completions,
}

impl Endpoint {
    /// The endpoints by URL path.
    pub const PATHS: [(&str, Endpoint); 2] =
        [("/v1/chat/completions", Endpoint::Chat), ("/v1/completions", Endpoint::Completions)];

    /// The endpoint at a URL path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::PATHS.iter().find(|(known, _)| *known == path).map(|(_, endpoint)| *endpoint)
    }
}

/// A parsed request.
#[derive(Debug)]
pub struct Request {
    input: Input,
    settings: Settings,
    limits: Limits,
    answers: usize,
    logprobs: Option<usize>,
    constraint: Option<AskedConstraint>,
    tools: Option<Tools>,
    stream: bool,
    include_usage: bool,
    echo: bool,
    store: bool,
    state: Option<String>,
}

#[derive(Debug)]
enum Input {
    Chat(Chat),
    Completions(Vec<Prompt>),
}

impl Request {
    /// Parses a body and checks everything that does not depend on the model.
    pub fn parse(endpoint: Endpoint, body: &Value) -> Result<Self, RequestError> {
        let Some(map) = body.as_object() else {
            return Err(FieldPath::root().field("body").must_be(body, "an object"));
        };
        let mut fields = Fields::new(map, FieldPath::root());
        let state = fields.read("state", "the id of a state", Value::as_str)?.map(str::to_owned);
        let request = Request {
            input: match endpoint {
                Endpoint::Chat => Input::Chat(Chat::read(&mut fields, state.is_some())?),
                Endpoint::Completions => Input::Completions(completions::read(&mut fields)?),
            },
            settings: Settings::read(&mut fields)?,
            limits: Limits::read(&mut fields)?,
            answers: read_answers(&mut fields)?,
            logprobs: logprobs::read(&mut fields, endpoint)?,
            constraint: AskedConstraint::read(&mut fields)?,
            tools: match endpoint {
                Endpoint::Chat => Tools::read(&mut fields)?,
                Endpoint::Completions => None,
            },
            stream: fields.read("stream", "true or false", Value::as_bool)?.unwrap_or(false),
            include_usage: read_include_usage(&mut fields)?,
            echo: endpoint == Endpoint::Completions
                && fields.read("echo", "true or false", Value::as_bool)?.unwrap_or(false),
            store: fields.read("store", "true or false", Value::as_bool)?.unwrap_or(false),
            state,
        };
        fields.finish()?;
        if request.echo && (request.store || request.state.is_some()) {
            return Err(FieldPath::root().field("echo").error("cannot be used with store or state"));
        }
        if let Some(tools) = request.tools.as_ref().filter(|_| request.store || request.state.is_some()) {
            return Err(tools.path().error("cannot be used with store or state"));
        }
        if let Some(tools) = request.tools.as_ref().filter(|tools| tools.must_be_called()) {
            if request.constraint.is_some() {
                return Err(tools.path().error("cannot be required while another field constrains the answer"));
            }
            if !cfg!(feature = "grammar") {
                return Err(tools.path().error("cannot be required: this program cannot constrain answers"));
            }
        }
        Ok(request)
    }

    /// The endpoint of this request.
    pub fn endpoint(&self) -> Endpoint {
        match self.input {
            Input::Chat(_) => Endpoint::Chat,
            Input::Completions(_) => Endpoint::Completions,
        }
    }

    /// Whether the request asks for a streamed answer.
    pub fn streams(&self) -> bool {
        self.stream
    }

    /// Whether a streamed answer ends with a chunk that has the usage.
    pub fn includes_usage(&self) -> bool {
        self.include_usage
    }

    /// Whether answers begin with their prompt.
    pub fn echoes(&self) -> bool {
        self.echo
    }

    /// Whether the state after the answer is to be kept.
    pub fn stores(&self) -> bool {
        self.store
    }

    /// The id of the state that the request continues.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Whether it asks for one answer to one prompt, as a conversation does.
    pub fn is_one_answer(&self) -> bool {
        let prompts = if let Input::Completions(prompts) = &self.input { prompts.len() } else { 1 };
        prompts * self.answers == 1
    }

    /// Number of answers per prompt.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Checks the request against a model: token ids, whether its template offers tools, and whether its constraint can be compiled.
    pub fn fits(&self, checkpoint: &Checkpoint) -> Result<(), RequestError> {
        let vocab = checkpoint.config().vocab;
        match &self.input {
            Input::Chat(_) => self.tools.as_ref().map_or(Ok(()), |tools| tools.fits(checkpoint))?,
            Input::Completions(prompts) => prompts.iter().try_for_each(|prompt| prompt.fits(vocab))?,
        }
        self.settings.fits(vocab)?;
        self.constraint.as_ref().map_or(Ok(()), |constraint| constraint.fits(checkpoint))?;
        self.required_call(checkpoint).map_or(Ok(()), |call| call.fits(checkpoint))
    }

    /// The constraint on an answer that must call a tool.
    fn required_call(&self, checkpoint: &Checkpoint) -> Option<AskedConstraint> {
        let tools = self.tools.as_ref()?;
        AskedConstraint::on_call(CallForm::of(checkpoint), &tools.required_call()?, tools.path())
    }

    /// What separates calls from text in an answer, if the request offers tools.
    pub(super) fn call_reader(&self, checkpoint: &Checkpoint) -> Option<CallReader> {
        self.tools.as_ref().map(|_| CallReader::new(CallForm::of(checkpoint)))
    }

    /// The token ids of each prompt.
    pub fn prompts(&self, checkpoint: &Checkpoint) -> Outcome<Vec<Vec<u32>>> {
        match &self.input {
            Input::Chat(chat) => {
                let rendered = match &self.tools {
                    None => checkpoint.render(&chat.messages, true)?,
                    Some(tools) => checkpoint.render_with_tools(&chat.messages, true, tools.offered())?,
                };
                Ok(vec![checkpoint.encode(&rendered)?])
            }
            Input::Completions(prompts) => prompts.iter().map(|prompt| prompt.ids(checkpoint)).collect(),
        }
    }

    /// Reads the request's messages or prompt in an empty session, without an answer.
    pub async fn read_async(&self, session: &mut Session) -> Outcome<()> {
        session.clear_async().await?;
        match &self.input {
            Input::Chat(chat) => session.read_conversation_async(chat.messages.clone()).await,
            Input::Completions(prompts) => {
                let engine = session.engine().clone();
                for prompt in prompts {
                    session.feed_async(&prompt.ids(engine.checkpoint())?).await?;
                }
                Ok(())
            }
        }
    }

    /// What the answer follows in a session that holds the state which the request continues, or is empty.
    pub(super) fn continuation(&self, checkpoint: &Checkpoint, session: &Session) -> Outcome<runtime::Prompt> {
        match &self.input {
            Input::Chat(chat) if chat.messages.is_empty() => Ok(runtime::Prompt::Resume),
            Input::Chat(chat) => {
                let before = session.messages().iter().cloned();
                Ok(runtime::Prompt::Messages(before.chain(chat.messages.iter().cloned()).collect()))
            }
            Input::Completions(prompts) => {
                let ids = match prompts.first() {
                    Some(Prompt::Text(text)) if session.position() > 0 => {
                        checkpoint.tokenizer()?.encode(text, Specials::Parse)?
                    }
                    Some(prompt) => prompt.ids(checkpoint)?,
                    None => vec![],
                };
                Ok(runtime::Prompt::Ids(ids))
            }
        }
    }

    /// The sampling of answer `index` to a prompt: the request's settings, else the model's, else llama.cpp's. `seed` is used if
    /// the request has none.
    pub fn sampling(&self, checkpoint: &Checkpoint, seed: u64, index: usize) -> Sampling {
        let seed = self.settings.seed.unwrap_or(seed);
        self.settings.over(checkpoint.defaults(), seed.wrapping_add(index as u64))
    }

    /// The answer's limits and grammar. `max_tokens` is used if neither the request nor the model sets a limit.
    pub fn options(&self, checkpoint: &Checkpoint, max_tokens: Option<usize>) -> Outcome<AnswerOptions> {
        let call = self.required_call(checkpoint);
        let constraint = self.constraint.as_ref().or(call.as_ref());
        let grammar = constraint.map(|constraint| constraint.grammar(checkpoint)).transpose()?;
        Ok(AnswerOptions {
            max_tokens: self.limits.max_tokens.unwrap_or(checkpoint.defaults().max_tokens.or(max_tokens)),
            stop: self.limits.stop.clone(),
            logprobs: self.logprobs,
            grammar,
        })
    }
}

/// `stream_options: {"include_usage": true}`; its other fields are ignored.
fn read_include_usage(fields: &mut Fields<'_>) -> Result<bool, RequestError> {
    let path = fields.path("stream_options");
    let options = fields.read("stream_options", "an object", Value::as_object)?;
    match options.and_then(|options| options.get("include_usage")).filter(|value| !value.is_null()) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| path.field("include_usage").must_be(value, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(endpoint: Endpoint, more: Value) -> Result<Request, RequestError> {
        let mut body = match endpoint {
            Endpoint::Chat => json!({"messages": [{"role": "user", "content": "Hi"}]}),
            Endpoint::Completions => json!({"prompt": "Once"}),
        };
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Request::parse(endpoint, &body)
    }

    #[test]
    fn every_field_is_used_or_ignored_or_rejected_by_name() {
        for endpoint in [Endpoint::Chat, Endpoint::Completions] {
            let ignored = json!({
                "model": "any", "user": "me", "metadata": {"a": 1}, "store": true, "service_tier": "flex",
                "stream_options": {"include_usage": true}, "stream": false, "n": 1, "tools": null, "echo": false,
                "response_format": {"type": "text"}, "tool_choice": "auto", "mirostat": 0, "mirostat_tau": 5.0, "typical_p": 1, "frobnicate": null,
            });
            assert!(parse(endpoint, ignored).is_ok());
            for (name, value) in [
                ("min_tokens", json!(30)),
                ("typical_p", json!(0.2)),
                ("mirostat", json!(2)),
                ("no_repeat_ngram_size", json!(2)),
                ("bad_words", json!(["7"])),
                ("chat_template_kwargs", json!({"x": 1})),
                ("xtc_probability", json!(0.5)),
                ("suffix", json!("x")),
                ("temprature", json!(0.5)),
                ("max_length", json!(7)),
            ] {
                let error = parse(endpoint, json!({ name: value })).unwrap_err();
                assert_eq!(error.param.as_deref(), Some(name));
                assert!(error.message.starts_with(&format!("{name} is not ")), "{error}");
            }
        }
    }

    #[test]
    #[cfg(not(feature = "grammar"))]
    fn constraints_are_not_supported() {
        for (name, value) in [
            ("response_format", json!({"type": "json_object"})),
            ("grammar", json!("start: \"no\"")),
            ("json_schema", json!({"type": "object"})),
            ("guided_choice", json!(["a"])),
            ("structured_outputs", json!({"regex": "a"})),
        ] {
            let error = parse(Endpoint::Chat, json!({ name: value })).unwrap_err();
            assert!(error.message.starts_with(&format!("{name} is not supported")), "{error}");
        }
    }

    #[test]
    fn tools_are_for_chats_without_kept_states() {
        let tools = json!([{"type": "function", "function": {"name": "now"}}]);
        let required = parse(Endpoint::Chat, json!({"tools": tools, "tool_choice": "required"}));
        assert_eq!(required.is_ok_and(|request| request.tools.is_some()), cfg!(feature = "grammar"));
        for (endpoint, body) in [
            (Endpoint::Completions, json!({"tools": tools})),
            (Endpoint::Chat, json!({"tools": tools, "store": true})),
            (Endpoint::Chat, json!({"tools": tools, "state": "s"})),
            #[cfg(feature = "grammar")]
            (Endpoint::Chat, json!({"tools": tools, "tool_choice": "required", "guided_regex": "a"})),
        ] {
            assert_eq!(parse(endpoint, body).unwrap_err().param.as_deref(), Some("tools"));
        }
    }

    #[test]
    fn a_field_of_the_other_endpoint_is_unknown() {
        assert!(parse(Endpoint::Chat, json!({"prompt": "x"})).is_err());
        assert!(parse(Endpoint::Completions, json!({"messages": []})).is_err());
        assert!(parse(Endpoint::Completions, json!({"top_logprobs": 2})).is_err());
    }

    #[test]
    fn a_body_that_is_not_an_object_is_rejected() {
        for body in [json!(null), json!([1]), json!("x")] {
            assert!(Request::parse(Endpoint::Chat, &body).unwrap_err().message.contains("it must be an object"));
        }
    }
}
