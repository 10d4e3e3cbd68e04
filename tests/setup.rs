//! `setup.sh` without permission to install packages.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs it with these programs, given as scripts, and no others.
fn setup(programs: &[(&str, &str)]) -> Output {
    setup_for(&[], programs)
}

fn setup_for(mode: &[&str], programs: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for (name, script) in programs {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup.sh");
    Command::new("/bin/sh")
        .arg(script)
        .args(mode)
        .env_clear()
        .env("PATH", dir.path())
        .env("SYSTEM_PYTHON", "/none")
        .env("SYSTEM_NODE", "/none")
        .output()
        .unwrap()
}

#[test]
fn without_root_and_sudo_it_says_what_to_run() {
    let bare = [("cargo", ""), ("uname", "echo Linux"), ("id", "echo 1000"), ("apt-get", "echo installed $*")];
    let output = setup(&bare);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for line in ["missing: gcc libc6-dev", "there is no sudo", "  apt-get update && apt-get install -y gcc libc6-dev"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(output.stdout.is_empty(), "nothing was installed");

    // With sudo, or as root, it installs.
    let sudo = [&bare[..], &[("sudo", "exec \"$@\""), ("env", "shift; exec \"$@\"")]].concat();
    let root = [&sudo[..2], &[("id", "echo 0")], &sudo[3..]].concat();
    for programs in [sudo, root] {
        let output = setup(&programs);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("installed update"));
    }

    // A failure says how to install by hand.
    let failing = [&bare[..3], &[("apt-get", "exit 1"), ("sudo", "exec \"$@\"")]].concat();
    let output = setup(&failing);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("by hand, as root: apt-get update"), "{said}");
}

#[test]
fn tests_need_more_packages_than_a_chat() {
    let bare = [("cargo", ""), ("uname", "echo Linux"), ("id", "echo 1000"), ("apt-get", "")];
    let said = |mode: &[&str], programs: &[(&str, &str)]| String::from_utf8(setup_for(mode, programs).stderr).unwrap();
    let more = "g++ python3 python3-numpy nodejs";
    assert!(said(&["test"], &bare).contains(more) && !said(&[], &bare).contains("python3"));
    // A Python that is too old, or has no NumPy, is missing too; so is a Node that is too old.
    let old = [&bare[..], &[("c++", ""), ("python3", "exit 1")]].concat();
    assert!(said(&["test"], &old).contains(" python3 python3-numpy nodejs\n"), "{}", said(&["test"], &old));
    let there = [&old[..5], &[("python3", ""), ("node", "exit 1")]].concat();
    assert!(said(&["test"], &there).contains(" nodejs\n") && !said(&["test"], &there).contains("python3"));
    let all = [&there[..6], &[("node", "")]].concat();
    assert!(!said(&["test"], &all).contains("nodejs"));
}
