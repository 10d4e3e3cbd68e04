//! `peregrine bench`: the speed of a model, or of a model shape with random weights, on this machine.

mod chart;

use super::exit::usage_error;
use super::force::ForceArgs;
use super::hub::HubArgs;
use super::llama_flags::LlamaFlags;
use super::model::{ChunkArgs, DeviceArgs, KernelArgs, LoadBar, report_notes, report_plan, save_pipelines};
use super::sampling::SamplerArgs;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::bench::{Options, PictureModel, PictureOptions, Subject, longest, pictures, run};
use peregrine::format::WeightFormat;
use peregrine::model::{Config, Forward, MemoryPlan, Recipe, SHAPES, Shape, VIM_SHAPES, Weights};
use peregrine::output::{AtomicFile, write_atomic};
use peregrine::runtime::{Checkpoint, SamplingDefaults};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Args)]
pub struct Bench {
    /// A .gguf file or a checkpoint folder [default: the built-in tiny-chat]
    #[arg(short, long, value_name = "MODEL", conflicts_with = "shape")]
    model: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArgs,
    /// Random weights of this model shape: a name (falcon-mamba-7b, mamba-130m … mamba-2.8b, vim-tiny, vim-small, vim-base) or a
    /// config.json
    #[arg(long, value_name = "SHAPE", conflicts_with = "hf_repo")]
    shape: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Prompt lengths in tokens; 0 for no prompt test
    #[arg(short = 'p', long, value_name = "N", value_delimiter = ',', default_value = "512", value_parser = tokens)]
    n_prompt: Vec<usize>,
    /// Generated tokens; 0 for no generation test
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "128", value_parser = tokens)]
    n_gen: Vec<usize>,
    /// Context depths: tokens consumed before each test, such as 0,1k,16k,130k
    #[arg(short = 'd', long, value_name = "N", value_delimiter = ',', default_value = "0", value_parser = tokens)]
    n_depth: Vec<usize>,
    /// Batch sizes: conversations that generate in parallel, such as 1,8
    #[arg(long, visible_alias = "npl", value_name = "N", value_delimiter = ',', default_value = "1")]
    n_parallel: Vec<usize>,
    #[command(flatten, next_help_heading = "Also measure generation with these sampling settings")]
    choice: SamplerArgs,
    /// Repetitions of each test
    #[arg(short, long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Skip the warm-up run, so that pipeline compilation is measured too
    #[arg(long)]
    no_warmup: bool,
    #[command(flatten)]
    chunk: ChunkArgs,
    #[command(flatten)]
    kernels: KernelArgs,
    /// Also time each kernel of a decode step and of a prefill chunk
    #[arg(long)]
    profile: bool,
    /// Instead of the tests, read one prompt of N tokens and generate N / 8; print speed and memory at every doubling
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1M", value_parser = tokens)]
    #[arg(conflicts_with_all = SamplerArgs::NAMES)]
    longest: Option<usize>,
    #[command(flatten, next_help_heading = "Shapes that classify pictures, beside a DeiT of the same width")]
    pictures: PictureArgs,
    /// Plot speed and memory into an SVG file, against the depths of -d, the lengths of --longest or the sizes of --image
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArgs,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "md")]
    output: Output,
    #[command(flatten)]
    llama_flags: LlamaFlags,
}

#[derive(Args)]
struct PictureArgs {
    /// Sides of square pictures in pixels, such as 224,512,1248 [default: 224]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    image: Vec<usize>,
    /// Pictures per run, such as 1,8 [default: 1]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    batch: Vec<usize>,
    /// Only show the device memory of each, without running anything
    #[arg(long)]
    dry_run: bool,
}

