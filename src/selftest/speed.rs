//! Products at the sizes of the 7B: their time, their share of the bandwidth of a copy, and their first and last values against f64.

use super::check::{Check, Outcome, Section, Speed};
use super::options::Depth;
use super::report::Report;
use super::{Event, Run};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Plan, Stages, Usage};
use crate::kernels::case::{Mismatch, Random, Reached, Tolerance, compare, wide};
use crate::kernels::linear::{Epilogue, Linear, Math, MatmulVariant, Matrix, Product, Prologue, cpu, tolerance};
use crate::kernels::variants::{Variants, falcon_mamba_7b};
use crate::kernels::{Activation, Batch};

/// The matrix that is measured: out_proj of the 7B; on a CPU a quarter of its rows.
const NAME: &str = "out_proj";
/// Tokens of a prompt that are multiplied at a time, for GPUs and for CPUs.
const TOKENS: [usize; 2] = [256, 16];
/// The rows of W repeat after this many: the first ones and the last ones of y are compared, of the last token.
const ROWS: usize = 32;
/// Measurements, of which the best counts, and target seconds of each.
const ROUNDS: usize = 3;
const ROUND: f64 = 0.02;

/// The formats to measure, with the names of their groups.
fn wanted(run: &Run<'_>) -> Vec<(WeightFormat, String)> {
    let formats = match run.options.depth {
        Depth::Quick => &[WeightFormat::Bf16, WeightFormat::Q4_0][..],
        Depth::Normal => &[WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q8_0, WeightFormat::Q4K][..],
        Depth::Full => &WeightFormat::ALL,
    };
    let named = formats.iter().map(|format| (*format, format!("product with {format}")));
    named.filter(|(_, name)| run.options.wants(name)).collect()
}

/// The names of what [`test`] measures.
pub(super) fn names(run: &Run<'_>) -> Vec<String> {
    wanted(run).into_iter().map(|(_, name)| format!("speed: {name}")).collect()
}

pub(super) async fn test(run: &Run<'_>, report: &mut Report, see: &mut dyn FnMut(Event<'_>)) {
    for (format, name) in wanted(run) {
        let measured = async |report: &mut Report| match measure(run, format, report.copy_bytes_per_s).await {
            Ok(checks) => checks,
            Err(error) => vec![Check::new("it runs", Outcome::Failed(error.to_string()))],
        };
        report.group((run, Section::Speed, &name), see, measured).await;
    }
}

/// The product of a decode step and that of a prompt, in the forms that the adapter gets.
async fn measure(run: &Run<'_>, format: WeightFormat, copy: Option<f64>) -> Result<Vec<Check>> {
    let (gpu, cpu) = (run.gpu, run.gpu.caps().cpu);
    let mut sizes = falcon_mamba_7b(format);
    sizes.matrices.retain(|(name, _)| *name == NAME);
    sizes.matrices.iter_mut().for_each(|(_, matrix)| matrix.rows /= if cpu { 4 } else { 1 });
    let variants = Variants::tried(gpu, Math::Exact, &sizes).await?;
    let Matrix { rows, columns, .. } = sizes.matrices[0].1;
    let some = Random::new(run.options.seed).uniforms(ROWS * columns, -1.0, 1.0);
    let bytes = format.encode(&some, columns);
    let all = bytes.repeat(rows / ROWS);
    let linear = Linear::load(gpu, &Tensor::of_blocks("W", NAME, format, &[rows, columns], &all), &mut |_| {})?;
    let some = Tensor::of_blocks("W", NAME, format, &[ROWS, columns], &bytes).to_f32();
    let step = one(run, (&linear, &some), (variants.decode(NAME, &linear), 1)).await?;
    let chunk = one(run, (&linear, &some), (variants.prefill(), TOKENS[usize::from(cpu)])).await?;
    let mut checks = vec![step, chunk];
    checks.iter_mut().filter_map(|check| check.speed.as_mut()).for_each(|speed| speed.copy = copy);
    Ok(checks)
}

/// Multiplies, compares, and measures.
async fn one(run: &Run<'_>, (linear, some): (&Linear, &[f32]), (product, tokens): (Product, usize)) -> Result<Check> {
    let gpu = run.gpu;
    let Matrix { rows, columns, format } = linear.matrix();
    let values = Random::new(run.options.seed + 1).uniforms(tokens * columns, -1.0, 1.0);
    let x = Activation::new(gpu, "x", tokens, columns)?.ordered(columns, product.order(linear));
    for (token, row) in values.chunks_exact(columns).enumerate() {
        x.write_row(gpu, token, row)?;
    }
    let y = Activation::new(gpu, "y", tokens, rows)?;
    let rows_of_batch = u32::try_from(tokens).expect("a few tokens");
    let batch = gpu.upload("batch", &[Batch { rows: rows_of_batch, ..Default::default() }], Usage::Uniform)?;
    let mut plan = Plan::new(gpu, "speed");
    linear.record(&mut plan, "y", (&x, &y), (Prologue::None, Epilogue::Store), (product, &batch))?;
    // The first run compiles.
    plan.run(tokens)?.wait(gpu)?;
    let expected: Vec<Option<f64>> =
        cpu(&wide(&values[(tokens - 1) * columns..]), some, columns).into_iter().map(Some).collect();
    let mut compared: Result<Reached, Mismatch> = Ok(Reached::default());
    for first in [0, rows - ROWS] {
        let of_all = y.read(gpu, tokens, first..first + ROWS).await?;
        let what = format!("y[{first}..]");
        let same = compare(&what, &of_all[(tokens - 1) * ROWS..], &expected, allowed(product, columns));
        compared = compared.and_then(|worst| Ok(worst.worst(same?)));
    }
    let seconds = plan.best_seconds(tokens, ROUNDS, (ROUND, 50.0)).await?;
    let totals = plan.totals(tokens, Stages::ALL);
    let outcome = compared.as_ref().map_or_else(|fault| Outcome::Failed(fault.to_string()), |_| Outcome::Passed);
    let form = match product {
        Product::Matvec(form) => form.to_string(),
        Product::Matmul(form) => form.to_string(),
    };
    let name = format!("{tokens} token{}, {rows}x{columns} {format}", if tokens == 1 { "" } else { "s" });
    Ok(Check {
        reached: compared.unwrap_or_default(),
        speed: Some(Speed { seconds, bytes: totals.bytes, flops: 2 * totals.macs, copy: None }),
        value: Some(form),
        ..Check::new(name, outcome)
    })
}

/// The limit of the cases, whose sums have 129 products: the rounding of a longer sum grows with the square root of its length. That of
/// cooperative matrices has grown already.
fn allowed(product: Product, columns: usize) -> Tolerance {
    let limit = tolerance(product, columns);
    let more = match product {
        Product::Matmul(MatmulVariant::Coop(..)) => 1.0,
        _ => (columns as f64 / 129.0).max(1.0),
    };
    Tolerance { nmse: limit.nmse * more, abs: limit.abs * more.sqrt(), ..limit }
}
