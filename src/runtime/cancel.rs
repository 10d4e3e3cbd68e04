//! Cancellation of a session's calls, from any thread.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels a session's calls from any thread. Valid for as long as the session lives; clones are the same handle.
///
/// ```no_run
/// # fn f(mut session: peregrine::Session) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Finish};
/// let cancel = session.cancel_handle();
/// std::thread::spawn(move || cancel.cancel()); // a button, a signal, a closed connection
/// let mut answer = session.send("Count to a million.", &AnswerOptions::default())?;
/// let text: String = answer.by_ref().collect::<Result<_, _>>()?;
/// assert_eq!(answer.finish(), Some(Finish::Cancelled));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    /// Set to end the newest call. Each call has its own flag, so that a late cancel cannot end the next call.
    newest: Arc<AtomicBool>,
    /// Whether later calls end as soon as they begin.
    all: bool,
}

impl CancelHandle {
    /// Ends the call in progress with [`Finish::Cancelled`](super::Finish::Cancelled): an answer after its current token, a
    /// prompt after its current chunk, a template at its current instruction. Without a call in progress it does nothing; a
    /// cancel that comes too late does not end the next call.
    ///
    /// A call is in progress until its answer has ended or is dropped.
    pub fn cancel(&self) {
        self.0.lock().newest.store(true, Ordering::Relaxed);
    }

    /// [`CancelHandle::cancel`], and every later call of the session ends as soon as it begins. For a program that is about
    /// to exit: it does not matter whether the signal comes during a call or between two.
    pub fn cancel_all(&self) {
        let mut calls = self.0.lock();
        calls.all = true;
        calls.newest.store(true, Ordering::Relaxed);
    }

    /// Begins a call; returns its flag.
    pub(crate) fn begin(&self) -> Arc<AtomicBool> {
        let mut calls = self.0.lock();
        calls.newest = Arc::new(AtomicBool::new(calls.all));
        calls.newest.clone()
    }
}
