//! `matmul`: products of a weight matrix with the tokens of a prefill chunk, bound by arithmetic.

use super::case::{Case, Io, Random, wide};
use super::linear::Linear;
use super::product::{self, Epilogue, EpilogueKind, Product, Prologue, Shape};
use super::variants::Math;
use super::{Activation, Batch, file, size};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Caps, Coop, Count, Gpu, KernelDef, Part, Plan, Usage, wgsl};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lanes of a workgroup of the direct form, and tokens that it takes; TOKENS in the shader.
const DIRECT_LANES: u32 = 32;
const DIRECT_TOKENS: u32 = 8;
/// Tokens that a workgroup of [`Form::Shared`] takes; TOKENS in the shader.
const SHARED_TOKENS: u32 = 16;
/// Rows of y that a lane of either makes; LANE_ROWS in the shaders.
const LANE_ROWS: u32 = 4;

/// Rows from which tiles of 128 give every part of a large GPU something to do.
const LARGE_ROWS: usize = 4096;

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each lane makes a block of y in registers and shares nothing: no barrier. For CPUs.
    Direct,
    /// The same by subgroups of 8 lanes, each of which reads x for all: a CPU driver reads lane by lane, even where all
    /// lanes read the same, so that reading is what a product costs there.
    Shared,
    /// A workgroup makes a tile of 64 `blocks` x 64 `blocks` through workgroup memory. For GPUs.
    Tiled {
        /// 1 or 2.
        blocks: u32,
    },
    /// A workgroup of four subgroups makes a tile by cooperative matrices.
    Coop(Coop, Math),
}

/// Lanes of a subgroup of [`Form::Shared`]; SUBGROUP in the shader.
const SHARED_LANES: u32 = 8;

fn can_share(caps: &Caps) -> bool {
    caps.subgroups && [caps.subgroup_min, caps.subgroup_max] == [SHARED_LANES; 2]
}

impl Form {
    /// What suits an adapter, by what is known without a trial.
    pub fn of(caps: &Caps) -> Self {
        match caps {
            Caps { cpu: true, .. } if can_share(caps) => Form::Shared,
            Caps { cpu: true, .. } => Form::Direct,
            // Tiles of 128 need half the reads of tiles of 64 for the same work, and 64 sums in each lane's registers; GPUs
            // that share their memory with a CPU have fewer registers, and few enough lanes to be short of work.
            Caps { discrete: true, .. } => Form::Tiled { blocks: 2 },
            _ => Form::Tiled { blocks: 1 },
        }
    }

    /// Every form that the adapter can run.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut all = vec![Form::Direct, Form::Tiled { blocks: 1 }, Form::Tiled { blocks: 2 }];
        if can_share(caps) {
            all.push(Form::Shared);
        }
        all.extend(
            caps.coop.into_iter().flat_map(|coop| [Form::Coop(coop, Math::Exact), Form::Coop(coop, Math::Fast)]),
        );
        all
    }

    /// This form for a matrix of so many rows: few rows are cut into smaller tiles.
    pub(super) fn for_rows(self, rows: usize) -> Self {
        match self {
            Form::Tiled { .. } if rows < LARGE_ROWS => Form::Tiled { blocks: 1 },
            form => form,
        }
    }

    pub(super) fn def(self, format: WeightFormat, mut parts: Vec<Part>, bindings: Vec<Binding>) -> KernelDef {
        match self {
            Form::Direct => {
                parts.push(file(wgsl!("matmul.wgsl")));
                KernelDef::new("matmul", parts, bindings).overrides(&[("WG", DIRECT_LANES)])
            }
            Form::Shared => {
                parts.push(file(wgsl!("matmul_shared.wgsl")));
                KernelDef::new("matmul", parts, bindings)
            }
            Form::Tiled { blocks } => {
                parts.push(file(wgsl!("matmul_tiled.wgsl")));
                KernelDef::new("matmul", parts, bindings).consts(&[("BLOCKS", blocks)])
            }
            Form::Coop(coop, math) => {
                let sizes = if coop.size == 16 { wgsl!("lib/coop_16.wgsl") } else { wgsl!("lib/coop_8.wgsl") };
                parts.extend([file(sizes), file(wgsl!("matmul_coop.wgsl"))]);
                let exact = math == Math::Exact;
                KernelDef::new("matmul", parts, bindings).coop().consts(&[
                    ("WG", 4 * coop.lanes),
                    ("SPLIT_X", exact.into()),
                    // The others have more digits than f16, a scale and a code together.
                    ("SPLIT_W", (exact && !matches!(format, WeightFormat::F16 | WeightFormat::Bf16)).into()),
                    ("SCALE_W", (format != WeightFormat::F16).into()),
                ])
            }
        }
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        let tile = |rows_a_group, tokens| [Count::of(rows, rows_a_group), Count::Rows(tokens)];
        match self {
            Form::Direct => tile(DIRECT_LANES * LANE_ROWS, DIRECT_TOKENS),
            Form::Shared => tile(SHARED_LANES * LANE_ROWS, SHARED_TOKENS),
            Form::Tiled { blocks } => tile(64 * blocks, 64 * blocks),
            Form::Coop(coop, _) => tile(4 * coop.size, 4 * coop.size),
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Form::Direct => f.write_str("direct"),
            Form::Shared => f.write_str("shared"),
            Form::Tiled { blocks } => write!(f, "tiled {}", 64 * blocks),
            Form::Coop(coop, math) => write!(f, "coop {} {math}", coop.size),
        }
    }
}

