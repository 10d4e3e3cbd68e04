//! What the handlers and the workers share.

use super::jobs::Jobs;
use super::metrics::Metrics;
use super::options::ServerOptions;
use super::store::Store;
use crate::error::Result;
use crate::runtime::Engine;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Uploads of states at a time; others wait.
const UPLOADS: usize = 4;

/// The engine, the queue and what is kept beside them.
pub(super) struct App {
    pub(super) engine: Engine,
    pub(super) options: ServerOptions,
    pub(super) jobs: Arc<Jobs>,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    /// Uploads of states in progress: each is held in memory until it is checked.
    pub(super) uploads: Semaphore,
    /// In seconds since 1970.
    pub(super) started: u64,
}

impl App {
    pub(super) fn new(engine: Engine, options: ServerOptions) -> Result<Arc<Self>> {
        Ok(Arc::new(App {
            jobs: Arc::new(Jobs::new(options.queue)),
            metrics: Metrics::new(options.metric_names),
            store: Store::open(&options.states, options.state_bytes)?,
            uploads: Semaphore::new(UPLOADS),
            started: now(),
            engine,
            options,
        }))
    }

    /// Takes no new requests, and cancels those that take longer than the options allow.
    pub(super) fn drain(&self) {
        self.jobs.drain(self.options.drain);
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A random name for a response or a state.
pub(super) fn unique() -> String {
    Uuid::new_v4().simple().to_string()
}
