//! Attention by separate products that stores the scores `[pictures, heads, tokens, tokens]` and, beside them, their softmax, as
//! timm's DeiT does without a fused kernel. It is here to be compared with.

use super::{AttentionVariant, Heads};
use crate::error::{Error, Result};
use crate::gpu::{Binding, Buf, Caps, Cost, Count, Gpu, KernelDef, Plan, Usage, params, wgsl};
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
        /// Slice (picture, head) of the first in scores and weights.
        first: u32,
        /// Columns of a head.
        width: u32,
        /// vec4s from one row of qkv to the next.
        qkv_stride: u32,
        /// Floats from one row of y to the next.
        y_stride: u32,
        /// Factor of the scores.
        scale: f32,
    }
}

/// Lanes of a workgroup of the softmax.
const SOFTMAX_LANES: u32 = 64;
/// Lines of A in a subgroup's product; of B it takes 32.
const SUBGROUP_LINES: u32 = 16;

impl AttentionVariant {
    /// Lines of A and of B that a workgroup multiplies.
    fn sides(self) -> [u32; 2] {
        match self {
            AttentionVariant::Workgroup => [64, 64],
            AttentionVariant::Subgroup => [SUBGROUP_LINES, 32],
        }
    }

    fn product_def(self, name: &'static str, bindings: Vec<Binding>) -> KernelDef {
        let mut parts = vec![file(wgsl!("lib/attention_stored.wgsl"))];
        let mut consts = vec![];
        match self {
            AttentionVariant::Workgroup => parts.push(file(wgsl!("lib/product_workgroup.wgsl"))),
            AttentionVariant::Subgroup => {
                parts.extend([wgsl!("lib/multiply_shared.wgsl"), wgsl!("lib/product_subgroup.wgsl")].map(file));
                consts.push(("TOKENS", SUBGROUP_LINES));
            }
        }
        parts.push(match name {
            "attention_scores" => file(wgsl!("attention_scores.wgsl")),
            _ => file(wgsl!("attention_values.wgsl")),
        });
        KernelDef::new(name, parts, bindings).consts(&consts)
    }

    pub(super) fn scores_def(self) -> KernelDef {
        let bindings = vec![Params::binding("params"), Binding::read("qkv"), Binding::write("scores")];
        self.product_def("attention_scores", bindings)
    }

    pub(super) fn values_def(self) -> KernelDef {
        let operands = [Binding::read("weights"), Binding::read("qkv"), Binding::write("y")];
        self.product_def("attention_values", [vec![Params::binding("params")], operands.to_vec()].concat())
    }
}

pub(super) fn softmax_def() -> KernelDef {
    let bindings = vec![Params::binding("params"), Binding::read("scores"), Binding::write("weights")];
    let parts = [wgsl!("lib/attention_stored.wgsl"), wgsl!("attention_softmax.wgsl")].map(file);
    KernelDef::new("attention_softmax", parts.to_vec(), bindings).overrides(&[("WG", SOFTMAX_LANES)])
}

/// Some heads of some pictures, one after the other: as many as the adapter can bind.
pub(super) struct Chunk {
    /// Slice (picture, head) of the first.
    pub(super) first: usize,
    /// Slices.
    pub(super) count: usize,
    /// `[slices, tokens, tokens padded to 4]`.
    pub(super) scores: Buf<f32>,
    /// The same after softmax, the padding zero.
    pub(super) weights: Buf<f32>,
}

/// The stored scores of a full batch, and their softmax; every layer uses them.
pub struct Stored {
    heads: Heads,
    pictures: usize,
    chunks: Vec<Chunk>,
}

impl Heads {
    /// Floats of the scores of a head of a picture.
    pub(super) fn slice(self) -> usize {
        self.tokens * self.tokens.next_multiple_of(4)
    }

    /// Slices of a chunk: as many as the adapter binds and dispatches at once.
    fn chunk(self, caps: &Caps) -> Result<usize> {
        let (bytes, limit) = (floats(self.slice()) as u64, caps.span_limit());
        // The narrowest tiles make the most workgroups for each.
        let groups = self.tokens.div_ceil(AttentionVariant::Subgroup.sides()[1] as usize);
        match usize::try_from(limit / bytes).unwrap_or(usize::MAX).min(caps.max_groups as usize / groups) {
            0 => Err(Error::ScoresTooLarge { tokens: self.tokens, bytes, limit }),
            most => Ok(most),
        }
    }
}

impl Stored {
    /// Memory for the scores of `pictures` pictures. [`Error::ScoresTooLarge`] if the adapter cannot bind those of one head.
    pub fn new(gpu: &Gpu, heads: Heads, pictures: usize) -> Result<Self> {
        let (slices, chunk) = (pictures * heads.heads, heads.chunk(gpu.caps())?);
        let chunks = (0..slices).step_by(chunk).map(|first| {
            let count = chunk.min(slices - first);
            let buffer = |label: &str| gpu.buffer(label, count * heads.slice(), Usage::Storage);
            Ok(Chunk { first, count, scores: buffer("scores")?, weights: buffer("weights")? })
        });
        Ok(Stored { heads, pictures, chunks: chunks.collect::<Result<_>>()? })
    }