const EPILOGUES: [EpilogueKind; 3] = [EpilogueKind::Store, EpilogueKind::Residual, EpilogueKind::Softplus];

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let of_form = |form| {
        let def = move |format| {
            let shape = |epilogue| Shape { format, columns: 0, squares: None, epilogue };
            EPILOGUES.map(|epilogue| product::def(Product::Matmul(form), shape(epilogue)))
        };
        WeightFormat::ALL.into_iter().flat_map(def)
    };
    Form::all(caps).into_iter().flat_map(of_form).collect()
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::all(caps) {
        let product = Product::Matmul(form);
        // Classes of arithmetic are reported apart: each has an error of its own.
        let kernel = match form {
            Form::Coop(_, Math::Exact) => "matmul_coop",
            Form::Coop(_, Math::Fast) => "matmul_coop_fast",
            _ => "matmul",
        };
        cases.extend(product::cases(
            kernel,
            &form.to_string(),
            (product, &WeightFormat::ALL),
            &EPILOGUES,
            (product::Cases::All, &|_| usize::MAX),
        ));
        let softplus = move |io: &mut Io| product::build_softplus(io, product);
        cases.push(Case::new(kernel, format!("{form} softplus over its range"), softplus));
    }
    cases
}

/// How a trial of cooperative matrices ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// They are right, and faster than the other form.
    Won,
    /// They are right, but not faster.
    Slower,
    /// They are wrong: what was found.
    Wrong(String),
    /// They could not be run: what the driver said.
    Refused(String),
}

/// A product by cooperative matrices, held against the same by the form that the adapter's type suggests.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Cooperative matrices.
    pub coop: Form,
    /// The form beside them.
    pub other: Form,
    /// Time of the product by each, the best of a few; zero where it was not taken.
    pub times: [Duration; 2],
    /// Which one is to be used, and why.
    pub outcome: Outcome,
}

impl Trial {
    /// The form to use.
    pub fn winner(&self) -> Form {
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
        }
    }
}

/// The trial of cooperative matrices on this device, run once and kept; `None` where it has none.
pub fn trial(gpu: &Gpu, math: Math) -> Result<Option<Arc<Trial>>> {
    let Some(coop) = gpu.caps().coop else { return Ok(None) };
    let (coop, other) = (Form::Coop(coop, math), Form::of(gpu.caps()));
    gpu.finding(&format!("trial of {}", coop), || run_trial(gpu, coop, other)).map(Some)
}

