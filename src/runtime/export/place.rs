//! Outputs that are there whole or not at all: written under a hidden name beside their place, and renamed into it.

use super::Existing;
use super::staged_folder::{self, StagedFolder};
use crate::error::{Error, Result};
use crate::output::AtomicFile;
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
    staging: Staging,
}

enum Staging {
    File(AtomicFile),
    Folder(StagedFolder),
}

impl Staged {
    /// Fails at once where the output may not or could not be written.
    pub(super) fn new(out: &Path, kind: Kind, input: Option<&Path>, existing: Existing) -> Result<Self> {
        let refused = |problem: &str| Error::BadOutput { path: out.to_owned(), problem: problem.to_owned() };
        let name = out.file_name().ok_or_else(|| refused("it has no name; name a .gguf file or a folder"))?;
        if kind == Kind::Folder {
            staged_folder::remove_leftovers(out, name);
        }
        if let Ok(there) = out.canonicalize() {
            let input = input.and_then(|input| input.canonicalize().ok());
            if input
                .is_some_and(|input| input.starts_with(&there) || (kind == Kind::Folder && there.starts_with(&input)))
            {
                return Err(refused("it is the model that is read; give another name"));
            }
            if existing == Existing::Refuse {
                return Err(refused("it already exists; --force overwrites it"));
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
        let staging = match kind {
            Kind::File => Staging::File(AtomicFile::create(out)?),
            Kind::Folder => Staging::Folder(StagedFolder::create(out, name).map_err(|e| Error::io("write", out, e))?),
        };
        Ok(Staged { out: out.to_owned(), staging })
    }

    /// Where to write: the file, or the folder.
    pub(super) fn path(&self) -> &Path {
        match &self.staging {
            Staging::File(file) => file.temporary(),
            Staging::Folder(folder) => folder.path(),
        }
    }

    /// Puts the output in its place, where it stays even if the power fails.
    pub(super) fn commit(self) -> Result<()> {
        match self.staging {
            Staging::File(file) => file.commit(),
            Staging::Folder(folder) => folder.commit().map_err(|e| Error::io("write", &self.out, e)),
        }
    }
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
