//! The causal depthwise convolution with bias and SiLU, over the tokens of a chunk. In a decode step it is part of the epilogue of
//! in_proj ([`super::linear::Epilogue::Mixer`]).

use super::activation::Activation;
use super::batch::Batch;
use super::case::{Case, Tolerance, wide};
use super::maths::silu;
use super::parts::{BATCH, MATH, file};
use super::pictures::{Before, DIRECTIONS, Pictures};
use super::sizes::{floats, size};
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

fn def(kernel: usize, before: Before) -> KernelDef {
    let mut bindings = vec![
        Params::binding("params"),
        Batch::binding("batch"),
        Binding::read("u"),
        Binding::read("taps"),
        Binding::write("y"),
    ];
    let start = match before {
        Before::State => {
            bindings.push(Binding::write("state"));
            wgsl!("lib/conv_from_state.wgsl")
        }
        Before::Zero => wgsl!("lib/conv_from_zero.wgsl"),
    };
    let parts = vec![MATH, BATCH, before.rows(), file(start), file(wgsl!("conv.wgsl"))];
    KernelDef::new("conv", parts, bindings).consts(&[("K", size(kernel))]).overrides(&[("WG", LANES)])
}

/// Weights and state of one layer's convolution.
#[derive(Clone, Copy)]
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
    /// Records y `[rows, D]` from the first D columns of u, continuing the state of the batch's slot.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (u, y): (&Activation, &Activation),
        batch: &Buf<Batch>,
    ) -> Result<()> {
        let Conv { taps, inner, kernel, .. } = *self;
        let from = Some((self.state, self.versions));
        Dispatch { taps, inner, kernel, from }.record(plan, label, (u, y), batch)
    }
}

/// Weights of a layer's convolutions over pictures, in both directions.
#[derive(Clone, Copy)]
pub struct PictureConv<'a> {
    /// `[direction][K + 1, D]`.
    pub taps: &'a Buf<f32>,
    /// D.
    pub inner: usize,
    /// K.
    pub kernel: usize,
}

impl PictureConv<'_> {
    /// Records y `[direction][rows, D]` from the first D columns of u, which both directions read. Each picture begins with zeros.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (u, y): (&Activation, &Activation),
        batch: &Buf<Batch>,
    ) -> Result<()> {
        let PictureConv { taps, inner, kernel } = *self;
        Dispatch { taps, inner, kernel, from: None }.record(plan, label, (u, y), batch)
    }
}

/// Either convolution; `from` is the state that it continues, with the versions of a slot.
struct Dispatch<'a> {
    taps: &'a Buf<f32>,
    inner: usize,
    kernel: usize,
    from: Option<(&'a Buf<f32>, usize)>,
}

impl Dispatch<'_> {
    fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (u, y): (&Activation, &Activation),
        batch: &Buf<Batch>,
    ) -> Result<()> {
        let params = Params {
            inner: size(self.inner),
            u_stride: size(u.stride),
            y_stride: size(y.stride),
            versions: size(self.from.map_or(0, |(_, versions)| versions)),
        };
        let params = plan.gpu().upload("conv params", &[params], Usage::Uniform)?;
        let mut bound = vec![
            ("params", params.bind()),
            ("batch", batch.bind()),
            ("u", u.buf.bind()),
            ("taps", self.taps.bind()),
            ("y", y.buf.bind()),
        ];
        bound.extend(self.from.map(|(state, _)| ("state", state.bind())));
        let (before, directions, kept) = match self.from {
            Some(_) => (Before::State, 1, 2 * (self.kernel - 1)),
            None => (Before::Zero, DIRECTIONS, 0),
        };
        let cost = Cost {
            macs: (directions * self.inner * self.kernel) as u64,
            bytes: floats((directions * (self.kernel + 1) + kept) * self.inner) as u64,
            row_bytes: floats((1 + directions) * self.inner) as u64,
        };
        let groups = size(directions * self.inner.div_ceil(LANES as usize));
        plan.dispatch(&def(self.kernel, before), label, &bound, [Count::Fixed(groups), Count::Rows(1)], cost)
    }
}

/// Taps and bias of a checkpoint, `weight [D, 1, K]` and `bias [D]`, in the layout of the kernels.
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
    let both = |kernel| [Before::State, Before::Zero].map(|before| def(kernel, before));
    [2, 3, 4].into_iter().flat_map(both).collect()
}

/// Values of order 1. Worst measured on three drivers: nmse 7.0e-15, 0.05 of the bound.
pub(super) const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 5e-6 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, inner, kernel) in [(1, 1, 2), (1, 70, 4), (2, 128, 4), (3, 70, 3), (9, 40, 4)] {
        cases.push(Case::new("conv", format!("{rows}x{inner} kernel {kernel}"), move |io| {
            // Slot 1 of two, version 1 to version 0.
            let versions = 2;
            let size_of_state = (kernel - 1) * inner;
            let taps = pack(&io.random.uniforms(inner * kernel, -1.0, 1.0), &io.random.uniforms(inner, -1.0, 1.0));
            let before = io.random.uniforms(2 * versions * size_of_state, -1.0, 1.0);
            let mut after = wide(&before);
            let u = io.random.uniforms(rows * 2 * inner, -1.0, 1.0);
            let used: Vec<f64> = wide(&u).chunks(2 * inner).flat_map(|row| row[..inner].to_vec()).collect();
            let mut state = wide(&before[(versions + 1) * size_of_state..][..size_of_state]);
            let y = cpu(&used, &taps, inner, &mut state);
            after[versions * size_of_state..][..size_of_state].copy_from_slice(&state);
            io.rows = rows;
            let u = io.rows_in("u", &u, 2 * inner)?;
            let state = io.in_out("state", &before, &after, TOLERANCE)?;
            let y = io.rows_out("y", &y, inner, TOLERANCE)?;
            let batch = Batch { rows: size(rows), slot: 1, read_version: 1, write_version: 0, ..Default::default() };
            let batch = io.uniform(batch)?;
            let taps = io.input("taps", &taps)?;
            let conv = Conv { taps: &taps, state: &state, inner, kernel, versions };
            conv.record(&mut io.plan, "y", (&u, &y), &batch)
        }));
    }
    for (most, tokens, inner, kernel) in [(1, 1, 70, 4), (2, 2, 40, 4), (3, 5, 70, 3), (1, 17, 130, 2)] {
        cases.push(Case::new("conv", format!("{most} pictures {tokens}x{inner} kernel {kernel}"), move |io| {
            let pictures = Pictures { tokens, most };
            let mut taps =
                || pack(&io.random.uniforms(inner * kernel, -1.0, 1.0), &io.random.uniforms(inner, -1.0, 1.0));
            let taps = [taps(), taps()];
            let u = io.random.uniforms(pictures.rows() * 2 * inner, -1.0, 1.0);
            let used: Vec<f64> = wide(&u).chunks(2 * inner).flat_map(|row| row[..inner].to_vec()).collect();
            let y = pictures.cpu(inner, |direction, picture| {
                let rows = pictures.sequence(&used, inner, picture, direction);
                cpu(&rows, &taps[direction], inner, &mut vec![0.0; (kernel - 1) * inner])
            });
            io.rows = pictures.rows();
            let u = io.rows_in("u", &u, 2 * inner)?;
            let y = io.directions_out("y", None, (&y, inner), pictures, TOLERANCE)?;
            let batch = io.uniform(pictures.batch(most))?;
            let taps = io.input("taps", &taps.concat())?;
            PictureConv { taps: &taps, inner, kernel }.record(&mut io.plan, "y", (&u, &y), &batch)
        }));
    }
    cases
}
