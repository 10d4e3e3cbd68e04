//! The README's programs equal the examples, and run.

mod common;
mod program;

use common::no_gpu;
use program::{of_other_test, other_test, stdout};

const README: &str = include_str!("../README.md");
const MANIFEST: &str = include_str!("../Cargo.toml");

mod generate {
    include!("../examples/generate.rs");
    pub fn run() {
        main().unwrap();
    }
}

mod states {
    include!("../examples/states.rs");
    pub fn run() {
        main().unwrap();
    }
}

/// The fenced blocks of a language, such as `rust,no_run`.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    README.split(begin.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn each_program_of_the_readme_is_an_example() {
    // Without the line with the cargo command.
    let examples = [include_str!("../examples/generate.rs"), include_str!("../examples/states.rs")];
    let examples = examples.map(|text| text.split_once("\n\n").unwrap().1);
    assert_eq!(blocks("rust,no_run"), examples);
    assert_eq!(README.matches("```rust").count(), examples.len());
}

#[test]
fn the_dependency_line_names_the_rust_version_and_features() {
    let [line] = blocks("toml")[..] else { panic!("the README has one block for Cargo.toml") };
    let version = MANIFEST.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(line.contains(&format!("Rust {version}")), "{version}: {line}");
    assert!(line.contains("default-features = false") && line.contains("features = [\"embedded-model\"]"), "{line}");
    assert!(MANIFEST.contains("\nembedded-model = "));
}

#[test]
fn the_programs_of_the_readme_run() {
    if no_gpu("the_programs_of_the_readme_run") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Outside of this repository, as in an application.
    let said = |test: &str| {
        stdout(&other_test(test, dir.path()).current_dir(dir.path()).env("TMPDIR", dir.path()).output().unwrap())
    };
    let story = said("other_process_generates");
    assert!(story.contains("fox") && story.len() > 300, "{story}");
    let states = said("other_process_has_states");
    assert!(states.contains("3 plus 4 is 7.") && states.contains("fox") && states.contains("bear"), "{states}");
    #[cfg(unix)]
    assert!(dir.path().join("talk.state").exists());
}

#[test]
#[ignore = "run by the_programs_of_the_readme_run, in a process of its own"]
fn other_process_generates() {
    if of_other_test().is_some() {
        generate::run();
    }
}

#[test]
#[ignore = "run by the_programs_of_the_readme_run, in a process of its own"]
fn other_process_has_states() {
    if of_other_test().is_some() {
        states::run();
    }
}
