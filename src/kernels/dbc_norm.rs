//! x_proj's output split into dt, B and C; in Falcon Mamba each divided by its own RMS, without weights.

use super::activation::{Activation, Order, ROW_ALIGN};
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
}

fn def() -> KernelDef {
    KernelDef::new(
        "dbc_norm",
        vec![TEAM, file(wgsl!("dbc_norm.wgsl"))],
        vec![Params::binding("params"), Binding::read("x"), Binding::write("dbc")],
    )
    .overrides(&[("WG", 64)])
}

/// Records the split of x `[rows, R + 2N]` into dbc; with `eps` the three norms are taken, else dt, B and C are copied.
pub fn record(
    plan: &mut Plan,
    label: &str,
    (x, dbc): (&Activation, &Activation),
    layout: DbcLayout,
    eps: Option<f32>,
) -> Result<()> {
    let params = Params {
        dt_rank: size(layout.dt_rank),
        state: size(layout.state),
        x_stride: size(x.stride),
        dbc_stride: size(dbc.stride),
        b_first: size(layout.b_first()),
        normed: eps.is_some().into(),
        eps: eps.unwrap_or(0.0),
    };
    let params = plan.gpu().upload("dbc_norm params", &[params], Usage::Uniform)?;
    let bound = [("params", params.bind()), ("x", x.buf.bind()), ("dbc", dbc.buf.bind())];
    let cost = Cost { macs: x.width as u64, row_bytes: floats(2 * x.width) as u64, ..Default::default() };
    plan.dispatch(&def(), label, &bound, [Count::Rows(1), Count::Fixed(1)], cost)
}

/// The twin: dt `[rows, R]`, B `[rows, N]` and C `[rows, N]` from x `[rows, R + 2N]`.
pub fn cpu(x: &[f64], layout: DbcLayout, eps: Option<f32>) -> [Vec<f64>; 3] {
    let mut parts = [vec![], vec![], vec![]];
    for row in x.chunks_exact(layout.dt_rank + 2 * layout.state) {
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
    vec![def()]
}

/// Values of order 1. Worst measured on three drivers: nmse 5.2e-15, 0.07 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 2e-6 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (dt_rank, state, eps) in [(1, 1, Some(1e-6)), (12, 16, Some(1e-6)), (70, 8, Some(1e-5)), (160, 32, None)] {
        cases.push(Case::new("dbc_norm", format!("3 rows of {dt_rank}+2x{state} eps {eps:?}"), move |io| {
            let layout = DbcLayout { dt_rank, state };
            io.rows = 3;
            // Small, as in trained models, so that the epsilon matters.
            let x = io.random.uniforms(3 * (dt_rank + 2 * state), -0.01, 0.01);
            let [dt, b, c] = cpu(&wide(&x), layout, eps);
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
            let x = io.rows_in("x", &x, dt_rank + 2 * state)?;
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
