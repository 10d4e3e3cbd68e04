//! The queue of requests, and those in progress.

use super::failure::Failure;
use crate::openai::{Event, Request};
use crate::runtime::CancelHandle;
use axum::http::StatusCode;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a worker does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Answers it.
    Answer,
    /// Reads its prompt and keeps the state.
    KeepState,
}

/// A request for a worker.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) request: Request,
    /// The id of the response, and of the state that is kept.
    pub(super) id: String,
    pub(super) queued: Instant,
    pub(super) updates: Updates,
    pub(super) cancel: Arc<Cancel>,
}

/// The sending end of a job's updates. Unbounded, so that a client which reads slowly does not hold a slot; an answer is as long
/// as its token limit.
pub(super) type Updates = UnboundedSender<Update>;

/// What a worker tells the handler.
#[derive(Debug)]
pub(super) enum Update {
    /// A step of the answer.
    Event(Event),
    /// The state after it was kept, under the job's id.
    Stored,
    /// Nothing follows. Without it, the worker has failed.
    Done,
    /// The request failed; nothing follows.
    Failed(Failure),
}

/// Cancellation of a job, before or while a session runs it.
#[derive(Default)]
pub(super) struct Cancel(Mutex<CancelState>);

#[derive(Default)]
struct CancelState {
    reason: Option<Reason>,
    session: Option<CancelHandle>,
}

/// Why a job is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its client has gone.
    Disconnect,
    /// The server ends.
    Drain,
}

impl Cancel {
    /// Cancels the job. The first reason counts.
    pub(super) fn cancel(&self, reason: Reason) {
        let mut state = self.0.lock();
        state.reason.get_or_insert(reason);
        if let Some(session) = &state.session {
            session.cancel_all();
        }
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.0.lock().reason
    }

    /// Cancels this session from now on, at once if the job was cancelled before.
    pub(super) fn attach(&self, session: CancelHandle) {
        let mut state = self.0.lock();
        if state.reason.is_some() {
            session.cancel_all();
        }
        state.session = Some(session);
    }
}

/// Cancels a job when its handler is dropped, as happens when the connection closes.
pub(super) struct CancelOnDrop(Arc<Cancel>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel(Reason::Disconnect);
    }
}

/// The receiving end of a job.
pub(super) struct Ticket {
    pub(super) updates: UnboundedReceiver<Update>,
    pub(super) cancel: CancelOnDrop,
}

/// The queue, and the jobs in progress.
pub(super) struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
    most_waiting: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    running: HashMap<u64, Arc<Cancel>>,
    next: u64,
    draining: bool,
    stopped: bool,
}

impl Jobs {
    pub(super) fn new(most_waiting: usize) -> Self {
        Jobs { state: Mutex::default(), changed: Condvar::new(), most_waiting }
    }

    /// Queues a request for the next free worker.
    pub(super) fn push(&self, task: Task, request: Request, id: String) -> Result<Ticket, Failure> {
        let (sender, updates) = unbounded_channel();
        let cancel = Arc::<Cancel>::default();
        let mut state = self.state.lock();
        if state.draining {
            return Err(Failure::draining(None));
        }
        // A job whose client has gone does not count.
        state.waiting.retain(|job| job.cancel.reason().is_none());
        if state.waiting.len() >= self.most_waiting {
            let message = format!("{} requests are waiting, which is the maximum: try again later", self.most_waiting);
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let job = Job { task, request, id, queued: Instant::now(), updates: sender, cancel: cancel.clone() };
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(Ticket { updates, cancel: CancelOnDrop(cancel) })
    }

    /// The next job, once there is one; `None` after [`Jobs::stop`].
    pub(super) fn take(&self) -> Option<(u64, Job)> {
        let mut state = self.state.lock();
        loop {
            while let Some(job) = state.waiting.pop_front() {
                if job.cancel.reason().is_none() {
                    state.next += 1;
                    let number = state.next;
                    state.running.insert(number, job.cancel.clone());
                    return Some((number, job));
                }
            }
            if state.stopped {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// The job `number` has ended.
    pub(super) fn ended(&self, number: u64) {
        self.state.lock().running.remove(&number);
    }

    /// The numbers of jobs that wait and that run.
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        let waiting = state.waiting.iter().filter(|job| job.cancel.reason().is_none()).count();
        (waiting, state.running.len())
    }

    /// Whether new requests are refused.
    pub(super) fn is_draining(&self) -> bool {
        self.state.lock().draining
    }

    /// Takes no new requests; after `time`, cancels the rest.
    pub(super) fn drain(self: &Arc<Self>, time: Duration) {
        self.state.lock().draining = true;
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            jobs.cancel_all();
        });
    }

    fn cancel_all(&self) {
        let mut state = self.state.lock();
        for job in state.waiting.drain(..) {
            // The client may have gone.
            let _ = job.updates.send(Update::Failed(Failure::draining(None)));
        }
        state.running.values().for_each(|cancel| cancel.cancel(Reason::Drain));
    }

    /// Makes the workers end after their current job.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Endpoint;
    use serde_json::json;

    fn push(jobs: &Jobs) -> Result<Ticket, Failure> {
        let request = Request::parse(Endpoint::Completions, &json!({ "prompt": "a" })).unwrap();
        jobs.push(Task::Answer, request, "cmpl-1".to_owned())
    }

    #[test]
    fn a_full_queue_refuses_and_a_client_that_left_makes_room() {
        let jobs = Jobs::new(1);
        let first = push(&jobs).unwrap();
        assert_eq!(push(&jobs).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        assert_eq!(jobs.counts(), (0, 0));
        let second = push(&jobs).unwrap();
        let (number, job) = jobs.take().unwrap();
        assert_eq!((number, jobs.counts()), (1, (0, 1)));
        drop(second);
        assert_eq!(job.cancel.reason(), Some(Reason::Disconnect));
        jobs.ended(number);
        jobs.stop();
        assert!(jobs.take().is_none() && jobs.counts() == (0, 0));
    }
}
