//! Copies on the device: whether data survives a round trip of any size, and how fast a copy is.

use crate::error::{Error, Result};
use crate::gpu::{Binding, Buf, Caps, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};
use crate::kernels::case::{Case, Random, compare_words};
use crate::kernels::parts::file;
use crate::kernels::sizes::size;

const LANES: usize = 256;
/// Words that a workgroup copies: four units of 16 bytes a lane.
const GROUP_WORDS: usize = LANES * 16;
/// Most workgroups in the first dimension.
const ROW: usize = 1 << 15;
/// Words that are compared at each place of a large buffer.
const WINDOW: usize = 1024;
/// Bytes of a measured copy, for GPUs and for CPUs: above their caches.
const MEASURED: [usize; 2] = [256 << 20, 32 << 20];
/// If memory is short, the size is halved down to this.
const LEAST: usize = 4 << 20;
/// Measurements, of which the best counts, and target seconds of each.
const ROUNDS: usize = 3;
const ROUND: f64 = 0.03;

fn def() -> KernelDef {
    let bindings = vec![Binding::read("source"), Binding::write("copied")];
    KernelDef::new("copy", vec![file(wgsl!("copy.wgsl"))], bindings).overrides(&[("WG", LANES as u32)])
}

/// Records a copy of all of `source`, whole units of four words.
fn record(plan: &mut Plan, source: &Buf<u32>, copied: &Buf<u32>) -> Result<()> {
    let groups = source.len().div_ceil(GROUP_WORDS);
    let grid = [groups.min(ROW), groups.div_ceil(ROW)].map(|n| Count::Fixed(size(n)));
    let cost = Cost { bytes: 8 * source.len() as u64, ..Default::default() };
    plan.dispatch(&def(), "copy", &[("source", source.bind()), ("copied", copied.bind())], grid, cost)
}

/// The places of a buffer of `words` that a round trip compares: all of a small one; of a large one both ends, and where bits of an
/// address in bytes or words change first.
fn windows(words: usize) -> Vec<std::ops::Range<usize>> {
    if words <= 64 * WINDOW {
        return vec![0..words; 1];
    }
    let middle = (17..usize::BITS - 1).map(|bit| 1usize << bit).take_while(|at| at + WINDOW < words);
    let firsts = [0].into_iter().chain(middle.map(|at| at - WINDOW / 2)).chain([words - WINDOW]);
    firsts.map(|first| first..first + WINDOW).collect()
}

/// Sends words to a buffer of `bytes`, copies it on the device and compares what comes back: the first difference, if any.
pub async fn round_trip(gpu: &Gpu, bytes: usize) -> Result<Option<String>> {
    let words = (bytes / size_of::<u32>()).next_multiple_of(4);
    let source = gpu.buffer::<u32>("round trip", words, Usage::Storage)?;
    let copied = gpu.buffer::<u32>("round trip copied", words, Usage::Storage)?;
    let mut random = Random::new(bytes as u64);
    let windows = windows(words);
    let mut sent = Vec::new();
    for window in &windows {
        let own: Vec<u32> = window.clone().map(|_| random.bits() as u32).collect();
        gpu.write(&source, window.start, &own)?;
        sent.push(own);
    }
    let mut plan = Plan::new(gpu, "round trip");
    record(&mut plan, &source, &copied)?;
    plan.run(1)?;
    for (window, sent) in windows.into_iter().zip(sent) {
        let first = window.start;
        let came = gpu.read(&copied, window).await?;
        if let Some(at) = came.iter().zip(&sent).position(|(came, sent)| came != sent) {
            let (came, sent) = (came[at], sent[at]);
            return Ok(Some(format!("word {} of {words} is {came:#010x}, {sent:#010x} was sent", first + at)));
        }
    }
    Ok(None)
}

