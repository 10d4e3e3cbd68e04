//! Activations on the device: rows of values, in the order that the next product reads.

pub mod int8;

use super::sizes::size;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};

/// Rows of activations are filled up to a multiple of this many floats, so that whole units of every weight format can be
/// read. The filling is zero and stays so.
pub const ROW_ALIGN: usize = 32;

/// How the values of a row of activations lie, by what reads them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    #[default]
    Plain,
    /// By quads, for products in a decode step with formats whose unit holds 32 values: quad q of unit u is quad
    /// `q * units + u`, so that lanes that take a unit each read side by side.
    ByQuads,
    /// As int8 by groups of 32 values, see [`int8`].
    Int8,
}

impl Order {
    /// What `placed` of the shaders takes: the logarithm of the quads of a unit, and the units of a row of so many values.
    pub fn placing(self, width: usize) -> [u32; 2] {
        match self {
            Order::Plain => [0, 0],
            Order::ByQuads => [3, size(width.div_ceil(32))],
            Order::Int8 => [0, size(width.div_ceil(int8::GROUP))],
        }
    }

    /// Where value `column` of a row of `width` f32 values lies.
    pub fn place(self, column: usize, width: usize) -> usize {
        match self {
            Order::Plain => column,
            Order::Int8 => unreachable!("packed values have no places of their own"),
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
    /// How the values of a row lie.
    pub order: Order,
}

impl Activation {
    /// A new one, all zero, its rows filled up to whole units.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let stride = width.next_multiple_of(ROW_ALIGN);
        Ok(Activation { buf: gpu.buffer(label, rows * stride, Usage::Storage)?, width, stride, order: Order::Plain })
    }

    /// A new one without filling: for results that no product reads.
    pub fn dense(gpu: &Gpu, label: &str, rows: usize, width: usize) -> Result<Self> {
        let buf = gpu.buffer(label, rows * width, Usage::Storage)?;
        Ok(Activation { buf, width, stride: width, order: Order::Plain })
    }

    /// The same memory with its first `width` columns in another order: what one product reads is written so.
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

    /// Columns `columns` of `rows` rows, read back as they lie.
    pub async fn read(&self, gpu: &Gpu, rows: usize, columns: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let all = gpu.read(&self.buf, 0..rows * self.stride).await?;
        Ok(all.chunks_exact(self.stride).flat_map(|row| row[columns.clone()].iter().copied()).collect())
    }
}
