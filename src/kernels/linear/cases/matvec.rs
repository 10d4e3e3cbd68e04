//! Declarations and cases of `matvec`: formats and shapes as for any product, then prologues and epilogues.

use super::super::epilogue::{Epilogue, EpilogueKind, NextNorm, Prologue, gate_first};
use super::super::matvec::MatvecVariant;
use super::super::product::{self, Product, Shape};
use super::super::twin::{TOLERANCE, cpu};
use super::super::weights::Linear;
use super::{Cases, Size, cases as cases_of, seen};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Caps, KernelDef};
use crate::kernels::activation::{Activation, Order};
use crate::kernels::batch::{Batch, RowEntry};
use crate::kernels::case::{Case, Io, Tolerance, wide};
use crate::kernels::conv::{self, Conv};
use crate::kernels::maths::silu;
use crate::kernels::sizes::size;

pub(in crate::kernels) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, variant) in MatvecVariant::all(caps).into_iter().enumerate() {
        let product = Product::Matvec(variant);
        // The first variant is tested in all formats, shapes and numbers of rows of x; the others in one shape per format with
        // one row, and two kinds of teams with all numbers of rows in one format. A CPU's driver takes seconds to compile a
        // kernel: there one format per length of a unit is enough for most.
        let own = i == 0;
        let most_tokens = |format| if own || i < 4 && format == WeightFormat::F32 { usize::MAX } else { 1 };
        let some = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q4_0];
        let formats = if caps.cpu && i > 1 { &some[..] } else { &WeightFormat::ALL };
        let which = if own { Cases::All } else { Cases::Few };
        let variant_name = variant.to_string();
        let epilogues = [EpilogueKind::Store];
        cases.extend(cases_of("matvec", &variant_name, (product, formats), &epilogues, (which, &most_tokens)));
        // One format per length of a unit: prologues and epilogues do not depend on it.
        let shapes = if own { 4 } else { 1 };
        for format in some.into_iter().take(if own { 3 } else { 1 }) {
            for (tokens, rows, columns) in
                [(9, 44, 12), (1, 1, 1), (1, 300, 129), (17, 44, 70)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{variant} {} normed {tokens}x{rows}x{columns}", format.name());
                let build =
                    move |io: &mut Io| build_normed(io, product, format, Size { tokens, rows, columns }, Then::Store);
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, rows, columns) in
                [(9, 44, 12), (1, 1, 1), (1, 301, 129), (17, 45, 70)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{variant} {} residual {tokens}x{rows}x{columns}", format.name());
                let build = move |io: &mut Io| build_residual(io, product, format, Size { tokens, rows, columns });
                cases.push(Case::new("matvec", shape, build));
            }
            for (tokens, inner, columns, kernel) in
                [(9, 35, 70, 4), (1, 1, 1, 4), (1, 128, 33, 3)].into_iter().take(shapes)
            {
                let tokens = tokens.min(most_tokens(format));
                let shape = format!("{variant} {} mixer {tokens}x{inner}x{columns} kernel {kernel}", format.name());
                let rows = 2 * inner;
                let then = Then::Mixer(kernel);
                let build = move |io: &mut Io| build_normed(io, product, format, Size { tokens, rows, columns }, then);
                cases.push(Case::new("matvec", shape, build));
            }
            let (tokens, rows, columns) = (most_tokens(format).min(9), 44, 129);
            let shape = format!("{variant} {} logits {tokens}x{rows}x{columns}", format.name());
            let build =
                move |io: &mut Io| build_normed(io, product, format, Size { tokens, rows, columns }, Then::Logits);
            cases.push(Case::new("matvec", shape, build));
        }
    }
    cases.extend(fast_cases(caps));
    cases
}

