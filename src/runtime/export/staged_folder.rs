//! A folder that appears complete or not at all.

use crate::output;
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// A folder under a hidden name beside its final path. If dropped before [`StagedFolder::commit`], it is removed; leftovers of
/// killed processes are removed by [`remove_leftovers`].
pub(super) struct StagedFolder {
    out: PathBuf,
    path: PathBuf,
    /// Marks the folder as in use; the system unlocks it when the process ends.
    lock: File,
}

impl StagedFolder {
    /// Creates the folder for the path `out`, whose last component is `name`.
    pub(super) fn create(out: &Path, name: &OsStr) -> Result<Self> {
        loop {
            let path = out.with_file_name(output::temporary_name(name));
            output::register_temporary(&path);
            output::register_temporary(&lock_of(&path));
            let lock = File::create(lock_of(&path)).inspect_err(|_| forget(&path))?;
            // Not every file system has locks.
            let _ = lock.lock();
            // Another process may have removed the file as a leftover before it was locked.
            if lock_of(&path).exists() {
                let staged = StagedFolder { out: out.to_owned(), path, lock };
                std::fs::create_dir(&staged.path)?;
                return Ok(staged);
            }
            forget(&path);
        }
    }

    /// Its path until it is committed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its path, durable even if the power fails. It replaces a folder that exists there.
    pub(super) fn commit(self) -> Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            output::sync(&entry?.path())?;
        }
        output::sync(&self.path)?;
        // From here on the temporary name may be the replaced folder's.
        output::forget_temporary(&self.path);
        if self.out.exists() {
            exchange(&self.path, &self.out)?
        } else {
            std::fs::rename(&self.path, &self.out)?
        }
        output::sync(output::folder_of(&self.out))
        // Dropping removes the replaced folder.
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = self.lock.unlock();
        let _ = std::fs::remove_file(lock_of(&self.path));
        forget(&self.path);
    }
}

/// Notes that a staged folder and its lock are gone.
fn forget(path: &Path) {
    output::forget_temporary(path);
    output::forget_temporary(&lock_of(path));
}

/// Exchanges two folders. Atomic where the file system supports it: `out` always exists.
fn exchange(new: &Path, out: &Path) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, new, CWD, out, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    replace(new, out)
}

/// The same in two steps. If the process is killed in between, the old folder has a name that [`remove_leftovers`] knows.
fn replace(new: &Path, out: &Path) -> Result<()> {
    let old = new.with_extension("old");
    std::fs::rename(out, &old)?;
    if let Err(error) = std::fs::rename(new, out) {
        std::fs::rename(&old, out)?;
        return Err(error);
    }
    // It is removed with the staged folder, or when the same output is written next.
    std::fs::rename(&old, new)
}

fn lock_of(folder: &Path) -> PathBuf {
    let mut lock = folder.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// Removes what ended processes left of this output, and restores a folder that was being replaced when its process was killed.
pub(super) fn remove_leftovers(out: &Path, name: &OsStr) {
    let dir = output::folder_of(out);
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let before = format!(".{}.", name.to_string_lossy());
    for entry in entries.flatten() {
        let own = entry.file_name();
        let own = own.to_string_lossy();
        let Some((number, kind)) = own.strip_prefix(&before).and_then(|rest| rest.split_once('.')) else { continue };
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'-') || !["tmp", "old", "tmp.lock"].contains(&kind) {
            continue;
        }
        let temporary = dir.join(OsString::from(format!("{before}{number}.tmp")));
        let lock = File::open(lock_of(&temporary));
        // A running process holds the lock.
        let ended = match &lock {
            Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if !ended {
            continue;
        }
        let old = temporary.with_extension("old");
        if old.is_dir() && !out.exists() {
            let _ = std::fs::rename(&old, out);
        }
        // A file of this name belongs to others.
        for folder in [&old, &temporary] {
            let _ = std::fs::remove_dir_all(folder);
        }
        let _ = std::fs::remove_file(lock_of(&temporary));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, text: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("x"), text).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn staged(out: &Path) -> StagedFolder {
        remove_leftovers(out, out.file_name().unwrap());
        StagedFolder::create(out, out.file_name().unwrap()).unwrap()
    }

    #[test]
    fn leftovers_of_killed_processes_are_removed_and_running_exports_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for left in [".out.123-4.tmp", ".out.7-0.old", ".out.9.tmp", ".other.123-4.tmp", ".out.note.tmp"] {
            write(&dir.path().join(left), "left");
        }
        std::fs::write(dir.path().join(".out.123-4.tmp.lock"), "").unwrap();
        write(&out, "old");
        let first = staged(&out);
        write(first.path(), "first");
        let second = staged(&out);
        write(second.path(), "second");
        second.commit().unwrap();
        assert_eq!(std::fs::read(out.join("x")).unwrap(), b"second");
        first.commit().unwrap();
        assert_eq!(std::fs::read(out.join("x")).unwrap(), b"first");
        drop(staged(&out));
        assert_eq!(names(dir.path()), [".other.123-4.tmp", ".out.note.tmp", "out"]);
    }

    #[test]
    fn a_folder_that_was_being_replaced_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        write(&dir.path().join(".out.5-0.old"), "old");
        write(&dir.path().join(".out.5-0.tmp"), "new");
        drop(staged(&out));
        assert_eq!(std::fs::read(out.join("x")).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_folder_is_also_replaced_in_two_steps() {
        let dir = tempfile::tempdir().unwrap();
        let (new, out) = (dir.path().join(".out.5-0.tmp"), dir.path().join("out"));
        write(&new, "new");
        write(&out, "old");
        replace(&new, &out).unwrap();
        assert_eq!(std::fs::read(out.join("x")).unwrap(), b"new");
        assert_eq!(std::fs::read(new.join("x")).unwrap(), b"old");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn at_each_moment_the_old_folder_or_the_new_one_is_there() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        write(&out, "0");
        let over = AtomicBool::new(false);
        let missing = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut missing = 0;
                while !over.load(Ordering::Relaxed) {
                    missing += usize::from(!out.join("x").exists());
                }
                missing
            });
            for round in 1..200 {
                let staged = staged(&out);
                write(staged.path(), &round.to_string());
                staged.commit().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            watch.join().unwrap()
        });
        assert_eq!(missing, 0, "times that neither existed");
        assert_eq!(std::fs::read(out.join("x")).unwrap(), b"199");
    }
}
