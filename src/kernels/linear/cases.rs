//! Cases of products: every format, sizes that are multiples of nothing, values of many magnitudes.

pub(super) mod matmul;
pub(super) mod matvec;

use super::epilogue::{Epilogue, EpilogueKind, Prologue};
use super::product::Product;
use super::twin::{cpu, cpu_sliced, fast, tolerance};
use super::weights::Linear;
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::kernels::activation::int8;
use crate::kernels::batch::Batch;
use crate::kernels::case::{Case, Io, Tolerance, wide};
use crate::kernels::maths::{gelu, softplus};
use crate::kernels::sizes::size;

/// Number of cases for a variant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cases {
    /// Every shape, and values of many magnitudes in every format.
    All,
    /// One shape per format.
    Few,
}

/// Size of a product in a case.
#[derive(Clone, Copy)]
struct Size {
    tokens: usize,
    rows: usize,
    columns: usize,
}

/// Cases of a product with each of `epilogues`, in each of `formats`, with at most `most_tokens` tokens.
fn cases(
    kernel: &'static str,
    variant: &str,
    (product, formats): (Product, &[WeightFormat]),
    epilogues: &[EpilogueKind],
    (which, most_tokens): (Cases, &dyn Fn(WeightFormat) -> usize),
) -> Vec<Case> {
    let mut cases = Vec::new();
    // Sizes that are no multiples of a unit, a tile or a team; more rows than a tile; ones.
    let more_tokens = if matches!(product, Product::Matmul(_)) { 131 } else { 1 };
    let of_values = [(9, 137, 70), (1, 1, 1), (3, 44, 12), (17, 300, 129), (more_tokens, 135, 40)];
    // No multiple of a block, and several blocks. Epilogues do not depend on the format.
    let of_codes = [(more_tokens, 47, 540), (9, 137, 70)];
    let shapes = if which == Cases::All { usize::MAX } else { 1 };
    for format in formats.iter().copied() {
        let plain = format.is_plain();
        for epilogue in epilogues.iter().copied().take(if plain { epilogues.len() } else { 1 }) {
            for &(tokens, rows, columns) in if plain { &of_values[..] } else { &of_codes }.iter().take(shapes) {
                let tokens = tokens.min(most_tokens(format));
                let then = format!("{epilogue:?}").to_lowercase();
                let shape = format!("{variant} {format} {then} {tokens}x{rows}x{columns}");
                let build = move |io: &mut Io| build(io, product, format, epilogue, Size { tokens, rows, columns });
                cases.push(Case::new(kernel, shape, build));
            }
        }
    }
    for format in formats.iter().copied().filter(|_| which == Cases::All) {
        let tokens = most_tokens(format).min(11);
        let range = move |io: &mut Io| build_range(io, product, format, tokens);
        cases.push(Case::new(kernel, format!("{variant} {} large and small values", format.name()), range));
    }
    cases
}

/// x `[tokens, columns]` as the product reads it: rounded if it is packed as int8.
fn seen(product: Product, x: &[f32], columns: usize) -> Vec<f32> {
    match product {
        Product::Matvec(variant) if variant.int8 => x.chunks_exact(columns).flat_map(int8::rounded).collect(),
        _ => x.to_vec(),
    }
}

/// Tokens and rows of W with magnitudes from 2^-40 to 2^40, beyond f16 at both ends. All values are positive, so that the relative
/// error of every y is small.
fn build_range(io: &mut Io, product: Product, format: WeightFormat, tokens: usize) -> Result<()> {
    const EXACT: Tolerance = Tolerance { nmse: 1e-12, abs: 0.0, rel: 2e-6 };
    const FAST: Tolerance = Tolerance { nmse: 1e-6, abs: 0.0, rel: 1e-3 };
    let (rows, columns) = (37, 45);
    // Formats with values or scales in f16.
    let narrow = !matches!(
        format,
        WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8
    );
    let steps = if narrow { 4 } else { 20 };
    let of_row = |step: i32, i: usize| 2f32.powi(step * (i as i32 % 5 - 2));
    let mut values = |n, step| -> Vec<f32> {
        (0..n * columns).map(|i| io.random.uniform(0.5, 1.0) * of_row(step, i / columns)).collect()
    };
    let (x, weights) = (values(tokens, 20), values(rows, steps));
    let bytes = format.encode(&weights, columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let y = cpu(&wide(&seen(product, &x, columns)), &tensor.to_f32(), columns);
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, product.order(&linear))?;
    let y = io.rows_out("y", &y, rows, if fast(product) { FAST } else { EXACT })?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    linear.record(&mut io.plan, "y", (&x, &y), (Prologue::None, Epilogue::Store), (product, &batch))
}

