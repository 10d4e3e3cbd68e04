//! Every kernel against its twin: which cases at which depth, several at a time.

use super::check::{Check, Group, Outcome, Section};
use super::options::{Depth, Options};
use super::report::Report;
use super::sanity::PROBES;
use super::{Event, Run};
use crate::format::WeightFormat;
use crate::gpu::{Caps, at_once};
use crate::kernels;
use crate::kernels::case::{Case, Plant};
use crate::kernels::linear::{MatmulVariant, MatvecVariant, matvec_cases_of};
use crate::kernels::scan::ScanVariant;
use crate::kernels::ssm_step::StepVariant;
use crate::kernels::variants::falcon_mamba_7b;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use web_time::Instant;

/// Cases at a time: drivers compile on the thread that asks, and most of the time is spent there.
const MOST_THREADS: usize = 8;

/// The forms that an adapter gets, as far as its cases name them.
struct Chosen {
    scan: &'static str,
    step: String,
    matmul: String,
}

impl Chosen {
    fn of(caps: &Caps) -> Self {
        let sizes = falcon_mamba_7b(WeightFormat::Bf16);
        Chosen {
            scan: ScanVariant::of(caps, sizes.channels, sizes.states).name(),
            step: StepVariant::of(caps).to_string(),
            matmul: MatmulVariant::of(caps).to_string(),
        }
    }

    /// Whether a model on this adapter uses the form of this case; cases of other kernels have one form.
    fn has(&self, case: &Case) -> bool {
        match case.kernel {
            "matvec" => false, // their own cases: `of_products`
            "matmul_coop" | "matmul_coop_fast" => true,
            kernel if kernel.starts_with("matmul") => case.shape.starts_with(&self.matmul),
            kernel if kernel.starts_with("scan") => kernel == self.scan,
            "ssm_step" => case.shape.starts_with(&self.step),
            _ => true,
        }
    }
}

/// Cases of the products of a decode step of the 7B in the forms that the adapter gets for each format.
fn of_products(caps: &Caps) -> Vec<Case> {
    let mut forms: Vec<(MatvecVariant, WeightFormat)> = Vec::new();
    for format in WeightFormat::ALL {
        let matrices = falcon_mamba_7b(format).matrices;
        forms.extend(matrices.iter().map(|(_, matrix)| (MatvecVariant::of(caps, matrix), format)));
    }
    let mut seen = HashSet::new();
    forms.retain(|(form, format)| seen.insert(format!("{form} {format}")));
    forms.into_iter().flat_map(|(form, format)| matvec_cases_of(form, format)).collect()
}

/// What cases of the same compiled kernel have in common: the shape without its sizes.
fn kind(kernel: &str, shape: &str) -> String {
    let is_size = |word: &str| word.split('x').count() > 1 && word.split('x').all(|n| n.parse::<usize>().is_ok());
    let words: Vec<&str> = shape.split(' ').filter(|word| !is_size(word)).collect();
    format!("{kernel} {}", words.join(" "))
}

/// A kernel's cases for a depth, the most important first.
struct Selected {
    kernel: &'static str,
    cases: Vec<Case>,
}

/// The cases of a depth: those of the forms that the adapter gets, then one of each other kind, then all others. Kernels with few
/// cases come first, products last.
fn selected(caps: &Caps, options: &Options) -> Vec<Selected> {
    let chosen = Chosen::of(caps);
    let all = kernels::all(caps).into_iter().flat_map(|(_, cases)| cases).map(|case| (chosen.has(&case), case));
    let products = of_products(caps).into_iter().map(|case| (true, case));
    let mut kinds = HashSet::new();
    let mut ranked: Vec<(u32, Case)> = Vec::new();
    for (used, case) in products.chain(all) {
        if PROBES.contains(&case.kernel) || !options.wants(&case.to_string()) {
            continue;
        }
        let rank = match (used, kinds.insert(kind(case.kernel, &case.shape))) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        ranked.push((rank, case));
    }
    let most = match options.depth {
        // Asked for by name, even of a form that this adapter does not get.
        _ if options.only.is_some() => 3,
        Depth::Quick => 0,
        Depth::Normal => 2,
        Depth::Full => 3,
    };
    ranked.retain(|(rank, _)| *rank <= most);
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut kernels: Vec<Selected> = Vec::new();
    for (_, case) in ranked {
        match kernels.iter_mut().find(|kernel| kernel.kernel == case.kernel) {
            Some(kernel) => kernel.cases.push(case),
            None => kernels.push(Selected { kernel: case.kernel, cases: vec![case] }),
        }
    }
    // Products last: they have most kernels to compile, and get the time that others leave.
    kernels.sort_by_key(|kernel| (kernel.kernel.starts_with("mat"), kernel.cases.len()));
    kernels
}

/// The names of the cases that the options want.
pub(super) fn names(run: &Run<'_>) -> Vec<String> {
    let cases = selected(run.gpu.caps(), run.options).into_iter().flat_map(|kernel| kernel.cases);
    cases.map(|case| format!("kernel: {case}")).collect()
}

