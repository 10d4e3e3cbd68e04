//! The selective scan (Gu and Dao, "Mamba", 2023, algorithm 2, with ZOH for A and Euler for B), with the skip D and the gate:
//! over a chunk in one or several segments. [`super::ssm_step`] takes one token for each decoding row.
//!
//! Several segments take three passes: each segment from zero (`scan_local`), the carry from segment to segment
//! (`scan_carry`), and every segment again from its true start (`scan`). One segment takes the last pass alone.

use super::case::{Case, Tolerance, wide};
use super::dbc_norm::Layout;
use super::{Activation, BATCH, Batch, MATH, ROW_ALIGN, file, floats, silu, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, params, wgsl};

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
const PARAMS: super::Part = file(wgsl!("lib/scan_params.wgsl"));
const RECURRENCE: super::Part = file(wgsl!("lib/recurrence.wgsl"));

fn local_def(state: usize) -> KernelDef {
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
    KernelDef::new("scan_local", vec![BATCH, RECURRENCE, file(wgsl!("scan_local.wgsl"))], bindings)
        .consts(&[("N", size(state))])
        .overrides(&[("WG", LANES)])
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

fn scan_def(state: usize) -> KernelDef {
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
    KernelDef::new("scan", vec![MATH, BATCH, PARAMS, RECURRENCE, file(wgsl!("scan.wgsl"))], bindings)
        .consts(&[("N", size(state))])
        .overrides(&[("WG", LANES)])
}

/// A chunk cut into segments, and what the passes hand on.
pub struct Segments {
    tokens: usize,
    count: usize,
    carry: Buf<f32>,
    dt_sum: Buf<f32>,
}

impl Segments {
    /// At most `count` segments of a chunk of at most `chunk` tokens, for D channels of N states.
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
    /// `[N + 1, D]`: A = -exp(A_log), then the skip D.
    pub a_skip: &'a Buf<f32>,
    /// `[slot][version][N][D]`.
    pub state: &'a Buf<f32>,
    /// D.
    pub inner: usize,
    /// Sizes of a row of dbc.
    pub layout: Layout,
    /// Versions of a slot's state.
    pub versions: usize,
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

    /// dt, x, z and y of each token, B and C; A, the skip and the state once a chunk.
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
        assert!(on.dt.stride == on.x.stride && on.x.stride == on.y.stride, "{label}: dt, x and y are laid out alike");
        let state = self.layout.state;
        let segment = size(segments.tokens);
        let channels = Count::of(self.inner, LANES);
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
            plan.dispatch(&local_def(state), format!("{label}.local"), &bound, [channels, per_segment], cost)?;
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
            let grid = [channels, Count::of(state, 1)];
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
        plan.dispatch(&scan_def(state), label, &bound, [channels, per_segment], cost)
    }
}

/// A_log `[D, N]` and the skip D `[D]` of a checkpoint, laid out as the kernels read them. A = -exp(A_log) is taken here,
/// once, so that no kernel takes an exp for it.
pub fn pack(a_log: &[f32], skip: &[f32]) -> Vec<f32> {
    let states = a_log.len() / skip.len();
    let a = (0..states).flat_map(|n| a_log.iter().skip(n).step_by(states).map(|v| (-f64::from(*v).exp()) as f32));
    a.chain(skip.iter().copied()).collect()
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
    /// `[N + 1, D]`: A, then the skip D.
    pub a_skip: &'a [f32],
}

/// The twin. `h` `[N, D]` goes in and out; gives C.h `[rows, D]`, and the gated output `[rows, D]`.
pub fn cpu(on: &CpuOperands<'_>, h: &mut [f64], inner: usize) -> (Vec<f64>, Vec<f64>) {
    let states = h.len() / inner;
    let (mut readout, mut gated) = (Vec::with_capacity(on.dt.len()), Vec::with_capacity(on.dt.len()));
    for t in 0..on.dt.len() / inner {
        for d in 0..inner {
            let (dt, x, z) = (on.dt[t * inner + d], on.x[t * inner + d], on.z[t * inner + d]);
            let mut sum = 0.0;
            for n in 0..states {
                let h = &mut h[n * inner + d];
                *h = (dt * f64::from(on.a_skip[n * inner + d])).exp() * *h + dt * on.b[t * states + n] * x;
                sum += on.c[t * states + n] * *h;
            }
            readout.push(sum);
            gated.push((sum + f64::from(on.a_skip[states * inner + d]) * x) * silu(z));
        }
    }
    (readout, gated)
}

