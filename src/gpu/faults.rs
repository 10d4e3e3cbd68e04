//! Faults that tests put where the device is used: what a driver may do at any time, at times that a seed repeats. Release
//! builds have none of it.

use super::Gpu;
#[cfg(debug_assertions)]
use crate::error::Error;
use crate::error::Result;
#[cfg(debug_assertions)]
use std::sync::{Arc, Mutex, MutexGuard};

/// A place where the device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultSite {
    /// Memory is asked for.
    Allocate,
    /// Before work is handed over.
    Submit,
    /// After work was handed over: the device does it all the same.
    Submitted,
    /// Work is waited for.
    Wait,
}

/// What a device may do instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// It is lost, for good.
    Lost,
    /// It has no memory for this.
    OutOfMemory,
    /// It does not finish in time.
    Timeout,
    /// It refuses.
    Refused,
}

/// Decides about each use of a device, and of those opened in its place.
#[cfg(debug_assertions)]
pub(super) type Injector = Option<Arc<Mutex<dyn FnMut(FaultSite) -> Option<InjectedFault> + Send>>>;

#[cfg(debug_assertions)]
impl Gpu {
    /// Has every use of the device decided by `inject` from now on: a test of what happens then. Debug builds only.
    pub fn inject(&self, inject: impl FnMut(FaultSite) -> Option<InjectedFault> + Send + 'static) {
        *self.injector() = Some(Arc::new(Mutex::new(inject)));
    }

    /// Loses the device after so many submissions where `PEREGRINE_LOSE_AFTER` says so: a test of what programs do then.
    pub(super) fn inject_from_env(&self) {
        let count = std::env::var("PEREGRINE_LOSE_AFTER").ok().and_then(|count| count.parse::<u64>().ok());
        let Some(mut left) = count else { return };
        self.inject(move |site| {
            let lost = site == FaultSite::Submitted && left == 1;
            left = left.saturating_sub(u64::from(site == FaultSite::Submitted));
            lost.then_some(InjectedFault::Lost)
        });
    }

    fn injector(&self) -> MutexGuard<'_, Injector> {
        self.shared.injector.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What was injected into another device is injected here too.
    pub(super) fn inherit_faults(&self, other: &Gpu) {
        let injector = other.injector().clone();
        *self.injector() = injector;
    }

    /// The fault that a test wants here.
    pub(super) fn meet(&self, site: FaultSite) -> Result<()> {
        let Some(injector) = self.injector().clone() else { return Ok(()) };
        let fault = injector.lock().unwrap_or_else(|e| e.into_inner())(site);
        let what = "a test".to_owned();
        Err(match fault {
            None => return Ok(()),
            Some(InjectedFault::Lost) => {
                self.destroy();
                self.hear();
                Error::DeviceLost { reason: "a test took it away".to_owned() }
            }
            Some(InjectedFault::OutOfMemory) => Error::OutOfMemory { what, bytes: 0 },
            Some(InjectedFault::Timeout) => Error::Timeout { seconds: self.caps().timeout },
            Some(InjectedFault::Refused) => Error::Gpu { what, problem: "injected".to_owned() },
        })
    }
}

#[cfg(not(debug_assertions))]
impl Gpu {
    #[inline(always)]
    pub(super) fn inject_from_env(&self) {}

    #[inline(always)]
    pub(super) fn inherit_faults(&self, _other: &Gpu) {}

    #[inline(always)]
    #[expect(clippy::unnecessary_wraps, reason = "in debug builds a test decides")]
    pub(super) fn meet(&self, _site: FaultSite) -> Result<()> {
        Ok(())
    }
}

impl Gpu {
    /// Hands commands to the device.
    pub(super) fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        self.meet(FaultSite::Submit)?;
        let submission = self.shared.queue.submit(commands);
        self.meet(FaultSite::Submitted)?;
        Ok(submission)
    }
}
