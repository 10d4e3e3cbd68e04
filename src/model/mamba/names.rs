//! What the tensors of a model are called: by transformers and mamba_ssm, and in GGUF files.

use super::recipe::Role;
use crate::format::TensorSource;

/// Who named the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Transformers. mamba_ssm differs from it in the name of the embedding alone.
    Transformers,
    /// llama.cpp.
    Gguf,
}

/// A tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The table of embeddings.
    Embedding,
    /// The norm before the head.
    FinalNorm,
    /// The head.
    Head,
    /// A tensor of a layer.
    Layer(usize, LayerPart),
}

/// A tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerPart {
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

impl Naming {
    /// Who named the tensors of a source.
    pub fn of(source: &TensorSource) -> Self {
        if source.metadata().is_some() { Naming::Gguf } else { Naming::Transformers }
    }
}

impl Part {
    /// Its name.
    pub fn name(self, naming: Naming) -> String {
        let [transformers, gguf] = match self {
            Part::Embedding => ["backbone.embeddings.weight", "token_embd.weight"],
            Part::FinalNorm => ["backbone.norm_f.weight", "output_norm.weight"],
            Part::Head => ["lm_head.weight", "output.weight"],
            Part::Layer(i, part) => {
                let [transformers, gguf] = part.names();
                return match naming {
                    Naming::Transformers => format!("backbone.layers.{i}.{transformers}"),
                    Naming::Gguf => format!("blk.{i}.{gguf}"),
                };
            }
        };
        let name = if naming == Naming::Gguf { gguf } else { transformers };
        name.to_owned()
    }

    /// What it is for, where it is a matrix that may be quantized. A table of embeddings is the head as well where that is
    /// `tied`.
    pub fn role(self, tied: bool) -> Option<Role> {
        match self {
            Part::Embedding if tied => Some(Role::TiedEmbedding),
            Part::Embedding => Some(Role::Embedding),
            Part::Head => Some(Role::Head),
            Part::Layer(_, LayerPart::InProj) => Some(Role::InProj),
            Part::Layer(_, LayerPart::XProj) => Some(Role::XProj),
            Part::Layer(_, LayerPart::DtProj) => Some(Role::DtProj),
            Part::Layer(_, LayerPart::OutProj) => Some(Role::OutProj),
            Part::FinalNorm | Part::Layer(..) => None,
        }
    }
}

impl LayerPart {
    const ALL: [LayerPart; 10] = [
        LayerPart::Norm,
        LayerPart::InProj,
        LayerPart::ConvWeight,
        LayerPart::ConvBias,
        LayerPart::XProj,
        LayerPart::DtProj,
        LayerPart::DtBias,
        LayerPart::A,
        LayerPart::Skip,
        LayerPart::OutProj,
    ];

    /// The part that transformers calls so, within a layer.
    pub(super) fn of_transformers(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.names()[0] == name)
    }

    /// The part that llama.cpp calls so, within a layer.
    pub(super) fn of_gguf(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.names()[1] == name)
    }

    fn names(self) -> [&'static str; 2] {
        match self {
            LayerPart::Norm => ["norm.weight", "attn_norm.weight"],
            LayerPart::InProj => ["mixer.in_proj.weight", "ssm_in.weight"],
            LayerPart::ConvWeight => ["mixer.conv1d.weight", "ssm_conv1d.weight"],
            LayerPart::ConvBias => ["mixer.conv1d.bias", "ssm_conv1d.bias"],
            LayerPart::XProj => ["mixer.x_proj.weight", "ssm_x.weight"],
            LayerPart::DtProj => ["mixer.dt_proj.weight", "ssm_dt.weight"],
            LayerPart::DtBias => ["mixer.dt_proj.bias", "ssm_dt.bias"],
            LayerPart::A => ["mixer.A_log", "ssm_a"],
            LayerPart::Skip => ["mixer.D", "ssm_d"],
            LayerPart::OutProj => ["mixer.out_proj.weight", "ssm_out.weight"],
        }
    }
}
