//! A model's tensors: each name and shape is asked for in one place, here.

use super::config::Config;
use super::layout::Layout;
use super::names::{LayerPart, Naming, Part};
use super::recipe::Role;
use super::table::Embeddings;
use super::unused::{self, Unused};
use crate::error::{Error, Result};
use crate::format::{Tensor, TensorSource};
use crate::kernels::{conv, scan};
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
    /// `[D, 1, K]`, however the file has it.
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
    /// Tensors of the files that nothing is computed with.
    pub unused: Vec<Unused>,
    pub(super) source: &'a Arc<TensorSource>,
}

impl<'a> ModelTensors<'a> {
    /// Finds every tensor under the names of transformers, of mamba_ssm or of GGUF, whatever is before them. Every tensor of
    /// the files is one of the model's, or of no use to anybody, or the model is refused.
    pub fn find(config: &Config, source: &'a Arc<TensorSource>) -> Result<Self> {
        let Config { vocab, hidden: h, inner: d, state: n, dt_rank: r, conv_kernel: k, .. } = *config;
        let layout = Layout::of(source)?;
        unused::refuse_foreign(source)?;
        if !layout.has_layers() {
            let first = source.names().next().map_or(String::new(), |name| format!("; the first is {name}"));
            return Err(Error::MissingTensor {
                tensor: layout.name(Part::Layer(0, LayerPart::InProj)),
                file: source.label().to_owned(),
                hint: format!("none of its {} tensors is of a layer of a Mamba model{first}", source.names().count()),
            });
        }
        let get = |part: Part, dims: &[usize]| source.get(&layout.name(part), dims);
        let embedding = get(Part::Embedding, &[vocab, h])?;
        let layers = (0..config.layers)
            .map(|i| {
                let of_layer = |part: LayerPart, dims: &[usize]| get(Part::Layer(i, part), dims);
                Ok(LayerTensors {
                    norm: of_layer(LayerPart::Norm, &[h])?,
                    in_proj: of_layer(LayerPart::InProj, &[2 * d, h])?,
                    conv_weight: conv_weight(source, &layout.name(Part::Layer(i, LayerPart::ConvWeight)), d, k)?,
                    conv_bias: config.conv_bias.then(|| of_layer(LayerPart::ConvBias, &[d])).transpose()?,
                    x_proj: of_layer(LayerPart::XProj, &[r + 2 * n, d])?,
                    dt_proj: of_layer(LayerPart::DtProj, &[d, r])?,
                    dt_bias: of_layer(LayerPart::DtBias, &[d])?,
                    a: of_layer(LayerPart::A, &[d, n])?,
                    a_form: if layout.naming() == Naming::Gguf { AForm::Itself } else { AForm::Log },
                    skip: of_layer(LayerPart::Skip, &[d])?,
                    out_proj: of_layer(LayerPart::OutProj, &[h, d])?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let norm_f = get(Part::FinalNorm, &[h])?;
        // A head that is there counts. mamba_ssm stores a tied one as well: the same bytes are not kept twice.
        let head = match layout.has(Part::Head) {
            true => Some(get(Part::Head, &[vocab, h])?),
            false if !config.tied => {
                return Err(Error::MissingTensor {
                    tensor: layout.name(Part::Head),
                    file: source.label().to_owned(),
                    hint: "config.json says that the head is not the embedding (tie_word_embeddings or tie_embeddings \
                           is false): is the checkpoint whole?"
                        .to_owned(),
                });
            }
            false => None,
        };
        let unused = unused::account(source, &layout, config)?;
        let head = head.filter(|head| head.held_as() != embedding.held_as() || head.bytes != embedding.bytes);
        Ok(ModelTensors { embedding, layers, norm_f, head, unused, source })
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

/// The taps of a convolution: `[D, 1, K]` as PyTorch has them, `[D, K]` as GGUF, `[D, K, 1]` as MLX. The bytes are the same.
fn conv_weight<'a>(source: &'a TensorSource, name: &str, channels: usize, taps: usize) -> Result<Tensor<'a>> {
    let (d, k) = (channels, taps);
    let usual = if source.metadata().is_some() { vec![d, k] } else { vec![d, 1, k] };
    let has = source.shape(name).filter(|has| [&[d, k][..], &[d, 1, k], &[d, k, 1]].contains(&&has[..]));
    let tensor = source.get(name, &has.unwrap_or(usual))?;
    Ok(Tensor { shape: vec![d, 1, k], ..tensor })
}
