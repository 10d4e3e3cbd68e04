//! Passes the commit to the program, if it is built from a checkout, and a hash of the shaders.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=PEREGRINE_COMMIT={}", commit());

    println!("cargo:rerun-if-changed=shaders");
    let mut hash = DefaultHasher::new();
    for folder in ["shaders", "shaders/lib"] {
        hash_files(Path::new(folder), &mut hash);
    }
    println!("cargo:rustc-env=PEREGRINE_SHADERS_HASH={:016x}", hash.finish());
}

/// The commit; empty without git. Debug builds have none: each commit would compile the library again.
fn commit() -> String {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return String::new();
    }
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    let git = Command::new("git").args(["rev-parse", "--short=9", "HEAD"]).output();
    let commit = git.ok().filter(|output| output.status.success());
    let commit = commit.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    commit.trim().to_owned()
}

/// Hashes the files of a folder, in the order of their names.
fn hash_files(folder: &Path, hash: &mut DefaultHasher) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    for file in files {
        (file.display().to_string(), std::fs::read(&file).unwrap_or_default()).hash(hash);
    }
}
