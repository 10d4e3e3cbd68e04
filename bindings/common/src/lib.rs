//! What the bindings for Node, Python and browsers share: where a session or a vision model is kept between calls, and the
//! names and texts of errors. A call takes a session out of its place, so that a second one at the same time is an error and not a wait.

#![warn(missing_docs)]

use peregrine::{CancelHandle, Error};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

/// The name of an error's variant.
pub fn name_of(error: &Error) -> String {
    format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// What a caught panic says.
pub fn text_of_panic(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

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

/// Why a call cannot have it.
#[derive(Debug)]
pub enum Refused {
    /// Another call has it, and what to do about that.
    Busy(&'static str),
    /// It was closed, and what it is.
    Closed(&'static str),
}

impl Refused {
    /// Its code in JavaScript.
    pub fn code(&self) -> &'static str {
        match self {
            Refused::Busy(_) => "Busy",
            Refused::Closed(_) => "Closed",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Busy(text) => f.write_str(text),
            Refused::Closed(what) => write!(f, "the {what} is closed"),
        }
    }
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
    pub fn take(self: &Arc<Self>) -> Result<Taken<T>, Refused> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Busy) {
            State::Idle(it) => Ok(Taken { place: self.clone(), it: Some(it) }),
            State::Busy => Err(Refused::Busy(self.busy)),
            State::Closed => {
                *state = State::Closed;
                Err(Refused::Closed(self.what))
            }
        }
    }

    /// Looks at it between calls.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Result<R, Refused> {
        match &*self.lock() {
            State::Idle(it) => Ok(look(it)),
            State::Busy => Err(Refused::Busy(self.busy)),
            State::Closed => Err(Refused::Closed(self.what)),
        }
    }

    /// Puts it back, unless the place was closed meanwhile.
    fn put(&self, it: Box<T>) {
        let mut state = self.lock();
        if matches!(*state, State::Busy) {
            *state = State::Idle(it);
        }
    }

    /// What ends the call in progress.
    pub fn cancel_handle(&self) -> &CancelHandle {
        &self.cancel
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
    /// What was taken.
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
