//! The library's errors as exceptions. Their classes are in `peregrine/_errors.py`; their text is the library's.

use peregrine::Error;
use pyo3::prelude::*;
use std::any::Any;
use std::io::ErrorKind;

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// The library's error.
    Library(Error),
    /// Another call of the same object is going on, or an answer of the session is unfinished.
    Busy(&'static str),
    /// The object was closed.
    Closed(&'static str),
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
        let text = payload.downcast_ref::<String>().map(String::as_str);
        Failure::Panic(text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
    }

    /// The class of its exception, its kind and its text.
    fn described(self) -> Result<(&'static str, String, String), PyErr> {
        match self {
            Failure::Library(error) => Ok((class(&error), kind(&error), error.to_string())),
            Failure::Busy(what) => Ok(("Busy", "Busy".to_owned(), what.to_owned())),
            Failure::Closed(what) => Ok(("Closed", "Closed".to_owned(), format!("the {what} is closed"))),
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

/// The name of its variant.
fn kind(error: &Error) -> String {
    format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// The exception of an error: one class for what a caller does the same about.
fn class(error: &Error) -> &'static str {
    match error {
        Error::Io { problem, .. } | Error::Unreadable { problem, .. } if problem.kind() == ErrorKind::NotFound => {
            "FileMissing"
        }
        Error::Io { .. } | Error::Unreadable { .. } | Error::BadOutput { .. } | Error::NoSpace { .. } => "FileError",
        Error::ModelNotFound { .. } | Error::IncompleteCheckpoint { .. } | Error::MissingShard { .. } => {
            "ModelNotFound"
        }
        Error::WrongKind { .. }
        | Error::PickleOnly { .. }
        | Error::BadJson { .. }
        | Error::BadConfig { .. }
        | Error::Unsupported { .. }
        | Error::BadSafetensors { .. }
        | Error::BadPickle { .. }
        | Error::BadGguf { .. }
        | Error::UnsafeShard { .. }
        | Error::MissingTensor { .. }
        | Error::UnusedTensor { .. }
        | Error::WrongShape { .. }
        | Error::WrongDtype { .. }
        | Error::BadQuantization { .. }
        | Error::Tokenizer { .. }
        | Error::Template { .. }
        | Error::NotFinite { .. } => "ModelError",
        Error::BadPicture { .. } => "BadPicture",
        Error::NoAdapter { .. } | Error::UnknownDevice { .. } => "NoDevice",
        Error::DeviceLost { .. } => "DeviceLost",
        Error::OutOfMemory { .. } | Error::DoesNotFit { .. } => "OutOfMemory",
        Error::Gpu { .. }
        | Error::Timeout { .. }
        | Error::TooManyGroups { .. }
        | Error::RowTooLarge { .. }
        | Error::ScoresTooLarge { .. } => "DeviceError",
        Error::BadSetting { .. }
        | Error::BadSwitch { .. }
        | Error::BadShaders { .. }
        | Error::BadConstraint { .. }
        | Error::BadModelName { .. }
        | Error::IdOutOfRange { .. }
        | Error::NoTokens
        | Error::AllBanned { .. }
        | Error::NotText { .. } => "BadSetting",
        Error::NotAState { .. }
        | Error::NewerState { .. }
        | Error::DamagedState { .. }
        | Error::StateOfAnotherModel { .. }
        | Error::StateNotKept { .. } => "StateError",
        Error::HubUnreachable { .. }
        | Error::NoHubAccess { .. }
        | Error::NotOnHub { .. }
        | Error::NoSuchModel { .. }
        | Error::BadHubAnswer { .. }
        | Error::NotInCache { .. }
        | Error::DamagedDownload { .. } => "HubError",
        Error::NothingToResume | Error::NothingToUndo => "NothingThere",
        Error::NoFreeSlot { .. } => "NoFreeSlot",
        Error::Cancelled => "Cancelled",
        _ => "Error",
    }
}
