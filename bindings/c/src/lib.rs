//! The C interface of peregrine: engines, sessions, answers, states.
//!
//! `include/peregrine.h` is made from these files and documents every function; `tests/header.rs` compares the two. A type, a constant
//! or a function has the same name here and there.
//!
//! No function trusts its caller more than C makes it: a null pointer, a text that is not UTF-8, a number out of range or a second call
//! on a busy session is an error, and a panic is caught. What cannot be noticed is a pointer to something that was freed.

#![warn(missing_docs)]
#![deny(clippy::undocumented_unsafe_blocks)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented)
)]
#![allow(non_camel_case_types, reason = "the names are those of the header")]
#![allow(clippy::missing_safety_doc, reason = "the header says once what holds for all pointers")]

mod adapters;
mod answer;
mod boundary;
mod bytes;
mod cancel;
mod engine;
mod mark;
mod options;
mod pointers;
mod session;
mod state;
mod status;
mod structs;
mod tokens;
mod version;

pub use adapters::*;
pub use answer::*;
pub use boundary::peregrine_last_error;
pub use bytes::*;
pub use cancel::*;
pub use engine::*;
pub use mark::*;
pub use options::*;
pub use session::*;
pub use state::*;
pub use status::peregrine_status;
pub use tokens::*;
pub use version::*;
