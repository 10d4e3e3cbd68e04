//! A component of a checkpoint that only some uses need. What is wrong with it is reported where it is needed.

use crate::error::{Error, Result};

/// The component, or why it cannot be used.
pub(super) enum Component<T> {
    Ready(T),
    Missing(Error),
    Unusable(Error),
}

impl<T> Component<T> {
    /// The outcome of reading it.
    pub fn of(read: Result<T>) -> Self {
        read.map_or_else(|error| Component::unusable(&error), Component::Ready)
    }

    /// One that exists and cannot be used.
    pub fn unusable(error: &Error) -> Self {
        Component::Unusable(restated(error))
    }

    /// The component, or the same error each time.
    pub fn get(&self) -> Result<&T> {
        match self {
            Component::Ready(component) => Ok(component),
            Component::Missing(error) | Component::Unusable(error) => Err(restated(error)),
        }
    }
}

/// An error with the same message: errors cannot be cloned, as they hold I/O errors.
pub(super) fn restated(error: &Error) -> Error {
    match error {
        Error::Template { file, problem } => Error::Template { file: file.clone(), problem: problem.clone() },
        Error::IncompleteCheckpoint { dir, missing } => {
            Error::IncompleteCheckpoint { dir: dir.clone(), missing: missing.clone() }
        }
        Error::Unsupported { file, what, hint } => {
            Error::Unsupported { file: file.clone(), what: what.clone(), hint: hint.clone() }
        }
        Error::WrongKind { file, found, advice } => {
            Error::WrongKind { file: file.clone(), found: found.clone(), advice: advice.clone() }
        }
        Error::NotText { what, at } => Error::NotText { what: what.clone(), at: *at },
        Error::Tokenizer { file, problem } => Error::Tokenizer { file: file.clone(), problem: problem.clone() },
        Error::BadJson { file, problem } => Error::BadJson { file: file.clone(), problem: problem.clone() },
        other => {
            // Other errors of small files start with the file's name.
            let said = other.to_string();
            let (file, problem) = said.split_once(": ").unwrap_or(("", &said));
            Error::BadJson { file: file.to_owned(), problem: problem.to_owned() }
        }
    }
}
