//! Command line arguments for the model, the device and the kernels, and loading by them.

use super::byte_size::parse_bytes;
use super::hub::HubArgs;
use super::llama_flags::LlamaFlags;
use super::shader_override::report_shader_override;
use super::weight_format::FormatArg;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::format::{Encoding, Tensor, WeightFormat};
use peregrine::gpu::{AdapterChoice, Gpu, cache_dir};
use peregrine::kernels::linear::Math;
use peregrine::model::{AUTOMATIC, Embeddings, Forward, MemoryPlan, ModelTensors, Progress, Recipe, Room, Tune};
use peregrine::runtime::{Checkpoint, Engine, EngineOptions};
use peregrine::text::Tokenizer;
use peregrine::{Error, Result};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Model, device, and prompt chunking.
#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    chunk: ChunkArgs,
    #[command(flatten)]
    pub kernels: KernelArgs,
    /// Print more on stderr: device, memory, load time and statistics
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    llama_flags: LlamaFlags,
}

/// The size of prefill steps.
#[derive(Args)]
pub struct ChunkArgs {
    /// Maximum prompt tokens per step (llama.cpp's -ub) [default: 2048 on a discrete GPU with room for them, else 512]
    #[arg(long, alias = "ubatch-size", value_name = "N", value_parser = chunk)]
    chunk: Option<usize>,
}

