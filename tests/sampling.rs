//! The sampler against its plain definition, and its distribution.

mod common;

use common::{fixture, gpu, no_gpu, shipped};
use peregrine::gpu::{Buf, Gpu, Plan, Stages, Usage};
use peregrine::kernels::case::Random;
use peregrine::kernels::select::{
    self, ALL_BANNED, NOT_FINITE, SamplingParams, Select, SelectVariant, Tallies, WINDOW,
};
use peregrine::kernels::{Activation, Batch, Order, RowEntry};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
use std::path::Path;

/// Sampling of some rows, each in its own slot, recorded as one plan.
struct Choices {
    gpu: Gpu,
    plan: Plan,
    rows: usize,
    chosen: Buf<u32>,
}

const POSITION: u32 = 17;

impl Choices {
    fn new(gpu: &Gpu, form: SelectVariant, rows: &[(&[f32], SamplingParams)]) -> Self {
        let (vocab, count) = (rows[0].0.len(), rows.len());
        let logits: Vec<f32> = rows.iter().flat_map(|(logits, _)| logits.iter().copied()).collect();
        let rules: Vec<SamplingParams> = rows.iter().map(|(_, rules)| *rules).collect();
        let table: Vec<RowEntry> =
            (0..count).map(|s| RowEntry { slot: s as u32, position: POSITION, ..Default::default() }).collect();
        let logits = gpu.upload("logits", &logits, Usage::Storage).unwrap();
        let logits = Activation { buf: logits, width: vocab, stride: vocab, order: Order::Plain };
        let bias = gpu.buffer("bias", count * vocab, Usage::Storage).unwrap();
        let rules = gpu.upload("rules", &rules, Usage::Storage).unwrap();
        let recent = gpu.buffer("recent", count * (WINDOW + vocab), Usage::Storage).unwrap();
        let table = gpu.upload("rows", &table, Usage::Storage).unwrap();
        let chosen = gpu.buffer("chosen", count, Usage::Storage).unwrap();
        let batch = Batch { rows: count as u32, ..Default::default() };
        let batch = gpu.upload("batch", &[batch], Usage::Uniform).unwrap();
        let mut plan = Plan::new(gpu, "choices");
        let select = Select {
            logits: &logits,
            versions: 1,
            bias: &bias,
            rules: &rules,
            recent: &recent,
            rows: &table,
            chosen: &chosen,
            tallies: &Tallies::new(gpu, form, count, vocab).unwrap(),
        };
        select.record(&mut plan, &batch).unwrap();
        Choices { gpu: gpu.clone(), plan, rows: count, chosen }
    }

    fn run(&self, stages: Stages) -> Vec<u32> {
        self.gpu.write(&self.chosen, 0, &vec![0xdead_beef; self.rows]).unwrap();
        self.plan.run_to::<u32>(self.rows, stages, None).unwrap();
        pollster::block_on(self.gpu.read(&self.chosen, 0..self.rows)).unwrap()
    }
}

/// Samples of the same logits, one for each seed from 0 on.
fn choices(gpu: &Gpu, form: SelectVariant, logits: &[f32], rules: SamplingParams, seeds: usize) -> Vec<u32> {
    let rows: Vec<_> = (0..seeds).map(|s| (logits, SamplingParams { seed_low: s as u32, ..rules })).collect();
    rows.chunks(500).flat_map(|rows| Choices::new(gpu, form, rows).run(rules.stages(logits.len()))).collect()
}

