//! Names of a Mamba's tensors: those of transformers and mamba_ssm, and those of GGUF files.

use crate::model::naming::Naming;
use crate::model::recipe::Role;

/// Identifies a tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorId {
    /// The table of embeddings.
    Embedding,
    /// The norm before the head.
    FinalNorm,
    /// The head.
    Head,
    /// A tensor of a layer.
    Layer(usize, LayerTensorId),
}

/// Identifies a tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerTensorId {
    /// The norm before the mixer.
    Norm,
    /// in_proj.
    InProj,
    /// Taps of the convolution.
    ConvWeight,
    /// Its bias.
    ConvBias,
    /// x_proj.
    XProj,
    /// dt_proj.
    DtProj,
    /// Its bias.
    DtBias,
    /// A.
    A,
    /// The skip D.
    Skip,
    /// out_proj.
    OutProj,
}

impl TensorId {
    /// Its usual name.
    pub fn name(self, naming: Naming) -> String {
        let [transformers, gguf] = match self {
            TensorId::Embedding => ["backbone.embeddings.weight", "token_embd.weight"],
            TensorId::FinalNorm => ["backbone.norm_f.weight", "output_norm.weight"],
            TensorId::Head => ["lm_head.weight", "output.weight"],
            TensorId::Layer(i, id) => {
                let [transformers, gguf] = id.names();
                return match naming {
                    Naming::Transformers => format!("backbone.layers.{i}.{transformers}"),
                    Naming::Gguf => format!("blk.{i}.{gguf}"),
                };
            }
        };
        let name = if naming == Naming::Gguf { gguf } else { transformers };
        name.to_owned()
    }

    /// The role of a matrix that may be quantized; `None` for other tensors. With `tied`, the table of embeddings is also the
    /// head.
    pub fn role(self, tied: bool) -> Option<Role> {
        match self {
            TensorId::Embedding if tied => Some(Role::TiedEmbedding),
            TensorId::Embedding => Some(Role::Embedding),
            TensorId::Head => Some(Role::Head),
            TensorId::Layer(_, id) => id.is_projection().then_some(Role::Projection),
            TensorId::FinalNorm => None,
        }
    }
}

impl LayerTensorId {
    const ALL: [LayerTensorId; 10] = [
        LayerTensorId::Norm,
        LayerTensorId::InProj,
        LayerTensorId::ConvWeight,
        LayerTensorId::ConvBias,
        LayerTensorId::XProj,
        LayerTensorId::DtProj,
        LayerTensorId::DtBias,
        LayerTensorId::A,
        LayerTensorId::Skip,
        LayerTensorId::OutProj,
    ];

    fn is_projection(self) -> bool {
        use LayerTensorId::{DtProj, InProj, OutProj, XProj};
        matches!(self, InProj | XProj | DtProj | OutProj)
    }

    /// The tensor of this name within a layer, as transformers names it.
    pub(super) fn of_transformers(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.names()[0] == name)
    }

    /// The tensor of this name within a layer, as llama.cpp names it.
    pub(super) fn of_gguf(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|id| id.names()[1] == name)
    }

    fn names(self) -> [&'static str; 2] {
        match self {
            LayerTensorId::Norm => ["norm.weight", "attn_norm.weight"],
            LayerTensorId::InProj => ["mixer.in_proj.weight", "ssm_in.weight"],
            LayerTensorId::ConvWeight => ["mixer.conv1d.weight", "ssm_conv1d.weight"],
            LayerTensorId::ConvBias => ["mixer.conv1d.bias", "ssm_conv1d.bias"],
            LayerTensorId::XProj => ["mixer.x_proj.weight", "ssm_x.weight"],
            LayerTensorId::DtProj => ["mixer.dt_proj.weight", "ssm_dt.weight"],
            LayerTensorId::DtBias => ["mixer.dt_proj.bias", "ssm_dt.bias"],
            LayerTensorId::A => ["mixer.A_log", "ssm_a"],
            LayerTensorId::Skip => ["mixer.D", "ssm_d"],
            LayerTensorId::OutProj => ["mixer.out_proj.weight", "ssm_out.weight"],
        }
    }
}
