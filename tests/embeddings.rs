//! An embedding table on the host gives the same bits as one on the device.

mod common;

use common::{Expected, fixture, gpu, no_gpu};
use peregrine::format::WeightFormat;
use peregrine::gpu::Gpu;
use peregrine::model::{Embeddings, Forward, ForwardOptions, Logits, MemoryPlan, Recipe};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, Sampling};
use pollster::block_on;
use std::path::Path;

fn load(gpu: &Gpu, dir: &Path, options: ForwardOptions) -> Forward {
    let checkpoint = Checkpoint::open(dir).unwrap();
    Forward::load(gpu, checkpoint.config(), &checkpoint.tensors().unwrap(), options, &mut |_| {}).unwrap()
}

/// The bits of all logits of a prompt, and the greedy tokens after it.
fn run(forward: &mut Forward, slot: usize, ids: &[u32]) -> (Vec<u32>, Vec<u32>) {
    forward.reset(slot).unwrap();
    let mut bits = Vec::new();
    let see = |rows: &[f32]| {
        bits.extend(rows.iter().map(|v| v.to_bits()));
        Ok(())
    };
    block_on(forward.prefill_logits(slot, ids, Logits::All, see)).unwrap();
    let choice = forward.choose_after(slot).unwrap();
    let mut tokens = block_on(forward.chosen(choice)).unwrap();
    forward.set_decoding(&[slot]).unwrap();
    while tokens.len() < 32 {
        let step = forward.step().unwrap();
        tokens.extend(block_on(forward.chosen(step)).unwrap());
        bits.extend(block_on(forward.logits(0, 0)).unwrap().iter().map(|v| v.to_bits()));
    }
    (bits, tokens)
}

#[test]
fn embeddings_on_the_host_give_the_bits_of_embeddings_on_the_device() {
    if no_gpu("embeddings_on_the_host_give_the_bits_of_embeddings_on_the_device") {
        return;
    }
    let gpu = gpu();
    for name in ["falcon-tiny", "falcon-tiny-bf16", "falcon-tiny-f16"] {
        let expected = Expected::read(&fixture("falcon-tiny").join("expected.safetensors"));
        let ids = expected.ids("ids.64");
        let others = if name == "falcon-tiny" { &WeightFormat::ALL[..] } else { &[] };
        for weights in [Recipe::AsStored].into_iter().chain(others.iter().copied().map(Recipe::To)) {
            for chunk in if weights == Recipe::AsStored { &[64, 7][..] } else { &[64] } {
                let chunk = *chunk;
                let options = ForwardOptions::default().weights(weights).chunk(chunk);
                let on_host = options.embeddings(Embeddings::Host);
                let mut device = load(&gpu, &fixture(name), options);
                let mut host = load(&gpu, &fixture(name), on_host);
                assert_eq!((device.run_ahead(), host.run_ahead()), (1, 0));
                let (bits, tokens) = run(&mut device, 0, &ids);
                let got = run(&mut host, 0, &ids);
                assert_eq!(got.1, tokens, "{name} {weights:?} chunk {chunk}: greedy tokens");
                let first = got.0.iter().zip(&bits).position(|(got, bits)| got != bits);
                assert_eq!(first, None, "{name} {weights:?} chunk {chunk}: logits");
                // Negative control: another token reads another row.
                let other: Vec<u32> = ids.iter().map(|id| id ^ 1).collect();
                assert_ne!(run(&mut host, 0, &other).0, bits);
            }
        }
    }
}