/// Cases of fast arithmetic: x as int8, y packed as int8, or both. The twin uses the rounded x; one case per format bounds the
/// error of rounding.
fn fast_cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for format in WeightFormat::ALL {
        let some = matches!(format, WeightFormat::F32 | WeightFormat::Q4_0);
        for (i, variant) in MatvecVariant::all_fast(caps, format).into_iter().enumerate() {
            if caps.cpu && i > 1 && !some {
                continue; // its driver takes seconds to compile each
            }
            let product = Product::Matvec(variant);
            let tokens = if some { 17 } else { 1 };
            if variant.packs() && (variant.int8 || some) {
                for (tokens, rows, columns) in [(tokens, 45, 70), (1, 1, 1), (1, 300, 129)] {
                    let shape = format!("{variant} {format} residual {tokens}x{rows}x{columns}");
                    let build = move |io: &mut Io| build_residual(io, product, format, Size { tokens, rows, columns });
                    cases.push(Case::new("matvec", shape, build));
                }
            }
            if variant.int8 && !variant.packs() {
                let name = variant.to_string();
                let which = if i == 0 { Cases::All } else { Cases::Few };
                let most_tokens = |_| if i == 0 && some { usize::MAX } else { 1 };
                let (formats, epilogues) = ([format], [EpilogueKind::Store]);
                cases.extend(cases_of("matvec", &name, (product, &formats), &epilogues, (which, &most_tokens)));
                if some {
                    let shape = format!("{variant} {format} logits 9x44x129");
                    let build = move |io: &mut Io| {
                        build_normed(io, product, format, Size { tokens: 9, rows: 44, columns: 129 }, Then::Logits)
                    };
                    cases.push(Case::new("matvec", shape, build));
                }
                if i == 0 {
                    let shape = format!("{variant} {format} against x in f32");
                    cases.push(Case::new("matvec", shape, move |io: &mut Io| build_rounding(io, product, format)));
                }
            }
        }
    }
    cases
}

/// The error of a product with int8 x against one with f32 x.
fn build_rounding(io: &mut Io, product: Product, format: WeightFormat) -> Result<()> {
    // Uniform values below 1 are rounded to multiples of 1/127: an nmse of 1/(12 * 127^2) over 1/3. Sums of 540 products are
    // off by an RMS of 0.03, and at most five times that.
    const ROUNDING: Tolerance = Tolerance { nmse: 2e-5, abs: 0.15, rel: 0.0 };
    let (tokens, rows, columns) = (3, 137, 540);
    let bytes = format.encode(&io.random.uniforms(rows * columns, -1.0, 1.0), columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    let y = cpu(&wide(&x), &tensor.to_f32(), columns);
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, product.order(&matrix))?;
    let y = io.rows_out("y", &y, rows, ROUNDING)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    matrix.record(&mut io.plan, "y", (&x, &y), (Prologue::None, Epilogue::Store), (product, &batch))
}

/// The epilogue of a product of a normed x.
#[derive(Clone, Copy)]
enum Then {
    Store,
    /// The mixer's epilogue, with the number of taps.
    Mixer(usize),
    Logits,
}

