//! A worker: answers one request at a time in a session of its own.

use super::app::App;
use super::failure::Failure;
use super::jobs::{Job, Reason, Task, Update};
use super::metrics::Pace;
use crate::error::{Error, Result};
use crate::openai::{Event, RequestDefaults, Start};
use crate::runtime::{Sampling, Session, Snapshot};
use std::sync::Arc;
use tokio::runtime::Handle;

/// How often a request is tried again after the device was lost.
const MAX_LOSSES: u32 = 3;

/// Answers requests until the queue is stopped.
pub(super) fn run(app: &Arc<App>, tokio: &Handle) {
    while let Some((number, job)) = app.jobs.take() {
        app.metrics.waited(job.queued.elapsed());
        let outcome = Answering { app, tokio, job: &job, sent: vec![] }.run();
        app.jobs.ended(number);
        let last = outcome.map_or_else(Update::Failed, |()| Update::Done);
        // The client may have gone.
        let _ = job.updates.send(last);
    }
}

/// A job in progress.
struct Answering<'a> {
    app: &'a App,
    tokio: &'a Handle,
    job: &'a Job,
    /// Events sent so far. After a device loss the request runs again with the same seed and makes the same ones.
    sent: Vec<Event>,
}

/// What ended a try.
enum Stop {
    Failed(Error),
    Refused(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl Answering<'_> {
    fn run(mut self) -> Result<(), Failure> {
        for _ in 0..MAX_LOSSES {
            match self.attempt() {
                Ok(()) => return Ok(()),
                Err(Stop::Refused(failure)) => return Err(failure),
                Err(Stop::Failed(error @ Error::DeviceLost { .. })) => self.recover(&error)?,
                Err(Stop::Failed(error)) => return Err(error.into()),
            }
        }
        Err(Error::DeviceLost { reason: "it was lost again and again during this request".to_owned() }.into())
    }

    fn recover(&self, lost: &Error) -> Result<(), Failure> {
        if self.app.engine.recover(&mut |_| {})? {
            self.app.metrics.lost_device();
            tracing::warn!(error = %lost, "the device was lost and opened again");
        }
        Ok(())
    }

    fn attempt(&mut self) -> Result<(), Stop> {
        let mut session = self.app.engine.session(Sampling::GREEDY)?;
        self.job.cancel.attach(session.cancel_handle());
        let outcome = match self.job.task {
            Task::KeepState => self.job.request.read(&mut session),
            Task::Answer => {
                let from = self.state()?;
                self.answer(&mut session, from.as_ref())
            }
        };
        match outcome {
            Err(Error::Cancelled) if self.job.cancel.reason() == Some(Reason::Drain) => {
                let id = self.save_unfinished(&session);
                Err(Stop::Refused(Failure::draining(id.as_deref())))
            }
            outcome => {
                outcome?;
                if self.job.task == Task::KeepState || self.job.request.stores() {
                    self.store(&session, &self.job.id)?;
                    // The client may have gone.
                    let _ = self.job.updates.send(Update::Stored);
                }
                Ok(())
            }
        }
    }

    /// The state that the request continues.
    fn state(&self) -> Result<Option<Snapshot>, Stop> {
        let Some(id) = self.job.request.state() else { return Ok(None) };
        match self.tokio.block_on(self.app.store.get(id)) {
            Ok(Some(bytes)) => Ok(Some(Snapshot::from_bytes(id, &bytes)?)),
            Ok(None) => Err(Stop::Refused(Failure::no_state(id))),
            Err(error) => Err(error.into()),
        }
    }

    fn answer(&mut self, session: &mut Session, from: Option<&Snapshot>) -> Result<()> {
        let start = match from {
            None if !self.job.request.stores() => Start::Empty,
            from => Start::Conversation(from),
        };
        // Each answer of a server without a seed differs; a retry of the same request does not.
        let seed = u64::from_le_bytes(first_bytes(&self.job.id));
        let defaults = RequestDefaults { max_tokens: self.app.options.max_tokens, seed };
        let mut pace = Pace::new(&self.app.metrics, self.job.queued);
        let (mut replayed, mut differs) = (0, false);
        let Answering { job, sent, .. } = self;
        job.request.events(session, defaults, start, &mut |event| {
            if let Some(before) = sent.get(replayed) {
                differs |= *before != event;
                replayed += 1;
                return;
            }
            pace.event(&event);
            replayed += 1;
            sent.push(event.clone());
            if job.updates.send(Update::Event(event)).is_err() {
                job.cancel.cancel(Reason::Disconnect);
            }
        })?;
        match differs {
            false => Ok(()),
            true => Err(Error::Gpu {
                what: "an answer that began again on another device".to_owned(),
                problem: "its text differs from what was sent before".to_owned(),
            }),
        }
    }

    fn store(&self, session: &Session, id: &str) -> Result<()> {
        let bytes = session.snapshot()?.to_bytes()?;
        self.tokio.block_on(self.app.store.put(id, bytes))
    }

    /// Saves an answer that is cut off; returns the id of its state.
    fn save_unfinished(&self, session: &Session) -> Option<String> {
        if self.job.task != Task::Answer || !self.job.request.is_one_answer() || session.position() == 0 {
            return None;
        }
        match self.store(session, &self.job.id) {
            Ok(()) => Some(self.job.id.clone()),
            Err(error) => {
                tracing::error!(id = self.job.id, %error, "the state of an unfinished answer could not be saved");
                None
            }
        }
    }
}

/// The first eight bytes of a random id, after its kind.
fn first_bytes(id: &str) -> [u8; 8] {
    let unique = id.rsplit('-').next().unwrap_or(id).as_bytes();
    std::array::from_fn(|i| unique.get(i).copied().unwrap_or(0))
}
