//! Models from kernels. What every model has is here; what one architecture has is in its folder, such as `mamba/`, and is
//! reached through the registry in `architecture.rs`.

mod architecture;
#[cfg(feature = "blocking")]
mod blocking;
mod capacity;
mod chunk;
mod config;
#[cfg(feature = "bench")]
mod deit;
mod embeddings;
mod feed;
mod first_use;
mod forward;
mod load;
mod mamba;
mod memory;
mod naming;
mod options;
mod plans;
mod profile;
mod recipe;
pub mod reference;
mod shape;
mod slots;
mod state;
mod tensors;
mod trace;
mod tune;
mod unused;
mod vim;
mod weights;

pub use architecture::{Architecture, LayerTensorId, LayerTensors, TensorId};
pub(crate) use config::ConfigEntry;
pub use config::{Config, UnusedKeys, eos_ids};
#[cfg(feature = "bench")]
pub use deit::{Attention, Deit, DeitForward, DeitWeights, PictureBatch};
pub use embeddings::Embeddings;
pub use forward::{Choosing, Forward, Logits};
pub use mamba::{Family, Mamba, SHAPES};
pub use memory::{Bytes, MemoryPlan, Room};
pub use naming::Naming;
pub use options::{AUTOMATIC, ForwardOptions, Tune, WeightOptions};
pub use profile::{Profile, purpose};
pub use recipe::{Recipe, Role};
pub use shape::Shape;
pub use state::{RUN_AHEAD, Saved, SlotState, StateBank, StateDtype, StateLayout, StateTensor, VERSIONS};
pub use tensors::ModelTensors;
pub(crate) use tensors::ValueMap;
pub use trace::Tap;
pub use unused::Unused;
pub use vim::{VIM_SHAPES, Vim, VimForward, VimMemory, VimTap, VimTensors, VimWeights};
pub use weights::{Progress, Weights};
