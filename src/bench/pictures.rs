//! Vision Mamba beside a vision transformer of the same widths: pictures per second and device memory at each resolution.

mod report;

use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::{AdapterInfo, Gpu, Totals};
use crate::kernels::case::Random;
use crate::kernels::linear::Math;
use crate::kernels::variants::{Sizes, Variants};
use crate::model::{Attention, Bytes, Deit, DeitForward, DeitWeights, PictureBatch, Vim, VimForward, VimWeights};
use std::sync::Arc;
use std::time::Instant;

/// A model of pictures, with made-up weights.
#[derive(Debug, Clone, PartialEq)]
pub enum PictureModel {
    /// A Vision Mamba.
    Vim(Vim),
    /// A DeiT with one kind of attention.
    Deit(Deit, Attention),
}

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Height and width of a picture.
    pub image: [usize; 2],
    /// Pictures.
    pub batch: usize,
}

/// What to measure: each model at each resolution with each batch.
#[derive(Debug, Clone)]
pub struct PictureOptions {
    /// The models, with their names.
    pub models: Vec<(String, PictureModel)>,
    /// Sides of square pictures.
    pub sides: Vec<usize>,
    /// Pictures of a batch.
    pub batches: Vec<usize>,
    /// Format of the weights.
    pub format: WeightFormat,
    /// Runs of each; 0: only the memory plans.
    pub repetitions: usize,
    /// Runs each once before, because kernels are compiled on first use.
    pub warmup: bool,
    /// The commit of this build; empty if unknown.
    pub commit: String,
}

/// Times of the runs of a batch.
#[derive(Debug, Clone)]
pub struct PictureTimes {
    /// Seconds of each run, from the upload of the pixels to the logits on the host.
    pub seconds: Vec<f64>,
    /// Bytes of all buffers on the device during the runs.
    pub allocated: u64,
    /// Dispatches, work and traffic of a run.
    pub totals: Totals,
}

impl PictureTimes {
    /// Seconds of the fastest run.
    pub fn best(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Mean seconds of a run.
    pub fn mean(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len() as f64
    }
}

/// A model at a size.
#[derive(Debug, Clone)]
pub struct PictureRow {
    /// The model's name.
    pub model: String,
    /// The size.
    pub size: PictureSize,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Bytes of the weights on the device.
    pub weight_bytes: u64,
    /// Bytes on the device as planned, weights included, whether or not it runs.
    pub planned: u64,
    /// `None` if it was not run.
    pub times: Option<PictureTimes>,
    /// Why it does not run on this adapter.
    pub refused: Option<String>,
}

/// All results.
#[derive(Debug, Clone)]
pub struct PictureReport {
    /// The adapter.
    pub adapter: AdapterInfo,
    /// Format of the weights.
    pub format: WeightFormat,
    /// Form of the products.
    pub variants: String,
    /// The commit of this build; empty if unknown.
    pub commit: String,
    /// The rows.
    pub rows: Vec<PictureRow>,
}

impl PictureModel {
    /// A Vision Mamba by its published name, and a DeiT of the same width with either kind of attention, with their names.
    pub fn beside(name: &str) -> Option<Vec<(String, PictureModel)>> {
        let vim = Vim::named(name)?;
        let mut models = vec![(name.to_owned(), PictureModel::Vim(vim))];
        let peer = name.trim_end_matches("-s8").replace("vim-", "deit-");
        if let Some(deit) = Deit::named(&peer) {
            let of = |attention| (format!("{peer} {attention}"), PictureModel::Deit(deit, attention));
            models.extend(Attention::ALL.map(of));
        }
        Some(models)
    }

    /// Tokens of a picture.
    fn tokens(&self, image: [usize; 2]) -> usize {
        match self {
            PictureModel::Vim(vim) => vim.patches(image).tokens(),
            PictureModel::Deit(deit, _) => deit.patches(image).tokens(),
        }
    }

    fn weight_bytes(&self, format: WeightFormat) -> u64 {
        match self {
            PictureModel::Vim(vim) => vim.made_up_bytes(format),
            PictureModel::Deit(deit, _) => deit.weight_bytes(format),
        }
    }

