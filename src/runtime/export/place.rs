//! Outputs that are there whole or not at all: written under a hidden name beside their place, and renamed into it.

use super::Existing;
use crate::error::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is going to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// An output under its temporary name. Dropped before [`Staged::commit`], it leaves nothing behind.
pub(super) struct Staged {
    out: PathBuf,
    temporary: PathBuf,
    kind: Kind,
    committed: bool,
}

impl Staged {
    /// Fails at once where the output may not or could not be written.
    pub(super) fn new(out: &Path, kind: Kind, input: Option<&Path>, existing: Existing) -> Result<Self> {
        let refused = |problem: &str| Error::BadOutput { path: out.to_owned(), problem: problem.to_owned() };
        let name = out.file_name().ok_or_else(|| refused("it has no name; name a .gguf file or a folder"))?;
        if let Ok(there) = out.canonicalize() {
            let input = input.and_then(|input| input.canonicalize().ok());
            if input
                .is_some_and(|input| input.starts_with(&there) || (kind == Kind::Folder && there.starts_with(&input)))
            {
                return Err(refused("it is the model that is read; give another name"));
            }
            if existing == Existing::Refuse {
                return Err(refused("it is there already; --force replaces it"));
            }
            match kind {
                Kind::File if there.is_dir() => return Err(refused("it is a folder")),
                Kind::Folder if !is_checkpoint(&there) => {
                    return Err(refused(
                        "it is no folder that holds a checkpoint and nothing else, so it is not replaced",
                    ));
                }
                _ => {}
            }
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = out.with_file_name(hidden);
        let made = match kind {
            Kind::File => File::create(&temporary).map(drop),
            Kind::Folder => {
                let _ = std::fs::remove_dir_all(&temporary);
                std::fs::create_dir(&temporary)
            }
        };
        made.map_err(|e| Error::io("write", out, e))?;
        Ok(Staged { out: out.to_owned(), temporary, kind, committed: false })
    }

    /// Where to write: the file, or the folder.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts the output in its place, where it stays even if the power fails.
    pub(super) fn commit(mut self) -> Result<()> {
        let parent = self.out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let done = self.rename(parent).map_err(|e| Error::io("write", &self.out, e));
        self.committed = done.is_ok();
        done
    }

    fn rename(&self, parent: &Path) -> std::io::Result<()> {
        if self.kind == Kind::Folder {
            for entry in std::fs::read_dir(&self.temporary)? {
                File::open(entry?.path())?.sync_all()?;
            }
        }
        sync(&self.temporary)?;
        if self.kind == Kind::Folder && self.out.exists() {
            // A folder cannot be renamed over another.
            let old = self.temporary.with_extension("old");
            std::fs::rename(&self.out, &old)?;
            if let Err(error) = std::fs::rename(&self.temporary, &self.out) {
                let _ = std::fs::rename(&old, &self.out);
                return Err(error);
            }
            let _ = std::fs::remove_dir_all(&old);
        } else {
            std::fs::rename(&self.temporary, &self.out)?;
        }
        sync(parent)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            let _ = match self.kind {
                Kind::File => std::fs::remove_file(&self.temporary),
                Kind::Folder => std::fs::remove_dir_all(&self.temporary),
            };
        }
    }
}

/// Waits until a file, or the names in a folder, are on the disk. Only Unix opens folders.
fn sync(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) || path.is_file() { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Whether a folder holds a checkpoint, and nothing that would be missed after it.
fn is_checkpoint(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    let only_files = entries.into_iter().all(|entry| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = [".json", ".safetensors", ".jinja", ".md", ".txt"].iter().any(|end| name.ends_with(end));
            known && entry.path().is_file()
        })
    });
    only_files && dir.join("config.json").is_file()
}
