//! A model's weights on the device.

use super::architecture::Layer;
use super::embeddings::{Embeddings, HostTable};
use super::options::WeightOptions;
use super::recipe::{Recipe, Role};
use super::shape::Shape;
use super::tensors::ModelTensors;
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Buf, Gpu, Uploads, Usage};
use crate::kernels::linear::{Linear, Matrix};
use crate::kernels::{case::Random, padded_rows, stride};
use std::sync::Arc;

/// Padded with zeros like a row of activations: norms are read four values at a time.
fn padded(values: &[f32]) -> Vec<f32> {
    padded_rows(values, values.len())
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the checkpoint that are on the device.
    pub done: u64,
    /// Bytes of the checkpoint.
    pub total: u64,
}

/// The table of embeddings.
pub(super) enum EmbeddingTable {
    /// On the device.
    Device(Arc<Linear>),
    /// On the host.
    Host(HostTable),
}

impl EmbeddingTable {
    pub(super) fn on_device(&self) -> Option<&Arc<Linear>> {
        match self {
            EmbeddingTable::Device(table) => Some(table),
            EmbeddingTable::Host(_) => None,
        }
    }

    pub(super) fn on_host(&self) -> Option<&HostTable> {
        match self {
            EmbeddingTable::Device(_) => None,
            EmbeddingTable::Host(table) => Some(table),
        }
    }
}

/// A model's weights on the device, each matrix in the format that its recipe gives it.
pub struct Weights {
    pub(super) embedding: EmbeddingTable,
    pub(super) layers: Vec<Layer>,
    pub(super) norm_f: Buf<f32>,
    /// The embedding itself where the head is tied to it.
    pub(super) head: Arc<Linear>,
}

/// Makes buffers for a checkpoint's tensors and lists their uploads.
pub(super) struct Loader<'g, 'a> {
    gpu: &'g Gpu,
    recipe: Recipe,
    uploads: Uploads<'a>,
}

impl<'g, 'a> Loader<'g, 'a> {
    /// Without uploads yet.
    pub(super) fn new(gpu: &'g Gpu, recipe: Recipe) -> Self {
        Loader { gpu, recipe, uploads: Uploads::default() }
    }

    /// Runs the uploads, of `total` bytes of the checkpoint; `release` gets each piece that is on the device.
    pub(super) fn run(
        self,
        total: u64,
        release: impl Fn(&[u8]) + Sync,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let mut done = 0;
        self.uploads.run(self.gpu, &release, &mut |bytes| {
            done += bytes as u64;
            progress(Progress { done, total });
        })
    }

    /// A vector in f32, padded.
    pub(super) fn vector(&mut self, tensor: &'a Tensor<'a>) -> Result<Buf<f32>> {
        let len = stride(tensor.shape.iter().product());
        self.packed(&[tensor], len, || padded(&tensor.to_f32()))
    }

    /// `len` values that `pack` computes from these tensors when their turn comes. The buffer has the name of the first one.
    pub(super) fn packed(
        &mut self,
        tensors: &[&'a Tensor<'a>],
        len: usize,
        pack: impl FnOnce() -> Vec<f32> + Send + 'a,
    ) -> Result<Buf<f32>> {
        let buf = self.gpu.buffer(tensors[0].name.clone(), len, Usage::Storage)?;
        let from = tensors.iter().map(|tensor| tensor.bytes).collect();
        self.uploads.add(&buf, 0..len, from, |staging| staging.put(bytemuck::cast_slice(&pack())));
        Ok(buf)
    }

    /// A matrix in the format that the recipe gives it.
    pub(super) fn matrix(&mut self, role: Role, tensor: &'a Tensor<'a>) -> Result<Linear> {
        let format = self.recipe.format(role, tensor.held_as(), tensor.columns());
        Linear::prepare(self.gpu, tensor, format, &mut self.uploads)
    }
}

/// Makes weights up on the device.
pub(super) struct Generator<'g> {
    gpu: &'g Gpu,
    recipe: Recipe,
    pub(super) random: Random,
}

impl<'g> Generator<'g> {
    /// With the same values at every run.
    pub(super) fn new(gpu: &'g Gpu, recipe: Recipe) -> Self {
        Generator { gpu, recipe, random: Random::new(1) }
    }

    /// Biases of dt as before training: softplus of them is log-uniform from 0.001 to 0.1.
    pub(super) fn dt_bias(&mut self, channels: usize) -> Vec<f32> {
        let bias = |random: &mut Random| random.uniform(0.001f32.ln(), 0.1f32.ln()).exp().exp_m1().ln();
        (0..channels).map(|_| bias(&mut self.random)).collect()
    }

    /// A vector of these values, padded.
    pub(super) fn vector(&self, name: &str, values: &[f32]) -> Result<Buf<f32>> {
        self.gpu.upload(name, &padded(values), Usage::Storage)
    }