#[test]
fn draws_are_distributed_as_the_rules_say() {
    if no_gpu("draws_are_distributed_as_the_rules_say") {
        return;
    }
    let gpu = gpu();
    const DRAWS: usize = 3000;
    let logits: Vec<f32> = Random::new(11).uniforms(24, -2.0, 2.0);
    let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
    let plain = SamplingParams { temperature: 1.0, ..SamplingParams::GREEDY };
    let all_rules = [
        ("temperature 1", plain),
        ("temperature 0.5", SamplingParams { temperature: 0.5, ..plain }),
        ("temperature 2", SamplingParams { temperature: 2.0, ..plain }),
        ("top-k 7", SamplingParams { top_k: 7, ..plain }),
        ("top-p 0.6", SamplingParams { top_p: 0.6, ..plain }),
        ("min-p 0.3", SamplingParams { log_min_p: 0.3f32.ln(), ..plain }),
        ("all", SamplingParams { top_k: 12, top_p: 0.8, log_min_p: 0.1f32.ln(), temperature: 0.7, ..plain }),
    ];
    let whole = all_rules.iter().map(|rules| (SelectVariant::Whole, rules));
    // The draw of this variant has two paths; the rules' cutoffs are tested below.
    let slices = [0, 6].map(|i| (SelectVariant::Slices, &all_rules[i]));
    for (form, (name, rules)) in whole.chain(slices) {
        let expected = select::cpu(&wide, rules);
        let mut seen = vec![0usize; logits.len()];
        for id in choices(&gpu, form, &logits, *rules, DRAWS) {
            seen[id as usize] += 1;
        }
        let (mut chi, mut kept) = (0.0, 0);
        for (n, p) in seen.iter().zip(&expected) {
            if *p == 0.0 {
                assert_eq!(*n, 0, "{name}: an id was drawn that the rules cut");
            } else {
                let mean = p * DRAWS as f64;
                chi += (*n as f64 - mean).powi(2) / mean;
                kept += 1;
            }
        }
        // 99.9th percentile of chi-square, by Wilson and Hilferty: a correct generator fails for one seed in a thousand.
        let degrees = f64::from(kept - 1);
        let limit = degrees * (1.0 - 2.0 / (9.0 * degrees) + 3.09 * (2.0 / (9.0 * degrees)).sqrt()).powi(3);
        eprintln!("{form:?} {name}: chi-square {chi:.1} of {degrees} degrees (limit {limit:.1})");
        assert!(chi < limit, "{name}: chi-square {chi} of {degrees} degrees");
    }
}

/// How far the draw may be outside of the CPU twin's interval of the chosen id, and the kept mass differ from that
/// of top-p: f32 exponentials of a vocabulary.
const SLACK: f64 = 1e-5;

/// Checks that the rules and the draw allow `id`; gives how far the draw is outside of its interval.
fn judge(id: u32, logits: &[f32], rules: &SamplingParams) -> Result<f64, String> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let expected = |mark| if id == mark { Ok(0.0) } else { Err(format!("{id:#x} in place of {mark:#x}")) };
    if logits.iter().any(|v| v.is_nan() || *v == f32::INFINITY) {
        return expected(NOT_FINITE);
    }
    if largest == f32::NEG_INFINITY {
        return expected(ALL_BANNED);
    }
    let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
    let u = select::draw(u64::from(rules.seed_low), POSITION);
    let outside = |rules: &SamplingParams| {
        let probabilities = select::cpu(&wide, rules);
        let Some(p) = probabilities.get(id as usize).filter(|p| **p > 0.0) else { return f64::INFINITY };
        let below: f64 = probabilities[..id as usize].iter().sum();
        if rules.temperature == 0.0 { 0.0 } else { (below - u).max(u - (below + p)).max(0.0) }
    };
    // A token at the edge of top-p may be kept or dropped by rounding.
    let more = |by: f64| SamplingParams { top_p: (f64::from(rules.top_p) * by) as f32, ..*rules };
    let mut off = outside(rules);
    if off > SLACK && rules.top_p < 1.0 {
        off = [1.0 - SLACK, 1.0 + SLACK].map(|by| outside(&more(by))).into_iter().fold(off, f64::min);
    }
    if off > SLACK { Err(format!("{id} is off by {off} of {} by {rules:?}", logits.len())) } else { Ok(off) }
}

