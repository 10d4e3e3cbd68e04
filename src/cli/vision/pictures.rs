//! The pictures that a command is given: files, folders, patterns, standard input.

use crate::cli::exit::usage_error;
use anyhow::Context;
use glob::{MatchOptions, glob_with};
use peregrine::vision::Picture;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Endings of files that are taken from folders.
const ENDINGS: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// The largest picture that is read from standard input.
const LARGEST_INPUT: u64 = 1 << 30;

/// A picture to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Its name for people.
    pub fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "-".to_owned(),
        }
    }
}

/// Lists the pictures of the arguments: files as they are, the pictures of folders and of their folders in the order of their
/// names, patterns such as `*.png` where the shell did not expand them, and `-` for standard input.
pub fn list(given: &[PathBuf]) -> anyhow::Result<Vec<Source>> {
    let mut all = Vec::new();
    for path in given {
        if path.as_os_str() == "-" {
            if all.contains(&Source::Stdin) {
                return Err(usage_error("standard input (-) can be read once"));
            }
            all.push(Source::Stdin);
        } else if path.is_dir() {
            let before = all.len();
            of_folder(path, &mut all)?;
            if all.len() == before {
                let endings = ENDINGS.join(", ");
                return Err(usage_error(format!("{} has no pictures ({endings})", path.display())));
            }
        } else if path.exists() || !path.to_string_lossy().contains(['*', '?', '[']) {
            all.push(Source::File(path.clone()));
        } else {
            let pattern = path.to_string_lossy();
            // As in a shell, `*` does not match hidden files.
            let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
            let found = glob_with(&pattern, options).map_err(|e| usage_error(format!("{pattern}: {e}")))?;
            let found: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).collect();
            if found.is_empty() {
                return Err(usage_error(format!("no file matches {pattern}")));
            }
            all.extend(found.into_iter().map(Source::File));
        }
    }
    Ok(all)
}

fn of_folder(folder: &Path, all: &mut Vec<Source>) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(read)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(read)?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        if path.is_dir() && !hidden && !path.is_symlink() {
            of_folder(&path, all)?;
        } else if !hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            all.push(Source::File(path));
        }
    }
    Ok(())
}

/// Reads pictures on all cores; each has its own result, in their order.
pub fn open(sources: &[Source]) -> Vec<peregrine::Result<Picture>> {
    let files: Vec<PathBuf> = sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) => Some(path.clone()),
            Source::Stdin => None,
        })
        .collect();
    let mut opened = Picture::open_all(&files).into_iter();
    let of_source = |source: &Source| match source {
        Source::File(_) => opened.next().expect("a result for each file"),
        Source::Stdin => from_stdin(),
    };
    sources.iter().map(of_source).collect()
}

fn from_stdin() -> peregrine::Result<Picture> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LARGEST_INPUT).read_to_end(&mut bytes);
    read.map_err(|problem| peregrine::Error::Unreadable { path: "standard input".into(), problem })?;
    Picture::decode("standard input", &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_patterns_are_listed_in_order() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("inner")).expect("a folder");
        for name in ["b.png", "a.JPG", "notes.txt", ".hidden.png", "inner/c.webp"] {
            std::fs::write(dir.path().join(name), b"").expect("a file");
        }
        let names = |given: &[PathBuf]| -> Vec<String> {
            let sources = list(given).expect("they exist");
            let base = dir.path().display().to_string();
            sources
                .iter()
                .map(|source| source.name().replace(&base, "").replace('\\', "/").trim_start_matches('/').to_owned())
                .collect()
        };
        assert_eq!(names(&[dir.path().to_owned()]), ["a.JPG", "b.png", "inner/c.webp"]);
        assert_eq!(names(&[dir.path().join("*.png"), "-".into()]), ["b.png", "-"]);
        // A file that is named is read whatever its ending; one that does not exist is reported when it is opened.
        assert_eq!(names(&[dir.path().join("notes.txt"), dir.path().join("none")]), ["notes.txt", "none"]);
        assert!(list(&[dir.path().join("*.bmp")]).is_err());
        assert!(list(&["-".into(), "-".into()]).is_err());
        std::fs::create_dir(dir.path().join("empty")).expect("a folder");
        assert!(list(&[dir.path().join("empty")]).is_err());
    }
}
