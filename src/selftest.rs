//! Verifies an adapter: every kernel against its twin, then a model against the CPU reference.

use crate::Result;
use crate::gpu::{AdapterChoice, AdapterInfo, Caps, Gpu, Switches};
use crate::kernels::case::{Case, Plant, Reached};
use crate::kernels::{self, case};
use crate::model::reference::Reference;
use crate::model::{Forward, ForwardOptions, Logits, WeightOptions, Weights};
use crate::runtime::Checkpoint;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The kernels.
    Quick,
    /// The kernels and the model.
    Normal,
    /// Both, also without subgroups and with shards of 2 KiB and 16 KiB.
    Full,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much.
    pub depth: Depth,
    /// Runs only kernels, cases and checks whose name contains this.
    pub only: Option<String>,
    /// Corrupts the results of this kernel on the device, to show that it is noticed.
    pub plant: Option<String>,
}

/// Result of one kernel or one check of the model.
#[derive(Debug, Clone)]
pub struct CheckResult {
    /// The kernel or the check.
    pub name: String,
    /// "kernel" or "model", and the restrictions on the adapter.
    pub kind: String,
    /// Number of cases.
    pub cases: usize,
    /// Largest errors of the cases that passed.
    pub reached: Reached,
    /// Failures, with their cases.
    pub faults: Vec<String>,
    /// Seconds for all cases.
    pub seconds: f64,
}

/// Results of one adapter.
#[derive(Debug, Clone)]
pub struct Report {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// What it can do; `None` if it could not be opened.
    pub caps: Option<Caps>,
    /// Kernels and checks.
    pub rows: Vec<CheckResult>,
}

impl Report {
    /// Whether something was run and nothing failed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.faults.is_empty())
    }

    /// One line with the outcome.
    pub fn verdict(&self) -> String {
        let cases: usize = self.rows.iter().map(|row| row.cases).sum();
        let faults: usize = self.rows.iter().map(|row| row.faults.len()).sum();
        let worst = self.rows.iter().map(|row| row.reached.share).fold(0.0, f64::max);
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        let name = &self.adapter.name;
        format!(
            "{verdict} {}/{cases} · {name} · {} · worst {:.0} % of its limit",
            cases - faults.min(cases),
            self.adapter.driver,
            100.0 * worst
        )
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.adapter);
        if let Some(caps) = &self.caps {
            let subgroups = match caps.subgroups {
                true => format!("{} to {} lanes", caps.subgroup_min, caps.subgroup_max),
                false => "none".to_owned(),
            };
            text += &format!("subgroups {subgroups} · binding limit {} MiB\n\n", caps.binding_limit >> 20);
        }
        text += "| what | how | cases | worst error | of its limit | nmse | s | |\n|---|---|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let (reached, outcome) = (row.reached, if row.faults.is_empty() { "pass" } else { "FAIL" });
            text += &format!(
                "| {} | {} | {} | {:.1e} | {:.0} % | {:.1e} | {:.2} | {outcome} |\n",
                row.name,
                row.kind,
                row.cases,
                reached.max_abs,
                100.0 * reached.share,
                reached.nmse,
                row.seconds
            );
        }
        for fault in self.rows.iter().flat_map(|row| &row.faults) {
            text += &format!("\nFAIL {fault}");
        }
        text + "\n" + &self.verdict() + "\n"
    }

    /// JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "kind": row.kind, "cases": row.cases, "max_abs": row.reached.max_abs,
                    "share_of_limit": row.reached.share, "nmse": row.reached.nmse, "seconds": row.seconds,
                    "faults": row.faults,
                })
            })
            .collect();
        json!({
            "adapter": self.adapter.name, "backend": self.adapter.backend, "kind": self.adapter.kind,
            "driver": self.adapter.driver, "passed": self.passed(), "verdict": self.verdict(), "rows": rows,
            "subgroups": self.caps.as_ref().map(|c| c.subgroups),
            "subgroup_min": self.caps.as_ref().map(|c| c.subgroup_min),
            "subgroup_max": self.caps.as_ref().map(|c| c.subgroup_max),
            "binding_limit": self.caps.as_ref().map(|c| c.binding_limit),
        })
    }
}

