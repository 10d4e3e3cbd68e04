//! The tensors of a Mamba layer: their names and shapes, and the values that kernels get of them.

use super::names::{LayerTensorId, TensorId};
use super::tensor_names::TensorNames;
use super::{Mamba, sizes};
use crate::error::Result;
use crate::format::{Tensor, TensorSource};
use crate::kernels::{conv, scan};
use crate::model::config::Config;
use crate::model::naming::Naming;
use crate::model::tensors::ValueMap;

/// How a checkpoint stores A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoredA {
    /// As A_log; A = -exp(A_log).
    Log,
    /// As A.
    Plain,
}

impl StoredA {
    /// As containers with this naming store it.
    fn of(naming: Naming) -> Self {
        match naming {
            Naming::Transformers => StoredA::Log,
            Naming::Gguf => StoredA::Plain,
        }
    }
}

/// The tensors of one layer as the checkpoint stores them.
pub struct LayerTensors<'a> {
    /// `[H]`.
    pub norm: Tensor<'a>,
    /// `[2D, H]`: first the rows of the convolution's branch, then those of the gate.
    pub in_proj: Tensor<'a>,
    /// `[D, 1, K]`, whichever way the file lays it out.
    pub conv_weight: Tensor<'a>,
    /// `[D]`, where the model has it.
    pub conv_bias: Option<Tensor<'a>>,
    /// `[R + 2N, D]`.
    pub x_proj: Tensor<'a>,
    /// `[D, R]`.
    pub dt_proj: Tensor<'a>,
    /// `[D]`.
    pub dt_bias: Tensor<'a>,
    /// `[D, N]`: A_log, or A in a GGUF file.
    pub a: Tensor<'a>,
    stored_a: StoredA,
    /// `[D]`.
    pub skip: Tensor<'a>,
    /// `[H, D]`.
    pub out_proj: Tensor<'a>,
}

impl<'a> LayerTensors<'a> {
    /// The tensor that an error names where a checkpoint has no layer at all.
    pub(in crate::model) const FIRST: LayerTensorId = LayerTensorId::InProj;

    /// Finds the tensors of a layer and checks their shapes.
    pub(in crate::model) fn find(
        config: &Config,
        source: &'a TensorSource,
        names: &TensorNames,
        layer: usize,
    ) -> Result<Self> {
        let Mamba { inner: d, state: n, dt_rank: r, conv_kernel: k, .. } = *sizes(config);
        let h = config.hidden;
        let get = |id: LayerTensorId, dims: &[usize]| source.get(&names.name(TensorId::Layer(layer, id)), dims);
        Ok(LayerTensors {
            norm: get(LayerTensorId::Norm, &[h])?,
            in_proj: get(LayerTensorId::InProj, &[2 * d, h])?,
            conv_weight: conv_weight(source, &names.name(TensorId::Layer(layer, LayerTensorId::ConvWeight)), d, k)?,
            conv_bias: sizes(config).conv_bias.then(|| get(LayerTensorId::ConvBias, &[d])).transpose()?,
            x_proj: get(LayerTensorId::XProj, &[r + 2 * n, d])?,
            dt_proj: get(LayerTensorId::DtProj, &[d, r])?,
            dt_bias: get(LayerTensorId::DtBias, &[d])?,
            a: get(LayerTensorId::A, &[d, n])?,
            stored_a: StoredA::of(names.naming()),
            skip: get(LayerTensorId::Skip, &[d])?,
            out_proj: get(LayerTensorId::OutProj, &[h, d])?,
        })
    }

    /// The tensors of the layer, in the order of the model.
    pub(in crate::model) fn all(&self) -> impl Iterator<Item = (LayerTensorId, &Tensor<'a>)> {
        let all = [
            (LayerTensorId::Norm, Some(&self.norm)),
            (LayerTensorId::InProj, Some(&self.in_proj)),
            (LayerTensorId::ConvWeight, Some(&self.conv_weight)),
            (LayerTensorId::ConvBias, self.conv_bias.as_ref()),
            (LayerTensorId::XProj, Some(&self.x_proj)),
            (LayerTensorId::DtProj, Some(&self.dt_proj)),
            (LayerTensorId::DtBias, Some(&self.dt_bias)),
            (LayerTensorId::A, Some(&self.a)),
            (LayerTensorId::Skip, Some(&self.skip)),
            (LayerTensorId::OutProj, Some(&self.out_proj)),
        ];
        all.into_iter().filter_map(|(id, tensor)| Some((id, tensor?)))
    }

    /// How a tensor's values change for a container that names tensors so: A to A_log and back.
    pub(in crate::model) fn value_map(&self, id: LayerTensorId, to: Naming) -> ValueMap {
        match (id, self.stored_a, StoredA::of(to)) {
            (LayerTensorId::A, StoredA::Log, StoredA::Plain) => ValueMap::MinusExp,
            (LayerTensorId::A, StoredA::Plain, StoredA::Log) => ValueMap::LogOfMinus,
            _ => ValueMap::Same,
        }
    }

    /// Taps and bias of the convolution, packed for the kernels.
    pub fn conv_taps(&self) -> Vec<f32> {
        let weight = self.conv_weight.to_f32();
        let channels = self.conv_weight.shape[0];
        let bias = self.conv_bias.as_ref().map_or_else(|| vec![0.0; channels], Tensor::to_f32);
        conv::pack(&weight, &bias)
    }

    /// A and the skip D, packed for the kernels.
    pub fn a_skip(&self) -> Vec<f32> {
        self.pack_a(&self.a.to_f32(), &self.skip.to_f32())
    }

    /// Some channels' stored A, with their skip D, packed for the kernels.
    pub(super) fn pack_a(&self, stored: &[f32], skip: &[f32]) -> Vec<f32> {
        match self.stored_a {
            StoredA::Log => scan::pack(stored, skip),
            StoredA::Plain => scan::pack_a(stored, skip),
        }
    }
}

/// The taps of a convolution: `[D, 1, K]` as in PyTorch, `[D, K]` as in GGUF, `[D, K, 1]` as in MLX. The bytes are the same.
fn conv_weight<'a>(source: &'a TensorSource, name: &str, channels: usize, taps: usize) -> Result<Tensor<'a>> {
    let (d, k) = (channels, taps);
    let usual = if source.metadata().is_some() { vec![d, k] } else { vec![d, 1, k] };
    let has = source.shape(name).filter(|has| [&[d, k][..], &[d, 1, k], &[d, k, 1]].contains(&&has[..]));
    let tensor = source.get(name, &has.unwrap_or(usual))?;
    Ok(Tensor { shape: vec![d, 1, k], ..tensor })
}
