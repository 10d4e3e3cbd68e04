//! What is kept between runs, in a folder or by the application: what was found out about the device, such as by tuning, and, in a
//! folder, compiled pipelines where the backend returns them.

use super::latch::Latch;
use crate::error::{Error, Result};
use crate::output;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::env::var_os;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The folder for compiled pipelines and tuning results that programs share: `PEREGRINE_CACHE`, or one in the user's cache folder. An
/// empty value turns it off. For [`Gpu::keep_in`](super::Gpu::keep_in).
pub fn cache_dir() -> Option<PathBuf> {
    if let Some(dir) = var_os("PEREGRINE_CACHE") {
        return (!dir.is_empty()).then(|| dir.into());
    }
    let absolute = |dir: &PathBuf| dir.is_absolute();
    let home = || std::env::home_dir().filter(absolute);
    let of_user = if cfg!(windows) {
        var_os("LOCALAPPDATA").map(PathBuf::from)
    } else if cfg!(target_vendor = "apple") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        let set = var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
        set.or_else(|| home().map(|home| home.join(".cache")))
    };
    of_user.map(|dir| dir.join("peregrine"))
}

/// Bytes of a checksum.
const CHECKSUM: usize = 32;

/// Texts that tell what was found out, by the names that files of a folder have.
pub type Findings = BTreeMap<String, String>;

/// What keeps what was found out about this adapter.
pub(super) enum Cache {
    Folder { dir: PathBuf, pipelines: Option<Pipelines> },
    Application(Mutex<Findings>),
}

