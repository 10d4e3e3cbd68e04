//! Random calls of the public API, in any order, from several threads: each succeeds or fails with a typed error, nothing panics,
//! and nothing leaks. `PEREGRINE_CALLS` sets their number.

mod common;
#[path = "common/small_states.rs"]
mod small_states;

use common::{Shape, TINY, fixture, gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::Gpu;
use peregrine::kernels::case::Random;
use peregrine::runtime::{
    AnswerOptions, CancelHandle, Checkpoint, Engine, EngineOptions, Mark, PrefixBudget, Prompt, Reuse, Sampling,
    Session, Snapshot, StateBudget,
};
use peregrine::text::{Message, Template};
use small_states::{PLAIN, room};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

const SLOTS: usize = 3;
const THREADS: usize = 2;

/// State shared by the threads.
#[derive(Default)]
struct Shared {
    handles: Mutex<Vec<CancelHandle>>,
    marks: Mutex<Vec<Mark>>,
    snapshots: Mutex<Vec<Snapshot>>,
    /// Count of each kind of call.
    calls: Mutex<BTreeMap<&'static str, usize>>,
    /// Count of each kind of outcome.
    outcomes: Mutex<BTreeMap<&'static str, usize>>,
}

/// The name of a call and its outcome.
type Call = (&'static str, peregrine::Result<()>);

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap()
}

/// Takes one of these, or none; all but a few are dropped.
fn any_of<T>(all: &Mutex<Vec<T>>, random: &mut Random) -> Option<T> {
    let mut all = lock(all);
    all.truncate(6);
    let at = random.below(all.len().max(1));
    (at < all.len()).then(|| all.swap_remove(at))
}

/// A setting, often out of range.
fn any_float(random: &mut Random) -> f32 {
    [0.0, 1.0, 0.7, 3.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, 1e30][random.below(9)]
}

fn any_sampling(random: &mut Random) -> Sampling {
    let mut sampling = Sampling::GREEDY.seed(random.below(9) as u64);
    match random.below(8) {
        0 => sampling.temperature = any_float(random),
        1 => sampling.top_p = any_float(random),
        2 => sampling.min_p = any_float(random),
        3 => sampling.repeat_penalty = any_float(random),
        4 => (sampling.repeat_penalty, sampling.repeat_last_n) = (1.3, random.below(9000)),
        5 => sampling.logit_bias = vec![(random.below(400) as u32, any_float(random))],
        6 => sampling.presence_penalty = any_float(random),
        _ => (sampling.temperature, sampling.top_k) = (1.5, random.below(400) as u32),
    }
    sampling
}

fn any_ids(random: &mut Random) -> Vec<u32> {
    let length = [0, 1, 2, 31, 32, 33, 70][random.below(7)];
    let highest = if random.below(20) == 0 { 1 << 20 } else { 250 };
    (0..length).map(|_| random.below(highest) as u32).collect()
}

fn any_options(random: &mut Random) -> AnswerOptions {
    AnswerOptions::default()
        .max_tokens(Some(random.below(5)))
        .stop([vec![], vec![String::new()], vec!["\u{fffd}".to_owned(), "a".to_owned()]][random.below(3)].clone())
        .logprobs([None, None, Some(0), Some(3), Some(100_000)][random.below(5)])
}

fn any_prompt(random: &mut Random) -> Prompt {
    match random.below(5) {
        0 => Prompt::Message("Hi.".to_owned()),
        1 => Prompt::Ids(any_ids(random)),
        2 => Prompt::Resume,
        3 => Prompt::Retry,
        _ => Prompt::Messages((0..random.below(3)).map(|_| any_message(random)).collect()),
    }
}

fn any_message(random: &mut Random) -> Message {
    let role = ["user", "assistant", "system", "tool", ""][random.below(5)];
    Message::new(role, ["", "Hi.", "<|im_end|>", "\0\u{202e}"][random.below(4)])
}

/// The kind of a call's outcome; panics on one that must not occur.
fn kind(outcome: &peregrine::Result<()>) -> &'static str {
    match outcome {
        Ok(()) => "done",
        Err(Error::BadSetting { .. }) => "a bad setting",
        Err(Error::IdOutOfRange { .. }) => "an id out of range",
        Err(Error::NoTokens) => "no tokens",
        Err(Error::NothingToResume) => "nothing to resume",
        Err(Error::NothingToUndo) => "nothing to undo",
        Err(Error::StateNotKept { .. }) => "a state not kept",
        Err(Error::NoFreeSlot { .. }) => "no free slot",
        Err(Error::Cancelled) => "cancelled",
        Err(Error::AllBanned { .. }) => "all banned",
        Err(Error::NotFinite { .. }) => "not finite",
        Err(Error::NotAState { .. } | Error::NewerState { .. } | Error::DamagedState { .. }) => "a damaged state",
        Err(error) => panic!("not one of the errors that calls may meet: {error:?}"),
    }
}

