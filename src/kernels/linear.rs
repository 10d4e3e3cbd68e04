//! Weight matrices on the device, and their products `y = W x` with an epilogue: [`super::matvec`] for the rows of a decode
//! step, [`super::matmul`] for the tokens of a prefill chunk. Both sum over k in an order that nothing but the phase decides.

use super::case::{Case, Io, Tolerance, wide};
use super::variants::Math;
use super::{Activation, BATCH, Batch, MATH, file, matmul, matvec, size, softplus};
use crate::error::{Error, Result};
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Gpu, KernelDef, Part, Plan, UPLOAD_PIECE, Usage, params, wgsl};

params! {
    /// Parameters of one shard's product.
    pub struct Params {
        /// 16-byte units in a row of W.
        units: u32,
        /// vec4s from one token of x to the next.
        x_stride: u32,
        /// Floats from one token of y to the next.
        y_stride: u32,
        /// Row of y that this shard's row 0 makes.
        first: u32,
        /// Rows of this shard.
        rows: u32,
    }
}

/// Which kernel makes a product, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// One row for each decoding slot.
    Matvec(matvec::Form),
    /// The tokens of one slot's chunk.
    Matmul(matmul::Form),
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// y = W x.
    Store,
    /// y = residual + W x; the residual is laid out as y.
    Residual(&'a Activation),
    /// y = softplus(W x + bias).
    Softplus(&'a Buf<f32>),
}

/// The part that reads weights of a format: it binds them in group 1 and unpacks 16 bytes at a time.
pub(super) fn weights_part(format: WeightFormat) -> Part {
    file(match format {
        WeightFormat::F32 => wgsl!("lib/weights_f32.wgsl"),
        WeightFormat::F16 => wgsl!("lib/weights_f16.wgsl"),
        WeightFormat::Bf16 => wgsl!("lib/weights_bf16.wgsl"),
    })
}

pub(super) fn weights_bindings() -> Vec<Binding> {
    vec![Binding::read("weight")]
}

/// An [`Epilogue`] without its operand.
#[derive(Clone, Copy, Debug)]
enum EpilogueKind {
    Store,
    Residual,
    Softplus,
}

const EPILOGUES: [EpilogueKind; 3] = [EpilogueKind::Store, EpilogueKind::Residual, EpilogueKind::Softplus];

impl Epilogue<'_> {
    fn kind(&self) -> EpilogueKind {
        match self {
            Epilogue::Store => EpilogueKind::Store,
            Epilogue::Residual(_) => EpilogueKind::Residual,
            Epilogue::Softplus(_) => EpilogueKind::Softplus,
        }
    }
}

fn def(product: Product, format: WeightFormat, epilogue: EpilogueKind) -> KernelDef {
    let (part, operand) = match epilogue {
        EpilogueKind::Store => (wgsl!("lib/epilogue_store.wgsl"), None),
        EpilogueKind::Residual => (wgsl!("lib/epilogue_residual.wgsl"), Some("residual")),
        EpilogueKind::Softplus => (wgsl!("lib/epilogue_softplus.wgsl"), Some("bias")),
    };
    let mut bindings =
        vec![Params::binding("params"), Batch::binding("batch"), Binding::read("x"), Binding::write("y")];
    bindings.extend(operand.map(Binding::read));
    let parts = vec![MATH, BATCH, file(wgsl!("lib/linear.wgsl")), file(part), weights_part(format)];
    let mut def = match product {
        Product::Matvec(form) => form.def(parts, bindings),
        Product::Matmul(form) => form.def(format, parts, bindings),
    };
    def.weights = weights_bindings();
    def
}

/// A weight matrix `[rows, columns]` on the device, in its own format, cut by rows into as many shards as the adapter's
/// binding limit asks for.
pub struct Linear {
    name: String,
    format: WeightFormat,
    rows: usize,
    columns: usize,
    shards: Vec<Shard>,
}

