//! Waiting for the device: without the interpreter's lock, and with an eye on signals.

use crate::errors::{Failure, Outcome};
use peregrine_bindings::Place;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the main thread looks for signals while it waits.
const TICK: Duration = Duration::from_millis(20);

/// Runs `work` while other Python threads run. Panics become errors.
///
/// Python handles signals on its main thread only. There `work` runs on a thread of its own, and this one waits; where a signal's
/// handler raises, as that of Ctrl-C does, `interrupt` is called, `work` is waited for, and the exception returned.
pub fn wait<T: Send>(
    py: Python<'_>,
    interrupt: &(dyn Fn() + Sync),
    work: impl FnOnce() -> Outcome<T> + Send,
) -> Outcome<T> {
    if !is_main_thread(py).unwrap_or(false) {
        return py.detach(|| caught(work));
    }
    let work = Mutex::new(Some(work));
    let run = &|| match work.lock().unwrap_or_else(|e| e.into_inner()).take() {
        Some(work) => caught(work),
        None => Err(Failure::Panic("work was begun twice".to_owned())),
    };
    py.detach(|| {
        std::thread::scope(|scope| {
            let (sender, outcome) = channel();
            // The receiver lives for as long as the thread.
            let worker = move || drop(sender.send(run()));
            if std::thread::Builder::new().name("peregrine".to_owned()).spawn_scoped(scope, worker).is_err() {
                return run(); // the system has no threads left: signals wait until it is done
            }
            received(&outcome).unwrap_or_else(|raised| {
                interrupt();
                drop(outcome.recv());
                Err(Failure::Python(raised))
            })
        })
    })
}

/// [`wait`] for work that may take long and that nothing depends on: after a signal it is told to `stop`, and left to itself.
pub fn wait_or_leave<T: Send + 'static>(
    py: Python<'_>,
    stop: &(dyn Fn() + Sync),
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    if !is_main_thread(py).unwrap_or(false) {
        return py.detach(|| caught(work));
    }
    py.detach(|| {
        let (sender, outcome) = channel();
        // Nobody may be left to receive it.
        let worker = move || drop(sender.send(caught(work)));
        let started = std::thread::Builder::new().name("peregrine".to_owned()).spawn(worker);
        started.map_err(|problem| Failure::Panic(format!("no thread can be started: {problem}")))?;
        received(&outcome).unwrap_or_else(|raised| {
            stop();
            Err(Failure::Python(raised))
        })
    })
}

/// What a worker sends; an error if a signal's handler raises before.
fn received<T>(outcome: &Receiver<Outcome<T>>) -> PyResult<Outcome<T>> {
    loop {
        match outcome.recv_timeout(TICK) {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => return Ok(Err(Failure::Panic("a thread vanished".to_owned()))),
            Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals())?,
        }
    }
}

/// For work that cannot be ended early, and takes no longer than a step of the device.
pub fn wait_briefly<T: Send>(py: Python<'_>, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    wait(py, &|| {}, work)
}

/// A call of what is kept in a place.
pub fn call<T: Send, R: Send>(
    py: Python<'_>,
    place: &Arc<Place<T>>,
    work: impl FnOnce(&mut T) -> peregrine::Result<R> + Send,
) -> Outcome<R> {
    py.check_signals()?;
    let mut taken = place.take()?;
    wait(py, &|| place.cancel_handle().cancel(), move || Ok(work(taken.it())?))
}

fn caught<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Failure::of_panic(payload)))
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let this: u64 = threading.call_method0("get_ident")?.extract()?;
    let main: Option<u64> = threading.call_method0("main_thread")?.getattr("ident")?.extract()?;
    Ok(main == Some(this))
}