/// Tokens of a chunk. The largest number is checked with the other options.
fn chunk(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("chunk is 0: it must be from 1 to 8192".to_owned()),
        Ok(tokens) => Ok(tokens),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

/// The model, and overrides for what its files say.
#[derive(Args)]
pub struct CheckpointArgs {
    /// A .gguf file, or a folder with config.json, tokenizer.json and .safetensors files [default: the built-in tiny-chat]
    #[arg(short, long, value_name = "MODEL", env = "PEREGRINE_MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    pub hub: HubArgs,
    /// Use this tokenizer.json instead of the model's
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Epsilon of Falcon Mamba's norms on dt, B and C. GGUF files do not store it; then the default is 1e-6, as in
    /// falcon-mamba-7b (llama.cpp uses 1e-5)
    #[arg(long, value_name = "EPS")]
    mixer_rms_eps: Option<f32>,
}

impl CheckpointArgs {
    /// Where the model is; a model of the hub is fetched. `None` for the built-in one.
    pub fn locate(&self) -> anyhow::Result<Option<PathBuf>> {
        self.hub.locate(self.model.as_deref())
    }

    /// Opens the checkpoint at a path of [`CheckpointArgs::locate`]: reads its small files and maps its weights.
    pub fn open(&self, path: Option<&Path>) -> Result<Checkpoint> {
        let mut checkpoint = match path {
            Some(path) => Checkpoint::open(path)?,
            None => Checkpoint::embedded()?,
        };
        let unknown = &checkpoint.unused_keys().unknown;
        if !unknown.is_empty() {
            eprintln!("{}: ignoring unknown keys: {}", checkpoint.label(), unknown.join(", "));
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

/// Kernel selection, weight format and device memory.
#[derive(Args)]
pub struct KernelArgs {
    /// Arithmetic of matrix products: exact (f32), or fast, which rounds activations: to int8 in decode (with q4_0, q4_K, q5_K,
    /// q6_K, q8_0 and int8 weights) and to f16 in prefill on cooperative matrices
    #[arg(long, value_name = "CLASS", default_value = "exact")]
    math: MathChoice,
    /// Kernel variants: off for portable ones, static to choose by adapter type, auto to measure once on this adapter and cache
    /// the result
    #[arg(long, value_name = "HOW", default_value = "static")]
    tune: TuneChoice,
    /// Matrix format on the device: f32, f16, bf16, q8_0, q4_0, q4_K, q5_K, q6_K, nf4, fp4, int8, or a llama.cpp name of the
    /// same bit width, such as Q4_K_M [default: as stored]
    #[arg(short, long, value_name = "FORMAT", value_parser = FormatArg::parse)]
    weights: Option<FormatArg>,
    /// Device memory budget of the model, such as 8G, 6.5GiB or 8GB (G and GiB are 1024^3) [default: what the driver reports
    /// as free, if it does]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Memory that holds the embedding table: `host` saves device memory, but is slower, as no step can run ahead
    #[arg(long, value_name = "WHERE", default_value = "device")]
    embeddings: EmbeddingsChoice,
    /// Segments per full chunk in the scan; 0 chooses by adapter and model
    #[arg(long, value_name = "N", default_value_t = 1, hide = true)]
    segments: usize,
}

/// A class of arithmetic.
#[derive(Clone, Copy, ValueEnum)]
pub enum MathChoice {
    Exact,
    Fast,
}

impl MathChoice {
    pub fn math(self) -> Math {
        match self {
            MathChoice::Exact => Math::Exact,
            MathChoice::Fast => Math::Fast,
        }
    }
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
    /// The requested weight format.
    pub fn weights(&self) -> Option<WeightFormat> {
        self.weights.as_ref().map(|named| named.format)
    }

    /// Prints which format a llama.cpp name was mapped to.
    pub fn report(&self) {
        self.weights.iter().for_each(FormatArg::report);
    }

    /// Engine options for one slot.
    pub fn options(&self, chunk: &ChunkArgs) -> EngineOptions {
        EngineOptions::default()
            .slots(1)
            .chunk(chunk.chunk.unwrap_or(AUTOMATIC))
            .segments(self.segments)
            .weights(self.weights().map_or(Recipe::AsStored, Recipe::To))
            .memory(self.memory)
            .embeddings(match self.embeddings {
                EmbeddingsChoice::Device => Embeddings::Device,
                EmbeddingsChoice::Host => Embeddings::Host,
            })
            .math(self.math.math())
            .tune(match self.tune {
                TuneChoice::Off => Tune::Off,
                TuneChoice::Static => Tune::Static,
                TuneChoice::Auto => Tune::Auto,
            })
    }
}

/// Device selection.
#[derive(Args)]
pub struct DeviceArgs {
    /// Adapter index or part of its name, such as 4090; see `peregrine devices` [default: the best adapter]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
}

/// Caches compiled pipelines for the next start. A failure only makes that start slower, so it is printed with `verbose` only.
pub fn save_pipelines(gpu: &Gpu, verbose: bool) {
    if let (Err(error), true) = (gpu.save_pipelines(), verbose) {
        eprintln!("cannot cache compiled pipelines: {error}");
    }
}

impl DeviceArgs {
    /// Opens the device. Falls back to a CPU adapter with a note.
    pub fn open(&self, verbose: bool) -> Result<Gpu> {
        let choice = self.device.as_deref().map_or(AdapterChoice::Best, AdapterChoice::parse);
        let gpu = Gpu::open(&choice)?;
        report_shader_override(gpu.caps());
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
    /// Where the model is; a model of the hub is fetched. `None` for the built-in one. Prints notes about llama.cpp flags and
    /// format names.
    pub fn locate(&self) -> anyhow::Result<Option<PathBuf>> {
        self.llama_flags.report()?;
        self.kernels.report();
        self.checkpoint.locate()
    }

    /// [`ModelArgs::locate`], and opens the checkpoint: reads its small files and maps its weights.
    pub fn checkpoint(&self) -> anyhow::Result<Checkpoint> {
        Ok(self.checkpoint.open(self.locate()?.as_deref())?)
    }

    /// Engine options for one slot.
    pub fn options(&self) -> EngineOptions {
        self.kernels.options(&self.chunk)
    }

    /// Loads the model with one slot, with a progress bar on a terminal.
    pub fn load(&self, checkpoint: Checkpoint) -> Result<Engine> {
        self.load_slots(checkpoint, 1)
    }

    /// Loads the model with `slots` slots, with a progress bar on a terminal.
    pub fn load_slots(&self, checkpoint: Checkpoint, slots: usize) -> Result<Engine> {
        let options = self.options().slots(slots);
        let gpu = self.device.open(self.verbose)?;
        let started = std::time::Instant::now();
        if matches!(self.kernels.tune, TuneChoice::Auto) {
            eprintln!("tuning kernels on this adapter, unless the result is cached");
        }
        report_plan(&gpu, &checkpoint, options, self.verbose)?;
        let mut bar = LoadBar::new();
        let label = checkpoint.label().to_owned();
        let engine = Engine::load(&gpu, checkpoint, options, &mut |progress| bar.show(progress))?;
        bar.finish();
        report_notes(&gpu);
        save_pipelines(&gpu, self.verbose);
        if self.verbose {
            let (seconds, bytes) = (started.elapsed().as_secs_f64(), gpu.allocated_bytes());
            eprintln!("loaded {label} in {seconds:.2} s, {:.1} MB on the device", bytes as f64 / 1e6);
        }
        Ok(engine)
    }
}

/// Prints what the device has to say, such as kernels that are wrong on its driver.
pub fn report_notes(gpu: &Gpu) {
    gpu.take_notes().iter().for_each(|note| eprintln!("{note}"));
}

/// Prints notes about formats that differ from the requested ones and, with `verbose`, the memory plan and the free memory.
pub fn report_plan(gpu: &Gpu, checkpoint: &Checkpoint, options: EngineOptions, verbose: bool) -> Result<()> {
    options.check()?;
    let tensors = checkpoint.tensors()?;
    let options = options.settled(gpu, checkpoint.config(), &tensors);
    let plan = MemoryPlan::of(checkpoint.config(), &tensors, options, gpu.caps().span_limit());
    converted_types(&tensors).iter().for_each(|line| eprintln!("{line}"));
    if let Some(line) = block_mismatch(&tensors, options.weights) {
        eprintln!("{line}");
    }
    if plan.embeddings != options.embeddings {
        eprintln!("--embeddings host: the embedding table is tied to the head and stays on the device");
    }
    if !verbose {
        return Ok(());
    }
    let room = Room::of(gpu, &options).map_or_else(|| "free memory is unknown".to_owned(), |room| room.to_string());
    eprintln!("the model needs {plan}, for chunks of {} tokens; {room}", plan.chunk);
    Ok(())
}

/// A line for each stored type that is converted on loading, because the device has no kernels for it.
pub fn converted_types(tensors: &ModelTensors<'_>) -> Vec<String> {
    let conversion = |tensor: &Tensor<'_>| match &tensor.encoding {
        Encoding::Rare(block) => {
            let held = tensor.held_as();
            let loss = if block.converts_to(held) { "without loss" } else { "rounded" };
            Some(format!("{} is converted to {held}, {loss}", tensor.stored_as()))
        }
        _ => None,
    };
    let mut said: Vec<String> = tensors.matrices().filter_map(conversion).collect();
    said.sort();
    said.dedup();
    said
}

/// A line that names the formats used instead of the requested one, if its blocks fit less than half of the weights.
fn block_mismatch(tensors: &ModelTensors<'_>, recipe: Recipe) -> Option<String> {
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
            "{asked} has blocks of {} values, which most rows of this model do not divide into: using {}",
            asked.block_values(),
            others.join(" and ")
        )
    })
}

/// Loads a model without an engine, with a progress bar on a terminal.
pub fn load_forward(gpu: &Gpu, checkpoint: &Checkpoint, options: EngineOptions, verbose: bool) -> Result<Forward> {
    report_plan(gpu, checkpoint, options, verbose)?;
    let mut bar = LoadBar::new();
    let tensors = checkpoint.tensors()?;
    let forward = Forward::load(gpu, checkpoint.config(), &tensors, options, &mut |progress| bar.show(progress))?;
    bar.finish();
    report_notes(gpu);
    Ok(forward)
}

/// A progress bar with bytes, rate and time left, on a terminal.
pub struct LoadBar(Option<ProgressBar>);

impl LoadBar {
    pub fn new() -> Self {
        Self::of("loading")
    }

    /// A bar labelled `work` instead of "loading".
    pub fn of(work: &'static str) -> Self {
        LoadBar(std::io::stderr().is_terminal().then(|| {
            let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is valid");
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
