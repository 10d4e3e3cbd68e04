//! Files that somebody gives: what they are where they are not what was expected, and JSON as Python writes it.

mod file_kind;
mod json;

pub use file_kind::FileKind;
pub use json::{FLOAT, json, shown};

use crate::error::{Error, Result};

/// The text of a file, without a byte order mark. A file that is something else is refused by what it is.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    if let Some(kind) = FileKind::of(bytes) {
        return Err(kind.refused(file));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|e| Error::WrongKind {
        file: file.to_owned(),
        found: format!("no UTF-8 text: byte {} does not belong to a character", e.valid_up_to()),
        advice: "save it as UTF-8, or download it again".to_owned(),
    })
}

/// Why a file that should be of a kind of binary files cannot be read, from its first bytes; none where they tell nothing.
pub fn not_of_kind(wanted: FileKind, file: &str, bytes: &[u8]) -> Option<Error> {
    if let Some(kind) = FileKind::of(bytes) {
        return (kind != wanted).then(|| kind.refused(file));
    }
    let first = file_kind::beginning(bytes)?;
    Some(Error::WrongKind {
        file: file.to_owned(),
        found: format!("text that begins with {first:?}"),
        advice: "download it again: this may be what a server said instead of sending the file".to_owned(),
    })
}
