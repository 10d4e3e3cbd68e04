//! Which form of each kernel family is recorded. Every choice is made here, from what the adapter can do.

use super::linear::Product;
use super::{matmul, matvec, scan, ssm_step};
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
    /// The scan of a prefill chunk.
    pub scan: scan::Form,
}

impl Variants {
    /// What suits an adapter, by its type and what it can do, and a model of so many channels and states of each.
    pub fn of(caps: &Caps, channels: usize, states: usize) -> Self {
        Variants {
            matvec: matvec::Form::of(caps),
            narrow: matvec::Form::narrow(caps),
            step: ssm_step::Form::of(caps),
            matmul: matmul::Form::of(caps),
            scan: scan::Form::of(caps, channels, states),
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
        let Variants { matvec, narrow, step, matmul, scan } = self;
        write!(f, "matvec {matvec} · narrow {narrow} · step {step} · matmul {matmul} · {}", scan.name())
    }
}
