//! `peregrine chat` on a pseudo-terminal.
#![cfg(unix)]

mod common;
mod program;

use common::no_gpu;
use peregrine::runtime::Snapshot;
use program::{piped, stdout};
use rexpect::session::{PtySession, spawn_command};
use std::path::Path;
use std::process::Command;

const PATIENCE: Option<u64> = Some(60_000);

/// A greedy chat that saves only its history, up to its first prompt.
fn chat(arguments: &[&str], history: &Path) -> PtySession {
    let mut session = on_terminal(&[&["--temp", "0", "--no-autosave"], arguments].concat(), history);
    session.exp_string("> ").unwrap();
    session
}

/// `peregrine chat` on a terminal; it keeps its files beside the history.
fn on_terminal(arguments: &[&str], history: &Path) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peregrine"));
    command.arg("chat").args(arguments).env_remove("PEREGRINE_MODEL").env("XDG_STATE_HOME", history.parent().unwrap());
    command.env("PEREGRINE_HISTORY", history).env("NO_COLOR", "1").env("TERM", "xterm");
    spawn_command(command, PATIENCE).unwrap()
}

fn ended(mut session: PtySession, code: i32) {
    session.exp_eof().unwrap();
    let status = format!("{:?}", session.process_mut().wait().unwrap());
    assert!(status.starts_with("Exited(") && status.ends_with(&format!(", {code})")), "{status}");
}

#[test]
fn a_conversation_on_a_terminal_works() {
    if no_gpu("a_conversation_on_a_terminal_works") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history");
    let mut one = chat(&[], &history);
    // Wait for each prompt: input typed while a line editor starts may be lost, as on every terminal.
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
    say(&mut one, "/tokens", "6 messages, ");
    // /clear keeps the system prompt; settings are shown, and bad values rejected.
    say(&mut one, "/system Be brief.", "Be brief.");
    say(&mut one, "/clear", "\n");
    say(&mut one, "/system", "Be brief.");
    say(&mut one, "/set temp cold", "cannot set");
    say(&mut one, "/set top_p 7", "top_p is 7");
    say(&mut one, "/nonsense", "unknown command /nonsense");
    // A line with a slash inside is a message.
    say(&mut one, "\"\"\"/usr: what is that?\"\"\"", "[ Prompt: ");
    // Completion of a command.
    say(&mut one, "/dev\t", "MB in use");
    one.send_line("/exit now, please").unwrap();
    ended(one, 0);
    // In the next chat, the last message is in the history.
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
    // Without EOS, so that only Ctrl-C stops it.
    let mut chat = chat(&["-n", "-1", "--ignore-eos"], &dir.path().join("history"));
    chat.send_line("Tell me a story about a fox.").unwrap();
    chat.exp_string("There was").unwrap();
    chat.send_control('c').unwrap();
    chat.exp_string("stopped; /continue resumes the answer").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line("/set n 4").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_line("/continue").unwrap();
    chat.exp_string("token limit reached").unwrap();
    chat.exp_string("Generation: 4 tokens").unwrap();
    // A greedy answer repeats, with a note.
    chat.send_line("/regen").unwrap();
    chat.exp_string("the answer will be the same").unwrap();
    chat.exp_string("There was").unwrap();
    chat.exp_string("Generation: 4 tokens").unwrap();
    chat.send_line("/tokens").unwrap();
    chat.exp_string("2 messages, ").unwrap();
    // At the prompt, the first Ctrl-C warns and the second leaves; typing in between resets the count.
    chat.exp_string("> ").unwrap();
    for _ in 0..2 {
        chat.send_control('c').unwrap();
        chat.exp_string("press Ctrl-C again").unwrap();
        chat.exp_string("> ").unwrap();
        chat.send("half a line").unwrap();
        chat.flush().unwrap();
        chat.exp_string("half a line").unwrap();
        chat.send_control('c').unwrap();
        chat.exp_string("> ").unwrap();
    }
    chat.send_control('c').unwrap();
    chat.exp_string("press Ctrl-C again").unwrap();
    chat.exp_string("> ").unwrap();
    chat.send_control('c').unwrap();
    ended(chat, 0);
}

