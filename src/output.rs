//! Atomic output files: written under a temporary name and renamed into place.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Temporary files and folders of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes all uncommitted files of this process and blocks new ones: for a program that a signal ends.
pub fn remove_unfinished() {
    let mut unfinished = UNFINISHED.lock();
    for path in std::mem::take(&mut *unfinished) {
        // Another thread may still be adding files to a folder.
        let removed = || if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        let _ = (0..100).find(|_| removed().is_ok() || !path.exists());
    }
    std::mem::forget(unfinished);
}

/// Registers a temporary path, which [`remove_unfinished`] then removes.
pub(crate) fn register_temporary(temporary: &Path) {
    UNFINISHED.lock().insert(temporary.to_owned());
}

/// Removes a path from the registered ones: it was renamed into place, or deleted.
pub(crate) fn forget_temporary(temporary: &Path) {
    UNFINISHED.lock().remove(temporary);
}

/// A file written under a hidden temporary name in the same folder; [`AtomicFile::commit`] renames it into place. Dropping it
/// deletes the temporary file. Leftovers of a killed process are deleted when the same file is written next.
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl AtomicFile {
    /// Creates the temporary file, so that an unwritable path fails before any work. A symbolic link is followed: its target
    /// is replaced.
    pub fn create(path: &Path) -> Result<Self> {
        let fail = |source| Error::io("write", path, source);
        // Not std's: on Windows it gives a path of the form `\\?\C:\model`, which errors would show.
        let path = dunce::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match std::fs::metadata(&path) {
            Ok(there) if there.is_dir() => return Err(fail(std::io::ErrorKind::IsADirectory.into())),
            Ok(there) if !there.is_file() => {
                let problem = "it is a device or a pipe, which cannot be replaced".to_owned();
                return Err(Error::BadOutput { path, problem });
            }
            _ => {}
        }
        let Some(name) = path.file_name() else { return Err(fail(std::io::ErrorKind::InvalidInput.into())) };
        remove_leftovers(folder_of(&path), name);
        loop {
            let temporary = path.with_file_name(temporary_name(name));
            register_temporary(&temporary);
            let file = File::create(&temporary).inspect_err(|_| forget_temporary(&temporary)).map_err(fail)?;
            // The lock marks the file as in use and ends with the process. Not every file system supports locks.
            let _ = file.lock();
            // `remove_leftovers` of another process may have deleted it before it was locked.
            if temporary.exists() {
                return Ok(AtomicFile { path, temporary, file: Some(BufWriter::new(file)) });
            }
            forget_temporary(&temporary);
        }
    }

    /// The temporary path, for code that writes by path.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    fn fail(&self, source: std::io::Error) -> Error {
        /// Windows: access denied, a sharing violation, and a file with a mapped section.
        const IN_USE: [i32; 3] = [5, 32, 1224];
        let in_use = cfg!(windows) && self.path.exists() && source.raw_os_error().is_some_and(|e| IN_USE.contains(&e));
        let source = match in_use {
            true => {
                std::io::Error::new(source.kind(), format!("{source} Another program may have it open: end that first"))
            }
            false => source,
        };
        Error::io("write", &self.path, source)
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("the file is open until commit");
        file.write_all(bytes).map_err(|e| self.fail(e))
    }

    /// Renames the file into place and syncs it to disk.
    pub fn commit(mut self) -> Result<()> {
        self.place().map_err(|e| self.fail(e))?;
        self.file = None;
        Ok(())
    }

    fn place(&mut self) -> std::io::Result<()> {
        let file = self.file.as_mut().expect("the file is open until commit");
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        sync(folder_of(&self.path))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary);
        }
        forget_temporary(&self.temporary);
    }
}

/// Writes `bytes` to `path` atomically.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit()
}

/// The parent folder of a path; "." if it has none.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A hidden name that no other file has, in this process or another.
pub(crate) fn temporary_name(name: &OsStr) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    hidden
}

/// Deletes temporary files for `name` left by processes that have ended.
fn remove_leftovers(dir: &Path, name: &OsStr) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let before = format!(".{}.", name.to_string_lossy());
    for entry in entries.flatten() {
        let own = entry.file_name();
        let own = own.to_string_lossy();
        let number = own.strip_prefix(&before).and_then(|rest| rest.strip_suffix(".tmp"));
        if !number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit() || b == b'-')) {
            continue;
        }
        // A live writer holds the lock.
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Syncs a file, or a folder's entries, to disk. Windows syncs only files that are open for writing, and no folders.
pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    match cfg!(windows) {
        false => File::open(path)?.sync_all(),
        true if path.is_file() => File::options().write(true).open(path)?.sync_all(),
        true => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_uncommitted_file_leaves_nothing_and_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()).len(), 2);
        drop(file);
        assert_eq!(names(dir.path()), ["x"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write_atomic(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["x"]);
    }

    #[test]
    fn leftovers_of_a_killed_process_go_and_files_being_written_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for left in [".x.123-4.tmp", ".x.77.tmp", ".y.123-4.tmp", ".x.note.tmp", "x.123.tmp"] {
            std::fs::write(dir.path().join(left), b"half").unwrap();
        }
        let mut first = AtomicFile::create(&path).unwrap();
        first.write(b"first").unwrap();
        // Two writers of the same file in one process do not disturb each other.
        write_atomic(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        first.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), [".x.note.tmp", ".y.123-4.tmp", "x", "x.123.tmp"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("x"), dir.path().join("link"));
        write_atomic(&path, b"old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(link.is_symlink());
        let refused = write_atomic(Path::new("/dev/null"), b"x");
        assert!(matches!(refused, Err(Error::BadOutput { .. })), "{refused:?}");
    }
}
