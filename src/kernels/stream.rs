//! The speed at which this adapter reads memory, and nothing else: what the speed of decoding is held against.

use super::case::{Case, Fault, Reached};
use super::file;
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};
use std::time::Instant;

const LANES: usize = 64;
/// Units of 16 bytes that a lane reads.
const UNITS: usize = 16;
/// Bytes that a workgroup reads.
const GROUP_BYTES: usize = LANES * UNITS * 16;
/// Bytes read for a measurement, at most: well above the caches of a GPU, and of a CPU.
const MOST: [usize; 2] = [512 << 20, 128 << 20];

fn def() -> KernelDef {
    let bindings = vec![Binding::read("source"), Binding::write("sums")];
    KernelDef::new("stream", vec![file(wgsl!("stream.wgsl"))], bindings)
        .consts(&[("UNITS", UNITS as u32)])
        .overrides(&[("WG", LANES as u32)])
}

/// Records the reading of `source`, a multiple of 16 KiB; `sums` gets a word for every 256 bytes.
fn record(plan: &mut Plan, source: &Buf<u32>, sums: &Buf<u32>) -> Result<()> {
    let bytes = source.len() * size_of::<u32>();
    assert!(bytes.is_multiple_of(GROUP_BYTES), "whole workgroups");
    let bound = [("source", source.bind()), ("sums", sums.bind())];
    let cost = Cost { bytes: bytes as u64, ..Default::default() };
    plan.dispatch(&def(), "stream", &bound, [Count::of(bytes, GROUP_BYTES as u32), Count::Fixed(1)], cost)
}

/// Bytes a second that this adapter reads from its memory: the best of a few runs over one large buffer.
pub fn measure(gpu: &Gpu) -> Result<f64> {
    let caps = gpu.caps();
    let groups = caps.max_groups as usize * GROUP_BYTES;
    let bytes = MOST[usize::from(caps.cpu)].min(usize::try_from(caps.span_limit()).unwrap_or(usize::MAX)).min(groups);
    let bytes = (bytes / GROUP_BYTES).max(1) * GROUP_BYTES;
    let source = gpu.buffer::<u32>("stream source", bytes / size_of::<u32>(), Usage::Storage)?;
    let sums = gpu.buffer::<u32>("stream sums", bytes / (UNITS * 16), Usage::Storage)?;
    let mut plan = Plan::new(gpu, "stream");
    record(&mut plan, &source, &sums)?;
    let mut best = f64::INFINITY;
    // The first compiles the kernel and touches the memory. Runs are repeated until the waiting is small beside them.
    let mut repeats = 1;
    for round in 0..6 {
        let started = Instant::now();
        for _ in 0..repeats {
            plan.run(1)?;
        }
        gpu.flush()?;
        let seconds = started.elapsed().as_secs_f64() / f64::from(repeats);
        if round == 1 {
            repeats = (0.05 / seconds).clamp(1.0, 200.0) as u32;
        }
        if round > 0 {
            best = best.min(seconds);
        }
    }
    Ok(bytes as f64 / best)
}

/// The twin.
fn cpu(source: &[u32]) -> Vec<u32> {
    let group = |words: &[u32]| {
        let mut sums = vec![0; LANES];
        for (i, word) in words.iter().enumerate() {
            sums[i / 4 % LANES] ^= word;
        }
        sums
    };
    source.chunks_exact(GROUP_BYTES / size_of::<u32>()).flat_map(group).collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("stream", "3 workgroups", |io| {
        let source: Vec<u32> = (0..3 * GROUP_BYTES / 4).map(|_| io.random.bits() as u32).collect();
        let expected = cpu(&source);
        let judge = move |words: &[u32]| match words.iter().zip(&expected).position(|(a, b)| a != b) {
            None => Ok(Reached::default()),
            Some(at) if words[at] == super::case::FILL => Err(Fault::Unwritten { output: "sums".to_owned(), at }),
            Some(at) => Err(Fault::Far {
                output: "sums".to_owned(),
                at,
                gpu: f64::from(words[at]),
                cpu: f64::from(expected[at]),
                allowed: 0.0,
            }),
        };
        let sums = io.output_words("sums", &vec![None; 3 * LANES], judge)?;
        let source = io.input("source", &source)?;
        record(&mut io.plan, &source, &sums)
    })]
}
