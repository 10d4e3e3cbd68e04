//! Which form of each kernel family is recorded. Every choice is made here, from what the adapter can do.

use super::linear::Product;
use super::{Phase, matmul, matvec, scan};
use crate::gpu::Caps;

/// A form for each family that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step.
    pub matvec: matvec::Form,
    /// Products of a prefill chunk.
    pub matmul: matmul::Form,
    /// The scan of a prefill chunk.
    pub scan: scan::Form,
}

impl Variants {
    /// What suits an adapter, by its type and what it can do, and a model of so many channels and states of each.
    pub fn of(caps: &Caps, channels: usize, states: usize) -> Self {
        let scan = scan::Form::of(caps, channels, states);
        Variants { matvec: matvec::Form::of(caps), matmul: matmul::Form::of(caps), scan }
    }

    /// The product of a phase.
    pub fn product(&self, phase: Phase) -> Product {
        match phase {
            Phase::Decode => Product::Matvec(self.matvec),
            Phase::Prefill => Product::Matmul(self.matmul),
        }
    }
}
