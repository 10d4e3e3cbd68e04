//! `peregrine selftest`: compares the device, the kernels and a small model with what they must be, on this machine's adapters.

use super::exit::usage_error;
use super::shader_override::report_shader_override;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::gpu::{AdapterChoice, AdapterInfo, Gpu, adapters};
use peregrine::runtime::Checkpoint;
use peregrine::selftest::{self, Depth, Event, Options, Report, SCHEMA, lines};
use peregrine::{Error, kernels};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Selftest {
    /// Adapters to test: `all`, an index, or part of a name [default: the best adapter]
    #[arg(long, visible_alias = "device", value_name = "ADAPTER")]
    adapter: Option<String>,
    /// Run only groups and checks whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Test the device and the kernels that this adapter gets, one case of each kind: seconds
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Test every case of every kernel, also without subgroups and with sharded matrices, and the speed of every weight format
    #[arg(long)]
    full: bool,
    /// List the checks instead of running them
    #[arg(long)]
    list: bool,
    /// Seed of the cases' values; their limits were measured with 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON instead of text
    #[arg(long, conflicts_with_all = ["markdown", "junit"])]
    json: bool,
    /// Print a page of Markdown, for an issue, instead of text
    #[arg(long, conflicts_with = "junit")]
    markdown: bool,
    /// Print JUnit's XML, for continuous integration, instead of text
    #[arg(long)]
    junit: bool,
    /// Print what changed since this report of --json
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Leave out of JSON what tells this machine from others of its kind: date, device ids, free memory. A report never has host
    /// names, user names or paths
    #[arg(long)]
    redact: bool,
    /// Corrupt this kernel's results on the device, to check that the test fails
    #[arg(long, value_name = "KERNEL")]
    plant: Option<String>,
    /// Print a page about these reports of --json, instead of testing
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["adapter", "only", "compare", "plant", "list"])]
    summary: Vec<PathBuf>,
}

/// At least one test failed; the report has been printed.
#[derive(Debug)]
pub struct Failed;

impl std::error::Error for Failed {}
impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "the self-test failed: do not trust this adapter with this driver; try a newer driver or another adapter",
        )
    }
}

impl Selftest {
    pub fn run(self) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        if !self.summary.is_empty() {
            let reports = self.summary.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<Value>>>()?;
            write!(stdout, "{}", selftest::page(&reports))?;
            return Ok(());
        }
        let options = self.options()?;
        let older = self.compare.as_deref().map(read).transpose()?;
        let chosen = chosen(self.adapter.as_deref())?;
        if self.list {
            for (choice, _) in chosen {
                for check in selftest::list(&choice, &options)? {
                    writeln!(stdout, "{check}")?;
                }
            }
            return Ok(());
        }
        let text = !(self.json || self.markdown || self.junit);
        let mut reports = Vec::new();
        for (choice, adapter) in chosen {
            eprintln!("testing {adapter}");
            let mut progress = Progress::new(options.depth);
            let mut printed = Ok(());
            let mut see = |event: Event<'_>| {
                if let (Event::Done(group), true, true) = (&event, text, printed.is_ok()) {
                    printed = progress.around(|| write!(stdout, "{}", lines(group)).and_then(|()| stdout.flush()));
                }
                progress.see(&event);
            };
            let report = selftest::run(&choice, &adapter, &options, &Checkpoint::embedded, &mut see);
            progress.finish();
            printed?;
            report.caps.iter().for_each(report_shader_override);
            if report.groups.is_empty() {
                let (only, kernels) = (options.only.unwrap_or_default(), named(kernels()));
                return Err(usage_error(format!("no kernel, case or check matches {only:?}; kernels: {kernels}")));
            }
            match (text, self.markdown) {
                (true, _) => print_end(&mut stdout, &report)?,
                (_, true) => writeln!(stdout, "{}", report.markdown())?,
                _ => {}
            }
            reports.push(report);
        }
        let mut document = document(&reports, self.redact);
        let changes = older.map(|older| selftest::compare(&older, &document)).unwrap_or_default();
        let said = changes
            .iter()
            .map(|change| format!("{} {}", if change.worse { "worse:" } else { "changed:" }, change.said));
        if self.json {
            if self.compare.is_some() {
                document["changes"] = said.collect();
            }
            writeln!(stdout, "{document:#}")?;
        } else if self.junit {
            said.for_each(|line| eprintln!("{line}"));
            write!(stdout, "{}", selftest::junit(&reports))?;
        } else {
            for line in said {
                writeln!(stdout, "{line}")?;
            }
        }
        if reports.iter().all(Report::passed) { Ok(()) } else { Err(Failed.into()) }
    }

    fn options(&self) -> anyhow::Result<Options> {
        if let Some(kernel) = &self.plant
            && !kernels().contains(kernel.as_str())
        {
            return Err(usage_error(format!("no kernel {kernel:?}; available: {}", named(kernels()))));
        }
        let depth = match (self.quick, self.full) {
            (true, _) => Depth::Quick,
            (_, true) => Depth::Full,
            _ => Depth::Normal,
        };
        Ok(Options { depth, only: self.only.clone(), plant: self.plant.clone(), seed: self.seed })
    }
}

