//! Models from kernels: the one place that knows the order of the layers.

mod config;
mod forward;
mod gguf;
mod layers;
mod memory;
mod names;
mod profile;
mod recipe;
pub mod reference;
mod scratch;
mod shape;
mod state;
mod trace;
mod tune;
mod weights;

pub use config::{Config, Family, eos_ids};
pub use forward::{AUTOMATIC, Choosing, Forward, ForwardOptions, Logits};
pub use gguf::MIXER_RMS_EPS;
pub use memory::MemoryPlan;
pub use names::{LayerPart, Naming, Part};
pub use recipe::{Recipe, Role};
pub use shape::{SHAPES, Shape};
pub use state::{RUN_AHEAD, Saved, SlotState, StateBank, VERSIONS};
pub use trace::Tap;
pub use tune::Tune;
pub use weights::{AForm, LayerTensors, ModelTensors, Progress, Weights};
