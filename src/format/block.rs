//! Blocks of values, as files store them: what each means, and how values become blocks.

use super::WeightFormat;
use half::{bf16, f16};

impl WeightFormat {
    /// The values of a row of blocks; exact. `row` is [`WeightFormat::row_bytes`] of as many values as are wanted.
    pub fn decode_row(self, row: &[u8], values: &mut [f32]) {
        let pair = |b: &[u8]| <[u8; 2]>::try_from(b).expect("chunks_exact(2) yields two bytes");
        match self {
            WeightFormat::F32 => {
                for (value, b) in values.iter_mut().zip(row.chunks_exact(4)) {
                    *value = f32::from_le_bytes(b.try_into().expect("chunks_exact(4) yields four bytes"));
                }
            }
            WeightFormat::F16 => {
                values.iter_mut().zip(row.chunks_exact(2)).for_each(|(v, b)| *v = f16::from_le_bytes(pair(b)).to_f32());
            }
            WeightFormat::Bf16 => {
                values
                    .iter_mut()
                    .zip(row.chunks_exact(2))
                    .for_each(|(v, b)| *v = bf16::from_le_bytes(pair(b)).to_f32());
            }
            _ => todo!("{self}"),
        }
    }

    /// Rows of `columns` values as blocks, see [`WeightFormat::encode_row`].
    pub fn encode(self, values: &[f32], columns: usize) -> Vec<u8> {
        let mut blocks = vec![0; values.len() / columns * self.row_bytes(columns)];
        let rows = values.chunks_exact(columns).zip(blocks.chunks_exact_mut(self.row_bytes(columns)));
        rows.for_each(|(values, row)| self.encode_row(values, row));
        blocks
    }

    /// Values as a row of blocks, with the scales that leave the least squared error. `row` is
    /// [`WeightFormat::row_bytes`] of that many values.
    pub fn encode_row(self, values: &[f32], row: &mut [u8]) {
        match self {
            WeightFormat::F32 => {
                values.iter().zip(row.chunks_exact_mut(4)).for_each(|(v, b)| b.copy_from_slice(&v.to_le_bytes()));
            }
            WeightFormat::F16 => values
                .iter()
                .zip(row.chunks_exact_mut(2))
                .for_each(|(v, b)| b.copy_from_slice(&f16::from_f32(*v).to_le_bytes())),
            WeightFormat::Bf16 => values
                .iter()
                .zip(row.chunks_exact_mut(2))
                .for_each(|(v, b)| b.copy_from_slice(&bf16::from_f32(*v).to_le_bytes())),
            _ => todo!("{self}"),
        }
    }
}