/// What follows the groups: what the device is, what it is usable for, and the verdict.
fn print_end(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(out)?;
    for line in report.heading() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nFalcon Mamba 7B")?;
    for line in report.usable_lines() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "\n{}", report.verdict())
}

/// The JSON document of some reports.
fn document(reports: &[Report], redact: bool) -> Value {
    let adapters: Vec<Value> = reports.iter().map(|report| report.json(redact)).collect();
    let date = (!redact).then(|| jiff::Zoned::now().date().to_string());
    json!({
        "schema": SCHEMA, "peregrine": env!("CARGO_PKG_VERSION"), "commit": env!("PEREGRINE_COMMIT"),
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "date": date, "adapters": adapters,
    })
}

/// A report of `--json`.
fn read(file: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(file).map_err(|problem| Error::Io { doing: "read", path: file.to_owned(), problem })?;
    let report: Value = serde_json::from_slice(&bytes)
        .map_err(|problem| usage_error(format!("{} is no report of --json: {problem}", file.display())))?;
    match report["schema"].as_u64() {
        Some(SCHEMA) if report["adapters"].is_array() => Ok(report),
        Some(other) => {
            let said = format!("{} is a report of schema {other}, this program reads {SCHEMA}", file.display());
            Err(usage_error(said))
        }
        None => Err(usage_error(format!("{} is no report of --json: it has no schema", file.display()))),
    }
}

/// A bar on a terminal; elsewhere one line with an estimate, if the run is long.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    told: bool,
}

/// After this time an estimate is worth something.
const ESTIMATE_AFTER: Duration = Duration::from_secs(5);

impl Progress {
    fn new(depth: Depth) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{msg} {bar:30} {pos}/{len} cases, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is valid");
            ProgressBar::new(0).with_style(style)
        });
        Progress { bar, started: Instant::now(), told: depth != Depth::Full }
    }

    fn see(&mut self, event: &Event<'_>) {
        match (event, &self.bar) {
            (Event::Begin(name, _), Some(bar)) => bar.set_message((*name).to_owned()),
            (Event::Progress(done, all), Some(bar)) => {
                bar.set_length(*all as u64);
                bar.set_position(*done as u64);
            }
            (Event::Progress(done, all), None) if !self.told && self.started.elapsed() > ESTIMATE_AFTER => {
                self.told = true;
                let seconds = self.started.elapsed().as_secs_f64() / *done as f64 * (all - done) as f64;
                eprintln!("{all} cases of kernels, three times: about {:.0} minutes", (3.0 * seconds / 60.0).ceil());
            }
            _ => {}
        }
    }

    /// Prints something that the bar would overwrite.
    fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The kernels that have cases.
fn kernels() -> BTreeSet<&'static str> {
    let all = kernels::all(&peregrine::gpu::Caps::portable());
    all.iter().flat_map(|(_, cases)| cases).map(|case| case.kernel).collect()
}

fn named(kernels: BTreeSet<&str>) -> String {
    kernels.into_iter().collect::<Vec<_>>().join(", ")
}

/// The requested adapters.
fn chosen(asked: Option<&str>) -> anyhow::Result<Vec<(AdapterChoice, AdapterInfo)>> {
    let listed: Vec<_> = adapters().into_iter().enumerate().map(|(i, info)| (AdapterChoice::Index(i), info)).collect();
    if asked == Some("all") && listed.iter().any(|(_, info)| info.unfit.is_none()) {
        return Ok(listed.into_iter().filter(|(_, info)| info.unfit.is_none()).collect());
    }
    // Opening the adapter reports a bad choice.
    let choice = asked.filter(|a| *a != "all").map_or(AdapterChoice::Best, AdapterChoice::parse);
    let info = Gpu::open(&choice)?.info().to_string();
    Ok(listed.into_iter().filter(|(_, listed)| listed.to_string() == info).take(1).collect())
}
