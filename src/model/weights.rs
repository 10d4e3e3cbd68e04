//! A model's weights on the device.

use super::config::Config;
use super::names::Part;
use super::recipe::{Recipe, Role};
use super::shape::Shape;
use super::table::{Embeddings, HostTable};
use super::tensors::{LayerTensors, ModelTensors};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Buf, Gpu, Uploads, Usage};
use crate::kernels::linear::Matrix;
use crate::kernels::{ROW_ALIGN, case::Random, conv, linear::Linear, scan};
use std::sync::Arc;

/// Filled up with zeros, as rows of activations are: norms are read four values at a time.
fn padded(mut values: Vec<f32>) -> Vec<f32> {
    values.resize(values.len().next_multiple_of(ROW_ALIGN), 0.0);
    values
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the checkpoint that are on the device.
    pub done: u64,
    /// Bytes of the checkpoint.
    pub total: u64,
}

/// A layer's weights on the device.
pub struct Layer {
    pub(super) norm: Buf<f32>,
    pub(super) in_proj: Linear,
    pub(super) conv_taps: Buf<f32>,
    pub(super) x_proj: Linear,
    pub(super) dt_proj: Linear,
    pub(super) dt_bias: Buf<f32>,
    pub(super) a_skip: Buf<f32>,
    pub(super) out_proj: Linear,
}

/// The table of embeddings.
pub(super) enum Table {
    /// On the device.
    Device(Arc<Linear>),
    /// On the host.
    Host(HostTable),
}

impl Table {
    pub(super) fn on_device(&self) -> Option<&Arc<Linear>> {
        match self {
            Table::Device(table) => Some(table),
            Table::Host(_) => None,
        }
    }

    pub(super) fn on_host(&self) -> Option<&HostTable> {
        match self {
            Table::Device(_) => None,
            Table::Host(table) => Some(table),
        }
    }
}

/// A model's weights on the device, each matrix in the format that its recipe gives it.
pub struct Weights {
    pub(super) embedding: Table,
    pub(super) layers: Vec<Layer>,
    pub(super) norm_f: Buf<f32>,
    /// The embedding itself where the head is tied to it.
    pub(super) head: Arc<Linear>,
}

/// A vector, widened and filled up.
fn vector<'a>(gpu: &Gpu, uploads: &mut Uploads<'a>, tensor: &'a Tensor<'a>) -> Result<Buf<f32>> {
    let len = tensor.shape.iter().product::<usize>().next_multiple_of(ROW_ALIGN);
    let buf = gpu.buffer(tensor.name.clone(), len, Usage::Storage)?;
    uploads.add(&buf, 0..len, vec![tensor.bytes], |stage| stage.put(bytemuck::cast_slice(&padded(tensor.to_f32()))));
    Ok(buf)
}

fn taps<'a>(gpu: &Gpu, uploads: &mut Uploads<'a>, layer: &'a LayerTensors<'a>) -> Result<Buf<f32>> {
    let weight = &layer.conv_weight;
    let [channels, taps] = [weight.shape[0], weight.shape[2]];
    let buf = gpu.buffer(weight.name.clone(), channels * (taps + 1), Usage::Storage)?;
    let from = [Some(weight), layer.conv_bias.as_ref()].into_iter().flatten().map(|tensor| tensor.bytes).collect();
    uploads.add(&buf, 0..buf.len(), from, |stage| stage.put(bytemuck::cast_slice(&layer.conv_taps())));
    Ok(buf)
}

fn a_skip<'a>(gpu: &Gpu, uploads: &mut Uploads<'a>, layer: &'a LayerTensors<'a>) -> Result<Buf<f32>> {
    let [channels, states] = [layer.a.shape[0], layer.a.shape[1]];
    let buf = gpu.buffer(layer.a.name.clone(), channels * (states + 1), Usage::Storage)?;
    let from = vec![layer.a.bytes, layer.skip.bytes];
    uploads.add(&buf, 0..buf.len(), from, |stage| stage.put(bytemuck::cast_slice(&layer.a_skip())));
    Ok(buf)
}

