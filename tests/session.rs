//! Sessions end to end, from text to text, on the shipped models.

mod common;

use common::{fixture, gpu, no_gpu, shipped};
use peregrine::gpu::Gpu;
use peregrine::model::{Forward, ForwardOptions, WeightOptions, Weights};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Sampling, Session};
use peregrine::text::Specials;
use peregrine::{Error, Result};
use pollster::block_on;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

fn engine(gpu: &Gpu, dir: &Path, slots: usize) -> Engine {
    let options = EngineOptions::default().slots(slots);
    Engine::load(gpu, Checkpoint::open(dir).unwrap(), options, &mut |_| {}).unwrap()
}

fn tokens(session: &mut Session, ids: &[u32], limit: usize) -> (Vec<u32>, Option<Finish>) {
    let mut generation = session.generate(ids, &AnswerOptions::tokens(limit)).unwrap();
    let mut got = Vec::new();
    while let Some(id) = generation.next_id().unwrap() {
        got.push(id);
    }
    (got, generation.finish())
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn greedy_continuations_equal_the_reference_file() {
    if no_gpu("greedy_continuations_equal_the_reference_file") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &shipped("tiny-chat"), 1);
    let eos = engine.checkpoint().eos().to_vec();
    assert_eq!(eos, [0, 2]);
    let cases: Value =
        serde_json::from_slice(&std::fs::read(shipped("tiny-chat").join("reference.json")).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        let prompt = case["prompt"].as_str().unwrap();
        let prompt_ids = engine.checkpoint().tokenizer().unwrap().encode(prompt, Specials::Parse).unwrap();
        assert_eq!(prompt_ids, ids(&case["prompt_ids"]), "{prompt:?}");
        let mut expected = ids(&case["continuation_ids"]);
        let ended = expected.last().is_some_and(|id| eos.contains(id));
        if ended {
            expected.pop();
        }
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        let (got, finish) = tokens(&mut session, &prompt_ids, expected.len() + usize::from(ended));
        assert_eq!(got, expected, "{prompt:?}");
        assert_eq!(finish == Some(Finish::Eos), ended, "{prompt:?}");
        assert_eq!(session.position(), (prompt_ids.len() + expected.len()) as u64);
    }
}

/// Feeds and decodes step by step: the expected result of every other way.
fn by_hand(gpu: &Gpu, prompt: &[u32], take: usize, then: &[u32], more: usize) -> (Vec<u32>, Vec<u32>) {
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let weights = Weights::load(gpu, &checkpoint.tensors().unwrap(), WeightOptions::default(), &mut |_| {}).unwrap();
    let mut forward = Forward::new(gpu, checkpoint.config(), Arc::new(weights), ForwardOptions::default()).unwrap();
    let mut part = |ids: &[u32], count: usize| {
        pollster::block_on(forward.prefill(0, ids, |_| Ok(()))).unwrap();
        let choice = forward.choose_after(0).unwrap();
        let mut next = block_on(forward.chosen(choice)).unwrap()[0];
        let mut got = Vec::new();
        while got.len() < count {
            got.push(next);
            forward.set_decoding(&[0]).unwrap();
            let step = forward.step().unwrap();
            next = block_on(forward.chosen(step)).unwrap()[0];
        }
        got
    };
    (part(prompt, take), part(then, more))
}

#[test]
fn an_answer_cut_short_leaves_the_state_of_its_last_token() {
    if no_gpu("an_answer_cut_short_leaves_the_state_of_its_last_token") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &shipped("tiny-chat"), 1);
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let prompt = tokenizer.encode("Once upon a time", Specials::Literal).unwrap();
    let then = tokenizer.encode(" and then", Specials::Literal).unwrap();
    for take in [0, 1, 2, 3, 7, 12] {
        let expected = by_hand(&gpu, &prompt, take, &then, 12);
        // By the token limit.
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        assert_eq!(tokens(&mut session, &prompt, take), (expected.0.clone(), Some(Finish::Length)));
        assert_eq!(tokens(&mut session, &then, 12).0, expected.1, "limit {take}");
        drop(session);
        // By dropping the answer.
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        let mut generation = session.generate(&prompt, &AnswerOptions::default()).unwrap();
        let got: Vec<u32> = (0..take).map(|_| generation.next_id().unwrap().unwrap()).collect();
        drop(generation);
        assert_eq!(got, expected.0);
        assert_eq!(session.position(), (prompt.len() + take) as u64);
        assert_eq!(tokens(&mut session, &then, 12).0, expected.1, "dropped after {take}");
    }
}

