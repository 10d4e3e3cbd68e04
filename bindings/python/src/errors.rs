//! The library's errors as exceptions. Their classes are in `peregrine/_errors.py`; their text is the library's.

use peregrine::{Error, ErrorKind};
use peregrine_bindings::{Refused, name_of, text_of_panic};
use pyo3::prelude::*;
use std::any::Any;
use std::io;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// The library's error.
    Library(Error),
    /// Another call of the same object is going on, an answer of the session is unfinished, or the object was closed.
    Refused(Refused),
    /// An exception of Python: a signal's, or a callback's.
    Python(PyErr),
    /// A panic: a mistake in peregrine.
    Panic(String),
}

pub type Outcome<T> = Result<T, Failure>;

/// Unwinds out of a loading model; the payload of the panic.
pub struct Stopped(pub Option<PyErr>);

impl Failure {
    /// What a caught panic was.
    pub fn of_panic(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<Stopped>() {
            Ok(stopped) => return stopped.0.map_or(Failure::Library(Error::Cancelled), Failure::Python),
            Err(payload) => payload,
        };
        Failure::Panic(text_of_panic(&*payload))
    }

    /// The class of its exception, its kind and its text.
    fn described(self) -> Result<(&'static str, String, String), PyErr> {
        match self {
            Failure::Library(error) => Ok((class(&error), name_of(&error), error.to_string())),
            Failure::Refused(refused) => {
                let class = match refused {
                    Refused::Busy(_) => "Busy",
                    Refused::Closed(_) => "Closed",
                };
                Ok((class, class.to_owned(), refused.to_string()))
            }
            Failure::Panic(text) => {
                Ok(("Error", "Panic".to_owned(), format!("a mistake in peregrine, please report it: {text}")))
            }
            Failure::Python(error) => Err(error),
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

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let exception = |(class, kind, text): (&str, String, String)| {
            Python::attach(|py| -> PyResult<PyErr> {
                let exception = py.import("peregrine._errors")?.getattr(class)?.call1((text,))?;
                exception.setattr("kind", kind)?;
                Ok(PyErr::from_value(exception))
            })
        };
        failure.described().and_then(exception).unwrap_or_else(|error| error)
    }
}

/// The exception of an error: one class for what a caller does the same about.
fn class(error: &Error) -> &'static str {
    match error {
        Error::Io { problem, .. } | Error::Unreadable { problem, .. } if problem.kind() == io::ErrorKind::NotFound => {
            return "FileMissing";
        }
        Error::NotFinite { .. } => return "ModelError", // the model's numbers, not a refusal of the device
        _ => {}
    }
    match error.kind() {
        ErrorKind::File => "FileError",
        ErrorKind::ModelNotFound => "ModelNotFound",
        ErrorKind::ModelUnusable => "ModelError",
        ErrorKind::BadPicture => "BadPicture",
        ErrorKind::NoDevice => "NoDevice",
        ErrorKind::DeviceLost => "DeviceLost",
        ErrorKind::OutOfMemory => "OutOfMemory",
        ErrorKind::DeviceFailed => "DeviceError",
        ErrorKind::BadSetting | ErrorKind::BadInput => "BadSetting",
        ErrorKind::StateDamaged | ErrorKind::StateTooNew | ErrorKind::StateOfAnotherModel | ErrorKind::StateNotKept => {
            "StateError"
        }
        ErrorKind::ModelNotOnHub | ErrorKind::HubFailed => "HubError",
        ErrorKind::NothingToResume | ErrorKind::NothingToUndo => "NothingThere",
        ErrorKind::NoFreeSlot => "NoFreeSlot",
        ErrorKind::Cancelled => "Cancelled",
        _ => "Error",
    }
}