/// A matrix, in the format that the recipe gives it.
fn matrix<'a>(
    gpu: &Gpu,
    uploads: &mut Uploads<'a>,
    recipe: Recipe,
    role: Role,
    tensor: &'a Tensor<'a>,
) -> Result<Linear> {
    Linear::prepare(gpu, tensor, recipe.format(role, tensor.held_as(), tensor.columns()), uploads)
}

impl Weights {
    /// Uploads a checkpoint piece by piece; `progress` is called as they arrive. All buffers are made before anything is
    /// read: a model that does not fit is refused at once.
    pub fn load(
        gpu: &Gpu,
        tensors: &ModelTensors<'_>,
        recipe: Recipe,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        Self::load_with(gpu, tensors, (recipe, Embeddings::Device), progress)
    }

    /// [`Weights::load`], with the table of embeddings where it is wanted.
    pub fn load_with(
        gpu: &Gpu,
        tensors: &ModelTensors<'_>,
        (recipe, embeddings): (Recipe, Embeddings),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut uploads = Uploads::default();
        let up = &mut uploads;
        let mut total = tensors.bytes();
        let embedding = match tensors.place(embeddings) {
            Embeddings::Device => {
                let role = Part::Embedding.role(tensors.head.is_none()).expect("it is a matrix");
                Table::Device(Arc::new(matrix(gpu, up, recipe, role, &tensors.embedding)?))
            }
            Embeddings::Host => {
                let table = &tensors.embedding;
                total -= table.bytes.len() as u64;
                let format = recipe.format(Role::Embedding, table.held_as(), table.columns());
                Table::Host(HostTable::new(tensors.source, table, format))
            }
        };
        let mut layers = Vec::with_capacity(tensors.layers.len());
        for layer in &tensors.layers {
            layers.push(Layer {
                norm: vector(gpu, up, &layer.norm)?,
                in_proj: matrix(gpu, up, recipe, Role::InProj, &layer.in_proj)?,
                conv_taps: taps(gpu, up, layer)?,
                x_proj: matrix(gpu, up, recipe, Role::XProj, &layer.x_proj)?,
                dt_proj: matrix(gpu, up, recipe, Role::DtProj, &layer.dt_proj)?,
                dt_bias: vector(gpu, up, &layer.dt_bias)?,
                a_skip: a_skip(gpu, up, layer)?,
                out_proj: matrix(gpu, up, recipe, Role::OutProj, &layer.out_proj)?,
            });
        }
        let norm_f = vector(gpu, up, &tensors.norm_f)?;
        let head = match (&tensors.head, embedding.on_device()) {
            (None, Some(embedding)) => embedding.clone(),
            (head, _) => Arc::new(matrix(gpu, up, recipe, Role::Head, head.as_ref().unwrap_or(&tensors.embedding))?),
        };
        let mut done = 0;
        uploads.run(gpu, &|part| tensors.source.release(part), &mut |bytes| {
            done += bytes as u64;
            progress(Progress { done, total });
        })?;
        Ok(Weights { embedding, layers, norm_f, head })
    }

