//! A line of a batch: what it asks for, and the line that answers it. The fields are OpenAI's, with llama.cpp's settings of
//! sampling beside them.

use crate::cli::interrupt::Interrupt;
use peregrine::runtime::{AnswerOptions, Checkpoint, Finish, Sampling, SamplingDefaults, Session};
use peregrine::text::{Message, Specials};
use peregrine::{Error, Result};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line of the input.
pub struct Line {
    /// From 1 on.
    pub number: usize,
    pub custom_id: Option<String>,
    pub request: std::result::Result<Request, Refusal>,
}

/// Why a request is not worked on.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    message: String,
    /// The field that is wrong.
    param: Option<&'static str>,
    scope: Scope,
}

/// What a refusal is the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The request of a custom_id.
    Request,
    /// A line without a custom_id of its own.
    Line,
}

/// What is asked for.
pub struct Request {
    what: What,
    sampling: SamplingDefaults,
    body: Map<String, Value>,
    options: AnswerOptions,
}

enum What {
    Chat(Vec<Message>),
    Completion(Vec<Prompt>),
}

enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

/// A line of the output.
pub struct Reply {
    pub line: Value,
    /// Tokens generated.
    pub tokens: u64,
    pub failed: bool,
}

/// Fields that would change an answer, and that nothing here follows.
const UNSUPPORTED: &[&str] = &[
    "tools",
    "functions",
    "response_format",
    "logprobs",
    "top_logprobs",
    "best_of",
    "echo",
    "suffix",
    "stream",
    "audio",
];

impl Line {
    /// Reads a line; what is wrong with it is kept beside its id, as far as it has one.
    pub fn parse(number: usize, text: &[u8]) -> Self {
        let value: Value = match serde_json::from_slice(text) {
            Ok(value) => value,
            Err(error) => {
                let refusal = Refusal::of_line(format!("not JSON: {error}"), None);
                return Line { number, custom_id: None, request: Err(refusal) };
            }
        };
        let custom_id = value["custom_id"].as_str().map(str::to_owned);
        let request = match &custom_id {
            None => Err(Refusal::of_line("it has no custom_id, a text".to_owned(), Some("custom_id"))),
            Some(_) => Request::parse(&value),
        };
        Line { number, custom_id, request }
    }

    /// As a line whose id stands before it in the input.
    pub fn repeated(self) -> Self {
        let message = "this custom_id stands on an earlier line already".to_owned();
        Line { request: Err(Refusal::of_line(message, Some("custom_id"))), ..self }
    }

    /// Whether its answer goes by its number: it has no custom_id, or that of another line.
    pub fn is_refused_as_line(&self) -> bool {
        matches!(&self.request, Err(refusal) if refusal.scope == Scope::Line)
    }

    /// The answer to a line that is not worked on.
    pub fn refused(&self, Refusal { message, param, scope }: &Refusal) -> Reply {
        let line = match scope {
            Scope::Request => self.answered(400, error_body(message, "invalid_request_error", *param)),
            Scope::Line => {
                let message = format!("line {}: {message}", self.number);
                let error = json!({"code": "invalid_request", "message": message, "param": param, "line": self.number});
                json!({"id": self.id(), "custom_id": self.custom_id, "response": null, "error": error})
            }
        };
        Reply { line, tokens: 0, failed: true }
    }

    fn id(&self) -> String {
        format!("batch_req_{}", self.number)
    }

    fn answered(&self, status: u16, body: Value) -> Value {
        let response = json!({"status_code": status, "request_id": format!("req_{}", self.number), "body": body});
        json!({"id": self.id(), "custom_id": self.custom_id, "response": response, "error": null})
    }
}

fn error_body(message: &str, kind: &str, param: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": null}})
}

impl Refusal {
    fn of(message: String, param: Option<&'static str>) -> Self {
        Refusal { message, param, scope: Scope::Request }
    }

    fn of_line(message: String, param: Option<&'static str>) -> Self {
        Refusal { message, param, scope: Scope::Line }
    }
}

/// A field that may be missing or null; one that is of another kind is refused.
fn field<T>(
    body: &Map<String, Value>,
    name: &'static str,
    kind: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> std::result::Result<Option<T>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::of(format!("{name} is {value}: it must be {kind}"), Some(name))),
        },
    }
}

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|v| v as f32)
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

