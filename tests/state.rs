//! Saved states: one process saves, another continues.

mod common;
mod program;

use common::{fixture, no_gpu};
use program::{answer, peregrine, piped, refused, run, stderr, stdout};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

fn saved_in(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

#[test]
fn an_answer_continues_in_another_process() {
    if no_gpu("an_answer_continues_in_another_process") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    let warm = ["--temp", "1.1", "--seed", "5", "--repeat-penalty", "1.3", "--presence-penalty", "0.2"];
    for settings in [&["--temp", "0"][..], &warm] {
        let with = |more: &[&str]| -> Vec<String> {
            ["run"].iter().chain(more).chain(settings).map(|s| (*s).to_owned()).collect()
        };
        let start = |more: &[&str]| run(&with(more).iter().map(String::as_str).collect::<Vec<_>>());
        let whole = stdout(&start(&["-p", "Once upon a time", "-n", "40"]));
        let first = ["-p", "Once upon a time", "-n", "13", "--save-state", &state, "--force"];
        let mut text = stdout(&start(&first));
        // The settings come from the state; stdin is not read.
        let on = ["run", "--load-state", &state, "--save-state", &state, "-n"];
        let went_on = piped(&[&on[..], &["1"]].concat(), b"not a prompt");
        assert!(!stderr(&went_on).contains("differ"), "{}", stderr(&went_on));
        text += &stdout(&went_on);
        text += &stdout(&run(&[&on[..], &["0"]].concat()));
        text += &stdout(&run(&[&on[..], &["26"]].concat()));
        // Without --save-state the output ends with a newline.
        let end = if text.ends_with('\n') { "" } else { "\n" };
        assert_eq!(text + end, whole, "{settings:?}");
    }
    // Command line settings override those in the state.
    let on = |more: &[&str]| stdout(&run(&[&["run", "--load-state", &state, "-n", "20"], more].concat()));
    assert_ne!(on(&["--temp", "0", "--repeat-penalty", "1", "--presence-penalty", "0"]), on(&[]));
    assert_ne!(on(&["--seed", "6"]), on(&[]));
    assert_eq!(on(&["--seed", "5"]), on(&[]));
}

#[test]
fn a_prompt_continues_with_more_text_or_without() {
    if no_gpu("a_prompt_continues_with_more_text_or_without") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    assert_eq!(stdout(&run(&["run", "-p", "Once upon", "-n", "0", "--temp", "0", "--save-state", &state])), "");
    let greedy = |prompt| stdout(&run(&["run", "-p", prompt, "-n", "30", "--temp", "0"]));
    let whole = greedy("Once upon a time");
    let on = ["run", "--load-state", &state, "-n", "30"];
    assert_eq!(stdout(&run(&[&on[..], &["-p", " a time"]].concat())), whole);
    assert_eq!(stdout(&piped(&[&on[..], &["-p", "-"]].concat(), b" a time")), whole);
    let twice = greedy("Once uponOnce upon");
    assert_eq!(stdout(&run(&[&on[..], &["-p", "Once upon"]].concat())), twice);
    let nothing = greedy("Once upon");
    assert_eq!(stdout(&run(&on)), nothing);
    assert_eq!(stdout(&run(&[&on[..], &["-p", ""]].concat())), nothing);
}

#[test]
fn a_conversation_continues_in_another_process() {
    if no_gpu("a_conversation_continues_in_another_process") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (cut, ended) = (saved_in(dir.path(), "cut"), saved_in(dir.path(), "ended"));
    let ask = ["run", "-cnv", "-p", "What is 12 plus 2?", "--temp", "0"];
    let first = stdout(&run(&[&ask[..], &["-n", "3", "--save-state", &cut]].concat()));
    let rest = stdout(&run(&["run", "--load-state", &cut, "--save-state", &ended]));
    assert_eq!(first + &rest, "12 plus 2 is 14.");
    let nothing = run(&["run", "--load-state", &ended]);
    assert_eq!(stdout(&nothing), "");
    assert!(stderr(&nothing).contains("the saved answer is complete"), "{}", stderr(&nothing));
    let next = ["run", "--load-state", &ended, "-cnv", "-p", "What is 3 plus 4?"];
    assert_eq!(answer(&run(&next)), "3 plus 4 is 7.");
}

#[test]
fn long_prompts_are_read_in_chunks_and_give_the_same() {
    if no_gpu("long_prompts_are_read_in_chunks_and_give_the_same") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = saved_in(dir.path(), "prompt");
    let text = prose(6000);
    // One newline at the end of a file or of stdin is dropped.
    let with_end = text.clone() + "\n";
    std::fs::write(&file, &with_end).unwrap();
    let greedy = ["run", "-n", "20", "--temp", "0"];
    let whole = stdout(&run(&[&greedy[..], &["-p", &text]].concat()));
    assert_eq!(stdout(&run(&[&greedy[..], &["-f", &file, "--chunk", "48"]].concat())), whole);
    assert_eq!(stdout(&piped(&[&greedy[..], &["--chunk", "100"]].concat(), with_end.as_bytes())), whole);
    let broken = [text.as_bytes(), b"\xff", text.as_bytes()].concat();
    refused(&piped(&["run", "-n", "20"], &broken), 1, &["UTF-8", &format!("offset {}", text.len())]);
}

/// Text of some thousand characters that is hard to tokenize.
fn prose(bytes: usize) -> String {
    let mut text = String::new();
    for i in 0.. {
        text += &format!(
            "On day {i} the fox (who was 12{i} years old) said: \"it's a très\u{301} long tale, 我是一只狐狸。\"\n\n"
        );
        if text.len() > bytes {
            return text;
        }
    }
    unreachable!("it grows");
}

#[test]
fn half_precision_states_and_other_weights_warn() {
    if no_gpu("half_precision_states_and_other_weights_warn") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (whole, half) = (saved_in(dir.path(), "whole"), saved_in(dir.path(), "half"));
    let start = ["run", "-p", "Once upon a time", "-n", "8", "--temp", "0", "--save-state"];
    stdout(&run(&[&start[..], &[&whole]].concat()));
    stdout(&run(&[&start[..], &[&half, "--state-f16"]].concat()));
    let size = |path: &str| std::fs::metadata(path).unwrap().len();
    assert!(size(&half) * 10 < size(&whole) * 6, "{} of {}", size(&half), size(&whole));
    let on = |path: &str, more: &[&str]| run(&[&["run", "--load-state", path, "-n", "12"], more].concat());
    assert!(!stderr(&on(&whole, &[])).contains("differ"));
    assert!(stderr(&on(&half, &[])).contains("half precision"));
    assert_eq!(stdout(&on(&half, &[])), stdout(&on(&whole, &[])));
    let other = on(&whole, &["--weights", "q8_0"]);
    stdout(&other);
    assert!(stderr(&other).contains("q8_0") && stderr(&other).contains("may differ"), "{}", stderr(&other));
    refused(&run(&["run", "-p", "x", "--state-f16"]), 2, &["--save-state"]);
}

#[test]
fn unusable_states_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    let load = |more: &[&str]| run(&[&["run", "--load-state", &state], more].concat());
    refused(&load(&[]), 3, &["cannot read", &state]);
    std::fs::write(&state, "no state at all").unwrap();
    refused(&load(&[]), 3, &[&state, "is not a saved state"]);
    refused(&run(&["run", "-p", "x", "--save-state", "/no/such/folder/state"]), 1, &["cannot write"]);
    refused(&run(&["run", "-p", "x", "--save-state", dir.path().to_str().unwrap()]), 1, &["cannot write"]);
    if no_gpu("unusable_states_are_rejected") {
        return;
    }
    stdout(&run(&["run", "-p", "Once", "-n", "1", "--save-state", &state, "--force"]));
    let good = std::fs::read(&state).unwrap();
    let falcon = fixture("falcon-tiny");
    refused(&load(&["-m", falcon.to_str().unwrap()]), 3, &["another model", "vocabulary is 2048 there"]);
    std::fs::write(&state, &good[..good.len() / 2]).unwrap();
    refused(&load(&[]), 3, &["cut off"]);
    std::fs::write(&state, [&good[..3000], &[good[3000] ^ 1], &good[3001..]].concat()).unwrap();
    refused(&load(&[]), 3, &["checksum"]);
    refused(&run(&["run", "-p", "x", "--save-state", &state]), 2, &["already exists", "--force"]);
    // A failed save keeps the old file.
    std::fs::write(&state, &good).unwrap();
    refused(&run(&["run", "-p", "x", "-n", "1", "--save-state", &state, "--force", "--device", "99"]), 4, &["99"]);
    refused(&piped(&["run", "-n", "1", "--save-state", &state, "--force"], b"a\xff"), 1, &["UTF-8"]);
    assert_eq!(std::fs::read(&state).unwrap(), good);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

fn started(arguments: &[&str]) -> Child {
    let mut command = peregrine();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[cfg(unix)]
fn send(signal: nix::sys::signal::Signal, child: &Child) {
    let process = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    send(nix::sys::signal::Signal::SIGINT, child);
}

#[cfg(unix)]
#[test]
fn an_interrupted_prompt_is_saved_and_continues_with_the_rest() {
    if no_gpu("an_interrupted_prompt_is_saved_and_continues_with_the_rest") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    let text = prose(4000);
    let mut child = started(&["run", "-v", "-n", "20", "--temp", "0", "--chunk", "32", "--save-state", &state]);
    let mut stdin = child.stdin.take().unwrap();
    // stdin stays open, so the program waits for more.
    stdin.write_all(text.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("loaded") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it was loaded");
    }
    std::thread::sleep(std::time::Duration::from_secs(2));
    interrupt(&child);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let bytes = rest.split("after ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{rest}"));
    let bytes: usize = bytes.parse().unwrap();
    assert!((1..text.len()).contains(&bytes), "{rest}");
    let rest = text[bytes..].to_owned() + "\n";
    let went_on = piped(&["run", "--load-state", &state, "-p", "-", "-n", "20"], rest.as_bytes());
    assert_eq!(stdout(&went_on), stdout(&run(&["run", "-p", &text, "-n", "20", "--temp", "0"])));
    drop(stdin);
}

#[cfg(unix)]
#[test]
fn an_answer_ended_by_a_signal_is_saved_and_resumed() {
    use nix::sys::signal::Signal;
    if no_gpu("an_answer_ended_by_a_signal_is_saved_and_resumed") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    for prompt in [&["-p", "Once upon a time"][..], &["-cnv", "-p", "Tell me a story about a fox."]] {
        let settings = ["--temp", "0.9", "--seed", "3", "--ignore-eos", "-n"];
        let start = [&["run"], prompt, &settings].concat();
        let whole = stdout(&run(&[&start[..], &["600"]].concat()));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let _ = std::fs::remove_file(&state);
            let mut child = started(&[&start[..], &["-1", "--save-state", &state]].concat());
            let mut out = child.stdout.take().unwrap();
            let mut text = vec![0; 40];
            out.read_exact(&mut text).unwrap();
            send(signal, &child);
            out.read_to_end(&mut text).unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(130), "{signal}: {}", stderr(&ended));
            let mut text = String::from_utf8(text).unwrap();
            text += &answer(&run(&["run", "--load-state", &state, "-n", "15"]));
            assert!(whole.starts_with(&text) || text.starts_with(whole.trim_end()), "{signal}: {text:?}\n{whole:?}");
        }
    }
}

