//! A report as Markdown, for an issue.

use super::check::{Group, Section};
use super::report::Report;
use super::text::found;

impl Report {
    /// A page: the device, a table of the groups, what was found out, faults and the verdict.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.adapter);
        for line in self.heading() {
            text += &format!("- {line}\n");
        }
        text += "\n| what | how | checks | worst error | relative | of its limit | nmse | s | |\n";
        text += "|---|---|---:|---:|---:|---:|---:|---:|---|\n";
        for group in &self.groups {
            text += &row(group);
        }
        let measured = |group: &&Group| matches!(group.section, Section::Device | Section::Speed);
        let checks = self.groups.iter().filter(measured).flat_map(|group| &group.checks);
        let found: Vec<String> = checks.filter_map(found).collect();
        if !found.is_empty() {
            text += "\n";
            found.iter().for_each(|line| text += &format!("- {line}\n"));
        }
        if !self.usable.is_empty() {
            text += "\nFalcon Mamba 7B:\n\n";
            self.usable_lines().iter().for_each(|line| text += &format!("- {line}\n"));
        }
        for (name, fault) in self.faults() {
            text += &format!("\nFAIL {name}: {fault}\n");
        }
        text + "\n" + &self.verdict() + "\n"
    }
}

fn row(group: &Group) -> String {
    let reached = group.reached();
    let left_out = if group.left_out == 0 { String::new() } else { format!(", {} left out", group.left_out) };
    format!(
        "| {} | {}{} | {}{left_out} | {:.1e} | {:.1e} | {:.0} % | {:.1e} | {:.2} | {} |\n",
        group.name,
        group.section.name(),
        group.way,
        group.checks.len(),
        reached.max_abs,
        reached.max_rel,
        100.0 * reached.share,
        reached.nmse,
        group.seconds,
        group.outcome()
    )
}
