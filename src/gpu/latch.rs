//! What went wrong behind our back, and waiting for the device, which is where one hears of it.

use super::Gpu;
use super::faults::Site;
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How long a device that refused something may take to say that it is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first thing that went wrong behind our back: it is reported by every later call.
#[derive(Default)]
pub(super) struct Latch {
    lost: OnceLock<String>,
    refused: Mutex<Option<Refusal>>,
}

/// A command that no error scope was around.
#[derive(Clone)]
struct Refusal {
    out_of_memory: bool,
    problem: String,
}

impl Refusal {
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
    /// One that hears of the device's errors and of its loss.
    pub(super) fn of(device: &wgpu::Device) -> Arc<Self> {
        let latch = Arc::new(Latch::default());
        let on_error = latch.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| on_error.refuse(&error)));
        let on_lost = latch.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = on_lost.lost.set(format!("{reason:?}: {message}"));
        });
        latch
    }

    fn refuse(&self, error: &wgpu::Error) {
        let out_of_memory = matches!(error, wgpu::Error::OutOfMemory { .. });
        let mut refused = self.refused.lock().unwrap_or_else(|e| e.into_inner());
        refused.get_or_insert_with(|| Refusal { out_of_memory, problem: error.to_string() });
    }
}

impl Gpu {
    /// Fails if the device is lost or has refused something since it was opened.
    pub fn check(&self) -> Result<()> {
        let latch = &self.shared.latch;
        let refused = latch.refused.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if refused.is_some() && latch.lost.get().is_none() {
            self.hear();
        }
        match (latch.lost.get(), refused) {
            (Some(reason), _) => Err(Error::DeviceLost { reason: reason.clone() }),
            (None, Some(refusal)) => Err(refusal.error()),
            (None, None) => Ok(()),
        }
    }

    /// A lost device refuses everything, but says that it is lost only when it is polled and has nothing to do any more.
    pub(super) fn hear(&self) {
        let _ = self.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) });
    }

    /// Polls until the submission is done.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        self.meet(Site::Wait)?;
        let timeout = Some(Duration::from_secs(self.caps().timeout));
        let outcome = self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout });
        if let Err(error @ Error::OutOfMemory { .. }) = outcome {
            return Err(error); // rather than that the device is lost, which follows from it
        }
        self.check()?;
        outcome
    }

    /// Ready once all that was submitted so far is done.
    #[cfg(target_arch = "wasm32")]
    pub(super) async fn work_done(&self) -> Result<()> {
        let (send, done) = tokio::sync::oneshot::channel();
        self.shared.queue.on_submitted_work_done(move || {
            let _ = send.send(());
        });
        // A device that is lost drops the callback.
        let _ = done.await;
        self.check()
    }

    /// Lets wgpu do what is due. It panics where the driver reports the loss of the device or that memory is used up.
    fn poll(&self, poll: wgpu::PollType) -> Result<()> {
        let device = &self.shared.device;
        match catch_unwind(AssertUnwindSafe(|| device.poll(poll))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(wgpu::PollError::Timeout)) => Err(Error::Timeout { seconds: self.caps().timeout }),
            Ok(Err(error)) => Err(Error::Gpu { what: "waiting for it".to_owned(), problem: error.to_string() }),
            Err(panic) => {
                let message = panic.downcast::<String>().map_or_else(|_| String::new(), |message| *message);
                let error = broken_off(message);
                if let Error::DeviceLost { reason } = &error {
                    let _ = self.shared.latch.lost.set(reason.clone());
                }
                Err(error)
            }
        }
    }
}

/// The error that wgpu panicked with in a poll.
fn broken_off(message: String) -> Error {
    let lower = message.to_lowercase();
    if lower.contains("memory") {
        Error::OutOfMemory { what: "work that was under way".to_owned(), bytes: 0 }
    } else if lower.contains("lost") {
        Error::DeviceLost { reason: message }
    } else {
        Error::Gpu { what: "waiting for it".to_owned(), problem: message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::AdapterChoice;

    #[test]
    fn an_error_of_a_poll_is_called_by_its_name() {
        let lost = broken_off("Error in Device::poll: Parent device is lost".to_owned());
        assert!(matches!(lost, Error::DeviceLost { .. }), "{lost}");
        let memory = broken_off("Error in Device::poll: Not enough memory left.".to_owned());
        assert!(matches!(memory, Error::OutOfMemory { .. }), "{memory}");
        let latch = Latch::default();
        latch.refuse(&wgpu::Error::OutOfMemory { source: "no room".into() });
        let refused = latch.refused.into_inner().unwrap().unwrap().error();
        assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    }

    #[test]
    fn what_was_never_submitted_is_no_timeout() {
        if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
            eprintln!("skipped: what_was_never_submitted_is_no_timeout");
            return;
        }
        let [first, second] = [(); 2].map(|()| Gpu::open(&AdapterChoice::Best).unwrap());
        let submissions = [(); 5].map(|()| first.shared.queue.submit([]));
        let refused = second.wait(submissions[4].clone());
        assert!(matches!(refused, Err(Error::Gpu { .. })), "{refused:?}");
        second.flush().unwrap();
    }
}
