//! `matvec`: products of a weight matrix with the rows of a decode step, bound by the bandwidth of the weights.

use super::case::Case;
use super::linear::{self, Product};
use super::{TEAM, file};
use crate::gpu::{Binding, Caps, Count, KernelDef, Part, wgsl};

/// Rows that a workgroup makes, at the least.
pub(super) const MIN_ROWS: u32 = 4;

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Rows of y that a workgroup makes.
    pub rows: u32,
}

impl Form {
    /// What suits an adapter.
    pub fn of(caps: &Caps) -> Self {
        // Four teams with subgroups; a tree over 64 lanes without.
        let lanes = if caps.subgroups { (4 * caps.subgroup_min).clamp(32, 256) } else { 64 };
        Form { lanes, rows: 16 }
    }

    pub(super) fn def(self, mut parts: Vec<Part>, bindings: Vec<Binding>) -> KernelDef {
        parts.extend([TEAM, file(wgsl!("matvec.wgsl"))]);
        KernelDef::new("matvec", parts, bindings).overrides(&[("WG", self.lanes), ("ROWS", self.rows)])
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        [Count::of(rows, self.rows), Count::Rows(1)]
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lanes {} rows", self.lanes, self.rows)
    }
}

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    linear::defs(Product::Matvec(Form::of(caps)))
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    linear::cases("matvec", "", Product::Matvec(Form::of(caps)))
}
