//! Processes killed while they write states, checkpoints or a batch's answers. `PEREGRINE_ROUNDS` sets the number of rounds.
#![cfg(unix)]

mod common;
mod program;

use common::{fixture, gpu, no_gpu, shipped};
use peregrine::format::WeightFormat;
use peregrine::kernels::case::Random;
use peregrine::runtime::{Checkpoint, Engine, EngineOptions, Existing, ExportOptions, Sampling, Snapshot};
use program::{of_other_test, other_test, peregrine};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The results of killing a file's writers.
#[derive(Default)]
struct Killed {
    /// Rounds in which it was neither of the two states.
    broken: usize,
    /// Rounds in which it changed.
    changed: usize,
    /// Rounds that left a temporary file.
    half_written: usize,
}

/// Rounds set by the environment, or `few`.
fn rounds(few: usize) -> usize {
    std::env::var("PEREGRINE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

/// Starts a process of a test in this file and waits until it writes.
fn writer(test: &str, dir: &Path) -> Child {
    let mut child = other_test(test, dir).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("writing from now on")), "{test} never began");
    child
}

/// Kills a process after `seconds`; gives whether it was still running.
fn kill_after(mut child: Child, seconds: f32) -> bool {
    std::thread::sleep(Duration::from_secs_f32(seconds));
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

/// Kills processes that alternately write two states to one file, at random moments.
fn kill_writers(test: &str, dir: &Path, rounds: usize) -> Killed {
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let engine = Engine::load(&gpu(), checkpoint, EngineOptions::default(), &mut |_| {}).unwrap();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    for name in ["a", "b"] {
        session.feed(&[5, 6, 7]).unwrap();
        session.snapshot().unwrap().save(dir.join(name)).unwrap();
    }
    let [a, b] = ["a", "b"].map(|name| std::fs::read(dir.join(name)).unwrap());
    let target = dir.join("state");
    std::fs::write(&target, &a).unwrap();
    let mut random = Random::new(17);
    let (mut killed, mut last) = (Killed::default(), a.clone());
    for round in 0..rounds {
        let child = writer(test, dir);
        assert!(kill_after(child, random.uniform(0.0, 0.02)), "round {round}: it was over before it was killed");
        let now = std::fs::read(&target).unwrap();
        let whole = now == a || now == b;
        assert_eq!(Snapshot::open(&target).is_ok(), whole, "round {round}: {} bytes", now.len());
        killed.broken += usize::from(!whole);
        killed.changed += usize::from(now != last);
        killed.half_written += usize::from(std::fs::read_dir(dir).unwrap().count() > 3);
        last = now;
    }
    killed
}

#[test]
fn a_process_killed_at_any_moment_leaves_the_old_state_or_the_new_one() {
    if no_gpu("a_process_killed_at_any_moment_leaves_the_old_state_or_the_new_one") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let killed = kill_writers("the_process_that_is_killed", dir.path(), rounds(120));
    assert_eq!(killed.broken, 0);
    assert!(killed.half_written > 10, "only {} processes were killed while they wrote", killed.half_written);
    assert!(killed.changed > 10, "the file changed only {} times", killed.changed);
    // The next save removes leftovers.
    Snapshot::open(dir.path().join("a")).unwrap().save(dir.path().join("state")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_file_written_in_place_would_be_found_broken() {
    if no_gpu("a_file_written_in_place_would_be_found_broken") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(kill_writers("the_process_that_is_killed_and_writes_in_place", dir.path(), 30).broken > 0);
}

#[test]
#[ignore = "the other half of a test before it"]
fn the_process_that_is_killed() {
    let Some(dir) = of_other_test() else { return };
    let both = ["a", "b"].map(|name| Snapshot::open(dir.join(name)).unwrap());
    println!("writing from now on");
    loop {
        both.iter().for_each(|snapshot| snapshot.save(dir.join("state")).unwrap());
    }
}

#[test]
#[ignore = "the other half of a test before it"]
fn the_process_that_is_killed_and_writes_in_place() {
    let Some(dir) = of_other_test() else { return };
    let both = ["a", "b"].map(|name| std::fs::read(dir.join(name)).unwrap());
    println!("writing from now on");
    loop {
        both.iter().for_each(|bytes| std::fs::write(dir.join("state"), bytes).unwrap());
    }
}

/// The files of a folder, or the file, with their contents.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if path.is_file() {
        return BTreeMap::from([(PathBuf::new(), std::fs::read(path).unwrap())]);
    }
    let entries = std::fs::read_dir(path).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    let files = entries.unwrap_or_default();
    files.into_iter().map(|file| (file.file_name().unwrap().into(), std::fs::read(&file).unwrap())).collect()
}

const FORMATS: [WeightFormat; 2] = [WeightFormat::F16, WeightFormat::Q8_0];

fn export(weights: WeightFormat, out: &Path) {
    let options = ExportOptions { weights, existing: Existing::Replace };
    Checkpoint::open(fixture("falcon-tiny")).unwrap().export(out, options, &mut |_| {}).unwrap();
}

/// Kills processes that alternately write two checkpoints to one path; gives how often it was neither, and how often it
/// changed.
fn kill_exporters(test: &str, name: &str, rounds: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let whole = FORMATS.map(|weights| {
        let one = dir.path().join(format!("{weights}-{name}"));
        export(weights, &one);
        let found = contents(&one);
        let _ = std::fs::remove_file(&one).or_else(|_| std::fs::remove_dir_all(&one));
        found
    });
    let out = dir.path().join(name);
    export(FORMATS[0], &out);
    std::fs::write(dir.path().join("name"), name).unwrap();
    let (mut broken, mut changed, mut last) = (0, 0, whole[0].clone());
    let mut random = Random::new(23);
    for round in 0..rounds {
        assert!(kill_after(writer(test, dir.path()), random.uniform(0.0, 0.12)), "round {round}: it was over");
        let now = contents(&out);
        broken += usize::from(!whole.contains(&now));
        changed += usize::from(now != last);
        last = now;
    }
    // The next export removes leftovers.
    if broken == 0 {
        FORMATS.iter().for_each(|weights| export(*weights, &out));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
    (broken, changed)
}

#[test]
fn an_export_killed_at_any_moment_leaves_the_old_checkpoint_or_the_new_one() {
    for name in ["out.gguf", "out"] {
        let rounds = rounds(40);
        let (broken, changed) = kill_exporters("the_exporter_that_is_killed", name, rounds);
        println!("reached: {rounds} exports to {name} killed, {broken} broken, {changed} changed");
        assert_eq!(broken, 0, "{name}");
        assert!(changed * 8 > rounds, "{name} changed {changed} times in {rounds}");
    }
}

#[test]
fn a_checkpoint_written_in_place_would_be_found_broken() {
    assert!(kill_exporters("the_exporter_that_is_killed_and_writes_in_place", "out", 30).0 > 0);
}

#[test]
#[ignore = "the other half of a test before it"]
fn the_exporter_that_is_killed() {
    let Some(dir) = of_other_test() else { return };
    let out = dir.join(std::fs::read_to_string(dir.join("name")).unwrap());
    println!("writing from now on");
    loop {
        FORMATS.iter().for_each(|weights| export(*weights, &out));
    }
}

#[test]
#[ignore = "the other half of a test before it"]
fn the_exporter_that_is_killed_and_writes_in_place() {
    let Some(dir) = of_other_test() else { return };
    let out = dir.join("out");
    let both = FORMATS.map(|weights| {
        let elsewhere = tempfile::tempdir().unwrap();
        let one = elsewhere.path().join("one");
        export(weights, &one);
        contents(&one)
    });
    println!("writing from now on");
    loop {
        for files in &both {
            files.iter().for_each(|(name, bytes)| std::fs::write(out.join(name), bytes).unwrap());
        }
    }
}

/// The text of each answer of a batch, by its request.
fn texts(output: &Path) -> BTreeMap<String, String> {
    let lines = std::fs::read_to_string(output).unwrap_or_default();
    let answers = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |answer: serde_json::Value| {
        let text = answer["response"]["body"]["choices"][0]["text"].as_str().unwrap().to_owned();
        (answer["custom_id"].as_str().unwrap().to_owned(), text)
    };
    let mut all = BTreeMap::new();
    for (id, text) in answers.map(text) {
        assert!(all.insert(id.clone(), text).is_none(), "{id} was answered twice");
    }
    all
}

#[test]
fn a_batch_killed_repeatedly_answers_each_request_once() {
    if no_gpu("a_batch_killed_repeatedly_answers_each_request_once") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (input, whole) = (dir.path().join("in.jsonl"), dir.path().join("whole.jsonl"));
    let line = |i: usize| {
        let body = serde_json::json!({"prompt": format!("Once upon a time {i}"), "max_tokens": 40, "temperature": 1.0});
        let request =
            serde_json::json!({"custom_id": i.to_string(), "method": "POST", "url": "/v1/completions", "body": body});
        format!("{request}\n")
    };
    std::fs::write(&input, (0..60).map(line).collect::<String>()).unwrap();
    let start = |output: &Path| {
        let mut command = peregrine();
        command.args(["batch", "--slots", "4", "-i"]).arg(&input).arg("-o").arg(output);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    assert!(start(&whole).wait().unwrap().success());
    let expected = texts(&whole);
    let mut random = Random::new(29);
    let (mut killed, wanted) = (0, rounds(8));
    for batch in 0.. {
        let output = dir.path().join(format!("out{batch}.jsonl"));
        while killed < wanted && kill_after(start(&output), random.uniform(0.1, 1.2)) {
            killed += 1;
        }
        assert!(start(&output).wait().unwrap().success());
        assert_eq!(texts(&output), expected);
        if killed >= wanted {
            break;
        }
    }
    println!("reached: {killed} batches killed, 0 answers lost, twice or different");
}
