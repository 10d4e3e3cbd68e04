//! `peregrine selftest`: compares the kernels and a small model with CPU references on this machine's adapters.

use super::exit::usage_error;
use super::shader_override::report_shader_override;
use clap::Args;
use peregrine::gpu::{AdapterChoice, AdapterInfo, adapters};
use peregrine::kernels;
use peregrine::runtime::Checkpoint;
use peregrine::selftest::{Depth, Options, run};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

#[derive(Args)]
pub struct Selftest {
    /// Adapters to test: `all`, an index, or part of a name [default: the best adapter]
    #[arg(long, visible_alias = "device", value_name = "ADAPTER")]
    adapter: Option<String>,
    /// Run only kernels, cases and checks whose name contains NAME
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Test the kernels only, not the model
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Repeat all tests without subgroups and with sharded matrices
    #[arg(long)]
    full: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Corrupt this kernel's results on the device, to check that the test fails
    #[arg(long, value_name = "KERNEL")]
    plant: Option<String>,
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
        let options = Options {
            depth: match (self.quick, self.full) {
                (true, _) => Depth::Quick,
                (_, true) => Depth::Full,
                _ => Depth::Normal,
            },
            only: self.only,
            plant: self.plant,
        };
        if let Some(kernel) = &options.plant
            && !kernels().contains(kernel.as_str())
        {
            return Err(usage_error(format!("no kernel {kernel:?}; available: {}", named(kernels()))));
        }
        let model = Checkpoint::embedded()?;
        let terminal = std::io::stderr().is_terminal();
        let mut reports = Vec::new();
        let mut stdout = std::io::stdout().lock();
        for (choice, adapter) in chosen(self.adapter.as_deref())? {
            eprintln!("testing {adapter}");
            let mut begin = |name: &str| {
                if terminal {
                    eprint!("\r\x1b[K{name}");
                }
            };
            let report = run(&choice, &adapter, &options, &model, &mut begin);
            if terminal {
                eprint!("\r\x1b[K");
            }
            report.caps.iter().for_each(report_shader_override);
            if report.rows.is_empty() {
                let (only, kernels) = (options.only.unwrap_or_default(), named(kernels()));
                return Err(usage_error(format!("no kernel, case or check matches {only:?}; kernels: {kernels}")));
            }
            if !self.json {
                writeln!(stdout, "{}", report.markdown())?;
            }
            reports.push(report);
        }
        if self.json {
            let all: Vec<_> = reports.iter().map(|report| report.json()).collect();
            let version = env!("CARGO_PKG_VERSION");
            writeln!(stdout, "{:#}", json!({ "schema": 1, "peregrine": version, "adapters": all }))?;
        }
        if reports.iter().all(|report| report.passed()) { Ok(()) } else { Err(Failed.into()) }
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
    let info = peregrine::gpu::Gpu::open(&choice)?.info().to_string();
    Ok(listed.into_iter().filter(|(_, listed)| listed.to_string() == info).take(1).collect())
}
