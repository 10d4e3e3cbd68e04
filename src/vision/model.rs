//! A Vision Mamba on a device: classes and features of pictures, batch by batch.

use super::features::transposed;
use super::{FeatureMap, FeatureOptions, Features, Picture, Pixels, VisionCheckpoint};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::linear::Math;
use crate::kernels::variants::Variants;
use crate::model::{Progress, Recipe, Vim, VimForward, VimMemory, VimWeights};
use crate::runtime::CancelHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of activations that a batch may take where its size is not given: enough to fill a large GPU.
const BATCH_BYTES: u64 = 1 << 30;

/// Most pictures of a batch where its size is not given.
const BATCH: usize = 32;

/// How a Vision Mamba is loaded and run.
///
/// ```
/// # use peregrine::vision::VisionOptions;
/// let options = VisionOptions::default().batch(8);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisionOptions {
    /// Most pictures at once. Without it: as many as take a gigabyte of activations, at most 32.
    pub batch: Option<usize>,
    /// Class of arithmetic.
    pub math: Math,
    /// The format of each matrix.
    pub weights: Recipe,
    /// Most bytes of device memory that the model may take. Without it: what the device reports as free; if that is unknown, no
    /// limit.
    pub memory: Option<u64>,
}

impl VisionOptions {
    /// Sets [`VisionOptions::batch`].
    pub fn batch(self, batch: impl Into<Option<usize>>) -> Self {
        VisionOptions { batch: batch.into(), ..self }
    }

    /// Sets [`VisionOptions::math`].
    pub fn math(self, math: Math) -> Self {
        VisionOptions { math, ..self }
    }

    /// Sets [`VisionOptions::weights`].
    pub fn weights(self, weights: Recipe) -> Self {
        VisionOptions { weights, ..self }
    }

    /// Sets [`VisionOptions::memory`].
    pub fn memory(self, memory: impl Into<Option<u64>>) -> Self {
        VisionOptions { memory: memory.into(), ..self }
    }
}

/// A class of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Its row of the head.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its logit.
    pub logit: f32,
    /// Its probability: the softmax of all logits.
    pub probability: f32,
}

/// A Vision Mamba on a device.
///
/// ```no_run
/// use peregrine::vision::{FeatureOptions, Picture, VisionCheckpoint, VisionModel, VisionOptions};
/// use peregrine::{AdapterChoice, Gpu};
///
/// # fn main() -> peregrine::Result<()> {
/// let gpu = Gpu::open(&AdapterChoice::Best)?;
/// let checkpoint = VisionCheckpoint::open("models/vim-digits")?;
/// let mut model = VisionModel::load(&gpu, checkpoint, VisionOptions::default(), &mut |_| {})?;
/// let pictures = [Picture::open("models/vim-digits/samples/04-2.png")?];
/// for classes in model.classify(&pictures, 3, &mut |done| eprintln!("{done} of {}", pictures.len()))? {
///     println!("{} {:.1} %", classes[0].name, 100.0 * classes[0].probability);
/// }
/// let features = model.features(&pictures, &FeatureOptions::default(), &mut |_| {})?;
/// println!("{} values", features[0].class_token.len());
/// # Ok(())
/// # }
/// ```
pub struct VisionModel {
    gpu: Gpu,
    checkpoint: VisionCheckpoint,
    options: VisionOptions,
    variants: Variants,
    weights: Arc<VimWeights>,
    weight_bytes: u64,
    /// Bytes that the model may take.
    room: Option<u64>,
    /// The plans of the last resolution.
    forward: Option<VimForward>,
    cancel: CancelHandle,
}