/// A product of a normed x.
fn build_normed(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    Size { tokens, rows, columns }: Size,
    then: Then,
) -> Result<()> {
    let bytes = format.encode(&io.random.uniforms(rows * columns, -1.0, 1.0), columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    // The squares are those of x before the norm's weights: any values are fine.
    let parts = 3; // filled up to a vec4 below
    let squares = io.random.uniforms(tokens * parts, 0.1, 1.0);
    let scales = squares.chunks_exact(parts).map(|parts| {
        let sum: f64 = parts.iter().map(|v| f64::from(*v)).sum();
        1.0 / (sum / columns as f64 + 1e-5).sqrt()
    });
    let product_of_norm: Vec<f64> = cpu(&wide(&seen(product, &x, columns)), &tensor.to_f32(), columns)
        .chunks_exact(rows)
        .zip(scales)
        .flat_map(|(row, scale)| row.iter().map(move |v| v * scale).collect::<Vec<_>>())
        .collect();
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, product.order(&matrix))?;
    // The padding of a token to whole vec4s may hold anything.
    let filled: Vec<f32> = squares.chunks_exact(parts).flat_map(|parts| [parts, &[1e9]].concat()).collect();
    let squares = io.input("squares", &filled)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let prologue = Prologue::Norm { squares: &squares, parts, eps: 1e-5 };
    // The scale also multiplies the error of the sum.
    let tolerance = Tolerance { abs: 16.0 * TOLERANCE.abs, ..TOLERANCE };
    // Row r is slot r, its version r to version r + 1.
    let versions = 2;
    let table: Vec<RowEntry> =
        (0..size(tokens)).map(|r| RowEntry { slot: r, version: r, ..Default::default() }).collect();
    let table = io.input("rows", &table)?;
    let kernel = match then {
        Then::Mixer(kernel) => kernel,
        Then::Store => {
            let y = io.rows_out("y", &product_of_norm, rows, tolerance)?;
            return matrix.record(&mut io.plan, "y", (&x, &y), (prologue, Epilogue::Store), (product, &batch));
        }
        Then::Logits => {
            let before = io.random.uniforms(tokens * versions * rows, -1.0, 1.0);
            let mut after = wide(&before);
            for (r, row) in product_of_norm.chunks_exact(rows).enumerate() {
                after[(r * versions + (r + 1) % versions) * rows..][..rows].copy_from_slice(row);
            }
            let buf = io.in_out("y", &before, &after, tolerance)?;
            let y = Activation { buf, width: rows, stride: rows, order: Order::Plain };
            let epilogue = Epilogue::Logits(&table, versions);
            return matrix.record(&mut io.plan, "y", (&x, &y), (prologue, epilogue), (product, &batch));
        }
    };
    let inner = rows / 2;
    let size_of_state = (kernel - 1) * inner;
    let taps = conv::pack(&io.random.uniforms(inner * kernel, -1.0, 1.0), &io.random.uniforms(inner, -1.0, 1.0));
    let before = io.random.uniforms(tokens * versions * size_of_state, -1.0, 1.0);
    let mut after = wide(&before);
    let mut y = Vec::new();
    for (r, row) in product_of_norm.chunks_exact(rows).enumerate() {
        let at = |version: usize| (r * versions + version % versions) * size_of_state;
        let mut state = wide(&before[at(r)..][..size_of_state]);
        y.extend(conv::cpu(&row[..inner], &taps, inner, &mut state));
        y.extend(row[inner..].iter().map(|v| silu(*v)));
        after[at(r + 1)..][..size_of_state].copy_from_slice(&state);
    }
    // The consumer of x decides its order; the gate follows it.
    let order = if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads };
    let gate = gate_first(inner);
    let place = |row| if row < inner { order.place(row, inner) } else { gate + row - inner };
    let y = io.rows_out_at("y", &y, (rows, 2 * gate), tolerance, place)?.ordered(2 * gate, order);
    let state = io.in_out("state", &before, &after, tolerance)?;
    let taps = io.input("taps", &taps)?;
    let conv = Conv { taps: &taps, state: &state, inner, kernel, versions };
    matrix.record(&mut io.plan, "y", (&x, &y), (prologue, Epilogue::Mixer(conv, &table)), (product, &batch))
}

