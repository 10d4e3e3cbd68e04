//! The functions that kernels compute with, against f64: how far off they are, in units in the last place (ulp) of an f32.

use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};
use crate::kernels::case::{Case, Mismatch, Random, Reached};
use crate::kernels::maths::{gelu, silu, softplus};
use crate::kernels::parts::{MATH, file};

const LANES: u32 = 64;
/// Values of each function: half of them evenly spaced, half random.
const VALUES: usize = 4096;

/// A function, in the order of `shaders/functions.wgsl`.
struct Function {
    name: &'static str,
    exact: fn(f64) -> f64,
    /// The values tried: those whose results are normal numbers.
    range: (f32, f32),
    /// The values are powers of two with exponents of that range.
    by_exponent: bool,
    /// The error that is allowed for a value, in ulp of the result.
    limit: fn(f64, f64) -> f64,
}

/// WGSL promises these errors for what is built in (<https://www.w3.org/TR/WGSL/#concrete-float-accuracy>). softplus and silu are a
/// few operations on exp(-|v|), of half an ulp to 2.5 ulp each. gelu is a polynomial within 2.2e-7, and its rounding as much again.
const FUNCTIONS: [Function; 8] = [
    Function {
        name: "exp",
        exact: f64::exp,
        range: (-87.0, 88.0),
        by_exponent: false,
        limit: |v, _| 3.0 + 2.0 * v.abs(),
    },
    Function {
        name: "exp2",
        exact: f64::exp2,
        range: (-126.0, 127.0),
        by_exponent: false,
        limit: |v, _| 3.0 + 2.0 * v.abs(),
    },
    Function {
        name: "log",
        exact: f64::ln,
        range: (-126.0, 126.0),
        by_exponent: true,
        limit: |v, y| if (0.5..=2.0).contains(&v) { (-21f64).exp2() / ulp(y) } else { 3.0 },
    },
    Function {
        name: "inverseSqrt",
        exact: |v| 1.0 / v.sqrt(),
        range: (-126.0, 126.0),
        by_exponent: true,
        limit: |_, _| 2.0,
    },
    Function { name: "1/x", exact: |v| 1.0 / v, range: (-125.0, 125.0), by_exponent: true, limit: |_, _| 2.5 },
    Function {
        name: "softplus",
        exact: softplus,
        range: (-86.0, 40.0),
        by_exponent: false,
        limit: |v, _| 11.0 + 2.0 * v.abs(),
    },
    Function {
        name: "silu",
        exact: silu,
        range: (-82.0, 40.0),
        by_exponent: false,
        limit: |v, _| 11.0 + 2.0 * v.abs(),
    },
    Function {
        name: "gelu",
        exact: gelu,
        range: (-10.0, 10.0),
        by_exponent: false,
        limit: |_, y| 2.0 + 4.4e-7 / ulp(y),
    },
];

/// The unit in the last place of an f32 of this size.
fn ulp(value: f64) -> f64 {
    let exponent = value.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (exponent - 23.0).exp2()
}

/// The worst value of a function, by its share of the error that is allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// The function.
    pub function: &'static str,
    /// Its error in ulp.
    pub ulps: f64,
    /// The error that is allowed there.
    pub limit: f64,
    /// The argument.
    pub at: f32,
}

impl Function {
    fn arguments(&self, random: &mut Random) -> Vec<f32> {
        let (low, high) = self.range;
        let even = (0..VALUES / 2).map(|i| low + (high - low) * i as f32 / (VALUES / 2 - 1) as f32);
        let mut values: Vec<f32> = even.collect();
        values.extend(random.uniforms(VALUES / 2, low, high));
        if self.by_exponent {
            values.iter_mut().for_each(|v| *v = v.exp2());
        }
        values
    }

    /// The worst of some results.
    fn worst(&self, arguments: &[f32], results: &[f32]) -> Accuracy {
        let judged = arguments.iter().zip(results).map(|(at, y)| {
            let exact = (self.exact)(f64::from(*at));
            let ulps = (f64::from(*y) - exact).abs() / ulp(exact);
            let limit = (self.limit)(f64::from(*at), exact);
            let ulps = if ulps.is_nan() { f64::INFINITY } else { ulps };
            Accuracy { function: self.name, ulps, limit, at: *at }
        });
        let share = |accuracy: &Accuracy| accuracy.ulps / accuracy.limit;
        judged.max_by(|a, b| share(a).total_cmp(&share(b))).expect("there are values")
    }
}

