//! Pictures: the model, the pictures to read, and the commands for them.

mod classify;
mod features;
mod inspect;
pub mod pictures;

pub use classify::Classify;
pub use features::WriteFeatures;
pub use inspect::inspect;

use super::byte_size::parse_bytes;
use super::hub::HubArgs;
use super::model::{DeviceArgs, LoadBar, MathChoice, save_pipelines};
use super::weight_format::FormatArg;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::Result;
use peregrine::gpu::Gpu;
use peregrine::model::Recipe;
use peregrine::vision::{VisionCheckpoint, VisionModel, VisionOptions};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Model, device, and how pictures are run.
#[derive(Args)]
pub struct VisionArgs {
    /// A folder with config.json and .safetensors or .pth files, or such a file [default: the built-in vim-digits]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Maximum pictures at a time [default: as many as suit the device, up to 32]
    #[arg(short, long, value_name = "N")]
    batch: Option<usize>,
    /// Arithmetic of matrix products: exact (f32), or fast, which rounds activations to f16 on cooperative matrices
    #[arg(long, value_name = "CLASS", default_value = "exact")]
    math: MathChoice,
    /// Matrix format on the device: f32, f16, bf16, q8_0, q4_0, q4_K, q5_K, q6_K, nf4, fp4 or int8 [default: as stored]
    #[arg(short, long, value_name = "FORMAT", value_parser = FormatArg::parse)]
    weights: Option<FormatArg>,
    /// Device memory budget, such as 2G or 500MB [default: what the driver reports as free, if it does]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Print more on stderr: device, memory and load time
    #[arg(short, long)]
    pub verbose: bool,
}

impl VisionArgs {
    fn options(&self) -> VisionOptions {
        let weights = self.weights.as_ref().map_or(Recipe::AsStored, |named| Recipe::To(named.format));
        VisionOptions::default().batch(self.batch).math(self.math.math()).weights(weights).memory(self.memory)
    }

    /// Loads the model, with a progress bar on a terminal.
    pub fn load(&self) -> anyhow::Result<VisionModel> {
        let checkpoint = open(self.hub.locate(self.model.as_deref())?.as_deref())?;
        self.weights.iter().for_each(FormatArg::report);
        let gpu = self.device.open(self.verbose)?;
        Ok(load(&gpu, checkpoint, self.options(), self.verbose)?)
    }
}

/// Opens a model, or the built-in one.
pub fn open(model: Option<&Path>) -> Result<VisionCheckpoint> {
    model.map_or_else(VisionCheckpoint::embedded, VisionCheckpoint::open)
}

/// Loads a model, with a progress bar on a terminal.
pub fn load(gpu: &Gpu, checkpoint: VisionCheckpoint, options: VisionOptions, verbose: bool) -> Result<VisionModel> {
    let started = std::time::Instant::now();
    let mut bar = LoadBar::new();
    let model = VisionModel::load(gpu, checkpoint, options, &mut |progress| bar.show(progress))?;
    bar.finish();
    save_pipelines(gpu, verbose);
    if verbose {
        let plan = model.memory(model.vim().image, options.batch.unwrap_or(1))?;
        let (label, seconds) = (model.checkpoint().label(), started.elapsed().as_secs_f64());
        eprintln!("loaded {label} in {seconds:.2} s; it needs {plan}");
    }
    Ok(model)
}

/// A bar of pictures, on a terminal.
fn bar(length: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:30} {pos}/{len} pictures, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("the template is valid");
    ProgressBar::new(length as u64).with_style(style)
}
