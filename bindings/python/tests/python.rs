//! Runs the Python tests against the extension that the same cargo invocation built.

#[path = "../../../tests/common/no_gpu.rs"]
mod no_gpu;

use no_gpu::no_gpu;
use std::path::{Path, PathBuf};
use std::process::Command;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command line, in the folder above that of the test programs.
fn program() -> PathBuf {
    let name = format!("peregrine{}", std::env::consts::EXE_SUFFIX);
    std::env::current_exe().unwrap().parent().unwrap().with_file_name(name)
}

/// The extension, beside this test program or, where cargo has put it there, in the folder above.
fn extension() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let name = format!("{}_native{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let places = [program.with_file_name(&name), program.parent().unwrap().with_file_name(&name)];
    places.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("cargo built none of {places:?}")).clone()
}

/// A folder with the package as pip installs it.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("peregrine");
    std::fs::create_dir(&package).unwrap();
    for entry in std::fs::read_dir(here().join("python/peregrine")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, package.join(path.file_name().unwrap())).unwrap();
        }
    }
    let name = if cfg!(windows) { "_native.pyd" } else { "_native.abi3.so" };
    std::fs::copy(extension(), package.join(name)).unwrap();
    folder
}

/// The first Python on the path, or the system's, that has NumPy and is new enough: as setup.sh looks for it.
fn interpreter() -> &'static str {
    let usable = |python: &&str| {
        let check = "import numpy, sys; sys.exit(sys.version_info < (3, 11))";
        Command::new(python).args(["-c", check]).output().is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(usable);
    found.expect("these tests need python3, 3.11 or newer, with NumPy: `make test` installs them")
}

/// Runs Python with the package; fails with what it printed.
fn python(arguments: &[&str]) {
    let package = package();
    let mut command = Command::new(interpreter());
    command
        .args(arguments)
        .current_dir(here())
        .env("PYTHONPATH", package.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PEREGRINE_PROGRAM", program());
    let output = command.output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}{err}");
    assert!(output.status.success(), "Python {arguments:?}: {}", output.status);
}

fn unittest(module: &str) {
    if !no_gpu(module) {
        python(&["-W", "error::ResourceWarning", "-m", "unittest", "-v", &format!("tests.{module}")]);
    }
}

#[test]
fn conversations() {
    unittest("test_sessions");
}

#[test]
fn interrupts_and_threads() {
    unittest("test_threads");
}

#[test]
fn event_loops() {
    unittest("test_async");
}

#[test]
fn numbers() {
    unittest("test_numbers");
}

#[test]
fn errors() {
    unittest("test_errors");
}

#[test]
fn pages() {
    unittest("test_pages");
}
