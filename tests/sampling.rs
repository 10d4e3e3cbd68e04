//! Every rule of sampling: against its plain definition, and in the long run.

mod common;

use common::{fixture, gpu, no_gpu, shipped};
use peregrine::gpu::{Gpu, Plan, Usage};
use peregrine::kernels::case::Random;
use peregrine::kernels::select::{self, Rules, Select, WINDOW};
use peregrine::kernels::{Activation, Batch, Order, Row};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
use std::path::Path;

/// One choice for each seed from 0 on, of the same logits.
fn choices(gpu: &Gpu, logits: &[f32], rules: Rules, seeds: usize) -> Vec<u32> {
    let vocab = logits.len();
    let upload = |name: &str, values: &[f32]| gpu.upload(name, values, Usage::Storage).unwrap();
    let all_rules: Vec<Rules> = (0..seeds).map(|s| Rules { seed_low: s as u32, ..rules }).collect();
    let rows: Vec<Row> = (0..seeds).map(|s| Row { slot: s as u32, position: 17, ..Default::default() }).collect();
    let logits =
        Activation { buf: upload("logits", &logits.repeat(seeds)), width: vocab, stride: vocab, order: Order::Plain };
    let bias = upload("bias", &vec![0.0; seeds * vocab]);
    let rules = gpu.upload("rules", &all_rules, Usage::Storage).unwrap();
    let recent = gpu.buffer("recent", seeds * (WINDOW + vocab), Usage::Storage).unwrap();
    let rows = gpu.upload("rows", &rows, Usage::Storage).unwrap();
    let chosen = gpu.buffer("chosen", seeds, Usage::Storage).unwrap();
    let batch = Batch { rows: seeds as u32, ..Default::default() };
    let batch = gpu.upload("batch", &[batch], Usage::Uniform).unwrap();
    let mut plan = Plan::new(gpu, "choices");
    let select = Select {
        logits: &logits,
        versions: 1,
        bias: &bias,
        rules: &rules,
        recent: &recent,
        rows: &rows,
        chosen: &chosen,
    };
    select.record(&mut plan, &batch).unwrap();
    plan.run(seeds).unwrap();
    pollster::block_on(gpu.read(&chosen, 0..seeds)).unwrap()
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
    let plain = Rules { temperature: 1.0, ..Rules::GREEDY };
    for (name, rules) in [
        ("temperature 1", plain),
        ("temperature 0.5", Rules { temperature: 0.5, ..plain }),
        ("temperature 2", Rules { temperature: 2.0, ..plain }),
        ("top-k 7", Rules { top_k: 7, ..plain }),
        ("top-p 0.6", Rules { top_p: 0.6, ..plain }),
        ("min-p 0.3", Rules { log_min_p: 0.3f32.ln(), ..plain }),
        ("all", Rules { top_k: 12, top_p: 0.8, log_min_p: 0.1f32.ln(), temperature: 0.7, ..plain }),
    ] {
        let expected = select::cpu(&wide, &rules);
        let mut seen = vec![0usize; logits.len()];
        for id in choices(&gpu, &logits, rules, DRAWS) {
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
        // 99.9th percentile of chi-square, by Wilson and Hilferty: a sound generator fails one seed in a thousand.
        let degrees = f64::from(kept - 1);
        let limit = degrees * (1.0 - 2.0 / (9.0 * degrees) + 3.09 * (2.0 / (9.0 * degrees)).sqrt()).powi(3);
        eprintln!("{name}: chi-square {chi:.1} of {degrees} degrees (limit {limit:.1})");
        assert!(chi < limit, "{name}: chi-square {chi} of {degrees} degrees");
    }
}

#[test]
fn rules_of_random_strength_choose_what_the_plain_definition_allows() {
    if no_gpu("rules_of_random_strength_choose_what_the_plain_definition_allows") {
        return;
    }
    let gpu = gpu();
    let random = &mut Random::new(1);
    for round in 0..40 {
        let vocab = 1 + random.below(300);
        let spread = random.uniform(0.01, 12.0);
        let logits = random.uniforms(vocab, -spread, spread);
        let rules = Rules {
            temperature: random.uniform(0.05, 3.0),
            top_k: random.below(vocab + 3) as u32,
            top_p: random.uniform(0.0, 1.2).min(1.0),
            log_min_p: random.uniform(0.0, 0.6).ln(),
            ..Rules::GREEDY
        };
        let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
        let probabilities = select::cpu(&wide, &rules);
        for (seed, id) in choices(&gpu, &logits, rules, 16).into_iter().enumerate() {
            let below: f64 = probabilities[..id as usize].iter().sum();
            let (p, u) = (probabilities[id as usize], select::draw(seed as u64, 17));
            assert!(p > 0.0, "round {round}: {id} was cut by {rules:?}");
            assert!(
                u > below - 2e-5 && u < below + p + 2e-5,
                "round {round}: {id} at {below}+{p}, draw {u}, {rules:?}"
            );
        }
    }
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
fn penalties_and_biases_reach_the_choice() {
    if no_gpu("penalties_and_biases_reach_the_choice") {
        return;
    }
    let engine = engine(&fixture("falcon-tiny"));
    let prompt = [20, 21, 22, 23];
    let no_eos: Vec<(u32, f32)> = engine.checkpoint().eos().iter().map(|id| (*id, f32::NEG_INFINITY)).collect();
    let plain = Sampling { logit_bias: no_eos.clone(), ..Sampling::GREEDY };
    // Nothing twice, neither of the prompt nor of the answer.
    let once = Sampling { presence_penalty: 1e6, repeat_last_n: 4096, ..plain.clone() };
    let got = tokens(&engine, once.clone(), &prompt, 120);
    let mut all = [&prompt[..], &got].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!((got.len(), all.len()), (120, 124));
    // A window of 8 forgets: nothing twice within 8, but something later.
    let short = tokens(&engine, Sampling { repeat_last_n: 8, ..once }, &prompt, 120);
    let text = [&prompt[..], &short].concat();
    assert!(text.windows(9).all(|w| !w[..8].contains(&w[8])));
    assert!((0..text.len()).any(|i| text[..i].contains(&text[i])));
    // Off is off.
    let free = tokens(&engine, plain.clone(), &prompt, 40);
    let off = Sampling { repeat_penalty: 5.0, repeat_last_n: 0, ..plain.clone() };
    assert_eq!(tokens(&engine, off, &prompt, 40), free);
    assert_ne!(tokens(&engine, Sampling { repeat_penalty: 5.0, ..plain.clone() }, &prompt, 40), free);
    // A bias bans or forces.
    let banned = [no_eos.clone(), vec![(free[0], f32::NEG_INFINITY)]].concat();
    assert!(!tokens(&engine, Sampling { logit_bias: banned, ..plain.clone() }, &prompt, 40).contains(&free[0]));
    let forced = Sampling { logit_bias: [no_eos, vec![(77, 1e6)]].concat(), ..plain };
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
    let options = AnswerOptions { logprobs: Some(3), ..AnswerOptions::tokens(12) };
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
    // Cut off and resumed, the next token's are the same: they are of the step that chose it.
    session.clear().unwrap();
    let mut part = session.generate(&prompt, &AnswerOptions { logprobs: Some(3), ..AnswerOptions::tokens(5) }).unwrap();
    while part.next_id().unwrap().is_some() {}
    drop(part);
    let mut rest = session.resume(&AnswerOptions { logprobs: Some(3), ..AnswerOptions::tokens(1) }).unwrap();
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
