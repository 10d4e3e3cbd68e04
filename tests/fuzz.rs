//! A short run of each fuzz target over its corpus and mutations of it, without a fuzzer. `PEREGRINE_RUNS` sets the number of
//! files per target; `PEREGRINE_FUZZ` names the targets, separated by commas.

#[path = "../fuzz/src/targets.rs"]
mod targets;

use peregrine::kernels::case::Random;
use std::panic::catch_unwind;
use std::path::Path;

/// Words with a meaning in some format.
const WORDS: &[&[u8]] = &[
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"\"\"",
    b"[]",
    b"{}",
    b"{{",
    b"}}",
    b"{%",
    b"%}",
    b"\\u0000",
    b"\xff",
    b"\0\0\0\0",
    b"18446744073709551615",
    b"4294967296",
    b"GGUF",
    b"true",
    b"[[[[",
    b"\xef\xbb\xbf",
];

/// A mutation of `of` with parts of `other`.
fn near(of: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = of.to_vec();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        let length = random.below(9).min(bytes.len() - at);
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.splice(at..at + length, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => drop(bytes.drain(at..at + length)),
            4 => bytes.truncate(at),
            5 if !other.is_empty() => {
                let from = random.below(other.len());
                let piece = &other[from..(from + random.below(64)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            6 => {
                let piece = bytes[at..at + length].to_vec();
                let times = random.below(40);
                bytes.splice(at..at, piece.repeat(times));
            }
            _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {}
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Mutations of the corpus on which a target panics.
fn panics(target: fn(&[u8]), corpus: &[Vec<u8>], runs: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(31);
    let files = (0..runs).map(|run| match corpus.get(run) {
        Some(file) => file.clone(),
        None => near(&corpus[random.below(corpus.len())], &corpus[random.below(corpus.len())], &mut random),
    });
    files.filter(|file| catch_unwind(|| target(file)).is_err()).collect()
}

#[test]
fn no_target_panics_on_its_corpus_or_mutations_of_it() {
    let runs = std::env::var("PEREGRINE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4000);
    let all: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
    let wanted = std::env::var("PEREGRINE_FUZZ").unwrap_or_else(|_| all.join(","));
    for name in wanted.split(',') {
        let (_, target) = targets::ALL.iter().find(|(of, _)| *of == name).unwrap_or_else(|| panic!("{name}? {all:?}"));
        let started = std::time::Instant::now();
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        let found = panics(*target, &corpus, runs);
        assert!(
            found.is_empty(),
            "{name}: {:?}",
            found.iter().map(|file| String::from_utf8_lossy(file)).collect::<Vec<_>>()
        );
        println!("reached: {runs} files of {name} in {:.1} s, no panic", started.elapsed().as_secs_f64());
    }
}

#[test]
fn a_target_that_panics_is_found() {
    let planted = |bytes: &[u8]| assert!(!bytes.windows(4).any(|w| w == b"null"));
    assert!(!panics(planted, &corpus("request"), 200).is_empty());
}