/// Tests one adapter, with `model` if the depth includes it. `begin` is called with the name of each part before it starts.
pub fn run(
    choice: &AdapterChoice,
    adapter: &AdapterInfo,
    options: &Options,
    model: &Checkpoint,
    begin: &mut dyn FnMut(&str),
) -> Report {
    let mut report = Report { adapter: adapter.clone(), caps: None, rows: vec![] };
    let plain = match Switches::from_env() {
        Ok(switches) => Switches { adapter: None, ..switches },
        Err(error) => return failed(report, "the environment's switches", &error),
    };
    // Each restriction with its switches for the kernels and for the model.
    let mut ways = vec![("", plain.clone(), plain.clone())];
    if options.depth == Depth::Full {
        let without = Switches { without_subgroups: true, ..plain.clone() };
        ways.push((", without subgroups", without.clone(), without));
        // 2 KiB shards every case's matrix; 16 KiB shards most of the model's, and an activation still fits.
        let shards = |limit| Switches { binding_limit: Some(limit), ..plain.clone() };
        ways.push((", in shards", shards(2048), shards(16384)));
    }
    for (way, switches, of_model) in ways {
        let gpu = match Gpu::open_with(choice, switches) {
            Ok(gpu) => gpu,
            Err(error) => return failed(report, "opening the adapter", &error),
        };
        report.caps.get_or_insert_with(|| gpu.caps().clone());
        report.rows.extend(test_kernels(&gpu, way, options, begin));
        if options.depth > Depth::Quick {
            let rows = Gpu::open_with(choice, of_model).and_then(|gpu| test_model(&gpu, way, options, model, begin));
            match rows {
                Ok(rows) => report.rows.extend(rows),
                Err(error) => report = failed(report, &format!("model{way}"), &error),
            }
        }
    }
    report
}

fn failed(mut report: Report, name: &str, error: &crate::Error) -> Report {
    let (name, faults) = (name.to_owned(), vec![format!("{name}: {error}")]);
    report.rows.push(CheckResult {
        name,
        kind: String::new(),
        cases: 1,
        reached: Reached::default(),
        faults,
        seconds: 0.0,
    });
    report
}

fn wanted(options: &Options, name: &str) -> bool {
    options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}

fn test_kernels(gpu: &Gpu, way: &str, options: &Options, begin: &mut dyn FnMut(&str)) -> Vec<CheckResult> {
    let mut by_kernel: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for case in kernels::all(gpu.caps()).into_iter().flat_map(|(_, cases)| cases) {
        by_kernel.entry(case.kernel).or_default().push(case);
    }
    by_kernel.iter_mut().for_each(|(_, cases)| cases.retain(|case| wanted(options, &case.to_string())));
    by_kernel.retain(|_, cases| !cases.is_empty());
    let test = |(kernel, cases): (&str, Vec<Case>)| {
        begin(kernel);
        let plant = if options.plant.as_deref() == Some(kernel) { Plant::WrongValue } else { Plant::Nothing };
        let started = Instant::now();
        let mut row = CheckResult {
            name: kernel.to_owned(),
            kind: format!("kernel{way}"),
            cases: cases.len(),
            reached: Reached::default(),
            faults: vec![],
            seconds: 0.0,
        };
        for case in &cases {
            match pollster::block_on(case.run(gpu, plant)) {
                Ok(Ok(reached)) => row.reached = row.reached.worst(reached),
                Ok(Err(fault)) => row.faults.push(format!("{case}: {fault}")),
                Err(error) => row.faults.push(format!("{case}: {error}")),
            }
        }
        row.seconds = started.elapsed().as_secs_f64();
        row
    };
    by_kernel.into_iter().map(test).collect()
}

/// Logits of f32 arithmetic over a few layers. The worst measured for tiny-chat is in `reports/`.
const LOGITS: case::Tolerance = case::Tolerance { nmse: 1e-9, abs: 3e-4, rel: 0.0 };
/// Tokens of the prompt, whose ids any model has.
const PROMPT: usize = 24;