fn drain(answer: peregrine::Result<peregrine::runtime::Answer<'_>>, take: usize) -> peregrine::Result<()> {
    answer?.take(take).try_for_each(|piece| piece.map(|_| ()))
}

/// A random call on a session, which it may replace: its name and its outcome.
fn call(engine: &Engine, session: &mut Option<Session>, shared: &Shared, random: &mut Random) -> Call {
    let Some(now) = session.as_mut() else {
        return ("session", engine.session(any_sampling(random)).map(|new| *session = Some(new)));
    };
    let options = any_options(random);
    // An answer may be dropped at any moment.
    let take = random.below(6);
    match random.below(28) {
        0 => ("feed", now.feed(&any_ids(random))),
        1 | 2 => ("send", drain(now.send(["", "Hi.", "And then?"][random.below(3)], &options), take)),
        3 => ("resume", drain(now.resume(&options), take)),
        4 => ("retry", drain(now.retry(&options), take)),
        5 => ("undo", now.undo().map(|_| ())),
        6 => ("set_sampling", now.set_sampling(any_sampling(random))),
        7 => ("clear", now.clear()),
        8 => {
            now.system(["Be brief.", ""][random.below(2)]);
            ("system", Ok(()))
        }
        9 => {
            let messages = (0..random.below(4)).map(|_| any_message(random)).collect();
            ("converse", drain(now.converse(messages, &options), take))
        }
        10 => ("complete", drain(now.complete(&any_ids(random), &options), take)),
        11 => {
            let generation = now.generate(&any_ids(random), &options);
            let tokens = generation.and_then(|mut all| (0..take).try_for_each(|_| all.next_id().map(|_| ())));
            ("generate", tokens)
        }
        12 => ("fork", now.fork().map(|other| *session = Some(other))),
        13 => ("mark", now.mark().map(|mark| lock(&shared.marks).push(mark))),
        14 => ("back_to", any_of(&shared.marks, random).map_or(Ok(()), |mark| now.back_to(&mark))),
        15 => ("snapshot", now.snapshot().map(|snapshot| lock(&shared.snapshots).push(snapshot))),
        16 => {
            let snapshot = any_of(&shared.snapshots, random);
            ("restore", snapshot.map_or(Ok(()), |snapshot| now.restore(&snapshot).map(|_| ())))
        }
        17 => ("keep_ids", now.keep_ids(random.below(2) == 0)),
        18 => {
            let mut handles = lock(&shared.handles);
            handles.push(now.cancel_handle());
            handles.truncate(8);
            handles[random.below(handles.len())].cancel();
            ("cancel", Ok(()))
        }
        19 => ("set_state_budget", engine.set_state_budget(room(engine, [0, 1, 2].map(|_| random.below(4) as u64)))),
        20 => {
            let reuse = [Reuse::Read, Reuse::Answers][random.below(2)];
            let budget = PrefixBudget { bytes: random.below(3) as u64 * 100_000, reuse };
            engine.set_prefix_cache(budget);
            ("set_prefix_cache", Ok(()))
        }
        21 => ("recover", engine.recover(&mut |_| {}).map(|_| ())),
        22 => {
            let _ = (now.messages().len(), now.ids().map(<[u32]>::len), now.position(), engine.state_stats());
            let _ = (engine.counts(), engine.prefix_stats(), now.was_read_again(), now.sampling() == &Sampling::GREEDY);
            ("getters", Ok(()))
        }
        23 => (
            "a state as bytes",
            any_of(&shared.snapshots, random).map_or(Ok(()), |state| as_bytes(state, shared, random)),
        ),
        24 => {
            let mut answer = session.take().expect("there is one").into_answer(any_prompt(random), &options);
            let outcome = answer.by_ref().take(take).try_for_each(|piece| piece.map(|_| ()));
            *session = answer.into_session();
            ("into_answer", outcome)
        }
        25 => {
            // The other thread drops the session, if it is not given back.
            let mut answer = session.take().expect("there is one").into_answer(any_prompt(random), &options);
            let handle = answer.session().cancel_handle();
            let worker = std::thread::spawn(move || {
                let outcome = answer.by_ref().take(take).try_for_each(|piece| piece.map(|_| ()));
                (outcome, answer.into_session())
            });
            if random.below(2) == 0 {
                handle.cancel();
            }
            let (outcome, back) = worker.join().expect("it does not panic");
            *session = back.filter(|_| random.below(2) == 0);
            ("an answer on a thread", outcome)
        }
        26 => ("recover_on", engine.recover_on(&engine.gpu(), &mut |_| {}).map(|_| ())),
        _ => {
            *session = None;
            ("drop", Ok(()))
        }
    }
}

