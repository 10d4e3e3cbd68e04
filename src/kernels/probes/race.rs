//! Barriers and atomics: many rounds of words passed between lanes, which a weak barrier changes.

use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, wgsl};
use crate::kernels::case::{Case, compare_words};
use crate::kernels::parts::file;
use crate::kernels::sizes::size;

const ROUNDS: usize = 64;
/// Lanes of a workgroup, and workgroups: the sizes that kernels have.
const SHAPES: [(usize, usize); 3] = [(32, 64), (64, 300), (256, 128)];

fn def(lanes: usize) -> KernelDef {
    let bindings = vec![Binding::write("words"), Binding::write("totals")];
    KernelDef::new("race", vec![file(wgsl!("race.wgsl"))], bindings)
        .consts(&[("ROUNDS", ROUNDS as u32)])
        .overrides(&[("WG", size(lanes))])
}

fn record(plan: &mut Plan, lanes: usize, words: &Buf<u32>, totals: &Buf<u32>) -> Result<()> {
    let grid = [Count::of(words.len(), size(lanes)), Count::Fixed(1)];
    let cost = Cost { bytes: (4 * words.len() * ROUNDS) as u64, ..Default::default() };
    plan.dispatch(&def(lanes), "race", &[("words", words.bind()), ("totals", totals.bind())], grid, cost)
}

/// What the totals start with: a sum, a largest, a smallest, an exclusive or.
const START: [u32; 4] = [0, 0, 0x3fff_ffff, 0];

/// The twin: one lane after the other.
fn cpu(lanes: usize, groups: usize) -> (Vec<u32>, [u32; 4]) {
    let mut words = Vec::new();
    for group in 0..groups {
        let mut own: Vec<u32> = (0..lanes)
            .map(|lane| size(group * lanes + lane).wrapping_mul(747_796_405).wrapping_add(2_891_336_453))
            .collect();
        let mut odd = 0u32;
        for round in 0..ROUNDS {
            let line = own.clone();
            for (lane, word) in own.iter_mut().enumerate() {
                *word = word.wrapping_mul(277_803_737).wrapping_add(line[(lane + 1 + 37 * round) % lanes]);
                odd += *word & 1;
            }
            own.iter_mut().for_each(|word| *word ^= odd);
        }
        words.extend(own.into_iter().map(|word| word & 0x3fff_ffff));
    }
    let [mut sum, mut largest, mut smallest, mut or] = START;
    for word in &words {
        sum = sum.wrapping_add(word & 0xffff);
        (largest, smallest, or) = (largest.max(*word), smallest.min(*word), or ^ word);
    }
    (words, [sum, largest, smallest, or])
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    SHAPES.map(|(lanes, _)| def(lanes)).to_vec()
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    let case = |(lanes, groups): (usize, usize)| {
        Case::new("race", format!("{groups} workgroups of {lanes} lanes, {ROUNDS} rounds"), move |io| {
            let (words, totals) = cpu(lanes, groups);
            let count = words.len();
            let judge = move |gpu: &[u32]| compare_words("words", gpu, &words);
            let on_device = io.output_words("words", &vec![None; count], judge)?;
            let judge = move |gpu: &[u32]| compare_words("totals", gpu, &totals);
            let totals = io.output_words("totals", &START.map(Some), judge)?;
            record(&mut io.plan, lanes, &on_device, &totals)
        })
    };
    SHAPES.map(case).into_iter().collect()
}
