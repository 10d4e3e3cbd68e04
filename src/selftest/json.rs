//! A report as JSON. It holds no host name, user name or path.

use super::check::{Check, Group};
use super::options::Depth;
use super::report::Report;
use crate::gpu::Caps;
use serde_json::{Map, Value, json};

impl Report {
    /// JSON. With `redact` also without what could tell one machine from others of its kind: device ids and free memory.
    pub fn json(&self, redact: bool) -> Value {
        let all = self.depth == Depth::Full;
        let ids = (!redact).then(|| self.adapter.ids.map(|id| format!("{id:#06x}")));
        json!({
            "adapter": self.adapter.name, "backend": self.adapter.backend, "kind": self.adapter.kind,
            "driver": self.adapter.driver, "ids": ids,
            "features": self.caps.as_ref().map(features), "limits": self.caps.as_ref().map(limits),
            "falcon_mamba_7b": self.usable.iter().map(|usable| json!({
                "weights": usable.format.name(), "bytes": usable.needs,
                "fits": if redact { None } else { usable.fits }, "kernels": self.kernels_of(usable.format.name()),
            })).collect::<Vec<_>>(),
            "depth": self.depth.name(), "seed": self.seed, "passed": self.passed(), "verdict": self.verdict(),
            "checks": self.checks(), "left_out": self.left_out(), "kernels_compiled": self.pipelines,
            "copy_bytes_per_s": self.copy_bytes_per_s, "seconds": rounded(self.seconds),
            "groups": self.groups.iter().map(|group| of_group(group, all)).collect::<Vec<_>>(),
        })
    }

    /// "pass", "fail" or "not tested": the outcome of all checks of kernels whose name names a weight format.
    pub fn kernels_of(&self, format: &str) -> &'static str {
        let is_of = |check: &&Check| check.name.split(' ').any(|word| word.trim_end_matches(',') == format);
        let mut of_format = self.groups.iter().flat_map(|group| &group.checks).filter(is_of).peekable();
        match of_format.peek() {
            None => "not tested",
            Some(_) => {
                if of_format.all(|check| check.outcome.fault().is_none()) {
                    "pass"
                } else {
                    "fail"
                }
            }
        }
    }

    /// One line for each format: what the 7B takes in it, whether that is free, and whether its kernels are right.
    pub fn usable_lines(&self) -> Vec<String> {
        self.usable
            .iter()
            .map(|usable| format!("{usable}, kernels: {}", self.kernels_of(usable.format.name())))
            .collect()
    }
}

/// What the kernels can use, by name.
pub fn features(caps: &Caps) -> Value {
    json!({
        "subgroups": caps.subgroups, "subgroup_min": caps.subgroup_min, "subgroup_max": caps.subgroup_max,
        "f16": caps.f16, "int64": caps.int64, "timestamps": caps.timestamps,
        "coop": caps.coop.map(|coop| coop.size),
    })
}

/// The limits that kernels depend on.
pub fn limits(caps: &Caps) -> Value {
    let limit =
        |limit: &crate::gpu::Limit| json!({ "what": limit.what, "needed": limit.needed, "granted": limit.granted });
    caps.limits.iter().map(limit).collect()
}

/// Three significant digits: a report is read, not computed with.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 10f64.powi(2 - value.abs().log10().floor() as i32);
    (value * digits).round() / digits
}

/// A group as JSON; with `all` each of its checks, else those that failed or found something out.
pub fn of_group(group: &Group, all: bool) -> Value {
    let reached = group.reached();
    let listed = |check: &&Check| all || check.outcome.fault().is_some() || check.value.is_some();
    json!({
        "section": group.section.name(), "name": group.name, "how": group.way.trim_start_matches(", "),
        "outcome": group.outcome(), "checks": group.checks.len(), "failures": group.failures(), "left_out": group.left_out,
        "max_abs": rounded(reached.max_abs), "max_rel": rounded(reached.max_rel), "nmse": rounded(reached.nmse),
        "share_of_limit": rounded(reached.share), "seconds": rounded(group.seconds),
        "listed": group.checks.iter().filter(listed).map(of_check).collect::<Vec<_>>(),
    })
}

fn of_check(check: &Check) -> Value {
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    add("name", check.name.clone().into());
    add("outcome", check.outcome.name().into());
    if let Some(fault) = check.outcome.fault() {
        add("fault", fault.into());
    }
    if let Some(value) = &check.value {
        add("value", value.clone().into());
    }
    if let Some(speed) = check.speed {
        add("us", rounded(speed.seconds * 1e6).into());
        add("gb_per_s", rounded(speed.bandwidth() / 1e9).into());
        add("gflop_per_s", rounded(speed.flops as f64 / speed.seconds / 1e9).into());
        add("share_of_copy", speed.share_of_copy().map(rounded).into());
    }
    if check.value.is_none() || check.speed.is_some() {
        let reached = check.reached;
        add("max_abs", rounded(reached.max_abs).into());
        add("max_rel", rounded(reached.max_rel).into());
        add("nmse", rounded(reached.nmse).into());
        add("share_of_limit", rounded(reached.share).into());
    }
    Value::Object(fields)
}
