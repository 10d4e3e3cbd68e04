//! An HTTP server with OpenAI's API.
//!
//! Requests wait in a bounded queue (`jobs`) for one of as many worker threads as the engine has slots (`worker`). A worker answers one
//! request at a time in a session; sessions share decode steps, so the engine batches what is there at each step. Handlers
//! (`completions`, `states`, `tokens`, `health`) run on tokio and never wait for the device: they send a job and receive its updates.
//! If the connection closes, the job's session is cancelled, which ends it after its current token or chunk.
//!
//! States (`store`) are kept in memory, a folder or a bucket. A place that several servers share lets each of them continue any
//! conversation.

mod access;
mod app;
mod body;
mod completions;
mod connections;
mod failure;
mod health;
mod jobs;
mod metrics;
mod options;
mod page;
mod router;
mod states;
mod store;
mod tokens;
mod worker;

pub use metrics::MetricNames;
pub use options::{Keys, ServerOptions, StatePlace};

use crate::error::{Error, Result};
use crate::runtime::Engine;
use app::App;
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// A server that listens and does not answer yet.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
    router: Router,
}

impl Server {
    /// Listens on the address of the options. Must be called in a tokio runtime.
    pub async fn bind(engine: Engine, options: ServerOptions) -> Result<Self> {
        options.check()?;
        let fail = |problem| Error::Io { doing: "listen on", path: options.address.to_string().into(), problem };
        let listener = TcpListener::bind(options.address).await.map_err(fail)?;
        let app = App::new(engine, options)?;
        // A bucket that cannot be reached is an error now, not at the first state.
        app.store.list().await?;
        Ok(Server { listener, router: router::router(app.clone())?, app })
    }

    /// The address that it listens on.
    pub fn address(&self) -> Result<SocketAddr> {
        let fail = |problem| Error::Io { doing: "read", path: "the address of the socket".into(), problem };
        self.listener.local_addr().map_err(fail)
    }

    /// Answers requests until `shutdown` completes, then drains: it takes no new requests, waits for those in progress, and after
    /// [`ServerOptions::drain`] saves the unfinished ones as states.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let workers = self.start_workers();
        connections::serve(self.listener, self.router, self.app.clone(), shutdown).await;
        self.app.jobs.stop();
        let joined = tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join())));
        // The workers only end; there is no outcome.
        let _ = joined.await;
    }

    /// Starts a worker for each slot.
    fn start_workers(&self) -> Vec<JoinHandle<()>> {
        let tokio = Handle::current();
        let start = |_| {
            let (app, tokio) = (self.app.clone(), tokio.clone());
            std::thread::spawn(move || worker::run(&app, &tokio))
        };
        (0..self.app.engine.slots()).map(start).collect()
    }
}
