//! Loading weights: every byte arrives, and the host holds no second copy of them.

mod common;
mod sparse;

use common::{gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::{Buf, Gpu, UPLOAD_PIECE, Uploads, Usage};
use peregrine::model::{Progress, WeightOptions, Weights};
use peregrine::runtime::Checkpoint;
use sparse::made_up;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Anonymous memory of this process in bytes.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    field("RssAnon:") + field("RssShmem:")
}

/// Measurements of one load.
#[derive(Debug)]
struct Load {
    seconds: f64,
    bytes: u64,
    /// Peak memory beyond the weights uploaded so far, on a driver whose buffers are in host memory.
    excess: u64,
    peak: u64,
}

/// Loads a checkpoint in its own process; with `hold` that process also keeps a copy of the file.
fn load_apart(dir: &Path, hold: bool) -> Load {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "load_as_a_child", "--nocapture"])
        .env("PEREGRINE_TEST_LOAD", dir)
        .env("PEREGRINE_TEST_HOLD", if hold { "1" } else { "" })
        .output()
        .unwrap();
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix("loaded "));
    let line = line.unwrap_or_else(|| panic!("the child did not load: {text}{said}"));
    let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    Load { seconds: numbers[0], bytes: numbers[1] as u64, excess: numbers[2] as u64, peak: numbers[3] as u64 }
}

#[test]
#[ignore = "run by the tests of memory, in a process of its own"]
fn load_as_a_child() {
    let Some(dir) = std::env::var_os("PEREGRINE_TEST_LOAD") else { return };
    let gpu = gpu();
    let checkpoint = Checkpoint::open(dir).unwrap();
    let tensors = checkpoint.tensors().unwrap();
    let hold = std::env::var_os("PEREGRINE_TEST_HOLD").is_some_and(|v| v == "1");
    let (arrived, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut held: Vec<Vec<u8>> = Vec::new();
    let load = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let (mut excess, mut peak) = (0, 0);
            while !ended.load(Ordering::Acquire) {
                let weights = arrived.load(Ordering::Acquire).min(gpu.allocated_bytes());
                let now = anonymous();
                (excess, peak) = (now.saturating_sub(weights).max(excess), now.max(peak));
                std::thread::sleep(Duration::from_millis(2));
            }
            (excess, peak)
        });
        if hold {
            held.extend(tensors.matrices().map(|tensor| tensor.bytes.to_vec()));
        }
        let started = Instant::now();
        let weights = Weights::load(&gpu, &tensors, WeightOptions::default(), &mut |Progress { done, .. }| {
            arrived.store(done, Ordering::Release)
        });
        let seconds = started.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_millis(10));
        ended.store(true, Ordering::Release);
        let (excess, peak) = sampler.join().unwrap();
        drop(weights.unwrap());
        Load { seconds, bytes: tensors.bytes(), excess, peak }
    });
    println!("\nloaded {} {} {} {}", load.seconds, load.bytes, load.excess, load.peak);
}

fn report(load: &Load) {
    eprintln!(
        "loaded {:.0} MB at {:.2} GB/s; {:.0} MB of memory at the most, {:.0} MB beyond the weights",
        load.bytes as f64 / 1e6,
        load.bytes as f64 / 1e9 / load.seconds,
        load.peak as f64 / 1e6,
        load.excess as f64 / 1e6,
    );
}

#[test]
#[cfg(target_os = "linux")]
fn loading_holds_no_second_copy_of_the_weights() {
    if no_gpu("loading_holds_no_second_copy_of_the_weights") {
        return;
    }
    const BOUND: u64 = 160_000_000;
    let dir = tempfile::tempdir().unwrap();
    let bytes = made_up(dir.path(), 10);
    assert!(bytes > 290_000_000, "{bytes}");
    let load = load_apart(dir.path(), false);
    report(&load);
    assert_eq!(load.bytes, bytes);
    assert!(load.excess < BOUND, "{load:?}");
    let held = load_apart(dir.path(), true);
    assert!(held.excess > BOUND, "an extra copy must be detected: {held:?}");
}

#[test]
#[ignore = "takes 2 GB of memory"]
#[cfg(target_os = "linux")]
fn two_gigabytes_load_with_less_than_512_mb_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = made_up(dir.path(), 76);
    assert!(bytes > 2_000_000_000, "{bytes}");
    let load = load_apart(dir.path(), false);
    report(&load);
    assert!(load.excess < 512_000_000, "{load:?}");
}

/// Data of each size, and a buffer for it.
fn pieces(gpu: &Gpu, sizes: &[usize]) -> Vec<(Buf<u32>, Vec<u32>)> {
    let piece = |(i, len): (usize, &usize)| {
        let values = (0..*len).map(|k| (k * 2_654_435_761 + i) as u32).collect();
        (gpu.buffer(format!("piece {i}"), *len, Usage::Storage).unwrap(), values)
    };
    sizes.iter().enumerate().map(piece).collect()
}

