//! Weight matrices on the device: in their own format, cut by rows into shards. [`super::product`] multiplies with them.

use super::fill::MadeUp;
use super::int8::GROUP;
use super::matvec::{self, Matrix};
use super::{Part, file};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Gpu, Source, UPLOAD_PIECE, Uploads, Usage, wgsl};
use std::sync::OnceLock;

/// The parts that read weights of a format: they bind them in group 1 and unpack a unit at a time.
pub(super) fn weights_parts(format: WeightFormat) -> Vec<Part> {
    let bits = Part::Longs { with: wgsl!("lib/bits_longs.wgsl"), without: wgsl!("lib/bits_words.wgsl") };
    let unpack = match format {
        WeightFormat::F32 => vec![wgsl!("lib/weights_f32.wgsl")],
        WeightFormat::F16 => vec![wgsl!("lib/weights_f16.wgsl")],
        WeightFormat::Bf16 => vec![wgsl!("lib/weights_bf16.wgsl")],
        WeightFormat::Q8_0 => vec![wgsl!("lib/codes_8.wgsl"), wgsl!("lib/weights_q8_0.wgsl")],
        WeightFormat::Int8 => vec![wgsl!("lib/codes_8.wgsl"), wgsl!("lib/weights_int8.wgsl")],
        WeightFormat::Q4_0 => vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/weights_q4_0.wgsl")],
        WeightFormat::Q4K => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/scales_k.wgsl"), wgsl!("lib/weights_q4_k.wgsl")]
        }
        WeightFormat::Q5K => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/scales_k.wgsl"), wgsl!("lib/weights_q5_k.wgsl")]
        }
        WeightFormat::Q6K => vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/weights_q6_k.wgsl")],
        WeightFormat::Nf4 => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/map_nf4.wgsl"), wgsl!("lib/weights_map4.wgsl")]
        }
        WeightFormat::Fp4 => {
            vec![wgsl!("lib/codes_4.wgsl"), wgsl!("lib/map_fp4.wgsl"), wgsl!("lib/weights_map4.wgsl")]
        }
    };
    let quads = match format {
        WeightFormat::F32 => vec![wgsl!("lib/quads_1.wgsl")],
        WeightFormat::F16 | WeightFormat::Bf16 => vec![wgsl!("lib/quads_2.wgsl")],
        WeightFormat::Q4K | WeightFormat::Q5K | WeightFormat::Q6K => vec![wgsl!("lib/quads_8.wgsl")],
        WeightFormat::Q8_0 | WeightFormat::Q4_0 | WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => {
            vec![wgsl!("lib/quads_8.wgsl"), wgsl!("lib/unpack_scaled.wgsl")]
        }
    };
    let map = Part::Cpu { with: wgsl!("lib/map_select.wgsl"), without: wgsl!("lib/map_table.wgsl") };
    let prepared = match format {
        WeightFormat::Nf4 | WeightFormat::Fp4 => map,
        _ => file(wgsl!("lib/map_none.wgsl")),
    };
    [bits].into_iter().chain(unpack.into_iter().chain(quads).map(file)).chain([prepared]).collect()
}

/// The parts that multiply a unit of a format with what it meets of x, beside [`weights_parts`].
pub(super) fn dot_parts(format: WeightFormat) -> Vec<Part> {
    // What makes floats of codes, and what the codes of half a unit are weighed with.
    let codes = |unpack: &[Source], weigh| [unpack, &[weigh, wgsl!("lib/dot_halves.wgsl")]].concat();
    let (scale, minimum) = (wgsl!("lib/weigh_scale.wgsl"), wgsl!("lib/weigh_minimum.wgsl"));
    let (nibbles, bytes) = (wgsl!("lib/lifted_codes.wgsl"), wgsl!("lib/lifted_bytes.wgsl"));
    let lifted = wgsl!("lib/codes_lifted.wgsl");
    let parts = match format {
        WeightFormat::F32 => vec![wgsl!("lib/dot_1.wgsl")],
        WeightFormat::F16 | WeightFormat::Bf16 => vec![wgsl!("lib/dot_2.wgsl")],
        WeightFormat::Q8_0 | WeightFormat::Int8 | WeightFormat::Nf4 | WeightFormat::Fp4 => {
            codes(&[wgsl!("lib/codes_unlifted.wgsl")], scale)
        }
        WeightFormat::Q4_0 => codes(&[nibbles, wgsl!("lib/codes_q4_0.wgsl"), lifted], scale),
        WeightFormat::Q4K => codes(&[nibbles, wgsl!("lib/codes_q4_k.wgsl"), lifted], minimum),
        WeightFormat::Q5K => codes(&[bytes, wgsl!("lib/codes_q5_k.wgsl"), lifted], minimum),
        WeightFormat::Q6K => codes(&[bytes, wgsl!("lib/codes_q6_k.wgsl"), lifted], wgsl!("lib/weigh_scales.wgsl")),
    };
    parts.into_iter().map(file).collect()
}

pub(super) fn weights_bindings() -> Vec<Binding> {
    vec![Binding::read("weight")]
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
pub(super) struct Shard {
    pub(super) weight: Buf<u8>,
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// Rows of a shard: as many as the adapter binds, and dispatches, at a time.
fn shard_rows(gpu: &Gpu, name: &str, format: WeightFormat, (rows, columns): (usize, usize)) -> Result<usize> {
    let row_bytes = format.device_row_bytes(columns) as u64;
    let limit = gpu.caps().span_limit();
    let most_groups = gpu.caps().max_groups as usize * matvec::MIN_ROWS as usize;
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

    /// What the form of its product is chosen by.
    pub fn matrix(&self) -> Matrix {
        Matrix { rows: self.rows, columns: self.columns, format: self.format }
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }
}
