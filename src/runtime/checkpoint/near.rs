//! Suggestions for a path that is not a model: a similar name, or what the file is instead.

use crate::error::Error;
use crate::input::FileKind;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Largest number of wrong letters.
const WRONG: usize = 2;

/// Why there is no model at a path that is neither a folder nor a GGUF file.
pub(super) fn not_a_model(path: &Path) -> Error {
    let not_found = |near| Error::ModelNotFound { path: path.to_owned(), near };
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => {}
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Error::unreadable(path, e);
        }
        _ => return not_found(to(path)),
    }
    let mut first = vec![];
    let file = std::fs::File::open(path);
    if let Err(e) = file.and_then(|file| file.take(1024).read_to_end(&mut first)) {
        return Error::unreadable(path, e);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match FileKind::of(&first) {
        // A file inside a model's folder.
        _ if folder.join("config.json").is_file() && (name.ends_with(".json") || name.ends_with(".safetensors")) => {
            not_found(Some(folder.to_owned()))
        }
        Some(kind) => kind.refused(&path.display().to_string()),
        None if name.contains(".gguf") => Error::WrongKind {
            file: path.display().to_string(),
            found: "a piece of a GGUF file, by its name".to_owned(),
            advice: "join all pieces in their order, with cat, into one file that ends in .gguf".to_owned(),
        },
        None => not_found(to(path)),
    }
}

/// The folder or GGUF file beside `path` with the most similar name: equal up to its extension, or one or two letters off.
pub(super) fn to(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(parent).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let models = entries.filter(|entry| *entry != path && (entry.is_dir() || super::gguf::is_called_gguf(entry)));
    let distance = |entry: &PathBuf| {
        let other = entry.file_name()?.to_str()?.to_lowercase();
        let stem = other.strip_suffix(".gguf").unwrap_or(&other);
        Some(edit_distance(&name, &other).min(edit_distance(name.strip_suffix(".gguf").unwrap_or(&name), stem)))
    };
    let nearest = models.filter_map(|entry| Some((distance(&entry)?, entry))).min()?;
    (nearest.0 <= WRONG && nearest.0 * 3 <= name.len()).then_some(nearest.1)
}

/// Edit distance of two names in letters (Levenshtein, 1965).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["falcon-mamba.gguf", "tiny-chat.gguf", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let near = |name: &str| to(&dir.path().join(name)).map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(near("falcon-mamba").unwrap(), "falcon-mamba.gguf");
        assert_eq!(near("Falcon-Mamab.gguf").unwrap(), "falcon-mamba.gguf");
        assert_eq!([near("llama"), near("note.txt"), near("x")], [None, None, None]);
        assert_eq!(to(&dir.path().join("no/such")), None);
    }
}
