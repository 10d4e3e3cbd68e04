//! Synthetic weights, written on the device: a model of any shape within seconds, for benchmarks.

use super::case::{Case, FILL, Mismatch, Reached};
use super::parts::file;
use super::sizes::size;
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, params, wgsl};
use half::f16;

params! {
    /// Parameters.
    pub struct Params {
        /// Words in a row of W.
        words: u32,
        /// Values in a row of W.
        columns: u32,
        /// Row of the matrix that this shard begins with.
        first: u32,
        /// Rows of this shard.
        rows: u32,
        /// Seed of the weights.
        seed: u32,
        /// A power of two.
        scale: f32,
        /// Formats with scales: words of codes in a row.
        codes: u32,
        /// Words up to the end of the scales; scales of scales follow.
        scales: u32,
        /// The words of the scales, repeated.
        pattern: [u32; 4],
        /// The words of the scales of scales.
        tops: [u32; 4],
    }
}

const LANES: u32 = 64;
/// Most workgroups; each loops over its share.
const GROUPS: usize = 8192;

fn def(format: WeightFormat) -> KernelDef {
    let values = |pack| vec![file(pack), file(wgsl!("lib/fill_values.wgsl"))];
    let mut parts = match format {
        WeightFormat::F32 => values(wgsl!("lib/pack_f32.wgsl")),
        WeightFormat::F16 => values(wgsl!("lib/pack_f16.wgsl")),
        WeightFormat::Bf16 => values(wgsl!("lib/pack_bf16.wgsl")),
        _ => vec![file(wgsl!("lib/fill_codes.wgsl"))],
    };
    parts.push(file(wgsl!("fill.wgsl")));
    let bindings = vec![Params::binding("params"), Binding::write("weight")];
    KernelDef::new("fill", parts, bindings).overrides(&[("WG", LANES)])
}

/// The words of the scales and of their scales, such that products keep the magnitude of their input, as in [`MadeUp::new`], and
/// values are positive about as often as negative.
fn scale_words(format: WeightFormat, columns: usize) -> [[u32; 4]; 2] {
    // The power of two that brings codes of this standard deviation closest to 1 / sqrt(columns).
    let scale = |deviation: f32| (-(deviation * (columns as f32).sqrt()).log2().round()).exp2();
    let halves = |low: f32, high: f32| {
        let [low, high] = [low, high].map(|v| u32::from(f16::from_f32(v).to_bits()));
        low | high << 16
    };
    // Groups of scale 32, the minimum of each so many times 4 (8) as half of the largest code is in 32.
    let groups = |deviation: f32, times: f32, minimum: u32| {
        let scale = scale(32.0 * deviation);
        let low = 0x1111_1111 * (minimum & 15);
        [halves(scale, times * scale), 0, low, 0xaaaa | (0x5555 * (minimum >> 4)) << 16]
    };
    match format {
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => [[0; 4]; 2],
        WeightFormat::Q8_0 => [[halves(scale(74.0), scale(74.0)); 4], [0; 4]],
        WeightFormat::Q4_0 => [[halves(scale(4.6), scale(4.6)); 4], [0; 4]],
        WeightFormat::Q4K => [groups(4.6, 4.0, 60), [0; 4]],
        WeightFormat::Q5K => [groups(9.2, 8.0, 62), [0; 4]],
        WeightFormat::Q6K => [[0x2020_2020; 4], [halves(scale(32.0 * 18.5), scale(32.0 * 18.5)); 4]],
        WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => [[scale(0.58).to_bits(); 4], [0; 4]],
    }
}

