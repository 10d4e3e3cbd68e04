//! Declarations and cases of attention, tiled and stored.

use super::stored::{Chunk, Recorder, softmax_def};
use super::{AttentionVariant, Heads, softmax, tiled};
use crate::error::Result;
use crate::gpu::{Buf, Caps, KernelDef};
use crate::kernels::activation::Activation;
use crate::kernels::case::{Case, Io, Tolerance, wide};

/// Widths of heads whose modules are tested.
const WIDTHS: [usize; 5] = [4, 32, 44, 64, 128];

pub(in crate::kernels) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let mut defs = vec![softmax_def()];
    for variant in AttentionVariant::all(caps) {
        let widths = WIDTHS.into_iter().filter(|width| runs(variant, *width));
        defs.extend(widths.map(|width| variant.tiled_def(width)));
        defs.extend([variant.scores_def(), variant.values_def()]);
    }
    defs
}

fn runs(variant: AttentionVariant, width: usize) -> bool {
    variant == AttentionVariant::Workgroup || width <= tiled::SUBGROUP_WIDTH
}

/// Weighted means of values of order 1.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-11, abs: 2e-6, rel: 5e-6 };
/// Scores up to 40: exp() of them is wrong by 40 times the rounding of f32.
const STEEP: Tolerance = Tolerance { nmse: 1e-9, abs: 2e-5, rel: 2e-5 };

/// Pictures, and their heads.
type Size = (usize, Heads);

fn sizes() -> [Size; 6] {
    let of = |pictures, tokens, heads, width| (pictures, Heads { tokens, heads, width });
    // One token; no multiples of a tile; several tiles of keys and of queries; every width.
    [of(1, 1, 1, 4), of(2, 17, 3, 32), of(1, 70, 2, 44), of(3, 33, 1, 64), of(1, 197, 3, 64), of(2, 40, 2, 128)]
}

pub(in crate::kernels) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in AttentionVariant::all(caps) {
        for (pictures, heads) in sizes() {
            let Heads { tokens, heads: count, width } = heads;
            let shape = format!("{variant:?} {pictures} pictures of {tokens}, {count} heads of {width}").to_lowercase();
            if runs(variant, width) {
                for (steep, largest, tolerance) in [("", 2.0, TOLERANCE), (" steep", 8.0, STEEP)] {
                    let inputs = Inputs { pictures, heads, largest };
                    let build = move |io: &mut Io| build_tiled(io, inputs, variant, tolerance);
                    cases.push(Case::new("attention", format!("{shape}{steep}"), build));
                }
            }
            let inputs = Inputs { pictures, heads, largest: 2.0 };
            for step in [Step::Scores, Step::Softmax, Step::Values] {
                let build = move |io: &mut Io| build_stored(io, inputs, variant, step);
                cases.push(Case::new("attention", format!("stored {step:?} {shape}").to_lowercase(), build));
            }
        }
    }
    cases
}

/// What a case's qkv is made of.
#[derive(Clone, Copy)]
struct Inputs {
    pictures: usize,
    heads: Heads,
    /// Largest value of Q and K.
    largest: f32,
}

impl Inputs {
    /// Makes qkv, and the run's rows.
    fn make(self, io: &mut Io) -> Result<(Activation, Vec<f64>)> {
        io.rows = self.pictures * self.heads.tokens;
        let (columns, largest) = (self.heads.columns(), self.largest);
        let mut values = io.random.uniforms(io.rows * 3 * columns, -1.0, 1.0);
        for row in values.chunks_exact_mut(3 * columns) {
            row[..2 * columns].iter_mut().for_each(|v| *v *= largest);
        }
        Ok((io.rows_in("qkv", &values, 3 * columns)?, wide(&values)))
    }
}

fn build_tiled(io: &mut Io, inputs: Inputs, variant: AttentionVariant, tolerance: Tolerance) -> Result<()> {
    let (qkv, values) = inputs.make(io)?;
    let y = io.rows_out("y", &inputs.heads.cpu(&values), inputs.heads.columns(), tolerance)?;
    tiled::record(&mut io.plan, "y", inputs.heads, (&qkv, &y), variant)
}

/// A kernel of stored attention.
#[derive(Debug, Clone, Copy)]
enum Step {
    Scores,
    Softmax,
    Values,
}

/// One kernel on all slices but the first, which another chunk has. Rows of scores are padded: with `padding`.
fn build_stored(io: &mut Io, inputs: Inputs, variant: AttentionVariant, step: Step) -> Result<()> {
    let Inputs { pictures, heads, .. } = inputs;
    let (qkv, values) = inputs.make(io)?;
    let all = pictures * heads.heads;
    let first = usize::from(all > 1);
    let tokens = heads.tokens;
    let padded = |values: &[f64], padding: Option<f64>| -> Vec<Option<f64>> {
        let rows = values.chunks_exact(tokens).skip(first * tokens);
        let filled = |row: &[f64]| {
            let mut row: Vec<Option<f64>> = row.iter().map(|v| Some(*v)).collect();
            row.resize(tokens.next_multiple_of(4), padding);
            row
        };
        rows.flat_map(filled).collect()
    };
    let scores = heads.cpu_scores(&values);
    let weights: Vec<f64> = scores.chunks_exact(tokens).flat_map(softmax).collect();
    // What a kernel reads has the rounding of f32, and so has the twin's.
    let narrow =
        |values: Vec<Option<f64>>| -> Vec<f32> { values.into_iter().map(|v| v.unwrap_or(9.0) as f32).collect() };
    let input = |io: &Io, name: &str, values: &[f64], padding| -> Result<Buf<f32>> {
        io.input(name, &narrow(padded(values, padding)))
    };
    let (of_scores, of_weights, y);
    let unread = io.input("unread", &[0.0f32])?;
    match step {
        Step::Scores => {
            of_scores = io.output("scores", padded(&scores, None), TOLERANCE)?;
            (of_weights, y) = (unread, io.rows_in("y", &[0.0], 1)?);
        }
        Step::Softmax => {
            of_scores = input(io, "scores", &scores, None)?;
            of_weights = io.output("weights", padded(&weights, Some(0.0)), TOLERANCE)?;
            y = io.rows_in("y", &[0.0], 1)?;
        }
        Step::Values => {
            of_scores = unread;
            of_weights = input(io, "weights", &weights, Some(0.0))?;
            y = rest_out(io, inputs, &heads.cpu_values(&weights, &values), first)?;
        }
    }
    let chunk = Chunk { first, count: all - first, scores: of_scores, weights: of_weights };
    let recorder = Recorder { heads, pictures, chunk: &chunk, variant, qkv: &qkv, y: &y };
    match step {
        Step::Scores => recorder.scores(&mut io.plan, "scores"),
        Step::Softmax => recorder.softmax(&mut io.plan, "softmax"),
        Step::Values => recorder.values(&mut io.plan, "values"),
    }
}

/// y, of which the first `skipped` slices stay unwritten.
fn rest_out(io: &mut Io, inputs: Inputs, y: &[f64], skipped: usize) -> Result<Activation> {
    let heads = inputs.heads;
    let columns = heads.columns();
    let mut rows = Activation::new(&io.gpu, "y", 1, columns)?;
    let mut expected = vec![None; y.len() / columns * rows.stride];
    for (i, value) in y.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        if row / heads.tokens * heads.heads + column / heads.width >= skipped {
            expected[row * rows.stride + column] = Some(*value);
        }
    }
    rows.buf = io.output("y", expected, TOLERANCE)?;
    Ok(rows)
}