/// Sends a line and waits for each of these texts in turn, then for the prompt.
fn say(chat: &mut PtySession, line: &str, answers: &[&str]) {
    chat.send_line(line).unwrap();
    for answer in answers {
        chat.exp_string(answer).unwrap();
    }
    chat.exp_string("> ").unwrap();
}

#[test]
fn conversations_are_undone_forked_saved_and_loaded() {
    if no_gpu("conversations_are_undone_forked_saved_and_loaded") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one two.safetensors");
    let mut one = chat(&[], &dir.path().join("history"));
    say(&mut one, "/undo", &["nothing to undo"]);
    say(&mut one, "What is 3 plus 4?", &["3 plus 4 is 7.", "[ Prompt: "]);
    say(&mut one, "What is 5 plus 5?", &["5 plus 5 is 10.", "[ Prompt: "]);
    // Nothing is read for it.
    say(&mut one, "/regen", &["5 plus 5 is 10.", "[ Generation: "]);
    say(&mut one, "/undo", &["removed \"What is 5 plus 5?\""]);
    say(&mut one, "/tokens", &["2 messages, ", "states: ", "on the device", "prefix cache: "]);
    // From here on there are two named conversations.
    say(&mut one, "/fork", &["needs a name"]);
    say(&mut one, "/fork other", &["now in other; /switch main goes back"]);
    say(&mut one, "/fork other", &["conversation other already exists"]);
    say(&mut one, "What is 2 plus 2?", &["2 plus 2 is 4.", "[ Prompt: "]);
    say(&mut one, "/switch", &["  main: 2 messages", "* other: 4 messages"]);
    say(&mut one, "/switch nowhere", &["no conversation nowhere"]);
    say(&mut one, "/switch main", &["now in main: 2 messages"]);
    // Save and load; the other conversation stays. The file name is completed.
    say(&mut one, "/save", &["missing file name"]);
    say(&mut one, &format!("/save {}", file.display()), &["saved ", "2 messages, "]);
    say(&mut one, "/load /nowhere/at/all", &["error: cannot read /nowhere/at/all"]);
    say(&mut one, "/undo", &["removed"]);
    say(&mut one, &format!("/load {}/one\t", dir.path().display()), &["loaded 2 messages"]);
    say(&mut one, "What is 5 plus 5?", &["5 plus 5 is 10.", "[ Prompt: "]);
    say(&mut one, "/load Cargo.toml", &["error: ", "Cargo.toml"]);
    say(&mut one, &format!("/load {}/one\t", dir.path().display()), &["now in one-two; /switch main goes back"]);
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

#[test]
fn commands_accept_sloppy_input() {
    if no_gpu("commands_accept_sloppy_input") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (history, empty) = (dir.path().join("history"), dir.path().join("nothing in it"));
    std::fs::write(&empty, " \n").unwrap();
    let mut one = chat(&["-n", "4"], &history);
    say(&mut one, "/stats off", &["speed line off"]);
    say(&mut one, "/stats maybe", &["neither on nor off"]);
    for message in ["One.", "Two \u{1f468}\u{200d}\u{1f469}.", "Three."] {
        say(&mut one, message, &["token limit reached"]);
    }
    // Echoes equal the typed text.
    let as_bytes = |text: &str| text.bytes().map(char::from).collect::<String>();
    let echo = as_bytes("removed \"Two \u{1f468}\u{200d}\u{1f469}.\"");
    say(&mut one, "/undo 2", &["removed \"Three.\"", &echo]);
    say(&mut one, "/undo many", &["is not a number of messages"]);
    say(&mut one, "/undo 9", &["removed \"One.\"", "nothing more to undo"]);
    say(&mut one, "/stats on", &["speed line on"]);
    say(&mut one, "/read", &["missing file name"]);
    say(&mut one, &format!("/read {}/noth\t", dir.path().display()), &["is empty: nothing sent"]);
    say(&mut one, "/qiut", &["unknown command /qiut, did you mean /quit?"]);
    say(&mut one, "/set tmep 1", &["did you mean temp?"]);
    say(&mut one, "/set n", &["n 4"]);
    say(&mut one, "/set pres\t", &["presence_penalty 0"]);
    say(&mut one, "/set n 0", &[]);
    say(&mut one, "What is 3 plus 4?", &["the answer is empty: its limit is 0 tokens", "[ Prompt: "]);
    say(&mut one, "/fork aside", &["now in aside"]);
    say(&mut one, "/swi\tma\t", &["now in main"]);
    one.send_line("/bye for now").unwrap();
    ended(one, 0);
    let mut two = chat(&[], &history);
    two.send_line("/quit ").unwrap();
    ended(two, 0);
}

/// The output on a terminal with `columns` columns until the program ends.
fn shown_on(columns: usize, term: &str, arguments: &str, said: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_peregrine");
    command.args(["-c", &format!("stty cols {columns} && exec {program} chat {arguments}")]);
    command.env_remove("PEREGRINE_MODEL").env_remove("NO_COLOR").env("XDG_STATE_HOME", dir.path()).env("TERM", term);
    let mut session = spawn_command(command, PATIENCE).unwrap();
    let mut text = String::new();
    for line in said {
        text += &session.exp_string("> ").unwrap();
        session.send_line(line).unwrap();
    }
    text + &session.exp_eof().unwrap()
}

#[test]
fn words_are_wrapped_at_the_width_of_the_terminal() {
    if no_gpu("words_are_wrapped_at_the_width_of_the_terminal") {
        return;
    }
    let question = "Tell me a story about a fox.";
    let text = shown_on(40, "xterm", "--temp 0", &[question, "/exit"]);
    let whole = piped(&["chat", "--temp", "0"], question.as_bytes());
    let whole = stdout(&whole);
    let words: Vec<&str> = whole.split_whitespace().collect();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let from = lines.iter().position(|line| line.starts_with(words[0])).unwrap_or_else(|| panic!("{text}"));
    let mut seen: Vec<&str> = vec![];
    let mut at = from;
    while seen.len() < words.len() {
        assert!(lines[at].chars().count() < 40, "{:?}", lines[at]);
        seen.extend(lines[at].split_whitespace());
        at += 1;
    }
    assert_eq!(seen, words);
    assert!(at - from > 3, "{text}");
    // In a pipe nothing is wrapped, and a newline ends it.
    assert!(whole.lines().any(|line| line.len() > 80) && whole.ends_with('\n'), "{whole:?}");
}

#[test]
fn a_dumb_terminal_gets_no_codes() {
    if no_gpu("a_dumb_terminal_gets_no_codes") {
        return;
    }
    let said = ["What is 3 plus 4?", "/nonsense", "/exit"];
    let text = shown_on(80, "dumb", "--temp 0 --no-autosave", &said);
    assert!(text.contains("3 plus 4 is 7.") && text.contains("unknown command /nonsense"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    // A terminal that can do more is asked to.
    assert!(shown_on(80, "xterm", "--temp 0 --no-autosave", &said).contains("\x1b[2m"));
}

/// Stories about animals, each after /clear, with the animal's name removed.
fn stories(arguments: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = |animal: &str| dir.path().join(animal);
    let animals = ["fox", "bear", "cat"];
    let script = animals.map(|a| format!("/clear\nTell me a story about a {a}.\n/save {}\n", file(a).display()));
    stdout(&piped(&[&["chat"], arguments].concat(), script.concat().as_bytes()));
    let story = |animal: &str| {
        let story = Snapshot::open(file(animal)).unwrap().messages()[1].content.clone();
        assert!(story.contains(animal), "{story}");
        story.replace(animal, "animal")
    };
    animals.map(story).to_vec()
}

#[test]
fn the_shipped_model_tells_different_stories() {
    if no_gpu("the_shipped_model_tells_different_stories") {
        return;
    }
    let told = stories(&["--seed", "1"]);
    assert!(told[0] != told[1] && told[1] != told[2] && told[0] != told[2], "{told:?}");
    // At temperature 0, two of them are equal.
    let greedy = stories(&["--temp", "0"]);
    assert_eq!(greedy[0], greedy[1]);
    // A confident answer does not depend on the seed.
    for seed in ["1", "2", "3"] {
        let sums = piped(&["chat", "--seed", seed], b"What is 3 plus 4?\n/clear\nWhat is 3 plus 4?\n");
        assert_eq!(stdout(&sums), "3 plus 4 is 7.\n3 plus 4 is 7.\n", "seed {seed}");
    }
}
