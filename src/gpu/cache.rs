//! What is kept on disk between runs: compiled pipelines, where the backend hands them out.

use super::Gpu;
use crate::error::{Error, Result};
use crate::output;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Bytes of a checksum.
const CHECKSUM: usize = 32;

/// A folder of the user's, and the pipelines of this adapter that lie there.
pub(super) struct Cache {
    dir: PathBuf,
    pipelines: Option<Pipelines>,
}

struct Pipelines {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// What is on disk.
    saved: Mutex<Vec<u8>>,
}

impl Cache {
    pub(super) fn pipelines(&self) -> Option<&wgpu::PipelineCache> {
        self.pipelines.as_ref().map(|pipelines| &pipelines.cache)
    }
}

impl Gpu {
    /// Keeps compiled pipelines, and what tuning found, in a folder of the user's from now on; only the first call counts.
    /// A file there that is damaged or of another driver is passed over.
    ///
    /// The folder must be one that only the user writes to: a driver trusts what it finds in a pipeline cache.
    pub fn keep_in(&self, dir: &Path) -> Result<()> {
        let device = &self.shared.device;
        let key =
            device.features().contains(wgpu::Features::PIPELINE_CACHE).then_some(self.shared.pipeline_key.as_ref());
        let pipelines = key.flatten().map(|key| {
            let path = dir.join(format!("{key}.pipelines"));
            let saved = std::fs::read(&path).ok().and_then(|file| Some(whole(&file)?.to_vec())).unwrap_or_default();
            self.pipelines(path, saved)
        });
        let pipelines = pipelines.transpose()?.flatten();
        let _ = self.shared.cache.set(Cache { dir: dir.to_owned(), pipelines });
        self.check()
    }

    /// Pipelines that begin with what was saved, or with none where the driver does not take that.
    fn pipelines(&self, path: PathBuf, saved: Vec<u8>) -> Result<Option<Pipelines>> {
        let create = |data| {
            let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
            // SAFETY: the data is what this program wrote, as its checksum says, in the user's own folder; wgpu checks that
            // it is of this driver.
            self.scoped("the cache of pipelines", || unsafe { self.shared.device.create_pipeline_cache(&descriptor) })
        };
        let mut made = create((!saved.is_empty()).then_some(&saved[..]));
        if let (Err(Error::Gpu { .. }), false) = (&made, saved.is_empty()) {
            // It would be refused at each start.
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

    /// The folder given to [`Gpu::keep_in`].
    pub fn kept_in(&self) -> Option<&Path> {
        self.shared.cache.get().map(|cache| cache.dir.as_path())
    }

    /// The file of that folder that holds what was found out about a subject, such as the forms for an adapter and a model.
    pub(crate) fn kept_file(&self, kind: &str, subject: &str, extension: &str) -> Option<PathBuf> {
        let mut name = DefaultHasher::new();
        subject.hash(&mut name);
        self.kept_in().map(|dir| dir.join(format!("{kind}-{:016x}{extension}", name.finish())))
    }

    /// Writes the pipelines compiled so far to disk, if there are new ones.
    pub fn save_pipelines(&self) -> Result<()> {
        let Some(pipelines) = self.shared.cache.get().and_then(|cache| cache.pipelines.as_ref()) else { return Ok(()) };
        let Some(data) = pipelines.cache.get_data() else { return Ok(()) };
        let mut saved = pipelines.saved.lock().unwrap_or_else(|e| e.into_inner());
        if *saved != data {
            write_atomic(&pipelines.path, &[&data[..], &checksum(&data)].concat())?;
            *saved = data;
        }
        Ok(())
    }
}

/// Stands behind the data of a file: a driver trusts what it is given.
fn checksum(data: &[u8]) -> [u8; CHECKSUM] {
    Sha256::digest(data).into()
}

/// The data of a file, where it is as it was written.
fn whole(file: &[u8]) -> Option<&[u8]> {
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