/// Some rows of a [`Linear`], in a buffer of their own.
pub(super) struct Shard {
    pub(super) weight: Buf<u8>,
    pub(super) first: usize,
    pub(super) rows: usize,
}

impl Linear {
    /// Uploads a matrix, calling `uploaded` with the number of bytes of the file after each piece.
    pub fn load(gpu: &Gpu, tensor: &Tensor<'_>, uploaded: &mut dyn FnMut(usize)) -> Result<Self> {
        let [rows, columns] = *tensor.shape.as_slice() else { panic!("{}: a matrix was asked for", tensor.name) };
        let format = tensor.format;
        let row_bytes = format.row_bytes(columns);
        let limit = gpu.caps().span_limit();
        let most_groups = gpu.caps().max_groups as usize * matvec::MIN_ROWS as usize;
        let shard_rows = rows.min((limit / row_bytes as u64) as usize).min(most_groups);
        if shard_rows == 0 {
            return Err(Error::RowTooLarge { what: tensor.name.clone(), bytes: row_bytes as u64, limit });
        }
        let file_row = columns * format.value_bytes();
        let piece_rows = (UPLOAD_PIECE / row_bytes).max(1);
        let mut padded = Vec::new();
        let mut shards = Vec::new();
        for first in (0..rows).step_by(shard_rows) {
            let rows = shard_rows.min(rows - first);
            let weight = gpu.buffer(format!("{}[{first}..]", tensor.name), rows * row_bytes, Usage::Storage)?;
            for at in (0..rows).step_by(piece_rows) {
                let count = piece_rows.min(rows - at);
                let source = &tensor.bytes[(first + at) * file_row..][..count * file_row];
                let piece = if file_row == row_bytes {
                    source
                } else {
                    padded.clear();
                    padded.resize(count * row_bytes, 0);
                    for (to, from) in padded.chunks_exact_mut(row_bytes).zip(source.chunks_exact(file_row)) {
                        to[..file_row].copy_from_slice(from);
                    }
                    &padded
                };
                gpu.write(&weight, at * row_bytes, piece)?;
                gpu.flush()?;
                uploaded(source.len());
            }
            shards.push(Shard { weight, first, rows });
        }
        Ok(Linear { name: tensor.name.clone(), format, rows, columns, shards })
    }

    /// Rows of the matrix: values of y.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix: values of x.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the weights are stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Number of shards.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Records `y = W x`, then the epilogue, for every row of the plan's run.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (x, y): (&Activation, &Activation),
        epilogue: Epilogue<'_>,
        (product, batch): (Product, &Buf<Batch>),
    ) -> Result<()> {
        assert!(x.width >= self.columns && y.width >= self.rows, "{}: x or y is too narrow", self.name);
        let product = match product {
            Product::Matmul(form) => Product::Matmul(form.for_rows(self.rows)),
            matvec => matvec,
        };
        let def = def(product, self.format, epilogue.kind());
        for shard in &self.shards {
            let params = plan.gpu().upload(
                "linear params",
                &[Params {
                    units: size(self.format.row_units(self.columns)),
                    x_stride: size(x.stride / 4),
                    y_stride: size(y.stride),
                    first: size(shard.first),
                    rows: size(shard.rows),
                }],
                Usage::Uniform,
            )?;
            let mut bound = vec![
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("x", x.buf.bind()),
                ("y", y.buf.bind()),
                ("weight", shard.weight.bind()),
            ];
            match epilogue {
                Epilogue::Store => {}
                Epilogue::Residual(residual) => {
                    assert_eq!(residual.stride, y.stride, "{}: the residual is laid out as y", self.name);
                    bound.push(("residual", residual.buf.bind()));
                }
                Epilogue::Softplus(bias) => bound.push(("bias", bias.bind())),
            }
            let grid = match product {
                Product::Matvec(form) => form.grid(shard.rows),
                Product::Matmul(form) => form.grid(shard.rows),
            };
            plan.dispatch(&def, label, &bound, grid, (shard.rows * self.columns) as u64)?;
        }
        Ok(())
    }
}

