//! Conversations over models: checkpoints, slots, sampling, sessions.

mod checkpoint;
mod engine;
mod sampler;
mod session;

pub use checkpoint::Checkpoint;
pub use engine::{Engine, EngineOptions};
pub use sampler::{Sampling, SamplingDefaults};
pub use session::{Answer, Finish, Generation, Session};