    /// Bytes of it, before anything is allocated and whether or not the adapter can bind it.
    pub fn bytes(heads: Heads, pictures: usize) -> u64 {
        2 * floats(pictures * heads.heads * heads.slice()) as u64
    }

    /// The error of [`Stored::new`] on this adapter.
    pub fn check(caps: &Caps, heads: Heads) -> Result<()> {
        heads.chunk(caps).map(drop)
    }

    /// Records y from qkv for all pictures: a run always has all of them.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (qkv, y): (&Activation, &Activation),
        variant: AttentionVariant,
    ) -> Result<()> {
        let heads = self.heads;
        heads.check(label, (qkv, y));
        for chunk in &self.chunks {
            let own = Recorder { heads, pictures: self.pictures, chunk, variant, qkv, y };
            own.scores(plan, &format!("{label}.scores"))?;
            own.softmax(plan, &format!("{label}.softmax"))?;
            own.values(plan, &format!("{label}.values"))?;
        }
        Ok(())
    }
}

/// The operands of a chunk's kernels.
pub(super) struct Recorder<'a> {
    pub(super) heads: Heads,
    /// Pictures of the run.
    pub(super) pictures: usize,
    pub(super) chunk: &'a Chunk,
    pub(super) variant: AttentionVariant,
    pub(super) qkv: &'a Activation,
    pub(super) y: &'a Activation,
}

impl Recorder<'_> {
    fn params(&self, plan: &Plan) -> Result<Buf<Params>> {
        let params = Params {
            tokens: size(self.heads.tokens),
            heads: size(self.heads.heads),
            first: size(self.chunk.first),
            width: size(self.heads.width),
            qkv_stride: size(self.qkv.stride / 4),
            y_stride: size(self.y.stride),
            scale: self.heads.scale(),
        };
        plan.gpu().upload("attention params", &[params], Usage::Uniform)
    }

    /// The cost of a chunk, spread over the rows of the run.
    fn cost(&self, macs: usize, values: usize) -> Cost {
        let rows = self.pictures * self.heads.tokens;
        Cost { macs: macs.div_ceil(rows) as u64, bytes: 0, row_bytes: (floats(values) / rows) as u64 }
    }

    /// Multiply-adds of either product.
    fn product_macs(&self) -> usize {
        self.chunk.count * self.heads.tokens * self.heads.tokens * self.heads.width
    }

    /// Values of a chunk: of the scores, and of Q, K, V or y.
    fn sizes(&self) -> [usize; 2] {
        [self.heads.slice(), self.heads.tokens * self.heads.width].map(|values| self.chunk.count * values)
    }

    /// A grid of tiles: lines of A, then slice by slice the tiles over `lines` lines of B.
    fn grid(&self, lines: usize) -> [Count; 2] {
        let [a, b] = self.variant.sides();
        [Count::of(self.heads.tokens, a), Count::of(self.chunk.count * lines.div_ceil(b as usize), 1)]
    }

    pub(super) fn scores(&self, plan: &mut Plan, label: &str) -> Result<()> {
        let params = self.params(plan)?;
        let bound = [("params", params.bind()), ("qkv", self.qkv.buf.bind()), ("scores", self.chunk.scores.bind())];
        let [scores, rows] = self.sizes();
        let cost = self.cost(self.product_macs(), scores + 2 * rows);
        plan.dispatch(&self.variant.scores_def(), label, &bound, self.grid(self.heads.tokens), cost)
    }

    pub(super) fn softmax(&self, plan: &mut Plan, label: &str) -> Result<()> {
        let params = self.params(plan)?;
        let bound =
            [("params", params.bind()), ("scores", self.chunk.scores.bind()), ("weights", self.chunk.weights.bind())];
        let [scores, _] = self.sizes();
        let grid = [Count::of(self.heads.tokens, 1), Count::of(self.chunk.count, 1)];
        plan.dispatch(&softmax_def(), label, &bound, grid, self.cost(4 * scores, 2 * scores))
    }

    pub(super) fn values(&self, plan: &mut Plan, label: &str) -> Result<()> {
        let params = self.params(plan)?;
        let bound = [
            ("params", params.bind()),
            ("weights", self.chunk.weights.bind()),
            ("qkv", self.qkv.buf.bind()),
            ("y", self.y.buf.bind()),
        ];
        let [scores, rows] = self.sizes();
        let cost = self.cost(self.product_macs(), scores + 2 * rows);
        plan.dispatch(&self.variant.values_def(), label, &bound, self.grid(self.heads.width), cost)
    }
}
