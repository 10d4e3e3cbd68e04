//! Models from kernels: the one place that knows the order of the layers.

mod config;
mod forward;
mod layers;
mod memory;
pub mod reference;
mod scratch;
mod state;
mod weights;

pub use config::{Config, Family, eos_ids};
pub use forward::{AUTOMATIC, Choosing, Forward, ForwardOptions, Logits, Tap};
pub use memory::MemoryPlan;
pub use state::{RUN_AHEAD, Saved, SlotState, StateBank, VERSIONS};
pub use weights::{LayerTensors, ModelTensors, Progress, Weights};