pub(super) struct Pipelines {
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
        Ok(Cache::Folder { dir: dir.to_owned(), pipelines: pipelines.transpose()?.flatten() })
    }

    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Cache::Folder { dir, .. } => Some(dir),
            Cache::Application(_) => None,
        }
    }

    pub(super) fn pipelines(&self) -> Option<&wgpu::PipelineCache> {
        match self {
            Cache::Folder { pipelines: Some(pipelines), .. } => Some(&pipelines.cache),
            _ => None,
        }
    }

    /// What was found out about a subject.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        match self {
            Cache::Folder { dir, .. } => std::fs::read_to_string(dir.join(name)).ok(),
            Cache::Application(findings) => findings.lock().unwrap_or_else(|e| e.into_inner()).get(name).cloned(),
        }
    }

    /// Keeps it. If a folder takes nothing, the next start finds it out again.
    pub(super) fn write(&self, name: &str, found: String) {
        match self {
            Cache::Folder { dir, .. } => drop(write_atomic(&dir.join(name), found.as_bytes())),
            Cache::Application(findings) => {
                findings.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned(), found);
            }
        }
    }

    pub(super) fn findings(&self) -> Option<Findings> {
        match self {
            Cache::Folder { .. } => None,
            Cache::Application(findings) => Some(findings.lock().unwrap_or_else(|e| e.into_inner()).clone()),
        }
    }

    /// Writes the pipelines compiled so far to disk, if there are new ones.
    pub(super) fn save(&self) -> Result<()> {
        let Cache::Folder { pipelines: Some(pipelines), .. } = self else { return Ok(()) };
        let Some(data) = pipelines.cache.get_data() else { return Ok(()) };
        let mut saved = pipelines.saved.lock().unwrap_or_else(|e| e.into_inner());
        if *saved != data {
            write_checked(&pipelines.path, &data)?;
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

/// The name of the file about `subject`.
pub(super) fn name(kind: &str, subject: &str, extension: &str) -> String {
    let mut name = DefaultHasher::new();
    subject.hash(&mut name);
    format!("{kind}-{:016x}{extension}", name.finish())
}

/// Writes data and its checksum.
fn write_checked(path: &Path, data: &[u8]) -> Result<()> {
    write_atomic(path, &[data, &checksum(data)].concat())
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
fn write_atomic(path: &Path, data: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    }
    output::write_atomic(path, data)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// Names the folder in which the process that is killed writes.
    const FOLDER: &str = "PEREGRINE_TEST_CACHE";

    const PIPELINES: &str = "driver.pipelines";
    const TUNED: &str = "tuned-1.json";

    /// Compiled pipelines of two sizes.
    fn pipelines() -> [Vec<u8>; 2] {
        [vec![1; 900_000], vec![2; 300_000]]
    }

    /// Results of tuning of two sizes.
    fn tuned() -> [String; 2] {
        [40, 9000].map(|count| serde_json::json!({ "key": "adapter", "forms": vec!["a form"; count] }).to_string())
    }

    /// What kills of a process that writes both files found.
    #[derive(Default)]
    struct Killed {
        broken: usize,
        changed: usize,
        half_written: usize,
    }

    fn kill_writers(writer: &str, dir: &Path, rounds: usize) -> Killed {
        let (mut killed, mut last) = (Killed::default(), vec![]);
        for round in 0..rounds {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", &format!("{}::{writer}", module()), "--nocapture", "--include-ignored"]);
            command.env(FOLDER, dir).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(said.any(|line| line.unwrap().contains("writing from now on")), "{writer} never began");
            // Moments spread over 40 ms.
            std::thread::sleep(Duration::from_secs_f32((round as f32 * 0.618).fract() * 0.04));
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9), "round {round}: it was over before it was killed");
            let now = [PIPELINES, TUNED].map(|name| std::fs::read(dir.join(name)).unwrap_or_default());
            let whole = intact(&now[0]).is_some_and(|data| pipelines().iter().any(|known| known == data))
                && tuned().iter().any(|known| known.as_bytes() == now[1]);
            killed.broken += usize::from(!whole);
            killed.changed += usize::from(now.as_slice() != last);
            killed.half_written += usize::from(std::fs::read_dir(dir).unwrap().count() > 2);
            last = now.to_vec();
        }
        killed
    }

    fn module() -> &'static str {
        module_path!().split_once("::").expect("the crate and its module").1
    }

    fn write_both(dir: &Path, which: usize) {
        write_checked(&dir.join(PIPELINES), &pipelines()[which]).unwrap();
        write_atomic(&dir.join(TUNED), tuned()[which].as_bytes()).unwrap();
    }

    #[test]
    fn a_process_killed_at_any_moment_leaves_whole_files_of_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        write_both(dir.path(), 0);
        let rounds = std::env::var("PEREGRINE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
        let killed = kill_writers("the_process_that_is_killed", dir.path(), rounds);
        println!(
            "reached: {rounds} writers of the cache killed, {} of them in a file; {} broken, {} changed",
            killed.half_written, killed.broken, killed.changed
        );
        assert_eq!(killed.broken, 0);
        assert!(killed.half_written > 5, "only {} were killed while they wrote", killed.half_written);
        assert!(killed.changed > 5, "the files changed only {} times", killed.changed);
        // The next writes remove leftovers.
        write_both(dir.path(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_cache_written_in_place_would_be_found_broken() {
        let dir = tempfile::tempdir().unwrap();
        write_both(dir.path(), 0);
        assert!(kill_writers("the_process_that_is_killed_and_writes_in_place", dir.path(), 30).broken > 0);
    }

    #[test]
    #[ignore = "the other half of a test before it"]
    fn the_process_that_is_killed() {
        let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
        let first = std::fs::read_to_string(dir.join(TUNED)).unwrap();
        println!("writing from now on");
        // Begins with the contents that are not there, so that each write changes the files.
        for turn in usize::from(first == tuned()[0]).. {
            write_both(&dir, turn % 2);
        }
    }

    #[test]
    #[ignore = "the other half of a test before it"]
    fn the_process_that_is_killed_and_writes_in_place() {
        let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
        println!("writing from now on");
        for which in [0, 1].iter().cycle() {
            let data = &pipelines()[*which];
            std::fs::write(dir.join(PIPELINES), [&data[..], &checksum(data)].concat()).unwrap();
            std::fs::write(dir.join(TUNED), &tuned()[*which]).unwrap();
        }
    }
}