#[test]
fn a_continued_conversation_equals_one_prompt() {
    if no_gpu("a_continued_conversation_equals_one_prompt") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &shipped("tiny-chat"), 1);
    let answer = |session: &mut Session, text: &str| -> String {
        session.send(text, &AnswerOptions::tokens(100)).unwrap().collect::<Result<String>>().unwrap()
    };
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let first = answer(&mut session, "Hello!");
    let second = answer(&mut session, "What is 3 plus 4?");
    assert_eq!(second, "3 plus 4 is 7.");
    let messages = session.messages().to_vec();
    assert_eq!(messages.len(), 4);
    assert_eq!((messages[1].content.as_str(), messages[3].content.as_str()), (first.as_str(), second.as_str()));
    let consumed = session.position();
    drop(session);
    // The same conversation in one prompt: the same token count and the same answer.
    let checkpoint = engine.checkpoint();
    let whole = checkpoint.encode(&checkpoint.render(&messages[..3], true).unwrap()).unwrap();
    let mut anew = engine.session(Sampling::GREEDY).unwrap();
    let (got, _) = tokens(&mut anew, &whole, 100);
    assert_eq!(checkpoint.tokenizer().unwrap().decode(&got), second);
    assert_eq!(anew.position(), consumed);
    // After clear() nothing is remembered.
    anew.clear().unwrap();
    assert_eq!(answer(&mut anew, "Hello!"), first);
}

#[test]
fn parallel_sessions_do_not_affect_each_other() {
    if no_gpu("parallel_sessions_do_not_affect_each_other") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &shipped("tiny-chat"), 2);
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let prompts = ["Once upon a time", "Once upon a time there was a small fox"]
        .map(|p| tokenizer.encode(p, Specials::Literal).unwrap());
    let alone: Vec<Vec<u32>> =
        prompts.iter().map(|prompt| tokens(&mut engine.session(Sampling::GREEDY).unwrap(), prompt, 20).0).collect();
    let mut a = engine.session(Sampling::GREEDY).unwrap();
    let mut b = engine.session(Sampling::GREEDY).unwrap();
    assert!(matches!(engine.session(Sampling::GREEDY), Err(Error::NoFreeSlot { slots: 2 })));
    let mut of_a = a.generate(&prompts[0], &AnswerOptions::tokens(20)).unwrap();
    let mut got = [vec![], vec![]];
    got[0].extend((0..3).map(|_| of_a.next_id().unwrap().unwrap()));
    let mut of_b = b.generate(&prompts[1], &AnswerOptions::tokens(20)).unwrap();
    while got[1].len() < 20 {
        got[1].push(of_b.next_id().unwrap().unwrap());
        if got[0].len() < 20 && got[1].len() % 3 > 0 {
            got[0].push(of_a.next_id().unwrap().unwrap());
        }
    }
    while let Some(id) = of_a.next_id().unwrap() {
        got[0].push(id);
    }
    assert_eq!(got.as_slice(), alone);
}

#[test]
fn a_seed_determines_the_text_and_ids_without_a_token_never_come() {
    if no_gpu("a_seed_determines_the_text_and_ids_without_a_token_never_come") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &fixture("falcon-tiny"), 1);
    // A temperature at which all ids are about equally probable.
    let hot = |seed| Sampling::GREEDY.temperature(1e6).seed(seed);
    let text = |seed| tokens(&mut engine.session(hot(seed)).unwrap(), &[1, 2, 3], 400).0;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let got = text(seed);
        assert!(got.iter().all(|id| *id < 300), "seed {seed} gave an id without token");
        seen.extend(got);
    }
    assert!(seen.len() > 200, "only {} different ids were drawn", seen.len());
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

