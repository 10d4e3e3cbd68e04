//! Opening the device and the model that the command line names.

use super::bytes::bytes;
use super::habits::Habits;
use super::shaders::say_shaders;
use super::weights::NamedFormat;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::format::{Encoding, Tensor, WeightFormat};
use peregrine::gpu::{AdapterChoice, Gpu};
use peregrine::kernels::linear::Math;
use peregrine::model::{Embeddings, Forward, MemoryPlan, ModelTensors, Progress, Recipe, Room, Tune};
use peregrine::runtime::{Checkpoint, Engine, EngineOptions};
use peregrine::text::Tokenizer;
use peregrine::{Error, Result};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Which model, on which device, and how it is fed.
#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Tokens of a prompt taken in one step, at most (llama.cpp's -ub)
    #[arg(long, alias = "ubatch-size", value_name = "N", default_value_t = 512)]
    pub chunk: usize,
    #[command(flatten)]
    pub kernels: KernelArgs,
    /// Say more on stderr
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    habits: Habits,
}

/// Which model, and what is known better than it does.
#[derive(Args)]
pub struct CheckpointArgs {
    /// A .gguf file, or a folder with config.json, tokenizer.json and .safetensors files; without it the small model that is
    /// compiled in
    #[arg(short, long, value_name = "MODEL", env = "PEREGRINE_MODEL")]
    pub model: Option<PathBuf>,
    /// A tokenizer.json instead of the model's
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Epsilon of Falcon Mamba's norms on dt, B and C, instead of the model's. GGUF files do not say it: without it 1e-6, as
    /// falcon-mamba-7b has; llama.cpp takes 1e-5
    #[arg(long, value_name = "EPS")]
    mixer_rms_eps: Option<f32>,
}

impl CheckpointArgs {
    /// Opens the checkpoint: its small files are read and its weights mapped.
    pub fn open(&self) -> Result<Checkpoint> {
        let mut checkpoint = match &self.model {
            Some(path) => Checkpoint::open(path)?,
            None => Checkpoint::embedded()?,
        };
        let unknown = &checkpoint.unused_keys().unknown;
        if !unknown.is_empty() {
            eprintln!("{}: keys that are not known here, and not followed: {}", checkpoint.label(), unknown.join(", "));
        }
        if let Some(eps) = self.mixer_rms_eps {
            checkpoint.set_mixer_rms_eps(eps)?;
        }
        if let Some(path) = &self.tokenizer {
            let json = std::fs::read(path).map_err(|problem| Error::Unreadable { path: path.clone(), problem })?;
            checkpoint.set_tokenizer(Tokenizer::from_json(&path.display().to_string(), &json)?);
        }
        Ok(checkpoint)
    }
}

