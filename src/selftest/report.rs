//! The results of one adapter.

use super::check::{Check, Group, Outcome, Section};
use super::known::{KNOWN, judged};
use super::options::{Depth, Options};
use super::usable::Usable;
use super::{Event, Run};
use crate::gpu::{AdapterInfo, Caps};
use web_time::Instant;

/// Results of one adapter.
#[derive(Debug, Clone)]
pub struct Report {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// What it can do; `None` if it could not be opened.
    pub caps: Option<Caps>,
    /// What the 7B takes in each format, and whether that is free.
    pub usable: Vec<Usable>,
    /// How much was tested.
    pub depth: Depth,
    /// Of the cases' values.
    pub seed: u64,
    /// The groups, in their order.
    pub groups: Vec<Group>,
    /// Bytes per second of copies, if measured.
    pub copy_bytes_per_s: Option<f64>,
    /// Kernels compiled.
    pub pipelines: usize,
    /// Seconds for all.
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(adapter: &AdapterInfo, options: &Options) -> Self {
        Report {
            adapter: adapter.clone(),
            caps: None,
            usable: vec![],
            depth: options.depth,
            seed: options.seed,
            groups: vec![],
            copy_bytes_per_s: None,
            pipelines: 0,
            seconds: 0.0,
        }
    }

    /// Adds a group of checks that `make` runs, if it has any.
    pub(super) async fn group(
        &mut self,
        (run, section, name): (&Run<'_>, Section, &str),
        see: &mut dyn FnMut(Event<'_>),
        make: impl AsyncFnOnce(&mut Report) -> Vec<Check>,
    ) {
        see(Event::Begin(name, 0));
        let started = Instant::now();
        let checks = make(self).await;
        let seconds = started.elapsed().as_secs_f64();
        self.add(Group { section, name: name.to_owned(), way: run.way, checks, left_out: 0, seconds }, see);
    }

    /// Adds a group, if it is not empty, after a look at the known failures.
    pub(super) fn add(&mut self, mut group: Group, see: &mut dyn FnMut(Event<'_>)) {
        if group.checks.is_empty() && group.left_out == 0 {
            return;
        }
        for check in &mut group.checks {
            let name = format!("{} {}", group.name, check.name);
            check.outcome = judged(check.outcome.clone(), &self.adapter, &name, KNOWN);
        }
        see(Event::Done(&group));
        self.groups.push(group);
    }

    /// Adds a failure of a part that could not run.
    pub(super) fn fail(&mut self, what: &str, fault: &str, see: &mut dyn FnMut(Event<'_>)) {
        let checks = vec![Check::new("it runs", Outcome::Failed(fault.to_owned()))];
        let group =
            Group { section: Section::Device, name: what.to_owned(), way: "", checks, left_out: 0, seconds: 0.0 };
        self.add(group, see);
    }

    /// Whether something was run and nothing failed.
    pub fn passed(&self) -> bool {
        self.checks() > 0 && self.failures() == 0
    }

    /// Number of checks that ran.
    pub fn checks(&self) -> usize {
        self.groups.iter().map(|group| group.checks.len()).sum()
    }

    fn failures(&self) -> usize {
        self.groups.iter().map(Group::failures).sum()
    }

    /// Cases that were left out because the time for them was over.
    pub fn left_out(&self) -> usize {
        self.groups.iter().map(|group| group.left_out).sum()
    }

    /// Each failed, known or unexpectedly passed check: its full name and what is wrong.
    pub fn faults(&self) -> Vec<(String, String)> {
        let of_group = |group: &Group| -> Vec<(String, String)> {
            let fault = |check: &Check| Some((full_name(group, check), check.outcome.fault()?));
            group.checks.iter().filter_map(fault).collect()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// One line with the outcome.
    pub fn verdict(&self) -> String {
        let (checks, failures, left_out) = (self.checks(), self.failures(), self.left_out());
        let worst = self.groups.iter().map(|group| group.reached().share).fold(0.0, f64::max);
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        let mut parts = vec![
            format!("{verdict} {}/{checks}", checks - failures),
            self.adapter.name.clone(),
            self.adapter.driver.clone(),
            format!("worst {:.0} % of its limit", 100.0 * worst),
        ];
        parts.extend(self.copy_bytes_per_s.map(|bytes| format!("copy {:.1} GB/s", bytes / 1e9)));
        if left_out > 0 {
            parts.push(format!("{left_out} cases left out"));
        }
        parts.push(format!("{} in {:.0} s", self.depth.name(), self.seconds));
        parts.join(" · ")
    }
}

/// The name of a check in lists of faults.
pub(super) fn full_name(group: &Group, check: &Check) -> String {
    format!("{} {}{}", group.name, check.name, group.way)
}
