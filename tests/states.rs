//! The state store with its storage levels, and the prefix cache.

mod common;
#[path = "common/small_states.rs"]
mod small_states;

use common::{fixture, gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::Gpu;
use peregrine::runtime::{
    AnswerOptions, Checkpoint, Engine, EngineOptions, PrefixBudget, Reuse, Sampling, Session, StateBudget,
};
use small_states::{room, state_bytes};

const CHUNK: usize = 16;

fn engine(gpu: &Gpu, slots: usize) -> Engine {
    let options = EngineOptions::default().slots(slots).chunk(CHUNK);
    Engine::load(gpu, Checkpoint::open(fixture("falcon-tiny")).unwrap(), options, &mut |_| {}).unwrap()
}

/// Number of states on the device, on the host and on disk.
fn held(engine: &Engine) -> [usize; 3] {
    let stats = engine.state_stats();
    for held in [stats.device, stats.host, stats.disk] {
        assert_eq!(held.bytes, held.states as u64 * state_bytes(engine));
    }
    [stats.device.states, stats.host.states, stats.disk.states]
}

/// The next tokens of a session, with the bits of their probabilities.
fn next(session: &mut Session, count: usize) -> Vec<(u32, u64)> {
    let options = AnswerOptions::tokens(count).logprobs(Some(0));
    let mut generation = session.generate(&[], &options).unwrap();
    let mut got = vec![];
    while let Some(id) = generation.next_id().unwrap() {
        got.push((id, generation.logprobs().unwrap().chosen.to_bits()));
    }
    got
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| 20 + i * i % 97).collect()
}

#[test]
fn a_state_is_restored_from_each_storage_level() {
    if no_gpu("a_state_is_restored_from_each_storage_level") {
        return;
    }
    let engine = engine(&gpu(), 1);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.feed(&ids(40)).unwrap();
    let expected = next(&mut session, 5);
    for (rooms, there, back) in [
        ([1, 0, 0], [1, 0, 0], [1, 0, 0]),
        ([0, 1, 0], [0, 1, 0], [0, 1, 0]),
        ([0, 0, 1], [0, 0, 1], [0, 0, 1]),
        ([9, 9, 9], [1, 0, 0], [1, 0, 0]),
    ] {
        engine.set_state_budget(room(&engine, rooms)).unwrap();
        session.clear().unwrap();
        session.feed(&ids(40)).unwrap();
        let mark = session.mark().unwrap();
        assert_eq!(held(&engine), there, "{rooms:?}");
        for _ in 0..2 {
            session.feed(&[7, 8, 9]).unwrap();
            session.back_to(&mark).unwrap();
            assert_eq!(session.position(), 40);
            assert_eq!(held(&engine), back, "{rooms:?}");
            assert_eq!(next(&mut session, 5), expected, "{rooms:?}");
        }
        drop(mark);
        assert_eq!(held(&engine), [0; 3], "{rooms:?}");
    }
    engine.set_state_budget(StateBudget::NONE).unwrap();
    session.clear().unwrap();
    session.feed(&ids(40)).unwrap();
    let mark = session.mark().unwrap();
    assert_eq!((held(&engine), engine.state_stats().dropped), ([0; 3], 1));
    let error = session.back_to(&mark).unwrap_err();
    assert!(error.to_string().contains("no room for it within the budget"), "{error}");
    assert_eq!(next(&mut session, 5), expected, "the session is as before");
}

#[test]
fn least_recently_used_states_move_down_and_used_ones_up() {
    if no_gpu("least_recently_used_states_move_down_and_used_ones_up") {
        return;
    }
    let gpu = gpu();
    let engine = engine(&gpu, 1);
    engine.set_state_budget(room(&engine, [2, 2, 2])).unwrap();
    let loaded = gpu.allocated_bytes();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let mut marks = vec![];
    for i in 0..7 {
        session.feed(&[30 + i]).unwrap();
        marks.push(session.mark().unwrap());
        // Buffers are padded to 16 bytes.
        assert!(gpu.allocated_bytes() <= loaded + 2 * state_bytes(&engine) + 2 * 16 * 7, "{i}");
    }
    assert_eq!(held(&engine), [2, 2, 2]);
    let stats = engine.state_stats();
    assert_eq!((stats.spilled, stats.returned, stats.dropped), (5, 0, 1));
    // Of states 0 to 6, 0 is dropped, 1 and 2 are on disk, 3 and 4 on the host.
    assert!(matches!(session.back_to(&marks[0]), Err(Error::StateNotKept { .. })));
    session.back_to(&marks[1]).unwrap();
    assert_eq!(held(&engine), [2, 2, 2]);
    assert_eq!(engine.state_stats().returned, 1);
    // 1 moved to the device, 5 to the host, 3 to disk; none was dropped.
    for i in [2, 3, 4, 5, 6, 1] {
        session.back_to(&marks[i]).unwrap();
        assert_eq!(session.position(), i as u64 + 1);
    }
    assert_eq!(engine.state_stats().dropped, 1);
    // Clones share a state; the last frees it.
    let clones = marks.clone();
    drop(marks);
    assert_eq!(held(&engine), [2, 2, 2]);
    // With a smaller budget, states are moved or dropped at once.
    engine.set_state_budget(room(&engine, [1, 1, 3])).unwrap();
    assert_eq!(held(&engine), [1, 1, 3]);
    engine.set_state_budget(room(&engine, [0, 0, 2])).unwrap();
    assert_eq!(held(&engine), [0, 0, 2]);
    drop(clones);
    assert_eq!(held(&engine), [0; 3]);
    assert_eq!(gpu.allocated_bytes(), loaded);
}