/// Random logits with one of several distributions.
fn random_logits(random: &mut Random, vocab: usize) -> Vec<f32> {
    let spread = [0.0, 1e-6, 0.01, 1.0, 6.0, 12.0, 80.0, 1e30][random.below(8)];
    let shift = [0.0, 0.0, 17.5, -300.0][random.below(4)];
    let mut logits: Vec<f32> = random.uniforms(vocab, -spread, spread).into_iter().map(|v| v + shift).collect();
    match random.below(9) {
        // Ties, down to a few values, both zeros among them.
        0 | 1 => {
            let step = spread.max(1e-3) / [1.0, 2.0, 30.0][random.below(3)];
            logits.iter_mut().for_each(|v| *v = (*v / step).round() * step);
        }
        // Peaked.
        2 => logits[random.below(vocab)] = spread + shift + 15.0,
        // Many are banned, or all but one.
        3 => (0..vocab).filter(|i| i % 7 != 3).for_each(|i| logits[i] = f32::NEG_INFINITY),
        4 => {
            let left = random.below(vocab);
            (0..vocab).filter(|i| *i != left).for_each(|i| logits[i] = f32::NEG_INFINITY);
        }
        5 if random.below(6) == 0 => logits[random.below(vocab)] = [f32::NAN, f32::INFINITY][random.below(2)],
        // Normally distributed.
        6 | 7 => {
            let more: Vec<[f32; 3]> = (0..vocab).map(|_| [0; 3].map(|_| random.uniform(-2.0, 2.0))).collect();
            logits.iter_mut().zip(more).for_each(|(v, more)| *v = more.iter().sum());
        }
        _ => {}
    }
    logits
}

fn random_rules(random: &mut Random, vocab: usize, seed: usize) -> SamplingParams {
    let temperatures = [0.0, 1e-4, 0.05, 0.8, 1.0, 3.0, 1e4, 1e30];
    let top_k = [0, 1, 2, 40, random.below(vocab + 3), random.below(vocab + 3), 256, 257, vocab][random.below(9)];
    SamplingParams {
        temperature: if random.below(2) == 0 { temperatures[random.below(8)] } else { random.uniform(0.05, 3.0) },
        top_k: top_k as u32,
        top_p: [0.0, 1.0, 1.0, 0.95, random.uniform(0.0, 1.0), random.uniform(0.9, 1.0)][random.below(6)],
        log_min_p: [0.0, 0.0, 0.05, random.uniform(0.0, 0.6), 1.0][random.below(5)].ln(),
        seed_low: seed as u32,
        ..SamplingParams::GREEDY
    }
}

#[test]
fn ten_thousand_random_samples_match_the_plain_definition() {
    if no_gpu("ten_thousand_random_samples_match_the_plain_definition") {
        return;
    }
    let gpu = gpu();
    let random = &mut Random::new(1);
    for form in [SelectVariant::Whole, SelectVariant::Slices] {
        let (mut rows, mut rounded, mut worst, mut tried, mut noticed) = (0, 0, 0.0f64, 0, 0);
        while rows < 5000 {
            let vocab = match random.below(8) {
                0 => 1 + random.below(8),
                1 if form == SelectVariant::Whole => 2049 + random.below(2048),
                1 => 4096 + random.below(4000),
                _ => 9 + random.below(1200),
            };
            let count = 200;
            let made: Vec<(Vec<f32>, SamplingParams)> =
                (0..count).map(|row| (random_logits(random, vocab), random_rules(random, vocab, rows + row))).collect();
            let of: Vec<_> = made.iter().map(|(logits, rules)| (logits.as_slice(), *rules)).collect();
            let ids = Choices::new(&gpu, form, &of).run(Stages::ALL);
            for (row, (id, (logits, rules))) in ids.into_iter().zip(of).enumerate() {
                let off = judge(id, logits, &rules).unwrap_or_else(|e| panic!("{form:?}, row {}: {e}", rows + row));
                worst = worst.max(off);
                rounded += usize::from(off > 0.0);
                if vocab > 1 {
                    let wrong = (id % vocab as u32 + 1 + random.below(vocab - 1) as u32) % vocab as u32;
                    tried += 1;
                    noticed += usize::from(judge(wrong, logits, &rules).is_err());
                }
            }
            rows += count;
        }
        eprintln!("{form:?}: {rows} choices, {rounded} within rounding, at most {worst:.1e} off");
        eprintln!("{form:?}: {noticed} of {tried} wrong choices are noticed");
        assert!(rounded * 500 < rows, "{form:?}: {rounded} of {rows} are within rounding only");
        assert!(noticed * 1000 > tried * 999, "{form:?}: {noticed} of {tried} wrong choices are noticed");
    }
}

