//! What a product reads and what becomes of its sums.

use crate::gpu::{Buf, params};
use crate::kernels::activation::{Activation, Order, ROW_ALIGN};
use crate::kernels::batch::RowEntry;
use crate::kernels::conv::Conv;

params! {
    /// Parameters of the mixer's epilogue.
    pub struct MixerParams {
        /// Channels, D.
        inner: u32,
        /// Versions of a slot's state.
        versions: u32,
        /// Place of a row of y where the gate begins.
        gate_first: u32,
    }
}

/// What a product reads of x.
#[derive(Clone, Copy)]
pub enum Prologue<'a> {
    /// x.
    None,
    /// An RMSNorm, in a decode step: x is multiplied with its weights already and comes with its squares summed up in parts,
    /// `[tokens, parts]`. The scale is 1 / sqrt(mean of the squares + eps).
    Norm {
        /// `[tokens, parts]`.
        squares: &'a Buf<f32>,
        /// How many parts.
        parts: usize,
        /// Added to the mean square.
        eps: f32,
    },
}

/// Where a decode step makes a residual stream ready for the norm that follows.
#[derive(Clone, Copy)]
pub struct NextNorm<'a> {
    /// `[H]`.
    pub weight: &'a Buf<f32>,
    /// The stream times the weights, in the order of what reads it.
    pub normed: &'a Activation,
    /// The stream's squares summed up by a few rows, `[tokens, parts]`.
    pub squares: &'a Buf<f32>,
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// y = W x.
    Store,
    /// y = residual + W x; the residual is laid out as y.
    Residual(&'a Activation),
    /// [`Epilogue::Residual`], made ready for the next norm, in a decode step.
    ResidualNorm(&'a Activation, NextNorm<'a>),
    /// y = softplus(W x + bias), in prefill.
    Softplus(&'a Buf<f32>),
    /// y = silu(conv(W x)) in the first D rows, silu(W x) in the others, in a decode step: [x | gate], x in y's order and filled
    /// up to whole units.
    Mixer(Conv<'a>, &'a Buf<RowEntry>),
    /// y = W x where y is `[slot][version]`: a row goes to its slot's next version, in a decode step.
    Logits(&'a Buf<RowEntry>, usize),
}

/// An [`Epilogue`] without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EpilogueKind {
    Store,
    Residual,
    ResidualNorm,
    /// [`EpilogueKind::ResidualNorm`] where the next product reads int8.
    ResidualNormInt8,
    Softplus,
    /// With the taps of its convolution.
    Mixer(usize),
    /// With the versions of a slot's.
    Logits(usize),
}

impl Epilogue<'_> {
    pub(super) fn kind(&self) -> EpilogueKind {
        match self {
            Epilogue::Store => EpilogueKind::Store,
            Epilogue::Residual(_) => EpilogueKind::Residual,
            Epilogue::ResidualNorm(_, next) if next.normed.order == Order::Int8 => EpilogueKind::ResidualNormInt8,
            Epilogue::ResidualNorm(..) => EpilogueKind::ResidualNorm,
            Epilogue::Softplus(_) => EpilogueKind::Softplus,
            Epilogue::Mixer(conv, _) => EpilogueKind::Mixer(conv.kernel),
            Epilogue::Logits(_, versions) => EpilogueKind::Logits(*versions),
        }
    }
}

/// Place of a row of [`Epilogue::Mixer`]'s y where the gate begins: after x, filled up to whole units.
pub fn gate_first(inner: usize) -> usize {
    inner.next_multiple_of(ROW_ALIGN)
}