/// The twin: `[tokens, rows]` from x `[tokens, columns]` and W `[rows, columns]`.
pub fn cpu(x: &[f64], w: &[f32], columns: usize) -> Vec<f64> {
    x.chunks_exact(columns)
        .flat_map(|x| {
            w.chunks_exact(columns).map(move |w| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>())
        })
        .collect()
}

/// Every declaration of a product.
pub(super) fn defs(product: Product) -> Vec<KernelDef> {
    let of_format = |format| EPILOGUES.map(|epilogue| def(product, format, epilogue));
    WeightFormat::ALL.into_iter().flat_map(of_format).collect()
}

/// f32 sums of a few thousand products of order 1, also by cooperative matrices of cut values. Worst measured on four
/// drivers: nmse 4.7e-14, 0.34 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-12, abs: 2e-5, rel: 2e-6 };

/// x and W rounded to f16. Worst measured on one driver: nmse 7.1e-8, 0.62 of the bound.
const FAST: Tolerance = Tolerance { nmse: 3e-7, abs: 6e-3, rel: 1e-3 };

fn fast(product: Product) -> bool {
    matches!(product, Product::Matmul(matmul::Form::Coop(_, Math::Fast)))
}

/// How far a product's form may be from the twin.
pub(super) fn tolerance(product: Product) -> Tolerance {
    if fast(product) { FAST } else { TOLERANCE }
}

/// Cases of a product: every format, every epilogue, and softplus over its range.
pub(super) fn cases(kernel: &'static str, form: &str, product: Product) -> Vec<Case> {
    let mut cases = Vec::new();
    for format in WeightFormat::ALL {
        for epilogue in EPILOGUES {
            // Odd sizes: no multiple of a unit, a tile or a team; more rows than a tile; one of each.
            let more_tokens = if matches!(product, Product::Matmul(_)) { 131 } else { 4 };
            for (tokens, rows, columns) in
                [(1, 1, 1), (3, 44, 12), (9, 137, 70), (17, 300, 129), (more_tokens, 135, 40)]
            {
                let shape = format!("{form} {} {epilogue:?} {tokens}x{rows}x{columns}", format.name()).to_lowercase();
                let build = move |io: &mut Io| build(io, product, format, epilogue, (tokens, rows, columns));
                cases.push(Case::new(kernel, shape, build));
            }
        }
    }
    for format in WeightFormat::ALL {
        let range = move |io: &mut Io| build_range(io, product, format);
        cases.push(Case::new(kernel, format!("{form} {} large and small values", format.name()), range));
    }
    let softplus = move |io: &mut Io| build_softplus(io, product);
    cases.push(Case::new(kernel, format!("{form} softplus over its range"), softplus));
    cases
}

/// Tokens and rows of W whose values are far apart, from 2^-40 to 2^40: beyond f16 at both ends. All values are positive, so
/// that every y is right in the relative sense.
fn build_range(io: &mut Io, product: Product, format: WeightFormat) -> Result<()> {
    const EXACT: Tolerance = Tolerance { nmse: 1e-12, abs: 0.0, rel: 2e-6 };
    const FAST: Tolerance = Tolerance { nmse: 1e-6, abs: 0.0, rel: 1e-3 };
    let (tokens, rows, columns) = (11, 37, 45);
    let steps = if format == WeightFormat::F16 { 4 } else { 20 };
    let of_row = |step: i32, i: usize| 2f32.powi(step * (i as i32 % 5 - 2));
    let mut values = |n, step| -> Vec<f32> {
        (0..n * columns).map(|i| io.random.uniform(0.5, 1.0) * of_row(step, i / columns)).collect()
    };
    let (x, weights) = (values(tokens, 20), values(rows, steps));
    let bytes = encode(&weights, format);
    let tensor = Tensor { name: "W".to_owned(), file: "case", format, shape: vec![rows, columns], bytes: &bytes };
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let y = cpu(&wide(&x), &tensor.to_f32(), columns);
    io.rows = tokens;
    let x = io.rows_in("x", &x, columns)?;
    let y = io.rows_out("y", &y, rows, if fast(product) { FAST } else { EXACT })?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    linear.record(&mut io.plan, "y", (&x, &y), Epilogue::Store, (product, &batch))
}

