//! Whose tensor names a checkpoint uses.

use crate::format::TensorSource;

/// Who named the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Transformers. mamba_ssm differs from it in the name of the embedding alone.
    Transformers,
    /// llama.cpp.
    Gguf,
}

impl Naming {
    /// Who named the tensors of a source.
    pub fn of(source: &TensorSource) -> Self {
        if source.metadata().is_some() { Naming::Gguf } else { Naming::Transformers }
    }
}
