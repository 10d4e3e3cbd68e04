//! Memory stays constant from token to token: device buffers, and the heap as counted by an allocator. In its own file,
//! since the count is per process.

mod common;

use peregrine::format::WeightFormat;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Bytes allocated on the heap.
static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Only one test at a time may count.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn nothing_grows_from_token_to_token() {
    if common::no_gpu("nothing_grows_from_token_to_token") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let gpu = common::gpu();
    let mut forward = common::made_up(&gpu, &common::made_up_shape(64, 2, 300), WeightFormat::F32);
    let mut run = |steps: usize| {
        forward.set_next(0, 9).unwrap();
        forward.set_decoding(&[0]).unwrap();
        for _ in 0..steps {
            common::step(&mut forward);
            pollster::block_on(forward.feed(0, &[1, 2, 3])).unwrap();
            forward.set_decoding(&[0]).unwrap();
        }
        gpu.flush().unwrap();
        (LIVE.load(Ordering::Relaxed), gpu.allocated_bytes())
    };
    let (before, device_before) = run(50);
    let (after, device_after) = run(500);
    assert_eq!(device_before, device_after);
    // Ten times as many steps: a leak per step would show five hundred times.
    assert!(after - before < 64 << 10, "{} bytes more on the heap after 500 steps", after - before);
    // Negative control: the counter works.
    let held = vec![0u8; 1 << 20];
    assert!(LIVE.load(Ordering::Relaxed) - after >= 1 << 20);
    drop(held);
}

#[test]
fn sessions_leave_nothing_on_the_heap() {
    use peregrine::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
    if common::no_gpu("sessions_leave_nothing_on_the_heap") {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let checkpoint = Checkpoint::open(common::shipped("tiny-chat")).unwrap();
    let options = EngineOptions::default().slots(2);
    let engine = Engine::load(&common::gpu(), checkpoint, options, &mut |_| {}).unwrap();
    let run = |rounds: usize| {
        for _ in 0..rounds {
            let mut session = engine.session(Sampling::GREEDY).unwrap();
            // The stop string has tokens taken back.
            let options = AnswerOptions::tokens(8).stop(["plus 4 is"]);
            let answer: String = session.send("What is 3 plus 4?", &options).unwrap().map(Result::unwrap).collect();
            assert_eq!(answer, "3 ");
        }
        LIVE.load(Ordering::Relaxed)
    };
    let before = run(10);
    let after = run(50);
    assert!(after - before < 64 << 10, "{} bytes more on the heap after 50 sessions", after - before);
}

/// Reads and generates tokens in one conversation, in chunks made on demand; gives the bytes that the heap
/// and the device hold after the first `settled` tokens of each, and at the end.
fn hold(read: usize, generate: usize, settled: usize) -> [(isize, u64); 2] {
    use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling};
    let gpu = common::gpu();
    let dir = tempfile::tempdir().unwrap();
    common::TINY.write(dir.path());
    let options = EngineOptions::default().chunk(256);
    let engine = Engine::load(&gpu, Checkpoint::open(dir.path()).unwrap(), options, &mut |_| {}).unwrap();
    let mut session = engine.session(Sampling::GREEDY.temperature(1.0)).unwrap();
    let feed = |session: &mut peregrine::runtime::Session, tokens: usize| {
        for first in (0..tokens).step_by(1000) {
            let ids: Vec<u32> =
                (first..tokens.min(first + 1000)).map(|at| (at * 7 % common::TINY.vocab) as u32).collect();
            session.feed(&ids).unwrap();
        }
    };
    feed(&mut session, settled);
    drop(session.generate(&[], &AnswerOptions::tokens(3)).unwrap());
    let held = || {
        gpu.flush().unwrap();
        (LIVE.load(Ordering::Relaxed), gpu.allocated_bytes())
    };
    let before = held();
    feed(&mut session, read - settled);
    let after_reading = held();
    assert!(after_reading.0 - before.0 < 64 << 10, "{} bytes more after {read} tokens", after_reading.0 - before.0);
    assert_eq!(before.1, after_reading.1);

    let mut generation = session.generate(&[], &AnswerOptions::default()).unwrap();
    let mut settled_at = before;
    for token in 0..generate {
        assert!(generation.next_id().unwrap().is_some());
        if token == settled {
            settled_at = held();
        }
    }
    assert_eq!(generation.tokens(), generate);
    [settled_at, held()]
}

fn a_text_of_any_length_takes_the_same_memory(read: usize, generate: usize) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    // An answer's last tokens are kept: up to twice the 4096 that penalties look at.
    let [before, after] = hold(read, generate, 9000);
    eprintln!("{read} tokens read, {generate} generated: {before:?} bytes on heap and device, then {after:?}");
    assert!(after.0 - before.0 < 64 << 10, "{} bytes more on the heap", after.0 - before.0);
    assert_eq!(before.1, after.1);
}

#[test]
fn a_long_text_takes_the_same_memory() {
    if !common::no_gpu("a_long_text_takes_the_same_memory") {
        a_text_of_any_length_takes_the_same_memory(20_000, 12_000);
    }
}

#[test]
#[ignore = "takes minutes on a software driver"]
fn a_million_tokens_take_the_same_memory() {
    if !common::no_gpu("a_million_tokens_take_the_same_memory") {
        a_text_of_any_length_takes_the_same_memory(1_000_000, 100_000);
    }
}
