//! Output files that are there whole or not at all.

use peregrine::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file under a temporary name beside its place, renamed into it by [`WholeFile::commit`]. Dropped before that, it
/// leaves nothing behind.
pub struct WholeFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl WholeFile {
    /// Fails at once where the file could not be written.
    pub fn create(path: &Path) -> Result<Self> {
        let fail = |source| Error::Io { doing: "write", path: path.to_owned(), source };
        if path.is_dir() {
            return Err(fail(std::io::ErrorKind::IsADirectory.into()));
        }
        let name = path.file_name().ok_or_else(|| fail(std::io::ErrorKind::InvalidInput.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = File::create(&temporary).map_err(fail)?;
        Ok(WholeFile { path: path.to_owned(), temporary, file: Some(BufWriter::new(file)) })
    }

    fn fail(&self, source: std::io::Error) -> Error {
        Error::Io { doing: "write", path: self.path.clone(), source }
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("it is open until it is committed");
        file.write_all(bytes).map_err(|e| self.fail(e))
    }

    /// Puts the file in its place.
    pub fn commit(mut self) -> Result<()> {
        let file = self.file.take().expect("it is open until it is committed");
        let done = file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.sync_all());
        let done = done.and_then(|()| std::fs::rename(&self.temporary, &self.path));
        done.map_err(|e| {
            let _ = std::fs::remove_file(&self.temporary);
            self.fail(e)
        })
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
