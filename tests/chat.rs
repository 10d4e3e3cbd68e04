//! The chat as a person has it: on a terminal of its own.
#![cfg(unix)]

mod common;

use common::no_gpu;
use rexpect::session::{PtySession, spawn_command};
use std::process::Command;

const PATIENCE: Option<u64> = Some(60_000);

fn chat(arguments: &[&str], history: &std::path::Path) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peregrine"));
    command.arg("chat").args(arguments).env_remove("PEREGRINE_MODEL");
    command.env("PEREGRINE_HISTORY", history).env("NO_COLOR", "1").env("TERM", "xterm");
    let mut session = spawn_command(command, PATIENCE).unwrap();
    session.exp_string("> ").unwrap();
    session
}

fn ended(mut session: PtySession, code: i32) {
    session.exp_eof().unwrap();
    let status = format!("{:?}", session.process_mut().wait().unwrap());
    assert!(status.starts_with("Exited(") && status.ends_with(&format!(", {code})")), "{status}");
}

#[test]
fn a_conversation_on_a_terminal() {
    if no_gpu("a_conversation_on_a_terminal") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history");
    let mut one = chat(&[], &history);
    // Each waits for the prompt: what is typed while a line editor starts may be lost, as on every terminal.
    let say = |chat: &mut PtySession, line: &str, answer: &str| {
        chat.send_line(line).unwrap();
        chat.exp_string(answer).unwrap();
        chat.exp_string("> ").unwrap();
    };
    // A question, its answer and one line about speed.
    one.send_line("What is 3 plus 4?").unwrap();
    one.exp_string("3 plus 4 is 7.").unwrap();
    one.exp_regex(r"\[ Prompt: \d+ tokens, [0-9.]+ t/s \| Generation: \d+ tokens").unwrap();
    one.exp_string("> ").unwrap();
    // Several lines: quoted, and with a backslash.
    one.send_line("\"\"\"What is").unwrap();
    one.exp_string(". ").unwrap();
    say(&mut one, "12 plus 2?\"\"\"", "[ Prompt: ");
    one.send_line("What is \\").unwrap();
    one.exp_string("\n").unwrap();
    one.exp_string(". ").unwrap();
    say(&mut one, "5 plus 5?", "[ Prompt: ");
    say(&mut one, "/tokens", "in 6 messages");
    // The system prompt is kept over /clear, settings are shown and refused.
    say(&mut one, "/system Be brief.", "Be brief.");
    say(&mut one, "/clear", "\n");
    say(&mut one, "/system", "Be brief.");
    say(&mut one, "/set temp cold", "cannot set");
    say(&mut one, "/set top_p 7", "top_p is 7");
    say(&mut one, "/nonsense", "there is no /nonsense");
    // Completion of a command.
    say(&mut one, "/dev\t", "MB in use");
    one.send_line("/exit").unwrap();
    ended(one, 0);
    // The next time, the last message is one key away.
    assert!(std::fs::read_to_string(&history).unwrap().contains("What is 3 plus 4?"));
    let mut two = chat(&[], &history);
    two.send_line("\x1b[A\x1b[A").unwrap();
    two.exp_string("MB in use").unwrap();
    two.send_control('d').unwrap();
    ended(two, 0);
}

#[test]
fn an_answer_is_interrupted_regenerated_and_continued() {
    if no_gpu("an_answer_is_interrupted_regenerated_and_continued") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Without an end, so that only Ctrl-C stops it.
    let mut chat = chat(&["-n", "-1", "--ignore-eos"], &dir.path().join("history"));
    chat.send_line("Tell me a story about a fox.").unwrap();
    chat.exp_string("There was").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("stopped; /continue goes on").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line("/set n 4").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line("/continue").unwrap();
    chat.exp_string("cut off at its limit").unwrap();
    chat.exp_string("Generation: 4 tokens").unwrap();
    // Greedy: the same again, and that is said.
    chat.send_line("/regen").unwrap();
    chat.exp_string("the answer will be the same").unwrap();
    chat.exp_string("There was").unwrap();
    chat.exp_string("Generation: 4 tokens").unwrap();
    chat.send_line("/tokens").unwrap();
    chat.exp_string("in 2 messages").unwrap();
    // At the prompt, once is a warning and twice is the end.
    chat.exp_string("> ").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("once more leaves").unwrap();
    chat.send_control('c').unwrap();
    ended(chat, 0);
}

/// Says a line and waits for each of these in turn, then for the prompt.
fn say(chat: &mut PtySession, line: &str, answers: &[&str]) {
    chat.send_line(line).unwrap();
    for answer in answers {
        chat.exp_string(answer).unwrap();
    }
    chat.exp_string("> ").unwrap();
}

#[test]
fn conversations_are_taken_back_forked_saved_and_loaded() {
    if no_gpu("conversations_are_taken_back_forked_saved_and_loaded") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one two.safetensors");
    let mut one = chat(&[], &dir.path().join("history"));
    say(&mut one, "/undo", &["nothing to undo"]);
    say(&mut one, "What is 3 plus 4?", &["3 plus 4 is 7.", "[ Prompt: "]);
    say(&mut one, "What is 5 plus 5?", &["5 plus 5 is 10.", "[ Prompt: "]);
    // Nothing is read for it.
    say(&mut one, "/regen", &["5 plus 5 is 10.", "[ Prompt: 0 tokens"]);
    say(&mut one, "/undo", &["took back \"What is 5 plus 5?\""]);
    say(&mut one, "/tokens", &["in 2 messages", "states kept: ", "on the device", "beginnings kept: "]);
    // Two conversations from here on, by name.
    say(&mut one, "/fork", &["needs a name"]);
    say(&mut one, "/fork other", &["this is other now; /switch main goes back"]);
    say(&mut one, "/fork other", &["there is a conversation other already"]);
    say(&mut one, "What is 2 plus 2?", &["2 plus 2 is 4.", "[ Prompt: "]);
    say(&mut one, "/switch", &["  main: 2 messages", "* other: 4 messages"]);
    say(&mut one, "/switch nowhere", &["there is no conversation nowhere"]);
    say(&mut one, "/switch main", &["this is main now: 2 messages"]);
    // To a file and back; the other conversation stays. The name is completed.
    say(&mut one, "/save", &["needs the name of a file"]);
    say(&mut one, &format!("/save {}", file.display()), &["saved ", "in 2 messages"]);
    say(&mut one, "/load /nowhere/at/all", &["error: cannot read /nowhere/at/all"]);
    say(&mut one, "/undo", &["took back"]);
    say(&mut one, &format!("/load {}/one\t", dir.path().display()), &["loaded 2 messages"]);
    say(&mut one, "What is 5 plus 5?", &["5 plus 5 is 10.", "[ Prompt: "]);
    say(&mut one, "/load Cargo.toml", &["error: ", "Cargo.toml"]);
    say(&mut one, &format!("/load {}/one\t", dir.path().display()), &["this is one-two now; /switch main goes back"]);
    say(&mut one, "/switch", &["  main: 4 messages", "* one-two: 2 messages", "  other: 4 messages"]);
    one.send_line("/exit").unwrap();
    ended(one, 0);
    // In another process too.
    let mut two = chat(&[], &dir.path().join("history"));
    say(&mut two, &format!("/load {}", file.display()), &["loaded 2 messages"]);
    say(&mut two, "/regen", &["3 plus 4 is 7."]);
    two.send_line("/exit").unwrap();
    ended(two, 0);
}
