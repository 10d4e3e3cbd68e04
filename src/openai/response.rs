//! JSON bodies of responses.

use super::answer::{Choice, Completion};
use super::logprobs;
use super::request::Endpoint;
use super::request_error::RequestError;
use crate::error::{Error, Result};
use crate::runtime::{Checkpoint, Finish};
use serde_json::{Value, json};

impl Completion {
    /// The body of a response. `number` makes its id unique; `created` is in seconds since 1970.
    pub fn body(&self, endpoint: Endpoint, checkpoint: &Checkpoint, (number, created): (usize, u64)) -> Result<Value> {
        let choices = self.choices.iter().enumerate().map(|(index, choice)| choice.body(endpoint, checkpoint, index));
        let (object, id) = match endpoint {
            Endpoint::Chat => ("chat.completion", "chatcmpl"),
            Endpoint::Completions => ("text_completion", "cmpl"),
        };
        let (read, made) = (self.prompt_tokens, self.completion_tokens);
        Ok(json!({
            "id": format!("{id}-{number}"), "object": object, "created": created, "model": checkpoint.label(),
            "choices": choices.collect::<Result<Vec<_>>>()?,
            "usage": { "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made },
        }))
    }
}

impl Choice {
    fn body(&self, endpoint: Endpoint, checkpoint: &Checkpoint, index: usize) -> Result<Value> {
        let finish = if self.finish == Finish::Length { "length" } else { "stop" };
        let (name, said, logprobs) = match (endpoint, &self.logprobs) {
            (Endpoint::Chat, chosen) => {
                let logprobs = chosen.as_ref().map(|chosen| Ok(logprobs::of_chat(chosen, checkpoint.tokenizer()?)));
                ("message", json!({ "role": "assistant", "content": self.text }), logprobs)
            }
            (Endpoint::Completions, chosen) => {
                let of_text = |chosen| Ok(logprobs::of_completion(&self.text, chosen, checkpoint.tokenizer()?));
                ("text", json!(self.text), chosen.as_deref().map(of_text))
            }
        };
        let logprobs: Result<Option<Value>> = logprobs.transpose();
        Ok(json!({ "index": index, name: said, "logprobs": logprobs?, "finish_reason": finish }))
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
