//! Which form of each kernel family is recorded. Every choice is made here, from what the adapter can do.

use super::linear::Product;
use super::{Phase, matmul, matvec};
use crate::gpu::Caps;

/// A form for each family that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step.
    pub matvec: matvec::Form,
    /// Products of a prefill chunk.
    pub matmul: matmul::Form,
}

impl Variants {
    /// What suits an adapter, by its type and what it can do.
    pub fn of(caps: &Caps) -> Self {
        Variants { matvec: matvec::Form::of(caps), matmul: matmul::Form::of(caps) }
    }

    /// The product of a phase.
    pub fn product(&self, phase: Phase) -> Product {
        match phase {
            Phase::Decode => Product::Matvec(self.matvec),
            Phase::Prefill => Product::Matmul(self.matmul),
        }
    }
}

impl std::fmt::Display for Variants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "matvec {}, matmul {}", self.matvec, self.matmul)
    }
}