    /// A random matrix in the format that the recipe gives it.
    pub(super) fn matrix(&self, name: &str, role: Role, rows: usize, columns: usize) -> Result<Linear> {
        let format = self.recipe.format(role, WeightFormat::F32, columns);
        Linear::made_up(self.gpu, name, Matrix { rows, columns, format })
    }
}

impl Weights {
    /// Uploads a checkpoint piece by piece; `progress` is called as they arrive. All buffers are made before anything is read,
    /// so that a model that does not fit is refused at once.
    pub fn load(
        gpu: &Gpu,
        tensors: &ModelTensors<'_>,
        options: WeightOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let WeightOptions { recipe, embeddings } = options;
        let mut loader = Loader::new(gpu, recipe);
        let mut total = tensors.bytes();
        let table = &tensors.embedding;
        let embedding = match tensors.embeddings(embeddings) {
            Embeddings::Device => {
                let role = if tensors.head.is_none() { Role::TiedEmbedding } else { Role::Embedding };
                EmbeddingTable::Device(Arc::new(loader.matrix(role, table)?))
            }
            Embeddings::Host => {
                total -= table.bytes.len() as u64;
                let format = recipe.format(Role::Embedding, table.held_as(), table.columns());
                EmbeddingTable::Host(HostTable::new(tensors.source, table, format))
            }
        };
        let mut layers = Vec::with_capacity(tensors.layers.len());
        for layer in &tensors.layers {
            layers.push(Layer::load(&mut loader, layer)?);
        }
        let norm_f = loader.vector(&tensors.norm_f)?;
        let head = match (&tensors.head, embedding.on_device()) {
            (None, Some(embedding)) => embedding.clone(),
            (head, _) => Arc::new(loader.matrix(Role::Head, head.as_ref().unwrap_or(table))?),
        };
        loader.run(total, |piece| tensors.source.release(piece), progress)?;
        Ok(Weights { embedding, layers, norm_f, head })
    }

    /// Made-up weights of a shape, their matrices generated on the device: a model of this cost without its files.
    pub fn made_up(gpu: &Gpu, shape: &Shape, format: WeightFormat, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let Shape { config, tied, .. } = shape;
        let mut generator = Generator::new(gpu, Recipe::To(format));
        let total = config.parameters(*tied) * format.block_bytes() as u64 / format.block_values() as u64;
        let role = if *tied { Role::TiedEmbedding } else { Role::Embedding };
        let table = Arc::new(generator.matrix("embedding", role, config.vocab, config.hidden)?);
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            progress(Progress { done: total * layer as u64 / config.layers as u64, total });
            layers.push(Layer::made_up(&mut generator, config, layer)?);
        }
        let norm_f = generator.vector("norm_f", &vec![1.0; config.hidden])?;
        let head = match tied {
            true => table.clone(),
            false => Arc::new(generator.matrix("head", Role::Head, config.vocab, config.hidden)?),
        };
        gpu.flush()?;
        progress(Progress { done: total, total });
        Ok(Weights { embedding: EmbeddingTable::Device(table), layers, norm_f, head })
    }

    /// The matrices on the device.
    fn matrices(&self) -> impl Iterator<Item = &Linear> {
        let of_layers = self.layers.iter().flat_map(Layer::matrices);
        of_layers.chain(self.embedding.on_device().map(|table| &**table)).chain([&*self.head])
    }

    /// The formats of its matrices, joined by `+`.
    pub fn formats(&self) -> String {
        let mut names: Vec<&str> = self.matrices().map(|matrix| matrix.format().name()).collect();
        names.sort_unstable();
        names.dedup();
        names.join("+")
    }

    /// The distinct matrices that a decode step multiplies by products of their own, with their names in the model.
    pub fn step_matrices(&self) -> Vec<(&'static str, Matrix)> {
        let of_layers = self.layers.iter().flat_map(Layer::step_matrices);
        let mut matrices: Vec<(&'static str, Matrix)> = Vec::new();
        for (name, matrix) in of_layers.chain([("head", &*self.head)]) {
            if !matrices.contains(&(name, matrix.matrix())) {
                matrices.push((name, matrix.matrix()));
            }
        }
        matrices
    }

    /// Whether the matrices whose results a decode step's products read are sharded by whole groups of rows.
    pub fn cut_by_groups(&self) -> bool {
        self.layers.iter().all(Layer::cut_by_groups)
    }

    /// Whether the head is the embedding.
    pub fn tied(&self) -> bool {
        self.embedding.on_device().is_some_and(|table| Arc::ptr_eq(table, &self.head))
    }

    /// Number of shards of the matrix with the most.
    pub fn most_shards(&self) -> usize {
        self.matrices().map(Linear::shard_count).max().unwrap_or(1)
    }
}