/// The sizes of round trips, in bytes: small ones, odd ones, and the largest binding within `most` bytes for both buffers.
pub fn sizes(caps: &Caps, most: u64) -> Vec<usize> {
    let largest = caps.span_limit().min(most / 2) / 16 * 16;
    let largest = usize::try_from(largest).unwrap_or(usize::MAX);
    let small = [16, 4096, 65_552, 1 << 20, (16 << 20) + 16, 128 << 20];
    let mut sizes: Vec<usize> = small.into_iter().filter(|bytes| *bytes < largest).collect();
    sizes.push(largest);
    sizes
}

/// Bytes per second that a copy reads and writes.
pub async fn measure(gpu: &Gpu) -> Result<f64> {
    let most = MEASURED[usize::from(gpu.caps().cpu)];
    let mut bytes = most.min(usize::try_from(gpu.caps().span_limit()).unwrap_or(usize::MAX)) / 16 * 16;
    let (source, copied) = loop {
        let buffer = |label| gpu.buffer::<u32>(label, bytes / size_of::<u32>(), Usage::Storage);
        match buffer("copy source").and_then(|source| Ok((source, buffer("copied")?))) {
            Err(Error::OutOfMemory { .. }) if bytes / 2 >= LEAST => bytes = bytes / 32 * 16,
            made => break made?,
        }
    };
    let mut plan = Plan::new(gpu, "copy");
    record(&mut plan, &source, &copied)?;
    // The first run compiles the kernel and maps the memory.
    plan.run(1)?.wait(gpu)?;
    let best = plan.best_seconds(1, ROUNDS, (ROUND, 100.0)).await?;
    Ok(2.0 * bytes as f64 / best)
}

/// Nanoseconds by which the device's clock advances at least: the smallest difference of the durations of many short copies. `None`
/// where there is no clock, or it stands still.
pub async fn clock_step(gpu: &Gpu) -> Result<Option<f64>> {
    if !gpu.caps().timestamps {
        return Ok(None);
    }
    let words = 16 * GROUP_WORDS;
    let [source, copied] = [gpu.buffer("clock", words, Usage::Storage)?, gpu.buffer("clock", words, Usage::Storage)?];
    let mut plan = Plan::new(gpu, "clock");
    for n in 1..=32 {
        let part = 0..words / 32 * n / 4 * 4;
        record(&mut plan, &source.view(part.clone()), &copied.view(part))?;
    }
    let times = plan.run_profiled(1, crate::gpu::Stages::ALL).await?;
    let mut nanoseconds: Vec<f64> = times.iter().map(|time| time.seconds * 1e9).filter(|ns| *ns > 0.0).collect();
    nanoseconds.sort_by(f64::total_cmp);
    let steps = nanoseconds.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 1e-3);
    Ok(steps.chain(nanoseconds.first().copied()).min_by(f64::total_cmp))
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    vec![Case::new("copy", "3 workgroups and a rest", |io| {
        // Never NaN as floats, so that a planted error changes each of them.
        let source: Vec<u32> = (0..3 * GROUP_WORDS + 44).map(|_| io.random.bits() as u32 & 0x3fff_ffff).collect();
        let expected = source.clone();
        let judge = move |words: &[u32]| compare_words("copied", words, &expected);
        let copied = io.output_words("copied", &vec![None; source.len()], judge)?;
        let source = io.input("source", &source)?;
        record(&mut io.plan, &source, &copied)
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_and_every_power_of_two_are_compared() {
        let [whole] = &windows(4)[..] else { panic!("one window has all of it") };
        assert_eq!(*whole, 0..4);
        let words = (1 << 30) + 4;
        let windows = windows(words);
        let has = |at: usize| windows.iter().any(|window| window.contains(&at));
        assert!(has(0) && has(words - 1));
        for bit in 17..30 {
            assert!(has((1 << bit) - 1) && has(1 << bit), "2^{bit}");
        }
        assert!(windows.iter().all(|window| window.end <= words));
    }

    #[test]
    fn the_largest_round_trip_fits_the_binding_and_the_memory() {
        let caps = Caps::portable();
        assert_eq!(sizes(&caps, u64::MAX).last(), Some(&(128 << 20)));
        assert_eq!(sizes(&caps, 10 << 20), [16, 4096, 65_552, 1 << 20, 5 << 20]);
    }
}
