//! Many sessions on few slots: each gives the same as alone, whatever else is in its steps, and none waits for long.

mod common;

use common::{TINY, gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::Gpu;
use peregrine::kernels::case::Random;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling, Session};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn engine(gpu: &Gpu, slots: usize) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    TINY.write(dir.path());
    let options = EngineOptions::default().slots(slots).chunk(32);
    Engine::load(gpu, Checkpoint::open(dir.path()).unwrap(), options, &mut |_| {}).unwrap()
}

/// A random request.
#[derive(Clone)]
struct Request {
    prompt: Vec<u32>,
    /// Tokens read into the state that is restored first.
    before: Vec<u32>,
    sampling: Sampling,
    tokens: usize,
    logprobs: bool,
}

impl Request {
    fn random(random: &mut Random, seed: u64) -> Self {
        let mut ids = |n: usize| (0..n).map(|_| random.below(TINY.vocab) as u32).collect::<Vec<_>>();
        // Some have a state and no prompt.
        let (before, prompt) = match seed % 8 {
            0 => (ids(40), vec![]),
            1 => (ids(7), ids(2000)),
            _ => {
                let n = ids(1)[0] as usize * 97 + 1;
                (vec![], ids(n))
            }
        };
        let plain = Sampling::GREEDY.temperature(1.0).seed(seed);
        let sampling = match seed % 3 {
            0 => Sampling::GREEDY,
            1 => plain,
            _ => plain.repeat_penalty(1.3).top_p(0.9),
        };
        Request { prompt, before, sampling, tokens: 1 + random.below(60), logprobs: seed % 5 == 2 }
    }

    /// Ids and, if requested, the bits of their log-probabilities.
    fn run(&self, session: &mut Session) -> Vec<(u32, Option<u64>)> {
        if !self.before.is_empty() {
            session.feed(&self.before).unwrap();
            let snapshot = session.snapshot().unwrap();
            session.clear().unwrap();
            assert!(session.restore(&snapshot).unwrap().is_empty());
        }
        let options = AnswerOptions::tokens(self.tokens).logprobs(self.logprobs.then_some(0));
        let mut generation = session.generate(&self.prompt, &options).unwrap();
        let mut given = Vec::new();
        while let Some(id) = generation.next_id().unwrap() {
            given.push((id, generation.logprobs().map(|logprobs| logprobs.chosen.to_bits())));
        }
        given
    }
}

#[test]
fn sixty_four_sessions_on_eight_slots_equal_single_runs() {
    if no_gpu("sixty_four_sessions_on_eight_slots_equal_single_runs") {
        return;
    }
    const SLOTS: usize = 8;
    let gpu = gpu();
    let mut random = Random::new(3);
    let requests: Vec<Request> = (0..64).map(|seed| Request::random(&mut random, seed)).collect();
    let alone = engine(&gpu, 1);
    let expected: Vec<_> =
        requests.iter().map(|request| request.run(&mut alone.session(request.sampling.clone()).unwrap())).collect();
    assert!(expected.iter().any(|given| given.iter().any(|(id, _)| *id != given[0].0)), "the model says something");

    let engine = engine(&gpu, SLOTS);
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..requests.len()).collect());
    let given = Mutex::new(vec![None; requests.len()]);
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| {
                loop {
                    let Some(next) = queue.lock().unwrap().pop_front() else { return };
                    let mut session = engine.session(requests[next].sampling.clone()).unwrap();
                    let answer = requests[next].run(&mut session);
                    most.fetch_max(answer.len(), Ordering::Relaxed);
                    given.lock().unwrap()[next] = Some(answer);
                }
            });
        }
    });
    for (i, (given, expected)) in given.into_inner().unwrap().iter().zip(&expected).enumerate() {
        assert_eq!(given.as_ref(), Some(expected), "request {i}");
    }
    let counts = engine.counts();
    eprintln!("{counts:?}");
    assert!(counts.rows > 2 * counts.steps, "steps were shared: {counts:?}");
    assert!(counts.longest_left_out <= 1, "a slot that can go on is in every second turn: {counts:?}");
    assert!(counts.longest_unfed < SLOTS as u64, "a slot that reads gets a chunk every {SLOTS} turns: {counts:?}");
    let prompts: usize = requests.iter().map(|request| request.prompt.len() + request.before.len()).sum();
    assert_eq!(counts.fed, prompts as u64);
}