fn uploads<'a>(pieces: &'a [(Buf<u32>, Vec<u32>)]) -> Uploads<'a> {
    let mut uploads = Uploads::default();
    for (buf, values) in pieces {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        uploads.add(buf, 0..values.len(), vec![bytes], move |stage| stage.put(bytes));
    }
    uploads
}

fn arrived_as_sent(gpu: &Gpu, pieces: &[(Buf<u32>, Vec<u32>)]) {
    for (buf, values) in pieces {
        let got = pollster::block_on(gpu.read(buf, 0..buf.len())).unwrap();
        let wrong = got.iter().zip(values).position(|(got, sent)| got != sent);
        assert_eq!(wrong, None, "{} differs", buf.label());
    }
}

/// More than fits into the ring at once, in sizes that do and do not share staging buffers, with one too large for any.
const FULL: usize = UPLOAD_PIECE / 4;
const SIZES: [usize; 16] =
    [1, FULL, 3, 5, FULL / 2, FULL / 2 + 1, 7, FULL + 1, FULL - 1, FULL, 1, 1, FULL / 3, FULL, FULL, 2];

#[test]
fn every_byte_arrives_and_progress_ends_at_the_total() {
    if no_gpu("every_byte_arrives_and_progress_ends_at_the_total") {
        return;
    }
    let gpu = gpu();
    let pieces = pieces(&gpu, &SIZES);
    let total = 4 * SIZES.iter().sum::<usize>();
    let (mut done, spent) = (0, AtomicUsize::new(0));
    let release = |part: &[u8]| {
        spent.fetch_add(part.len(), Ordering::Relaxed);
    };
    uploads(&pieces).run(&gpu, &release, &mut |bytes| done += bytes).unwrap();
    assert_eq!((done, spent.into_inner()), (total, total));
    arrived_as_sent(&gpu, &pieces);
    Uploads::default().run(&gpu, &|_| {}, &mut |_| panic!("nothing is sent")).unwrap();
}

#[test]
fn an_upload_goes_to_its_offset_and_the_rest_is_zero() {
    if no_gpu("an_upload_goes_to_its_offset_and_the_rest_is_zero") {
        return;
    }
    let gpu = gpu();
    let buf = gpu.upload("buffer", &[7u32; 11], Usage::Storage).unwrap();
    for (range, expected) in [(2..6, [7, 7, 1, 0, 0, 2, 7, 7, 7, 7, 7]), (8..11, [7, 7, 1, 0, 0, 2, 7, 7, 1, 0, 0])] {
        let mut uploads = Uploads::default();
        let whole = range.len() == 4;
        uploads.add(&buf, range, vec![], move |stage| {
            stage.put(&1u32.to_le_bytes());
            if whole {
                stage.skip(8);
                stage.put(&2u32.to_le_bytes());
            }
        });
        uploads.run(&gpu, &|_| {}, &mut |_| {}).unwrap();
        assert_eq!(pollster::block_on(gpu.read(&buf, 0..11)).unwrap(), expected);
    }
}

#[test]
fn an_upload_error_ends_the_load() {
    if no_gpu("an_upload_error_ends_the_load") {
        return;
    }
    let gpu = gpu();
    let pieces = pieces(&gpu, &SIZES);
    let mut broken = uploads(&pieces);
    broken.add(&pieces[1].0, 0..4, vec![], |_| panic!("a reader's"));
    let panic = catch_unwind(AssertUnwindSafe(|| broken.run(&gpu, &|_| {}, &mut |_| {}))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"a reader's"));
    let given_up = || uploads(&pieces).run(&gpu, &|_| {}, &mut |_| panic!("the caller's"));
    let panic = catch_unwind(AssertUnwindSafe(given_up)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"the caller's"));
    // Neither error harms the device.
    uploads(&pieces).run(&gpu, &|_| {}, &mut |_| {}).unwrap();
    arrived_as_sent(&gpu, &pieces);
    let lost = uploads(&pieces).run(&gpu, &|_| {}, &mut |_| gpu.destroy());
    assert!(matches!(lost, Err(Error::DeviceLost { .. })), "{lost:?}");
    let late = uploads(&pieces).run(&gpu, &|_| {}, &mut |_| {});
    assert!(matches!(late, Err(Error::DeviceLost { .. })), "{late:?}");
}

#[test]
fn released_bytes_can_be_read_again() {
    let bytes = std::fs::read(common::fixture("mamba-tiny").join("model.safetensors")).unwrap();
    let mapped = peregrine::format::TensorSource::open(&common::fixture("mamba-tiny")).unwrap();
    let held = peregrine::format::TensorSource::from_bytes("held", bytes).unwrap();
    for source in [&mapped, &held] {
        for name in source.names() {
            let tensor = source.get(name, &source.shape(name).unwrap()).unwrap();
            let before = tensor.bytes.to_vec();
            source.release(tensor.bytes);
            assert!(tensor.bytes == before, "{name}");
        }
        source.release(&[]);
        source.release(b"of another");
    }
}
