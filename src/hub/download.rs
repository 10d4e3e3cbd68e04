//! One file from the hub into the cache: resumed where an earlier download ended, verified, and put into place in one step.

use super::cache::{RepoCache, make_parent};
use super::client::{About, Again, Client, Failure, Subject};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// Bytes read at a time.
const PIECE: usize = 1 << 18;

/// What a download tells: bytes of the file that are here, or a sentence.
pub(super) enum Told {
    Bytes(u64),
    Note(String),
}

/// A file to fetch.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a RepoCache,
    /// The file; its revision is a commit.
    pub(super) subject: Subject<'a>,
    pub(super) about: About,
}

impl Download<'_> {
    /// Fetches the content into the cache, unless it is there. Another process that fetches it is waited for.
    pub(super) fn run(&self, tell: &mut dyn FnMut(Told)) -> Result<()> {
        let etag = &self.about.etag;
        let blob = self.cache.blob(etag);
        if blob.exists() {
            return Ok(());
        }
        let name = self.subject.name();
        let _lock = self.cache.lock(etag, &mut || {
            tell(Told::Note(format!("waiting for another process that fetches {name}")));
        })?;
        if blob.exists() {
            return Ok(());
        }
        let path = self.cache.incomplete(etag);
        make_parent(&path)?;
        let mut partial = Partial::open(&path, self.about.size)?;
        self.check_space(self.about.size - partial.len)?;
        // What an earlier process has left may be damaged, then all is fetched once more.
        let mut trusted = partial.len == 0;
        loop {
            self.fill(&mut partial, tell)?;
            let found = partial.hash();
            match self.about.sha256() {
                Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => {
                    partial.restart()?;
                    if trusted {
                        drop(partial);
                        let _ = std::fs::remove_file(&path);
                        let (url, wanted) = (self.client.endpoint().to_owned(), wanted.to_owned());
                        return Err(Error::DamagedDownload { what: name, url, found, wanted });
                    }
                    tell(Told::Note(format!("what was there of {name} is damaged: fetching all of it")));
                    trusted = true;
                }
                _ => break,
            }
        }
        partial.finish()?;
        std::fs::rename(&path, &blob).map_err(|e| Error::io("write", &blob, e))
    }

    /// Fetches the rest of the file; a connection that is cut is opened again.
    fn fill(&self, partial: &mut Partial<'_>, tell: &mut dyn FnMut(Told)) -> Result<()> {
        let mut failed = 0;
        tell(Told::Bytes(partial.len));
        while partial.len < self.about.size {
            let before = partial.len;
            let Err(failure) = self.attempt(partial, tell) else { continue };
            failed = if partial.len > before { 1 } else { failed + 1 };
            let problem = match &*failure.error {
                Error::HubUnreachable { problem, .. } => problem.clone(),
                Error::BadHubAnswer { found, .. } => format!("it answered with {found}"),
                other => other.to_string(),
            };
            let pause = self.client.pause(failure, failed, true)?;
            let seconds = pause.as_secs_f64();
            tell(Told::Note(format!("{}: {problem}; trying again in {seconds:.1} s", self.subject.name())));
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Fetches bytes until the file is complete or something fails.
    fn attempt(&self, partial: &mut Partial<'_>, tell: &mut dyn FnMut(Told)) -> Result<(), Failure> {
        let mut incoming = self.client.open(self.subject, &self.about, partial.len)?;
        if incoming.from != partial.len {
            partial.restart()?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            let read = match incoming.body.read(&mut piece) {
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.cut(partial.len, Some(&e))),
            };
            if read == 0 {
                break;
            }
            if partial.len + read as u64 > self.about.size {
                partial.restart()?;
                let found = format!("more than the {} bytes that were announced", self.about.size);
                return Err(self.bad(found));
            }
            partial.append(&piece[..read]).map_err(|e| self.unwritten(e))?;
            tell(Told::Bytes(partial.len));
        }
        if partial.len < self.about.size { Err(self.cut(partial.len, None)) } else { Ok(()) }
    }

    fn bad(&self, found: String) -> Failure {
        let (what, url) = (self.subject.name(), self.client.endpoint().to_owned());
        let advice = "run the command again later".to_owned();
        Failure { error: Box::new(Error::BadHubAnswer { what, url, found, advice }), again: Again::Soon }
    }

    /// A body that ended too early.
    fn cut(&self, at: u64, error: Option<&std::io::Error>) -> Failure {
        let is_timeout = error.is_some_and(|e| e.kind() == ErrorKind::TimedOut || e.to_string().contains("timeout"));
        let how = if is_timeout { "no more bytes came" } else { "the connection was cut" };
        let problem = format!("{how} after {at} of {} bytes", self.about.size);
        let advice = "these are kept: run the command again to continue".to_owned();
        let (what, url) = (self.subject.name(), self.client.endpoint().to_owned());
        Failure { error: Box::new(Error::HubUnreachable { what, url, problem, advice }), again: Again::Soon }
    }

    fn unwritten(&self, error: std::io::Error) -> Failure {
        let path = self.cache.incomplete(&self.about.etag);
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                let (what, dir) = (self.subject.name(), self.cache.blobs());
                Error::NoSpace { what, dir, problem: error.to_string() }.into()
            }
            _ => Error::io("write", path, error).into(),
        }
    }

    fn check_space(&self, needed: u64) -> Result<()> {
        check_space(&self.cache.blobs(), &self.subject.name(), needed)
    }
}

/// Refuses a download that the disk has no space for, as far as the system tells.
pub(super) fn check_space(dir: &Path, what: &str, needed: u64) -> Result<()> {
    let free = dir.ancestors().find_map(free_bytes);
    match free {
        Some(free) if free < needed => {
            let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
            let problem = format!("it needs {}, and {} are free", gigabytes(needed), gigabytes(free));
            Err(Error::NoSpace { what: what.to_owned(), dir: dir.to_owned(), problem })
        }
        _ => Ok(()),
    }
}

/// Bytes that this account may still write below a folder.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn free_bytes(dir: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(dir).ok()?;
    about.f_bavail.checked_mul(about.f_frsize)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// The beginning of a file, with its hash.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    hasher: Sha256,
}

impl<'a> Partial<'a> {
    /// Opens what is there; begins anew if that is more than the file has.
    fn open(path: &'a Path, size: u64) -> Result<Self> {
        let fail = |e| Error::io("write", path, e);
        let mut file = File::options().create(true).read(true).append(true).open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() > size {
            file.set_len(0).map_err(fail)?;
        }
        let (mut hasher, mut len, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
        // A device has no end: read what the file has, at most.
        let mut rest = (&mut file).take(size.min(path.metadata().map_err(fail)?.len()));
        loop {
            match rest.read(&mut piece).map_err(fail)? {
                0 => break,
                read => {
                    hasher.update(&piece[..read]);
                    len += read as u64;
                }
            }
        }
        Ok(Partial { path, file, len, hasher })
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Drops all bytes.
    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io("write", self.path, e))?;
        (self.len, self.hasher) = (0, Sha256::new());
        Ok(())
    }

    /// The SHA-256 of the bytes, in hexadecimal.
    fn hash(&self) -> String {
        self.hasher.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Makes sure that the bytes are on the disk before they get their name.
    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("write", self.path, e))
    }
}
