//! Processes that are killed while they save.
#![cfg(unix)]

mod common;
mod program;

use common::{gpu, no_gpu, shipped};
use peregrine::runtime::{Checkpoint, Engine, EngineOptions, Sampling, Snapshot};
use program::{of_other_test, other_test};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

/// What became of a file whose writers were killed.
#[derive(Default)]
struct Killed {
    /// Times that it was neither of the two states.
    broken: usize,
    /// Times that it was another than before.
    changed: usize,
    /// Times that something half written lay beside it.
    half_written: usize,
}

/// Kills processes that write one state and the other over a third file, at random moments.
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
    let mut random = peregrine::kernels::case::Random::new(17);
    let (mut killed, mut last) = (Killed::default(), a.clone());
    for round in 0..rounds {
        let mut child = other_test(test, dir).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("writing from now on")), "round {round}: it never began");
        std::thread::sleep(Duration::from_secs_f32(random.uniform(0.0, 0.02)));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "round {round}: it was over before it was killed");
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
    let killed = kill_writers("the_process_that_is_killed", dir.path(), 120);
    assert_eq!(killed.broken, 0);
    assert!(killed.half_written > 10, "only {} processes were killed while they wrote", killed.half_written);
    assert!(killed.changed > 10, "the file changed only {} times", killed.changed);
    // The next save tidies up.
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