impl PictureArgs {
    fn is_given(&self) -> bool {
        !self.image.is_empty() || !self.batch.is_empty() || self.dry_run
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Md,
    Json,
    Csv,
}

/// A model to measure.
struct Loaded {
    forward: Forward,
    subject: Subject,
    /// The model's sampling defaults.
    defaults: SamplingDefaults,
}

/// Parses a number of tokens; k means 1024 and M 1024 * 1024.
fn tokens(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let n: usize = digits.parse().map_err(|_| "expected a whole number, optionally with k or M".to_owned())?;
    n.checked_mul(unit).filter(|n| *n <= 1 << 30).ok_or_else(|| "the maximum is 1024M".to_owned())
}

impl Bench {
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(path) = &self.picture {
            // Fail on an existing or unwritable file before any work.
            self.force.check(path)?;
            drop(AtomicFile::create(path)?);
        }
        if self.longest.is_some() && self.output == Output::Csv {
            return Err(usage_error("--longest prints md or json"));
        }
        let of_pictures = self.shape.as_deref().and_then(PictureModel::beside);
        if of_pictures.is_none() && self.pictures.is_given() {
            let known = VIM_SHAPES.join(", ");
            return Err(usage_error(format!("--image, --batch and --dry-run need --shape with one of {known}")));
        }
        if of_pictures.is_some() && (self.longest.is_some() || self.output == Output::Csv) {
            return Err(usage_error("shapes that classify pictures have no --longest, and print md or json"));
        }
        self.llama_flags.report()?;
        self.kernels.report();
        if let Some(models) = of_pictures {
            return self.run_pictures(models);
        }
        let Loaded { mut forward, subject, defaults } = self.load()?;
        let sampling = self.choice.is_given().then(|| self.choice.over(&defaults).rules(forward.config().vocab));
        let options = Options {
            prompt: self.n_prompt.clone(),
            generate: self.n_gen.clone(),
            depths: self.n_depth.clone(),
            parallel: self.n_parallel.clone(),
            repetitions: self.repetitions,
            warmup: !self.no_warmup,
            profile: self.profile,
            sampling: sampling.transpose()?,
        };
        let spinner = spinner()?;
        if let Some(most) = self.longest {
            return self.run_longest(&mut forward, subject, most as u64, &spinner);
        }
        let report = run(&mut forward, subject, &options, &mut |what| spinner.set_message(what.to_owned()))?;
        spinner.finish_and_clear();
        if let Some(path) = &self.picture {
            write_atomic(path, chart::draw(&report)?.as_bytes())?;
        }
        let mut stdout = std::io::stdout().lock();
        match self.output {
            Output::Md => write!(stdout, "{}", report.markdown())?,
            Output::Json => writeln!(stdout, "{:#}", report.json())?,
            Output::Csv => write!(stdout, "{}", report.csv())?,
        }
        Ok(())
    }

    fn run_longest(
        &self,
        forward: &mut Forward,
        subject: Subject,
        most: u64,
        spinner: &ProgressBar,
    ) -> anyhow::Result<()> {
        let longest = longest(forward, subject, (most, most / 8), &mut |length| {
            let done = if length.prompt { "read" } else { "generated" };
            spinner.set_message(format!("{} tokens {done}, {:.1} t/s", length.tokens, length.tokens_per_s));
        })?;
        spinner.finish_and_clear();
        if let Some(path) = &self.picture {
            write_atomic(path, chart::draw_longest(&longest)?.as_bytes())?;
        }
        let mut stdout = std::io::stdout().lock();
        match self.output {
            Output::Md => write!(stdout, "{}", longest.markdown())?,
            Output::Json | Output::Csv => writeln!(stdout, "{:#}", longest.json())?,
        }
        Ok(())
    }