/// softplus alone, by relative error: time steps of 1e-26 count as much as those of 10.
fn build_softplus(io: &mut Io, product: Product) -> Result<()> {
    const EXACT: Tolerance = Tolerance { nmse: 1e-10, abs: 0.0, rel: 1e-5 };
    /// x = -60 is wrong by up to 60 / 2^12 after rounding to f16, and so is the logarithm of y.
    const FAST: Tolerance = Tolerance { nmse: 1e-6, abs: 0.0, rel: 2e-2 };
    let values: Vec<f32> = (0..=800).map(|i| -60.0 + 0.1 * i as f32).collect();
    let one = 1.0f32.to_le_bytes();
    let tensor = Tensor::of_blocks("W", "case", WeightFormat::F32, &[1, 1], &one);
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let y: Vec<f64> = values.iter().map(|v| softplus(f64::from(*v))).collect();
    io.rows = values.len();
    let x = io.rows_in("x", &values, 1)?;
    let y = io.rows_out("y", &y, 1, if fast(product) { FAST } else { EXACT })?;
    let bias = io.input("bias", &[0.0f32])?;
    let batch = io.uniform(Batch { rows: size(values.len()), ..Default::default() })?;
    linear.record(&mut io.plan, "y", (&x, &y), (Prologue::None, Epilogue::Softplus(&bias)), (product, &batch))
}

fn build(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    epilogue: EpilogueKind,
    Size { tokens, rows, columns }: Size,
) -> Result<()> {
    let weights = io.random.uniforms(rows * columns, -1.0, 1.0);
    let bytes = format.encode(&weights, columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], bytes.as_slice());
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    let residual = io.random.uniforms(tokens * rows, -1.0, 1.0);
    let bias = io.random.uniforms(rows, -8.0, 8.0);
    let table_rows = tokens.min(4);
    let seen = wide(&seen(product, &x, columns));
    let mut y = match product {
        Product::Matmul(variant) => {
            let depth = variant.slice_depth(io.gpu.caps(), &linear, epilogue.slices());
            cpu_sliced(&seen, &tensor.to_f32(), columns, (epilogue.slices(), depth))
        }
        Product::Matvec(_) => cpu(&seen, &tensor.to_f32(), columns),
    };
    for (i, y) in y.iter_mut().enumerate() {
        *y = match epilogue {
            EpilogueKind::Store | EpilogueKind::Slices(_) => *y,
            EpilogueKind::Residual => *y + f64::from(residual[i]),
            EpilogueKind::Softplus => softplus(*y + f64::from(bias[i % rows])),
            EpilogueKind::Gelu => gelu(*y + f64::from(bias[i % rows])),
            EpilogueKind::BiasResidual => f64::from(residual[i]) + (*y + f64::from(bias[i % rows])),
            EpilogueKind::Table => *y + f64::from(residual[i % (table_rows * rows)]),
            _ => unreachable!("a decode step's epilogue has its cases in matvec.rs"),
        };
    }
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, product.order(&linear))?;
    let y = io.rows_out("y", &y, rows, tolerance(product, columns))?;
    let table = io.rows_in("table", &residual[..table_rows * rows], rows)?;
    let residual = io.rows_in("residual", &residual, rows)?;
    let bias = io.input("bias", &bias)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let epilogue = match epilogue {
        EpilogueKind::Store => Epilogue::Store,
        EpilogueKind::Slices(count) => Epilogue::Slices(count),
        EpilogueKind::Residual => Epilogue::Residual(&residual),
        EpilogueKind::Softplus => Epilogue::Softplus(&bias),
        EpilogueKind::Gelu => Epilogue::Gelu(&bias),
        EpilogueKind::BiasResidual => Epilogue::BiasResidual(&bias, &residual),
        EpilogueKind::Table => Epilogue::Table(&table.buf),
        _ => unreachable!("a decode step's epilogue has its cases in matvec.rs"),
    };
    linear.record(&mut io.plan, "y", (&x, &y), (Prologue::None, epilogue), (product, &batch))
}
