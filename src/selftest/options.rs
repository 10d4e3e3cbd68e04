//! What to test.

use std::time::Duration;

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The device, and the kernels of the forms that this adapter gets, one case of each kind.
    Quick,
    /// All cases of those kernels, one of each kind of the others, and the model.
    Normal,
    /// Every case, also without subgroups and with shards of 2 KiB and 16 KiB; and the speed of every format.
    Full,
}

impl Depth {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Depth::Quick => "quick",
            Depth::Normal => "normal",
            Depth::Full => "full",
        }
    }

    /// Most time for the cases of kernels, on a CPU or on a GPU. What does not fit is reported as left out: compiling a kernel takes
    /// a driver from a millisecond to seconds.
    pub(super) fn time_for_kernels(self, cpu: bool) -> Option<Duration> {
        let seconds = match (self, cpu) {
            (Depth::Quick, false) => 8,
            (Depth::Quick, true) => 30,
            (Depth::Normal, false) => 45,
            (Depth::Normal, true) => 240,
            (Depth::Full, _) => return None,
        };
        Some(Duration::from_secs(seconds))
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much.
    pub depth: Depth,
    /// Runs only groups and checks whose name contains this.
    pub only: Option<String>,
    /// Corrupts the results of this kernel on the device, to show that it is noticed.
    pub plant: Option<String>,
    /// Of the cases' values. Limits were measured with 0.
    pub seed: u64,
}

impl Options {
    /// All of a depth.
    pub fn of(depth: Depth) -> Self {
        Options { depth, only: None, plant: None, seed: 0 }
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}
