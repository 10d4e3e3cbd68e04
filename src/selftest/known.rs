//! Failures that are known of a driver. A listed failure does not fail a run, and one that no longer happens does.

use super::check::Outcome;
use crate::gpu::AdapterInfo;

/// A failure that is known.
#[derive(Debug, Clone, Copy)]
pub struct KnownFailure {
    /// The backend: "Vulkan", "Metal", "Dx12" or "Gl".
    pub backend: &'static str,
    /// The vendor's PCI id; `None`: any.
    pub vendor: Option<u32>,
    /// A part of the adapter's name; empty: any.
    pub adapter: &'static str,
    /// A part of the driver's name and version; empty: any.
    pub driver: &'static str,
    /// What the check's full name begins with: "matvec 64 lanes", for example.
    pub check: &'static str,
    /// The reason, and where it is reported.
    pub why: &'static str,
}

/// The known failures. None so far: the drivers that have run all checks pass them.
pub const KNOWN: &[KnownFailure] = &[];

impl KnownFailure {
    fn is_of(&self, adapter: &AdapterInfo, check: &str) -> bool {
        self.backend == adapter.backend
            && self.vendor.is_none_or(|vendor| vendor == adapter.ids[0])
            && adapter.name.contains(self.adapter)
            && adapter.driver.contains(self.driver)
            && check.starts_with(self.check)
    }
}

/// The outcome of a check, given the failures that are known.
pub(super) fn judged(outcome: Outcome, adapter: &AdapterInfo, check: &str, known: &[KnownFailure]) -> Outcome {
    let listed = known.iter().find(|known| known.is_of(adapter, check));
    match (outcome, listed) {
        (Outcome::Failed(fault), Some(known)) => Outcome::Known(fault, known.why),
        (Outcome::Passed, Some(known)) => Outcome::PassedUnexpectedly(known.why),
        (outcome, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE_UP: KnownFailure = KnownFailure {
        backend: "Vulkan",
        vendor: Some(0x1234),
        adapter: "Voodoo",
        driver: "1.2",
        check: "race ",
        why: "barriers are weak",
    };

    fn adapter() -> AdapterInfo {
        AdapterInfo {
            name: "Voodoo 3".to_owned(),
            backend: "Vulkan".to_owned(),
            kind: "discrete GPU",
            driver: "voodoodrv 1.2.3".to_owned(),
            ids: [0x1234, 1],
            cpu: false,
            unfit: None,
        }
    }

    fn of(outcome: Outcome, adapter: &AdapterInfo, check: &str) -> Outcome {
        judged(outcome, adapter, check, &[MADE_UP])
    }

    #[test]
    fn a_listed_failure_is_known_and_one_that_passes_is_noticed() {
        let failed = Outcome::Failed("word 3".to_owned());
        let known = of(failed.clone(), &adapter(), "race of 64 lanes");
        assert_eq!(known, Outcome::Known("word 3".to_owned(), "barriers are weak"));
        assert!(!known.fails() && known.fault().is_some_and(|said| said.contains("barriers are weak")));
        let passed = of(Outcome::Passed, &adapter(), "race of 64 lanes");
        assert!(passed.fails() && passed.fault().is_some_and(|said| said.contains("remove it")), "{passed:?}");
        assert_eq!(of(failed.clone(), &adapter(), "copy"), failed);
        assert_eq!(of(Outcome::Passed, &adapter(), "copy"), Outcome::Passed);
    }

    #[test]
    fn an_entry_is_of_one_driver() {
        let failed = || Outcome::Failed("x".to_owned());
        for other in [
            AdapterInfo { backend: "Gl".to_owned(), ..adapter() },
            AdapterInfo { ids: [0x1235, 1], ..adapter() },
            AdapterInfo { name: "Rage".to_owned(), ..adapter() },
            AdapterInfo { driver: "voodoodrv 1.3".to_owned(), ..adapter() },
        ] {
            assert_eq!(of(failed(), &other, "race of 64 lanes"), failed(), "{other}");
        }
    }
}
