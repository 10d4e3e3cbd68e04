//! Attention without stored scores: FlashAttention's online softmax (Dao et al., "FlashAttention", 2022, algorithm 1).

use super::{AttentionVariant, Heads};
use crate::error::Result;
use crate::gpu::{Binding, Cost, Count, KernelDef, Plan, Usage, params, wgsl};
use crate::kernels::activation::Activation;
use crate::kernels::parts::file;
use crate::kernels::sizes::{floats, size};

params! {
    /// Parameters.
    pub struct Params {
        /// Tokens of a picture.
        tokens: u32,
        /// Heads.
        heads: u32,
        /// vec4s from one row of qkv to the next.
        qkv_stride: u32,
        /// vec4s from one row of y to the next.
        y_stride: u32,
        /// vec4s in a row of a head.
        quads: u32,
        /// Factor of the scores.
        scale: f32,
    }
}

/// Widest head of [`AttentionVariant::Subgroup`].
pub(super) const SUBGROUP_WIDTH: usize = 64;
/// Queries of a subgroup.
const SUBGROUP_QUERIES: u32 = 16;
/// Queries of a workgroup, half as many with heads wider than 64 columns, and parts that it divides the keys of a tile into.
const QUERIES: u32 = 32;
const SPLITS: u32 = 4;
/// Values of K in workgroup memory, and of V: together they fill the 16 KiB that every adapter has.
const TILE_VALUES: u32 = 2048;

impl AttentionVariant {
    fn queries(self, width: usize) -> u32 {
        match self {
            AttentionVariant::Workgroup if width <= 64 => QUERIES,
            AttentionVariant::Workgroup => QUERIES / 2,
            AttentionVariant::Subgroup => SUBGROUP_QUERIES,
        }
    }

    /// Keys of a tile: as many as fit, in whole parts.
    fn keys(width: usize) -> u32 {
        (TILE_VALUES / size(width)).min(64) / SPLITS * SPLITS
    }

    pub(super) fn tiled_def(self, width: usize) -> KernelDef {
        let bindings = vec![Params::binding("params"), Binding::read("qkv"), Binding::write("y")];
        let head = file(wgsl!("lib/attention.wgsl"));
        let quads = ("QUADS", size(width / 4));
        match self {
            AttentionVariant::Workgroup => {
                let parts = vec![head, file(wgsl!("attention.wgsl"))];
                let consts = [quads, ("QUERIES", self.queries(width)), ("KEYS", Self::keys(width)), ("SPLITS", SPLITS)];
                KernelDef::new("attention", parts, bindings).consts(&consts)
            }
            AttentionVariant::Subgroup => {
                let parts = vec![head, file(wgsl!("lib/multiply_shared.wgsl")), file(wgsl!("attention_shared.wgsl"))];
                KernelDef::new("attention", parts, bindings).consts(&[quads, ("TOKENS", SUBGROUP_QUERIES)])
            }
        }
    }
}

/// Records y from qkv for the pictures of the run.
pub fn record(
    plan: &mut Plan,
    label: &str,
    heads: Heads,
    (qkv, y): (&Activation, &Activation),
    variant: AttentionVariant,
) -> Result<()> {
    heads.check(label, (qkv, y));
    let params = Params {
        tokens: size(heads.tokens),
        heads: size(heads.heads),
        qkv_stride: size(qkv.stride / 4),
        y_stride: size(y.stride / 4),
        quads: size(heads.width / 4),
        scale: heads.scale(),
    };
    let params = plan.gpu().upload("attention params", &[params], Usage::Uniform)?;
    let bound = [("params", params.bind()), ("qkv", qkv.buf.bind()), ("y", y.buf.bind())];
    let columns = heads.columns();
    let cost = Cost { macs: (2 * heads.tokens * columns) as u64, bytes: 0, row_bytes: floats(4 * columns) as u64 };
    let slices = Count::Each { rows: size(heads.tokens), groups: size(heads.heads) };
    let grid = [Count::of(heads.tokens, variant.queries(heads.width)), slices];
    plan.dispatch(&variant.tiled_def(heads.width), label, &bound, grid, cost)
}
