//! Asynchronous wgpu errors and the loss of the device, and polling, which is where wgpu reports them.

use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a device that refused a command may take to report that it is lost.
const LOSS_PATIENCE: Duration = Duration::from_secs(2);

/// First asynchronous wgpu error of a device; every later call returns it.
pub(super) struct Latch {
    device: wgpu::Device,
    /// Seconds to wait for a submission.
    timeout: u64,
    lost: OnceLock<String>,
    refused: Mutex<Option<Refusal>>,
}

/// A command that failed outside of any error scope.
#[derive(Clone)]
struct Refusal {
    out_of_memory: bool,
    problem: String,
}

impl Refusal {
    fn of(error: &wgpu::Error) -> Self {
        Refusal { out_of_memory: matches!(error, wgpu::Error::OutOfMemory { .. }), problem: error.to_string() }
    }

    fn error(self) -> Error {
        let what = "a command".to_owned();
        if self.out_of_memory {
            Error::OutOfMemory { what, bytes: 0 }
        } else {
            Error::Gpu { what, problem: self.problem }
        }
    }
}

impl Latch {
    /// Registers for the device's errors and its loss.
    pub(super) fn new(device: &wgpu::Device, timeout: u64) -> Arc<Self> {
        let (lost, refused) = (OnceLock::new(), Mutex::new(None));
        let latch = Arc::new(Latch { device: device.clone(), timeout, lost, refused });
        // Weak: the device keeps its callbacks, and the latch keeps the device.
        let on_error = Arc::downgrade(&latch);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Some(latch) = on_error.upgrade() {
                latch.refuse(&error);
            }
        }));
        let on_lost = Arc::downgrade(&latch);
        device.set_device_lost_callback(move |reason, message| {
            if let Some(latch) = on_lost.upgrade() {
                let _ = latch.lost.set(format!("{reason:?}: {message}"));
            }
        });
        latch
    }

    fn refuse(&self, error: &wgpu::Error) {
        let mut refused = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        refused.get_or_insert_with(|| Refusal::of(error));
    }
}

impl Latch {
    /// Fails if the device is lost or has refused something since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if refused.is_some() && self.lost.get().is_none() {
            self.hear_of_loss();
        }
        match (self.lost.get(), refused) {
            (Some(reason), _) => Err(Error::DeviceLost { reason: reason.clone() }),
            (None, Some(refusal)) => Err(refusal.error()),
            (None, None) => Ok(()),
        }
    }

    /// Polls until an idle device has reported its loss: a lost device refuses everything, but says so only when polled.
    pub(super) fn hear_of_loss(&self) {
        self.settle(LOSS_PATIENCE);
    }

    /// Polls until all submissions so far are done, or this time has passed.
    pub(super) fn settle(&self, most: Duration) {
        let _ = self.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(most) });
    }

    /// Polls until the submission is done.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let timeout = Some(Duration::from_secs(self.timeout));
        let outcome = self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout });
        if let Err(error @ Error::OutOfMemory { .. }) = outcome {
            return Err(error); // the cause; the loss of the device only follows from it
        }
        self.check()?;
        outcome
    }

    /// Polls the device. wgpu panics in a poll if the driver reports a lost device or exhausted memory.
    fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(wgpu::PollError::Timeout)) => Err(Error::Timeout { seconds: self.timeout }),
            Ok(Err(error)) => Err(Error::Gpu { what: "waiting for it".to_owned(), problem: error.to_string() }),
            Err(panic) => {
                let message = panic.downcast::<String>().map_or_else(|_| String::new(), |message| *message);
                let error = poll_error(message);
                if let Error::DeviceLost { reason } = &error {
                    let _ = self.lost.set(reason.clone());
                }
                Err(error)
            }
        }
    }

    /// Runs `make` in error scopes; a wgpu error becomes an error that names `what`.
    ///
    /// Natively wgpu reports errors at once. A browser reports them later: there no scope is opened, so that the latch gets them.
    pub(super) fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        if cfg!(target_arch = "wasm32") {
            let made = make();
            return self.check().map(|()| made);
        }
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        let errors = [at_once(internal.pop()), at_once(validation.pop()), at_once(memory.pop())];
        self.check()?;
        match errors.into_iter().flatten().flatten().next() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory { what: what.to_owned(), bytes: 0 }),
            Some(error) => Err(Error::Gpu { what: what.to_owned(), problem: error.to_string() }),
        }
    }
}

/// The output of a future that is ready at its first poll.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The error for a message with which wgpu panicked in a poll.
fn poll_error(message: String) -> Error {
    let lower = message.to_lowercase();
    if lower.contains("memory") {
        Error::OutOfMemory { what: "submitted work".to_owned(), bytes: 0 }
    } else if lower.contains("lost") {
        Error::DeviceLost { reason: message }
    } else {
        Error::Gpu { what: "waiting for it".to_owned(), problem: message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_poll_is_called_by_its_name() {
        let lost = poll_error("Error in Device::poll: Parent device is lost".to_owned());
        assert!(matches!(lost, Error::DeviceLost { .. }), "{lost}");
        let memory = poll_error("Error in Device::poll: Not enough memory left.".to_owned());
        assert!(matches!(memory, Error::OutOfMemory { .. }), "{memory}");
        let refused = Refusal::of(&wgpu::Error::OutOfMemory { source: "no room".into() }).error();
        assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    }
}