fn run_trial(gpu: &Gpu, coop: Form, other: Form) -> Result<Trial> {
    let trial = |times, outcome| Ok(Trial { coop, other, times, outcome });
    let race = Race::new(gpu)?;
    let plans = match race.plan(coop) {
        Ok(plan) => [plan, race.plan(other)?],
        Err(Error::Gpu { problem, .. }) => return trial([Duration::ZERO; 2], Outcome::Refused(problem)),
        Err(error) => return Err(error),
    };
    for (form, plan) in [coop, other].into_iter().zip(&plans) {
        if let Some(wrong) = race.wrong(form, plan)? {
            return trial([Duration::ZERO; 2], Outcome::Wrong(wrong));
        }
    }
    let mut times = [Duration::MAX; 2];
    for _ in 0..5 {
        for (best, plan) in times.iter_mut().zip(&plans) {
            *best = (*best).min(race.time(plan)?);
        }
    }
    trial(times, if times[0] < times[1] { Outcome::Won } else { Outcome::Slower })
}

/// The product of a trial: of a size that keeps a GPU busy for longer than a submission takes, in the format that models
/// come in.
struct Race {
    gpu: Gpu,
    linear: Linear,
    x: Activation,
    y: Activation,
    batch: crate::gpu::Buf<Batch>,
    /// The twin's values for every so many tokens.
    expected: Vec<f64>,
}

impl Race {
    const TOKENS: usize = 256;
    const ROWS: usize = 2048;
    const COLUMNS: usize = 512;
    /// One token of this many is held against the twin.
    const JUDGED: usize = 64;

    fn new(gpu: &Gpu) -> Result<Self> {
        let mut random = Random::new(1);
        let bytes = WeightFormat::Bf16.encode(&random.uniforms(Self::ROWS * Self::COLUMNS, -1.0, 1.0), Self::COLUMNS);
        let tensor = Tensor::of_blocks("W", "trial", WeightFormat::Bf16, &[Self::ROWS, Self::COLUMNS], &bytes);
        let values = random.uniforms(Self::TOKENS * Self::COLUMNS, -1.0, 1.0);
        let x = Activation::new(gpu, "trial x", Self::TOKENS, Self::COLUMNS)?;
        gpu.write(&x.buf, 0, &values)?;
        let judged: Vec<f32> = values.chunks_exact(Self::COLUMNS).step_by(Self::JUDGED).flatten().copied().collect();
        Ok(Race {
            gpu: gpu.clone(),
            linear: Linear::load(gpu, &tensor, &mut |_| {})?,
            x,
            y: Activation::new(gpu, "trial y", Self::TOKENS, Self::ROWS)?,
            batch: gpu.upload("trial", &[Batch { rows: size(Self::TOKENS), ..Default::default() }], Usage::Uniform)?,
            expected: product::cpu(&wide(&judged), &tensor.to_f32(), Self::COLUMNS),
        })
    }

    fn plan(&self, form: Form) -> Result<Plan> {
        let mut plan = Plan::new(&self.gpu, "trial");
        let product = (Product::Matmul(form), &self.batch);
        self.linear.record(&mut plan, "y", (&self.x, &self.y), (Prologue::None, Epilogue::Store), product)?;
        Ok(plan)
    }

    /// What is wrong with a form's y, if anything.
    fn wrong(&self, form: Form, plan: &Plan) -> Result<Option<String>> {
        let tolerance = product::tolerance(Product::Matmul(form), Self::COLUMNS);
        plan.run(Self::TOKENS)?;
        let y = pollster::block_on(self.y.read(&self.gpu, Self::TOKENS, 0..Self::ROWS))?;
        let judged: Vec<f32> = y.chunks_exact(Self::ROWS).step_by(Self::JUDGED).flatten().copied().collect();
        let expected: Vec<_> = self.expected.iter().copied().map(Some).collect();
        let fault = super::case::compare(&form.to_string(), &judged, &expected, tolerance).err();
        Ok(fault.map(|fault| fault.to_string()))
    }

    fn time(&self, plan: &Plan) -> Result<Duration> {
        let start = Instant::now();
        plan.run(Self::TOKENS)?;
        pollster::block_on(self.gpu.read(&self.y.buf, 0..1))?;
        Ok(start.elapsed())
    }
}
