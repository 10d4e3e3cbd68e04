//! Conversations over models: checkpoints, slots, sampling, sessions.

mod answer;
mod checkpoint;
mod engine;
mod export;
mod generation;
mod sampler;
mod session;
mod stepper;

pub use answer::Answer;
pub use checkpoint::Checkpoint;
pub use engine::{Engine, EngineOptions};
pub use export::{Existing, ExportOptions};
pub use generation::{AnswerOptions, Finish, Generation, Logprobs};
pub use sampler::{Sampling, SamplingDefaults};
pub use session::{CancelHandle, Session};
pub use stepper::Counts;
