//! Requests and responses in the form of OpenAI's API: what `peregrine batch` reads and writes, and what a server would.
//!
//! [`Request::parse`] reads the body of a request. Each of its fields is followed, or changes nothing about an answer, or is
//! refused by its place, such as `messages[3].content[1].type`. [`Request::fits`] holds it against a model, and
//! [`Request::answer`] has a session answer it; [`Answered::body`] and [`failure_body`] are what goes back.
//!
//! The endpoints are `/v1/chat/completions` and `/v1/completions`. Beside OpenAI's fields those of llama.cpp's server and
//! of vLLM are followed where sampling here has the same: `top_k`, `min_p`, `repeat_penalty`, `repeat_last_n`, `n_predict`. Null is as if a field were not there, whole numbers may be
//! written `8.0`, and -1 means what it means on the command line: no limit of tokens, all of `top_k`, no seed of one's own.
//!
//! Of `n` answers to one prompt the prompt is read once; answer `i` of them, from 0 on, has the seed of the request plus `i`.

mod answer;
#[cfg(feature = "blocking")]
mod blocking;
mod chat;
mod completions;
mod fields;
mod idle;
mod logprobs;
mod refusal;
mod request;
mod response;
mod sampling;

pub use answer::{Answered, Choice, Unsaid};
pub use refusal::Refusal;
pub use request::{Endpoint, Request};
pub use response::{error_body, failure_body};
