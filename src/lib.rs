//! peregrine runs Falcon Mamba 7B and its relatives on any GPU that wgpu can open.
//!
//! ```no_run
//! use peregrine::gpu::{AdapterChoice, Gpu};
//! use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
//! use std::io::Write;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gpu = Gpu::open(&AdapterChoice::Best)?;
//! let checkpoint = Checkpoint::open("models/tiny-chat")?;
//! let engine = Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |_| {})?;
//! let mut session = engine.session(Sampling::GREEDY)?;
//! for piece in session.send("Tell me a story about a fox.", &AnswerOptions::tokens(200))? {
//!     print!("{}", piece?);
//!     std::io::stdout().flush()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! Layers, low to high; each uses what is below it and nothing above.
//!
//! | layer | what it does |
//! |---|---|
//! | [`error`] | one [`Error`] for all, a variant for each thing that a caller can act on |
//! | [`input`] | files of a kind that was not expected, JSON as Python writes it |
//! | [`output`] | files that are there whole or not at all |
//! | [`text`], [`format`](mod@format) | pure CPU: ids, whole characters, chat templates; tensors of checkpoints |
//! | [`gpu`] | the only place that names wgpu: device, buffers, kernels linked from WGSL, recorded plans |
//! | [`kernels`] | a file for each kernel family: parameters, declaration, recording, CPU twin, cases |
//! | [`model`] | config, weights, states, the plans of prefill and decode, and a CPU reference of the same |
//! | [`runtime`] | checkpoints, engines that advance many slots at once, sampling, sessions and their snapshots |
//! | [`openai`] | requests and responses in the form of OpenAI's API |
//! | [`eval`] | how well a model predicts a text, and how far from another model |
//! | [`bench`](mod@bench) | how fast it is on any adapter, beside what the adapter allows |
//! | [`selftest`] | shows on any adapter that its numbers are right |
//!
//! A token's way: [`runtime::Session::send`] renders the conversation and encodes it; the engine feeds the ids chunk by
//! chunk through the prefill [`gpu::Plan`] of [`model::Forward`]; the choice of the next token happens on the device, where
//! its id, its position and the state of its slot stay. Decoding repeats one recorded plan, a step ahead of what the host
//! has seen; four bytes a token come home.
//!
//! A slot's state has two versions: a step reads one and writes the other, so that the step which ran ahead of the end of
//! an answer can be taken back. Sums run in an order that depends on the phase (prefill or decode) alone: however a prompt
//! is cut into chunks and whoever else is in a batch, the bits are the same.
//!
//! Sessions share their steps: whoever waits for a token runs a turn, which is a decode step of every slot that can go on and
//! one chunk of a prompt. A state has one size at any length, so it is kept at every turn of a conversation, copied to fork one
//! ([`runtime::Session::fork`]), and written to a file ([`runtime::Snapshot`]).

#![warn(missing_docs)]
// What a user, a file or a driver can cause is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::todo, clippy::unimplemented))]

#[cfg(feature = "bench")]
pub mod bench;
pub mod error;
#[cfg(feature = "eval")]
pub mod eval;
pub mod format;
pub mod gpu;
pub mod input;
pub mod kernels;
pub mod model;
pub mod openai;
pub mod output;
pub mod runtime;
#[cfg(feature = "selftest")]
pub mod selftest;
pub mod text;

pub use error::{Error, Result};

/// The programs of the pages must compile; tests/readme.rs runs them.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/library.md")]
#[doc = include_str!("../docs/states.md")]
struct Pages;
