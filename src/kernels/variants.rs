//! Which form of each kernel family is recorded. Every choice is made here, from what the adapter can do.

use super::linear::Product;
use super::{Phase, matmul, matvec};
use crate::error::Result;
use crate::gpu::{Caps, Gpu};

/// How exact a product has to be where cooperative matrices make it; without them both are f32 all through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Math {
    /// As f32: values that f16 does not hold are cut in two.
    #[default]
    Exact,
    /// Values rounded to f16, sums in f32.
    Fast,
}

/// A form for each family that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variants {
    /// Products of a decode step.
    pub matvec: matvec::Form,
    /// Products of a prefill chunk.
    pub matmul: matmul::Form,
    /// How exact they are.
    pub math: Math,
}

impl Variants {
    /// What suits an adapter, by its type and what it can do: nothing that only a trial can tell.
    pub fn of(caps: &Caps) -> Self {
        Variants { matvec: matvec::Form::of(caps), matmul: matmul::Form::of(caps), math: Math::Exact }
    }

    /// [`Variants::of`], and cooperative matrices where they have won their trial on this device.
    pub fn tried(gpu: &Gpu, math: Math) -> Result<Self> {
        let variants = Variants { math, ..Self::of(gpu.caps()) };
        let trial = matmul::trial(gpu, math)?;
        Ok(trial.map_or(variants, |trial| Variants { matmul: trial.winner(), ..variants }))
    }

    /// The product of a phase.
    pub fn product(&self, phase: Phase) -> Product {
        match phase {
            Phase::Decode => Product::Matvec(self.matvec),
            Phase::Prefill => Product::Matmul(self.matmul),
        }
    }
}
