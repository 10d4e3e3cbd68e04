//! Weight matrices on the device: in their own format, cut by rows into shards. [`super::product`] multiplies with them.

use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Buf, Gpu, UPLOAD_PIECE, Uploads, Usage};
use crate::kernels::activation::int8::GROUP;
use crate::kernels::fill::MadeUp;
use std::sync::OnceLock;

/// Rows that a workgroup makes, at the least.
const MIN_ROWS: u32 = 1;

/// What a variant is chosen for: a matrix by its shape and format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// Rows of W.
    pub rows: usize,
    /// Values in a row of W.
    pub columns: usize,
    /// How they are stored.
    pub format: WeightFormat,
}

impl std::fmt::Display for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{} {}", self.rows, self.columns, self.format)
    }
}

/// A weight matrix `[rows, columns]` on the device, in its own format, cut by rows into as many shards as the adapter's
/// binding limit asks for.
pub struct Linear {
    pub(super) name: String,
    format: WeightFormat,
    rows: usize,
    columns: usize,
    shards: Vec<Shard>,
    /// See [`Linear::row_tops`].
    pub(super) tops: OnceLock<Vec<Buf<u32>>>,
}

/// Some rows of a [`Linear`], in a buffer of their own.
pub(in crate::kernels) struct Shard {
    pub(in crate::kernels) weight: Buf<u8>,
    pub(in crate::kernels) first: usize,
    pub(in crate::kernels) rows: usize,
}

/// Rows of a shard: as many as the adapter binds, and dispatches, at a time.
fn shard_rows(gpu: &Gpu, name: &str, format: WeightFormat, (rows, columns): (usize, usize)) -> Result<usize> {
    let row_bytes = format.device_row_bytes(columns) as u64;
    let limit = gpu.caps().span_limit();
    let most_groups = gpu.caps().max_groups as usize * MIN_ROWS as usize;
    match rows.min(usize::try_from(limit / row_bytes).unwrap_or(usize::MAX)).min(most_groups) {
        0 => Err(Error::RowTooLarge { what: name.to_owned(), bytes: row_bytes, limit }),
        // Whole groups, which fast arithmetic packs, where that many fit.
        most if most < rows && most >= GROUP => Ok(most - most % GROUP),
        most => Ok(most),
    }
}

impl Linear {
    /// Uploads a matrix as it is, calling `uploaded` with the number of bytes of the file as they arrive.
    pub fn load(gpu: &Gpu, tensor: &Tensor<'_>, uploaded: &mut dyn FnMut(usize)) -> Result<Self> {
        let mut uploads = Uploads::default();
        let linear = Self::prepare(gpu, tensor, tensor.held_as(), &mut uploads)?;
        uploads.run(gpu, &|_| {}, uploaded)?;
        Ok(linear)
    }

    /// A matrix whose weights are there once `uploads` have run, in `format`: converted on the way if the tensor has another.
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

    /// A matrix of made-up weights, written on the device.
    pub fn made_up(gpu: &Gpu, name: &str, (format, rows, columns): (WeightFormat, usize, usize)) -> Result<Self> {
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

    /// Parts in which [`super::product::Epilogue::ResidualNorm`] leaves the sum of squares of a token: one for so many rows of a
    /// shard.
    pub fn square_parts(&self, rows: usize) -> usize {
        self.shards.iter().map(|shard| shard.rows.div_ceil(rows)).sum()
    }

    /// Columns of the matrix: values of x.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the weights are stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// What the variant of its product is chosen by.
    pub fn matrix(&self) -> Matrix {
        Matrix { rows: self.rows, columns: self.columns, format: self.format }
    }

    /// Whether each shard begins with a whole group of rows, so that what it makes can be packed.
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
