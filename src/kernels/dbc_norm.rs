//! x_proj's output split into dt, B and C; in Falcon Mamba each divided by its own RMS, without weights.

use super::activation::{Activation, Order, ROW_ALIGN, stride};
use super::case::{Case, Tolerance, wide};
use super::parts::{TEAM, file};
use super::rms_norm;
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Width of dt before dt_proj, R.
        dt_rank: u32,
        /// States of a channel, N.
        state: u32,
        /// Floats from one row of x to the next.
        x_stride: u32,
        /// Floats from one plane of x to the next.
        plane: u32,
        /// Floats from one row of dbc to the next.
        dbc_stride: u32,
        /// Column of dbc where B begins.
        b_first: u32,
        /// 1: normalize, 0: copy.
        normed: u32,
        /// Added to each mean square.
        eps: f32,
    }
}

/// Layout of a row `[dt (R, padded) | B (N) | C (N)]`.
#[derive(Debug, Clone, Copy)]
pub struct DbcLayout {
    /// R.
    pub dt_rank: usize,
    /// N.
    pub state: usize,
}

impl DbcLayout {
    /// Column where B begins; C follows it.
    pub fn b_first(self) -> usize {
        self.dt_rank.next_multiple_of(ROW_ALIGN)
    }

    /// Columns of a row.
    pub fn width(self) -> usize {
        self.b_first() + 2 * self.state
    }

    /// Columns of x_proj's output, R + 2N.
    pub fn x_width(self) -> usize {
        self.dt_rank + 2 * self.state
    }

    /// Planes of x_proj's output that fit into the memory of dt, `[rows, inner]`, which is written after they are read. 0 where rows of
    /// dt are padded too: the padding of activations stays zero.
    pub fn planes_in_dt(self, inner: usize) -> usize {
        if inner.is_multiple_of(ROW_ALIGN) { inner / stride(self.x_width()) } else { 0 }
    }

    /// Width of the memory that x_proj's output needs beside dt.
    pub fn width_beside_dt(self, inner: usize) -> usize {
        if self.planes_in_dt(inner) > 0 { 0 } else { self.x_width() }
    }
}

/// x_proj's output, `[slices][rows, R + 2N]`.
#[derive(Clone)]
pub struct Projected {
    /// The planes, one after the other.
    pub planes: Activation,
    /// Their number; x is their sum.
    pub slices: u32,
}

impl Projected {
    /// `slices` planes of `rows` rows at the start of `memory`.
    pub fn at(memory: &Activation, rows: usize, layout: DbcLayout, slices: u32) -> Self {
        let (width, stride) = (layout.x_width(), stride(layout.x_width()));
        let buf = memory.buf.view(0..slices as usize * rows * stride);
        Projected { planes: Activation { buf, width, stride, order: Order::Plain }, slices }
    }
}

fn def(slices: u32) -> KernelDef {
    KernelDef::new(
        "dbc_norm",
        vec![TEAM, file(wgsl!("dbc_norm.wgsl"))],
        vec![Params::binding("params"), Binding::read("x"), Binding::write("dbc")],
    )
    .consts(&[("SLICES", slices)])
    .overrides(&[("WG", 64)])
}

/// Records the split of x into dbc; with `eps` the three norms are taken, else dt, B and C are copied.
pub fn record(
    plan: &mut Plan,
    label: &str,
    (x, dbc): (&Projected, &Activation),
    layout: DbcLayout,
    eps: Option<f32>,
) -> Result<()> {
    let Projected { planes: x, slices } = x;
    let params = Params {
        dt_rank: size(layout.dt_rank),
        state: size(layout.state),
        x_stride: size(x.stride),
        plane: size(x.buf.len() / *slices as usize),
        dbc_stride: size(dbc.stride),
        b_first: size(layout.b_first()),
        normed: eps.is_some().into(),
        eps: eps.unwrap_or(0.0),
    };
    let params = plan.gpu().upload("dbc_norm params", &[params], Usage::Uniform)?;
    let bound = [("params", params.bind()), ("x", x.buf.bind()), ("dbc", dbc.buf.bind())];
    let row_bytes = floats((*slices as usize + 1) * x.width);
    let cost = Cost { macs: x.width as u64, row_bytes: row_bytes as u64, ..Default::default() };
    plan.dispatch(&def(*slices), label, &bound, [Count::Rows(1), Count::Fixed(1)], cost)
}

/// The twin: dt `[rows, R]`, B `[rows, N]` and C `[rows, N]` from x `[rows, R + 2N]`.
pub fn cpu(x: &[f64], layout: DbcLayout, eps: Option<f32>) -> [Vec<f64>; 3] {
    let mut parts = [vec![], vec![], vec![]];
    for row in x.chunks_exact(layout.x_width()) {
        let (dt, bc) = row.split_at(layout.dt_rank);
        let (b, c) = bc.split_at(layout.state);
        for (part, values) in parts.iter_mut().zip([dt, b, c]) {
            let scale = eps.map_or(1.0, |eps| rms_norm::scale(values, eps));
            part.extend(values.iter().map(|v| v * scale));
        }
    }
    parts
}

pub(super) fn defs() -> Vec<KernelDef> {
    [1, SLICES].map(def).to_vec()
}

/// Slices of some cases.
const SLICES: u32 = 5;

/// Values of order 1. Worst measured on three drivers: nmse 5.2e-15, 0.07 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 2e-6 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [(1, 1, Some(1e-6)), (12, 16, Some(1e-6)), (70, 8, Some(1e-5)), (160, 32, None)];
    let in_slices = [(256, 16, Some(1e-6)), (13, 7, None)];
    let all = shapes.map(|shape| (shape, 1)).into_iter().chain(in_slices.map(|shape| (shape, SLICES)));
    for ((dt_rank, state, eps), slices) in all {
        let planes = if slices == 1 { String::new() } else { format!(" in {slices} slices") };
        cases.push(Case::new("dbc_norm", format!("3 rows of {dt_rank}+2x{state} eps {eps:?}{planes}"), move |io| {
            let layout = DbcLayout { dt_rank, state };
            io.rows = 3;
            // Small, as in trained models, so that the epsilon matters.
            let planes = io.random.uniforms(slices as usize * 3 * layout.x_width(), -0.01, 0.01);
            let mut x = vec![0.0; 3 * layout.x_width()];
            for plane in wide(&planes).chunks_exact(x.len()) {
                x.iter_mut().zip(plane).for_each(|(sum, value)| *sum += value);
            }
            let [dt, b, c] = cpu(&x, layout, eps);
            let stride = layout.width().next_multiple_of(ROW_ALIGN);
            let mut expected = vec![None; 3 * stride];
            for r in 0..3 {
                let row = &mut expected[r * stride..];
                let mut put = |first: usize, values: &[f64]| {
                    for (e, v) in row[first..].iter_mut().zip(values) {
                        *e = Some(*v);
                    }
                };
                put(0, &dt[r * dt_rank..][..dt_rank]);
                put(layout.b_first(), &b[r * state..][..state]);
                put(layout.b_first() + state, &c[r * state..][..state]);
            }
            let x = Projected { planes: io.rows_in("x", &planes, layout.x_width())?, slices };
            let dbc = Activation {
                buf: io.output("dbc", expected, TOLERANCE)?,
                width: layout.width(),
                stride,
                order: Order::Plain,
            };
            record(&mut io.plan, "dbc", (&x, &dbc), layout, eps)
        }));
    }
    cases
}
