//! The addon: the library's engines, sessions and answers as classes of JavaScript. Nothing here computes. A call that takes time has
//! a number, works on a thread of its own, and replies through [`calls`]. The package's `lib/` makes promises of that.

mod adapter;
mod answer;
mod calls;
mod errors;
mod load;
mod message;
mod model;
mod options;
mod session;
mod vision;

/// The version of the library.
#[napi_derive::napi]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