#[test]
fn a_row_samples_the_same_alone_and_in_a_batch_with_any_stages() {
    if no_gpu("a_row_samples_the_same_alone_and_in_a_batch_with_any_stages") {
        return;
    }
    let gpu = gpu();
    let random = &mut Random::new(3);
    let vocab = 5000;
    let plain = SamplingParams { temperature: 0.8, ..SamplingParams::GREEDY };
    let kinds = [
        SamplingParams::GREEDY,
        plain,
        SamplingParams { log_min_p: 0.01f32.ln(), ..plain },
        SamplingParams { top_k: 40, top_p: 0.95, log_min_p: 0.05f32.ln(), ..plain },
        SamplingParams { top_k: 40, ..plain },
        SamplingParams { top_k: 1000, ..plain },
        SamplingParams { top_k: 1000, top_p: 0.9, ..plain },
        SamplingParams { top_p: 0.9, ..plain },
    ];
    let made: Vec<(Vec<f32>, SamplingParams)> = (0..24)
        .map(|row| {
            (random.uniforms(vocab, -4.0, 4.0), SamplingParams { seed_low: row as u32, ..kinds[row % kinds.len()] })
        })
        .collect();
    let of: Vec<_> = made.iter().map(|(logits, rules)| (logits.as_slice(), *rules)).collect();
    let choices = |rows: &[(&[f32], SamplingParams)]| Choices::new(&gpu, SelectVariant::Slices, rows);
    let together = choices(&of);
    let all = together.run(Stages::ALL);
    assert_eq!(together.run(Stages::ALL), all, "a choice leaves nothing for the next");
    let backwards: Vec<_> = of.iter().rev().copied().collect();
    let mut turned = choices(&backwards).run(Stages::ALL);
    turned.reverse();
    assert_eq!(turned, all, "the order of the rows");
    for (row, chosen) in of.iter().zip(&all) {
        let alone = choices(&[*row]);
        let own = row.1.stages(vocab);
        for stages in [own, Stages::ALL, own] {
            assert_eq!(alone.run(stages), [*chosen], "{:?} with {stages:?}", row.1);
        }
    }
    // Negative control: without the stages other tokens are chosen.
    let staged: Vec<_> = of.iter().filter(|(_, rules)| rules.stages(vocab) != Stages::NONE).copied().collect();
    assert_ne!(choices(&staged).run(Stages::NONE), choices(&staged).run(Stages::ALL));
}

fn engine(dir: &Path) -> Engine {
    Engine::load(&gpu(), Checkpoint::open(dir).unwrap(), EngineOptions::default(), &mut |_| {}).unwrap()
}

fn tokens(engine: &Engine, sampling: Sampling, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut session = engine.session(sampling).unwrap();
    let mut generation = session.generate(prompt, &AnswerOptions::tokens(count)).unwrap();
    while generation.next_id().unwrap().is_some() {}
    generation.ids().to_vec()
}

