//! A check, its outcome, and groups of them.

use crate::kernels::case::Reached;

/// What a group is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What the driver promises.
    Device,
    /// A kernel against its twin.
    Kernel,
    /// A kernel at a real size, with its time.
    Speed,
    /// A model against the CPU reference, and against itself.
    Model,
}

impl Section {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Section::Device => "device",
            Section::Kernel => "kernel",
            Section::Speed => "speed",
            Section::Model => "model",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// The fault.
    Failed(String),
    /// The fault, which is known of this driver, and its reason.
    Known(String, &'static str),
    /// It passed, but is listed as a known failure for this reason: the list is out of date.
    PassedUnexpectedly(&'static str),
}

impl Outcome {
    /// Whether the run fails because of it.
    pub fn fails(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::PassedUnexpectedly(_))
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Passed => "pass",
            Outcome::Failed(_) => "fail",
            Outcome::Known(..) => "known",
            Outcome::PassedUnexpectedly(_) => "unexpected pass",
        }
    }

    /// What is wrong, if anything.
    pub fn fault(&self) -> Option<String> {
        match self {
            Outcome::Passed => None,
            Outcome::Failed(fault) => Some(fault.clone()),
            Outcome::Known(fault, why) => Some(format!("{fault} (known: {why})")),
            Outcome::PassedUnexpectedly(why) => {
                Some(format!("it passes, but is listed as a known failure ({why}): remove it from the list"))
            }
        }
    }
}

/// The time of a kernel, and what it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Seconds of one run.
    pub seconds: f64,
    /// Least bytes that it must move.
    pub bytes: u64,
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes per second of a copy on the same device, if measured.
    pub copy: Option<f64>,
}

impl Speed {
    /// Bytes per second.
    pub fn bandwidth(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }

    /// Its bandwidth as a share of that of a copy.
    pub fn share_of_copy(&self) -> Option<f64> {
        self.copy.map(|copy| self.bandwidth() / copy)
    }
}

/// One check: a case of a kernel, a property of the device or of the model.
#[derive(Debug, Clone)]
pub struct Check {
    /// The case's shape, or what is checked.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Errors of what passed.
    pub reached: Reached,
    /// What was found out, for checks that measure or observe.
    pub value: Option<String>,
    /// Its time, where that was measured.
    pub speed: Option<Speed>,
}

impl Check {
    pub(super) fn new(name: impl Into<String>, outcome: Outcome) -> Self {
        Check { name: name.into(), outcome, reached: Reached::default(), value: None, speed: None }
    }

    pub(super) fn found(name: impl Into<String>, value: impl ToString) -> Self {
        Check { value: Some(value.to_string()), ..Check::new(name, Outcome::Passed) }
    }
}

/// Checks that are reported together: all cases of a kernel, for example.
#[derive(Debug, Clone)]
pub struct Group {
    /// What it is about.
    pub section: Section,
    /// The kernel, or the subject.
    pub name: String,
    /// How the device was restricted, such as ", without subgroups".
    pub way: &'static str,
    /// The checks that ran.
    pub checks: Vec<Check>,
    /// Cases that were left out because the time for them was over.
    pub left_out: usize,
    /// Seconds for all.
    pub seconds: f64,
}

impl Group {
    /// The worst errors of its checks.
    pub fn reached(&self) -> Reached {
        self.checks.iter().fold(Reached::default(), |worst, check| worst.worst(check.reached))
    }

    /// Number of checks that make the run fail.
    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.outcome.fails()).count()
    }

    /// "pass", "FAIL" or "known failures".
    pub fn outcome(&self) -> &'static str {
        let known = self.checks.iter().any(|check| matches!(check.outcome, Outcome::Known(..)));
        match (self.failures() > 0, known) {
            (true, _) => "FAIL",
            (_, true) => "known failures",
            _ => "pass",
        }
    }
}
