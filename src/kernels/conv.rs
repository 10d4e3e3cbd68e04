//! The causal depthwise convolution with bias and SiLU: over the tokens of a chunk, and one token for each decoding row.

use super::case::{Case, Tolerance, wide};
use super::{Activation, BATCH, Batch, MATH, Phase, ROW, Row, file, floats, silu, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Channels, D.
        inner: u32,
        /// Floats from one row of u to the next.
        u_stride: u32,
        /// Floats from one row of y to the next.
        y_stride: u32,
        /// Versions of a slot's state.
        versions: u32,
    }
}

const LANES: u32 = 64;

fn def(phase: Phase, kernel: usize) -> KernelDef {
    let tail = [Binding::read("u"), Binding::read("taps"), Binding::write("state"), Binding::write("y")];
    let mut bindings = vec![Params::binding("params")];
    let def = match phase {
        Phase::Prefill => {
            bindings.push(Batch::binding("batch"));
            bindings.extend(tail);
            KernelDef::new("conv", vec![MATH, BATCH, file(wgsl!("conv.wgsl"))], bindings)
        }
        Phase::Decode => {
            bindings.push(Binding::read("rows"));
            bindings.extend(tail);
            KernelDef::new("conv_step", vec![MATH, ROW, file(wgsl!("conv_step.wgsl"))], bindings)
        }
    };
    def.consts(&[("K", size(kernel))]).overrides(&[("WG", LANES)])
}

/// Weights and state of one layer's convolution.
pub struct Conv<'a> {
    /// `[K + 1, D]`: the taps, oldest first, then the bias.
    pub taps: &'a Buf<f32>,
    /// `[slot][version][K - 1][D]`: the inputs before the next token, oldest first.
    pub state: &'a Buf<f32>,
    /// D.
    pub inner: usize,
    /// K.
    pub kernel: usize,
    /// Versions of a slot's state.
    pub versions: usize,
}

impl Conv<'_> {
    /// Records y `[rows, D]` from the first D columns of u. Prefill carries on the batch's slot, decode each row's own.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (u, y): (&Activation, &Activation),
        (phase, batch, rows): (Phase, &Buf<Batch>, &Buf<Row>),
    ) -> Result<()> {
        let params = Params {
            inner: size(self.inner),
            u_stride: size(u.stride),
            y_stride: size(y.stride),
            versions: size(self.versions),
        };
        let params = plan.gpu().upload("conv params", &[params], Usage::Uniform)?;
        let bound = [
            ("params", params.bind()),
            match phase {
                Phase::Prefill => ("batch", batch.bind()),
                Phase::Decode => ("rows", rows.bind()),
            },
            ("u", u.buf.bind()),
            ("taps", self.taps.bind()),
            ("state", self.state.bind()),
            ("y", y.buf.bind()),
        ];
        // Decode moves the state with every row, prefill once a chunk.
        let (taps, state) = (floats((self.kernel + 1) * self.inner), floats(2 * (self.kernel - 1) * self.inner));
        let (once, row) = if phase == Phase::Prefill { (state, 0) } else { (0, state) };
        let cost = Cost {
            macs: (self.inner * self.kernel) as u64,
            bytes: (taps + once) as u64,
            row_bytes: (row + floats(2 * self.inner)) as u64,
        };
        let grid = [Count::of(self.inner, LANES), Count::Rows(1)];
        plan.dispatch(&def(phase, self.kernel), label, &bound, grid, cost)
    }
}

/// Taps and bias of a checkpoint, `weight [D, 1, K]` and `bias [D]`, laid out as the kernels read them.
pub fn pack(weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let kernel = weight.len() / bias.len();
    let taps = (0..kernel).flat_map(|k| weight.iter().skip(k).step_by(kernel).copied());
    taps.chain(bias.iter().copied()).collect()
}

/// The twin: y `[rows, D]` from u `[rows, D]`; `state` `[K - 1, D]` goes in and out.
pub fn cpu(u: &[f64], taps: &[f32], inner: usize, state: &mut [f64]) -> Vec<f64> {
    let before = state.len() / inner;
    let all: Vec<f64> = state.iter().chain(u).copied().collect();
    let rows = u.len() / inner;
    let mut y = Vec::with_capacity(u.len());
    for t in 0..rows {
        for d in 0..inner {
            let sum: f64 = (0..=before).map(|k| f64::from(taps[k * inner + d]) * all[(t + k) * inner + d]).sum();
            y.push(silu(sum + f64::from(taps[(before + 1) * inner + d])));
        }
    }
    state.copy_from_slice(&all[rows * inner..]);
    y
}

pub(super) fn defs() -> Vec<KernelDef> {
    [2, 3, 4].into_iter().flat_map(|k| [def(Phase::Prefill, k), def(Phase::Decode, k)]).collect()
}

/// Values of order 1. Worst measured on three drivers: nmse 7.0e-15, 0.05 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 5e-6 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let name = if phase == Phase::Prefill { "conv" } else { "conv_step" };
        for (rows, inner, kernel) in [(1, 1, 2), (1, 70, 4), (2, 128, 4), (3, 70, 3), (9, 40, 4)] {
            cases.push(Case::new(name, format!("{rows}x{inner} kernel {kernel}"), move |io| {
                let versions = 2;
                // Prefill: slot 1 of two, version 1 to version 0. Decode: row r is slot r, its version r to version r + 1.
                let slots = if phase == Phase::Prefill { 2 } else { rows };
                let size_of_state = (kernel - 1) * inner;
                let weight = io.random.uniforms(inner * kernel, -1.0, 1.0);
                let taps = pack(&weight, &io.random.uniforms(inner, -1.0, 1.0));
                let before = io.random.uniforms(slots * versions * size_of_state, -1.0, 1.0);
                let mut after = wide(&before);
                let u = io.random.uniforms(rows * 2 * inner, -1.0, 1.0);
                let used: Vec<f64> = wide(&u).chunks(2 * inner).flat_map(|row| row[..inner].to_vec()).collect();
                let mut step = |u: &[f64], slot: usize, version: usize| {
                    let from = (slot * versions + version) * size_of_state;
                    let mut state = wide(&before[from..from + size_of_state]);
                    let y = cpu(u, &taps, inner, &mut state);
                    let to = (slot * versions + (version + 1) % versions) * size_of_state;
                    after[to..to + size_of_state].copy_from_slice(&state);
                    y
                };
                let y: Vec<f64> = match phase {
                    Phase::Prefill => step(&used, 1, 1),
                    Phase::Decode => {
                        used.chunks(inner).enumerate().flat_map(|(r, u)| step(u, r, r % versions)).collect()
                    }
                };
                io.rows = rows;
                let u = io.rows_in("u", &u, 2 * inner)?;
                let state = io.in_out("state", &before, &after, TOLERANCE)?;
                let y = io.rows_out("y", &y, inner, TOLERANCE)?;
                let batch =
                    Batch { rows: size(rows), slot: 1, read_version: 1, write_version: 0, ..Default::default() };
                let batch = io.uniform(batch)?;
                let table: Vec<Row> =
                    (0..size(rows)).map(|r| Row { slot: r, version: r, ..Default::default() }).collect();
                let rows = io.input("rows", &table)?;
                let taps = io.input("taps", &taps)?;
                let conv = Conv { taps: &taps, state: &state, inner, kernel, versions };
                conv.record(&mut io.plan, "y", (&u, &y), (phase, &batch, &rows))
            }));
        }
    }
    cases
}