/// A text, or the texts of a list's parts.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str()).collect(),
        _ => None,
    }
}

fn messages(value: &Value) -> Option<Vec<Message>> {
    let messages = value.as_array()?.iter().map(|m| Some(Message::new(m["role"].as_str()?, text(&m["content"])?)));
    messages.collect::<Option<Vec<_>>>().filter(|messages| !messages.is_empty())
}

fn prompts(value: &Value) -> Option<Vec<Prompt>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        value => ids(value).map(Prompt::Ids),
    };
    match value {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list.iter().map(one).collect(),
        value => Some(vec![one(value)?]),
    }
}

fn stops(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(stop) => Some(vec![stop.clone()]),
        value => value.as_array()?.iter().map(|stop| stop.as_str().map(str::to_owned)).collect(),
    }
}

/// `{"15043": -100}`, as pairs.
fn biases(value: &Value) -> Option<Vec<(u32, f32)>> {
    let biases = value.as_object()?.iter().map(|(id, bias)| Some((id.parse().ok()?, number(bias)?)));
    biases.collect()
}

impl Request {
    fn parse(value: &Value) -> std::result::Result<Self, Refusal> {
        let Some(body) = value["body"].as_object() else {
            return Err(Refusal::of("it has no body, an object".to_owned(), Some("body")));
        };
        if let Some(name) = UNSUPPORTED.iter().find(|name| asks(body.get(**name))) {
            return Err(Refusal::of(format!("{name} is not supported"), Some(name)));
        }
        if field(body, "n", "a number", whole)?.is_some_and(|n| n != 1) {
            return Err(Refusal::of("n can only be 1".to_owned(), Some("n")));
        }
        let missing = |name| Refusal::of(format!("the body has no {name}"), Some(name));
        let what = match value["url"].as_str() {
            Some("/v1/chat/completions") => {
                let messages = field(body, "messages", "a list of role and content, with one at least", messages)?;
                What::Chat(messages.ok_or_else(|| missing("messages"))?)
            }
            Some("/v1/completions") => {
                let prompts = field(body, "prompt", "a text, a list of token ids, or a list of those", prompts)?;
                What::Completion(prompts.ok_or_else(|| missing("prompt"))?)
            }
            Some(other) => {
                let known = "there are /v1/chat/completions and /v1/completions";
                return Err(Refusal::of(format!("url is {other:?}: {known}"), Some("url")));
            }
            None => return Err(Refusal::of("it has no url, a text".to_owned(), Some("url"))),
        };
        let max_tokens = field(body, "max_completion_tokens", "a whole number", whole)?;
        let max_tokens = max_tokens.or(field(body, "max_tokens", "a whole number", whole)?);
        let sampling = SamplingDefaults {
            temperature: field(body, "temperature", "a number", number)?,
            top_k: field(body, "top_k", "a whole number", whole)?.map(|k| u32::try_from(k).unwrap_or(u32::MAX)),
            top_p: field(body, "top_p", "a number", number)?,
            min_p: field(body, "min_p", "a number", number)?,
            repeat_penalty: field(body, "repeat_penalty", "a number", number)?,
            max_tokens: None,
        };
        let stop = field(body, "stop", "a text or a list of texts", stops)?.unwrap_or_default();
        let request =
            Request { what, sampling, body: body.clone(), options: AnswerOptions { max_tokens, stop, logprobs: None } };
        // What the settings are is checked here, whether the model takes them when it is asked.
        request.sampling(SamplingDefaults::default(), 0)?;
        Ok(request)
    }

    fn sampling(&self, model: SamplingDefaults, line: u64) -> std::result::Result<Sampling, Refusal> {
        let body = &self.body;
        let seed = field(body, "seed", "a whole number", |v| v.as_u64().or(v.as_i64().map(|seed| seed as u64)))?;
        Ok(Sampling {
            presence_penalty: field(body, "presence_penalty", "a number", number)?.unwrap_or(0.0),
            frequency_penalty: field(body, "frequency_penalty", "a number", number)?.unwrap_or(0.0),
            repeat_last_n: field(body, "repeat_last_n", "a whole number", whole)?.unwrap_or(64),
            logit_bias: field(body, "logit_bias", "an object of token ids and numbers", biases)?.unwrap_or_default(),
            ..self.sampling.over(&model, seed.unwrap_or(line))
        })
    }

