//! Activations on the device: rows of values, in the order that the next product reads.

pub mod int8;

use super::sizes::size;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};

/// Rows of activations are padded to a multiple of this many floats, so that whole units of every weight format can be read. The
/// padding is always zero.
pub const ROW_ALIGN: usize = 32;

/// Floats from one row of activations to the next, for rows of `width` values.
pub fn stride(width: usize) -> usize {
    width.next_multiple_of(ROW_ALIGN)
}

/// Rows of `width` values, each padded with zeros as rows of activations are.
pub fn padded_rows(values: &[f32], width: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(values.len() / width.max(1) * stride(width));
    for row in values.chunks_exact(width.max(1)) {
        all.extend_from_slice(row);
        all.resize(all.len().next_multiple_of(ROW_ALIGN), 0.0);
    }
    all
}

/// Memory order of the values in a row of activations; the consumer decides it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Sequential.
    #[default]
    Plain,
    /// By quads, for products in a decode step with formats whose unit holds 32 values: quad q of unit u is quad
    /// `q * units + u`, so that lanes that take one unit each read adjacent memory.
    ByQuads,
    /// Packed as int8 in groups of 32 values, see [`int8`].
    Int8,
}

impl Order {
    /// Arguments of the shaders' `placed`: the logarithm of the quads in a unit, and the units in a row of `width` values.
    pub fn placing(self, width: usize) -> [u32; 2] {
        match self {
            Order::Plain => [0, 0],
            Order::ByQuads => [3, size(width.div_ceil(32))],
            Order::Int8 => [0, size(width.div_ceil(int8::GROUP))],
        }
    }

    /// Position of value `column` in a row of `width` f32 values.
    pub fn place(self, column: usize, width: usize) -> usize {
        match self {
            Order::Plain => column,
            Order::Int8 => unreachable!("packed values have no positions"),
            Order::ByQuads => {
                let (quad, units) = (column / 4, width.div_ceil(32));
                4 * (quad % 8 * units + quad / 8) + column % 4
            }
        }
    }
}

/// A matrix of activations, `[rows, width]` f32 or int8; a row starts every `stride` words.
#[derive(Clone)]
pub struct Activation {
    /// The values.
    pub buf: Buf<f32>,
    /// Columns.
    pub width: usize,
    /// Floats from one row to the next.
    pub stride: usize,
    /// Order of the values in a row.
    pub order: Order,
}

impl Activation {
    /// A zeroed matrix with rows padded to whole units.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let stride = stride(width);
        Ok(Activation { buf: gpu.buffer(label, rows * stride, Usage::Storage)?, width, stride, order: Order::Plain })
    }

    /// A zeroed matrix without padding, for results that no product reads.
    pub fn dense(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let buf = gpu.buffer(label, rows * width, Usage::Storage)?;
        Ok(Activation { buf, width, stride: width, order: Order::Plain })
    }

    /// The same memory, with its first `width` columns in the order of the product that reads it.
    pub fn ordered(&self, width: usize, order: Order) -> Self {
        assert!(width.next_multiple_of(ROW_ALIGN) <= self.stride, "a row is long enough");
        Activation { buf: self.buf.clone(), width, stride: self.stride, order }
    }

    /// Writes the values of a row.
    pub fn write_row(&self, gpu: &Gpu, row: usize, values: &[f32]) -> Result<()> {
        if self.order == Order::Int8 {
            let words: Vec<f32> = int8::pack(values).into_iter().map(f32::from_bits).collect();
            return gpu.write(&self.buf, row * self.stride, &words);
        }
        let mut placed = vec![0.0; values.len().next_multiple_of(ROW_ALIGN)];
        for (column, value) in values.iter().enumerate() {
            placed[self.order.place(column, values.len())] = *value;
        }
        gpu.write(&self.buf, row * self.stride, &placed)
    }

    /// Reads `columns` of the first `rows` rows back, in memory order.
    pub async fn read(&self, gpu: &Gpu, rows: usize, columns: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let all = gpu.read(&self.buf, 0..rows * self.stride).await?;
        Ok(all.chunks_exact(self.stride).flat_map(|row| row[columns.clone()].iter().copied()).collect())
    }
}
