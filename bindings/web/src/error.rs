//! Errors as JavaScript's: an `Error` with the library's text, called `PeregrineError`, with a `code` that a caller can act on.

use peregrine::Error;
use peregrine_bindings::{Refused, name_of};
use wasm_bindgen::prelude::*;

/// Why a call failed.
pub struct Failure {
    /// The library's `ErrorKind`, or "Busy", "Closed" or "BadArgument".
    code: String,
    /// The library's name of the error.
    kind: String,
    text: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// An argument of the wrong type.
    pub fn argument(text: impl Into<String>) -> Self {
        Self::of_binding("BadArgument", text.into())
    }

    /// One that the library does not have.
    fn of_binding(code: &str, text: String) -> Self {
        Failure { code: code.to_owned(), kind: code.to_owned(), text }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { code: format!("{:?}", error.kind()), kind: name_of(&error), text: error.to_string() }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::of_binding(refused.code(), refused.to_string())
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let error = js_sys::Error::new(&failure.text);
        error.set_name("PeregrineError");
        for (name, value) in [("code", failure.code), ("kind", failure.kind)] {
            // Setting a property of a new object does not fail.
            let _ = js_sys::Reflect::set(&error, &name.into(), &value.into());
        }
        error.into()
    }
}