fn def(which: usize) -> KernelDef {
    let bindings = vec![Binding::read("x"), Binding::write("y")];
    KernelDef::new("functions", vec![MATH, file(wgsl!("functions.wgsl"))], bindings)
        .consts(&[("FUNCTION", which as u32)])
        .overrides(&[("WG", LANES)])
}

fn record(plan: &mut Plan, which: usize, x: &Buf<f32>, y: &Buf<f32>) -> Result<()> {
    let grid = [Count::of(x.len(), LANES), Count::Fixed(1)];
    let cost = Cost { bytes: 8 * x.len() as u64, ..Default::default() };
    plan.dispatch(&def(which), FUNCTIONS[which].name, &[("x", x.bind()), ("y", y.bind())], grid, cost)
}

/// The worst value of each function on this device.
pub async fn measure(gpu: &Gpu) -> Result<Vec<Accuracy>> {
    let mut all = Vec::new();
    for (which, function) in FUNCTIONS.iter().enumerate() {
        let arguments = function.arguments(&mut Random::new(which as u64));
        let x = gpu.upload("x", &arguments, Usage::Storage)?;
        let y = gpu.buffer("y", arguments.len(), Usage::Storage)?;
        let mut plan = Plan::new(gpu, "functions");
        record(&mut plan, which, &x, &y)?;
        plan.run(1)?;
        all.push(function.worst(&arguments, &gpu.read(&y, 0..y.len()).await?));
    }
    Ok(all)
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    (0..FUNCTIONS.len()).map(def).collect()
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    let case = |which: usize| {
        Case::new("functions", FUNCTIONS[which].name, move |io| {
            let arguments = FUNCTIONS[which].arguments(&mut io.random);
            let (x, count) = (io.input("x", &arguments)?, arguments.len());
            let judge = move |words: &[u32]| judge(&FUNCTIONS[which], &arguments, words);
            let y = io.output_words("y", &vec![None; count], judge)?.reinterpret();
            record(&mut io.plan, which, &x, &y)
        })
    };
    (0..FUNCTIONS.len()).map(case).collect()
}

fn judge(function: &Function, arguments: &[f32], words: &[u32]) -> Result<Reached, Mismatch> {
    let results: &[f32] = bytemuck::cast_slice(words);
    let Accuracy { ulps, limit, at, .. } = function.worst(arguments, results);
    if ulps > limit {
        let why = format!("{}({at:e}) is off by {ulps:.1} ulp, {limit:.1} are allowed", function.name);
        return Err(Mismatch::Broken { output: "y".to_owned(), why });
    }
    let exact = arguments.iter().map(|v| (function.exact)(f64::from(*v)));
    let errors = exact.zip(results).map(|(exact, y)| ((f64::from(*y) - exact).abs(), exact.abs()));
    let (max_abs, max_rel) = errors.fold((0.0, 0.0), |(abs, rel): (f64, f64), (error, exact)| {
        (error.max(abs), if exact == 0.0 { rel } else { rel.max(error / exact) })
    });
    Ok(Reached { max_abs, max_rel, share: ulps / limit, nmse: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_above_the_limit_is_found_and_one_below_is_not() {
        for function in &FUNCTIONS {
            let arguments = function.arguments(&mut Random::new(3));
            let exact: Vec<f32> = arguments.iter().map(|v| (function.exact)(f64::from(*v)) as f32).collect();
            let judged = |results: &[f32]| judge(function, &arguments, bytemuck::cast_slice(results));
            assert!(judged(&exact).is_ok_and(|reached| reached.share < 0.51), "{}", function.name);
            let mut wrong = exact.clone();
            // The argument farthest from zero has the widest limit.
            let step = 1.5 * (function.limit)(f64::from(arguments[7]), f64::from(exact[7])) * ulp(f64::from(exact[7]));
            wrong[7] = (f64::from(exact[7]) + step) as f32;
            assert!(matches!(judged(&wrong), Err(Mismatch::Broken { .. })), "{}", function.name);
            wrong[7] = f32::NAN;
            assert!(judged(&wrong).is_err(), "{}", function.name);
        }
    }

    #[test]
    fn a_unit_in_the_last_place_is_that_of_f32() {
        for value in [1.0f32, 1.5, 0.75, 3e-30, 1e30] {
            let next = f32::from_bits(value.to_bits() + 1);
            assert_eq!(ulp(f64::from(value)), f64::from(next) - f64::from(value), "{value}");
        }
    }
}