impl VisionModel {
    /// Uploads a checkpoint's weights; `progress` is called after each piece. A model that is known not to fit is refused before
    /// anything is uploaded: [`Error::DoesNotFit`].
    pub async fn load_async(
        gpu: &Gpu,
        checkpoint: VisionCheckpoint,
        options: VisionOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        if options.batch == Some(0) {
            let problem = "it must be at least 1";
            return Err(Error::BadSetting { name: "batch", value: "0".to_owned(), problem });
        }
        let room = options.memory.or_else(|| gpu.free_memory().map(|free| free.bytes()));
        let vim = checkpoint.vim();
        let tensors = checkpoint.tensors()?;
        let weight_bytes = vim.weight_bytes(&tensors, options.weights);
        vim.memory(gpu, weight_bytes, (vim.image, options.batch.unwrap_or(1)), room)?;
        let weights = Arc::new(VimWeights::load(gpu, &tensors, options.weights, progress)?);
        let variants = Variants::tried(gpu, options.math, &vim.kernel_sizes()).await?;
        drop(tensors);
        Ok(VisionModel {
            gpu: gpu.clone(),
            checkpoint,
            options,
            variants,
            weights,
            weight_bytes,
            room,
            forward: None,
            cancel: CancelHandle::default(),
        })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &VisionCheckpoint {
        &self.checkpoint
    }

    /// Its sizes.
    pub fn vim(&self) -> &Vim {
        self.checkpoint.vim()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The formats of its matrices, joined by `+`.
    pub fn formats(&self) -> String {
        self.weights.formats()
    }

    /// Ends a call from another thread: it returns [`Error::Cancelled`] after its batch in progress.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// The `top` most probable classes of each picture, best first. `progress` gets the number of pictures that are done.
    pub async fn classify_async(
        &mut self,
        pictures: &[Picture],
        top: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<Class>>> {
        let logits = self.logits_async(pictures, progress).await?;
        Ok(logits.iter().map(|logits| self.best(logits, top)).collect())
    }

    /// Logits `[classes]` of each picture.
    pub async fn logits_async(
        &mut self,
        pictures: &[Picture],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>> {
        let vim = self.checkpoint.vim();
        let (classes, image) = (vim.classes, vim.image);
        if classes == 0 {
            return Err(Error::Unsupported {
                file: self.checkpoint.label().to_owned(),
                what: "classifying with a model without a head".to_owned(),
                hint: "features still work".to_owned(),
            });
        }
        let cancelled = self.cancel.begin();
        let batch = self.batch(image, pictures.len())?;
        let mut all = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(batch) {
            self.go_on(&cancelled)?;
            let pixels = self.prepared(pictures, None)?;
            let forward = self.forward(image, batch)?;
            let count = forward.run(&pixels)?;
            all.extend(forward.logits(count).await?.chunks_exact(classes).map(<[f32]>::to_vec));
            progress(all.len());
        }
        Ok(all)
    }

    /// Features of each picture. `progress` gets the number of pictures that are done.
    pub async fn features_async(
        &mut self,
        pictures: &[Picture],
        wanted: &FeatureOptions,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Features>> {
        let (layers, hidden) = (self.checkpoint.vim().layers, self.checkpoint.vim().hidden);
        if let Some(layer) = wanted.layers.iter().find(|layer| **layer >= layers) {
            let problem = "the model has not so many layers; the first is 0";
            return Err(Error::BadSetting { name: "layers", value: layer.to_string(), problem });
        }
        let image = wanted.image.unwrap_or(self.checkpoint.vim().image);
        let cancelled = self.cancel.begin();
        let batch = self.batch(image, pictures.len())?;
        let mut all: Vec<Features> = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(batch) {
            self.go_on(&cancelled)?;
            let pixels = self.prepared(pictures, wanted.image)?;
            let cut = self.checkpoint.vim().patches(image);
            let maps = |rows: &[f32]| -> Vec<FeatureMap> {
                let [width, height] = cut.across_and_down();
                let of_picture = |rows: &[f32]| FeatureMap {
                    channels: hidden,
                    height,
                    width,
                    values: transposed(rows, hidden, cut.class_at),
                };
                rows.chunks_exact(cut.tokens() * hidden).map(of_picture).collect()
            };
            let forward = self.forward(image, batch)?;
            let mut of_layers: Vec<Option<Vec<FeatureMap>>> = vec![None; wanted.layers.len()];
            let count = if wanted.layers.is_empty() {
                forward.run(&pixels)?
            } else {
                let is_wanted =
                    |layer: Option<usize>, name: &str| name == "x" && layer.is_some_and(|i| wanted.layers.contains(&i));
                let see = |tap: crate::model::VimTap<'_>| {
                    let same = wanted.layers.iter().zip(&mut of_layers).filter(|(layer, _)| Some(**layer) == tap.layer);
                    same.for_each(|(_, place)| *place = Some(maps(tap.values)));
                };
                forward.run_tapped(&pixels, is_wanted, see).await?
            };
            let tokens = forward.features(count).await?;
            let last = if wanted.map { Some(maps(&forward.dense(count).await?)) } else { None };
            for (i, token) in tokens.chunks_exact(hidden).enumerate() {
                let of_layers = of_layers.iter().flatten().map(|maps| maps[i].clone());
                all.push(Features {
                    class_token: token.to_vec(),
                    map: last.as_ref().map(|maps| maps[i].clone()),
                    layers: of_layers.collect(),
                });
            }
            progress(all.len());
        }
        Ok(all)
    }

    /// The memory plan of a batch of this many pictures of a height and width.
    pub fn memory(&self, image: [usize; 2], batch: usize) -> Result<VimMemory> {
        self.checkpoint.vim().memory(&self.gpu, self.weight_bytes, (image, batch), self.room)
    }

    fn go_on(&self, cancelled: &AtomicBool) -> Result<()> {
        if cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Pictures of a batch: as asked for, else as many as suit the device.
    fn batch(&self, image: [usize; 2], pictures: usize) -> Result<usize> {
        let vim = self.checkpoint.vim();
        let Some(asked) = self.options.batch else {
            self.memory(image, 1)?;
            let caps = self.gpu.caps();
            let suits = |batch: &usize| {
                vim.activation_bytes(caps, image, *batch) <= BATCH_BYTES
                    && vim.fits(caps, self.weight_bytes, (image, *batch), self.room)
            };
            return Ok((2..=pictures.clamp(1, BATCH)).rev().find(suits).unwrap_or(1));
        };
        let batch = asked.min(pictures.max(1));
        self.memory(image, batch)?;
        Ok(batch)
    }

    /// The plans for a resolution and batch; those of the last call are kept.
    fn forward(&mut self, image: [usize; 2], most: usize) -> Result<&VimForward> {
        if self.forward.as_ref().is_none_or(|forward| forward.image() != image || forward.most() < most) {
            // Freed before the new one is allocated.
            self.forward = None;
            let vim = self.checkpoint.vim();
            let forward = VimForward::new(&self.gpu, vim, self.weights.clone(), (image, most), &self.variants)?;
            self.forward = Some(forward);
        }
        Ok(self.forward.as_ref().expect("it was made"))
    }

    /// Pixels `[picture, channel, height, width]`, at another size than the model's where one is given.
    fn prepared(&self, pictures: &[Picture], image: Option<[usize; 2]>) -> Result<Vec<f32>> {
        let own = self.checkpoint.preprocess();
        let other = image.map(|[height, width]| own.at(height, width));
        let preprocess = other.as_ref().unwrap_or(own);
        let [height, width] = image.unwrap_or(self.checkpoint.vim().image);
        let mut all = Vec::new();
        for picture in pictures {
            let Pixels { height: made_height, width: made_width, values } = preprocess.apply(picture)?;
            if [made_height, made_width] != [height, width] {
                return Err(Error::Unsupported {
                    file: self.checkpoint.label().to_owned(),
                    what: format!(
                        "a preprocessor_config.json that makes pictures of {made_height}x{made_width} for a model of \
                         {height}x{width}"
                    ),
                    hint: "they must agree".to_owned(),
                });
            }
            all.extend(values);
        }
        Ok(all)
    }

    fn best(&self, logits: &[f32], top: usize) -> Vec<Class> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Of equal logits the first class.
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let class = |index: usize| Class {
            index,
            name: self.checkpoint.class_name(index),
            logit: logits[index],
            probability: (f64::from(logits[index] - most).exp() / sum) as f32,
        };
        order.into_iter().take(top).map(class).collect()
    }
}