#[test]
fn slots_read_their_own_rows() {
    if no_gpu("slots_read_their_own_rows") {
        return;
    }
    let gpu = gpu();
    let ids = Expected::read(&fixture("falcon-tiny").join("expected.safetensors")).ids("ids.64");
    let prompts = [&ids[..11], &ids[20..44]];
    let mut tokens: Vec<Vec<Vec<u32>>> = Vec::new();
    for embeddings in [Embeddings::Device, Embeddings::Host] {
        let options = ForwardOptions::default().slots(2).embeddings(embeddings);
        let mut forward = load(&gpu, &fixture("falcon-tiny"), options);
        let mut answers: Vec<Vec<u32>> = Vec::new();
        for (slot, prompt) in prompts.iter().enumerate() {
            pollster::block_on(forward.prefill(slot, prompt, |_| Ok(()))).unwrap();
            let choice = forward.choose_after(slot).unwrap();
            answers.push(block_on(forward.chosen(choice)).unwrap());
        }
        // Both at once, then in the other order, then one alone.
        for slots in [&[0, 1][..], &[1, 0], &[1], &[0]] {
            forward.set_decoding(slots).unwrap();
            for _ in 0..8 {
                let step = forward.step().unwrap();
                let ids = block_on(forward.chosen(step)).unwrap();
                slots.iter().zip(ids).for_each(|(slot, id)| answers[*slot].push(id));
            }
        }
        tokens.push(answers);
    }
    assert_eq!(tokens[0], tokens[1]);
    assert_ne!(tokens[0][0], tokens[0][1]);
}

#[test]
fn conversations_are_the_same_and_may_stop_anywhere() {
    if no_gpu("conversations_are_the_same_and_may_stop_anywhere") {
        return;
    }
    let gpu = gpu();
    let ids = Expected::read(&fixture("falcon-tiny").join("expected.safetensors")).ids("ids.64");
    let texts = [Embeddings::Device, Embeddings::Host].map(|embeddings| {
        let options = ForwardOptions::default().slots(2).embeddings(embeddings);
        let engine =
            Engine::load(&gpu, Checkpoint::open(fixture("falcon-tiny")).unwrap(), options, &mut |_| {}).unwrap();
        let mut sessions = [Sampling::GREEDY, Sampling::GREEDY.temperature(1.5).seed(5)]
            .map(|sampling| engine.session(sampling).unwrap());
        let mut texts = Vec::new();
        for (round, limit) in [9, 1, 0, 17, 32].into_iter().enumerate() {
            for session in &mut sessions {
                let prompt = &ids[round * 5..round * 5 + 4];
                let mut generation = session.generate(prompt, &AnswerOptions::tokens(limit)).unwrap();
                // Some answers are dropped in the middle.
                for _ in 0..if round == 3 { 5 } else { limit } {
                    let Some(id) = generation.next_id().unwrap() else { break };
                    texts.push(id);
                }
                drop(generation);
                texts.push(u32::try_from(session.position()).unwrap());
            }
        }
        texts
    });
    assert!(texts[0].len() > 60, "{texts:?}");
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn embeddings_on_the_host_save_device_memory_unless_tied() {
    if no_gpu("embeddings_on_the_host_save_device_memory_unless_tied") {
        return;
    }
    let gpu = gpu();
    for (dir, tied) in [(fixture("falcon-tiny"), false), (fixture("mamba-tiny"), true)] {
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let tensors = checkpoint.tensors().unwrap();
        assert_eq!(tensors.head.is_none(), tied, "{}", dir.display());
        let weights = [Embeddings::Device, Embeddings::Host].map(|embeddings| {
            let options = ForwardOptions::default().chunk(16).embeddings(embeddings);
            let plan = MemoryPlan::of(checkpoint.config(), &tensors, options, gpu.caps().span_limit());
            let before = gpu.allocated_bytes();
            let forward = load(&gpu, &dir, options);
            let taken = gpu.allocated_bytes() - before;
            assert!((plan.total()..plan.total() + 60_000).contains(&taken), "{embeddings:?}: {plan}, taken {taken}");
            assert_eq!(forward.run_ahead(), if plan.embeddings == Embeddings::Host { 0 } else { 1 });
            plan.weights
        });
        let config = checkpoint.config();
        let table = config.vocab * tensors.embedding.held_as().device_row_bytes(config.hidden);
        assert_eq!(weights[0] - weights[1], if tied { 0 } else { table as u64 });
    }
}
