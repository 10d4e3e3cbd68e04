//! The pages: their programs equal the examples, and run; every path and link that they name exists.

mod common;
mod program;

use common::no_gpu;
use program::{of_other_test, other_test, stdout};
use std::path::{Path, PathBuf};

const LIBRARY: &str = include_str!("../docs/library.md");
const PICTURES: &str = include_str!("../docs/pictures.md");
const STATES: &str = include_str!("../docs/states.md");
const MANIFEST: &str = include_str!("../Cargo.toml");

mod generate {
    include!("../examples/generate.rs");
    pub fn run() {
        main().unwrap();
    }
}

mod classify {
    include!("../examples/classify.rs");
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
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(begin.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn each_program_of_the_pages_is_an_example() {
    // Without the line with the cargo command.
    let examples = [
        include_str!("../examples/generate.rs"),
        include_str!("../examples/states.rs"),
        include_str!("../examples/classify.rs"),
    ];
    let examples = examples.map(|text| text.split_once("\n\n").unwrap().1);
    assert_eq!(blocks(LIBRARY, "rust,no_run"), [examples[0]]);
    assert_eq!(blocks(STATES, "rust,no_run"), [examples[1]]);
    assert_eq!(blocks(PICTURES, "rust,no_run"), [examples[2]]);
    let programs: usize = pages().iter().map(|(_, text)| text.matches("```rust").count()).sum();
    assert_eq!(programs, examples.len(), "a program that no test runs");
}

#[test]
fn the_dependency_line_names_the_rust_version_and_features() {
    let [line] = blocks(LIBRARY, "toml")[..] else { panic!("docs/library.md has one block for Cargo.toml") };
    let version = MANIFEST.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(line.contains(&format!("Rust {version}")), "{version}: {line}");
    assert!(
        line.contains("default-features = false") && line.contains("features = [\"blocking\", \"embedded-model\"]"),
        "{line}"
    );
    assert!(["blocking", "embedded-model"].iter().all(|feature| MANIFEST.contains(&format!("\n{feature} = "))));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files at the root, in docs/, in .github/ and of the bindings, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = [
        ".",
        "docs",
        ".github",
        ".github/ISSUE_TEMPLATE",
        "bindings/c",
        "bindings/node",
        "bindings/python",
        "bindings/web",
        "examples/electron",
    ];
    let folders = folders.map(|folder| root().join(folder));
    let files = folders.iter().filter(|folder| folder.exists()).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let pages = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// Folders whose paths pages name in code, as in `src/error.rs`.
const FOLDERS: [&str; 13] = [
    "src/",
    "tests/",
    "shaders/",
    "examples/",
    "docs/",
    "models/",
    "bench/",
    "benches/",
    "bindings/",
    "fuzz/",
    "reports/",
    ".github/",
    ".ci/",
];

/// What a page names that does not exist: links, their headings, and paths in code that `(planned)` does not follow. Of a path
/// with a placeholder, NAME or `*`, as in `src/kernels/NAME.rs`, the folder before it must exist.
fn missing(page: &Path, text: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let prose: String = text.split("```").step_by(2).collect();
    for rest in prose.split("](").skip(1) {
        let link = rest.split(')').next().unwrap();
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = match file {
            "" => page.to_owned(),
            file => page.parent().unwrap().join(file),
        };
        let found = root().join(&target);
        let has_heading = |text: String| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
        if !found.exists() || !heading.is_empty() && !std::fs::read_to_string(found).is_ok_and(has_heading) {
            missing.push(link.to_owned());
        }
    }
    let code: Vec<&str> = prose.split('`').collect();
    for (i, span) in code.iter().enumerate().skip(1).step_by(2) {
        let planned = code.get(i + 1).is_some_and(|after| after.starts_with(" (planned)"));
        let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains(' ');
        if planned || !is_path {
            continue;
        }
        let fixed: PathBuf = span.split('/').take_while(|part| !part.contains("NAME") && !part.contains('*')).collect();
        if !root().join(fixed).exists() {
            missing.push((*span).to_owned());
        }
    }
    missing
}

/// What GitHub makes of a heading for links to it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_path_and_link_of_the_pages_exists() {
    let pages = pages();
    assert!(pages.len() > 10, "only {} pages were found", pages.len());
    for (page, text) in pages {
        assert_eq!(missing(&page, &text), Vec::<String>::new(), "in {}", page.display());
    }
}

#[test]
fn a_path_or_link_that_does_not_exist_is_noticed() {
    let page = Path::new("docs/usage.md");
    let bad = "`src/no.rs` [a](no.md) [b](../README.md#no-such-heading) [c](#no) `tests/no/NAME.rs` `src/lib.rs` `src/cli/no/*`";
    let found = ["no.md", "../README.md#no-such-heading", "#no", "src/no.rs", "tests/no/NAME.rs", "src/cli/no/*"];
    assert_eq!(missing(page, bad), found);
    let good = "`src/no.rs` (planned) [a](https://no.example/x) [b](../README.md#models) `src/NAME/x.rs` `--flag`\n```sh\n`src/no`\n```";
    assert_eq!(missing(page, good), Vec::<String>::new());
}

#[test]
fn the_programs_of_the_pages_run() {
    if no_gpu("the_programs_of_the_pages_run") {
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
    std::fs::copy(common::shipped("vim-digits").join("samples/04-2.png"), dir.path().join("digit.png")).unwrap();
    assert!(said("other_process_classifies").contains("2 with 9"));
    #[cfg(unix)]
    assert!(dir.path().join("talk.state").exists());
}

#[test]
#[ignore = "run by the_programs_of_the_pages_run, in a process of its own"]
fn other_process_classifies() {
    if of_other_test().is_some() {
        classify::run();
    }
}

#[test]
#[ignore = "run by the_programs_of_the_pages_run, in a process of its own"]
fn other_process_generates() {
    if of_other_test().is_some() {
        generate::run();
    }
}

#[test]
#[ignore = "run by the_programs_of_the_pages_run, in a process of its own"]
fn other_process_has_states() {
    if of_other_test().is_some() {
        states::run();
    }
}