/// Open files without a name in a folder.
#[cfg(target_os = "linux")]
fn nameless(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    open.filter(|fd| std::fs::read_link(fd).is_ok_and(|file| file.starts_with(folder))).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_damaged_spill_file_is_an_error_and_is_removed() {
    if no_gpu("a_damaged_spill_file_is_an_error_and_is_removed") {
        return;
    }
    use std::io::{Seek, Write};
    let engine = engine(&gpu(), 1);
    let folder = tempfile::tempdir().unwrap();
    engine
        .set_state_budget(StateBudget { folder: Some(folder.path().to_owned()), ..room(&engine, [0, 0, 4]) })
        .unwrap();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.feed(&ids(20)).unwrap();
    let kept = |session: &Session| session.mark().unwrap();
    let (flipped, cut, sound) = (kept(&session), kept(&session), kept(&session));
    let expected = next(&mut session, 3);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    let [file] = nameless(folder.path()).try_into().unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
    file.seek(std::io::SeekFrom::Start(1000)).unwrap();
    file.write_all(&[1, 2, 3]).unwrap();
    let error = session.back_to(&flipped).unwrap_err();
    assert!(error.to_string().contains("its bytes are not those that were written"), "{error}");
    // The damaged state stays lost; the others are intact.
    assert!(matches!(session.back_to(&flipped), Err(Error::StateNotKept { .. })));
    session.back_to(&sound).unwrap();
    assert_eq!(next(&mut session, 3), expected);
    file.set_len(state_bytes(&engine) + 5).unwrap();
    let error = session.back_to(&cut).unwrap_err();
    assert!(error.to_string().contains("could not be read back from disk"), "{error}");
    assert_eq!(engine.state_stats().dropped, 2);
    drop((file, flipped, cut, sound));
    assert!(nameless(folder.path()).is_empty(), "the file goes with the last state in it");
    // Without a usable disk nothing fails.
    engine.set_state_budget(StateBudget { folder: Some("/nowhere".into()), ..room(&engine, [0, 0, 4]) }).unwrap();
    let error = session.back_to(&kept(&session)).unwrap_err();
    assert!(error.to_string().contains("could not be written to disk"), "{error}");
}

/// Feeds a text to a new session; gives the number of tokens read, and the tokens after it.
fn fresh(engine: &Engine, text: &[u32]) -> (u64, Vec<(u32, u64)>) {
    let before = engine.counts().fed;
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.generate(text, &AnswerOptions::tokens(0)).unwrap();
    assert_eq!(session.position(), text.len() as u64);
    (engine.counts().fed - before, next(&mut session, 4))
}

#[test]
fn a_shared_prefix_is_not_read_again() {
    if no_gpu("a_shared_prefix_is_not_read_again") {
        return;
    }
    let gpu = gpu();
    let (engine, plain) = (engine(&gpu, 1), engine(&gpu, 1));
    let state = state_bytes(&engine);
    let long = ids(100);
    let with = |at: usize, rest: &[u32]| [&long[..at], rest].concat();
    // Without a cache all is read, always.
    assert_eq!(fresh(&engine, &long), fresh(&engine, &long));
    assert_eq!(engine.prefix_stats(), Default::default());
    engine.set_prefix_cache(PrefixBudget { bytes: 100 * state, reuse: Reuse::Read });
    let mut saved = 0;
    for (text, read) in [
        (long.clone(), 100),
        // A full hit: nothing is read, the stored logits are sampled.
        (long.clone(), 0),
        // A hit at the end, and one at the last chunk before it.
        (with(100, &[1, 2, 3]), 3),
        (with(90, &[1, 2, 3]), 90 + 3 - 5 * CHUNK as u64),
        // A third text hits where two texts diverged, also within a chunk.
        (with(90, &[4, 5]), 2),
        (with(7, &[1]), 8),
        (with(7, &[2]), 1),
        (with(7, &[2]), 0),
        (vec![3, 4], 2),
    ] {
        let (got, plainly) = (fresh(&engine, &text), fresh(&plain, &text));
        assert_eq!(plainly.0, text.len() as u64);
        assert_eq!(got, (read, plainly.1), "{text:?}");
        saved += text.len() as u64 - read;
    }
    let stats = engine.prefix_stats();
    assert_eq!((stats.hits, stats.misses, stats.tokens_saved, stats.evicted), (6, 3, saved, 0));
    // States at six chunk ends, seven text ends and two divergences; no id is stored twice.
    assert_eq!(stats.states, 15);
    assert_eq!(stats.bytes, 15 * state + 4 * (100 + 3 + 3 + 2 + 1 + 1 + 2));
    assert_eq!(engine.state_stats().device.states, 15);
    // The cache outlives its sessions and frees its memory.
    engine.set_prefix_cache(PrefixBudget { bytes: 3 * state, reuse: Reuse::Read });
    let stats = engine.prefix_stats();
    assert!(stats.bytes <= 3 * state && stats.states == 2 && stats.evicted == 13, "{stats:?}");
    assert_eq!(engine.state_stats().device.states, 2);
    engine.set_prefix_cache(PrefixBudget::NONE);
    assert_eq!((engine.prefix_stats().bytes, held(&engine)), (0, [0; 3]));
    assert_eq!(fresh(&engine, &long).0, 100);
}

#[test]
fn a_text_of_any_length_stores_few_states() {
    if no_gpu("a_text_of_any_length_stores_few_states") {
        return;
    }
    let engine = engine(&gpu(), 1);
    let state = state_bytes(&engine);
    engine.set_prefix_cache(PrefixBudget { bytes: 1000 * state, reuse: Reuse::Read });
    let long = ids(4000);
    fresh(&engine, &long);
    // One per chunk up to sixteen, then one for each sixteenth more, instead of 250.
    let states = engine.prefix_stats().states;
    assert!((40..90).contains(&states), "{states}");
    // Less than a sixteenth of a shared prefix plus a chunk is read again.
    for at in [50, 333, 1000, 2500, 3999] {
        let read = fresh(&engine, &[&long[..at], &[1]].concat()).0;
        assert!(read as usize <= at / 16 + CHUNK + 1, "{read} of {at}");
    }
    // Ids that take more than a quarter of the budget are not stored, so memory does not grow with the text.
    engine.set_prefix_cache(PrefixBudget::NONE);
    engine.set_prefix_cache(PrefixBudget { bytes: 4 * 4 * 1000, reuse: Reuse::Read });
    fresh(&engine, &long);
    assert_eq!(engine.prefix_stats().bytes, 0);
}

#[test]
fn answers_are_cached_prefixes_if_requested() {
    if no_gpu("answers_are_cached_prefixes_if_requested") {
        return;
    }
    let engine = engine(&gpu(), 1);
    let state = state_bytes(&engine);
    for (reuse, read) in [(Reuse::Read, [12, 11]), (Reuse::Answers, [0, 1])] {
        engine.set_prefix_cache(PrefixBudget { bytes: 100 * state, reuse });
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        session.feed(&ids(20)).unwrap();
        let answer: Vec<u32> = next(&mut session, 10).into_iter().map(|(id, _)| id).collect();
        drop(session);
        let mut session = engine.session(Sampling::GREEDY).unwrap();
        session.feed(&ids(20)).unwrap();
        assert_eq!(next(&mut session, 10).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), answer);
        // The continuation after the answer in the same session.
        session.feed(&[1, 2]).unwrap();
        let after = next(&mut session, 4);
        drop(session);
        let with = |rest: &[u32]| [&ids(20)[..], &answer, rest].concat();
        let (fed, got) = fresh(&engine, &with(&[1, 2]));
        assert_eq!([fed, fresh(&engine, &with(&[3])).0], read, "{reuse:?}");
        if reuse == Reuse::Answers {
            assert_eq!(got, after, "the state of the answer itself");
        }
        engine.set_prefix_cache(PrefixBudget::NONE);
    }
}

#[test]
fn a_prefix_whose_state_was_dropped_is_read_again() {
    if no_gpu("a_prefix_whose_state_was_dropped_is_read_again") {
        return;
    }
    let engine = engine(&gpu(), 1);
    engine.set_prefix_cache(PrefixBudget { bytes: 100 * state_bytes(&engine), reuse: Reuse::Read });
    let expected = fresh(&engine, &ids(50)).1;
    engine.set_state_budget(StateBudget::NONE).unwrap();
    assert_eq!(fresh(&engine, &ids(50)), (50, expected.clone()));
    engine.set_state_budget(StateBudget::default()).unwrap();
    assert_eq!(fresh(&engine, &ids(50)), (50, expected.clone()));
    assert_eq!(fresh(&engine, &ids(50)), (0, expected));
}
