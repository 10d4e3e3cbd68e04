//! The speed at which this adapter reads memory, and nothing else: what the speed of decoding is held against.

use super::case::{Case, FILL, Fault, Reached};
use super::file;
use super::fill::MadeUp;
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, wgsl};

const LANES: usize = 256;
/// Units of 16 bytes that a lane reads, as the shader has them written out.
const UNITS: usize = 8;
/// Bytes that a workgroup reads.
const GROUP_BYTES: usize = LANES * UNITS * 16;
/// Lanes whose words have this as their exclusive or write: of other data one in four thousand million.
const RARE: u32 = 0x5eed_cafe;
/// Bytes read for a measurement, at most: well above the caches of a GPU, and of a CPU.
const MOST: [usize; 2] = [1 << 30, 128 << 20];
/// Where memory is short, half of it, and again, down to this.
const LEAST: usize = 32 << 20;
/// Measurements, of which the best counts.
const ROUNDS: usize = 4;
/// Seconds that each should take, so that what is around it is small beside it, and no watchdog minds.
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

/// Bytes a second that this adapter reads from its memory: the best of a few measurements over one large buffer, by a device
/// that is at work.
pub async fn measure(gpu: &Gpu) -> Result<f64> {
    let caps = gpu.caps();
    let groups = caps.max_groups as usize * GROUP_BYTES;
    let most = MOST[usize::from(caps.cpu)].min(usize::try_from(caps.span_limit()).unwrap_or(usize::MAX)).min(groups);
    let mut bytes = (most / GROUP_BYTES).max(1) * GROUP_BYTES;
    let (source, found) = loop {
        match buffers(gpu, bytes) {
            // What is to be measured next to it may have taken most of the memory.
            Err(Error::OutOfMemory { .. }) if bytes / 2 >= LEAST => bytes = bytes / 2 / GROUP_BYTES * GROUP_BYTES,
            made => break made?,
        }
    };
    if !caps.cpu {
        // Some GPUs keep what is all zero in fewer bytes than it has.
        let made_up = MadeUp::new(WeightFormat::Int8, 4096, 1);
        let rows = bytes / WeightFormat::Int8.device_row_bytes(4096);
        made_up.write(gpu, (0, rows), &source.clone().reinterpret())?;
    }
    let mut plan = Plan::new(gpu, "stream");
    record(&mut plan, &source, &found)?;
    // The first run compiles the kernel and touches the memory.
    plan.run(1)?.wait(gpu)?;
    plan.heat(1)?;
    let once = plan.seconds_of(1, 1).await?;
    let times = (ROUND / once).clamp(1.0, 200.0) as usize;
    let mut best = once;
    for _ in 0..ROUNDS {
        best = best.min(plan.seconds_of(1, times).await?);
    }
    Ok(bytes as f64 / best)
}

fn buffers(gpu: &Gpu, bytes: usize) -> Result<(Buf<u32>, Buf<u32>)> {
    let source = gpu.buffer("stream source", bytes / size_of::<u32>(), Usage::Storage)?;
    Ok((source, gpu.buffer("stream found", bytes / (UNITS * 16), Usage::Storage)?))
}

/// The twin: what each lane writes, where it does.
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
        // Every other lane finds what it looks for, by a word in any of its units: one that is not read would be missed.
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
                    None => Fault::Stray { output: output(), at: isize::try_from(at).unwrap_or(isize::MAX) },
                    Some(_) if words[at] == FILL => Fault::Unwritten { output: output(), at },
                    Some(cpu) => {
                        let (gpu, cpu) = (f64::from(words[at]), f64::from(cpu));
                        Fault::Far { output: output(), at, gpu, cpu, allowed: 0.0 }
                    }
                }),
            }
        };
        let found = io.output_words("found", &vec![None; 3 * LANES], judge)?;
        let source = io.input("source", &source)?;
        record(&mut io.plan, &source, &found)
    })]
}
