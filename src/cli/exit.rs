//! Exit codes and error messages of the program.

use super::selftest;
use peregrine::{Error, ErrorKind};

pub const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 usage error, 3 the model or saved state is missing, unreadable, \
                              damaged, unsupported or from another model, 4 no usable GPU, 5 out of GPU memory, 6 self-test failed, 130 interrupted.";

/// An error with an exit code of its own.
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

/// A usage error: exit code 2.
pub fn usage_error(said: impl Into<String>) -> anyhow::Error {
    CodedError { code: 2, said: said.into() }.into()
}

/// An error with its causes. A cause that the message already contains is not repeated.
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

/// Whether the reader of our output has closed its pipe, which is no failure.
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
    let Some(error) = error.downcast_ref::<Error>() else { return 1 };
    match error {
        Error::Unreadable { .. } => return 3, // a model's file or a state, as other files are `Io`
        Error::BadOutput { .. } => return 2,
        _ => {}
    }
    match error.kind() {
        ErrorKind::ModelNotFound
        | ErrorKind::ModelUnusable
        | ErrorKind::ModelNotOnHub
        | ErrorKind::StateDamaged
        | ErrorKind::StateTooNew
        | ErrorKind::StateOfAnotherModel => 3,
        ErrorKind::NoDevice => 4,
        ErrorKind::OutOfMemory => 5,
        ErrorKind::Cancelled => 130,
        ErrorKind::BadSetting => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io::{Error as IoError, ErrorKind};

    #[test]
    fn the_systems_message_is_printed_once() {
        let source = || IoError::new(ErrorKind::NotFound, "No such file");
        let error = anyhow::Error::from(Error::Io { doing: "read", path: "x".into(), problem: source() });
        assert_eq!(message(&error), "cannot read x: No such file");
        let error = Err::<(), _>(source()).context("cannot read y").unwrap_err();
        assert_eq!(message(&error), "cannot read y: No such file");
        let error = Err::<(), _>(Error::NoTokens).context("of this").unwrap_err();
        assert_eq!(message(&error), "of this: no tokens to run: the prompt is empty");
    }

    #[test]
    fn usage_errors_and_model_errors_have_different_codes() {
        let io = || Error::Io { doing: "read", path: "x".into(), problem: ErrorKind::NotFound.into() };
        assert_eq!(exit_code(&usage_error("no")), 2);
        assert_eq!(exit_code(&io().into()), 1);
        assert_eq!(exit_code(&Error::Unreadable { path: "x".into(), problem: ErrorKind::NotFound.into() }.into()), 3);
        assert_eq!(exit_code(&Error::Cancelled.into()), 130);
    }
}
