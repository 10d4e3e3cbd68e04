//! Why a call failed, as JavaScript is told: a code, a name and the library's text. `lib/errors.js` makes a PeregrineError of it.

use napi_derive::napi;
use peregrine::Error;
use peregrine_bindings::{Refused, name_of, text_of_panic};
use std::any::Any;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// The library's error.
    Library(Error),
    /// An option names nothing that there is.
    Setting(String),
    /// Another call of the same object is going on, an answer of the session is unfinished, or the object was closed.
    Refused(Refused),
    /// A panic: a mistake in peregrine.
    Panic(String),
}

pub type Outcome<T> = Result<T, Failure>;

/// Unwinds out of a loading model.
pub struct Stopped;

/// A failure in JavaScript.
#[napi(object, object_from_js = false)]
pub struct Problem {
    /// What a caller can do about it: the library's `ErrorKind`, or "Busy", "Closed" or "Panic".
    pub code: String,
    /// The library's name of the error.
    pub kind: String,
    pub text: String,
}

/// The code of an error that a function throws.
pub struct Code(String);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Of the functions' arguments and results.
impl From<napi::Status> for Code {
    fn from(status: napi::Status) -> Self {
        Code(status.as_ref().to_owned())
    }
}

impl Failure {
    /// What a caught panic was.
    pub fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        if payload.is::<Stopped>() {
            return Failure::Library(Error::Cancelled);
        }
        Failure::Panic(text_of_panic(&*payload))
    }

    /// The failure as the caller sees it.
    pub fn problem(self) -> Problem {
        let problem = |code: &str, text: String| Problem { code: code.to_owned(), kind: code.to_owned(), text };
        match self {
            Failure::Library(error) => {
                Problem { code: format!("{:?}", error.kind()), kind: name_of(&error), text: error.to_string() }
            }
            Failure::Setting(text) => problem("BadSetting", text),
            Failure::Refused(refused) => problem(refused.code(), refused.to_string()),
            Failure::Panic(text) => problem("Panic", format!("a mistake in peregrine, please report it: {text}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::Refused(refused)
    }
}

impl From<Failure> for napi::Error<Code> {
    fn from(failure: Failure) -> Self {
        let Problem { code, text, .. } = failure.problem();
        napi::Error::new(Code(code), text)
    }
}
