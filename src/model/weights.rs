//! A model's tensors: each name and shape is asked for in one place, here.

use super::config::Config;
use super::names::{LayerPart, Naming, Part};
use super::recipe::{Recipe, Role};
use super::shape::Shape;
use super::table::{Embeddings, HostTable};
use crate::error::Result;
use crate::format::{Tensor, TensorSource, WeightFormat};
use crate::gpu::{Buf, Gpu, Uploads, Usage};
use crate::kernels::matvec::Matrix;
use crate::kernels::{ROW_ALIGN, case::Random, conv, linear::Linear, scan};
use std::sync::Arc;

/// How a checkpoint has A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AForm {
    /// As A_log: A is -exp of it.
    Log,
    /// As itself.
    Itself,
}

/// The tensors of one layer, as they lie in the checkpoint.
pub struct LayerTensors<'a> {
    /// `[H]`.
    pub norm: Tensor<'a>,
    /// `[2D, H]`: first the rows of the convolution's branch, then those of the gate.
    pub in_proj: Tensor<'a>,
    /// `[D, 1, K]`.
    pub conv_weight: Tensor<'a>,
    /// `[D]`, where the model has it.
    pub conv_bias: Option<Tensor<'a>>,
    /// `[R + 2N, D]`.
    pub x_proj: Tensor<'a>,
    /// `[D, R]`.
    pub dt_proj: Tensor<'a>,
    /// `[D]`.
    pub dt_bias: Tensor<'a>,
    /// `[D, N]`: A, or A_log.
    pub a: Tensor<'a>,
    /// Which of the two.
    pub a_form: AForm,
    /// `[D]`.
    pub skip: Tensor<'a>,
    /// `[H, D]`.
    pub out_proj: Tensor<'a>,
}

/// All tensors of a model, as they lie in the checkpoint, with their shapes checked.
pub struct ModelTensors<'a> {
    /// `[V, H]`.
    pub embedding: Tensor<'a>,
    /// Layers, in order.
    pub layers: Vec<LayerTensors<'a>>,
    /// `[H]`.
    pub norm_f: Tensor<'a>,
    /// `[V, H]`; absent where it is the embedding.
    pub head: Option<Tensor<'a>>,
    source: &'a Arc<TensorSource>,
}