fn hash(v: u32) -> u32 {
    let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// A synthetic matrix.
#[derive(Debug, Clone, Copy)]
pub struct MadeUp {
    /// How its values are stored.
    pub format: WeightFormat,
    /// Values in a row.
    pub columns: usize,
    /// Seed of the weights.
    pub seed: u32,
    /// Factor of the integers from -128 to 127, a power of two; for plain formats.
    pub scale: f32,
}

impl MadeUp {
    /// A matrix whose products keep the magnitude of their input: its values have a variance of about 1 / columns.
    pub fn new(format: WeightFormat, columns: usize, seed: u32) -> Self {
        // The integers have a standard deviation of 74.
        let exponent = -(74.0 * (columns as f32).sqrt()).log2().round();
        MadeUp { format, columns, seed, scale: exponent.exp2() }
    }

    fn params(&self, first: usize, rows: usize) -> Params {
        let [_, codes, scales, _] = self.format.plane_ends(self.columns).map(|bytes| size(bytes / size_of::<u32>()));
        let [pattern, tops] = scale_words(self.format, self.columns);
        Params {
            words: size(self.format.device_row_bytes(self.columns) / size_of::<u32>()),
            columns: size(self.columns),
            first: size(first),
            rows: size(rows),
            seed: self.seed,
            scale: self.scale,
            codes,
            scales,
            pattern,
            tops,
        }
    }

    /// Records a fill of `weight` with rows `first..first + rows`, in the device layout.
    pub fn record(&self, plan: &mut Plan, (first, rows): (usize, usize), weight: &Buf<u8>) -> Result<()> {
        let params = self.params(first, rows);
        let words = params.words as usize;
        let params = plan.gpu().upload("fill params", &[params], Usage::Uniform)?;
        let bound = [("params", params.bind()), ("weight", weight.bind())];
        let groups = (rows * words).div_ceil(LANES as usize).min(GROUPS);
        let cost = Cost { bytes: weight.len() as u64, ..Default::default() };
        plan.dispatch(&def(self.format), "fill", &bound, [Count::of(groups, 1), Count::Fixed(1)], cost)
    }

    /// Writes rows `first..first + rows` into `weight` and waits.
    pub fn write(&self, gpu: &Gpu, rows: (usize, usize), weight: &Buf<u8>) -> Result<()> {
        let mut plan = Plan::new(gpu, "fill");
        self.record(&mut plan, rows, weight)?;
        plan.run(1)?;
        gpu.flush()
    }

    /// The twin: `rows` rows from `first` on, in the device layout.
    pub fn cpu(&self, first: usize, rows: usize) -> Vec<u8> {
        if self.format.is_plain() {
            let value = |at: usize| hash(size(first * self.columns + at).wrapping_add(hash(self.seed)));
            let values = (0..rows * self.columns).map(|at| ((value(at) >> 24) as f32 - 128.0) * self.scale);
            let blocks = self.format.encode(&values.collect::<Vec<f32>>(), self.columns);
            let tensor = Tensor::of_blocks("W", "twin", self.format, &[rows, self.columns], &blocks);
            let mut packed = vec![0; rows * self.format.device_row_bytes(self.columns)];
            tensor.pack_rows(0..rows, self.format, &mut packed);
            return packed;
        }
        let params = self.params(first, rows);
        let word = |row: usize, word: u32| match word {
            _ if word < params.codes => {
                hash((size(row) * params.words).wrapping_add(word).wrapping_add(hash(self.seed)))
            }
            _ if word < params.scales => params.pattern[word as usize % 4],
            _ => params.tops[word as usize % 4],
        };
        let words = (first..first + rows).flat_map(|row| (0..params.words).map(move |at| (row, at)));
        words.flat_map(|(row, at)| word(row, at).to_le_bytes()).collect()
    }
}

pub(super) fn defs() -> Vec<KernelDef> {
    WeightFormat::ALL.map(def).to_vec()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for format in WeightFormat::ALL {
        for (first, rows, columns) in [(0, 1, 1), (7, 5, 70), (3, 300, 128)] {
            cases.push(Case::new("fill", format!("{} {rows}x{columns} from {first}", format.name()), move |io| {
                let made_up = MadeUp::new(format, columns, 42);
                let expected = made_up.cpu(first, rows);
                let judge = move |words: &[u32]| -> Result<Reached, Mismatch> {
                    let output = || "W".to_owned();
                    for (at, (word, bytes)) in words.iter().zip(expected.chunks_exact(4)).enumerate() {
                        let expected = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                        let [gpu, cpu] = [*word, expected].map(f64::from);
                        match *word {
                            _ if *word == expected => {}
                            FILL => return Err(Mismatch::Unwritten { output: output(), at }),
                            _ => return Err(Mismatch::Far { output: output(), at, gpu, cpu, allowed: 0.0 }),
                        }
                    }
                    Ok(Reached::default())
                };
                let weight = io.output_words("W", &vec![None; rows * format.device_row_bytes(columns) / 4], judge)?;
                made_up.record(&mut io.plan, (first, rows), &weight.reinterpret())
            }));
        }
    }
    cases
}