/// How the kernels are chosen.
#[derive(Args)]
pub struct KernelArgs {
    /// Arithmetic of products: exact as f32, or fast, where what goes into them is rounded: to int8 in steps of answers (with q4_0,
    /// q4_K, q5_K, q6_K, q8_0 and int8), to f16 in prompts on matrix units
    #[arg(long, value_name = "CLASS", default_value = "exact")]
    math: MathChoice,
    /// Forms of the kernels: portable ones, by the adapter's type, or measured once on this adapter and kept
    #[arg(long, value_name = "HOW", default_value = "static")]
    tune: TuneChoice,
    /// Format of the matrices on the device (f32, f16, bf16, q8_0, q4_0, q4_K, q5_K, q6_K, nf4, fp4, int8, or llama.cpp's name
    /// for one of as many bits, such as Q4_K_M); without it they stay as they are stored
    #[arg(short, long, value_name = "FORMAT", value_parser = NamedFormat::parse)]
    weights: Option<NamedFormat>,
    /// Memory of the device that the model may take, such as 8G, 6.5GiB or 8GB (G and GiB are 1024^3); without it what the
    /// driver says is free, where it says so
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Where the table of embeddings lies: `host` saves the device its memory, and costs speed, as no step can run ahead
    #[arg(long, value_name = "WHERE", default_value = "device")]
    embeddings: EmbeddingsChoice,
    /// Segments that the scan cuts a full chunk into; 0 leaves it to the adapter and the model
    #[arg(long, value_name = "N", default_value_t = 1, hide = true)]
    segments: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum MathChoice {
    Exact,
    Fast,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmbeddingsChoice {
    Device,
    Host,
}

#[derive(Clone, Copy, ValueEnum)]
enum TuneChoice {
    Off,
    Static,
    Auto,
}

impl KernelArgs {
    /// The format that was asked for.
    pub fn weights(&self) -> Option<WeightFormat> {
        self.weights.as_ref().map(|named| named.format)
    }

    /// Says what is not as it was typed.
    pub fn say(&self) {
        self.weights.iter().for_each(NamedFormat::say);
    }

    /// For one conversation.
    pub fn options(&self, chunk: usize) -> EngineOptions {
        EngineOptions {
            slots: 1,
            chunk,
            segments: self.segments,
            weights: self.weights().map_or(Recipe::AsStored, Recipe::To),
            memory: self.memory,
            embeddings: match self.embeddings {
                EmbeddingsChoice::Device => Embeddings::Device,
                EmbeddingsChoice::Host => Embeddings::Host,
            },
            math: match self.math {
                MathChoice::Exact => Math::Exact,
                MathChoice::Fast => Math::Fast,
            },
            tune: match self.tune {
                TuneChoice::Off => Tune::Off,
                TuneChoice::Static => Tune::Static,
                TuneChoice::Auto => Tune::Auto,
            },
        }
    }
}

/// Which device.
#[derive(Args)]
pub struct DeviceArgs {
    /// Adapter, by index or by a part of its name, such as 4090; see `peregrine devices`
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// Where compiled pipelines and tuning are kept: `PEREGRINE_CACHE`, or the user's cache folder. An empty value keeps nothing.
fn cache_dir() -> Option<PathBuf> {
    match std::env::var_os("PEREGRINE_CACHE") {
        Some(dir) if dir.is_empty() => None,
        Some(dir) => Some(dir.into()),
        None => dirs::cache_dir().map(|dir| dir.join("peregrine")),
    }
}

/// Keeps what was compiled for the next start. Not to have kept it costs that start a moment, and nothing else.
pub fn keep_pipelines(gpu: &Gpu, verbose: bool) {
    if let (Err(error), true) = (gpu.save_pipelines(), verbose) {
        eprintln!("compiled pipelines are not kept: {error}");
    }
}

impl DeviceArgs {
    /// Opens the device. Without a GPU it takes a CPU, and says so.
    pub fn open(&self, verbose: bool) -> Result<Gpu> {
        let choice = self.device.as_deref().map_or(AdapterChoice::Best, AdapterChoice::parse);
        let gpu = Gpu::open(&choice)?;
        say_shaders(gpu.caps());
        if let Some(dir) = cache_dir() {
            gpu.keep_in(&dir)?;
        }
        if gpu.info().cpu && self.device.is_none() && std::env::var_os("PEREGRINE_ADAPTER").is_none() {
            eprintln!("no GPU found, running on the CPU: {}", gpu.info());
        } else if verbose {
            eprintln!("running on {}", gpu.info());
        }
        Ok(gpu)
    }
}

impl ModelArgs {
    /// Opens the checkpoint: its small files are read and its weights mapped. Says what is not as it was typed.
    pub fn checkpoint(&self) -> anyhow::Result<Checkpoint> {
        self.habits.say()?;
        self.kernels.say();
        Ok(self.checkpoint.open()?)
    }

    /// How an engine for one conversation is laid out.
    pub fn options(&self) -> EngineOptions {
        self.kernels.options(self.chunk)
    }

    /// Loads the model for one conversation, with a bar on a terminal.
    pub fn load(&self, checkpoint: Checkpoint) -> Result<Engine> {
        self.load_slots(checkpoint, 1)
    }

    /// [`ModelArgs::load`] for so many conversations at once.
    pub fn load_slots(&self, checkpoint: Checkpoint, slots: usize) -> Result<Engine> {
        let options = EngineOptions { slots, ..self.options() };
        let gpu = self.device.open(self.verbose)?;
        let started = std::time::Instant::now();
        if matches!(self.kernels.tune, TuneChoice::Auto) {
            eprintln!("kernels are measured on this adapter, unless they were before");
        }
        say_plan(&gpu, &checkpoint, options, self.verbose)?;
        let mut bar = LoadBar::new();
        let label = checkpoint.label().to_owned();
        let engine = Engine::load(&gpu, checkpoint, options, &mut |progress| bar.show(progress))?;
        bar.finish();
        keep_pipelines(&gpu, self.verbose);
        if self.verbose {
            let (seconds, bytes) = (started.elapsed().as_secs_f64(), gpu.allocated_bytes());
            eprintln!("loaded {label} in {seconds:.2} s, {:.1} MB on the device", bytes as f64 / 1e6);
        }
        Ok(engine)
    }
}

/// Says what is not as it was asked for; with `verbose`, what a model is going to take, and what there is.
pub fn say_plan(gpu: &Gpu, checkpoint: &Checkpoint, options: EngineOptions, verbose: bool) -> Result<()> {
    options.check()?;
    let tensors = checkpoint.tensors()?;
    let plan = MemoryPlan::of(checkpoint.config(), &tensors, options, gpu.caps().span_limit());
    rare(&tensors).iter().for_each(|line| eprintln!("{line}"));
    if let Some(line) = instead(&tensors, options.weights) {
        eprintln!("{line}");
    }
    if plan.embeddings != options.embeddings {
        eprintln!("--embeddings host: the table of embeddings is the head as well, and stays on the device");
    }
    if !verbose {
        return Ok(());
    }
    let room =
        Room::of(gpu, &options).map_or_else(|| "how much is free is not known".to_owned(), |room| room.to_string());
    eprintln!("the model takes {plan}; {room}");
    Ok(())
}

/// What the types that the device does not have become on it.
pub fn rare(tensors: &ModelTensors<'_>) -> Vec<String> {
    let become_another = |tensor: &Tensor<'_>| match &tensor.encoding {
        Encoding::Rare(block) => {
            let held = tensor.held_as();
            let loss = if block.becomes(held) { "without loss" } else { "rounded" };
            Some(format!("{} becomes {held}, {loss}", tensor.stored_as()))
        }
        _ => None,
    };
    let mut said: Vec<String> = tensors.matrices().filter_map(become_another).collect();
    said.sort();
    said.dedup();
    said
}

/// What matrices get instead of the format that was asked for, where most of the model does.
fn instead(tensors: &ModelTensors<'_>, recipe: Recipe) -> Option<String> {
    let Recipe::To(asked) = recipe else { return None };
    let mut formats: BTreeMap<&str, usize> = BTreeMap::new();
    for (role, tensor) in tensors.roles() {
        let format = recipe.format(role, tensor.held_as(), tensor.columns());
        *formats.entry(format.name()).or_default() += tensor.rows() * tensor.columns();
    }
    let all: usize = formats.values().sum();
    let got = formats.remove(asked.name()).unwrap_or(0);
    let others: Vec<&str> = formats.into_keys().collect();
    (2 * got < all).then(|| {
        format!(
            "{asked} has blocks of {} values, which few rows of this model are made of: it gets {}",
            asked.block_values(),
            others.join(" and ")
        )
    })
}

/// Loads a model without an engine around it, with a bar on a terminal.
pub fn load_forward(gpu: &Gpu, checkpoint: &Checkpoint, options: EngineOptions, verbose: bool) -> Result<Forward> {
    say_plan(gpu, checkpoint, options, verbose)?;
    let mut bar = LoadBar::new();
    let tensors = checkpoint.tensors()?;
    let forward = Forward::load(gpu, checkpoint.config(), &tensors, options, &mut |progress| bar.show(progress))?;
    bar.finish();
    Ok(forward)
}

/// Bytes, rate and time left of a load, on a terminal.
pub struct LoadBar(Option<ProgressBar>);

impl LoadBar {
    pub fn new() -> Self {
        Self::of("loading")
    }

    /// Of other work than loading.
    pub fn of(work: &'static str) -> Self {
        LoadBar(std::io::stderr().is_terminal().then(|| {
            let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is sound");
            ProgressBar::new(0).with_style(style).with_message(work)
        }))
    }

    pub fn show(&mut self, progress: Progress) {
        if let Some(bar) = &self.0 {
            if bar.length() != Some(progress.total) {
                bar.set_length(progress.total);
            }
            bar.set_position(progress.done);
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
