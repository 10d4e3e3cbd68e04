//! The weight format of each matrix on the device.

use crate::format::WeightFormat;

/// The role of a matrix in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The table of embeddings.
    Embedding,
    /// The table of embeddings that is also the head.
    TiedEmbedding,
    /// The head.
    Head,
    /// A projection of a layer.
    Projection,
}

/// How the format of each matrix is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recipe {
    /// As in the checkpoint.
    #[default]
    AsStored,
    /// This format, with two exceptions: beside formats of four or five bits the head gets eight, and matrices whose rows are not
    /// whole blocks get a format that fits.
    To(WeightFormat),
}

impl Recipe {
    /// The format of a matrix that is stored in `stored` and has rows of `columns` values.
    pub fn format(self, role: Role, stored: WeightFormat, columns: usize) -> WeightFormat {
        match self {
            Recipe::AsStored => stored,
            Recipe::To(format) if !role.makes_logits() || format.bits() >= HEAD.bits() => {
                fitting(format, stored, columns)
            }
            // More bits than it is stored with would add nothing.
            Recipe::To(format) if stored.bits() <= format.bits() => fitting(format, stored, columns),
            Recipe::To(_) if stored.bits() < HEAD.bits() => stored,
            Recipe::To(_) => fitting(HEAD, stored, columns),
        }
    }
}

/// The narrowest format of a head that is not stored in fewer bits. On tiny-chat in q4_0, a head of 8 bits halves the divergence
/// from the trained model (0.0035 to 0.0017; nf4 0.0046 to 0.0023). Eight bits for the embeddings gain a tenth at most, for x_proj
/// nothing above noise; in_proj and out_proj are most of the bytes to save. Rows of dt_proj are short, so fitting blocks mostly
/// decide its format.
const HEAD: WeightFormat = WeightFormat::Q8_0;

impl Role {
    /// Whether the matrix makes the logits.
    fn makes_logits(self) -> bool {
        matches!(self, Role::Head | Role::TiedEmbedding)
    }
}

/// A format whose blocks fill the rows: the wanted one, else q8_0 for K-quants, else plain values, lossless if possible.
fn fitting(wanted: WeightFormat, stored: WeightFormat, columns: usize) -> WeightFormat {
    let fits = |format: &WeightFormat| columns.is_multiple_of(format.block_values());
    let k_quants = wanted.block_values() == 256;
    let plain = if stored == WeightFormat::Bf16 { stored } else { WeightFormat::F16 };
    [Some(wanted), k_quants.then_some(WeightFormat::Q8_0)].into_iter().flatten().find(fits).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use WeightFormat::{Bf16, F16, F32, Int8, Nf4, Q4_0, Q4K, Q6K, Q8_0};

    #[test]
    fn rows_of_partial_blocks_get_a_format_that_fits() {
        let format = |format, stored, columns| Recipe::To(format).format(Role::Projection, stored, columns);
        assert_eq!(format(Q4K, Bf16, 4096), Q4K);
        assert_eq!(format(Q4K, Bf16, 160), Q8_0);
        assert_eq!(format(Q6K, Bf16, 48), Bf16);
        assert_eq!(format(Q4_0, F32, 48), F16);
        assert_eq!(format(Nf4, F32, 96), F16);
        assert_eq!(format(F32, Q4_0, 7), F32);
        assert_eq!(Recipe::AsStored.format(Role::Head, Q4K, 256), Q4K);
    }

    #[test]
    fn a_head_keeps_eight_bits_unless_it_is_stored_in_less() {
        for role in [Role::Head, Role::TiedEmbedding] {
            let format = |format, stored| Recipe::To(format).format(role, stored, 256);
            assert_eq!([format(Q4K, Bf16), format(Nf4, F32), format(Int8, Bf16)], [Q8_0, Q8_0, Int8]);
            assert_eq!([format(Q4_0, Q6K), format(Q4_0, Q4K), format(Q6K, Q4_0)], [Q6K, Q4_0, Q6K]);
        }
        assert_eq!(Recipe::To(Q4K).format(Role::Embedding, Bf16, 256), Q4K);
    }
}
