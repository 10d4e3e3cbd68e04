//! The selective scan (Gu and Dao, "Mamba", 2023, algorithm 2, with ZOH for A and Euler for B), with the skip D and the gate,
//! over a chunk in one or several segments. [`super::ssm_step`] is the step of a decoding row.
//!
//! Several segments take three passes: each segment from zero (`scan_local`), the carry from segment to segment
//! (`scan_carry`), and every segment again from its true start (`scan`). One segment needs only the last pass.

mod cases;
mod sequences;
mod variant;

pub use sequences::{Over, Segments};
pub use variant::{MOST_SEGMENTS, ScanVariant, Sum, segments_for};

use super::activation::Activation;
use super::batch::Batch;
use super::case::Case;
use super::dbc_norm::DbcLayout;
use super::maths::silu;
use super::parts::{BATCH, MATH, file};
use super::pictures::Before;
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, ShaderPart, Usage, params, wgsl};
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

/// The part that gives h before the first token.
fn start(before: Before) -> ShaderPart {
    file(match before {
        Before::State => wgsl!("lib/scan_from_state.wgsl"),
        Before::Zero => wgsl!("lib/scan_from_zero.wgsl"),
    })
}

fn local_def(variant: ScanVariant, state: usize, before: Before) -> KernelDef {
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
    let def = KernelDef::new("scan_local", vec![BATCH, before.rows(), LOCAL_PARAMS], bindings);
    variant.def(def, file(wgsl!("scan_local.wgsl")), file(wgsl!("scan_local_tiled.wgsl")), state)
}

fn carry_def(state: usize, before: Before) -> KernelDef {
    let mut bindings = vec![
        CarryParams::binding("params"),
        Batch::binding("batch"),
        Binding::read("a_skip"),
        Binding::read("dt_sum"),
        Binding::write("carry"),
    ];
    let mut parts = vec![BATCH, before.rows(), start(before)];
    if before == Before::State {
        bindings.push(Binding::read("state"));
        parts.push(file(wgsl!("lib/scan_carry_state.wgsl")));
    }
    parts.push(file(wgsl!("scan_carry.wgsl")));
    KernelDef::new("scan_carry", parts, bindings).consts(&[("N", size(state))]).overrides(&[("WG", LANES)])
}

fn scan_def(variant: ScanVariant, state: usize, before: Before) -> KernelDef {
    let mut bindings = vec![Params::binding("params"), Batch::binding("batch")];
    let operands = ["x", "z", "dbc", "a_skip", "carry"].map(Binding::read);
    let mut parts = vec![MATH, BATCH, before.rows(), start(before)];
    match before {
        Before::State => {
            bindings.push(Binding::read("dt"));
            bindings.extend(operands);
            bindings.extend([Binding::write("y"), Binding::write("state")]);
            parts.extend([file(wgsl!("lib/scan_y_apart.wgsl")), file(wgsl!("lib/scan_keep_state.wgsl"))]);
        }
        Before::Zero => {
            bindings.push(Binding::write("dt"));
            bindings.extend(operands);
            parts.push(file(wgsl!("lib/scan_y_in_place.wgsl")));
        }
    }
    parts.push(PARAMS);
    let mut def = KernelDef::new(variant.name(), parts, bindings);
    def.entry = "scan";
    variant.def(def, file(wgsl!("scan.wgsl")), file(wgsl!("scan_tiled.wgsl")), state)
}

/// Weights of one layer's scan, and what it runs over.
pub struct Scan<'a> {
    /// `[direction][N + 1, D]`: A log2(e) with A = -exp(A_log), then the skip D, as [`pack`] makes them.
    pub a_skip: &'a Buf<f32>,
    /// D.
    pub inner: usize,
    /// Layout of a row of dbc.
    pub layout: DbcLayout,
    /// The variant.
    pub variant: ScanVariant,
    /// What it runs over.
    pub over: Over<'a>,
}

/// Activations of a scan. Over pictures all but xz are `[direction][rows, ..]`.
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
    /// `[rows, D]`, gated. Over pictures it is dt, which the scan replaces.
    pub y: &'a Activation,
}

impl Scan<'_> {
    /// dt, x, z, y, B and C per token; A, the skip and the state once per chunk.
    fn cost(&self) -> Cost {
        let (directions, states) = (self.over.directions(), self.inner * self.layout.state);
        let kept = if self.over.state().is_some() { 2 * states } else { 0 };
        Cost {
            macs: (directions * states * 2) as u64,
            bytes: floats(directions * (states + self.inner) + kept) as u64,
            row_bytes: floats(directions * (3 * self.inner + 2 * self.layout.state) + self.inner) as u64,
        }
    }

    /// Records the scan of a chunk of the batch's slot, or of the batch's pictures.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        on: Operands<'_>,
        segments: &Segments,
        batch: &Buf<Batch>,
    ) -> Result<()> {
        assert!(on.dt.stride == on.x.stride && on.x.stride == on.y.stride, "{label}: dt, x and y have one stride");
        let Scan { variant, over, .. } = *self;
        let (state, before) = (self.layout.state, over.before());
        let segment = size(segments.tokens);
        let over_channels =
            |per_group: u32| Count::Fixed(size(over.directions() * self.inner.div_ceil(per_group as usize)));
        let grid = [over_channels(variant.channels()), over.segments(segments)];
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
            plan.dispatch(&local_def(variant, state, before), format!("{label}.local"), &bound, grid, cost)?;
            let params = CarryParams { inner: size(self.inner), segment, versions: size(over.versions()) };
            let params = plan.gpu().upload("scan_carry params", &[params], Usage::Uniform)?;
            let mut bound = vec![
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("a_skip", self.a_skip.bind()),
                ("dt_sum", segments.dt_sum.bind()),
                ("carry", segments.carry.bind()),
            ];
            bound.extend(over.state().map(|state| ("state", state.bind())));
            let grid = [over_channels(LANES), over.states(state)];
            plan.dispatch(&carry_def(state, before), format!("{label}.carry"), &bound, grid, Cost::default())?;
        }
        let params = Params {
            inner: size(self.inner),
            stride: size(on.dt.stride),
            z_stride: size(on.xz.stride),
            z_first: size(self.inner),
            dbc_stride: size(on.dbc.stride),
            b_first: size(self.layout.b_first()),
            segment,
            versions: size(over.versions()),
        };
        let params = plan.gpu().upload("scan params", &[params], Usage::Uniform)?;
        let mut bound = vec![
            ("params", params.bind()),
            ("batch", batch.bind()),
            ("dt", on.dt.buf.bind()),
            ("x", on.x.buf.bind()),
            ("z", on.xz.buf.bind()),
            ("dbc", on.dbc.buf.bind()),
            ("a_skip", self.a_skip.bind()),
            ("carry", segments.carry.bind()),
        ];
        if let Some(state) = over.state() {
            bound.extend([("y", on.y.buf.bind()), ("state", state.bind())]);
        }
        plan.dispatch(&scan_def(variant, state, before), label, &bound, grid, cost)
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
    let of = |(n, before)| [local_def(variant, n, before), carry_def(n, before), scan_def(variant, n, before)];
    let slots = [1, 8, 16, 32, 64].map(|n| (n, Before::State));
    slots.into_iter().chain([8, 16].map(|n| (n, Before::Zero))).flat_map(of).collect()
}

pub(super) fn cases(variant: ScanVariant) -> Vec<Case> {
    let mut all = cases::chunk(variant);
    all.extend(cases::pictures(variant));
    all
}
