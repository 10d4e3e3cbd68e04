//! Memory use equals the plan, on the device and on the host's heap. In its own file, since the heap is
//! per process.

mod common;
mod program;
mod sparse;

use common::{TINY, gpu, no_gpu};
use peregrine::Error;
use peregrine::format::WeightFormat;
use peregrine::gpu::{FreeMemory, Gpu};
use peregrine::model::{Forward, ForwardOptions, MemoryPlan, Recipe, Room, Weights};
use peregrine::runtime::{Checkpoint, Engine};
use program::{refused, run, stderr, stdout};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Bytes allocated on the heap, and their peak since the last reset.
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size() as u64;
        let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// One test at a time: they share the heap.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Peak heap use during `work`, beyond what was allocated before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let done = work();
    (done, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// A model of about 16 MB in f32, large compared with the parameters of its dispatches.
fn scaled(tied: bool) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let shape = common::Shape { vocab: 5000, hidden: 256, inner: 512, dt_rank: 16, layers: 4, tied, ..TINY };
    shape.write(dir.path());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

fn load(gpu: &Gpu, checkpoint: &Checkpoint, options: ForwardOptions) -> peregrine::Result<Forward> {
    Forward::load(gpu, checkpoint.config(), &checkpoint.tensors()?, options, &mut |_| {})
}

fn plan(gpu: &Gpu, checkpoint: &Checkpoint, options: ForwardOptions) -> MemoryPlan {
    MemoryPlan::of(checkpoint.config(), &checkpoint.tensors().unwrap(), options, gpu.caps().span_limit())
}

#[test]
fn a_load_takes_the_planned_memory() {
    if no_gpu("a_load_takes_the_planned_memory") {
        return;
    }
    let _alone = alone();
    let gpu = gpu();
    for tied in [false, true] {
        let (_dir, checkpoint) = scaled(tied);
        for weights in [Recipe::AsStored].into_iter().chain(WeightFormat::ALL.map(Recipe::To)) {
            for (slots, chunk) in [(1, 512), (3, 40)] {
                let options = ForwardOptions::default().slots(slots).chunk(chunk).weights(weights);
                let plan = plan(&gpu, &checkpoint, options);
                let before = gpu.allocated_bytes();
                let tensors = checkpoint.tensors().unwrap();
                let loaded = Weights::load(&gpu, &tensors, options.weight_options(), &mut |_| {}).unwrap();
                assert_eq!(gpu.allocated_bytes() - before, plan.weights, "{options:?}: weights");
                drop(loaded);
                let forward = load(&gpu, &checkpoint, options).unwrap();
                let taken = gpu.allocated_bytes() - before;
                let off = taken as f64 / plan.total() as f64 - 1.0;
                assert!((0.0..0.02).contains(&off), "{options:?}: planned {plan}, taken {taken}, off by {off:.4}");
                assert_eq!(forward.state().slot_bytes(), plan.state_per_slot);
                drop(forward);
                assert_eq!(gpu.allocated_bytes(), before);
            }
        }
    }
}

#[test]
fn a_model_that_does_not_fit_is_rejected_before_any_upload() {
    if no_gpu("a_model_that_does_not_fit_is_rejected_before_any_upload") {
        return;
    }
    let _alone = alone();
    let gpu = gpu();
    let (_dir, checkpoint) = scaled(false);
    let options = ForwardOptions::default().chunk(16);
    let needed = plan(&gpu, &checkpoint, options).total();
    let before = gpu.allocated_bytes();
    let within = |memory: u64| load(&gpu, &checkpoint, options.memory(Some(memory)));
    drop(within(needed).unwrap());
    let error = within(needed - 1).err().expect("a byte less is too little");
    assert_eq!(gpu.allocated_bytes(), before);
    let text = error.to_string();
    assert!(matches!(error, Error::DoesNotFit { needed: said, .. } if said == needed), "{text}");
    // It is stored in f32; in f16 it fits.
    for word in ["weights", "state", "activations", "--weights f16"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    let narrow = options.weights(Recipe::To(WeightFormat::F16)).memory(Some(needed - 1));
    drop(load(&gpu, &checkpoint, narrow).unwrap());
    let text = within(1 << 20).err().unwrap().to_string();
    assert!(text.contains("no format") && text.contains("it may take 1.0 MB"), "{text}");
    let engine =
        Engine::load(&gpu, checkpoint, options.memory(Some(needed - 1)), &mut |_| panic!("nothing is uploaded"));
    assert!(matches!(engine.err(), Some(Error::DoesNotFit { .. })));
}

#[test]
fn free_memory_is_reported_and_shrinks_with_allocations() {
    if no_gpu("free_memory_is_reported_and_shrinks_with_allocations") {
        return;
    }
    let _alone = alone();
    let gpu = gpu();
    let Some(free) = gpu.free_memory() else {
        eprintln!("SKIPPED: {} does not tell what is free", gpu.info());
        return;
    };
    eprintln!("free on {}: {free:?}", gpu.info());
    assert!((100 << 20..1 << 44).contains(&free.bytes()), "{free:?}");
    assert_eq!(matches!(free, FreeMemory::Host(_)), gpu.info().cpu);
    assert_eq!(Room::of(&gpu, &ForwardOptions::default().memory(Some(7))), Some(Room::Allowed(7)));
    if let FreeMemory::Device(before) = free {
        let held = gpu.buffer::<u32>("held", 64 << 20, peregrine::gpu::Usage::Storage).unwrap();
        let after = gpu.free_memory().unwrap().bytes();
        assert!(after < before - (128 << 20), "{before} before 256 MiB were taken, {after} after");
        drop(held);
    }
}

#[test]
fn converting_weights_holds_no_more_than_staging() {
    if no_gpu("converting_weights_holds_no_more_than_staging") {
        return;
    }
    let _alone = alone();
    let gpu = gpu();
    let dir = tempfile::tempdir().unwrap();
    sparse::made_up(dir.path(), 6);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensors = checkpoint.tensors().unwrap();
    // Narrower formats differ only in the time that they take.
    let formats = WeightFormat::ALL.into_iter().filter(|format| format.row_bytes(256) >= 256);
    for format in formats {
        let options = ForwardOptions::default().weights(Recipe::To(format));
        let plan = plan(&gpu, &checkpoint, options);
        let load = || Weights::load(&gpu, &tensors, options.weight_options(), &mut |_| {}).unwrap();
        let (weights, most) = peak(load);
        drop(weights);
        // Half of the staging memory is the driver's.
        eprintln!("{format}: {most} bytes of heap at the most, {} planned", plan.staging);
        assert!(most <= plan.staging / 2 + (2 << 20), "{format}: {most} bytes of heap, {} planned", plan.staging);
        let (copies, most) = peak(|| tensors.matrices().map(|tensor| tensor.bytes.to_vec()).collect::<Vec<_>>());
        assert!(most > plan.staging, "an extra copy is detected");
        drop(copies);
    }
}

#[test]
fn the_program_prints_the_plan_and_enforces_it() {
    if no_gpu("the_program_prints_the_plan_and_enforces_it") {
        return;
    }
    let inspect = |more: &[&str]| stdout(&run(&[&["inspect"], more].concat()));
    let json =
        |more: &[&str]| serde_json::from_str::<serde_json::Value>(&inspect(&[&["--json"], more].concat())).unwrap();
    let [stored, narrow] = [&[][..], &["-w", "q8_0"]].map(|more| json(more)["memory"]["total"].as_u64().unwrap());
    assert!(narrow < stored, "{narrow} {stored}");
    let formats = json(&[])["memory"]["formats"].clone();
    let of = |name: &str| formats.as_array().unwrap().iter().find(|format| format["weights"] == name).unwrap().clone();
    assert_eq!(formats.as_array().unwrap().len(), WeightFormat::ALL.len());
    assert_eq!((of("bf16")["total"].as_u64(), of("q8_0")["total"].as_u64()), (Some(stored), Some(narrow)));

    // With a byte less than needed, inspect says so, and loading fails with the formats that fit.
    let less = (stored - 1).to_string();
    let table = inspect(&["--memory", &less]);
    for line in ["--weights f32 ", "does not fit", "--weights q8_0", "it may take"] {
        assert!(table.contains(line), "{line} is not in:\n{table}");
    }
    for command in [
        &["run", "-p", "x"][..],
        &["eval", "--slots", "1", "--questions", "models/tiny-chat/eval.jsonl"],
        &["bench", "-r", "1"],
    ] {
        refused(
            &run(&[command, &["--memory", &less]].concat()),
            5,
            &["the model needs", "weights", "state", "--weights "],
        );
    }
    // Values out of range are reported before memory.
    refused(
        &run(&["eval", "--questions", "models/tiny-chat/eval.jsonl", "--slots", "18446744073709551615"]),
        2,
        &["slots"],
    );
    refused(&run(&["inspect", "--slots", "0"]), 2, &["slots is 0"]);
    refused(&run(&["run", "-p", "x", "--memory", "1MB"]), 5, &["it may take 1.0 MB", "no format"]);
    refused(&run(&["run", "-p", "x", "--memory", "much"]), 2, &["much", "8G"]);
    let told = run(&["run", "-p", "x", "-n", "1", "--memory", &stored.to_string(), "-v"]);
    assert!(stdout(&told).len() < 20);
    assert!(stderr(&told).contains("the model needs") && stderr(&told).contains("it may take"), "{}", stderr(&told));
}

#[test]
fn the_program_can_keep_the_embeddings_on_the_host() {
    if no_gpu("the_program_can_keep_the_embeddings_on_the_host") {
        return;
    }
    let answer = ["run", "-p", "Once upon a time", "-n", "20", "--temp", "0"];
    let host = run(&[&answer[..], &["--embeddings", "host"]].concat());
    assert_eq!(stdout(&host), stdout(&run(&answer)));
    assert!(!stderr(&host).contains("--embeddings"), "{}", stderr(&host));
    assert!(stdout(&run(&["inspect", "--embeddings", "host"])).contains("on the host: each step waits"));
    let tied = common::fixture("mamba-tiny");
    let tied = tied.to_str().unwrap();
    assert!(
        stdout(&run(&["inspect", "-m", tied, "--embeddings", "host"])).contains("on the device, as the table is tied")
    );
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let logits = ["logits", "-m", tied, "--ids", "1", "--embeddings", "host", "-o", out.to_str().unwrap()];
    assert!(stderr(&run(&logits)).contains("stays on the device"));
    let bench = ["bench", "-p", "8", "-n", "4", "-r", "1", "--embeddings", "host"];
    assert!(stdout(&run(&bench)).contains("| tg4 |"));
}
