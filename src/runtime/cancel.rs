//! Stopping what a session does, from any thread.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops what a session does, from any thread. It serves for as long as the session lives, and clones of it are the same.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    /// Whether the newest call is to end. Each call has a flag of its own: one that has ended does not look at it any more.
    newest: Arc<AtomicBool>,
    /// Whether calls that begin from now on end at once.
    all: bool,
}

impl CancelHandle {
    /// Ends the call that is under way with [`Finish::Cancelled`](super::Finish::Cancelled): an answer after its current
    /// token, a prompt after its current chunk, a template where it stands. If nothing is under way, nothing happens: a
    /// cancel that comes too late does not end the next call.
    ///
    /// A call is under way until its answer has ended or is dropped.
    pub fn cancel(&self) {
        self.0.lock().newest.store(true, Ordering::Relaxed);
    }

    /// [`CancelHandle::cancel`], and every later call of the session ends as soon as it begins. It is for a program that is
    /// about to end: whether the signal for that comes during a call or between two does not matter.
    pub fn cancel_all(&self) {
        let mut calls = self.0.lock();
        calls.all = true;
        calls.newest.store(true, Ordering::Relaxed);
    }

    /// A call begins; gives its flag.
    pub(super) fn begin(&self) -> Arc<AtomicBool> {
        let mut calls = self.0.lock();
        calls.newest = Arc::new(AtomicBool::new(calls.all));
        calls.newest.clone()
    }
}
