//! An open device.

use super::adapters::{self, AdapterChoice, AdapterInfo};
use super::cache::{self, Cache, Findings};
use super::caps::{self, Caps, Switches};
use super::devices;
use super::faults::{FaultSite, Faults, InjectedFault};
use super::folder::{READS_SHADERS, ShaderFolder};
use super::kernel::{self, Kernel, KernelDef, link};
use super::latch::Latch;
use super::limits;
use crate::error::{Error, Result};
use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// An open device. After a device loss every call returns [`Error::DeviceLost`]; nothing panics and nothing returns zeros.
/// Cheap to clone; all clones are the same device.
///
/// ```no_run
/// # fn main() -> peregrine::Result<()> {
/// use peregrine::{AdapterChoice, Gpu};
/// let gpu = Gpu::open(&AdapterChoice::Best)?;
/// println!("{}, {} bytes allocated", gpu.info(), gpu.allocated_bytes());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gpu {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: AdapterInfo,
    caps: Caps,
    latch: Arc<Latch>,
    pub(super) allocated: Arc<AtomicU64>,
    /// One lock for each, so that threads compile different kernels side by side.
    kernels: Mutex<HashMap<String, Arc<OneKernel>>>,
    /// Identifies driver and device; `None`: compiled pipelines cannot be kept.
    pipeline_key: Option<String>,
    cache: OnceLock<Cache>,
    findings: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    notes: Mutex<Vec<String>>,
    /// How it was opened; `None`: by the application.
    opened: Option<(AdapterChoice, Switches)>,
    faults: Faults,
}

/// A kernel, if it has been compiled.
type OneKernel = Mutex<Option<Arc<Kernel>>>;

impl Gpu {
    /// Opens an adapter with the features and limits that the kernels can use.
    pub async fn open_async(choice: &AdapterChoice) -> Result<Self> {
        Self::open_with_async(choice, Switches::from_env()?).await
    }

