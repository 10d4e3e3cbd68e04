//! Conversations over models: checkpoints, slots, sampling, sessions.

mod answer;
mod backup;
mod cancel;
mod checkpoint;
mod engine;
mod export;
mod generation;
mod prefix;
mod sampler;
mod session;
mod snapshot;
mod states;
mod stepper;
mod turns;

pub use answer::{Answer, Chosen};
pub use cancel::CancelHandle;
pub use checkpoint::Checkpoint;
pub use engine::{Engine, EngineOptions};
pub use export::{Existing, ExportOptions};
pub use generation::{AnswerOptions, Finish, Generation, Logprobs};
pub use prefix::{PrefixBudget, PrefixStats, Reuse};
pub use sampler::{Sampling, SamplingDefaults};
pub use session::Session;
pub use snapshot::{Origin, Precision, Snapshot, Warning};
pub use states::{Held, StateBudget, StateStats};
pub use stepper::Counts;
pub use turns::Mark;
