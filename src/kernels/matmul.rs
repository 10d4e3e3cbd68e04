//! `matmul`: products of a weight matrix with the tokens of a prefill chunk, bound by arithmetic.

use super::case::Case;
use super::file;
use super::linear::{self, Product};
use crate::gpu::{Binding, Caps, Count, KernelDef, Part, wgsl};

/// Lanes of a workgroup of the direct form, each with 4 rows of y.
const LANES: u32 = 32;
const LANE_ROWS: u32 = 4;
/// Tokens that a workgroup of the direct form takes; TOKENS in the shader.
const TOKENS: u32 = 8;

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each lane makes a block of y in registers and shares nothing: no barrier. For CPUs.
    Direct,
}

impl Form {
    /// What suits an adapter.
    pub fn of(_caps: &Caps) -> Self {
        Form::Direct
    }

    pub(super) fn def(self, mut parts: Vec<Part>, bindings: Vec<Binding>) -> KernelDef {
        match self {
            Form::Direct => {
                parts.push(file(wgsl!("matmul.wgsl")));
                KernelDef::new("matmul", parts, bindings).overrides(&[("WG", LANES)])
            }
        }
    }

    pub(super) fn grid(self, rows: usize) -> [Count; 2] {
        match self {
            Form::Direct => [Count::of(rows, LANES * LANE_ROWS), Count::Rows(TOKENS)],
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::Direct => "direct",
        })
    }
}

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    linear::defs(Product::Matmul(Form::of(caps)))
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    linear::cases("matmul", "direct", Product::Matmul(Form::of(caps)))
}