pub(super) fn defs() -> Vec<KernelDef> {
    [1, 8, 16, 32].into_iter().flat_map(|n| [local_def(n), carry_def(n), scan_def(n)]).collect()
}

/// y up to about 50: exp() of lavapipe is off by up to 4e-6 of its value. Worst measured on three
/// drivers: nmse 3.8e-14, 0.10 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-10, abs: 1e-4, rel: 1e-5 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, inner, state, segments) in
        [(1, 1, 1, 1), (5, 70, 16, 1), (65, 40, 16, 1), (65, 40, 16, 4), (7, 24, 8, 7), (130, 24, 32, 3)]
    {
        cases.push(Case::new("scan", format!("{rows}x{inner}x{state} in {segments}"), move |io| {
            build(io, (rows, inner, state), segments)
        }));
    }
    cases
}

fn build(io: &mut super::case::Io, (rows, inner, state): (usize, usize, usize), segments: usize) -> Result<()> {
    let versions = 2;
    let layout = Layout { dt_rank: 3, state };
    let random = &mut io.random;
    // Time steps over many sizes, decays from slow to so fast that they underflow.
    let dt: Vec<f32> = (0..rows * inner).map(|_| random.uniform(-9.0, 3.0).exp()).collect();
    let a_log: Vec<f32> = (0..inner * state).map(|_| random.uniform(-3.0, 3.5)).collect();
    let a_skip = pack(&a_log, &random.uniforms(inner, -1.0, 1.0));
    let x = random.uniforms(rows * inner, -1.0, 1.0);
    let xz = random.uniforms(rows * 2 * inner, -3.0, 3.0);
    let b = random.uniforms(rows * state, -1.0, 1.0);
    let c = random.uniforms(rows * state, -1.0, 1.0);
    let slots = 2;
    let before = random.uniforms(slots * versions * inner * state, -1.0, 1.0);
    let mut after = wide(&before);
    let z: Vec<f64> = wide(&xz).chunks(2 * inner).flat_map(|row| row[inner..].to_vec()).collect();
    let (wide_dt, wide_x, wide_b, wide_c) = (wide(&dt), wide(&x), wide(&b), wide(&c));

    // Slot 1 of two, version 1 to version 0.
    let on = CpuOperands { dt: &wide_dt, x: &wide_x, z: &z, b: &wide_b, c: &wide_c, a_skip: &a_skip };
    let size_of_state = inner * state;
    let from = (versions + 1) * size_of_state;
    let mut h = wide(&before[from..from + size_of_state]);
    let (_, y) = cpu(&on, &mut h, inner);
    after[versions * size_of_state..][..size_of_state].copy_from_slice(&h);

    let mut dbc = vec![0.0; rows * layout.width()];
    for (r, row) in dbc.chunks_exact_mut(layout.width()).enumerate() {
        row[layout.b_first()..][..state].copy_from_slice(&b[r * state..][..state]);
        row[layout.b_first() + state..].copy_from_slice(&c[r * state..][..state]);
    }
    io.rows = rows;
    let on_device = (
        io.rows_in("dt", &dt, inner)?,
        io.rows_in("x", &x, inner)?,
        io.rows_in("xz", &xz, 2 * inner)?,
        io.rows_in("dbc", &dbc, layout.width())?,
        io.rows_out("y", &y, inner, TOLERANCE)?,
    );
    debug_assert_eq!(on_device.3.stride % ROW_ALIGN, 0);
    let on = Operands { dt: &on_device.0, x: &on_device.1, xz: &on_device.2, dbc: &on_device.3, y: &on_device.4 };
    let state_buf = io.in_out("state", &before, &after, TOLERANCE)?;
    let a_skip = io.input("a_skip", &a_skip)?;
    let scan = Scan { a_skip: &a_skip, state: &state_buf, inner, layout, versions };
    let batch = Batch { rows: size(rows), slot: 1, read_version: 1, write_version: 0, ..Default::default() };
    let batch = io.uniform(batch)?;
    let segments = Segments::new(&io.gpu, rows, segments, inner, state)?;
    scan.record(&mut io.plan, "y", on, &segments, &batch)
}
