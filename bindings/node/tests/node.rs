//! Runs the tests in JavaScript against the addon that the same cargo invocation built.

#[path = "../../../tests/common/no_gpu.rs"]
mod no_gpu;

use no_gpu::no_gpu;
use std::path::{Path, PathBuf};
use std::process::Command;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    here().join("../..").canonicalize().unwrap()
}

/// The command line, in the folder above that of the test programs.
fn program() -> PathBuf {
    let name = format!("peregrine{}", std::env::consts::EXE_SUFFIX);
    std::env::current_exe().unwrap().parent().unwrap().with_file_name(name)
}

/// The addon, beside this test program or, where cargo has put it there, in the folder above.
fn addon() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let name = format!("{}peregrine_node{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let places = [program.with_file_name(&name), program.parent().unwrap().with_file_name(&name)];
    places.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("cargo built none of {places:?}")).clone()
}

/// The first Node on the path, or the system's, that is new enough: as setup.sh looks for it.
fn node() -> Command {
    let usable = |node: &&str| {
        let check = "process.exit(Number(process.versions.node.split('.')[0] < 18))";
        Command::new(node).args(["-e", check]).output().is_ok_and(|output| output.status.success())
    };
    let found = ["node", "/usr/bin/node"].into_iter().find(usable);
    Command::new(found.expect("these tests need node, 18 or newer: `make test` installs it"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// A folder of an application: the package in its `node_modules`, as `make node` makes it, the tests and the example.
fn application() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("node_modules");
    let mut pack = node();
    pack.arg(here().join("pack.js")).arg(addon()).arg(package);
    let output = pack.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    copy(&here().join("tests"), &folder.path().join("tests"));
    copy(&root().join("examples/electron"), &folder.path().join("electron"));
    std::fs::copy(here().join("README.md"), folder.path().join("README.md")).unwrap();
    folder
}

/// Runs test files of `tests/` in one process; fails with what it printed.
fn run(files: &[&str]) {
    if no_gpu(&files.join(", ")) {
        return;
    }
    let folder = application();
    let tests = files.iter().map(|file| format!("require('./tests/{file}.test.js');")).collect::<String>();
    let mut command = node();
    command
        .args(["--expose-gc", "-e", &tests])
        .current_dir(folder.path())
        .env("PEREGRINE_ROOT", root())
        .env("PEREGRINE_PROGRAM", program());
    let output = command.output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}{err}");
    assert!(output.status.success(), "node {files:?}: {}", output.status);
}

#[test]
fn conversations() {
    run(&["sessions", "numbers", "errors"]);
}

#[test]
fn the_event_loop_processes_and_the_package() {
    run(&["loop", "exits", "package"]);
}
