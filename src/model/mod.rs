//! Models from kernels: the one place that knows the order of the layers.

#[cfg(feature = "blocking")]
mod blocking;
mod config;
mod feed;
mod forward;
mod gguf;
mod layers;
mod layout;
mod load;
mod memory;
mod names;
mod options;
mod profile;
mod recipe;
pub mod reference;
mod scratch;
mod shape;
mod slots;
mod state;
mod table;
mod tensors;
mod trace;
mod tune;
mod unused;
mod weights;

pub(crate) use config::LARGEST;
pub use config::{Config, Family, UnusedKeys, eos_ids};
pub use forward::{Choosing, Forward, Logits};
pub use gguf::MIXER_RMS_EPS;
pub use memory::{Bytes, MemoryPlan, Room};
pub use names::{LayerPart, Naming, Part};
pub use options::{AUTOMATIC, ForwardOptions};
pub use profile::{Profile, purpose};
pub use recipe::{Recipe, Role};
pub use shape::{SHAPES, Shape};
pub use state::{RUN_AHEAD, Saved, SlotState, StateBank, VERSIONS};
pub use table::Embeddings;
pub use tensors::{AForm, LayerTensors, ModelTensors};
pub use trace::Tap;
pub use tune::Tune;
pub use unused::Unused;
pub use weights::{Progress, Weights};
