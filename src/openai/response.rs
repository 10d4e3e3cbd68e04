//! JSON bodies of responses.

use super::answer::{Choice, Completion};
use super::logprobs;
use super::request::Endpoint;
use super::request_error::RequestError;
use crate::error::{Error, Result};
use crate::runtime::{Checkpoint, Finish};
use serde_json::{Value, json};
use std::fmt::Display;

/// The identity of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseId {
    /// Its id, such as `chatcmpl-7`.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
}

impl ResponseId {
    /// The id of a response to a request at `endpoint`, made unique by `unique`.
    pub fn new(endpoint: Endpoint, unique: impl Display, created: u64, model: &str) -> Self {
        let kind = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completions => "cmpl",
        };
        ResponseId { id: format!("{kind}-{unique}"), created, model: model.to_owned() }
    }
}

impl Completion {
    /// The body of a response.
    pub fn body(&self, endpoint: Endpoint, checkpoint: &Checkpoint, id: &ResponseId) -> Result<Value> {
        let choices =
            self.choices.iter().enumerate().map(|(index, choice)| choice.body(endpoint, checkpoint, id, index));
        let object = match endpoint {
            Endpoint::Chat => "chat.completion",
            Endpoint::Completions => "text_completion",
        };
        Ok(json!({
            "id": id.id, "object": object, "created": id.created, "model": id.model,
            "choices": choices.collect::<Result<Vec<_>>>()?,
            "usage": usage(self.prompt_tokens, self.completion_tokens),
        }))
    }
}

pub(super) fn usage(read: u64, made: u64) -> Value {
    json!({ "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made })
}

/// `calls`: whether the answer calls tools.
pub(super) fn finish_reason(finish: Finish, calls: bool) -> &'static str {
    match finish {
        Finish::Length => "length",
        _ if calls => "tool_calls",
        _ => "stop",
    }
}

/// The id of call `number` in an answer.
pub(super) fn call_id(response: &ResponseId, choice: usize, number: usize) -> String {
    let unique = response.id.rsplit('-').next().unwrap_or_default();
    format!("call_{unique}_{choice}_{number}")
}

impl Choice {
    fn body(&self, endpoint: Endpoint, checkpoint: &Checkpoint, id: &ResponseId, index: usize) -> Result<Value> {
        let finish = finish_reason(self.finish, !self.calls.is_empty());
        let (name, said, logprobs) = match (endpoint, &self.logprobs) {
            (Endpoint::Chat, chosen) => {
                let logprobs = chosen.as_ref().map(|chosen| Ok(logprobs::of_chat(chosen, checkpoint.tokenizer()?)));
                ("message", self.message(id, index), logprobs)
            }
            (Endpoint::Completions, chosen) => {
                let echo = self.echo.as_ref();
                let of_text = |chosen| Ok(logprobs::of_completion(echo, &self.text, chosen, checkpoint.tokenizer()?));
                let text = echo.map_or(String::new(), |echo| echo.text.clone()) + &self.text;
                ("text", json!(text), chosen.as_deref().map(of_text))
            }
        };
        let logprobs: Result<Option<Value>> = logprobs.transpose();
        Ok(json!({ "index": index, name: said, "logprobs": logprobs?, "finish_reason": finish }))
    }

    /// The assistant's message. Its content is null if it only calls tools.
    fn message(&self, id: &ResponseId, index: usize) -> Value {
        if self.calls.is_empty() {
            return json!({ "role": "assistant", "content": self.text });
        }
        let content = Some(&self.text).filter(|text| !text.is_empty());
        let calls = self.calls.iter().enumerate().map(|(number, call)| call.body(&call_id(id, index, number)));
        json!({ "role": "assistant", "content": content, "tool_calls": calls.collect::<Value>() })
    }
}

/// The error body for an invalid request.
pub fn error_body(error: &RequestError) -> Value {
    body(&error.message, "invalid_request_error", error.param.as_deref())
}

/// The HTTP status and error body for a request that failed while it was answered.
pub fn failure_body(error: &Error) -> (u16, Value) {
    let message = error.to_string();
    match error {
        Error::NotFinite { .. } => (500, body(&message, "server_error", None)),
        Error::BadSetting { name, .. } => (400, body(&message, "invalid_request_error", Some(name))),
        _ => (400, body(&message, "invalid_request_error", None)),
    }
}

fn body(message: &str, kind: &str, param: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": param, "code": null}})
}
