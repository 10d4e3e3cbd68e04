//! The chunks of a streamed response.

use super::answer::{Echo, Event};
use super::logprobs;
use super::request::{Endpoint, Request};
use super::response::{ResponseId, call_id, finish_reason, usage};
use crate::error::Result;
use crate::runtime::{Checkpoint, Chosen};
use crate::text::Tokenizer;
use serde_json::{Value, json};

/// Turns the events of a request into the chunks of its streamed response.
pub struct Chunks {
    endpoint: Endpoint,
    id: ResponseId,
    include_usage: bool,
    /// The answer in progress, and its text so far; log-probabilities of completions count characters from its start.
    current: Option<(usize, String)>,
    /// Its prompt, if that is part of it, without the tokens: they are in a chunk of their own.
    echo: Option<Echo>,
    /// Calls of tools in the answer in progress.
    calls: usize,
    read: u64,
    made: u64,
}

impl Chunks {
    /// Chunks of the response `id` to `request`.
    pub fn new(request: &Request, id: ResponseId) -> Self {
        let (endpoint, include_usage) = (request.endpoint(), request.includes_usage());
        Chunks { endpoint, id, include_usage, current: None, echo: None, calls: 0, read: 0, made: 0 }
    }

    /// The chunks that an event adds.
    pub fn add(&mut self, event: &Event, checkpoint: &Checkpoint) -> Result<Vec<Value>> {
        let mut chunks = vec![];
        match event {
            Event::Read(tokens) => self.read += tokens,
            Event::Echo { choice, echo } => {
                self.open(*choice, &mut chunks);
                let scored = echo.logprobs.is_some();
                self.echo = Some(Echo { ids: vec![], ..echo.clone() });
                let logprobs = match scored {
                    true => logprobs::of_completion(Some(echo), "", &[], checkpoint.tokenizer()?),
                    false => Value::Null,
                };
                chunks.push(self.chunk(*choice, json!(echo.text), logprobs, Value::Null));
            }
            Event::Piece { choice, text, logprobs } => {
                self.open(*choice, &mut chunks);
                let empty = text.is_empty() && logprobs.as_ref().is_none_or(Vec::is_empty);
                if !empty {
                    let tokenizer = checkpoint.tokenizer()?;
                    chunks.push(self.piece(*choice, text, logprobs.as_deref(), tokenizer));
                }
            }
            Event::Call { choice, call } => {
                self.open(*choice, &mut chunks);
                let mut body = call.body(&call_id(&self.id, *choice, self.calls));
                body["index"] = json!(self.calls);
                self.calls += 1;
                chunks.push(self.chunk(*choice, json!({ "tool_calls": [body] }), Value::Null, Value::Null));
            }
            Event::Ended { choice, finish, tokens } => {
                self.open(*choice, &mut chunks);
                self.made += tokens;
                self.current = None;
                let said = if self.endpoint == Endpoint::Chat { json!({}) } else { json!("") };
                chunks.push(self.chunk(*choice, said, Value::Null, json!(finish_reason(*finish, self.calls > 0))));
            }
        }
        Ok(chunks)
    }

    /// The last chunk, if the request asks for the usage.
    pub fn last(&self) -> Option<Value> {
        self.include_usage.then(|| {
            let mut chunk = self.body(json!([]));
            chunk["usage"] = usage(self.read, self.made);
            chunk
        })
    }

    /// The chunk that names the kept state: the response's own id.
    pub fn stored(&self) -> Value {
        let mut chunk = self.body(json!([]));
        chunk["state"] = json!(self.id.id);
        chunk
    }

    /// Begins an answer: a chat's first chunk has the role.
    fn open(&mut self, choice: usize, chunks: &mut Vec<Value>) {
        if self.current.as_ref().is_none_or(|(current, _)| *current != choice) {
            self.current = Some((choice, String::new()));
            self.echo = None;
            self.calls = 0;
            if self.endpoint == Endpoint::Chat {
                let role = json!({ "role": "assistant", "content": "" });
                chunks.push(self.chunk(choice, role, Value::Null, Value::Null));
            }
        }
    }

    fn piece(&mut self, choice: usize, text: &str, chosen: Option<&[Chosen]>, tokenizer: &Tokenizer) -> Value {
        let echo = self.echo.as_ref();
        let all = &mut self.current.get_or_insert_default().1;
        *all += text;
        let (said, logprobs) = match self.endpoint {
            Endpoint::Chat => (json!({ "content": text }), chosen.map(|chosen| logprobs::of_chat(chosen, tokenizer))),
            Endpoint::Completions => {
                (json!(text), chosen.map(|chosen| logprobs::of_completion(echo, all, chosen, tokenizer)))
            }
        };
        self.chunk(choice, said, logprobs.unwrap_or_default(), Value::Null)
    }

    fn chunk(&self, choice: usize, said: Value, logprobs: Value, finish: Value) -> Value {
        let name = if self.endpoint == Endpoint::Chat { "delta" } else { "text" };
        let mut chunk =
            self.body(json!([{ "index": choice, name: said, "logprobs": logprobs, "finish_reason": finish }]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn body(&self, choices: Value) -> Value {
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completions => "text_completion",
        };
        json!({
            "id": self.id.id, "object": object, "created": self.id.created, "model": self.id.model, "choices": choices,
        })
    }
}