    /// Made-up weights of a shape, their matrices written on the device: what a model of this shape costs, without its
    /// files. Time steps and decays are as in a model before training, so that no state grows without bound.
    pub fn made_up(gpu: &Gpu, shape: &Shape, format: WeightFormat, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let Config { vocab, hidden: h, inner: d, state: n, dt_rank: r, conv_kernel: k, layers, .. } = shape.config;
        let mut random = Random::new(1);
        let recipe = Recipe::To(format);
        let matrix = |name: &str, role, rows, columns| {
            Linear::made_up(
                gpu,
                name,
                Matrix { rows, columns, format: recipe.format(role, WeightFormat::F32, columns) },
            )
        };
        let vector = |name: &str, values: &[f32]| gpu.upload(name, &padded(values.to_vec()), Usage::Storage);
        let a_log: Vec<f32> = (0..d).flat_map(|_| (1..=n).map(|n| (n as f32).ln())).collect();
        let a_skip = scan::pack(&a_log, &vec![1.0; d]);
        let total = shape.config.parameters(shape.tied) * format.block_bytes() as u64 / format.block_values() as u64;
        let role = if shape.tied { Role::TiedEmbedding } else { Role::Embedding };
        let table = Arc::new(matrix("embedding", role, vocab, h)?);
        let mut made = Vec::with_capacity(layers);
        for i in 0..layers {
            progress(Progress { done: total * i as u64 / layers as u64, total });
            let name = |what: &str| format!("layer.{i}.{what}");
            // softplus(bias) is log-uniform from 0.001 to 0.1.
            let bias = |random: &mut Random| random.uniform(0.001f32.ln(), 0.1f32.ln()).exp().exp_m1().ln();
            let dt_bias: Vec<f32> = (0..d).map(|_| bias(&mut random)).collect();
            let taps = conv::pack(&random.uniforms(d * k, -0.5, 0.5), &vec![0.0; d]);
            made.push(Layer {
                norm: vector(&name("norm"), &vec![1.0; h])?,
                in_proj: matrix(&name("in_proj"), Role::InProj, 2 * d, h)?,
                conv_taps: vector(&name("conv"), &taps)?,
                x_proj: matrix(&name("x_proj"), Role::XProj, r + 2 * n, d)?,
                dt_proj: matrix(&name("dt_proj"), Role::DtProj, d, r)?,
                dt_bias: vector(&name("dt_bias"), &dt_bias)?,
                a_skip: vector(&name("A"), &a_skip)?,
                out_proj: matrix(&name("out_proj"), Role::OutProj, h, d)?,
            });
        }
        let norm_f = vector("norm_f", &vec![1.0; h])?;
        let head = if shape.tied { table.clone() } else { Arc::new(matrix("head", Role::Head, vocab, h)?) };
        gpu.flush()?;
        progress(Progress { done: total, total });
        Ok(Weights { embedding: Table::Device(table), layers: made, norm_f, head })
    }

    /// The matrices on the device.
    fn matrices(&self) -> impl Iterator<Item = &Linear> {
        let of_layers = self.layers.iter().flat_map(|l| [&l.in_proj, &l.x_proj, &l.dt_proj, &l.out_proj]);
        of_layers.chain(self.embedding.on_device().map(|table| &**table)).chain([&*self.head])
    }

    /// The formats of its matrices.
    pub fn formats(&self) -> String {
        let mut names: Vec<&str> = self.matrices().map(|matrix| matrix.format().name()).collect();
        names.sort_unstable();
        names.dedup();
        names.join("+")
    }

    /// The different matrices of a decode step, each with its name in the model.
    pub fn step_matrices(&self) -> Vec<(&'static str, Matrix)> {
        let of_layers = self
            .layers
            .iter()
            .flat_map(|layer| [("in_proj", &layer.in_proj), ("x_proj", &layer.x_proj), ("out_proj", &layer.out_proj)]);
        let mut matrices: Vec<(&'static str, Matrix)> = Vec::new();
        for (name, matrix) in of_layers.chain([("head", &*self.head)]) {
            if !matrices.contains(&(name, matrix.matrix())) {
                matrices.push((name, matrix.matrix()));
            }
        }
        matrices
    }

    /// Whether the matrices that leave what a decode step's products read are cut by whole groups of rows.
    pub fn cut_by_groups(&self) -> bool {
        self.layers.iter().all(|layer| layer.dt_proj.cut_by_groups() && layer.out_proj.cut_by_groups())
    }

    /// Whether the head is the embedding.
    pub fn tied(&self) -> bool {
        self.embedding.on_device().is_some_and(|table| Arc::ptr_eq(table, &self.head))
    }

    /// Number of shards of the matrix that is cut the most.
    pub fn most_shards(&self) -> usize {
        self.matrices().map(Linear::shard_count).max().unwrap_or(1)
    }
}
