//! Joins the two directions of a Vision Mamba mixer.

use super::activation::Activation;
use super::batch::Batch;
use super::case::{Case, Tolerance};
use super::parts::{BATCH, file};
use super::pictures::{DIRECTIONS, Pictures};
use super::sizes::{floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Values in a row.
        width: u32,
        /// Floats from one row to the next.
        stride: u32,
        /// Factor of the sum.
        scale: f32,
    }
}

const LANES: u32 = 64;

fn def() -> KernelDef {
    let bindings = vec![Params::binding("params"), Batch::binding("batch"), Binding::write("y")];
    KernelDef::new("merge", vec![BATCH, file(wgsl!("merge.wgsl"))], bindings).overrides(&[("WG", LANES)])
}

/// Records y = (forward + backward) * scale into the rows of the first direction. `both` is `[direction][rows, width]`.
pub fn record(plan: &mut Plan, label: &str, both: &Activation, scale: f32, batch: &Buf<Batch>) -> Result<()> {
    let params = Params { width: size(both.width), stride: size(both.stride), scale };
    let params = plan.gpu().upload("merge params", &[params], Usage::Uniform)?;
    let bound = [("params", params.bind()), ("batch", batch.bind()), ("y", both.buf.bind())];
    let width = both.width as u64;
    let cost = Cost { macs: width, bytes: 0, row_bytes: 3 * floats(both.width) as u64 };
    plan.dispatch(&def(), label, &bound, [Count::of(both.width, LANES), Count::Rows(1)], cost)
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

/// One rounding of a sum.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-14, abs: 1e-7, rel: 1e-6 };

pub(super) fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 1, 0.5), (2, 3, 70, 0.5), (3, 5, 33, 1.0)];
    let case = |(most, tokens, width, scale): (usize, usize, usize, f32)| {
        Case::new("merge", format!("{most} pictures {tokens}x{width} by {scale}"), move |io| {
            let pictures = Pictures { tokens, most };
            let before = io.random.uniforms(DIRECTIONS * pictures.rows() * width, -1.0, 1.0);
            let (forward, backward) = before.split_at(pictures.rows() * width);
            let sums = forward.iter().zip(backward).map(|(f, b)| (f64::from(*f) + f64::from(*b)) * f64::from(scale));
            let after: Vec<f64> = sums.chain(backward.iter().map(|b| f64::from(*b))).collect();
            io.rows = pictures.rows();
            let both = io.directions_out("y", Some(&before), (&after, width), pictures, TOLERANCE)?;
            let batch = io.uniform(pictures.batch(most))?;
            record(&mut io.plan, "y", &both, scale, &batch)
        })
    };
    shapes.into_iter().map(case).collect()
}
