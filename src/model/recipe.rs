//! Which format each matrix of a model gets on the device.

use crate::format::WeightFormat;

/// What a matrix is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The table of embeddings, which may be the head as well.
    Embedding,
    /// The head.
    Head,
    /// in_proj of a layer.
    InProj,
    /// x_proj of a layer.
    XProj,
    /// dt_proj of a layer.
    DtProj,
    /// out_proj of a layer.
    OutProj,
}

/// Which format each matrix gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recipe {
    /// The one that it has in the checkpoint.
    #[default]
    AsStored,
    /// This one, but for matrices that it serves badly.
    To(WeightFormat),
}

impl Recipe {
    /// The format of a matrix that is stored in `stored`, its rows of so many values.
    pub fn format(self, _role: Role, stored: WeightFormat, _columns: usize) -> WeightFormat {
        match self {
            Recipe::AsStored => stored,
            Recipe::To(format) => format,
        }
    }
}
