//! A report as lines for a terminal: one for each group as it ends, with what it found below it.

use super::check::{Check, Group, Outcome, Section};
use super::report::{Report, full_name};

/// The lines of a group.
pub fn lines(group: &Group) -> String {
    let Group { section, name, way, checks, left_out, seconds, .. } = group;
    let subject = format!("{name}{way}");
    let worst = match group.reached().share {
        share if share > 0.0 => format!("worst {:.0} % of its limit", 100.0 * share),
        _ => String::new(),
    };
    let left_out = if *left_out == 0 { String::new() } else { format!(", {left_out} left out") };
    let count = format!("{} check{}{left_out}", checks.len(), if checks.len() == 1 { "" } else { "s" });
    let outcome = group.outcome();
    let mut text = format!("{:<7} {subject:<44} {count:<24} {worst:<24} {seconds:>7.2} s  {outcome}\n", section.name());
    for check in checks {
        if let Some(fault) = check.outcome.fault() {
            let label = if matches!(check.outcome, Outcome::Known(..)) { "known" } else { "FAIL" };
            text += &format!("{label} {}: {fault}\n", full_name(group, check));
        } else if matches!(section, Section::Device | Section::Speed) {
            text += &found(check).map_or_else(String::new, |found| format!("        {found}\n"));
        }
    }
    text
}

/// What a check found out.
pub(super) fn found(check: &Check) -> Option<String> {
    let (name, value) = (&check.name, check.value.as_ref()?);
    let Some(speed) = check.speed else { return Some(format!("{name}: {value}")) };
    let share = speed.share_of_copy().map(|share| format!(" ({:.0} % of a copy's)", 100.0 * share));
    let (gigabytes, gigaflops) = (speed.bandwidth() / 1e9, speed.flops as f64 / speed.seconds / 1e9);
    let microseconds = speed.seconds * 1e6;
    let share = share.unwrap_or_default();
    Some(format!("{name}: {microseconds:.1} us, {gigabytes:.2} GB/s{share}, {gigaflops:.1} GFLOP/s, {value}"))
}

impl Report {
    /// The lines about the device, before those of the groups.
    pub fn heading(&self) -> Vec<String> {
        let Some(caps) = &self.caps else { return vec![] };
        caps.described()
    }
}
