//! An answer: an iterator of text, also an async one, that owns its session until it ends.

use crate::errors::{Failure, Outcome};
use crate::wait::wait;
use peregrine::{AnswerOptions, CancelHandle, Finish, Prompt};
use peregrine_bindings::{Refused, Taken};
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard};

#[pyclass(frozen, module = "peregrine")]
pub struct Answer {
    cancel: CancelHandle,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    stage: Stage,
    /// All text given out.
    said: String,
    /// A piece that is made and not yet returned: a signal may have kept it from that.
    held: Option<String>,
    finish: Option<Finish>,
}

#[derive(Default)]
enum Stage {
    /// It can go on.
    Ready(Box<Running>),
    /// A call makes the next piece.
    InCall,
    /// It has made it, and is about to return it.
    Made(Box<Running>),
    #[default]
    Over,
}

/// The library's answer, and where its session goes afterwards.
struct Running {
    answer: peregrine::Answer<'static>,
    place: Option<Taken<peregrine::Session>>,
}

impl Running {
    /// Gives the session back to its place; without one, its slot is freed.
    fn end(self) {
        if let (Some(session), Some(place)) = (self.answer.into_session(), self.place) {
            place.fill(session);
        }
    }
}

/// Ends the answer if the call that makes a piece panics.
struct Call<'a>(&'a Answer);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut progress = self.0.lock();
        if matches!(progress.stage, Stage::InCall) {
            (progress.stage, progress.finish) = (Stage::Over, Some(Finish::Failed));
        }
    }
}

impl Answer {
    /// An answer that continues `prompt` in a session of a place.
    pub fn of(taken: Taken<peregrine::Session>, prompt: Prompt, options: &AnswerOptions) -> Self {
        let (session, place) = taken.empty();
        Self::new(session, prompt, options, Some(place))
    }

    /// An answer with a session of its own, which is dropped with it.
    pub fn alone(session: peregrine::Session, prompt: Prompt, options: &AnswerOptions) -> Self {
        Self::new(session, prompt, options, None)
    }

    fn new(
        session: peregrine::Session,
        prompt: Prompt,
        options: &AnswerOptions,
        place: Option<Taken<peregrine::Session>>,
    ) -> Self {
        let cancel = session.cancel_handle();
        let running = Running { answer: session.into_answer(prompt, options), place };
        let stage = Stage::Ready(Box::new(running));
        Answer { cancel, progress: Mutex::new(Progress { stage, ..Progress::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The next piece; `None` at the end.
    fn next(&self, py: Python<'_>) -> Outcome<Option<String>> {
        // A loop in C, such as that of list(), does not look for signals between two pieces.
        py.check_signals().inspect_err(|_| self.close())?;
        let running = {
            let mut progress = self.lock();
            match std::mem::replace(&mut progress.stage, Stage::InCall) {
                Stage::Ready(running) => running,
                Stage::Over => {
                    progress.stage = Stage::Over;
                    return Ok(progress.held.take());
                }
                busy => {
                    progress.stage = busy;
                    return Err(Refused::Busy("another thread waits for the next piece of this answer").into());
                }
            }
        };
        let made = wait(py, &|| self.cancel.cancel(), move || {
            let _call = Call(self);
            self.make(running)
        });
        match made {
            Ok(()) => {
                let mut progress = self.lock();
                progress.stage = match std::mem::take(&mut progress.stage) {
                    Stage::Made(running) => Stage::Ready(running),
                    stage => stage,
                };
                Ok(progress.held.take())
            }
            Err(Failure::Python(raised)) => {
                self.close();
                Err(Failure::Python(raised))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Makes the next piece and keeps it.
    fn make(&self, mut running: Box<Running>) -> Outcome<()> {
        let piece = running.answer.next();
        let mut progress = self.lock();
        match piece {
            Some(Ok(piece)) => {
                progress.said += &piece;
                progress.held = Some(piece);
                progress.stage = Stage::Made(running);
                Ok(())
            }
            other => {
                progress.finish = running.answer.finish();
                progress.stage = Stage::Over;
                running.end();
                match other {
                    Some(Err(error)) => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.close();
    }
}

#[pymethods]
impl Answer {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.next(py)?)
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        slf.py().import("peregrine._async")?.call_method1("next_piece", (slf,)).map(Some)
    }

    fn __await__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("peregrine._async")?.call_method1("whole_text", (slf,))?.call_method0("__await__")
    }

    fn text(&self, py: Python<'_>) -> PyResult<String> {
        while self.next(py)?.is_some() {}
        Ok(self.lock().said.clone())
    }

    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Ends it; the session is as after the last piece.
    fn close(&self) {
        let mut progress = self.lock();
        match std::mem::take(&mut progress.stage) {
            Stage::Ready(running) | Stage::Made(running) => {
                progress.finish = running.answer.finish().or(Some(Finish::Cancelled));
                running.end();
            }
            Stage::InCall => {
                progress.stage = Stage::InCall;
                self.cancel.cancel();
            }
            Stage::Over => {}
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }

    #[getter]
    fn finish(&self) -> Option<&'static str> {
        self.lock().finish.map(|finish| match finish {
            Finish::Eos => "eos",
            Finish::Length => "length",
            Finish::Stop => "stop",
            Finish::Cancelled => "cancelled",
            Finish::Failed => "failed",
        })
    }

    fn __repr__(&self) -> String {
        let state = self.finish().unwrap_or("unfinished");
        format!("<peregrine.Answer, {state}, {} characters so far>", self.lock().said.chars().count())
    }
}
