//! Verifies an adapter: what its driver promises, every kernel against its twin, speed at real sizes, and a model against the CPU
//! reference.
//!
//! [`run`] tests one adapter and returns a [`Report`], which is printed as text, Markdown, JSON or JUnit's XML. [`compare`] finds what
//! changed since an older report, and [`table`] and [`page`] show many.

mod check;
mod compare;
mod json;
mod junit;
mod kernels;
mod known;
mod markdown;
mod model;
mod options;
mod report;
mod sanity;
mod speed;
mod summary;
mod text;
mod usable;

pub use check::{Check, Group, Outcome, Section, Speed};
pub use compare::{Change, compare};
pub use json::{features, limits, of_group};
pub use junit::junit;
pub use known::{KNOWN, KnownFailure};
pub use options::{Depth, Options};
pub use report::Report;
pub use summary::{page, table};
pub use text::lines;
pub use usable::{Usable, usable};

use crate::error::{Error, Result};
use crate::gpu::{AdapterChoice, AdapterInfo, Gpu, Switches};
use crate::runtime::Checkpoint;
use web_time::Instant;

/// The format of a report's JSON.
pub const SCHEMA: u64 = 1;

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A group begins: its name, and its number of checks.
    Begin(&'a str, usize),
    /// Checks of the kernels that are done, and all of them, at this depth.
    Progress(usize, usize),
    /// A group has ended.
    Done(&'a Group),
}

/// Blocking [`run_async`].
#[cfg(feature = "blocking")]
pub fn run(
    choice: &AdapterChoice,
    adapter: &AdapterInfo,
    options: &Options,
    model: &dyn Fn() -> Result<Checkpoint>,
    see: &mut dyn FnMut(Event<'_>),
) -> Report {
    pollster::block_on(run_async(choice, adapter, options, model, see))
}

/// Blocking [`list_async`].
#[cfg(feature = "blocking")]
pub fn list(choice: &AdapterChoice, options: &Options) -> Result<Vec<String>> {
    pollster::block_on(list_async(choice, options))
}

/// Tests one adapter, with `model` if the depth includes it. `see` hears of each group before and after it.
pub async fn run_async(
    choice: &AdapterChoice,
    adapter: &AdapterInfo,
    options: &Options,
    model: &dyn Fn() -> Result<Checkpoint>,
    see: &mut dyn FnMut(Event<'_>),
) -> Report {
    let started = Instant::now();
    let mut report = Report::new(adapter, options);
    if let Err((what, error)) = run_ways(choice, options, model, &mut report, see).await {
        report.fail(what, &error, see);
    }
    report.seconds = started.elapsed().as_secs_f64();
    report
}

/// The names of the checks that a run with these options would make; of the kernels without their limit of time.
pub async fn list_async(choice: &AdapterChoice, options: &Options) -> Result<Vec<String>> {
    let gpu = Gpu::open_with_async(choice, Switches { adapter: None, ..Switches::from_env()? }).await?;
    let run = Run { gpu: &gpu, way: "", options };
    let mut names = sanity::names(&run);
    names.extend(kernels::names(&run));
    names.extend(speed::names(&run));
    if options.depth > Depth::Quick {
        names.extend(model::names(&run));
    }
    Ok(names)
}

/// A part of the run, and why it could not go on.
type Stopped = (&'static str, String);

fn stopped(what: &'static str) -> impl Fn(Error) -> Stopped {
    move |error| (what, error.to_string())
}

async fn run_ways(
    choice: &AdapterChoice,
    options: &Options,
    model: &dyn Fn() -> Result<Checkpoint>,
    report: &mut Report,
    see: &mut dyn FnMut(Event<'_>),
) -> Result<(), Stopped> {
    let plain = Switches::from_env().map_err(stopped("the environment's switches"))?;
    let plain = Switches { adapter: None, ..plain };
    // Each restriction with its switches for the kernels and for the model.
    let mut ways = vec![("", plain.clone(), plain.clone())];
    if options.depth == Depth::Full {
        let without = Switches { without_subgroups: true, ..plain.clone() };
        ways.push((", without subgroups", without.clone(), without));
        // 2 KiB shards every case's matrix; 16 KiB shards most of the model's, and an activation still fits.
        let shards = |limit| Switches { binding_limit: Some(limit), ..plain.clone() };
        ways.push((", in shards", shards(2048), shards(16384)));
    }
    for (way, of_kernels, of_model) in ways {
        let opened =
            async |switches| Gpu::open_with_async(choice, switches).await.map_err(stopped("opening the adapter"));
        let gpu = opened(of_kernels).await?;
        let run = Run { gpu: &gpu, way, options };
        if way.is_empty() {
            report.caps = Some(gpu.caps().clone());
            report.usable = usable(&gpu);
            sanity::test(&run, report, see).await;
        }
        kernels::test(&run, report, see).await;
        if way.is_empty() {
            speed::test(&run, report, see).await;
        }
        report.pipelines += gpu.kernels_compiled();
        if options.depth > Depth::Quick {
            let gpu = opened(of_model).await?;
            let run = Run { gpu: &gpu, way, options };
            model::test(&run, model, report, see).await.map_err(stopped("the model"))?;
        }
    }
    Ok(())
}

/// A device, how it is restricted, and what is asked.
struct Run<'a> {
    gpu: &'a Gpu,
    way: &'static str,
    options: &'a Options,
}