#[test]
fn sessions_polled_by_one_thread_share_their_steps() {
    if no_gpu("sessions_polled_by_one_thread_share_their_steps") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 3);
    let prompts: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6]];
    let options = AnswerOptions::tokens(40);
    let alone: Vec<Vec<u32>> = prompts
        .iter()
        .map(|prompt| {
            let mut session = engine.session(Sampling::GREEDY).unwrap();
            let mut generation = session.generate(prompt, &options).unwrap();
            std::iter::from_fn(|| generation.next_id().unwrap()).collect()
        })
        .collect();
    let before = engine.counts();
    let mut sessions: Vec<Session> = prompts.iter().map(|_| engine.session(Sampling::GREEDY).unwrap()).collect();
    let mut generations: Vec<_> =
        sessions.iter_mut().zip(prompts).map(|(session, prompt)| session.generate(prompt, &options).unwrap()).collect();
    for at in 0..40 {
        for (generation, alone) in generations.iter_mut().zip(&alone) {
            assert_eq!(generation.next_id().unwrap(), Some(alone[at]), "token {at}");
        }
    }
    let after = engine.counts();
    // The first and last steps have fewer rows.
    assert!(after.steps - before.steps < 50, "{before:?} {after:?}");
}

#[test]
fn an_unread_session_does_not_block_others() {
    if no_gpu("an_unread_session_does_not_block_others") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 2);
    let options = AnswerOptions::tokens(30);
    let run = |session: &mut Session| -> Vec<u32> {
        let mut generation = session.generate(&[3, 1], &options).unwrap();
        std::iter::from_fn(|| generation.next_id().unwrap()).collect()
    };
    let mut idle = engine.session(Sampling::GREEDY).unwrap();
    let mut busy = engine.session(Sampling::GREEDY).unwrap();
    let expected = run(&mut busy);
    busy.clear().unwrap();
    let mut unread = idle.generate(&[3, 1], &options).unwrap();
    assert_eq!(unread.next_id().unwrap(), Some(expected[0]));
    assert_eq!(run(&mut busy), expected);
    assert!(matches!(engine.session(Sampling::GREEDY), Err(Error::NoFreeSlot { slots: 2 })));
    drop(busy);
    // It continues where it was, and a freed slot can be taken.
    let rest: Vec<u32> = std::iter::from_fn(|| unread.next_id().unwrap()).collect();
    assert_eq!(rest, expected[1..]);
    drop(unread);
    assert_eq!(run(&mut engine.session(Sampling::GREEDY).unwrap()), expected);
}

#[test]
fn a_sampling_error_ends_only_its_own_session() {
    if no_gpu("a_sampling_error_ends_only_its_own_session") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 2);
    let all = (0..TINY.vocab as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let options = AnswerOptions::tokens(20);
    let mut good = engine.session(Sampling::GREEDY).unwrap();
    let mut generation = good.generate(&[3, 1], &options).unwrap();
    let mut bad = engine.session(Sampling::GREEDY.logit_bias(all)).unwrap();
    assert!(matches!(bad.generate(&[1, 2, 3], &options).err(), Some(Error::AllBanned { position: 3 })));
    let given: Vec<u32> = std::iter::from_fn(|| generation.next_id().unwrap()).collect();
    drop(generation);
    assert_eq!(given.len(), 20);
    // The prompt stays read: with other settings it continues.
    bad.set_sampling(Sampling::GREEDY).unwrap();
    assert!(bad.generate(&[], &options).unwrap().next_id().unwrap().is_some());
}

#[test]
fn without_a_prompt_a_session_continues_or_reports_an_empty_prompt() {
    if no_gpu("without_a_prompt_a_session_continues_or_reports_an_empty_prompt") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 2);
    let options = AnswerOptions::tokens(9);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    assert!(matches!(session.generate(&[], &options).err(), Some(Error::NoTokens)));
    let mut run = |ids: &[u32]| -> Vec<u32> {
        let mut generation = session.generate(ids, &options).unwrap();
        std::iter::from_fn(|| generation.next_id().unwrap()).collect()
    };
    let (first, second) = (run(&[2, 4]), run(&[]));
    let mut other = engine.session(Sampling::GREEDY).unwrap();
    other.feed(&[2]).unwrap();
    other.feed(&[4]).unwrap();
    let mut generation = other.generate(&[], &AnswerOptions::tokens(18)).unwrap();
    let whole: Vec<u32> = std::iter::from_fn(|| generation.next_id().unwrap()).collect();
    assert_eq!(whole, [first, second].concat());
}

#[test]
fn a_cancelled_prompt_leaves_the_logits_of_its_last_chunk() {
    if no_gpu("a_cancelled_prompt_leaves_the_logits_of_its_last_chunk") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 2);
    let options = AnswerOptions::tokens(12);
    let ids: Vec<u32> = (0..200_000).map(|i| i * 7 % TINY.vocab as u32).collect();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let handle = session.cancel_handle();
    let before = engine.counts().chunks;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while engine.counts().chunks < before + 5 {}
            handle.cancel();
        });
        assert!(matches!(session.feed(&ids), Err(Error::Cancelled)));
    });
    let fed = session.position() as usize;
    assert!(fed > 0 && fed < ids.len(), "{fed} tokens were fed");
    let mut whole = engine.session(Sampling::GREEDY).unwrap();
    let expected = whole.generate(&ids[..fed], &options).unwrap().next_id().unwrap();
    assert_eq!(session.generate(&[], &options).unwrap().next_id().unwrap(), expected);
}