    /// Bytes on the device for a batch, and the error if the adapter cannot run it, whatever is free.
    fn planned(&self, gpu: &Gpu, format: WeightFormat, size: PictureSize) -> (u64, Result<()>) {
        let weights = self.weight_bytes(format);
        let PictureSize { image, batch: pictures } = size;
        match self {
            PictureModel::Vim(vim) => {
                let runs = vim.memory(gpu, weights, (image, pictures), None).map(drop);
                (weights + vim.activation_bytes(gpu.caps(), image, pictures), runs)
            }
            PictureModel::Deit(deit, attention) => {
                let batch = PictureBatch { image, pictures, attention: *attention };
                (weights + deit.activation_bytes(&batch), deit.check(gpu.caps(), &batch))
            }
        }
    }
}

/// Whether an error means that this model does not fit at this size, so that others may.
fn does_not_fit(error: &Error) -> bool {
    matches!(
        error,
        Error::DoesNotFit { .. }
            | Error::OutOfMemory { .. }
            | Error::RowTooLarge { .. }
            | Error::ScoresTooLarge { .. }
            | Error::TooManyGroups { .. }
    )
}

/// A model ready for batches of one size.
enum Ready {
    Vim(Box<VimForward>),
    Deit(Box<DeitForward>),
}

impl Ready {
    fn new(
        gpu: &Gpu,
        model: &PictureModel,
        (format, size): (WeightFormat, PictureSize),
        variants: &Variants,
    ) -> Result<Self> {
        let PictureSize { image, batch: pictures } = size;
        Ok(match model {
            PictureModel::Vim(vim) => {
                let weights = Arc::new(VimWeights::made_up(gpu, vim, format)?);
                Ready::Vim(Box::new(VimForward::new(gpu, vim, weights, (image, pictures), variants)?))
            }
            PictureModel::Deit(deit, attention) => {
                let weights = DeitWeights::made_up(gpu, deit, format)?;
                let batch = PictureBatch { image, pictures, attention: *attention };
                Ready::Deit(Box::new(DeitForward::new(gpu, deit, weights, batch, variants)?))
            }
        })
    }

    /// Seconds from the upload of the pixels to the logits on the host.
    fn run(&self, pixels: &[f32]) -> Result<f64> {
        let started = Instant::now();
        let logits = match self {
            Ready::Vim(vim) => {
                let count = vim.run(pixels)?;
                pollster::block_on(vim.logits(count))?
            }
            Ready::Deit(deit) => {
                deit.run(pixels)?;
                pollster::block_on(deit.logits())?
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        if logits.iter().any(|v| !v.is_finite()) {
            return Err(Error::NotFinite { position: 0 });
        }
        Ok(seconds)
    }

    fn totals(&self, batch: usize) -> Totals {
        match self {
            Ready::Vim(vim) => vim.totals(batch),
            Ready::Deit(deit) => deit.totals(),
        }
    }
}

/// Runs every model at every size, one at a time. `begin` is called with the name of each before it starts. What does not fit is a
/// row that says why.
pub fn pictures(gpu: &Gpu, options: &PictureOptions, begin: &mut dyn FnMut(&str)) -> Result<PictureReport> {
    let mut variants: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for (name, model) in &options.models {
        let sizes = match model {
            PictureModel::Vim(vim) => vim.kernel_sizes(),
            // Its products take the form of any model's; it has no scan.
            PictureModel::Deit(deit, _) => {
                Sizes { matrices: vec![], by_groups: true, channels: deit.hidden, states: 1 }
            }
        };
        let form = pollster::block_on(Variants::tried(gpu, Math::Exact, &sizes))?;
        if let PictureModel::Vim(_) = model {
            variants.push(form.to_string());
        }
        for side in &options.sides {
            for batch in &options.batches {
                begin(&format!("{name}, {batch} of {side}x{side}"));
                let size = PictureSize { image: [*side; 2], batch: *batch };
                rows.push(row(gpu, options, (name, model), size, &form)?);
            }
        }
    }
    let (adapter, commit) = (gpu.info().clone(), options.commit.clone());
    Ok(PictureReport { adapter, format: options.format, variants: variants.join(" · "), commit, rows })
}

fn row(
    gpu: &Gpu,
    options: &PictureOptions,
    (name, model): (&str, &PictureModel),
    size: PictureSize,
    variants: &Variants,
) -> Result<PictureRow> {
    let mut row = PictureRow {
        model: name.to_owned(),
        size,
        tokens: model.tokens(size.image),
        weight_bytes: model.weight_bytes(options.format),
        planned: 0,
        times: None,
        refused: None,
    };
    let (planned, runs) = model.planned(gpu, options.format, size);
    match runs {
        Err(error) if does_not_fit(&error) => row.refused = Some(error.to_string()),
        runs => runs?,
    }
    row.planned = planned;
    if row.refused.is_some() || options.repetitions == 0 {
        return Ok(row);
    }
    if let Some(free) = gpu.free_memory().map(|free| free.bytes()).filter(|free| planned > *free) {
        row.refused = Some(format!("it takes {}, {} are free", Bytes(planned), Bytes(free)));
        return Ok(row);
    }
    match times(gpu, options, model, size, variants) {
        Ok(times) => row.times = Some(times),
        Err(error) if does_not_fit(&error) => row.refused = Some(error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(row)
}

fn times(
    gpu: &Gpu,
    options: &PictureOptions,
    model: &PictureModel,
    size: PictureSize,
    variants: &Variants,
) -> Result<PictureTimes> {
    let before = gpu.allocated_bytes();
    let ready = Ready::new(gpu, model, (options.format, size), variants)?;
    let allocated = gpu.allocated_bytes() - before;
    let values = 3 * size.batch * size.image[0] * size.image[1];
    let pixels = Random::new(5).uniforms(values, -2.0, 2.0);
    if options.warmup {
        ready.run(&pixels)?;
    }
    let seconds = (0..options.repetitions).map(|_| ready.run(&pixels)).collect::<Result<_>>()?;
    Ok(PictureTimes { seconds, allocated, totals: ready.totals(size.batch) })
}
