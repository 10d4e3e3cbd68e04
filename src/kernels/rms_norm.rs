//! RMSNorm with weights: y = x / sqrt(mean(x^2) + eps) * weight.

use super::activation::Activation;
use super::batch::Batch;
use super::case::{Case, Tolerance, wide};
use super::parts::{BATCH, TEAM, file};
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Hidden size.
        dim: u32,
        /// Floats from one row of x to the next.
        x_stride: u32,
        /// Floats before the first row of x.
        x_first: u32,
        /// Floats from one row of y to the next.
        y_stride: u32,
        /// Added to the mean square.
        eps: f32,
    }
}

fn def() -> KernelDef {
    KernelDef::new(
        "rms_norm",
        vec![BATCH, TEAM, file(wgsl!("rms_norm.wgsl"))],
        vec![
            Params::binding("params"),
            Batch::binding("batch"),
            Binding::read("x"),
            Binding::read("weight"),
            Binding::write("y"),
        ],
    )
    .overrides(&[("WG", 128)])
}

/// Records the norm of rows `batch.first..` of x into rows 0.. of y.
pub fn record(
    plan: &mut Plan,
    label: &str,
    (x, y): (&Activation, &Activation),
    weight: &Buf<f32>,
    eps: f32,
    batch: &Buf<Batch>,
) -> Result<()> {
    let every = Every { first: 0, step: 1 };
    record_every(plan, label, (x, every, y), (weight, eps), batch)
}

/// Some rows of x: `first`, and every `step`-th after it.
#[derive(Debug, Clone, Copy)]
pub struct Every {
    /// The first row.
    pub first: usize,
    /// Rows from one to the next.
    pub step: usize,
}

/// [`record`] of some rows of x, such as the class tokens of pictures.
pub fn record_every(
    plan: &mut Plan,
    label: &str,
    (x, every, y): (&Activation, Every, &Activation),
    (weight, eps): (&Buf<f32>, f32),
    batch: &Buf<Batch>,
) -> Result<()> {
    let params = Params {
        dim: size(x.width),
        x_stride: size(every.step * x.stride),
        x_first: size(every.first * x.stride),
        y_stride: size(y.stride),
        eps,
    };
    let params = plan.gpu().upload("rms_norm params", &[params], Usage::Uniform)?;
    let bound = [
        ("params", params.bind()),
        ("batch", batch.bind()),
        ("x", x.buf.bind()),
        ("weight", weight.bind()),
        ("y", y.buf.bind()),
    ];
    let width = floats(x.width) as u64;
    let cost = Cost { macs: x.width as u64, bytes: width, row_bytes: 2 * width };
    plan.dispatch(&def(), label, &bound, [Count::Rows(1), Count::Fixed(1)], cost)
}

/// The twin, for any number of rows of `weight.len()` values.
pub fn cpu(x: &[f64], weight: &[f32], eps: f32) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let scale = scale(row, eps);
            row.iter().zip(weight).map(move |(x, w)| x * scale * f64::from(*w))
        })
        .collect()
}

/// 1 / sqrt(mean(x^2) + eps).
pub(super) fn scale(x: &[f64], eps: f32) -> f64 {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    1.0 / (mean + f64::from(eps)).sqrt()
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

/// Values of order 1. Worst measured on three drivers: nmse 5.2e-15, 0.07 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 2e-6 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, first, dim, scale) in [(1, 0, 1, 1.0), (3, 2, 70, 1e-3), (2, 0, 1029, 1.0), (1, 0, 64, 1e-12)] {
        cases.push(Case::new("rms_norm", format!("{rows}x{dim} from {first} of {scale:e}"), move |io| {
            let x = io.random.uniforms((first + rows) * dim, -scale, scale);
            let weight = io.random.uniforms(dim, -2.0, 2.0);
            io.rows = rows;
            let y = cpu(&wide(&x[first * dim..]), &weight, 1e-5);
            let (x, y) = (io.rows_in("x", &x, dim)?, io.rows_out("y", &y, dim, TOLERANCE)?);
            let weight = io.input("weight", &weight)?;
            let batch = io.uniform(Batch { rows: size(rows), first: size(first), ..Default::default() })?;
            record(&mut io.plan, "y", (&x, &y), &weight, 1e-5, &batch)
        }));
    }
    let (rows, every, dim) = (3, Every { first: 2, step: 5 }, 70);
    cases.push(Case::new("rms_norm", format!("{rows}x{dim}, row 2 of each 5"), move |io| {
        let x = io.random.uniforms(rows * every.step * dim, -1.0, 1.0);
        let weight = io.random.uniforms(dim, -2.0, 2.0);
        let taken: Vec<f32> = x.chunks_exact(dim).skip(every.first).step_by(every.step).flatten().copied().collect();
        io.rows = rows;
        let y = cpu(&wide(&taken), &weight, 1e-5);
        let (x, y) = (io.rows_in("x", &x, dim)?, io.rows_out("y", &y, dim, TOLERANCE)?);
        let weight = io.input("weight", &weight)?;
        let batch = io.uniform(Batch { rows: size(rows), ..Default::default() })?;
        record_every(&mut io.plan, "y", (&x, every, &y), (&weight, 1e-5), &batch)
    }));
    cases
}
