//! The trial of cooperative matrices: whether a driver that lists them computes correct products, and faster than other variants.

use super::epilogue::{Epilogue, Prologue};
use super::math::Math;
use super::matmul::MatmulVariant;
use super::product::Product;
use super::twin::{cpu, tolerance};
use super::weights::Linear;
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Buf, Caps, Gpu, Plan, Usage};
use crate::kernels::activation::Activation;
use crate::kernels::batch::Batch;
use crate::kernels::case::{Random, compare, wide};
use crate::kernels::sizes::size;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use web_time::Instant;

/// Result of a trial of cooperative matrices.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// They are correct, and faster than the other variant.
    Won,
    /// They are correct, but not faster.
    Slower,
    /// They are wrong: the mismatch.
    Wrong(String),
    /// They do not run: the driver's message.
    Refused(String),
    /// The driver crashed the process when they were last tried: they stay off while this file exists.
    Crashed(PathBuf),
}

/// A product by cooperative matrices, compared with the variant for the adapter's kind.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The variant with cooperative matrices.
    pub coop: MatmulVariant,
    /// The variant compared with it.
    pub other: MatmulVariant,
    /// Best times of the product by each; zero if not measured.
    pub times: [Duration; 2],
    /// Which of them is used, and why.
    pub outcome: Outcome,
}

impl Trial {
    /// The variant to use.
    pub fn winner(&self) -> MatmulVariant {
        if self.outcome == Outcome::Won { self.coop } else { self.other }
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [coop, other] = self.times.map(|time| time.as_micros());
        let (name, beside) = (self.coop, self.other);
        match &self.outcome {
            Outcome::Won => write!(f, "{name} is used: {coop} us, {beside} {other} us"),
            Outcome::Slower => write!(f, "{beside} is used: {other} us, {name} {coop} us"),
            Outcome::Wrong(what) => write!(f, "{beside} is used: {name} is wrong on this adapter: {what}"),
            Outcome::Refused(what) => write!(f, "{beside} is used: {name} does not run on this adapter: {what}"),
            Outcome::Crashed(mark) => {
                let mark = mark.display();
                write!(
                    f,
                    "{beside} is used: the driver ended the process that tried {name}; to try again, delete {mark}"
                )
            }
        }
    }
}

/// The trial of cooperative matrices on this device, run once; `None` if it has none. If [`Gpu::keep_in`] names a folder, it
/// holds a mark during the trial, so that a driver that crashes the process is not tried again.
pub async fn trial(gpu: &Gpu, math: Math) -> Result<Option<Arc<Trial>>> {
    let Some(coop) = gpu.caps().coop else { return Ok(None) };
    let (coop, other) = (MatmulVariant::Coop(coop, math, None), MatmulVariant::of(gpu.caps()));
    gpu.finding(&format!("trial of {coop}"), async {
        let what = format!("{coop} on {}", gpu.info());
        let mark = gpu.kept_file("trial", &what, "").map(|path| CrashMark::set(path, &what)).transpose();
        match mark {
            Ok(Some(Err(left))) => {
                Ok(Trial { coop, other, times: [Duration::ZERO; 2], outcome: Outcome::Crashed(left) })
            }
            // An unwritable folder only means that there is no mark.
            Ok(None) | Err(_) => Race::new(gpu)?.run(coop, other).await,
            Ok(Some(Ok(mark))) => {
                let trial = Race::new(gpu)?.run(coop, other).await;
                mark.clear();
                trial
            }
        }
    })
    .await
    .map(Some)
}

/// A file that is not empty during a trial that may crash the process, and stays so if it crashed.
struct CrashMark(File);

impl CrashMark {
    /// Marks the start of a trial; returns the path if an earlier one did not end. Waits for a trial in another process.
    fn set(path: PathBuf, what: &str) -> io::Result<Result<Self, PathBuf>> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        file.lock()?;
        if file.metadata()?.len() > 0 {
            return Ok(Err(path));
        }
        file.write_all(format!("{what}: tried, and not ended. Delete this file to try again.\n").as_bytes())?;
        file.sync_all()?;
        Ok(Ok(CrashMark(file)))
    }

    /// Marks the end of the trial, whatever its outcome.
    fn clear(self) {
        // If this fails, the matrices stay off, and a message says how to try again.
        let _ = self.0.set_len(0);
    }
}

/// The product of a trial, in the usual format of models.
struct Race {
    gpu: Gpu,
    size: RaceSize,
    linear: Linear,
    x: Activation,
    y: Activation,
    batch: Buf<Batch>,
    /// The twin's values for [`Race::JUDGED`] of the tokens.
    expected: Vec<f64>,
}

/// Size of that product, and how often a timed submission makes it.
#[derive(Clone, Copy)]
struct RaceSize {
    tokens: usize,
    rows: usize,
    columns: usize,
    times: usize,
}

impl RaceSize {
    /// Large enough to fill the adapter and to dominate the cost of a submission: a large GPU takes 0.1 ms for that, and a product of
    /// 256 x 2048 x 512 as long, by whichever variant.
    fn of(caps: &Caps) -> Self {
        match caps.cpu {
            true => RaceSize { tokens: 256, rows: 2048, columns: 512, times: 1 },
            false => RaceSize { tokens: 512, rows: 8192, columns: 512, times: 4 },
        }
    }
}

impl Race {
    /// Tokens that are compared with the twin, evenly spread.
    const JUDGED: usize = 4;

