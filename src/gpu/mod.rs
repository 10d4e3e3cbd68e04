//! The device: the only layer that names wgpu.
//!
//! Imports run one way: a file here names its siblings by their path, never this file, and no two files depend on each other
//! (`tests/layering.rs`).

mod adapters;
#[cfg(feature = "blocking")]
mod blocking;
mod budget;
mod buffer;
mod cache;
mod caps;
mod clock;
mod device;
mod devices;
mod faults;
mod folder;
mod kernel;
mod latch;
mod limits;
mod memory;
mod plan;
mod profile;
mod run;
mod submitted;
mod upload;

pub use adapters::{AdapterChoice, AdapterInfo, VARIABLES, adapters_async};
#[cfg(feature = "blocking")]
pub use blocking::adapters;
pub use budget::LONGEST_SUBMISSION;
pub use buffer::{Bound, Buf, BufferCopy, Pending, Readback, UPLOAD_PIECE, Usage};
pub use cache::{Findings, cache_dir};
pub use caps::{Caps, Coop, SWITCHES, Switches};
pub use clock::Clock;
pub use device::Gpu;
pub use devices::settle;
pub use faults::{FaultSite, InjectedFault};
pub use folder::{READS_SHADERS, ShaderFolder};
pub use kernel::{Access, Binding, Kernel, KernelDef, Linked, ShaderFile, ShaderPart, StructLayout, link};
pub(crate) use kernel::{params, wgsl};
pub(crate) use latch::at_once;
pub use limits::Limit;
pub use memory::FreeMemory;
pub use plan::{Cost, Count, KernelChoice, Plan, Stages, Totals};
pub use profile::DispatchTime;
pub use run::ReadbackCopy;
pub use submitted::Submitted;
pub use upload::{Staging, Uploads, staging_bytes};

pub use wgpu;
