//! A chat that is left in any way can be continued at the next start as if it had never stopped.
#![cfg(unix)]

mod common;
mod program;

use common::{gpu, no_gpu, shipped};
use nix::sys::signal::Signal;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Snapshot};
use program::{peregrine, piped, run, stderr, stdout};
use rexpect::session::{PtySession, spawn_command};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const STORY: &str = "Tell me a story about a fox.";

/// `peregrine chat` on a terminal, with its files in `folder`.
fn chat(arguments: &[&str], folder: &Path) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peregrine"));
    command.arg("chat").args(arguments).env("XDG_STATE_HOME", folder).env("NO_COLOR", "1").env("TERM", "xterm");
    command.env_remove("PEREGRINE_HISTORY").env_remove("PEREGRINE_MODEL");
    spawn_command(command, Some(60_000)).unwrap()
}

fn prompt(chat: &mut PtySession) {
    chat.exp_string("> ").unwrap();
}

fn ended(mut chat: PtySession) -> String {
    let rest = chat.exp_eof().unwrap();
    let status = format!("{:?}", chat.process_mut().wait().unwrap());
    assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status} after {rest}");
    rest
}

fn send(signal: Signal, chat: &mut PtySession) {
    chat.process_mut().signal(signal).unwrap();
}

/// The saved chats, one for each model.
fn kept_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("peregrine/chats")) else { return vec![] };
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn kept(folder: &Path) -> Snapshot {
    let files = kept_in(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    Snapshot::open(&files[0]).unwrap()
}

#[test]
fn a_chat_killed_in_an_answer_continues_token_for_token() {
    if no_gpu("a_chat_killed_in_an_answer_continues_token_for_token") {
        return;
    }
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let engine = Engine::load(&gpu(), checkpoint, EngineOptions::default().slots(1), &mut |_| {}).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        let settings = ["--temp", "0.9", "--seed", "5", "--repeat-penalty", "1.1", "--ignore-eos", "-n", "-1"];
        let mut one = chat(&settings, folder.path());
        prompt(&mut one);
        one.send_line(STORY).unwrap();
        // In the middle of an endless answer.
        one.exp_regex(r"(?s)fox.*\n.*\w+ \w+ \w+").unwrap();
        send(signal, &mut one);
        assert!(ended(one).contains("chat saved"), "{signal}");
        let cut = kept(folder.path());
        assert_eq!(cut.messages().len(), 2);
        // The chat's settings apply, not the model's.
        let mut two = chat(&["-n", "25"], folder.path());
        two.exp_string("continue the last chat (2 messages, just now)? y/N").unwrap();
        two.send_line("y").unwrap();
        two.exp_string(&format!("user: {STORY}")).unwrap();
        prompt(&mut two);
        two.send_line("/continue").unwrap();
        two.exp_string("token limit reached").unwrap();
        prompt(&mut two);
        two.send_line("/exit").unwrap();
        ended(two);
        let whole = kept(folder.path());
        assert_eq!(whole.position(), cut.position() + 25);
        // The same without an interruption.
        let mut session = engine.session(cut.sampling().clone()).unwrap();
        drop(session.send(STORY, &AnswerOptions::tokens(0)).unwrap());
        let tokens = usize::try_from(whole.position() - session.position()).unwrap();
        session.resume(&AnswerOptions::tokens(tokens)).unwrap().for_each(|piece| drop(piece.unwrap()));
        assert_eq!(session.messages(), whole.messages(), "{signal}");
        assert!(session.snapshot().unwrap().state() == whole.state(), "{signal}: the states differ");
        drop(session);
    }
}

#[test]
fn the_chat_is_saved_however_it_is_left() {
    if no_gpu("the_chat_is_saved_however_it_is_left") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    type Leave = fn(&mut PtySession);
    let ways: [(&str, Leave); 6] = [
        ("/exit", |chat| _ = chat.send_line("/exit").unwrap()),
        ("Ctrl-D", |chat| chat.send_control('d').unwrap()),
        ("Ctrl-C twice", |chat| {
            chat.send_control('c').unwrap();
            chat.exp_string("press Ctrl-C again").unwrap();
            prompt(chat);
            chat.send_control('c').unwrap();
        }),
        ("SIGTERM", |chat| send(Signal::SIGTERM, chat)),
        ("SIGHUP", |chat| send(Signal::SIGHUP, chat)),
        ("SIGTERM in a half line", |chat| {
            chat.send("half a line").unwrap();
            chat.flush().unwrap();
            chat.exp_string("half a line").unwrap();
            send(Signal::SIGTERM, chat);
        }),
    ];
    for (i, (way, leave)) in ways.into_iter().enumerate() {
        let mut one = chat(&["--temp", "0"], folder.path());
        if i > 0 {
            one.exp_string("y/N").unwrap();
            one.send_line("n").unwrap();
        }
        prompt(&mut one);
        let question = format!("What is {} plus 4?", i + 2);
        one.send_line(&question).unwrap();
        one.exp_string("[ Prompt: ").unwrap();
        prompt(&mut one);
        leave(&mut one);
        ended(one);
        let messages = kept(folder.path()).messages().to_vec();
        assert_eq!((messages.len(), &messages[0].content), (2, &question), "{way}");
        assert_eq!(messages[1].content, format!("{} plus 4 is {}.", i + 2, i + 6), "{way}");
    }
}