#[test]
fn penalties_and_biases_affect_sampling() {
    if no_gpu("penalties_and_biases_affect_sampling") {
        return;
    }
    let engine = engine(&fixture("falcon-tiny"));
    let prompt = [20, 21, 22, 23];
    let no_eos: Vec<(u32, f32)> = engine.checkpoint().eos().iter().map(|id| (*id, f32::NEG_INFINITY)).collect();
    let plain = Sampling::GREEDY.logit_bias(no_eos.clone());
    // No token of the prompt or the answer repeats.
    let once = plain.clone().presence_penalty(1e6).repeat_last_n(4096);
    let got = tokens(&engine, once.clone(), &prompt, 120);
    let mut all = [&prompt[..], &got].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!((got.len(), all.len()), (120, 124));
    // With a window of 8 no token repeats within 8, but some do later.
    let short = tokens(&engine, once.repeat_last_n(8), &prompt, 120);
    let text = [&prompt[..], &short].concat();
    assert!(text.windows(9).all(|w| !w[..8].contains(&w[8])));
    assert!((0..text.len()).any(|i| text[..i].contains(&text[i])));
    // Penalties turned off have no effect.
    let free = tokens(&engine, plain.clone(), &prompt, 40);
    let off = plain.clone().repeat_penalty(5.0).repeat_last_n(0);
    assert_eq!(tokens(&engine, off, &prompt, 40), free);
    assert_ne!(tokens(&engine, plain.clone().repeat_penalty(5.0), &prompt, 40), free);
    // A bias bans or forces.
    let banned = [no_eos.clone(), vec![(free[0], f32::NEG_INFINITY)]].concat();
    assert!(!tokens(&engine, plain.clone().logit_bias(banned), &prompt, 40).contains(&free[0]));
    let forced = plain.logit_bias([no_eos, vec![(77, 1e6)]].concat());
    assert_eq!(tokens(&engine, forced, &prompt, 5), [77; 5]);
}

#[test]
fn logprobs_are_those_of_the_logits() {
    if no_gpu("logprobs_are_those_of_the_logits") {
        return;
    }
    let engine = engine(&shipped("tiny-chat"));
    let prompt = [1552, 1482, 261, 806];
    let plain = tokens(&engine, Sampling::GREEDY, &prompt, 12);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let options = AnswerOptions::tokens(12).logprobs(Some(3));
    let mut generation = session.generate(&prompt, &options).unwrap();
    let mut found = Vec::new();
    while let Some(id) = generation.next_id().unwrap() {
        let logprobs = generation.logprobs().unwrap();
        assert_eq!(logprobs.top.len(), 3);
        assert_eq!(logprobs.top[0], (id, logprobs.chosen), "greedy takes the best");
        assert!(logprobs.top.windows(2).all(|w| w[0].1 >= w[1].1) && logprobs.chosen <= 0.0);
        found.push((id, logprobs.chosen));
    }
    drop(generation);
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), plain);
    // Resuming a cut-off answer gives the same values for the next token.
    session.clear().unwrap();
    let mut part = session.generate(&prompt, &AnswerOptions::tokens(5).logprobs(Some(3))).unwrap();
    while part.next_id().unwrap().is_some() {}
    drop(part);
    let mut rest = session.resume(&AnswerOptions::tokens(1).logprobs(Some(3))).unwrap();
    rest.next().unwrap().unwrap();
    assert_eq!((rest.generation().ids()[0], rest.generation().logprobs().unwrap().chosen), found[5]);
    drop(rest);
    // Against the reference, in f64.
    let checkpoint = engine.checkpoint();
    let reference = peregrine::model::reference::Reference::new(checkpoint.config(), &checkpoint.tensors().unwrap());
    let ids = [&prompt[..], &plain].concat();
    let logits = reference.forward(&ids, &mut reference.start(), |_, _| {}).unwrap();
    for (i, (id, logprob)) in found.iter().enumerate() {
        let row = &logits[(prompt.len() - 1 + i) * checkpoint.config().vocab..][..checkpoint.config().vocab];
        let expected = row[*id as usize] - row.iter().map(|v| v.exp()).sum::<f64>().ln();
        assert!((expected - logprob).abs() < 1e-4, "token {i}: {logprob}, expected {expected}");
    }
}