    /// Has it answered; nothing where it was stopped. What goes wrong with it alone is its answer, and what ends the work for
    /// all is an error.
    pub fn answer(
        &self,
        mut session: Session,
        line: &Line,
        predict: usize,
        interrupt: &Interrupt,
    ) -> Result<Option<Reply>> {
        let model = *session.engine().checkpoint().defaults();
        let mut options = self.options.clone();
        options.max_tokens = options.max_tokens.or(model.max_tokens).or(Some(predict));
        let sampling = match self.sampling(model, line.number as u64) {
            Ok(sampling) => sampling,
            Err(refusal) => return Ok(Some(line.refused(&refusal))),
        };
        match session.set_sampling(sampling).and_then(|()| self.choices(&mut session, &options)) {
            _ if interrupt.hit() => Ok(None),
            Ok(Answered { choices, read, generated }) => {
                let (object, id) = match self.what {
                    What::Chat(_) => ("chat.completion", "chatcmpl"),
                    What::Completion(_) => ("text_completion", "cmpl"),
                };
                let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let body = json!({
                    "id": format!("{id}-{}", line.number), "object": object, "created": created,
                    "model": session.engine().checkpoint().label(), "choices": choices,
                    "usage": {
                        "prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated,
                    },
                });
                Ok(Some(Reply { line: line.answered(200, body), tokens: generated, failed: false }))
            }
            Err(error) if ends_the_work(&error) => Err(error),
            Err(error) => {
                let (status, kind) = match &error {
                    Error::NotFinite { .. } => (500, "server_error"),
                    _ => (400, "invalid_request_error"),
                };
                let body = error_body(&error.to_string(), kind, None);
                Ok(Some(Reply { line: line.answered(status, body), tokens: 0, failed: true }))
            }
        }
    }

    fn choices(&self, session: &mut Session, options: &AnswerOptions) -> Result<Answered> {
        let mut answered = Answered::default();
        match &self.what {
            What::Chat(messages) => {
                let (text, finish) = answered.take(session, |session| session.converse(messages.clone(), options))?;
                let message = json!({"role": "assistant", "content": text});
                answered
                    .choices
                    .push(json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish}));
            }
            What::Completion(prompts) => {
                for (index, prompt) in prompts.iter().enumerate() {
                    let ids = prompt.ids(session.engine().checkpoint())?;
                    session.clear()?;
                    let (text, finish) = answered.take(session, |session| session.complete(&ids, options))?;
                    answered
                        .choices
                        .push(json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish}));
                }
            }
        }
        Ok(answered)
    }
}

/// Whether a field asks for something.
fn asks(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        // Nothing but text is what answers are anyway.
        Some(Value::Object(object)) => object.get("type").is_none_or(|kind| kind != "text"),
        Some(value) => value.as_u64() != Some(0) && value.as_str() != Some(""),
    }
}

/// Whether what one request met with is met by all.
fn ends_the_work(error: &Error) -> bool {
    matches!(error, Error::DeviceLost { .. } | Error::Gpu { .. } | Error::OutOfMemory { .. } | Error::Timeout { .. })
}

#[derive(Default)]
struct Answered {
    choices: Vec<Value>,
    read: u64,
    generated: u64,
}

impl Answered {
    /// An answer's text and why it ended; counts its tokens.
    fn take(
        &mut self,
        session: &mut Session,
        ask: impl for<'s> FnOnce(&'s mut Session) -> Result<peregrine::runtime::Answer<'s>>,
    ) -> Result<(String, &'static str)> {
        let mut answer = ask(session)?;
        let text = answer.by_ref().collect::<Result<String>>()?;
        let finish = if answer.finish() == Some(Finish::Length) { "length" } else { "stop" };
        let generated = answer.generation().tokens() as u64;
        drop(answer);
        self.read += session.position().saturating_sub(generated);
        self.generated += generated;
        Ok((text, finish))
    }
}

impl Prompt {
    fn ids(&self, checkpoint: &Checkpoint) -> Result<Vec<u32>> {
        match self {
            Prompt::Text(text) => checkpoint.tokenizer()?.encode_text(text, Specials::Parse),
            Prompt::Ids(ids) => Ok(ids.clone()),
        }
    }
}
