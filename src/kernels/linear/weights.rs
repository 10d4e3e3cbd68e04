//! Weight matrices on the device: in their storage format, split by rows into shards.

use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Buf, Gpu, UPLOAD_PIECE, Uploads, Usage};
use crate::kernels::activation::int8::GROUP;
use crate::kernels::fill::MadeUp;
use std::sync::OnceLock;

/// Least rows of y that a workgroup makes.
const MIN_ROWS: u32 = 1;

/// Shape and format of a matrix, by which variants are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Rows of W.
    pub rows: usize,
    /// Values in a row of W.
    pub columns: usize,
    /// Storage format.
    pub format: WeightFormat,
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} {}", self.rows, self.columns, self.format)
    }
}

/// A weight matrix `[rows, columns]` on the device, in its storage format, split by rows into as many shards as the adapter's binding
/// limit requires.
pub struct Linear {
    pub(super) name: String,
    format: WeightFormat,
    rows: usize,
    columns: usize,
    shards: Vec<Shard>,
    /// See [`Linear::row_tops`].
    pub(super) tops: OnceLock<Vec<Buf<u32>>>,
}

/// Some rows of a [`Linear`], in one buffer.
pub(in crate::kernels) struct Shard {
    pub(in crate::kernels) weight: Buf<u8>,
    pub(in crate::kernels) first: usize,
    pub(in crate::kernels) rows: usize,
}

/// Rows of a shard: as many as the adapter can bind and dispatch at once.
fn shard_rows(gpu: &Gpu, name: &str, format: WeightFormat, (rows, columns): (usize, usize)) -> Result<usize> {
    let row_bytes = format.device_row_bytes(columns) as u64;
    let limit = gpu.caps().span_limit();
    let most_groups = gpu.caps().max_groups as usize * MIN_ROWS as usize;
    match rows.min(usize::try_from(limit / row_bytes).unwrap_or(usize::MAX)).min(most_groups) {
        0 => Err(Error::RowTooLarge { what: name.to_owned(), bytes: row_bytes, limit }),
        // Whole groups, for fast arithmetic to pack, if a group fits.
        most if most < rows && most >= GROUP => Ok(most - most % GROUP),
        most => Ok(most),
    }
}

impl Linear {
    /// Uploads a matrix in its storage format; calls `uploaded` with the number of file bytes as they arrive.
    pub fn load(gpu: &Gpu, tensor: &Tensor<'_>, uploaded: &mut dyn FnMut(usize)) -> Result<Self> {
        let mut uploads = Uploads::default();
        let linear = Self::prepare(gpu, tensor, tensor.held_as(), &mut uploads)?;
        uploads.run(gpu, &|_| {}, uploaded)?;
        Ok(linear)
    }

    /// A matrix in `format` whose weights are complete when `uploads` have run; a tensor in another format is converted.
    pub fn prepare<'a>(
        gpu: &Gpu,
        tensor: &'a Tensor<'a>,
        format: WeightFormat,
        uploads: &mut Uploads<'a>,
    ) -> Result<Self> {
        let [rows, columns] = *tensor.shape.as_slice() else { panic!("{}: a matrix was asked for", tensor.name) };
        let row_bytes = format.device_row_bytes(columns);
        let shard_rows = shard_rows(gpu, &tensor.name, format, (rows, columns))?;
        let piece_rows = (UPLOAD_PIECE / row_bytes).max(1);
        let mut shards = Vec::new();
        for first in (0..rows).step_by(shard_rows) {
            let rows = shard_rows.min(rows - first);
            let weight = gpu.buffer(format!("{}[{first}..]", tensor.name), rows * row_bytes, Usage::Storage)?;
            for at in (0..rows).step_by(piece_rows) {
                let count = piece_rows.min(rows - at);
                let of_tensor = first + at..first + at + count;
                uploads.add(
                    &weight,
                    at * row_bytes..(at + count) * row_bytes,
                    tensor.parts(of_tensor.clone()),
                    move |stage| tensor.pack_rows(of_tensor, format, stage.take(count * row_bytes)),
                );
            }
            shards.push(Shard { weight, first, rows });
        }
        Ok(Linear { name: tensor.name.clone(), format, rows, columns, shards, tops: OnceLock::new() })
    }

    /// A matrix of synthetic weights, written on the device.
    pub fn made_up(gpu: &Gpu, name: &str, matrix: Matrix) -> Result<Self> {
        let Matrix { rows, columns, format } = matrix;
        let seed = name.bytes().fold(17u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let made_up = MadeUp::new(format, columns, seed);
        let shard_rows = shard_rows(gpu, name, format, (rows, columns))?;
        let mut shards = Vec::new();
        for first in (0..rows).step_by(shard_rows) {
            let rows = shard_rows.min(rows - first);
            let weight =
                gpu.buffer(format!("{name}[{first}..]"), rows * format.device_row_bytes(columns), Usage::Storage)?;
            made_up.write(gpu, (first, rows), &weight)?;
            shards.push(Shard { weight, first, rows });
        }
        Ok(Linear { name: name.to_owned(), format, rows, columns, shards, tops: OnceLock::new() })
    }

    /// Rows of the matrix: values of y.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Partial sums of squares per token that [`super::Epilogue::ResidualNorm`] writes: one per `rows` rows of a shard.
    pub fn square_parts(&self, rows: usize) -> usize {
        self.shards.iter().map(|shard| shard.rows.div_ceil(rows)).sum()
    }

    /// Columns of the matrix: values of x.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Storage format of the weights.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Its shape and format.
    pub fn matrix(&self) -> Matrix {
        Matrix { rows: self.rows, columns: self.columns, format: self.format }
    }

    /// Whether each shard begins at a whole int8 group of rows, so that its output can be packed.
    pub fn cut_by_groups(&self) -> bool {
        self.shards().iter().all(|shard| shard.first.is_multiple_of(GROUP))
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(in crate::kernels) fn shards(&self) -> &[Shard] {
        &self.shards
    }
}
