//! Models from kernels: the one place that knows the order of the layers.

mod config;
mod forward;
mod gguf;
mod layers;
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
mod trace;
mod tune;
mod weights;

pub(crate) use config::LARGEST;
pub use config::{Config, Family, eos_ids};
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
pub use trace::Tap;
pub use tune::Tune;
pub use weights::{AForm, LayerTensors, ModelTensors, Progress, Weights};
