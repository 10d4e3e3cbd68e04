//! Runs conversations on a model: checkpoints, engines, sessions, sampling, snapshots.

mod backup;
#[cfg(feature = "blocking")]
mod blocking;
mod cancel;
mod checkpoint;
mod conversation;
mod engine;
mod export;
mod prefix;
mod sampler;
mod scheduler;
mod session;
mod snapshot;
mod states;

pub use cancel::CancelHandle;
pub use checkpoint::Checkpoint;
pub use engine::{Engine, EngineOptions};
pub use export::{Existing, ExportOptions};
#[cfg(feature = "vision")]
pub(crate) use export::{OutputKind, write_staged};
pub use prefix::{PrefixBudget, PrefixStats, Reuse};
pub use sampler::{Sampling, SamplingDefaults};
pub use scheduler::Counts;
pub use session::{Answer, AnswerOptions, Chosen, Finish, Generation, Logprobs, Mark, Prompt, Session};
pub use snapshot::{Origin, Precision, Snapshot, Warning};
pub use states::{Held, StateBudget, StateStats};

// What the options of an engine are made of.
pub use crate::format::WeightFormat;
pub use crate::kernels::linear::Math;
pub use crate::model::{AUTOMATIC, Embeddings, Progress, Recipe, Tune};

// What turns a text into the ids of a prompt.
pub use crate::text::{Specials, Tokenizer};