/// A product added to the residual stream, with the next norm's input.
fn build_residual(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    Size { tokens, rows, columns }: Size,
) -> Result<()> {
    let Product::Matvec(variant) = product else { unreachable!("a decode step's product") };
    let bytes = format.encode(&io.random.uniforms(rows * columns, -1.0, 1.0), columns);
    let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
    let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    if variant.packs() && !matrix.cut_by_groups() {
        // The adapter cannot bind a group of rows.
        return build_residual(io, product, format, Size { tokens, rows: 1, columns });
    }
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    let residual = io.random.uniforms(tokens * rows, -1.0, 1.0);
    let weight = io.random.uniforms(rows, -1.0, 1.0);
    let mut y = cpu(&wide(&seen(product, &x, columns)), &tensor.to_f32(), columns);
    y.iter_mut().zip(&residual).for_each(|(y, residual)| *y += f64::from(*residual));
    let normed: Vec<f64> = y.iter().zip(wide(&weight).iter().cycle()).map(|(y, weight)| y * weight).collect();
    let square_rows = variant.square_rows as usize;
    let mut squares = Vec::new();
    for row in y.chunks_exact(rows) {
        let mut first = 0;
        for shard in matrix.shards() {
            let parts = row[first..first + shard.rows].chunks(square_rows);
            squares.extend(parts.map(|part| Some(part.iter().map(|v| v * v).sum::<f64>())));
            first += shard.rows;
        }
        squares.resize(squares.len().next_multiple_of(4), None);
    }
    io.rows = tokens;
    let x = io.rows_in_order("x", &x, columns, product.order(&matrix))?;
    let residual = io.rows_in("residual", &residual, rows)?;
    let y = io.rows_out("y", &y, rows, TOLERANCE)?;
    let order = if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads };
    let normed = match variant.packs() {
        true => io.rows_out_int8("normed", &normed, rows)?,
        false => io.rows_out_order("normed", &normed, rows, TOLERANCE, order)?,
    };
    // The error of a square is 2 |v| times that of v: up to about 20 times here.
    let tolerance = Tolerance { abs: 40.0 * TOLERANCE.abs, rel: 1e-5, ..TOLERANCE };
    let squares = io.output("squares", squares, tolerance)?;
    let weight = io.input("next_norm", &weight)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let next = NextNorm { weight: &weight, normed: &normed, squares: &squares };
    let epilogue = Epilogue::ResidualNorm(&residual, next);
    matrix.record(&mut io.plan, "y", (&x, &y), (Prologue::None, epilogue), (product, &batch))
}

pub(in crate::kernels) fn defs(caps: &Caps) -> Vec<KernelDef> {
    let mut defs = Vec::new();
    let mut add = |variant: MatvecVariant, format| {
        for (x_rows, variant) in variant.by_rows(format) {
            // Widths between the smallest and the largest differ in no format.
            if !matches!(x_rows, 1 | 8) && format != WeightFormat::F32 {
                continue;
            }
            let product = Product::Matvec(variant);
            let def = |squares, epilogue| product::def(product, Shape { format, columns: 512, squares, epilogue });
            let residual = if variant.packs() { EpilogueKind::ResidualNormInt8 } else { EpilogueKind::ResidualNorm };
            defs.push(def(None, residual));
            if !variant.packs() {
                defs.push(def(None, EpilogueKind::Store));
                let normed = [EpilogueKind::Store, EpilogueKind::Mixer(4), EpilogueKind::Logits(2)];
                defs.extend(normed.map(|epilogue| def(Some(64), epilogue)));
            }
        }
    };
    for format in WeightFormat::ALL {
        MatvecVariant::all(caps).into_iter().for_each(|variant| add(variant, format));
        MatvecVariant::all_fast(caps, format).into_iter().for_each(|variant| add(variant, format));
    }
    defs
}

/// Cases of one variant with one format, such as those that a model gets: each product of a decode step, for one row and for several.
pub(crate) fn cases_of_variant(variant: MatvecVariant, format: WeightFormat) -> Vec<Case> {
    let product = Product::Matvec(variant);
    let mut cases = Vec::new();
    for tokens in [1, 9] {
        let mut add = |what: &str, rows: usize, columns: usize, then: Option<Then>| {
            let size = Size { tokens, rows, columns };
            let shape = format!("{variant} {format} {what} {tokens}x{rows}x{columns}");
            cases.push(Case::new("matvec", shape, move |io: &mut Io| match then {
                Some(then) => build_normed(io, product, format, size, then),
                None => build_residual(io, product, format, size),
            }));
        };
        add("residual", 45, 540, None);
        if !variant.packs() {
            add("normed", 44, 540, Some(Then::Store));
            add("mixer", 70, 540, Some(Then::Mixer(4)));
            add("logits", 44, 540, Some(Then::Logits));
        }
    }
    cases
}
