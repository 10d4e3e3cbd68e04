//! The selective scan (Gu and Dao, "Mamba", 2023, algorithm 2, with ZOH for A and Euler for B), with the skip D and the gate,
//! over a chunk in one or several segments. [`super::ssm_step`] is the step of a decoding row.
//!
//! Several segments take three passes: each segment from zero (`scan_local`), the carry from segment to segment
//! (`scan_carry`), and every segment again from its true start (`scan`). One segment needs only the last pass.

mod cases;
mod variant;

pub use variant::{MOST_SEGMENTS, ScanVariant, Sum, segments_for};

use super::activation::Activation;
use super::batch::Batch;
use super::case::Case;
use super::dbc_norm::DbcLayout;
use super::maths::silu;
use super::parts::{BATCH, MATH, file};
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, ShaderPart, Usage, params, wgsl};
use std::f64::consts::LOG2_E;

params! {
    /// Parameters of the scan.
    pub struct Params {
        /// Channels, D.
        inner: u32,
        /// Floats from one row of dt, x or y to the next.
        stride: u32,
        /// Floats from one row of z to the next.
        z_stride: u32,
        /// Column where z begins.
        z_first: u32,
        /// Floats from one row of dbc to the next.
        dbc_stride: u32,
        /// Column of dbc where B begins.
        b_first: u32,
        /// Tokens in a segment.
        segment: u32,
        /// Versions of a slot's state.
        versions: u32,
    }
}

params! {
    /// Parameters of the local pass.
    pub struct LocalParams {
        /// Channels, D.
        inner: u32,
        /// Floats from one row of dt or x to the next.
        stride: u32,
        /// Floats from one row of dbc to the next.
        dbc_stride: u32,
        /// Column of dbc where B begins.
        b_first: u32,
        /// Tokens in a segment.
        segment: u32,
    }
}

params! {
    /// Parameters of the carry pass.
    pub struct CarryParams {
        /// Channels, D.
        inner: u32,
        /// Segments of a full chunk.
        segments: u32,
        /// Tokens in a segment.
        segment: u32,
        /// Versions of a slot's state.
        versions: u32,
    }
}

const LANES: u32 = 64;
const PARAMS: ShaderPart = file(wgsl!("lib/scan_params.wgsl"));
const LOCAL_PARAMS: ShaderPart = file(wgsl!("lib/scan_local_params.wgsl"));
const RECURRENCE: ShaderPart = file(wgsl!("lib/recurrence.wgsl"));
const RECURRENCE4: ShaderPart = file(wgsl!("lib/recurrence4.wgsl"));
const TILE: ShaderPart = file(wgsl!("lib/scan_tile.wgsl"));
const SUM_SHARED: ShaderPart = file(wgsl!("lib/channel_sum_shared.wgsl"));
const SUM_SHUFFLE: ShaderPart = file(wgsl!("lib/channel_sum_shuffle.wgsl"));

fn local_def(variant: ScanVariant, state: usize) -> KernelDef {
    let bindings = vec![
        LocalParams::binding("params"),
        Batch::binding("batch"),
        Binding::read("dt"),
        Binding::read("x"),
        Binding::read("dbc"),
        Binding::read("a_skip"),
        Binding::write("carry"),
        Binding::write("dt_sum"),
    ];
    // Nothing is summed over lanes: one of the two sums is enough.
    let variant = variant.shared();
    let def = KernelDef::new("scan_local", vec![BATCH, LOCAL_PARAMS], bindings);
    variant.def(def, file(wgsl!("scan_local.wgsl")), file(wgsl!("scan_local_tiled.wgsl")), state)
}

fn carry_def(state: usize) -> KernelDef {
    let bindings = vec![
        CarryParams::binding("params"),
        Batch::binding("batch"),
        Binding::read("a_skip"),
        Binding::read("dt_sum"),
        Binding::read("state"),
        Binding::write("carry"),
    ];
    KernelDef::new("scan_carry", vec![BATCH, file(wgsl!("scan_carry.wgsl"))], bindings)
        .consts(&[("N", size(state))])
        .overrides(&[("WG", LANES)])
}

