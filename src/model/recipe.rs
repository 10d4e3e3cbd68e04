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
    pub fn format(self, role: Role, stored: WeightFormat, columns: usize) -> WeightFormat {
        match self {
            Recipe::AsStored => stored,
            Recipe::To(format) => fitting(wider(format, role), stored, columns),
        }
    }
}

/// What a role gets where a format serves it badly.
fn wider(format: WeightFormat, _role: Role) -> WeightFormat {
    format
}

/// A format whose blocks fill the rows: the one wanted, else q8_0, else one of plain values, without loss if possible.
fn fitting(wanted: WeightFormat, stored: WeightFormat, columns: usize) -> WeightFormat {
    let fits = |format: &WeightFormat| columns.is_multiple_of(format.block_values());
    let k_quants = wanted.block_values() == 256;
    let plain = if stored == WeightFormat::Bf16 { stored } else { WeightFormat::F16 };
    [Some(wanted), k_quants.then_some(WeightFormat::Q8_0)].into_iter().flatten().find(fits).unwrap_or(plain)
}
