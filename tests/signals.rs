//! A command that a signal ends leaves no half-written output behind.
#![cfg(unix)]

mod common;
mod program;

use common::no_gpu;
use nix::sys::signal::{Signal, kill};
use program::{peregrine, run, stdout};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn started(arguments: &[&str]) -> Child {
    let mut command = peregrine();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn send(signal: Signal, child: &Child) {
    kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn logits_ended_by_a_signal_leave_nothing() {
    if no_gpu("logits_ended_by_a_signal_leave_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (ids_file, out) = (dir.path().join("ids"), dir.path().join("out.safetensors"));
    let ids: Vec<String> = (0..20_000).map(|id| (id % 2000).to_string()).collect();
    std::fs::write(&ids_file, ids.join(" ")).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut child = started(&["logits", "--ids-file", ids_file.to_str().unwrap(), "-o", out.to_str().unwrap()]);
        while names(dir.path()).len() < 2 {
            assert!(child.try_wait().unwrap().is_none(), "the child was too fast");
        }
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(names(dir.path()), ["ids"], "{signal}");
    }
}

#[test]
fn an_export_ended_by_a_signal_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for out in ["model.gguf", "folder"] {
        let path = dir.path().join(out);
        let arguments = ["quantize", "-w", "q8_0", "-o", path.to_str().unwrap()];
        let begun = Instant::now();
        stdout(&run(&arguments));
        let whole = begun.elapsed();
        let mut ended = 0;
        for round in 0..12 {
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir_all(&path);
            let mut child = started(&arguments);
            if round % 2 == 0 {
                // As soon as something is there.
                while names(dir.path()).is_empty() && child.try_wait().unwrap().is_none() {}
            } else {
                std::thread::sleep(Duration::max(whole * round / 12, Duration::from_millis(1)));
            }
            send(if round % 3 == 0 { Signal::SIGTERM } else { Signal::SIGINT }, &child);
            ended += u32::from(!child.wait().unwrap().success());
            let there = names(dir.path());
            assert!(there.is_empty() || there == [out], "round {round}: {there:?}");
        }
        assert!(ended > 0, "the child was always too fast");
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
}