#[test]
fn dropped_objects_free_their_memory() {
    if no_gpu("dropped_objects_free_their_memory") {
        return;
    }
    let gpu = gpu();
    assert_eq!(gpu.allocated_bytes(), 0);
    let engine = engine(&gpu, &shipped("tiny-chat"), 2);
    let loaded = gpu.allocated_bytes();
    for _ in 0..10 {
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        let options = AnswerOptions::tokens(8).stop(vec!["plus 4 is".to_owned()]);
        let answer: String = session.send("What is 3 plus 4?", &options).unwrap().map(Result::unwrap).collect();
        assert_eq!(answer, "3 ");
        drop(session);
        assert_eq!(gpu.allocated_bytes(), loaded);
    }
    drop(engine);
    assert_eq!(gpu.allocated_bytes(), 0);
}

#[test]
fn logits_that_are_not_finite_are_an_error_and_not_a_token() {
    if no_gpu("logits_that_are_not_finite_are_an_error_and_not_a_token") {
        return;
    }
    let mut tensors = common::TINY.tensors();
    let norm = tensors.iter_mut().find(|(name, ..)| name == "backbone.norm_f.weight").unwrap();
    norm.2[0] = f32::NAN;
    let dir = tempfile::tempdir().unwrap();
    common::TINY.write(dir.path());
    std::fs::write(dir.path().join("model.safetensors"), common::TINY.safetensors_of(tensors)).unwrap();
    let engine = engine(&gpu(), dir.path(), 1);
    for sampling in [Sampling::GREEDY, Sampling::GREEDY.temperature(0.8).top_p(0.9)] {
        let mut session = engine.session(sampling).unwrap();
        let error = session.generate(&[1, 2], &AnswerOptions::default()).err();
        assert!(matches!(error, Some(Error::NotFinite { position: 2 })), "{error:?}");
    }
}

#[test]
fn an_application_can_bring_its_own_device() {
    if no_gpu("an_application_can_bring_its_own_device") {
        return;
    }
    use peregrine::gpu::wgpu;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let gpu = Gpu::from_device(&adapter, device, queue).unwrap();
    // The default device has no optional features: the kernels run without subgroups.
    assert!(!gpu.caps().subgroups);
    let mut session = engine(&gpu, &shipped("tiny-chat"), 1).session(Sampling::GREEDY).unwrap();
    let answer: String =
        session.send("What is 3 plus 4?", &AnswerOptions::tokens(20)).unwrap().map(Result::unwrap).collect();
    assert_eq!(answer, "3 plus 4 is 7.");
}

#[test]
fn devices_are_idle_after_settle() {
    if no_gpu("devices_are_idle_after_settle") {
        return;
    }
    use peregrine::gpu::{settle, wgpu};
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let _gpu = Gpu::from_device(&adapter, device.clone(), queue.clone()).unwrap();
    let size = 64 << 20;
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer =
        || device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let (from, to) = (buffer(), buffer());
    let mut commands = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for _ in 0..10 {
        commands.copy_buffer_to_buffer(&from, 0, &to, 0, size);
    }
    queue.submit([commands.finish()]);
    settle(std::time::Duration::from_secs(60));
    let polled = device.poll(wgpu::PollType::Poll).unwrap();
    assert!(polled.is_queue_empty(), "{polled:?}");
}