/// Waiting for a message from stdin or a named pipe can be interrupted.
#[cfg(unix)]
#[test]
fn waiting_for_a_message_can_be_interrupted() {
    if no_gpu("waiting_for_a_message_can_be_interrupted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (pipe, state) = (saved_in(dir.path(), "pipe"), saved_in(dir.path(), "state"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // The pipe's writer sends nothing.
    let writer = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    for from in [&["-p", "-"][..], &["-f", &pipe]] {
        for form in [&["-cnv"][..], &[]] {
            let _ = std::fs::remove_file(&state);
            let mut child = started(&[&["run", "-v", "--save-state", &state], form, from].concat());
            let stdin = child.stdin.take();
            let mut said = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            while !line.starts_with("loaded") {
                line.clear();
                assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it was loaded");
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
            interrupt(&child);
            let mut rest = String::new();
            said.read_to_string(&mut rest).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(130), "{form:?} {from:?}: {rest}");
            assert!(Path::new(&state).exists(), "{form:?} {from:?}: {rest}");
            drop(stdin);
        }
    }
    drop(writer);
}

#[test]
fn a_closed_output_pipe_still_saves_the_state() {
    if no_gpu("a_closed_output_pipe_still_saves_the_state") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state = saved_in(dir.path(), "state");
    let mut child = started(&["run", "-p", "Once upon a time", "-n", "400", "--ignore-eos", "--save-state", &state]);
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert!(child.wait().unwrap().success());
    stdout(&run(&["run", "--load-state", &state, "-n", "3"]));
}
