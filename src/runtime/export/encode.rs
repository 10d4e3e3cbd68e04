//! Encodes the rows of a tensor for the output, in pieces, on all cores.

use super::Meter;
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use std::ops::Range;

/// Values of a piece.
const PIECE: usize = 1 << 20;

/// The rows in pieces of multiples of `unit` rows, except for the last.
fn pieces(tensor: &Tensor<'_>, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = tensor.shape.iter().product::<usize>() / tensor.columns();
    let step = (PIECE / tensor.columns()).max(1).next_multiple_of(unit);
    (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
}

/// Splits `rows`, and `bytes` with them, into a share for each core and calls `encode` for each. All shares but the last are
/// multiples of `unit` rows; `row_bytes` gives the bytes of a number of rows.
fn on_all_cores(
    rows: Range<usize>,
    unit: usize,
    bytes: &mut [u8],
    row_bytes: impl Fn(usize) -> usize,
    encode: impl Fn(Range<usize>, &mut [u8]) + Sync,
) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = rows.len().div_ceil(cores).next_multiple_of(unit);
    std::thread::scope(|scope| {
        let mut left = bytes;
        for first in rows.clone().step_by(share) {
            let part = first..rows.end.min(first + share);
            let (now, later) = left.split_at_mut(row_bytes(part.len()));
            left = later;
            let encode = &encode;
            scope.spawn(move || encode(part, now));
        }
    });
}

/// Writes all rows as blocks.
pub(super) fn blocks(
    tensor: &Tensor<'_>,
    format: WeightFormat,
    meter: &mut Meter<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let row_bytes = format.row_bytes(tensor.columns());
    let mut bytes = Vec::new();
    for rows in pieces(tensor, 1) {
        bytes.resize(rows.len() * row_bytes, 0);
        on_all_cores(
            rows.clone(),
            1,
            &mut bytes,
            |rows| rows * row_bytes,
            |rows, bytes| {
                tensor.encode_rows(rows, format, bytes);
            },
        );
        write(&bytes)?;
        meter.passed(tensor, rows);
    }
    Ok(())
}

/// Writes all values as f32, each mapped by `map`.
pub(super) fn mapped(
    tensor: &Tensor<'_>,
    map: impl Fn(f32) -> f32,
    meter: &mut Meter<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut values = Vec::new();
    for rows in pieces(tensor, 1) {
        values.resize(rows.len() * tensor.columns(), 0.0);
        tensor.decode_rows(rows.clone(), &mut values);
        values.iter_mut().for_each(|value| *value = map(*value));
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        write(&bytes)?;
        meter.passed(tensor, rows);
    }
    Ok(())
}

/// Writes all values as 4-bit codes of bitsandbytes, whose blocks of 64 continue across rows. `write` gets the codes; returns the
/// scales, F32 little endian.
pub(super) fn bnb4(
    tensor: &Tensor<'_>,
    format: WeightFormat,
    meter: &mut Meter<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Vec<u8>> {
    let (columns, block) = (tensor.columns(), format.block_values());
    // The smallest number of rows that is whole blocks.
    let unit = (1..=block).find(|rows| rows * columns % block == 0).expect("block_values rows are whole blocks");
    let (mut blocks, mut scales) = (Vec::new(), Vec::new());
    for rows in pieces(tensor, unit) {
        let values = rows.len() * columns;
        blocks.resize(format.row_bytes(values), 0);
        let bytes_of = |rows: usize| format.row_bytes(rows * columns);
        on_all_cores(rows.clone(), unit, &mut blocks, bytes_of, |rows, bytes| {
            let mut values = vec![0.0; rows.len() * columns];
            tensor.decode_rows(rows, &mut values);
            format.encode_row(&values, bytes);
        });
        let mut codes = Vec::with_capacity(values / 2);
        for block in blocks.chunks_exact(format.block_bytes()) {
            let (scale, packed) = block.split_at(size_of::<f32>());
            scales.extend(scale);
            codes.extend(packed);
        }
        codes.truncate(values.div_ceil(2));
        write(&codes)?;
        meter.passed(tensor, rows);
    }
    Ok(scales)
}

/// Writes all values as 8-bit codes of bitsandbytes: `q * scale / 127`, where the scale is a row's largest magnitude. `write` gets
/// the codes; returns the scales, F32 little endian.
pub(super) fn bnb_int8(
    tensor: &Tensor<'_>,
    meter: &mut Meter<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Vec<u8>> {
    let columns = tensor.columns();
    let row_bytes = size_of::<f32>() + columns;
    let (mut bytes, mut scales) = (Vec::new(), Vec::new());
    for rows in pieces(tensor, 1) {
        bytes.resize(rows.len() * row_bytes, 0);
        on_all_cores(
            rows.clone(),
            1,
            &mut bytes,
            |rows| rows * row_bytes,
            |rows, bytes| {
                let mut values = vec![0.0; columns];
                for (row, bytes) in rows.zip(bytes.chunks_exact_mut(row_bytes)) {
                    tensor.decode_rows(row..row + 1, &mut values);
                    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                    let (first, codes) = bytes.split_at_mut(size_of::<f32>());
                    first.copy_from_slice(&scale.to_le_bytes());
                    let by = if scale > 0.0 { 127.0 / scale } else { 0.0 };
                    for (code, value) in codes.iter_mut().zip(&values) {
                        *code = (value * by).round_ties_even() as i8 as u8;
                    }
                }
            },
        );
        let mut codes = Vec::with_capacity(rows.len() * columns);
        for row in bytes.chunks_exact(row_bytes) {
            let (scale, packed) = row.split_at(size_of::<f32>());
            scales.extend(scale);
            codes.extend(packed);
        }
        write(&codes)?;
        meter.passed(tensor, rows);
    }
    Ok(scales)
}
