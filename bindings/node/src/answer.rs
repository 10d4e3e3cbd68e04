//! An answer: made piece by piece, as JavaScript asks for them. It has its session until it ends.

use crate::calls::Desk;
use crate::errors::Outcome;
use napi_derive::napi;
use peregrine::{CancelHandle, Finish};
use peregrine_bindings::Taken;
use std::sync::{Arc, Mutex, MutexGuard};

/// An answer. One call at a time: `lib/answer.js` keeps them in a row.
#[napi]
pub struct Answer {
    desk: Arc<Desk>,
    shared: Arc<Shared>,
}

/// What the thread that makes a piece shares with JavaScript's.
#[derive(Default)]
struct Shared(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    stage: Stage,
    /// Known once it has begun.
    cancel: Option<CancelHandle>,
    cancelled: bool,
    /// It is to end after the piece in work.
    closed: bool,
    finish: Option<Finish>,
}

#[derive(Default)]
enum Stage {
    /// Nobody has asked for a piece.
    New(Box<dyn FnOnce() -> Outcome<Running> + Send>),
    Ready(Box<Running>),
    /// A thread makes the next piece.
    InWork,
    #[default]
    Over,
}

/// The library's answer, and where its session goes afterwards.
pub struct Running {
    answer: peregrine::Answer<'static>,
    /// Without one, the session is the answer's own, and dropped with it.
    place: Option<Taken<peregrine::Session>>,
}

impl Running {
    pub fn new(answer: peregrine::Answer<'static>, place: Option<Taken<peregrine::Session>>) -> Self {
        Running { answer, place }
    }

    fn end(self) {
        if let (Some(session), Some(place)) = (self.answer.into_session(), self.place) {
            place.fill(session);
        }
    }
}

/// Ends the answer if making a piece fails or panics.
struct Work<'a>(&'a Shared);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.lock();
        if matches!(progress.stage, Stage::InWork) {
            (progress.stage, progress.finish) = (Stage::Over, Some(Finish::Failed));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn cancel(&self) {
        let mut progress = self.lock();
        progress.cancelled = true;
        if let Some(cancel) = &progress.cancel {
            cancel.cancel();
        }
    }

    /// The next piece; `None` at the end.
    fn next(&self) -> Outcome<Option<String>> {
        let stage = std::mem::replace(&mut self.lock().stage, Stage::InWork);
        if matches!(stage, Stage::InWork | Stage::Over) {
            self.lock().stage = stage;
            return Ok(None);
        }
        let _work = Work(self);
        let running = match stage {
            Stage::New(begin) => Box::new(begin()?),
            Stage::Ready(running) => running,
            Stage::InWork | Stage::Over => return Ok(None),
        };
        self.begun(&running);
        self.make(running)
    }

    /// A cancel may have come before there was anything to cancel.
    fn begun(&self, running: &Running) {
        let mut progress = self.lock();
        if progress.cancel.is_none() {
            let cancel = running.answer.session().cancel_handle();
            if progress.cancelled {
                cancel.cancel();
            }
            progress.cancel = Some(cancel);
        }
    }

    fn make(&self, mut running: Box<Running>) -> Outcome<Option<String>> {
        let piece = running.answer.next();
        let mut progress = self.lock();
        if matches!(piece, Some(Ok(_))) && !progress.closed {
            progress.stage = Stage::Ready(running);
        } else {
            progress.finish = running.answer.finish().or(Some(Finish::Cancelled));
            progress.stage = Stage::Over;
            running.end();
        }
        Ok(piece.transpose()?)
    }

    /// Ends it; the session is as after the last piece.
    fn close(&self) {
        let mut progress = self.lock();
        progress.closed = true;
        match std::mem::take(&mut progress.stage) {
            Stage::Ready(running) => {
                progress.finish = running.answer.finish().or(Some(Finish::Cancelled));
                running.end();
            }
            Stage::New(_) => progress.finish = Some(Finish::Cancelled),
            Stage::InWork => {
                progress.stage = Stage::InWork;
                drop(progress);
                self.cancel();
            }
            Stage::Over => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Answer {
    /// An answer that `begin` begins, on another thread, when its first piece is asked for.
    pub fn new(desk: &Arc<Desk>, begin: impl FnOnce() -> Outcome<Running> + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().stage = Stage::New(Box::new(begin));
        Answer { desk: desk.clone(), shared }
    }
}

#[napi]
impl Answer {
    /// Makes the next piece; the reply is null at the end.
    #[napi(catch_unwind)]
    pub fn next(&self, call: u32) {
        let (shared, stopped) = (self.shared.clone(), self.shared.clone());
        self.desk.begin(call, move || stopped.cancel(), move || shared.next());
    }

    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.shared.close();
    }

    #[napi(getter, catch_unwind)]
    pub fn finish(&self) -> Option<&'static str> {
        self.shared.lock().finish.map(|finish| match finish {
            Finish::Eos => "eos",
            Finish::Length => "length",
            Finish::Stop => "stop",
            Finish::Cancelled => "cancelled",
            Finish::Failed => "failed",
        })
    }
}
