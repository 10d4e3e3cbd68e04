//! Random calls of the public API, in any order, from several threads: each succeeds or fails with a typed error, nothing panics,
//! and nothing leaks. `PEREGRINE_CALLS` sets their number.

mod common;
#[path = "common/small_states.rs"]
mod small_states;

use common::{gpu, no_gpu};
use peregrine::Error;
use peregrine::kernels::case::Random;
use peregrine::runtime::{
    AnswerOptions, CancelHandle, Engine, Mark, PrefixBudget, Reuse, Sampling, Session, Snapshot, StateBudget,
};
use peregrine::text::Message;
use small_states::{PLAIN, engine, room};
use std::collections::BTreeMap;
use std::sync::Mutex;

const SLOTS: usize = 3;
const THREADS: usize = 2;

/// State shared by the threads.
#[derive(Default)]
struct Shared {
    handles: Mutex<Vec<CancelHandle>>,
    marks: Mutex<Vec<Mark>>,
    snapshots: Mutex<Vec<Snapshot>>,
    /// Count of each kind of outcome.
    outcomes: Mutex<BTreeMap<&'static str, usize>>,
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
        Err(error) => panic!("not one of the errors that calls may meet: {error:?}"),
    }
}

fn drain(answer: peregrine::Result<peregrine::runtime::Answer<'_>>, take: usize) -> peregrine::Result<()> {
    answer?.take(take).try_for_each(|piece| piece.map(|_| ()))
}

/// One random call on a session, which it may replace.
fn call(engine: &Engine, session: &mut Option<Session>, shared: &Shared, random: &mut Random) -> peregrine::Result<()> {
    let Some(now) = session.as_mut() else {
        *session = Some(engine.session(any_sampling(random))?);
        return Ok(());
    };
    let options = any_options(random);
    // An answer may be dropped at any moment.
    let take = random.below(6);
    match random.below(24) {
        0 => now.feed(&any_ids(random)),
        1 | 2 => drain(now.send(["", "Hi.", "And then?"][random.below(3)], &options), take),
        3 => drain(now.resume(&options), take),
        4 => drain(now.retry(&options), take),
        5 => now.undo().map(|_| ()),
        6 => now.set_sampling(any_sampling(random)),
        7 => now.clear(),
        8 => {
            now.system(["Be brief.", ""][random.below(2)]);
            Ok(())
        }
        9 => {
            let messages = (0..random.below(4)).map(|_| any_message(random)).collect();
            drain(now.converse(messages, &options), take)
        }
        10 => drain(now.complete(&any_ids(random), &options), take),
        11 => {
            let mut generation = now.generate(&any_ids(random), &options)?;
            for _ in 0..take {
                generation.next_id()?;
            }
            Ok(())
        }
        12 => now.fork().map(|other| *session = Some(other)),
        13 => now.mark().map(|mark| shared.marks.lock().unwrap().push(mark)),
        14 => {
            let mut marks = shared.marks.lock().unwrap();
            marks.truncate(6);
            let at = random.below(marks.len().max(1));
            let mark = (at < marks.len()).then(|| marks.swap_remove(at));
            drop(marks);
            mark.map_or(Ok(()), |mark| now.back_to(&mark))
        }
        15 => now.snapshot().map(|snapshot| shared.snapshots.lock().unwrap().push(snapshot)),
        16 => {
            let mut snapshots = shared.snapshots.lock().unwrap();
            snapshots.truncate(6);
            let snapshot = snapshots.pop();
            drop(snapshots);
            snapshot.map_or(Ok(()), |snapshot| now.restore(&snapshot).map(|_| ()))
        }
        17 => now.keep_ids(random.below(2) == 0),
        18 => {
            let mut handles = shared.handles.lock().unwrap();
            handles.push(now.cancel_handle());
            handles.truncate(8);
            handles[random.below(handles.len())].cancel();
            Ok(())
        }
        19 => engine.set_state_budget(room(engine, [0, 1, 2].map(|_| random.below(4) as u64))),
        20 => {
            let reuse = [Reuse::Read, Reuse::Answers][random.below(2)];
            engine.set_prefix_cache(PrefixBudget { bytes: random.below(3) as u64 * 100_000, reuse });
            Ok(())
        }
        21 => engine.recover(&mut |_| {}).map(|_| ()),
        22 => {
            let _ = (now.messages().len(), now.ids().map(<[u32]>::len), now.position(), engine.state_stats());
            let _ = (engine.counts(), engine.prefix_stats(), now.was_read_again(), now.sampling() == &Sampling::GREEDY);
            Ok(())
        }
        _ => {
            *session = None;
            Ok(())
        }
    }
}

#[test]
fn random_calls_succeed_or_fail_with_typed_errors_and_leak_nothing() {
    if no_gpu("random_calls_succeed_or_fail_with_typed_errors_and_leak_nothing") {
        return;
    }
    let calls = std::env::var("PEREGRINE_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(3000);
    let gpu = gpu();
    let engine = engine(&gpu, SLOTS, PLAIN);
    let leave_nothing = |shared: &Shared| {
        shared.marks.lock().unwrap().clear();
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
                    let kind = kind(&call(engine, &mut session, shared, &mut random));
                    *shared.outcomes.lock().unwrap().entry(kind).or_default() += 1;
                }
            });
        }
    });
    assert_eq!(leave_nothing(&shared), before, "memory of the device was left behind");
    let outcomes = shared.outcomes.lock().unwrap();
    println!("reached: {calls} calls from {THREADS} threads: {outcomes:?}");
    for kind in ["a bad setting", "an id out of range", "nothing to resume", "nothing to undo", "a state not kept"] {
        assert!(outcomes.contains_key(kind), "{kind} never came: {outcomes:?}");
    }
    assert!(outcomes["done"] * 2 > calls, "{outcomes:?}");
}
