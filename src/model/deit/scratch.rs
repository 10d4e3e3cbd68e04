//! Activations of a batch of pictures, and how they share memory.

use super::{Deit, PictureBatch};
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};
use crate::kernels::{Activation, Order, ROW_ALIGN, floats, stride};

/// The buffers of a batch.
pub(super) struct Scratch {
    /// `[picture, channel, height, width]`.
    pub(super) pixels: Buf<f32>,
    /// `[rows, channels * P * P]`; in the memory of `mlp` where it fits, which the first layer overwrites.
    pub(super) patches: Activation,
    /// The residual stream; attention and MLP each read one and write the other.
    pub(super) x: [Activation; 2],
    /// The input of qkv and of fc1; between them the result of attention.
    pub(super) normed: Activation,
    /// `[rows, Q | K | V]`; in the memory of `mlp` where it fits, which is used after it.
    pub(super) qkv: Activation,
    /// Between fc1 and fc2.
    pub(super) mlp: Activation,
    /// `[pictures, E]`.
    pub(super) features: Activation,
    /// `[pictures, classes]`.
    pub(super) logits: Activation,
}

/// Whether an activation of this width can be in the memory of one of another: it leaves no padding that must stay zero.
fn fits(width: usize, into: usize) -> bool {
    width <= into && width.is_multiple_of(ROW_ALIGN) && into.is_multiple_of(ROW_ALIGN)
}

impl Scratch {
    pub(super) fn new(gpu: &Gpu, deit: &Deit, batch: &PictureBatch) -> Result<Self> {
        let cut = deit.patches(batch.image);
        let rows = batch.pictures * cut.tokens();
        let new = |label, width| Activation::new(gpu, label, rows, width);
        let mlp = new("mlp", deit.mlp)?;
        let sharing = |label, width: usize| match fits(width, deit.mlp) {
            true => Ok(Activation { buf: mlp.buf.view(0..rows * width), width, stride: width, order: Order::Plain }),
            false => new(label, width),
        };
        Ok(Scratch {
            pixels: gpu.buffer("pixels", batch.pictures * cut.values(), Usage::Storage)?,
            patches: sharing("patches", cut.columns())?,
            x: [new("x even", deit.hidden)?, new("x odd", deit.hidden)?],
            normed: new("normed", deit.hidden)?,
            qkv: sharing("qkv", 3 * deit.hidden)?,
            mlp,
            features: Activation::new(gpu, "features", batch.pictures, deit.hidden)?,
            logits: Activation::new(gpu, "logits", batch.pictures, deit.classes)?,
        })
    }

    /// Bytes of all of them.
    pub(super) fn bytes(deit: &Deit, batch: &PictureBatch) -> u64 {
        let cut = deit.patches(batch.image);
        let apart = [cut.columns(), 3 * deit.hidden].into_iter().filter(|width| !fits(*width, deit.mlp));
        let row: usize = apart.chain([deit.hidden; 3]).chain([deit.mlp]).map(stride).sum();
        let ends = stride(deit.hidden) + stride(deit.classes);
        floats(batch.pictures * (cut.tokens() * row + cut.values() + ends)) as u64
    }

    /// Bytes of the widest buffer that a kernel binds, besides stored scores.
    pub(super) fn largest(deit: &Deit, batch: &PictureBatch) -> u64 {
        let cut = deit.patches(batch.image);
        let widest = [cut.columns(), 3 * deit.hidden, deit.mlp].into_iter().map(stride).max().unwrap_or(0);
        floats(batch.pictures * (cut.tokens() * widest).max(cut.values())) as u64
    }
}
