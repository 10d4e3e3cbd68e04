//! What is kept on disk between runs: compiled pipelines, where the backend returns them, and what tuning found.

use super::latch::Latch;
use crate::error::{Error, Result};
use crate::output;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a checksum.
const CHECKSUM: usize = 32;

/// A folder that keeps what was found out about this adapter, with its compiled pipelines.
pub(super) struct Cache {
    dir: PathBuf,
    pipelines: Option<Pipelines>,
}

struct Pipelines {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// What the file holds.
    saved: Mutex<Vec<u8>>,
}

impl Cache {
    /// Opens `dir`. `key` names driver and device; without it pipelines are not kept. A pipeline file that is damaged or of
    /// another driver is ignored.
    pub(super) fn open(dir: &Path, device: &wgpu::Device, latch: &Latch, key: Option<&str>) -> Result<Self> {
        let key = key.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE));
        let pipelines = key.map(|key| {
            let path = dir.join(format!("{key}.pipelines"));
            let saved = std::fs::read(&path).ok().and_then(|file| Some(intact(&file)?.to_vec())).unwrap_or_default();
            Pipelines::create(path, saved, device, latch)
        });
        Ok(Cache { dir: dir.to_owned(), pipelines: pipelines.transpose()?.flatten() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn pipelines(&self) -> Option<&wgpu::PipelineCache> {
        self.pipelines.as_ref().map(|pipelines| &pipelines.cache)
    }

    /// The file that keeps what was found out about `subject`.
    pub(super) fn file(&self, kind: &str, subject: &str, extension: &str) -> PathBuf {
        let mut name = DefaultHasher::new();
        subject.hash(&mut name);
        self.dir.join(format!("{kind}-{:016x}{extension}", name.finish()))
    }

    /// Writes the pipelines compiled so far to disk, if there are new ones.
    pub(super) fn save(&self) -> Result<()> {
        let Some(pipelines) = &self.pipelines else { return Ok(()) };
        let Some(data) = pipelines.cache.get_data() else { return Ok(()) };
        let mut saved = pipelines.saved.lock().unwrap_or_else(|e| e.into_inner());
        if *saved != data {
            write_atomic(&pipelines.path, &[&data[..], &checksum(&data)].concat())?;
            *saved = data;
        }
        Ok(())
    }
}

impl Pipelines {
    /// Starts with the saved data, or empty if the driver refuses it. `None`: the driver keeps no pipelines.
    fn create(path: PathBuf, saved: Vec<u8>, device: &wgpu::Device, latch: &Latch) -> Result<Option<Self>> {
        let create = |data| {
            let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
            // SAFETY: this program wrote the data, as its checksum shows, in the user's own folder; wgpu checks that it is of
            // this driver.
            latch.scoped("the cache of pipelines", || unsafe { device.create_pipeline_cache(&descriptor) })
        };
        let mut made = create((!saved.is_empty()).then_some(&saved[..]));
        if let (Err(Error::Gpu { .. }), false) = (&made, saved.is_empty()) {
            // The driver would refuse it at every start.
            let _ = std::fs::remove_file(&path);
            made = create(None);
        }
        match made {
            Ok(cache) => Ok(Some(Pipelines { cache, path, saved: Mutex::new(saved) })),
            // Kernels compile without one.
            Err(Error::Gpu { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Follows the data in a file: a driver trusts the data it is given.
fn checksum(data: &[u8]) -> [u8; CHECKSUM] {
    Sha256::digest(data).into()
}

/// The data of a file whose checksum matches.
fn intact(file: &[u8]) -> Option<&[u8]> {
    let (data, sum) = file.split_at_checked(file.len().checked_sub(CHECKSUM)?)?;
    (checksum(data) == sum).then_some(data)
}

/// Writes a file of the cache: another process sees the old one or the new one.
pub(crate) fn write_atomic(path: &Path, data: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    }
    output::write_atomic(path, data)
}