#[test]
fn a_template_that_rewrites_earlier_messages_makes_the_conversation_be_read_again() {
    if no_gpu("a_template_that_rewrites_earlier_messages_makes_the_conversation_be_read_again") {
        return;
    }
    // Like templates that drop reasoning from earlier messages: only the last assistant message is complete.
    let source = "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(earlier)\n{% else %}\
                  {{ m.content }}\n{% endif %}{% endfor %}";
    let mut checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    checkpoint.set_template(peregrine::text::Template::new("test", source).unwrap());
    let engine = Engine::load(&gpu(), checkpoint, EngineOptions::default(), &mut |_| {}).unwrap();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let options = AnswerOptions::tokens(3);
    for (text, again) in [("one", false), ("two", true), ("three", true)] {
        session.send(text, &options).unwrap().for_each(drop);
        assert_eq!(session.was_read_again(), again, "{text}");
    }
    // The state equals that of the rewritten text.
    let rewritten = "one\n(earlier)\ntwo\n(earlier)\nthree\n";
    let ids = engine.checkpoint().tokenizer().unwrap().encode(rewritten, Specials::Literal).unwrap();
    assert_eq!(session.position(), ids.len() as u64 + 3);
}

#[test]
fn a_lost_device_is_an_error_at_every_call() {
    if no_gpu("a_lost_device_is_an_error_at_every_call") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &fixture("mamba-tiny"), 2);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let mut generation = session.generate(&[1, 2], &AnswerOptions::default()).unwrap();
    generation.next_id().unwrap();
    gpu.destroy();
    let lost = generation.next_id();
    assert!(matches!(lost, Err(Error::DeviceLost { .. })), "{lost:?}");
    drop(generation);
    assert!(matches!(session.generate(&[1], &AnswerOptions::default()).err(), Some(Error::DeviceLost { .. })));
    assert!(matches!(engine.session(Sampling::GREEDY).err(), Some(Error::DeviceLost { .. })));
    assert!(matches!(gpu.check(), Err(Error::DeviceLost { .. })));
}

#[test]
fn bad_input_is_rejected_and_leaves_the_session_usable() {
    if no_gpu("bad_input_is_rejected_and_leaves_the_session_usable") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, &fixture("mamba-tiny"), 1);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let expected = tokens(&mut session, &[1, 2], 5).0;
    session.clear().unwrap();
    assert!(matches!(session.generate(&[], &AnswerOptions::default()).err(), Some(Error::NoTokens)));
    let out = session.generate(&[1, 288], &AnswerOptions::default()).err();
    assert!(matches!(out, Some(Error::IdOutOfRange { id: 288, at: 1, vocab: 288 })));
    assert!(matches!(session.send("hi", &AnswerOptions::default()).err(), Some(Error::Template { .. })));
    assert!(session.messages().is_empty());
    assert_eq!(tokens(&mut session, &[1, 2], 5).0, expected);
    drop(session);
    let bad = Sampling::GREEDY.top_p(2.0);
    assert!(matches!(engine.session(bad).err(), Some(Error::BadSetting { .. })));
    assert!(engine.session(Sampling::GREEDY).is_ok());
}

#[test]
fn handles_can_be_sent_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Gpu>();
    is_send::<Engine>();
    is_send::<Session>();
    is_send::<Error>();
}

#[test]
fn logits_of_a_text_are_those_that_its_log_probabilities_come_from() {
    if no_gpu("logits_of_a_text_are_those_that_its_log_probabilities_come_from") {
        return;
    }
    let engine = engine(&gpu(), &fixture("falcon-tiny"), 1);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let ids: Vec<u32> = (5..25).collect();
    let scores = session.score(&ids, 0).unwrap();
    session.clear().unwrap();
    let logits = session.logits(&ids).unwrap();
    assert_eq!(session.position(), 20);
    let vocab = engine.checkpoint().config().vocab;
    assert_eq!((logits.len(), scores.len()), (20 * vocab, 19));
    for ((row, next), score) in logits.chunks(vocab).zip(&ids[1..]).zip(scores) {
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        let log = f64::from(row[*next as usize]) - sum.ln();
        // The library subtracts the largest logit in f32: differences below 16 are rounded by up to 2^-21, those of the sum as well.
        assert!((log - score.chosen).abs() < 1e-6, "{log} {}", score.chosen);
    }
    assert!(matches!(session.logits(&[5, 1 << 20]), Err(Error::IdOutOfRange { at: 1, .. })));
    assert_eq!((session.position(), session.logits(&[]).unwrap().len()), (20, 0));
}
