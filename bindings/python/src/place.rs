//! Where a session or a vision model is kept between calls. A call takes it out, so that a second one at the same time is an error
//! and not a wait.

use crate::errors::{Failure, Outcome};
use crate::wait::wait;
use peregrine::CancelHandle;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};

/// The place of a `T`.
pub struct Place<T> {
    what: &'static str,
    busy: &'static str,
    cancel: CancelHandle,
    state: Mutex<State<T>>,
}

enum State<T> {
    Idle(Box<T>),
    Busy,
    Closed,
}

/// What a call has taken out. Dropping it puts it back; after a panic it is dropped, as nobody knows its state.
pub struct Taken<T> {
    place: Arc<Place<T>>,
    it: Option<Box<T>>,
}

impl<T> Place<T> {
    /// A place for `it`, whose calls `cancel` ends. `what` it is and why it is `busy` are for messages.
    pub fn new(it: T, cancel: CancelHandle, [what, busy]: [&'static str; 2]) -> Arc<Self> {
        Arc::new(Place { what, busy, cancel, state: Mutex::new(State::Idle(Box::new(it))) })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes it out for a call.
    pub fn take(self: &Arc<Self>) -> Outcome<Taken<T>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Busy) {
            State::Idle(it) => Ok(Taken { place: self.clone(), it: Some(it) }),
            State::Busy => Err(Failure::Busy(self.busy)),
            State::Closed => {
                *state = State::Closed;
                Err(Failure::Closed(self.what))
            }
        }
    }

    /// Looks at it between calls.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Outcome<R> {
        match &*self.lock() {
            State::Idle(it) => Ok(look(it)),
            State::Busy => Err(Failure::Busy(self.busy)),
            State::Closed => Err(Failure::Closed(self.what)),
        }
    }

    /// A call that waits for the device.
    pub fn call<R: Send>(
        self: &Arc<Self>,
        py: Python<'_>,
        work: impl FnOnce(&mut T) -> peregrine::Result<R> + Send,
    ) -> Outcome<R>
    where
        T: Send,
    {
        py.check_signals()?;
        let mut taken = self.take()?;
        wait(py, &|| self.cancel.cancel(), move || Ok(work(taken.it())?))
    }

    /// Puts it back, unless the place was closed meanwhile.
    fn put(&self, it: Box<T>) {
        let mut state = self.lock();
        if matches!(*state, State::Busy) {
            *state = State::Idle(it);
        }
    }

    /// Ends the call in progress.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Frees it now, or at the end of the call in progress, which is cancelled.
    pub fn close(&self) {
        let was = std::mem::replace(&mut *self.lock(), State::Closed);
        if matches!(was, State::Busy) {
            self.cancel.cancel();
        }
    }
}

impl<T> Taken<T> {
    pub fn it(&mut self) -> &mut T {
        self.it.as_mut().expect("it is there until it is moved out")
    }

    /// Moves it out; the place stays busy until [`Taken::fill`].
    pub fn empty(mut self) -> (T, Self) {
        (*self.it.take().expect("it is there until it is moved out"), self)
    }

    /// What was moved out comes back.
    pub fn fill(mut self, it: T) {
        self.it = Some(Box::new(it));
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        match self.it.take() {
            Some(it) if !std::thread::panicking() => self.place.put(it),
            _ => self.place.close(),
        }
    }
}
