//! Which form of each kernel family is recorded. Every choice is made here, from what the adapter can do.

use super::linear::Product;
use super::{matmul, matvec, ssm_step};
use crate::gpu::Caps;

/// A form for each family that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step.
    pub matvec: matvec::Form,
    /// Products of a decode step with matrices of few rows.
    pub narrow: matvec::Form,
    /// The scan of a decode step.
    pub step: ssm_step::Form,
    /// Products of a prefill chunk.
    pub matmul: matmul::Form,
}

impl Variants {
    /// What suits an adapter, by its type and what it can do.
    pub fn of(caps: &Caps) -> Self {
        Variants {
            matvec: matvec::Form::of(caps),
            narrow: matvec::Form::narrow(caps),
            step: ssm_step::Form::of(caps),
            matmul: matmul::Form::of(caps),
        }
    }

    /// The product of a decode step with a matrix of so many rows.
    pub fn decode(&self, rows: usize) -> Product {
        // Below this many rows the workgroups of the plain form are too few for a large GPU.
        Product::Matvec(if rows < 2048 { self.narrow } else { self.matvec })
    }

    /// The product of a prefill chunk.
    pub fn prefill(&self) -> Product {
        Product::Matmul(self.matmul)
    }
}

impl std::fmt::Display for Variants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "matvec {} · narrow {} · step {} · matmul {}", self.matvec, self.narrow, self.step, self.matmul)
    }
}
