//! The memory read bandwidth of this adapter, the roofline of decoding.

use super::case::{Case, FILL, Mismatch, Reached};
use super::fill::MadeUp;
use super::parts::file;
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};

const LANES: usize = 256;
/// Units of 16 bytes that a lane reads; the shader writes the loads out.
const UNITS: usize = 8;
/// Bytes that a workgroup reads.
const GROUP_BYTES: usize = LANES * UNITS * 16;
/// A lane writes only if its words XOR to this: one in four billion for random data.
const RARE: u32 = 0x5eed_cafe;
/// Most bytes of a measurement, for GPUs and for CPUs: well above their caches.
const MOST: [usize; 2] = [1 << 30, 128 << 20];
/// If memory is short, the size is halved down to this.
const LEAST: usize = 32 << 20;
/// Measurements, of which the best counts.
const ROUNDS: usize = 4;
/// Target seconds of each: long compared with its overhead, and short for any watchdog.
const ROUND: f64 = 0.05;

fn def() -> KernelDef {
    let bindings = vec![Binding::read("source"), Binding::write("found")];
    KernelDef::new("stream", vec![file(wgsl!("stream.wgsl"))], bindings)
        .consts(&[("RARE", RARE)])
        .overrides(&[("WG", LANES as u32)])
}

/// Records the reading of `source`, a multiple of 32 KiB; `found` has room for a word for every 128 bytes.
fn record(plan: &mut Plan, source: &Buf<u32>, found: &Buf<u32>) -> Result<()> {
    let bytes = source.len() * size_of::<u32>();
    assert!(bytes.is_multiple_of(GROUP_BYTES), "whole workgroups");
    let bound = [("source", source.bind()), ("found", found.bind())];
    let cost = Cost { bytes: bytes as u64, ..Default::default() };
    plan.dispatch(&def(), "stream", &bound, [Count::of(bytes, GROUP_BYTES as u32), Count::Fixed(1)], cost)
}

/// Bytes per second that this adapter reads from memory: the best of a few measurements over one large buffer, after a warm-up.
pub async fn measure(gpu: &Gpu) -> Result<f64> {
    let caps = gpu.caps();
    let groups = caps.max_groups as usize * GROUP_BYTES;
    let most = MOST[usize::from(caps.cpu)].min(usize::try_from(caps.span_limit()).unwrap_or(usize::MAX)).min(groups);
    let mut bytes = (most / GROUP_BYTES).max(1) * GROUP_BYTES;
    let (source, found) = loop {
        match buffers(gpu, bytes) {
            // The model to be benchmarked may occupy most of the memory.
            Err(Error::OutOfMemory { .. }) if bytes / 2 >= LEAST => bytes = bytes / 2 / GROUP_BYTES * GROUP_BYTES,
            made => break made?,
        }
    };
    if !caps.cpu {
        // Some GPUs compress zeros.
        let made_up = MadeUp::new(WeightFormat::Int8, 4096, 1);
        let rows = bytes / WeightFormat::Int8.device_row_bytes(4096);
        made_up.write(gpu, (0, rows), &source.clone().reinterpret())?;
    }
    let mut plan = Plan::new(gpu, "stream");
    record(&mut plan, &source, &found)?;
    // The first run compiles the kernel and maps the memory.
    plan.run(1)?.wait(gpu)?;
    let best = plan.best_seconds(1, ROUNDS, (ROUND, 200.0)).await?;
    Ok(bytes as f64 / best)
}

fn buffers(gpu: &Gpu, bytes: usize) -> Result<(Buf<u32>, Buf<u32>)> {
    let source = gpu.buffer("stream source", bytes / size_of::<u32>(), Usage::Storage)?;
    Ok((source, gpu.buffer("stream found", bytes / (UNITS * 16), Usage::Storage)?))
}

/// The twin: what each lane writes, if it does.
fn cpu(source: &[u32]) -> Vec<Option<u32>> {
    let group = |words: &[u32]| {
        let mut sums = vec![[0; 4]; LANES];
        for (i, word) in words.iter().enumerate() {
            sums[i / 4 % LANES][i % 4] ^= word;
        }
        sums.into_iter().map(|[x, y, z, w]| (x ^ y ^ z ^ w == RARE).then_some(x))
    };
    source.chunks_exact(GROUP_BYTES / size_of::<u32>()).flat_map(group).collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("stream", "3 workgroups", |io| {
        let mut source: Vec<u32> = (0..3 * GROUP_BYTES / 4).map(|_| io.random.bits() as u32).collect();
        // Every other lane must write, because of one word in any of its units: an omitted load would be noticed.
        for lane in (0..3 * LANES).step_by(2) {
            let word = |unit: usize, i: usize| ((lane / LANES * UNITS + unit) * LANES + lane % LANES) * 4 + i;
            let words = (0..UNITS * 4).map(|i| word(i / 4, i % 4));
            let now = words.fold(0, |bits, at| bits ^ source[at]);
            source[word(io.random.below(UNITS), io.random.below(4))] ^= now ^ RARE;
        }
        let expected = cpu(&source);
        let judge = move |words: &[u32]| {
            let output = || "found".to_owned();
            match words.iter().zip(&expected).position(|(a, b)| *a != b.unwrap_or(FILL)) {
                None => Ok(Reached::default()),
                Some(at) => Err(match expected[at] {
                    None => Mismatch::Stray { output: output(), at: isize::try_from(at).unwrap_or(isize::MAX) },
                    Some(_) if words[at] == FILL => Mismatch::Unwritten { output: output(), at },
                    Some(cpu) => {
                        let (gpu, cpu) = (f64::from(words[at]), f64::from(cpu));
                        Mismatch::Far { output: output(), at, gpu, cpu, allowed: 0.0 }
                    }
                }),
            }
        };
        let found = io.output_words("found", &vec![None; 3 * LANES], judge)?;
        let source = io.input("source", &source)?;
        record(&mut io.plan, &source, &found)
    })]
}
