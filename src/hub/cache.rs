//! The cache folder, in the layout of huggingface_hub, so that all programs share one copy of a model:
//!
//! ```text
//! models--user--repo/refs/main                     the commit that main was at the last download
//! models--user--repo/blobs/HASH                    a file; HASH.incomplete while it is being fetched
//! models--user--repo/snapshots/COMMIT/config.json  a link to a blob
//! .locks/models--user--repo/HASH.lock              locked by the process that fetches it
//! ```
//!
//! Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use crate::error::{Error, Result};
use crate::output::write_atomic;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The part of the cache that one repository has.
pub(super) struct RepoCache {
    root: PathBuf,
    folder: String,
}

impl RepoCache {
    pub(super) fn new(root: &Path, repo: &str) -> Self {
        RepoCache { root: root.to_owned(), folder: format!("models--{}", repo.replace('/', "--")) }
    }

    /// The repositories of a cache with their names; none where there is no such folder.
    pub(super) fn all(root: &Path) -> Result<Vec<(String, Self)>> {
        let entries = match std::fs::read_dir(root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(|e| Error::unreadable(root, e))?,
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let folder = entry.ok()?.file_name().into_string().ok()?;
            Some(folder.strip_prefix("models--")?.replacen("--", "/", 1))
        };
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        Ok(names.into_iter().map(|repo| (repo.clone(), Self::new(root, &repo))).collect())
    }

    fn dir(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir().join("blobs")
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs().join(etag)
    }

    /// Where a blob is written until it is complete.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.blobs().join(format!("{etag}.incomplete"))
    }

    /// Bytes of unfinished downloads.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        let entries = std::fs::read_dir(self.blobs()).into_iter().flatten().flatten();
        let unfinished = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".incomplete"));
        unfinished.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir().join("snapshots").join(commit)
    }

    /// The commits that have a folder.
    pub(super) fn commits(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir().join("snapshots")).into_iter().flatten().flatten();
        let mut commits: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        commits.sort();
        commits
    }

    /// Names of the files of a commit that are complete.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let (root, mut names) = (self.snapshot(commit), vec![]);
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                // Follows links: one without its blob is no file.
                match std::fs::metadata(entry.path()) {
                    Ok(about) if about.is_file() => names.push(name),
                    Ok(about) if about.is_dir() && entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                        folders.push(name)
                    }
                    _ => {}
                }
            }
        }
        names.sort();
        names
    }

    /// The commit that a revision was at the last download: a commit is itself.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let named = std::fs::read_to_string(self.dir().join("refs").join(revision)).ok();
        let commit = named.map(|commit| commit.trim().to_owned()).unwrap_or_else(|| revision.to_owned());
        let is_name = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_alphanumeric());
        (is_name && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Branches and tags with their commits.
    pub(super) fn refs(&self) -> Vec<(String, String)> {
        let (root, mut refs) = (self.dir().join("refs"), vec![]);
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match std::fs::read_to_string(entry.path()) {
                    Ok(commit) => refs.push((name, commit.trim().to_owned())),
                    Err(_) if entry.path().is_dir() => folders.push(name),
                    Err(_) => {}
                }
            }
        }
        refs.sort();
        refs
    }

    /// Notes the commit of a revision. A commit needs no note.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.dir().join("refs").join(revision);
        make_parent(&path)?;
        write_atomic(&path, commit.as_bytes())
    }

    /// Locks a blob for this process. `waiting` is called before it waits for another one. A file system without locks gives
    /// none; then the hash of the complete file protects it.
    pub(super) fn lock(&self, etag: &str, waiting: &mut dyn FnMut()) -> Result<Option<File>> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).append(true).open(&path).map_err(|e| Error::io("write", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(|e| Error::io("lock", &path, e))?;
                Ok(Some(file))
            }
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Makes a blob the file `name` of a commit, in one step.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        make_parent(&path)?;
        let up = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        let file = path.file_name().unwrap_or_default();
        let temporary = path.with_file_name(crate::output::temporary_name(file));
        let placed = place(&target, &self.blob(etag), &temporary).and_then(|()| std::fs::rename(&temporary, &path));
        placed.map_err(|e| {
            let _ = std::fs::remove_file(&temporary);
            Error::io("write", &path, e)
        })
    }
}

/// Makes a link to a blob.
#[cfg(unix)]
fn place(target: &Path, _: &Path, temporary: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, temporary)
}

/// Makes a link to a blob, or its copy where the account may not make links.
#[cfg(not(unix))]
fn place(_: &Path, blob: &Path, temporary: &Path) -> std::io::Result<()> {
    std::fs::hard_link(blob, temporary).or_else(|_| std::fs::copy(blob, temporary).map(|_| ()))
}

/// Makes the folder of a path.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir).map_err(|e| Error::io("create the cache folder", dir, e))
}