    /// [`Gpu::open_async`] with the given switches instead of the environment's.
    pub async fn open_with_async(choice: &AdapterChoice, switches: Switches) -> Result<Self> {
        let shaders = shaders(&switches)?;
        let adapter = adapters::pick(choice, &switches).await?;
        let opened = Some((choice.clone(), switches.clone()));
        let wanted = caps::wanted_features(adapter.features(), &switches);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("peregrine"),
            required_features: wanted,
            experimental_features: caps::experimental(wanted),
            required_limits: limits::wanted_limits(&adapter.limits()),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::Gpu { what: format!("opening {}", adapter.get_info().name), problem: e.to_string() })?;
        let gpu = Self::assemble(&adapter, (device, queue), (&switches, shaders), opened);
        gpu.shared.faults.set_from_env();
        Ok(gpu)
    }

    /// Opens the adapter of this device again after [`Error::DeviceLost`], or the best remaining one if it is gone. Keeps
    /// pipelines and findings where this one does.
    pub async fn reopen_async(&self) -> Result<Self> {
        let Some((choice, switches)) = &self.shared.opened else {
            let reason = "the application opened it, and has to open it again".to_owned();
            return Err(Error::DeviceLost { reason });
        };
        let opened = match Self::open_with_async(choice, switches.clone()).await {
            Err(Error::NoAdapter { .. } | Error::UnknownDevice { .. }) => {
                Self::open_with_async(&AdapterChoice::Best, Switches { adapter: None, ..switches.clone() }).await?
            }
            opened => opened?,
        };
        if let Some(dir) = self.kept_in() {
            opened.keep_in(dir)?;
        } else if let Some(findings) = self.findings() {
            opened.keep_findings(findings);
        }
        opened.shared.faults.inherit(&self.shared.faults);
        Ok(opened)
    }

    /// Uses a device that the application has opened. Takes over its callbacks for uncaptured errors and device loss; its
    /// features and limits stay as they are.
    pub fn from_device(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        if let Some(why) = limits::unfit(&device.limits()) {
            return Err(Error::NoAdapter { why: format!("the device lacks what peregrine needs: {why}") });
        }
        let switches = Switches::from_env()?;
        let shaders = shaders(&switches)?;
        Ok(Self::assemble(adapter, (device, queue), (&switches, shaders), None))
    }

    fn assemble(
        adapter: &wgpu::Adapter,
        (device, queue): (wgpu::Device, wgpu::Queue),
        (switches, shaders): (&Switches, Option<Arc<ShaderFolder>>),
        opened: Option<(AdapterChoice, Switches)>,
    ) -> Self {
        let caps = Caps { shaders, ..Caps::of(&device, adapter, switches) };
        let latch = Latch::new(&device, caps.timeout);
        devices::count(&latch);
        Gpu {
            shared: Arc::new(Shared {
                info: AdapterInfo::of(adapter),
                caps,
                device,
                queue,
                latch,
                allocated: Arc::new(AtomicU64::new(0)),
                kernels: Mutex::new(HashMap::new()),
                pipeline_key: wgpu::util::pipeline_cache_key(&adapter.get_info()),
                cache: OnceLock::new(),
                findings: Mutex::new(HashMap::new()),
                notes: Mutex::new(Vec::new()),
                opened,
                faults: Faults::default(),
            }),
        }
    }

    /// The adapter behind this device.
    pub fn info(&self) -> &AdapterInfo {
        &self.shared.info
    }

    /// What the adapter can do.
    pub fn caps(&self) -> &Caps {
        &self.shared.caps
    }

    /// Bytes of live GPU buffers.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.allocated.load(Ordering::Relaxed)
    }

    /// Destroys the device, as a driver reset would; for tests.
    pub fn destroy(&self) {
        self.shared.device.destroy();
    }

    /// The pipeline of a kernel, compiled on first use.
    pub fn kernel(&self, def: &KernelDef) -> Result<Arc<Kernel>> {
        self.check()?;
        let linked = link(def, self.caps());
        let key = format!("{}\0{:?}", linked.wgsl, def.overrides);
        let one = {
            let mut kernels = self.shared.kernels.lock().unwrap_or_else(|e| e.into_inner());
            kernels.entry(key).or_default().clone()
        };
        let mut one = one.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kernel) = &*one {
            return Ok(kernel.clone());
        }
        let cache = self.shared.cache.get().and_then(Cache::pipelines);
        let build = || kernel::build(&self.shared.device, def, &linked, self.caps().checked, cache);
        let kernel = Arc::new(self.scoped(def.name, build).map_err(|error| match error {
            Error::Gpu { what, problem } => Error::Gpu { what, problem: linked.located(&problem) },
            other => other,
        })?);
        *one = Some(kernel.clone());
        Ok(kernel)
    }

    /// Kernels compiled so far.
    pub fn kernels_compiled(&self) -> usize {
        let kernels = self.shared.kernels.lock().unwrap_or_else(|e| e.into_inner());
        kernels.values().filter(|one| one.try_lock().is_ok_and(|one| one.is_some())).count()
    }

    /// Nanoseconds of a tick of the device's clock.
    pub fn clock_tick(&self) -> f64 {
        f64::from(self.shared.queue.get_timestamp_period())
    }

    /// The value of `find` for `name`; `find` is awaited once in the life of the device. A name always has the same type.
    pub async fn finding<T: Any + Send + Sync>(
        &self,
        name: &str,
        find: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        let known = || self.shared.findings.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = known().get(name) {
            return Ok(found.clone().downcast().expect("a name always has the same type"));
        }
        let found = Arc::new(find.await?); // outside the lock: `find` may call `finding`
        known().insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Keeps a line that the user should see.
    pub(crate) fn note(&self, line: String) {
        let mut notes = self.shared.notes.lock().unwrap_or_else(|e| e.into_inner());
        if !notes.contains(&line) {
            notes.push(line);
        }
    }

    /// Lines that the user should see, such as the forms of kernels that are wrong on this driver and not used. Each is given once.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Runs `make` in error scopes; a wgpu error becomes an error that names `what`.
    pub(super) fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        self.shared.latch.scoped(what, make)
    }

    /// Fails if the device is lost or has refused something since it was opened.
    pub fn check(&self) -> Result<()> {
        self.shared.latch.check()
    }

    /// Submits commands.
    pub(super) fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        self.meet_fault(FaultSite::Submit)?;
        let submission = self.shared.queue.submit(commands);
        self.meet_fault(FaultSite::Submitted)?;
        Ok(submission)
    }

    /// Polls until the submission is done.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.meet_fault(FaultSite::Wait)?;
        self.shared.latch.wait(submission)
    }

    /// Ready once all submissions so far are done.
    #[cfg(target_arch = "wasm32")]
    pub(super) async fn work_done(&self) -> Result<()> {
        let (send, done) = tokio::sync::oneshot::channel();
        self.shared.queue.on_submitted_work_done(move || {
            let _ = send.send(());
        });
        // A lost device drops the callback.
        let _ = done.await;
        self.check()
    }

    /// Keeps compiled pipelines, and what tuning found, in a folder from now on; only the first call counts. A file there that is
    /// damaged or of another driver is ignored.
    ///
    /// Only the user may be able to write to the folder: a driver trusts the contents of a pipeline cache.
    pub fn keep_in(&self, dir: &Path) -> Result<()> {
        let Shared { device, latch, pipeline_key, .. } = &*self.shared;
        let cache = Cache::open(dir, device, latch, pipeline_key.as_deref())?;
        let _ = self.shared.cache.set(cache);
        self.check()
    }

    /// Starts with what was found out about the device before, as [`Gpu::findings`] gave it, where there are no folders: the
    /// application keeps it. As with a folder, only the first call counts.
    pub fn keep_findings(&self, found: Findings) {
        let _ = self.shared.cache.set(Cache::Application(Mutex::new(found)));
    }

    /// What was found out so far, for the next start; `None` without [`Gpu::keep_findings`].
    pub fn findings(&self) -> Option<Findings> {
        self.shared.cache.get()?.findings()
    }

    /// The folder given to [`Gpu::keep_in`].
    pub fn kept_in(&self) -> Option<&Path> {
        self.shared.cache.get()?.dir()
    }

    /// The file of that folder for a subject.
    pub(crate) fn kept_file(&self, kind: &str, subject: &str, extension: &str) -> Option<PathBuf> {
        self.kept_in().map(|dir| dir.join(cache::name(kind, subject, extension)))
    }

    /// Whether what is found out is kept for the next start.
    pub(crate) fn keeps(&self) -> bool {
        self.shared.cache.get().is_some()
    }

    /// What was found out about a subject, such as the variants for an adapter and a model.
    pub(crate) fn found(&self, kind: &str, subject: &str, extension: &str) -> Option<String> {
        self.shared.cache.get()?.read(&cache::name(kind, subject, extension))
    }

    /// Keeps what was found out about a subject.
    pub(crate) fn keep(&self, kind: &str, subject: &str, extension: &str, found: String) {
        if let Some(cache) = self.shared.cache.get() {
            cache.write(&cache::name(kind, subject, extension), found);
        }
    }

    /// Writes the pipelines compiled so far to disk, if there are new ones.
    pub fn save_pipelines(&self) -> Result<()> {
        self.shared.cache.get().map_or(Ok(()), Cache::save)
    }

    /// Lets `inject` decide the outcome of every use of the device from now on. Debug builds only, for tests.
    #[cfg(debug_assertions)]
    pub fn inject(&self, inject: impl FnMut(FaultSite) -> Option<InjectedFault> + Send + 'static) {
        self.shared.faults.set(inject);
    }

    /// Fails as a test wants it to at this use of the device.
    #[inline]
    pub(super) fn meet_fault(&self, site: FaultSite) -> Result<()> {
        let Some(fault) = self.shared.faults.next(site) else { return Ok(()) };
        let what = "a test".to_owned();
        Err(match fault {
            InjectedFault::Lost => {
                self.destroy();
                self.shared.latch.hear_of_loss();
                Error::DeviceLost { reason: "a test took it away".to_owned() }
            }
            InjectedFault::OutOfMemory => Error::OutOfMemory { what, bytes: 0 },
            InjectedFault::Timeout => Error::Timeout { seconds: self.caps().timeout },
            InjectedFault::Refused => Error::Gpu { what, problem: "injected".to_owned() },
        })
    }
}

/// The shaders that replace those compiled in, if the switches name a folder.
fn shaders(switches: &Switches) -> Result<Option<Arc<ShaderFolder>>> {
    let read = |dir: &std::path::PathBuf| ShaderFolder::read(dir, READS_SHADERS).map(Arc::new);
    switches.shaders.as_ref().map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_submitted_is_no_timeout() {
        if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
            eprintln!("skipped: what_was_never_submitted_is_no_timeout");
            return;
        }
        let [first, second] = [(); 2].map(|()| pollster::block_on(Gpu::open_async(&AdapterChoice::Best)).unwrap());
        let submissions = [(); 5].map(|()| first.shared.queue.submit([]));
        let refused = second.wait(submissions[4].clone());
        assert!(matches!(refused, Err(Error::Gpu { .. })), "{refused:?}");
        second.flush().unwrap();
    }
}