/// Writes a state and reads it again; half of the time a bit has changed, which must be refused.
fn as_bytes(state: Snapshot, shared: &Shared, random: &mut Random) -> peregrine::Result<()> {
    let state = if random.below(2) == 0 { state.halved() } else { state };
    let mut bytes = state.to_bytes()?;
    let damaged = random.below(2) == 0;
    if damaged {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
    let read = Snapshot::from_bytes("a state", &bytes)?;
    assert!(!damaged, "a state with a changed bit was read");
    lock(&shared.snapshots).push(read);
    Ok(())
}

/// An engine with a model of one small layer, because the calls are the subject: random weights, a real tokenizer.
fn small_engine(gpu: &Gpu) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    Shape { vocab: 301, layers: 1, ..TINY }.write(dir.path());
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        std::fs::copy(fixture("falcon-tiny").join(file), dir.path().join(file)).unwrap();
    }
    let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
    checkpoint.set_template(Template::new("test", PLAIN).unwrap());
    Engine::load(gpu, checkpoint, EngineOptions::default().slots(SLOTS).chunk(32), &mut |_| {}).unwrap()
}

#[test]
fn random_calls_succeed_or_fail_with_typed_errors_and_leak_nothing() {
    if no_gpu("random_calls_succeed_or_fail_with_typed_errors_and_leak_nothing") {
        return;
    }
    let calls = std::env::var("PEREGRINE_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(6000);
    let gpu = gpu();
    let engine = small_engine(&gpu);
    let leave_nothing = |shared: &Shared| {
        lock(&shared.marks).clear();
        engine.set_prefix_cache(PrefixBudget::NONE);
        engine.set_state_budget(StateBudget::NONE).unwrap();
        let all: Vec<Session> = (0..SLOTS).map(|_| engine.session(Sampling::GREEDY).unwrap()).collect();
        assert!(matches!(engine.session(Sampling::GREEDY), Err(Error::NoFreeSlot { .. })));
        drop(all);
        let stats = engine.state_stats();
        assert_eq!((stats.device.states, stats.host.states, stats.disk.states), (0, 0, 0), "{stats:?}");
        gpu.allocated_bytes()
    };
    let shared = Shared::default();
    let before = leave_nothing(&shared);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, shared) = (&engine, &shared);
            scope.spawn(move || {
                let mut random = Random::new(thread as u64);
                let mut session = None;
                for _ in 0..calls / THREADS {
                    let (name, outcome) = call(engine, &mut session, shared, &mut random);
                    *lock(&shared.calls).entry(name).or_default() += 1;
                    *lock(&shared.outcomes).entry(kind(&outcome)).or_default() += 1;
                }
            });
        }
    });
    assert_eq!(leave_nothing(&shared), before, "memory of the device was left behind");
    let outcomes = lock(&shared.outcomes);
    println!("reached: {calls} calls from {THREADS} threads: {:?}; {outcomes:?}", lock(&shared.calls));
    for kind in ["a bad setting", "an id out of range", "nothing to resume", "nothing to undo", "a state not kept"] {
        assert!(outcomes.contains_key(kind), "{kind} never came: {outcomes:?}");
    }
    assert!(outcomes["done"] * 2 > calls, "{outcomes:?}");
}
