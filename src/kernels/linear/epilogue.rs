//! Prologues, which prepare a product's input, and epilogues, which finish its output.

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
        /// Offset of the gate in a row of y.
        gate_first: u32,
    }
}

/// Preparation of a product's input.
#[derive(Clone, Copy)]
pub enum Prologue<'a> {
    /// x as it is.
    None,
    /// An RMSNorm in a decode step: x is multiplied with the norm's weights already and comes with partial sums of
    /// squares. The scale is 1 / sqrt(mean of the squares + eps).
    Norm {
        /// `[tokens, parts]`.
        squares: &'a Buf<f32>,
        /// Partial sums per token.
        parts: usize,
        /// Added to the mean square.
        eps: f32,
    },
}

/// Operands and outputs for the norm that follows in a decode step.
#[derive(Clone, Copy)]
pub struct NextNorm<'a> {
    /// `[H]`.
    pub weight: &'a Buf<f32>,
    /// Output: the residual stream times the weights, in the order of its consumer.
    pub normed: &'a Activation,
    /// Output: partial sums of the stream's squares, `[tokens, parts]`.
    pub squares: &'a Buf<f32>,
}

/// How a product's sums become y.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// y = W x.
    Store,
    /// y is so many planes `[tokens, rows]`, one after the other: plane i is W x over the i-th slice of k. The consumer adds them. In
    /// prefill.
    Slices(u32),
    /// y = residual + W x; the residual has y's layout.
    Residual(&'a Activation),
    /// [`Epilogue::Residual`], with the next norm's input, in a decode step.
    ResidualNorm(&'a Activation, NextNorm<'a>),
    /// y = softplus(W x + bias), in prefill.
    Softplus(&'a Buf<f32>),
    /// y = W x + row (token mod R) of a table of R rows with y's layout: positions of patches, or a bias where R is 1.
    Table(&'a Buf<f32>),
    /// y = gelu(W x + bias).
    Gelu(&'a Buf<f32>),
    /// y = residual + (W x + bias); the residual has y's layout.
    BiasResidual(&'a Buf<f32>, &'a Activation),
    /// y = silu(conv(W x)) in the first D rows, silu(W x) in the others, in a decode step: [x | gate], x in y's order and padded to
    /// whole units.
    Mixer(Conv<'a>, &'a Buf<RowEntry>),
    /// y = W x where y is `[slot][version]`: a row goes to its slot's next version, in a decode step.
    Logits(&'a Buf<RowEntry>, usize),
}

/// An [`Epilogue`] without its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EpilogueKind {
    Store,
    /// With their number, above 1.
    Slices(u32),
    Residual,
    ResidualNorm,
    /// [`EpilogueKind::ResidualNorm`] with packed int8 output.
    ResidualNormInt8,
    Softplus,
    Table,
    Gelu,
    BiasResidual,
    /// With the number of taps of the convolution.
    Mixer(usize),
    /// With the number of versions of a slot.
    Logits(usize),
}

impl EpilogueKind {
    /// Slices of k that are summed apart.
    pub(super) fn slices(self) -> u32 {
        if let EpilogueKind::Slices(count) = self { count } else { 1 }
    }
}

impl Epilogue<'_> {
    pub(super) fn kind(&self) -> EpilogueKind {
        match self {
            Epilogue::Store | Epilogue::Slices(1) => EpilogueKind::Store,
            Epilogue::Slices(count) => EpilogueKind::Slices(*count),
            Epilogue::Residual(_) => EpilogueKind::Residual,
            Epilogue::ResidualNorm(_, next) if next.normed.order == Order::Int8 => EpilogueKind::ResidualNormInt8,
            Epilogue::ResidualNorm(..) => EpilogueKind::ResidualNorm,
            Epilogue::Softplus(_) => EpilogueKind::Softplus,
            Epilogue::Table(_) => EpilogueKind::Table,
            Epilogue::Gelu(_) => EpilogueKind::Gelu,
            Epilogue::BiasResidual(..) => EpilogueKind::BiasResidual,
            Epilogue::Mixer(conv, _) => EpilogueKind::Mixer(conv.kernel),
            Epilogue::Logits(_, versions) => EpilogueKind::Logits(*versions),
        }
    }
}

/// Offset of the gate in a row of [`Epilogue::Mixer`]'s y: after x, padded to whole units.
pub fn gate_first(inner: usize) -> usize {
    inner.next_multiple_of(ROW_ALIGN)
}