fn test_model(
    gpu: &Gpu,
    way: &str,
    options: &Options,
    checkpoint: &Checkpoint,
    begin: &mut dyn FnMut(&str),
) -> Result<Vec<CheckResult>> {
    let checks: [(&str, Check); 4] = [
        ("prefill equals the reference", |m| m.against_reference(1, PROMPT)),
        ("four segments equal the reference", |m| m.against_reference(4, PROMPT)),
        ("decoding equals the reference", |m| m.decoding()),
        ("chunks of 1, 3 and 24 give the same bits", |m| m.chunks()),
    ];
    if !checks.iter().any(|(name, _)| wanted(options, name)) {
        return Ok(vec![]);
    }
    let tensors = checkpoint.tensors()?;
    let ids: Vec<u32> = (0..PROMPT).map(|i| ((i * 37 + 5) % checkpoint.config().vocab) as u32).collect();
    let reference = Reference::new(checkpoint.config(), &tensors);
    let expected = reference.forward(&ids, &mut reference.start(), |_, _| {})?;
    let model = Model {
        gpu,
        checkpoint,
        weights: Arc::new(Weights::load(gpu, &tensors, WeightOptions::default(), &mut |_| {})?),
        ids,
        expected: expected.into_iter().map(Some).collect(),
    };
    let mut rows = Vec::new();
    for (name, check) in checks.into_iter().filter(|(name, _)| wanted(options, name)) {
        begin(name);
        let started = Instant::now();
        let (reached, fault) = match check(&model) {
            Ok(Ok(reached)) => (reached, None),
            Ok(Err(fault)) => (Reached::default(), Some(fault.to_string())),
            Err(error) => (Reached::default(), Some(error.to_string())),
        };
        rows.push(CheckResult {
            name: name.to_owned(),
            kind: format!("model{way}"),
            cases: 1,
            reached,
            faults: fault.into_iter().map(|fault| format!("{name}: {fault}")).collect(),
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(rows)
}

type Check = fn(&Model<'_>) -> Result<Result<Reached, case::Mismatch>>;

/// A model, and the expected logits of its prompt.
struct Model<'a> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    weights: Arc<Weights>,
    ids: Vec<u32>,
    expected: Vec<Option<f64>>,
}

impl Model<'_> {
    fn forward(&self, chunk: usize, segments: usize) -> Result<Forward> {
        let options = ForwardOptions { chunk, segments, ..Default::default() };
        Forward::new(self.gpu, self.checkpoint.config(), self.weights.clone(), options)
    }

    fn prefilled(&self, chunk: usize, segments: usize) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        let see = |rows: &[f32]| {
            logits.extend_from_slice(rows);
            Ok(())
        };
        pollster::block_on(self.forward(chunk, segments)?.prefill_logits(0, &self.ids, Logits::All, see))?;
        Ok(logits)
    }

    fn against_reference(&self, segments: usize, chunk: usize) -> Result<Result<Reached, case::Mismatch>> {
        Ok(case::compare("logits", &self.prefilled(chunk, segments)?, &self.expected, LOGITS))
    }

    fn decoding(&self) -> Result<Result<Reached, case::Mismatch>> {
        let mut forward = self.forward(1, 1)?;
        let mut logits = Vec::new();
        for id in &self.ids {
            forward.set_next(0, *id)?;
            forward.set_decoding(&[0])?;
            let step = forward.step()?;
            pollster::block_on(forward.chosen(step))?;
            logits.extend(pollster::block_on(forward.logits(0, 0))?);
        }
        Ok(case::compare("logits", &logits, &self.expected, LOGITS))
    }

    fn chunks(&self) -> Result<Result<Reached, case::Mismatch>> {
        let whole: Vec<_> = self.prefilled(PROMPT, 1)?.into_iter().map(|v| Some(f64::from(v))).collect();
        let mut worst = Reached::default();
        for chunk in [1, 3] {
            match case::compare("logits", &self.prefilled(chunk, 1)?, &whole, case::Tolerance::EXACT) {
                Ok(reached) => worst = worst.worst(reached),
                fault => return Ok(fault),
            }
        }
        Ok(Ok(worst))
    }
}
