//! The device: the only layer that names wgpu.

mod adapters;
#[cfg(feature = "blocking")]
mod blocking;
mod budget;
mod buffer;
mod cache;
mod caps;
mod clock;
mod faults;
mod folder;
mod kernel;
mod latch;
mod memory;
mod plan;
mod profile;
mod run;
mod upload;

pub use adapters::{AdapterChoice, AdapterInfo, VARIABLES, adapters_async};
#[cfg(feature = "blocking")]
pub use blocking::adapters;
pub use budget::LONGEST_SUBMISSION;
pub use buffer::{Bound, Buf, Move, Pending, Readback, Usage};
pub(crate) use cache::write_atomic;
pub use caps::{Caps, Coop, SWITCHES, Switches};
pub use clock::Clock;
pub use faults::{Fault, Site};
pub use folder::{READS_SHADERS, ShaderFolder};
pub use kernel::{Access, Binding, Kernel, KernelDef, Linked, Part, Source, link};
pub(crate) use kernel::{params, wgsl};
pub use memory::FreeMemory;
pub use plan::{Choice, Cost, Count, Plan, Stages, Totals};
pub use profile::Timed;
pub use run::{Copy, Submitted};
pub use upload::{Stage, UPLOAD_PIECE, Uploads, staging_bytes};

pub use wgpu;

use crate::error::{Error, Result};
use cache::Cache;
use latch::Latch;
use std::any::Any;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

/// An open device. After a device loss every call returns [`Error::DeviceLost`]; nothing panics and nothing returns zeros.
/// Cheap to clone; all clones are the same device.
#[derive(Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
}

struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    caps: Caps,
    latch: Arc<Latch>,
    allocated: Arc<AtomicU64>,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
    /// Names the driver and the device, where compiled pipelines can be kept.
    pipeline_key: Option<String>,
    cache: OnceLock<Cache>,
    findings: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    /// How it was opened; `None`: the application did that.
    opened: Option<(AdapterChoice, Switches)>,
    #[cfg(debug_assertions)]
    injector: Mutex<faults::Injector>,
}

impl Gpu {
    /// Opens an adapter with the features and limits that the kernels can use.
    pub async fn open_async(choice: &AdapterChoice) -> Result<Self> {
        Self::open_with_async(choice, Switches::from_env()?).await
    }

    /// [`Gpu::open_async`] with switches of the caller's instead of the environment's.
    pub async fn open_with_async(choice: &AdapterChoice, switches: Switches) -> Result<Self> {
        let shaders = shaders(&switches)?;
        let adapter = adapters::pick(choice, &switches).await?;
        let opened = Some((choice.clone(), switches.clone()));
        let wanted = caps::wanted_features(adapter.features(), &switches);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("peregrine"),
            required_features: wanted,
            experimental_features: caps::experimental(wanted),
            required_limits: caps::wanted_limits(&adapter.limits()),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::Gpu { what: format!("opening {}", adapter.get_info().name), problem: e.to_string() })?;
        let gpu = Self::assemble(&adapter, (device, queue), (&switches, shaders), opened);
        gpu.inject_from_env();
        Ok(gpu)
    }

    /// Opens the adapter of this device once more, or the best that is left where it is gone: after [`Error::DeviceLost`].
    /// What was kept in a folder is kept there again.
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
        }
        opened.inherit_faults(self);
        Ok(opened)
    }

    /// Works on a device that the application has opened itself. Its uncaptured errors and its loss are then ours to hear;
    /// its features and limits are taken as they are.
    pub fn from_device(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        if let Some(why) = caps::unfit(&device.limits()) {
            return Err(Error::NoAdapter { why: format!("the device given does not do, as {why}") });
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
        let latch = Latch::of(&device);
        let caps = Caps { shaders, ..Caps::of(&device, adapter, switches) };
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
                opened,
                #[cfg(debug_assertions)]
                injector: Mutex::default(),
            }),
        }
    }

    /// The adapter behind this device.
    pub fn info(&self) -> &AdapterInfo {
        &self.shared.info
    }

    /// What the adapter may be asked to do.
    pub fn caps(&self) -> &Caps {
        &self.shared.caps
    }

    /// Bytes of GPU buffers alive now.
    pub fn allocated_bytes(&self) -> u64 {
        self.shared.allocated.load(Ordering::Relaxed)
    }

    /// Gives the device up, as a driver reset would: a test of what happens then.
    pub fn destroy(&self) {
        self.shared.device.destroy();
    }

    /// The pipeline of a kernel, made on first use.
    pub fn kernel(&self, def: &KernelDef) -> Result<Arc<Kernel>> {
        self.check()?;
        let linked = link(def, self.caps());
        let key = format!("{}\0{:?}", linked.wgsl, def.overrides);
        let mut kernels = self.shared.kernels.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kernel) = kernels.get(&key) {
            return Ok(kernel.clone());
        }
        let cache = self.shared.cache.get().and_then(Cache::pipelines);
        let build = || kernel::build(&self.shared.device, def, &linked, self.caps().checked, cache);
        let kernel = Arc::new(self.scoped(def.name, build).map_err(|error| match error {
            Error::Gpu { what, problem } => Error::Gpu { what, problem: linked.located(&problem) },
            other => other,
        })?);
        kernels.insert(key, kernel.clone());
        Ok(kernel)
    }

    /// What was found out about this device under `name`; `find` is awaited once for the life of the device. A name always
    /// goes with the same type.
    pub async fn finding<T: Any + Send + Sync>(
        &self,
        name: &str,
        find: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        let known = || self.shared.findings.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = known().get(name) {
            return Ok(found.clone().downcast().expect("a name always goes with the same type"));
        }
        let found = Arc::new(find.await?); // not under the lock: it may ask for other findings
        known().insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Runs `make` and turns what wgpu has to say about it into an error that names `what`.
    ///
    /// Natively wgpu knows it at once. A browser reports it later: there no scope is opened, so that the latch hears of it.
    fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        if cfg!(target_arch = "wasm32") {
            let made = make();
            return self.check().map(|()| made);
        }
        let device = &self.shared.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        let errors = [at_once(internal.pop()), at_once(validation.pop()), at_once(memory.pop())];
        self.check()?;
        match errors.into_iter().flatten().flatten().next() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory { what: what.to_owned(), bytes: 0 }),
            Some(error) => Err(Error::Gpu { what: what.to_owned(), problem: error.to_string() }),
        }
    }
}

/// What a future gives when it is polled the first time, if it is ready then.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The shaders to link from instead of those compiled in, where the switches name a folder.
fn shaders(switches: &Switches) -> Result<Option<Arc<ShaderFolder>>> {
    let read = |dir: &std::path::PathBuf| ShaderFolder::read(dir, READS_SHADERS).map(Arc::new);
    switches.shaders.as_ref().map(read).transpose()
}
