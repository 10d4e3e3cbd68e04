//! Infinities, NaN, denormals and values beyond f16: what kernels rely on is a case, what drivers may choose is reported.

use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};
use crate::kernels::case::{Case, compare_words};
use crate::kernels::parts::{MATH, file};

const X: [f32; 7] = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, 1.0, 3e38, 70_000.0];

/// Pairs of f16: the largest and 1, a denormal, infinity.
const HALVES: [u32; 3] = [0x3c00_7bff, 0x0000_0001, 0x0000_7c00];

/// The words that kernels rely on, in the order of the shader.
fn relied() -> [u32; 9] {
    let floats = [1.0, 0.0, 0.0, 0.0, -0.0, 3e38, 65_504.0, f32::INFINITY].map(f32::to_bits);
    let mut words = [1; 9];
    words[1..].copy_from_slice(&floats);
    words
}

/// A word without the sign of a zero, which no kernel looks at.
fn without_sign_of_zero(word: u32) -> u32 {
    if word == 0x8000_0000 { 0 } else { word }
}

/// Words that are only reported.
const REPORTED: usize = 9;

/// What a driver makes of a special value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was computed.
    pub what: &'static str,
    /// What came of it.
    pub became: &'static str,
}

fn def() -> KernelDef {
    let bindings =
        vec![Binding::read("x"), Binding::read("halves"), Binding::write("relied"), Binding::write("reported")];
    KernelDef::new("special_values", vec![MATH, file(wgsl!("special_values.wgsl"))], bindings)
}

fn record(plan: &mut Plan, relied: &Buf<u32>, reported: &Buf<u32>) -> Result<()> {
    let x = plan.gpu().upload("x", &X, Usage::Storage)?;
    let halves = plan.gpu().upload("halves", &HALVES, Usage::Storage)?;
    let bound = [("x", x.bind()), ("halves", halves.bind()), ("relied", relied.bind()), ("reported", reported.bind())];
    plan.dispatch(&def(), "special values", &bound, [Count::Fixed(1); 2], Cost::default())
}

/// What this device makes of special values.
pub async fn observe(gpu: &Gpu) -> Result<Vec<Observation>> {
    let relied = gpu.buffer("relied", relied().len(), Usage::Storage)?;
    let reported = gpu.buffer("reported", REPORTED, Usage::Storage)?;
    let mut plan = Plan::new(gpu, "special values");
    record(&mut plan, &relied, &reported)?;
    plan.run(1)?;
    let words = gpu.read(&reported, 0..REPORTED).await?;
    Ok(observations(&words))
}

fn observations(words: &[u32]) -> Vec<Observation> {
    let float = |at: usize| f32::from_bits(words[at]);
    let number = |v: f32| match v {
        v if v.is_nan() => "NaN",
        v if v.is_infinite() => "infinity",
        _ => "a number",
    };
    let kept = |v: f32| if v == 0.0 { "flushed to zero" } else { "kept" };
    let half = match words[6] & 0x7fff {
        0x7c00 => "infinity",
        0x7bff => "the largest f16",
        _ => "another value",
    };
    let all = [
        ("NaN is unlike itself", if words[0] == 1 { "yes" } else { "no" }),
        ("the larger of NaN and 1", number(float(1))),
        ("infinity minus infinity", number(float(2))),
        ("a denormal times 1", kept(float(3))),
        ("a denormal copied", kept(float(4))),
        ("3e38 times 10", number(float(5))),
        ("70000 as f16", half),
        ("a denormal f16 as f32", kept(float(7))),
        ("an infinite f16 as f32", number(float(8))),
    ];
    all.into_iter().map(|(what, became)| Observation { what, became }).collect()
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    vec![Case::new("special_values", "as kernels rely on them", |io| {
        let judge = |words: &[u32]| {
            let words: Vec<u32> = words.iter().copied().map(without_sign_of_zero).collect();
            compare_words("relied", &words, &relied().map(without_sign_of_zero))
        };
        let on_device = io.output_words("relied", &vec![None; relied().len()], judge)?;
        let reported = io.output_words("reported", &[None; REPORTED], |_| Ok(Default::default()))?;
        record(&mut io.plan, &on_device, &reported)
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_word() {
        let of = |v: f32| v.to_bits();
        let ieee =
            [1, of(1.0), of(f32::NAN), 71_362, 71_362, of(f32::INFINITY), 0x3c00_7c00, of(6e-8), of(f32::INFINITY)];
        let became = |words: &[u32]| observations(words).into_iter().map(|seen| seen.became).collect::<Vec<_>>();
        let expected = ["yes", "a number", "NaN", "kept", "kept", "infinity", "infinity", "kept", "infinity"];
        assert_eq!(became(&ieee), expected);
        let flushed = [0, of(f32::NAN), 0, 0, 0, of(3.4e38), 0x3c00_7bff, 0, of(65_504.0)];
        let expected = [
            "no",
            "NaN",
            "a number",
            "flushed to zero",
            "flushed to zero",
            "a number",
            "the largest f16",
            "flushed to zero",
            "a number",
        ];
        assert_eq!(became(&flushed), expected);
    }
}
