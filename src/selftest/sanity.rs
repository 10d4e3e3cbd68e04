//! The device: whether data survives, whether barriers, atomics, functions and special values are as kernels rely on, and what the
//! driver's clock, subgroups, memory and matrix units are really like.

use super::check::{Check, Outcome, Section};
use super::kernels::checked;
use super::options::Depth;
use super::report::Report;
use super::{Event, Run};
use crate::error::Result;
use crate::kernels::case::Case;
use crate::kernels::linear::{self, Math, Outcome as Tried};
use crate::kernels::probes::{copy, functions, special_values, teams};
use crate::kernels::{self, stream};
use std::collections::BTreeSet;

/// The kernels that are probes: no model uses them.
pub(super) const PROBES: [&str; 6] = ["copy", "stream", "race", "teams", "special_values", "functions"];

/// Most bytes of the largest round trip's two buffers, where free memory is not known.
const UNKNOWN_MEMORY: u64 = 512 << 20;
/// Most bytes of them at less than full depth: a test must not push others out of memory.
const MODEST: u64 = 256 << 20;

const PARTS: [&str; 7] =
    ["round trips", "promises", "functions", "special values", "subgroups", "clock and bandwidth", "matrix units"];

/// The checks of a part.
async fn checks(part: &str, run: &Run<'_>, report: &mut Report) -> Vec<Check> {
    match part {
        "round trips" => round_trips(run).await,
        "promises" => promises(run).await,
        "functions" => list(functions::measure(run.gpu).await, of_function),
        "special values" => list(special_values::observe(run.gpu).await, of_value),
        "subgroups" => list(teams::seen(run.gpu).await, of_teams),
        "clock and bandwidth" => clock_and_bandwidth(run, report).await,
        "matrix units" => matrix_units(run).await,
        other => unreachable!("{other} is no part"),
    }
}

/// The names of what [`test`] checks.
pub(super) fn names(run: &Run<'_>) -> Vec<String> {
    let parts = PARTS.iter().map(|name| format!("device: {name}"));
    let mut names: Vec<String> = parts.filter(|name| run.options.wants(name)).collect();
    names.extend(wanted_probes(run).into_iter().map(|case| format!("device: {case}")));
    names
}

pub(super) async fn test(run: &Run<'_>, report: &mut Report, see: &mut dyn FnMut(Event<'_>)) {
    for name in PARTS {
        // Probes are also asked for by their names.
        if run.options.wants(name) || name == "promises" {
            report.group((run, Section::Device, name), see, async |report| checks(name, run, report).await).await;
        }
    }
}

/// A check for each of some findings, or one for the error.
fn list<T>(found: Result<Vec<T>>, check: impl Fn(T) -> Check) -> Vec<Check> {
    match found {
        Ok(found) => found.into_iter().map(check).collect(),
        Err(error) => vec![Check::new("it runs", Outcome::Failed(error.to_string()))],
    }
}

async fn round_trips(run: &Run<'_>) -> Vec<Check> {
    let free = run.gpu.free_memory().map_or(UNKNOWN_MEMORY, |free| free.bytes() / 2);
    let most = if run.options.depth == Depth::Full { free } else { free.min(MODEST) };
    let mut checks = Vec::new();
    for bytes in copy::sizes(run.gpu.caps(), most) {
        let outcome = match copy::round_trip(run.gpu, bytes).await {
            Ok(None) => Outcome::Passed,
            Ok(Some(fault)) => Outcome::Failed(fault),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        checks.push(Check::new(format!("{bytes} bytes"), outcome));
    }
    checks
}

/// The cases of the probes that the options want.
fn wanted_probes(run: &Run<'_>) -> Vec<Case> {
    let all = kernels::all(run.gpu.caps()).into_iter().flat_map(|(_, cases)| cases);
    let probes = all.filter(|case| PROBES.contains(&case.kernel));
    probes.filter(|case| run.options.wants(&case.to_string()) || run.options.wants("promises")).collect()
}

async fn promises(run: &Run<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for case in wanted_probes(run) {
        checks.push(Check { name: case.to_string(), ..checked(run, &case).await });
    }
    checks
}

fn of_value(seen: special_values::Observation) -> Check {
    Check::found(seen.what, seen.became)
}

fn of_teams((lanes, sizes): (usize, BTreeSet<u32>)) -> Check {
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    Check::found(format!("lanes that sum together in a workgroup of {lanes}"), sizes.join(", "))
}

fn of_function(accuracy: functions::Accuracy) -> Check {
    let functions::Accuracy { function, ulps, limit, at } = accuracy;
    Check::found(function, format!("{ulps:.2} ulp at {at:e}, {limit:.1} are allowed"))
}

async fn clock_and_bandwidth(run: &Run<'_>, report: &mut Report) -> Vec<Check> {
    let failed = |name: &str, error: crate::Error| Check::new(name, Outcome::Failed(error.to_string()));
    let mut checks = Vec::new();
    checks.push(match copy::clock_step(run.gpu).await {
        Ok(Some(step)) => {
            Check::found("clock", format!("ticks of {:.2} ns, advances by {step:.0} ns", run.gpu.clock_tick()))
        }
        Ok(None) => Check::found("clock", "none"),
        Err(error) => failed("clock", error),
    });
    let gigabytes = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    checks.push(match copy::measure(run.gpu).await {
        Ok(bytes) => {
            report.copy_bytes_per_s = Some(bytes);
            Check::found("copy, read and written", gigabytes(bytes))
        }
        Err(error) => failed("copy", error),
    });
    checks.push(match stream::measure(run.gpu).await {
        Ok(bytes) => Check::found("read", gigabytes(bytes)),
        Err(error) => failed("read", error),
    });
    checks
}

/// The trials of cooperative matrices. One that they lose is no fault: other forms are used.
async fn matrix_units(run: &Run<'_>) -> Vec<Check> {
    let trial = async |math: Math| match linear::trial(run.gpu, math).await {
        Ok(None) => Check::found(math.to_string(), "none"),
        Ok(Some(trial)) => {
            let wrong = matches!(trial.outcome, Tried::Wrong(_) | Tried::Refused(_) | Tried::Crashed(_));
            let said = if wrong { "unusable, and not used" } else { "right" };
            Check::found(math.to_string(), format!("{said}: {trial}"))
        }
        Err(error) => Check::new(math.to_string(), Outcome::Failed(error.to_string())),
    };
    vec![trial(Math::Exact).await, trial(Math::Fast).await]
}