fn scan_def(variant: ScanVariant, state: usize) -> KernelDef {
    let bindings = vec![
        Params::binding("params"),
        Batch::binding("batch"),
        Binding::read("dt"),
        Binding::read("x"),
        Binding::read("z"),
        Binding::read("dbc"),
        Binding::read("a_skip"),
        Binding::read("carry"),
        Binding::write("state"),
        Binding::write("y"),
    ];
    let mut def = KernelDef::new(variant.name(), vec![MATH, BATCH, PARAMS], bindings);
    def.entry = "scan";
    variant.def(def, file(wgsl!("scan.wgsl")), file(wgsl!("scan_tiled.wgsl")), state)
}

/// The segments of a chunk, and the buffers between the passes.
pub struct Segments {
    tokens: usize,
    count: usize,
    carry: Buf<f32>,
    dt_sum: Buf<f32>,
}

impl Segments {
    /// At most `count` segments for chunks of at most `chunk` tokens, D channels and N states.
    pub fn new(gpu: &Gpu, chunk: usize, count: usize, inner: usize, state: usize) -> Result<Self> {
        let tokens = chunk.div_ceil(count.max(1)).max(1);
        let count = chunk.div_ceil(tokens);
        let carried = if count > 1 { count } else { 0 };
        Ok(Segments {
            tokens,
            count,
            carry: gpu.buffer("scan carry", carried * inner * state, Usage::Storage)?,
            dt_sum: gpu.buffer("scan dt_sum", carried * inner, Usage::Storage)?,
        })
    }
}

/// Weights and state of one layer's scan.
pub struct Scan<'a> {
    /// `[N + 1, D]`: A log2(e) with A = -exp(A_log), then the skip D, as [`pack`] makes them.
    pub a_skip: &'a Buf<f32>,
    /// `[slot][version][N][D]`.
    pub state: &'a Buf<f32>,
    /// D.
    pub inner: usize,
    /// Layout of a row of dbc.
    pub layout: DbcLayout,
    /// Versions of a slot's state.
    pub versions: usize,
    /// The variant.
    pub variant: ScanVariant,
}

/// Activations of a scan.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// `[rows, D]`, after softplus.
    pub dt: &'a Activation,
    /// `[rows, D]`, after the convolution.
    pub x: &'a Activation,
    /// `[rows, u | z]`; z is its second half.
    pub xz: &'a Activation,
    /// `[rows, dt | B | C]`.
    pub dbc: &'a Activation,
    /// `[rows, D]`, gated.
    pub y: &'a Activation,
}

impl Scan<'_> {
    fn params(&self, on: Operands<'_>, segment: u32) -> Params {
        Params {
            inner: size(self.inner),
            stride: size(on.dt.stride),
            z_stride: size(on.xz.stride),
            z_first: size(self.inner),
            dbc_stride: size(on.dbc.stride),
            b_first: size(self.layout.b_first()),
            segment,
            versions: size(self.versions),
        }
    }

    /// dt, x, z, y, B and C per token; A, the skip and the state once per chunk.
    fn cost(&self) -> Cost {
        let states = self.inner * self.layout.state;
        Cost {
            macs: (states * 2) as u64,
            bytes: floats(3 * states + self.inner) as u64,
            row_bytes: floats(4 * self.inner + 2 * self.layout.state) as u64,
        }
    }

    /// Records the scan of a chunk of the batch's slot.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        on: Operands<'_>,
        segments: &Segments,
        batch: &Buf<Batch>,
    ) -> Result<()> {
        assert!(on.dt.stride == on.x.stride && on.x.stride == on.y.stride, "{label}: dt, x and y have one stride");
        let state = self.layout.state;
        let segment = size(segments.tokens);
        let channels = Count::of(self.inner, self.variant.channels());
        let per_segment = Count::Rows(segment);
        let cost = self.cost();
        if segments.count > 1 {
            let params = LocalParams {
                inner: size(self.inner),
                stride: size(on.dt.stride),
                dbc_stride: size(on.dbc.stride),
                b_first: size(self.layout.b_first()),
                segment,
            };
            let params = plan.gpu().upload("scan_local params", &[params], Usage::Uniform)?;
            let bound = [
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("dt", on.dt.buf.bind()),
                ("x", on.x.buf.bind()),
                ("dbc", on.dbc.buf.bind()),
                ("a_skip", self.a_skip.bind()),
                ("carry", segments.carry.bind()),
                ("dt_sum", segments.dt_sum.bind()),
            ];
            plan.dispatch(
                &local_def(self.variant, state),
                format!("{label}.local"),
                &bound,
                [channels, per_segment],
                cost,
            )?;
            let params = CarryParams {
                inner: size(self.inner),
                segments: size(segments.count),
                segment,
                versions: size(self.versions),
            };
            let params = plan.gpu().upload("scan_carry params", &[params], Usage::Uniform)?;
            let bound = [
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("a_skip", self.a_skip.bind()),
                ("dt_sum", segments.dt_sum.bind()),
                ("state", self.state.bind()),
                ("carry", segments.carry.bind()),
            ];
            let grid = [Count::of(self.inner, LANES), Count::of(state, 1)];
            plan.dispatch(&carry_def(state), format!("{label}.carry"), &bound, grid, Cost::default())?;
        }
        let params = self.params(on, segment);
        let params = plan.gpu().upload("scan params", &[params], Usage::Uniform)?;
        let bound = [
            ("params", params.bind()),
            ("batch", batch.bind()),
            ("dt", on.dt.buf.bind()),
            ("x", on.x.buf.bind()),
            ("z", on.xz.buf.bind()),
            ("dbc", on.dbc.buf.bind()),
            ("a_skip", self.a_skip.bind()),
            ("carry", segments.carry.bind()),
            ("state", self.state.bind()),
            ("y", on.y.buf.bind()),
        ];
        plan.dispatch(&scan_def(self.variant, state), label, &bound, [channels, per_segment], cost)
    }
}

