//! Made-up weights, written on the device: a model of any shape in seconds, for measuring.

use super::case::{Case, Fault, Reached, compare};
use super::{file, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters.
    pub struct Params {
        /// Words in a row of W.
        words: u32,
        /// Values in a row of W; the words past them are zero.
        columns: u32,
        /// Row of the matrix that this shard begins with.
        first: u32,
        /// Rows of this shard.
        rows: u32,
        /// Which weights.
        seed: u32,
        /// A power of two.
        scale: f32,
    }
}

const LANES: u32 = 64;
/// Workgroups at most; each goes on until its share is done.
const GROUPS: usize = 8192;

fn def(format: WeightFormat) -> KernelDef {
    let pack = match format {
        WeightFormat::F32 => wgsl!("lib/pack_f32.wgsl"),
        WeightFormat::F16 => wgsl!("lib/pack_f16.wgsl"),
        WeightFormat::Bf16 => wgsl!("lib/pack_bf16.wgsl"),
        _ => todo!(),
    };
    let bindings = vec![Params::binding("params"), Binding::write("weight")];
    KernelDef::new("fill", vec![file(pack), file(wgsl!("fill.wgsl"))], bindings).overrides(&[("WG", LANES)])
}

/// Which made-up matrix.
#[derive(Debug, Clone, Copy)]
pub struct MadeUp {
    /// How its values are stored.
    pub format: WeightFormat,
    /// Values in a row.
    pub columns: usize,
    /// Which weights.
    pub seed: u32,
    /// Times whole numbers from -128 to 127; a power of two.
    pub scale: f32,
}

impl MadeUp {
    /// One that keeps the size of what it is multiplied with: its values have a variance of about 1 / columns.
    pub fn new(format: WeightFormat, columns: usize, seed: u32) -> Self {
        // The whole numbers have a standard deviation of 74.
        let exponent = -(74.0 * (columns as f32).sqrt()).log2().round();
        MadeUp { format, columns, seed, scale: exponent.exp2() }
    }

    /// Records the writing of rows `first..first + rows` into `weight`, laid out as products read them.
    pub fn record(&self, plan: &mut Plan, (first, rows): (usize, usize), weight: &Buf<u8>) -> Result<()> {
        let words = self.format.device_row_bytes(self.columns) / size_of::<u32>();
        let params = Params {
            words: size(words),
            columns: size(self.columns),
            first: size(first),
            rows: size(rows),
            seed: self.seed,
            scale: self.scale,
        };
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

    /// The twin: `rows` rows from `first` on.
    pub fn cpu(&self, first: usize, rows: usize) -> Vec<f32> {
        let hash = |v: u32| {
            let state = v.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
            (word >> 22) ^ word
        };
        let value = |at: usize| hash(size(first * self.columns + at).wrapping_add(hash(self.seed)));
        (0..rows * self.columns).map(|at| ((value(at) >> 24) as f32 - 128.0) * self.scale).collect()
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
                let row_words = format.device_row_bytes(columns) / size_of::<u32>();
                let judge = move |words: &[u32]| -> Result<Reached, Fault> {
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    let shape = vec![rows, format.device_row_bytes(columns) / format.block_bytes()];
                    let tensor = Tensor::of_blocks("W", "case", format, &shape, &bytes);
                    let padded = expected.chunks_exact(columns).flat_map(|row| {
                        let filling = format.device_row_bytes(columns) / format.block_bytes() - columns;
                        row.iter().copied().chain(std::iter::repeat_n(0.0, filling))
                    });
                    let twin: Vec<_> = padded.map(|v| Some(f64::from(v))).collect();
                    // The fill of f16 and bf16 is a word of two values: looked for before they are taken apart.
                    if let Some(at) = words.iter().position(|word| *word == super::case::FILL) {
                        return Err(Fault::Unwritten { output: "W".to_owned(), at });
                    }
                    compare("W", &tensor.to_f32(), &twin, super::case::Tolerance::EXACT)
                };
                let weight = io.output_words("W", &vec![None; rows * row_words], judge)?;
                made_up.record(&mut io.plan, (first, rows), &weight.reinterpret())
            }));
        }
    }
    cases
}
