//! Outputs that appear complete or not at all: written under a hidden name beside their final path, then renamed.

use super::Existing;
use super::staged_folder::{self, StagedFolder};
use crate::error::{Error, Result};
use crate::output::AtomicFile;
use std::path::{Path, PathBuf};

/// The kind of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    File,
    Folder,
}

/// An output under its temporary name. If dropped before [`Staged::commit`], it is removed.
pub(super) struct Staged {
    out: PathBuf,
    staging: Staging,
}

enum Staging {
    File(AtomicFile),
    Folder(StagedFolder),
}

impl Staged {
    /// Creates the temporary output. Fails at once where the output may not or cannot be written.
    pub(super) fn new(out: &Path, kind: OutputKind, input: Option<&Path>, existing: Existing) -> Result<Self> {
        let refused = |problem: &str| Error::BadOutput { path: out.to_owned(), problem: problem.to_owned() };
        let name = out.file_name().ok_or_else(|| refused("it has no name; name a .gguf file or a folder"))?;
        if kind == OutputKind::Folder {
            staged_folder::remove_leftovers(out, name);
        }
        if let Ok(there) = out.canonicalize() {
            let input = input.and_then(|input| input.canonicalize().ok());
            if input.is_some_and(|input| {
                input.starts_with(&there) || (kind == OutputKind::Folder && there.starts_with(&input))
            }) {
                return Err(refused("it is the model to be read; give another name"));
            }
            if existing == Existing::Refuse {
                return Err(refused("it already exists; --force overwrites it"));
            }
            match kind {
                OutputKind::File if there.is_dir() => return Err(refused("it is a folder")),
                OutputKind::Folder if !is_checkpoint(&there) => {
                    return Err(refused("it is not a folder that holds only a checkpoint, so it is not replaced"));
                }
                _ => {}
            }
        }
        let staging = match kind {
            OutputKind::File => Staging::File(AtomicFile::create(out)?),
            OutputKind::Folder => {
                Staging::Folder(StagedFolder::create(out, name).map_err(|e| Error::io("write", out, e))?)
            }
        };
        Ok(Staged { out: out.to_owned(), staging })
    }

    /// The temporary file or folder to write to.
    pub(super) fn path(&self) -> &Path {
        match &self.staging {
            Staging::File(file) => file.temporary(),
            Staging::Folder(folder) => folder.path(),
        }
    }

    /// Moves the output to its path, durable even if the power fails.
    pub(super) fn commit(self) -> Result<()> {
        match self.staging {
            Staging::File(file) => file.commit(),
            Staging::Folder(folder) => folder.commit().map_err(|e| Error::io("write", &self.out, e)),
        }
    }
}

/// Whether a folder holds a checkpoint and no other files.
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