/// A_log `[D, N]` and the skip D `[D]` of a checkpoint, in the layout of the kernels: A log2(e) with A = -exp(A_log), rounded
/// once. Kernels need no exp for A, and exp(dt A) becomes an exp2, which devices have.
pub fn pack(a_log: &[f32], skip: &[f32]) -> Vec<f32> {
    packed(a_log, skip, |a_log| -a_log.exp())
}

/// [`pack`] from A instead of A_log.
pub fn pack_a(a: &[f32], skip: &[f32]) -> Vec<f32> {
    packed(a, skip, |a| a)
}

fn packed(values: &[f32], skip: &[f32], a: impl Fn(f64) -> f64) -> Vec<f32> {
    let states = values.len() / skip.len();
    let by_state = (0..states).flat_map(|n| values.iter().skip(n).step_by(states));
    by_state.map(|v| (a(f64::from(*v)) * LOG2_E) as f32).chain(skip.iter().copied()).collect()
}

/// Inputs of the twin, for `rows` tokens.
pub struct CpuOperands<'a> {
    /// `[rows, D]`, after softplus.
    pub dt: &'a [f64],
    /// `[rows, D]`, after the convolution.
    pub x: &'a [f64],
    /// `[rows, D]`, before SiLU.
    pub z: &'a [f64],
    /// `[rows, N]`.
    pub b: &'a [f64],
    /// `[rows, N]`.
    pub c: &'a [f64],
    /// `[N + 1, D]`: A log2(e), then the skip D.
    pub a_skip: &'a [f32],
}

/// The twin. Updates `h` `[N, D]`; returns C.h `[rows, D]` and the gated output `[rows, D]`.
pub fn cpu(on: &CpuOperands<'_>, h: &mut [f64], inner: usize) -> (Vec<f64>, Vec<f64>) {
    let states = h.len() / inner;
    let (mut readout, mut gated) = (Vec::with_capacity(on.dt.len()), Vec::with_capacity(on.dt.len()));
    for t in 0..on.dt.len() / inner {
        for d in 0..inner {
            let (dt, x, z) = (on.dt[t * inner + d], on.x[t * inner + d], on.z[t * inner + d]);
            let mut sum = 0.0;
            for n in 0..states {
                let h = &mut h[n * inner + d];
                *h = (dt * f64::from(on.a_skip[n * inner + d])).exp2() * *h + dt * on.b[t * states + n] * x;
                sum += on.c[t * states + n] * *h;
            }
            readout.push(sum);
            gated.push((sum + f64::from(on.a_skip[states * inner + d]) * x) * silu(z));
        }
    }
    (readout, gated)
}

pub(super) fn defs(variant: ScanVariant) -> Vec<KernelDef> {
    [1, 8, 16, 32, 64].into_iter().flat_map(|n| [local_def(variant, n), carry_def(n), scan_def(variant, n)]).collect()
}

pub(super) fn cases(variant: ScanVariant) -> Vec<Case> {
    cases::chunk(variant)
}
