//! Which form of each kernel family is recorded: by what the adapter is and can do, or as it was measured.

use super::product::Product;
use super::{matmul, matvec, scan, ssm_step};
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

impl std::fmt::Display for Math {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Math::Exact => "exact",
            Math::Fast => "fast",
        })
    }
}

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
    /// How exact they are.
    pub math: Math,
}

/// What a family's kernels belong to, and so what shows how fast they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A decode step.
    Step,
    /// A prefill chunk.
    Chunk,
}

impl Variants {
    /// Forms that run anywhere and ask nothing of the adapter.
    pub fn portable() -> Self {
        let caps = Caps::portable();
        Variants { matmul: matmul::Form::Direct, scan: scan::Form::Direct, ..Self::of(&caps, 1, 1) }
    }

    /// What suits an adapter, by its type and what it can do, and a model of so many channels and states of each: nothing
    /// that only a trial can tell.
    pub fn of(caps: &Caps, channels: usize, states: usize) -> Self {
        Variants {
            matvec: matvec::Form::of(caps),
            narrow: matvec::Form::narrow(caps),
            step: ssm_step::Form::of(caps),
            matmul: matmul::Form::of(caps),
            scan: scan::Form::of(caps, channels, states),
            math: Math::Exact,
        }
    }

    /// [`Variants::of`], and cooperative matrices where they have won their trial on this device.
    pub fn tried(gpu: &Gpu, math: Math, channels: usize, states: usize) -> Result<Self> {
        let variants = Variants { math, ..Self::of(gpu.caps(), channels, states) };
        let trial = matmul::trial(gpu, math)?;
        Ok(trial.map_or(variants, |trial| Variants { matmul: trial.winner(), ..variants }))
    }

    /// For each family, these variants with each of its forms that the adapter runs in this class of arithmetic.
    pub fn alternatives(&self, caps: &Caps) -> Vec<(Part, Vec<Variants>)> {
        let mut families = Vec::new();
        let matvecs = matvec::Form::all(caps);
        families.push((Part::Step, matvecs.iter().map(|form| Variants { matvec: *form, ..*self }).collect()));
        families.push((Part::Step, matvecs.iter().map(|form| Variants { narrow: *form, ..*self }).collect()));
        let steps = ssm_step::Form::all(caps).into_iter();
        families.push((Part::Step, steps.map(|step| Variants { step, ..*self }).collect()));
        // Cooperative matrices have had their trial.
        let matmuls = matmul::Form::all(caps).into_iter();
        let matmuls = matmuls.filter(|form| *form == self.matmul || !matches!(form, matmul::Form::Coop(..)));
        families.push((Part::Chunk, matmuls.map(|matmul| Variants { matmul, ..*self }).collect()));
        let scans = scan::Form::all(caps).into_iter();
        families.push((Part::Chunk, scans.map(|scan| Variants { scan, ..*self }).collect()));
        families
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
        let Variants { matvec, narrow, step, matmul, scan, math: _ } = self;
        write!(f, "matvec {matvec} · narrow {narrow} · step {step} · matmul {matmul} · {}", scan.name())
    }
}
