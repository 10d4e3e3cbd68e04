//! Running the program and checking its exit.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Write;
use std::path::{Path, PathBuf};
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

/// The answer on stdout without its final newline.
pub fn answer(output: &Output) -> String {
    let text = stdout(output);
    text.strip_suffix('\n').unwrap_or_else(|| panic!("{text:?} does not end with a newline")).to_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that the program ended with `code` and one error line that contains all of `said`, and printed nothing to stdout.
pub fn refused(output: &Output, code: i32, said: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in said {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert!(output.stdout.is_empty());
}

/// Starts the ignored test `name` of this file in another process, with `dir` as its input.
pub fn other_test(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--include-ignored"]).env("PEREGRINE_TEST_STATES", dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The `dir` of [`other_test`]; `None` if the test is run directly.
pub fn of_other_test() -> Option<PathBuf> {
    std::env::var_os("PEREGRINE_TEST_STATES").map(PathBuf::from)
}
