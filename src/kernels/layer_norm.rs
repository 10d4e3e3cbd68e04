//! LayerNorm: y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias (Ba et al., "Layer Normalization", 2016).

use super::activation::Activation;
use super::case::{Case, Tolerance, wide};
use super::parts::{TEAM, file};
use super::rms_norm::Every;
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Width of a row.
        dim: u32,
        /// Floats from one row of x to the next.
        x_stride: u32,
        /// First float of x.
        x_first: u32,
        /// Floats from one row of y to the next.
        y_stride: u32,
        /// Added to the variance.
        eps: f32,
    }
}

fn def() -> KernelDef {
    KernelDef::new(
        "layer_norm",
        vec![TEAM, file(wgsl!("layer_norm.wgsl"))],
        vec![
            Params::binding("params"),
            Binding::read("x"),
            Binding::read("weight"),
            Binding::read("bias"),
            Binding::write("y"),
        ],
    )
    .overrides(&[("WG", 128)])
}

/// Weight and bias of a norm, `[width]` each, and what is added to the variance.
#[derive(Clone, Copy)]
pub struct LayerNorm<'a> {
    /// The weight.
    pub weight: &'a Buf<f32>,
    /// The bias.
    pub bias: &'a Buf<f32>,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm<'_> {
    /// Records the norm of `every` of the rows of x into rows 0.. of y, one for each row of the run.
    pub fn record(&self, plan: &mut Plan, label: &str, (x, every, y): (&Activation, Every, &Activation)) -> Result<()> {
        let params = Params {
            dim: size(x.width),
            x_stride: size(every.step * x.stride),
            x_first: size(every.first * x.stride),
            y_stride: size(y.stride),
            eps: self.eps,
        };
        let params = plan.gpu().upload("layer_norm params", &[params], Usage::Uniform)?;
        let bound = [
            ("params", params.bind()),
            ("x", x.buf.bind()),
            ("weight", self.weight.bind()),
            ("bias", self.bias.bind()),
            ("y", y.buf.bind()),
        ];
        let width = floats(x.width) as u64;
        let cost = Cost { macs: 3 * x.width as u64, bytes: 2 * width, row_bytes: 2 * width };
        plan.dispatch(&def(), label, &bound, [Count::Rows(1), Count::Fixed(1)], cost)
    }
}

/// The twin, for any number of rows of `weight.len()` values.
pub fn cpu(x: &[f64], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|row| {
            let of = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / row.len() as f64;
            let mean = of(&mut row.iter().copied());
            let variance = of(&mut row.iter().map(|x| (x - mean) * (x - mean)));
            let scale = 1.0 / (variance + f64::from(eps)).sqrt();
            let operands = row.iter().zip(weight).zip(bias);
            operands.map(move |((x, weight), bias)| (x - mean) * scale * f64::from(*weight) + f64::from(*bias))
        })
        .collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

/// Values of order 1.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 2e-6, rel: 2e-6 };
/// Values around 30 with a deviation of 0.6: their mean is off by a few of its last bits, 2e-6 each, which a weight of 2 over
/// that deviation makes 3.5 times as large.
const OFFSET: Tolerance = Tolerance { nmse: 1e-9, abs: 5e-5, rel: 2e-5 };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, first, step, dim, center) in
        [(1, 0, 1, 1, 0.0), (3, 2, 1, 70, 0.0), (2, 1, 5, 192, 0.0), (2, 0, 1, 1029, 0.0), (3, 0, 1, 384, 30.0)]
    {
        let shape = format!("{rows}x{dim} from {first} every {step} around {center}");
        cases.push(Case::new("layer_norm", shape, move |io| {
            let x = io.random.uniforms((first + rows * step) * dim, center - 1.0, center + 1.0);
            let (weight, bias) = (io.random.uniforms(dim, -2.0, 2.0), io.random.uniforms(dim, -1.0, 1.0));
            let seen: Vec<f32> =
                (0..rows).flat_map(|row| x[(first + row * step) * dim..][..dim].iter().copied()).collect();
            let y = cpu(&wide(&seen), &weight, &bias, 1e-6);
            let tolerance = if center == 0.0 { TOLERANCE } else { OFFSET };
            io.rows = rows;
            let (x, y) = (io.rows_in("x", &x, dim)?, io.rows_out("y", &y, dim, tolerance)?);
            let (weight, bias) = (io.input("weight", &weight)?, io.input("bias", &bias)?);
            let norm = LayerNorm { weight: &weight, bias: &bias, eps: 1e-6 };
            norm.record(&mut io.plan, "y", (&x, Every { first, step }, &y))
        }));
    }
    cases
}
