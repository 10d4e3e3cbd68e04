//! `matmul`: products of a weight matrix with the tokens of a prefill chunk, bound by arithmetic.

use super::case::Case;
use super::file;
use super::linear::{self, EpilogueKind, Product};
use crate::format::WeightFormat;
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

const EPILOGUES: [EpilogueKind; 3] = [EpilogueKind::Store, EpilogueKind::Residual, EpilogueKind::Softplus];

pub(super) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let product = Product::Matmul(Form::of(caps));
    let of_format = |format| EPILOGUES.map(|epilogue| linear::def(product, format, false, epilogue));
    WeightFormat::ALL.into_iter().flat_map(of_format).collect()
}

pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let product = Product::Matmul(Form::of(caps));
    let mut cases = linear::cases("matmul", "direct", product, &EPILOGUES);
    let softplus = move |io: &mut super::case::Io| linear::build_softplus(io, product);
    cases.push(Case::new("matmul", "direct softplus over its range", softplus));
    cases
}
