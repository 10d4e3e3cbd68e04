//! How the program ends: the exit code, and what stderr says.

use super::selftest;
use peregrine::Error;

pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the model, or a saved state, is missing, unreadable, \
                              damaged, not supported or of another model, 4 no usable GPU, 5 out of GPU memory, 6 the self-test failed, 130 interrupted.";

/// An error whose exit code does not follow from its kind.
#[derive(Debug)]
struct CodedError {
    code: u8,
    said: String,
}

impl std::error::Error for CodedError {}
impl std::fmt::Display for CodedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)
    }
}

/// What was typed is wrong.
pub fn usage_error(said: impl Into<String>) -> anyhow::Error {
    CodedError { code: 2, said: said.into() }.into()
}

/// An error with its causes; what one has said already is not said again.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whoever read our output has seen enough.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(CodedError { code, .. }) = error.downcast_ref() {
        return *code;
    }
    if error.is::<selftest::Failed>() {
        return 6;
    }
    match error.downcast_ref::<Error>() {
        Some(
            Error::ModelNotFound { .. }
            | Error::IncompleteCheckpoint { .. }
            | Error::MissingShard { .. }
            | Error::PickleOnly { .. }
            | Error::Unreadable { .. }
            | Error::WrongKind { .. }
            | Error::BadJson { .. }
            | Error::BadConfig { .. }
            | Error::Unsupported { .. }
            | Error::BadSafetensors { .. }
            | Error::BadGguf { .. }
            | Error::BadQuantization { .. }
            | Error::UnsafeShard { .. }
            | Error::MissingTensor { .. }
            | Error::UnusedTensor { .. }
            | Error::WrongShape { .. }
            | Error::WrongDtype { .. }
            | Error::Tokenizer { .. }
            | Error::Template { .. }
            | Error::NotAState { .. }
            | Error::NewerState { .. }
            | Error::DamagedState { .. }
            | Error::StateOfAnotherModel { .. },
        ) => 3,
        Some(Error::NoAdapter { .. } | Error::UnknownDevice { .. }) => 4,
        Some(Error::OutOfMemory { .. } | Error::DoesNotFit { .. }) => 5,
        Some(Error::Cancelled) => 130,
        Some(
            Error::BadSwitch { .. }
            | Error::BadShaders { .. }
            | Error::BadSetting { .. }
            | Error::BadOutput { .. }
            | Error::IdOutOfRange { .. },
        ) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io::{Error as IoError, ErrorKind};

    #[test]
    fn the_systems_words_are_said_once() {
        let source = || IoError::new(ErrorKind::NotFound, "No such file");
        let error = anyhow::Error::from(Error::Io { doing: "read", path: "x".into(), problem: source() });
        assert_eq!(message(&error), "cannot read x: No such file");
        let error = Err::<(), _>(source()).context("cannot read y").unwrap_err();
        assert_eq!(message(&error), "cannot read y: No such file");
        let error = Err::<(), _>(Error::NoTokens).context("of this").unwrap_err();
        assert_eq!(message(&error), "of this: no tokens to run: the prompt is empty");
    }

    #[test]
    fn codes_tell_what_was_typed_from_what_is_there() {
        let io = || Error::Io { doing: "read", path: "x".into(), problem: ErrorKind::NotFound.into() };
        assert_eq!(exit_code(&usage_error("no")), 2);
        assert_eq!(exit_code(&io().into()), 1);
        assert_eq!(exit_code(&Error::Unreadable { path: "x".into(), problem: ErrorKind::NotFound.into() }.into()), 3);
        assert_eq!(exit_code(&Error::Cancelled.into()), 130);
    }
}