#[test]
fn the_last_chat_is_offered_and_not_lost_if_declined() {
    if no_gpu("the_last_chat_is_offered_and_not_lost_if_declined") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = || std::fs::read(&kept_in(folder.path())[0]).unwrap();
    let mut one = chat(&["--temp", "0"], folder.path());
    prompt(&mut one);
    one.send_line("What is 3 plus 4?").unwrap();
    one.exp_string("is 7.").unwrap();
    prompt(&mut one);
    one.send_control('d').unwrap();
    ended(one);
    let first = bytes();
    // A chat without messages, a pipe and --no-autosave do not change it.
    for answers in [&["n"][..], &[""], &[]] {
        let mut two = chat(&["--temp", "0"], folder.path());
        two.exp_string("continue the last chat (2 messages").unwrap();
        for answer in answers {
            two.send_line(answer).unwrap();
            prompt(&mut two);
        }
        two.send_control('d').unwrap();
        ended(two);
        assert!(bytes() == first, "{answers:?}");
    }
    let mut three = chat(&["--temp", "0", "--no-autosave"], folder.path());
    prompt(&mut three);
    three.send_line("What is 12 plus 2?").unwrap();
    three.exp_string("is 14.").unwrap();
    prompt(&mut three);
    three.send_control('d').unwrap();
    assert!(!ended(three).contains("chat saved"));
    let in_a_pipe = |arguments: &[&str], input: &str| {
        let mut command = peregrine();
        command.arg("chat").args(arguments).env("XDG_STATE_HOME", folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let piped = in_a_pipe(&["--temp", "0"], "What is 12 plus 2?\n");
    assert_eq!(stdout(&piped), "12 plus 2 is 14.\n");
    assert!(!stderr(&piped).contains("continue"), "{}", stderr(&piped));
    assert!(bytes() == first);
    // With --continue it is continued in a pipe too.
    let went_on = in_a_pipe(&["--continue"], "/tokens\n/regen\n");
    assert_eq!(stdout(&went_on), "3 plus 4 is 7.\n");
    assert!(stderr(&went_on).contains("2 messages, "), "{}", stderr(&went_on));
    // A reply other than yes or no is a message.
    let mut four = chat(&["--temp", "0"], folder.path());
    four.exp_string("y/N").unwrap();
    four.send_line("What is 12 plus 2?").unwrap();
    four.exp_string("is 14.").unwrap();
    prompt(&mut four);
    four.send_control('d').unwrap();
    ended(four);
    assert_eq!(kept(folder.path()).messages()[0].content, "What is 12 plus 2?");
    // A damaged one is reported, and a new chat begins.
    std::fs::write(&kept_in(folder.path())[0], "nothing of the kind").unwrap();
    let mut five = chat(&["--temp", "0"], folder.path());
    five.exp_string("error: ").unwrap();
    prompt(&mut five);
    five.send_control('d').unwrap();
    ended(five);
}

#[test]
fn a_state_saved_by_run_continues_in_a_chat() {
    if no_gpu("a_state_saved_by_run_continues_in_a_chat") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    stdout(&run(&["run", "-cnv", "-p", "What is 3 plus 4?", "--temp", "0", "-n", "3", "--save-state", state]));
    let said = piped(&["chat", "--load-state", state], b"/continue\nWhat is 12 plus 2?\n/tokens\n/set temp\n");
    let text = stdout(&said);
    assert!(text.ends_with(" is 7.\n12 plus 2 is 14.\n"), "{text}");
    assert!(stderr(&said).contains("4 messages, ") && stderr(&said).contains("temp 0"), "{}", stderr(&said));
    let none = run(&["chat", "--load-state", "/no/such/state"]);
    assert!(!none.status.success() && stderr(&none).contains("/no/such/state"), "{}", stderr(&none));
}