    fn run_pictures(&self, models: Vec<(String, PictureModel)>) -> anyhow::Result<()> {
        if self.repetitions == 0 {
            return Err(usage_error("--repetitions is 0: at least one is needed; --dry-run shows memory alone"));
        }
        let or = |given: &[usize], default: usize| if given.is_empty() { vec![default] } else { given.to_vec() };
        let options = PictureOptions {
            models,
            sides: or(&self.pictures.image, 224),
            batches: or(&self.pictures.batch, 1),
            format: self.kernels.weights().unwrap_or(WeightFormat::Bf16),
            repetitions: if self.pictures.dry_run { 0 } else { self.repetitions },
            warmup: !self.no_warmup,
            commit: env!("PEREGRINE_COMMIT").to_owned(),
        };
        let gpu = self.device.open(false)?;
        let spinner = spinner()?;
        let report = pictures(&gpu, &options, &mut |what| spinner.set_message(what.to_owned()))?;
        spinner.finish_and_clear();
        save_pipelines(&gpu, false);
        if let Some(path) = &self.picture {
            write_atomic(path, chart::draw_pictures(&report)?.as_bytes())?;
        }
        let mut stdout = std::io::stdout().lock();
        match self.output {
            Output::Md => write!(stdout, "{}", report.markdown())?,
            Output::Json | Output::Csv => writeln!(stdout, "{:#}", report.json())?,
        }
        Ok(())
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        let slots = self.n_parallel.iter().copied().max().unwrap_or(1);
        let mut layout = self.kernels.options(&self.chunk).slots(slots);
        let mut bar = LoadBar::new();
        let (gpu, name, tied, config, weights);
        let mut defaults = SamplingDefaults::default();
        if let Some(shape) = &self.shape {
            let shape = parse_shape(shape)?;
            gpu = self.device.open(false)?;
            let format = self.kernels.weights().unwrap_or(WeightFormat::Bf16);
            layout = layout.weights(Recipe::To(format)).settled_for_shape(&gpu, &shape);
            MemoryPlan::checked_shape(&gpu, &shape, layout)?;
            weights = Weights::made_up(&gpu, &shape, format, &mut |progress| bar.show(progress))?;
            (name, tied, config) = (shape.name, shape.tied, shape.config);
        } else {
            let path = self.hub.locate(self.model.as_deref())?;
            let checkpoint = path.map_or_else(Checkpoint::embedded, Checkpoint::open)?;
            gpu = self.device.open(false)?;
            let tensors = checkpoint.tensors()?;
            report_plan(&gpu, &checkpoint, layout, false)?;
            layout = layout.settled(&gpu, checkpoint.config(), &tensors);
            MemoryPlan::checked(&gpu, checkpoint.config(), &tensors, layout)?;
            weights = Weights::load(&gpu, &tensors, layout.weight_options(), &mut |progress| bar.show(progress))?;
            name = checkpoint.label().to_owned();
            (tied, config) = (tensors.head.is_none(), checkpoint.config().clone());
            checkpoint.sampling(&self.choice.asked(), 0)?;
            defaults = *checkpoint.defaults();
        }
        bar.finish();
        let weight_bytes = gpu.allocated_bytes();
        let format = weights.formats();
        let forward = Forward::new(&gpu, &config, Arc::new(weights), layout)?;
        report_notes(&gpu);
        save_pipelines(&gpu, false);
        let subject = Subject {
            model: name,
            weights: format,
            weight_bytes,
            parameters: config.parameters(tied),
            math: forward.variants().math.to_string(),
            variants: forward.variants().to_string(),
            chunk: forward.chunk(),
            commit: env!("PEREGRINE_COMMIT").to_owned(),
        };
        Ok(Loaded { forward, subject, defaults })
    }
}

/// Shows what is being measured.
fn spinner() -> anyhow::Result<ProgressBar> {
    let spinner = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} measuring {msg}")?);
    spinner.enable_steady_tick(Duration::from_millis(200));
    Ok(spinner)
}

/// A published shape by name, or the shape of a config.json.
fn parse_shape(shape: &str) -> anyhow::Result<Shape> {
    if let Some(shape) = Shape::named(shape) {
        return Ok(shape);
    }
    let path = Path::new(shape);
    if !path.exists() {
        let known = SHAPES.join(", ");
        return Err(usage_error(format!("no shape {shape:?}; available: {known}, or give a config.json")));
    }
    let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let file = path.display().to_string();
    let text = std::fs::read(&path).map_err(|problem| peregrine::Error::Unreadable { path: path.clone(), problem })?;
    let json = peregrine::input::json(&file, &text)?;
    let config = Config::from_json(&file, &json, &peregrine::format::TensorSource::empty(&file))?;
    let tied = config.tied;
    Ok(Shape { name: file, config, tied })
}
