//! The header: it is made from the sources, and declares what the library exports.

use std::path::Path;

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;

/// The sources in the order of the header.
const SOURCES: &[&str] = &[
    "version", "status", "boundary", "bytes", "adapters", "options", "engine", "tokens", "session", "answer", "state",
    "mark", "cancel",
];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn made() -> String {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config);
    let builder =
        SOURCES.iter().fold(builder, |builder, name| builder.with_src(folder().join(format!("src/{name}.rs"))));
    let mut bytes = vec![];
    builder.generate().unwrap().write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_header_is_that_of_the_sources() {
    let file = folder().join("include/peregrine.h");
    let made = made();
    if std::env::var_os("PEREGRINE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = kept.lines().zip(made.lines()).position(|(kept, made)| kept != made);
    let line = differs.unwrap_or_else(|| kept.lines().count().min(made.lines().count())) + 1;
    assert!(
        kept == made,
        "include/peregrine.h differs from the sources from line {line} on: write it again with PEREGRINE_BLESS=1"
    );
}

/// The functions that a text in C declares.
#[cfg(target_os = "linux")]
fn declared(header: &str) -> BTreeSet<String> {
    let code = header.lines().filter(|line| !line.trim_start().starts_with("//") && !line.starts_with("typedef"));
    let functions = code.filter_map(|line| line.split_once('(').map(|(before, _)| before));
    let names = functions.filter_map(|before| before.rsplit([' ', '*']).next());
    names.filter(|name| name.starts_with("peregrine_")).map(str::to_owned).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_library_exports_the_functions_of_the_header_and_nothing_else() {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libperegrine_c.so");
    let output = std::process::Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output();
    let output = output.expect("binutils has nm: `./setup.sh test` installs it with a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let exported = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<String> =
        exported.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
    let header = std::fs::read_to_string(folder().join("include/peregrine.h")).unwrap();
    let declared = declared(&header);
    assert!(declared.len() > 30 && declared.contains("peregrine_session_send"), "{declared:?}");
    assert_eq!(exported, declared);
}
