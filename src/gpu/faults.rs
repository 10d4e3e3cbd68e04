//! Faults that tests inject where the device is used, at moments that a seed reproduces. Debug builds only.

#[cfg(debug_assertions)]
use std::sync::{Arc, Mutex, MutexGuard};

/// A place where the device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultSite {
    /// Memory is allocated.
    Allocate,
    /// Before commands are submitted.
    Submit,
    /// After commands were submitted: the device still runs them.
    Submitted,
    /// A submission is waited for.
    Wait,
}

/// How a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// It is lost for good.
    Lost,
    /// It has no memory for the allocation.
    OutOfMemory,
    /// It does not finish in time.
    Timeout,
    /// It refuses the command.
    Refused,
}

#[cfg(debug_assertions)]
type Injector = Option<Arc<Mutex<dyn FnMut(FaultSite) -> Option<InjectedFault> + Send>>>;

/// What a test injects into a device, and into the devices opened in its place. Empty in release builds.
#[derive(Default)]
pub(super) struct Faults {
    #[cfg(debug_assertions)]
    injector: Mutex<Injector>,
}

#[cfg(debug_assertions)]
impl Faults {
    pub(super) fn set(&self, inject: impl FnMut(FaultSite) -> Option<InjectedFault> + Send + 'static) {
        *self.injector() = Some(Arc::new(Mutex::new(inject)));
    }

    /// Loses the device after as many submissions as `PEREGRINE_LOSE_AFTER` says, if set: tests what programs do then.
    pub(super) fn set_from_env(&self) {
        let count = std::env::var("PEREGRINE_LOSE_AFTER").ok().and_then(|count| count.parse::<u64>().ok());
        let Some(mut left) = count else { return };
        self.set(move |site| {
            let lost = site == FaultSite::Submitted && left == 1;
            left = left.saturating_sub(u64::from(site == FaultSite::Submitted));
            lost.then_some(InjectedFault::Lost)
        });
    }

    fn injector(&self) -> MutexGuard<'_, Injector> {
        self.injector.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Injects what is injected into another device.
    pub(super) fn inherit(&self, other: &Faults) {
        let injector = other.injector().clone();
        *self.injector() = injector;
    }

    /// The fault that a test wants at this use of the device.
    pub(super) fn next(&self, site: FaultSite) -> Option<InjectedFault> {
        let injector = self.injector().clone()?;
        injector.lock().unwrap_or_else(|e| e.into_inner())(site)
    }
}

#[cfg(not(debug_assertions))]
impl Faults {
    #[inline(always)]
    pub(super) fn set_from_env(&self) {}

    #[inline(always)]
    pub(super) fn inherit(&self, _other: &Faults) {}

    #[inline(always)]
    pub(super) fn next(&self, _site: FaultSite) -> Option<InjectedFault> {
        None
    }
}