/// softplus alone, right in the relative sense: time steps of 1e-26 count as much as those of 10.
fn build_softplus(io: &mut Io, product: Product) -> Result<()> {
    const EXACT: Tolerance = Tolerance { nmse: 1e-10, abs: 0.0, rel: 1e-5 };
    /// x = -60 is wrong by up to 60 / 2^12 after rounding to f16, and so is the logarithm of y.
    const FAST: Tolerance = Tolerance { nmse: 1e-6, abs: 0.0, rel: 2e-2 };
    let values: Vec<f32> = (0..=800).map(|i| -60.0 + 0.1 * i as f32).collect();
    let one = 1.0f32.to_le_bytes();
    let tensor =
        Tensor { name: "W".to_owned(), file: "case", format: WeightFormat::F32, shape: vec![1, 1], bytes: &one };
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let y: Vec<f64> = values.iter().map(|v| softplus(f64::from(*v))).collect();
    io.rows = values.len();
    let x = io.rows_in("x", &values, 1)?;
    let y = io.rows_out("y", &y, 1, if fast(product) { FAST } else { EXACT })?;
    let bias = io.input("bias", &[0.0f32])?;
    let batch = io.uniform(Batch { rows: size(values.len()), ..Default::default() })?;
    linear.record(&mut io.plan, "y", (&x, &y), Epilogue::Softplus(&bias), (product, &batch))
}

fn build(
    io: &mut Io,
    product: Product,
    format: WeightFormat,
    epilogue: EpilogueKind,
    (tokens, rows, columns): (usize, usize, usize),
) -> Result<()> {
    let weights = io.random.uniforms(rows * columns, -1.0, 1.0);
    let bytes = encode(&weights, format);
    let tensor =
        Tensor { name: "W".to_owned(), file: "case", format, shape: vec![rows, columns], bytes: bytes.as_slice() };
    let linear = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
    let x = io.random.uniforms(tokens * columns, -1.0, 1.0);
    let residual = io.random.uniforms(tokens * rows, -1.0, 1.0);
    let bias = io.random.uniforms(rows, -8.0, 8.0);
    let mut y = cpu(&wide(&x), &tensor.to_f32(), columns);
    for (i, y) in y.iter_mut().enumerate() {
        *y = match epilogue {
            EpilogueKind::Store => *y,
            EpilogueKind::Residual => *y + f64::from(residual[i]),
            EpilogueKind::Softplus => softplus(*y + f64::from(bias[i % rows])),
        };
    }
    io.rows = tokens;
    let x = io.rows_in("x", &x, columns)?;
    let y = io.rows_out("y", &y, rows, tolerance(product))?;
    let residual = io.rows_in("residual", &residual, rows)?;
    let bias = io.input("bias", &bias)?;
    let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
    let epilogue = match epilogue {
        EpilogueKind::Store => Epilogue::Store,
        EpilogueKind::Residual => Epilogue::Residual(&residual),
        EpilogueKind::Softplus => Epilogue::Softplus(&bias),
    };
    linear.record(&mut io.plan, "y", (&x, &y), epilogue, (product, &batch))
}

/// Values in a format, rounded to nearest.
pub(super) fn encode(values: &[f32], format: WeightFormat) -> Vec<u8> {
    values
        .iter()
        .flat_map(|v| match format {
            WeightFormat::F32 => v.to_le_bytes().to_vec(),
            WeightFormat::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
            WeightFormat::Bf16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
        })
        .collect()
}
