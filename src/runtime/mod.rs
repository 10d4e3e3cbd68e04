//! Runs conversations on a model: checkpoints, engines, sessions, sampling, snapshots.

mod answer;
mod backup;
#[cfg(feature = "blocking")]
mod blocking;
mod cancel;
mod checkpoint;
mod conversation;
mod departures;
mod engine;
mod export;
mod generation;
mod history;
mod prefix;
mod prompt;
mod sampler;
mod scheduler;
mod session;
mod snapshot;
mod states;

pub use answer::{Answer, Chosen};
pub use cancel::CancelHandle;
pub use checkpoint::Checkpoint;
pub use engine::{Engine, EngineOptions};
pub use export::{Existing, ExportOptions};
pub use generation::{AnswerOptions, Finish, Generation, Logprobs};
pub use history::Mark;
pub use prefix::{PrefixBudget, PrefixStats, Reuse};
pub use prompt::Prompt;
pub use sampler::{Sampling, SamplingDefaults};
pub use scheduler::Counts;
pub use session::Session;
pub use snapshot::{Origin, Precision, Snapshot, Warning};
pub use states::{Held, StateBudget, StateStats};

// What the options of an engine are made of.
pub use crate::format::WeightFormat;
pub use crate::kernels::linear::Math;
pub use crate::model::{AUTOMATIC, Embeddings, Progress, Recipe, Tune};