impl<'a> ModelTensors<'a> {
    /// Finds every tensor under the names of transformers, of mamba_ssm or of GGUF.
    pub fn find(config: &Config, source: &'a Arc<TensorSource>) -> Result<Self> {
        let Config { vocab, hidden: h, inner: d, state: n, dt_rank: r, conv_kernel: k, .. } = *config;
        let naming = Naming::of(source);
        // transformers says "embeddings", mamba_ssm "embedding".
        let of_mamba_ssm = "backbone.embedding.weight";
        let name = Some(of_mamba_ssm).filter(|name| source.has(name)).map(str::to_owned);
        let embedding = source.get(&name.unwrap_or_else(|| Part::Embedding.name(naming)), &[vocab, h])?;
        let layers = (0..config.layers)
            .map(|i| {
                let of_layer = |part: LayerPart, dims: &[usize]| source.get(&Part::Layer(i, part).name(naming), dims);
                let conv_weight = match naming {
                    Naming::Transformers => of_layer(LayerPart::ConvWeight, &[d, 1, k])?,
                    Naming::Gguf => {
                        let squeezed = of_layer(LayerPart::ConvWeight, &[d, k])?;
                        Tensor { shape: vec![d, 1, k], ..squeezed }
                    }
                };
                Ok(LayerTensors {
                    norm: of_layer(LayerPart::Norm, &[h])?,
                    in_proj: of_layer(LayerPart::InProj, &[2 * d, h])?,
                    conv_weight,
                    conv_bias: config.conv_bias.then(|| of_layer(LayerPart::ConvBias, &[d])).transpose()?,
                    x_proj: of_layer(LayerPart::XProj, &[r + 2 * n, d])?,
                    dt_proj: of_layer(LayerPart::DtProj, &[d, r])?,
                    dt_bias: of_layer(LayerPart::DtBias, &[d])?,
                    a: of_layer(LayerPart::A, &[d, n])?,
                    a_form: if naming == Naming::Gguf { AForm::Itself } else { AForm::Log },
                    skip: of_layer(LayerPart::Skip, &[d])?,
                    out_proj: of_layer(LayerPart::OutProj, &[h, d])?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let norm_f = source.get(&Part::FinalNorm.name(naming), &[h])?;
        // Tied or not is decided by what is there. mamba_ssm stores a tied head as well: the same bytes are not stored twice.
        let head = Part::Head.name(naming);
        let head = source.has(&head).then(|| source.get(&head, &[vocab, h])).transpose()?;
        let head = head.filter(|head| head.held_as() != embedding.held_as() || head.bytes != embedding.bytes);
        Ok(ModelTensors { embedding, layers, norm_f, head, source })
    }

    /// All tensors, in the order of the model: the embedding, the layers, the last norm, the head where it is of its own.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &Tensor<'a>)> {
        let of_layers = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(i, layer)| layer.parts().map(move |(part, tensor)| (Part::Layer(i, part), tensor)));
        let last = [Some((Part::FinalNorm, &self.norm_f)), self.head.as_ref().map(|head| (Part::Head, head))];
        std::iter::once((Part::Embedding, &self.embedding)).chain(of_layers).chain(last.into_iter().flatten())
    }

    /// Lets go of the memory that `bytes` take, a part of one of these tensors; see [`TensorSource::release`].
    pub fn release(&self, bytes: &[u8]) {
        self.source.release(bytes);
    }

    /// The matrices: what products and the embedding read.
    pub fn matrices(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.roles().map(|(_, tensor)| tensor)
    }

    /// The matrices, each with what it is for.
    pub fn roles(&self) -> impl Iterator<Item = (Role, &Tensor<'a>)> {
        let tied = self.head.is_none();
        self.parts().filter_map(move |(part, tensor)| Some((part.role(tied)?, tensor)))
    }

    /// Where the table of embeddings comes to lie if it is wanted there: a tied head needs it on the device.
    pub fn place(&self, wanted: Embeddings) -> Embeddings {
        if self.head.is_some() { wanted } else { Embeddings::Device }
    }

    /// Bytes of all tensors in their files.
    pub fn bytes(&self) -> u64 {
        self.parts().map(|(_, tensor)| tensor.bytes.len() as u64).sum()
    }
}

impl<'a> LayerTensors<'a> {
    fn parts(&self) -> impl Iterator<Item = (LayerPart, &Tensor<'a>)> {
        let all = [
            (LayerPart::Norm, Some(&self.norm)),
            (LayerPart::InProj, Some(&self.in_proj)),
            (LayerPart::ConvWeight, Some(&self.conv_weight)),
            (LayerPart::ConvBias, self.conv_bias.as_ref()),
            (LayerPart::XProj, Some(&self.x_proj)),
            (LayerPart::DtProj, Some(&self.dt_proj)),
            (LayerPart::DtBias, Some(&self.dt_bias)),
            (LayerPart::A, Some(&self.a)),
            (LayerPart::Skip, Some(&self.skip)),
            (LayerPart::OutProj, Some(&self.out_proj)),
        ];
        all.into_iter().filter_map(|(part, tensor)| Some((part, tensor?)))
    }
}

impl LayerTensors<'_> {
    /// Taps and bias of the convolution, laid out as the kernels read them.
    pub fn conv_taps(&self) -> Vec<f32> {
        let weight = self.conv_weight.to_f32();
        let channels = self.conv_weight.shape[0];
        let bias = self.conv_bias.as_ref().map_or_else(|| vec![0.0; channels], Tensor::to_f32);
        conv::pack(&weight, &bias)
    }

    /// A and the skip D, laid out as the kernels read them.
    pub fn a_skip(&self) -> Vec<f32> {
        let (a, skip) = (self.a.to_f32(), self.skip.to_f32());
        match self.a_form {
            AForm::Log => scan::pack(&a, &skip),
            AForm::Itself => scan::pack_a(&a, &skip),
        }
    }
}

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
            Linear::made_up(gpu, name, (recipe.format(role, WeightFormat::F32, columns), rows, columns))
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
