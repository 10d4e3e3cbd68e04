//! Requests and responses of OpenAI's API, as `peregrine batch` and `peregrine serve` read and write them.
//!
//! [`Request::parse`] parses the body of a request. Each field is used, ignored because it does not affect the answer, or
//! rejected with its path, such as `messages[3].content[1].type`. [`Request::fits`] checks a request against a model, and
//! [`Request::answer_async`] runs it in a session; [`Completion::body`] and [`failure_body`] make the response. For a streamed
//! answer [`Request::events_async`] gives [`Event`]s, which [`Chunks`] turns into chunks.
//!
//! The endpoints are `/v1/chat/completions` and `/v1/completions`. In addition to OpenAI's fields, those of llama.cpp's server
//! and vLLM are supported where peregrine has the same setting: `top_k`, `min_p`, `repeat_penalty`, `repeat_last_n`,
//! `n_predict`. A null field counts as missing, integers may be written `8.0`, and -1 means the same as on the command line: no
//! token limit, all of `top_k`, a new seed.
//!
//! With the feature `grammar`, `response_format` constrains the answers, and so do llama.cpp's `json_schema` and `grammar` and vLLM's
//! `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` and `structured_outputs`.
//!
//! Two fields are ours. `store: true` keeps the state after the answer, under the id of the response; `state` names a state that
//! the request continues: its messages or its text follow what that state has read. Both need a server.
//!
//! With `n` > 1 the prompt is read once; answer `i`, counted from 0, uses the request's seed plus `i`.

mod answer;
#[cfg(feature = "blocking")]
mod blocking;
mod chat;
mod chunks;
mod completions;
#[cfg(feature = "grammar")]
mod constraint;
#[cfg(not(feature = "grammar"))]
#[path = "constraint/absent.rs"]
mod constraint;
mod fields;
mod logprobs;
mod request;
mod request_error;
mod response;
mod sampling;
mod tools;
mod unsupported;

pub use answer::{Choice, Completion, Echo, Event, RequestDefaults, Start};
pub use chunks::Chunks;
pub use request::{Endpoint, Request};
pub use request_error::RequestError;
pub use response::{ResponseId, error_body, failure_body};
pub use tools::calls::ToolCall;
