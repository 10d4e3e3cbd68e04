//! Input files: detection of files of the wrong format, and JSON as Python writes it.

mod file_kind;
mod json;

pub use file_kind::FileKind;
pub use json::{FLOAT, json, shown};

use crate::error::{Error, Result};
use std::path::Path;

/// A file's text without a byte order mark. A file of another format is an error that names that format.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if let Some(kind) = FileKind::of(bytes) {
        return Err(kind.refused(file));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|e| Error::WrongKind {
        file: file.to_owned(),
        found: format!("not UTF-8 text: invalid byte at offset {}", e.valid_up_to()),
        advice: "save it as UTF-8, or download it again".to_owned(),
    })
}

/// The bytes of a file; `None` where there is none.
pub fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::unreadable(path, e)),
    }
}

/// The error for a file that should have the binary format `wanted` but does not parse, judged by its first bytes; `None` if
/// they do not identify another format.
pub fn not_of_kind(wanted: FileKind, file: &str, bytes: &[u8]) -> Option<Error> {
    if let Some(kind) = FileKind::of(bytes) {
        return (kind != wanted).then(|| kind.refused(file));
    }
    let first = file_kind::beginning(bytes)?;
    Some(Error::WrongKind {
        file: file.to_owned(),
        found: format!("text that begins with {first:?}"),
        advice: "download it again: this may be a server's error message instead of the file".to_owned(),
    })
}
