//! peregrine runs Falcon Mamba 7B and its relatives on any GPU that wgpu can open: Vulkan, Metal, DX12.
//!
//! The recurrent state of these models has a fixed size (40 MB per conversation for the 7B), so memory and time per token are
//! the same at token 1 and at token 1,000,000, and a conversation can be saved, forked and rewound at the cost of one copy.
//!
//! An application needs the names on this page:
//!
//! | | |
//! |---|---|
//! | [`Gpu`], [`AdapterChoice`] | an open device |
//! | [`Checkpoint`] | the files of a model: a folder as Hugging Face has it, or a GGUF file |
//! | [`Engine`], [`EngineOptions`] | a model on a device, with slots for sessions |
//! | [`Session`], [`Prompt`], [`Message`] | one conversation |
//! | [`Answer`], [`AnswerOptions`], [`Finish`] | generated text as a stream |
//! | [`Sampling`] | how tokens are chosen |
//! | `Constraint`, [`Grammar`] | what the text of an answer must be, such as JSON under a schema: feature `grammar` |
//! | [`Tokenizer`], [`Specials`] | text to ids and back |
//! | [`CancelHandle`] | ends an answer from another thread |
//! | [`Mark`], [`Snapshot`] | a moment to go back to; a state in a file |
//! | [`Error`], [`ErrorKind`], [`Result`] | one error type, a variant for each thing that a caller can act on, and groups of them |
//!
//! # A chat
//!
//! ```no_run
//! use peregrine::{AdapterChoice, AnswerOptions, Checkpoint, Engine, EngineOptions, Gpu, Sampling};
//! use std::io::Write;
//!
//! # fn main() -> peregrine::Result<()> {
//! let gpu = Gpu::open(&AdapterChoice::Best)?;
//! let checkpoint = Checkpoint::open("models/tiny-chat")?;
//! let engine = Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |_| {})?;
//! let mut session = engine.session(Sampling::GREEDY)?;
//! for piece in session.send("Tell me a story about a fox.", &AnswerOptions::tokens(200))? {
//!     print!("{}", piece?);
//!     let _ = std::io::stdout().flush();
//! }
//! session.undo()?; // takes back the message and its answer
//! # Ok(())
//! # }
//! ```
//!
//! # Answers on other threads and tasks
//!
//! The calls above wait for the device. Each is a thin layer over an async twin (`send` over [`Session::answer_async`],
//! [`Engine::load`] over [`Engine::load_async`]); without the feature `blocking` only those are there. An answer can own its
//! session, go to another thread or task, and give the session back:
//!
//! ```no_run
//! # use peregrine::{AnswerOptions, Prompt, Session};
//! # fn f(session: Session) -> peregrine::Result<()> {
//! let stop = session.cancel_handle(); // for a button
//! let prompt = Prompt::Message("What is a falcon?".to_owned());
//! let mut answer = session.into_answer(prompt, &AnswerOptions::default());
//! let worker = std::thread::spawn(move || {
//!     for piece in &mut answer {
//!         print!("{}", piece?);
//!     }
//!     peregrine::Result::Ok(answer.into_session())
//! });
//! stop.cancel();
//! let session = worker.join().expect("it does not panic")?.expect("the answer owned it");
//! # Ok(())
//! # }
//! ```
//!
//! Sessions of one engine share its decode steps, so several answers at once cost little more than one. An engine has as many
//! slots as [`EngineOptions`] says.
//!
//! # States
//!
//! ```no_run
//! # use peregrine::{AnswerOptions, Session, Snapshot};
//! # fn f(mut session: Session) -> peregrine::Result<()> {
//! session.snapshot()?.save("fox.state")?; // 40 MB for the 7B, at any length
//! let other = session.fork()?; // goes on from here by itself, in another slot
//! let warnings = session.restore(&Snapshot::open("fox.state")?)?; // in this process or another
//! # Ok(())
//! # }
//! ```
//!
//! # Pictures
//!
//! With the feature `vision`, the module `vision` classifies pictures and gives their features by Vision Mamba.
//!
//! # Models by name
//!
//! With the feature `hub`, the module `hub` fetches a model from the Hugging Face hub into the cache that huggingface_hub shares,
//! and gives its path.
//!
//! # When something fails
//!
//! Nothing that a user, a file or a driver can cause panics. After an error of [`Session`] the conversation is as before the
//! call. After [`Error::DeviceLost`], [`Engine::recover`] reopens the device and every session continues.
//!
//! # More
//!
//! [`runtime`] has the rest: options of engines, budgets for kept states and for the prefix cache. [`gpu`] lists adapters and
//! takes a device that the application opened. [`openai`] parses and answers requests in the form of OpenAI's API. The features
//! `bench`, `eval` and `selftest` measure speed, accuracy and conformance. The other modules are there for the command line and
//! for tests, and change without notice; CONTRIBUTING.md describes them.

#![warn(missing_docs)]
// What a user, a file or a driver can cause is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::todo, clippy::unimplemented))]

#[cfg(feature = "bench")]
pub mod bench;
#[doc(hidden)]
pub mod error;
#[cfg(feature = "eval")]
pub mod eval;
#[doc(hidden)]
pub mod format;
pub mod gpu;
#[cfg(feature = "hub")]
pub mod hub;
#[doc(hidden)]
pub mod input;
#[doc(hidden)]
pub mod kernels;
#[doc(hidden)]
pub mod model;
pub mod openai;
#[doc(hidden)]
pub mod output;
pub mod runtime;
#[cfg(feature = "selftest")]
pub mod selftest;
#[cfg(feature = "server")]
pub mod server;
#[doc(hidden)]
pub mod text;
#[cfg(feature = "vision")]
pub mod vision;

#[doc(inline)]
pub use error::{Error, ErrorKind, Result};
#[doc(inline)]
pub use gpu::{AdapterChoice, Gpu};
#[doc(inline)]
pub use runtime::{
    Answer, AnswerOptions, CancelHandle, Checkpoint, Engine, EngineOptions, Finish, Mark, Prompt, Sampling, Session,
    Snapshot,
};
#[cfg(feature = "grammar")]
#[doc(inline)]
pub use text::Constraint;
#[doc(inline)]
pub use text::{Grammar, Message, Specials, Tokenizer};

/// The programs of the pages must compile; tests/readme.rs runs them.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/library.md")]
#[doc = include_str!("../docs/states.md")]
#[cfg_attr(feature = "vision", doc = include_str!("../docs/pictures.md"))]
struct Pages;