    fn new(gpu: &Gpu) -> Result<Self> {
        let race = RaceSize::of(gpu.caps());
        let RaceSize { tokens, rows, columns, .. } = race;
        let mut random = Random::new(1);
        let bytes = WeightFormat::Bf16.encode(&random.uniforms(rows * columns, -1.0, 1.0), columns);
        let tensor = Tensor::of_blocks("W", "trial", WeightFormat::Bf16, &[rows, columns], &bytes);
        let values = random.uniforms(tokens * columns, -1.0, 1.0);
        let x = Activation::new(gpu, "trial x", tokens, columns)?;
        gpu.write(&x.buf, 0, &values)?;
        let judged: Vec<f32> = values.chunks_exact(columns).step_by(tokens / Self::JUDGED).flatten().copied().collect();
        Ok(Race {
            gpu: gpu.clone(),
            size: race,
            linear: Linear::load(gpu, &tensor, &mut |_| {})?,
            x,
            y: Activation::new(gpu, "trial y", tokens, rows)?,
            batch: gpu.upload("trial", &[Batch { rows: size(tokens), ..Default::default() }], Usage::Uniform)?,
            expected: cpu(&wide(&judged), &tensor.to_f32(), columns),
        })
    }

    async fn run(&self, coop: MatmulVariant, other: MatmulVariant) -> Result<Trial> {
        let trial = |times, outcome| Ok(Trial { coop, other, times, outcome });
        let plans = match self.plan(coop) {
            Ok(plan) => [plan, self.plan(other)?],
            Err(Error::Gpu { problem, .. }) => return trial([Duration::ZERO; 2], Outcome::Refused(problem)),
            Err(error) => return Err(error),
        };
        for (variant, plan) in [coop, other].into_iter().zip(&plans) {
            if let Some(wrong) = self.wrong(variant, plan).await? {
                return trial([Duration::ZERO; 2], Outcome::Wrong(wrong));
            }
        }
        let mut times = [Duration::MAX; 2];
        for _ in 0..5 {
            for (best, plan) in times.iter_mut().zip(&plans) {
                *best = (*best).min(self.time(plan).await? / size(self.size.times));
            }
        }
        trial(times, if times[0] < times[1] { Outcome::Won } else { Outcome::Slower })
    }

    fn plan(&self, variant: MatmulVariant) -> Result<Plan> {
        let mut plan = Plan::new(&self.gpu, "trial");
        let product = (Product::Matmul(variant), &self.batch);
        for _ in 0..self.size.times {
            self.linear.record(&mut plan, "y", (&self.x, &self.y), (Prologue::None, Epilogue::Store), product)?;
        }
        Ok(plan)
    }

    /// The mismatch of a variant's y, if any.
    async fn wrong(&self, variant: MatmulVariant, plan: &Plan) -> Result<Option<String>> {
        let RaceSize { tokens, rows, columns, .. } = self.size;
        let tolerance = tolerance(Product::Matmul(variant), columns);
        plan.run(tokens)?;
        let y = self.y.read(&self.gpu, tokens, 0..rows).await?;
        let judged: Vec<f32> = y.chunks_exact(rows).step_by(tokens / Self::JUDGED).flatten().copied().collect();
        let expected: Vec<_> = self.expected.iter().copied().map(Some).collect();
        let fault = compare(&variant.to_string(), &judged, &expected, tolerance).err();
        Ok(fault.map(|fault| fault.to_string()))
    }

    async fn time(&self, plan: &Plan) -> Result<Duration> {
        let start = Instant::now();
        plan.run(self.size.tokens)?;
        self.gpu.read(&self.y.buf, 0..1).await?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterChoice, Coop, Switches};
    use pollster::block_on;

    #[test]
    fn a_wrong_product_and_one_that_does_not_run_lose() {
        if std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1") {
            return;
        }
        let switches = Switches { without_coop: true, ..Switches::from_env().unwrap() };
        let gpu = block_on(Gpu::open_with_async(&AdapterChoice::Best, switches)).expect("this test needs an adapter");
        let other = MatmulVariant::of(gpu.caps());
        let mut race = Race::new(&gpu).unwrap();
        // The device was opened without the matrices.
        let coop = MatmulVariant::Coop(Coop { size: 8, lanes: 8 }, Math::Exact, None);
        let refused = block_on(race.run(coop, other)).unwrap();
        assert!(matches!(refused.outcome, Outcome::Refused(_)), "{refused}");
        assert_eq!(refused.winner(), other);
        // A variant agrees with itself, until the expected values change.
        let right = block_on(race.run(other, other)).unwrap();
        assert!(matches!(right.outcome, Outcome::Won | Outcome::Slower), "{right}");
        race.expected[3] += 0.01;
        let wrong = block_on(race.run(other, other)).unwrap();
        assert!(matches!(wrong.outcome, Outcome::Wrong(_)), "{wrong}");
    }

    #[test]
    fn a_trial_that_did_not_end_is_not_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let set = || CrashMark::set(dir.path().join("trial"), "a trial").unwrap();
        set().unwrap().clear();
        // The process ends here.
        drop(set().unwrap());
        let mark = set().err().expect("the trial before it did not end");
        assert!(set().is_err(), "it stays so");
        assert!(CrashMark::set(dir.path().join("another"), "another").unwrap().is_ok());
        std::fs::remove_file(mark).unwrap();
        set().unwrap().clear();
    }
}
