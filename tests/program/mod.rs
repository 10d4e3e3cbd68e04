//! Running the program and looking at how it ends.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

pub fn peregrine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peregrine"));
    command.env_remove("PEREGRINE_MODEL").stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    peregrine().args(arguments).output().unwrap()
}

pub fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = peregrine();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ends with `code` after one sentence that says all of `said`, and nothing on stdout.
pub fn refused(output: &Output, code: i32, said: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in said {
        assert!(text.contains(word), "{word:?} is not said in: {text}");
    }
    assert!(output.stdout.is_empty());
}