pub(super) async fn test(run: &Run<'_>, report: &mut Report, see: &mut dyn FnMut(Event<'_>)) {
    let kernels = selected(run.gpu.caps(), run.options);
    let all: usize = kernels.iter().map(|kernel| kernel.cases.len()).sum();
    let end = run.options.depth.time_for_kernels(run.gpu.caps().cpu).map(|time| Instant::now() + time);
    let mut done = 0;
    for Selected { kernel, cases } in kernels {
        see(Event::Begin(kernel, cases.len()));
        // Each kernel has a share of the time that is left; what it does not need goes to the next.
        let share = end.map(|end| {
            let left = end.saturating_duration_since(Instant::now());
            Instant::now() + left.mul_f64(cases.len() as f64 / (all - done) as f64).max(Duration::from_millis(200))
        });
        let started = Instant::now();
        let mut progress = |own| see(Event::Progress(done + own, all));
        let checks = match cfg!(target_arch = "wasm32") {
            true => one_by_one(run, &cases, share, &mut progress).await,
            false => side_by_side(run, &cases, share, &mut progress),
        };
        done += cases.len();
        let seconds = started.elapsed().as_secs_f64();
        let left_out = cases.len() - checks.len();
        report.add(
            Group { section: Section::Kernel, name: kernel.to_owned(), way: run.way, checks, left_out, seconds },
            see,
        );
    }
}

/// Runs cases on several threads until `end`, the first ones first. `progress` hears how many are done.
fn side_by_side(run: &Run<'_>, cases: &[Case], end: Option<Instant>, progress: &mut dyn FnMut(usize)) -> Vec<Check> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let next = AtomicUsize::new(0);
    let (send, ended) = mpsc::channel();
    let mut checks: Vec<Option<Check>> = cases.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    // At least one case of each kernel runs.
                    if at > 0 && end.is_some_and(|end| Instant::now() > end) {
                        return;
                    }
                    // Nobody listens if the run has ended.
                    let check = at_once(checked(run, case)).expect("outside of browsers a call waits for the device");
                    let _ = send.send((at, check));
                }
            });
        }
        drop(send);
        for (count, (at, check)) in ended.iter().enumerate() {
            checks[at] = Some(check);
            progress(count + 1);
        }
    });
    checks.into_iter().flatten().collect()
}

/// Runs cases until `end`, where there are no threads.
async fn one_by_one(
    run: &Run<'_>,
    cases: &[Case],
    end: Option<Instant>,
    progress: &mut dyn FnMut(usize),
) -> Vec<Check> {
    let mut checks = Vec::new();
    for case in cases {
        if !checks.is_empty() && end.is_some_and(|end| Instant::now() > end) {
            break;
        }
        checks.push(checked(run, case).await);
        progress(checks.len());
    }
    checks
}

/// Runs one case.
pub(super) async fn checked(run: &Run<'_>, case: &Case) -> Check {
    let planted = run.options.plant.as_deref() == Some(case.kernel);
    let plant = if planted { Plant::WrongValue } else { Plant::Nothing };
    match case.run_seeded(run.gpu, plant, run.options.seed).await {
        Ok(Ok(reached)) => Check { reached, ..Check::new(&case.shape, Outcome::Passed) },
        Ok(Err(fault)) => Check::new(&case.shape, Outcome::Failed(fault.to_string())),
        Err(error) => Check::new(&case.shape, Outcome::Failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Coop;

    #[test]
    fn cases_that_differ_in_size_are_of_a_kind() {
        let case = |shape: &str| kind("matvec", shape);
        assert_eq!(case("64 lanes 16 rows by 4 f32 store 9x137x70"), case("64 lanes 16 rows by 4 f32 store 1x1x1"));
        assert_ne!(case("64 lanes 16 rows by 4 f32 store 1x1x1"), case("64 lanes 16 rows by 4 f16 store 1x1x1"));
    }

    /// Of every kernel that a model can get, some case is of the form that this adapter gets.
    #[test]
    fn the_forms_that_an_adapter_gets_have_cases() {
        let cpu = Caps { subgroups: true, subgroup_min: 8, subgroup_max: 8, ..Caps::portable() };
        let coop = Some(Coop { size: 16, lanes: 32 });
        let gpu = Caps {
            cpu: false,
            discrete: true,
            subgroup_min: 32,
            subgroup_max: 32,
            coop,
            f16: true,
            max_lanes: 1024,
            workgroup_bytes: 48 << 10,
            ..cpu.clone()
        };
        for caps in [Caps::portable(), cpu, gpu] {
            let chosen = Chosen::of(&caps);
            let cases: Vec<Case> = kernels::all(&caps).into_iter().flat_map(|(_, cases)| cases).collect();
            for kernel in ["matmul", "scan", "ssm_step", "conv", "select"] {
                let some = cases.iter().any(|case| case.kernel.starts_with(kernel) && chosen.has(case));
                assert!(some, "{kernel} on {caps:?}");
            }
            assert!(of_products(&caps).len() >= 8 * WeightFormat::ALL.len());
            let count = |depth| {
                let kernels = selected(&caps, &Options::of(depth));
                kernels.iter().map(|kernel| kernel.cases.len()).sum::<usize>()
            };
            let counts = [Depth::Quick, Depth::Normal, Depth::Full].map(count);
            eprintln!("{counts:?} cases at each depth, cpu {}", caps.cpu);
            assert!(counts[0] < 1000 && counts[0] < counts[1] && counts[1] < counts[2], "{counts:?} on {caps:?}");
        }
    }
}
