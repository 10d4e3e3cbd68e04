//! Products `y = W x` between a prologue and an epilogue, by either kernel.

use super::epilogue::{Epilogue, EpilogueKind, MixerParams, Prologue, gate_first};
use super::unpack::{dot_parts, weights_bindings, weights_parts};
use super::weights::Linear;
use super::{matmul, matvec, tops};
use crate::error::Result;
use crate::format::WeightFormat;
use crate::gpu::{Binding, Buf, Cost, Count, KernelChoice, KernelDef, Plan, Usage, params, wgsl};
use crate::kernels::activation::{Activation, Order};
use crate::kernels::batch::{Batch, RowEntry};
use crate::kernels::parts::{BATCH, MATH, PLACED, ROW_ENTRY, file};
use crate::kernels::sizes::{floats, size};

params! {
    /// Parameters of one shard's product.
    pub struct Params {
        /// Units in a row of W.
        units: u32,
        /// Values in a row of W.
        columns: u32,
        /// vec4s from one token of x to the next.
        x_stride: u32,
        /// Floats from one token of y to the next.
        y_stride: u32,
        /// Row of y of this shard's row 0.
        first: u32,
        /// Rows of this shard.
        rows: u32,
        /// Partial sums of squares per token of x, if x is normed.
        squares_in: u32,
        /// Partial sums of squares per token of y, of all shards, for the next norm.
        squares_out: u32,
        /// First of them that this shard writes.
        first_square: u32,
        /// Added to the mean square of x.
        eps: f32,
        /// Order of the next product's input, see [`crate::kernels::Order::placing`].
        order_shift: u32,
        /// Units in a row of that input.
        order_units: u32,
        /// Floats from the sums of one slice of k to those of the next.
        plane: u32,
    }
}

/// The kernel that makes a product, and its variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// For decode steps: one row per slot.
    Matvec(matvec::MatvecVariant),
    /// For prefill: the tokens of one slot's chunk.
    Matmul(matmul::MatmulVariant),
}

impl Product {
    /// The order in which it reads x.
    pub fn order(self, matrix: &Linear) -> Order {
        match self {
            Product::Matvec(variant) => variant.order(matrix.format()),
            Product::Matmul(_) => Order::Plain,
        }
    }

    /// Whether it reads exponents of x and W, see [`super::tops`].
    fn takes_tops(self) -> bool {
        matches!(self, Product::Matmul(variant) if variant.takes_tops())
    }
}

/// What a product's module depends on besides its variant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) format: WeightFormat,
    /// Values in a row of W.
    pub(super) columns: usize,
    /// Partial sums of squares of x, if it is normed.
    pub(super) squares: Option<usize>,
    pub(super) epilogue: EpilogueKind,
}

pub(super) fn def(product: Product, shape: Shape) -> KernelDef {
    let Shape { format, columns, squares, epilogue } = shape;
    let mut bindings =
        vec![Params::binding("params"), Batch::binding("batch"), Binding::read("x"), Binding::write("y")];
    let mut parts = vec![MATH, BATCH, file(wgsl!("lib/linear.wgsl"))];
    parts.extend(weights_parts(format));
    let mut consts = vec![];
    match epilogue {
        EpilogueKind::Store | EpilogueKind::Slices(_) => parts.push(file(wgsl!("lib/epilogue_store.wgsl"))),
        EpilogueKind::Residual => {
            parts.push(file(wgsl!("lib/epilogue_residual.wgsl")));
            bindings.push(Binding::read("residual"));
        }
        EpilogueKind::ResidualNorm | EpilogueKind::ResidualNormInt8 => {
            match epilogue {
                EpilogueKind::ResidualNorm => parts.extend([PLACED, file(wgsl!("lib/epilogue_residual_norm.wgsl"))]),
                _ => parts.push(file(wgsl!("lib/epilogue_residual_norm_int8.wgsl"))),
            }
            bindings.extend([Binding::read("residual"), Binding::read("next_norm")]);
            bindings.extend([Binding::write("normed"), Binding::write("next_squares")]);
        }
        EpilogueKind::Softplus => {
            parts.push(file(wgsl!("lib/epilogue_softplus.wgsl")));
            bindings.push(Binding::read("bias"));
        }
        EpilogueKind::Table => {
            parts.push(file(wgsl!("lib/epilogue_table.wgsl")));
            bindings.push(Binding::read("table"));
        }
        EpilogueKind::Gelu => {
            parts.push(file(wgsl!("lib/epilogue_gelu.wgsl")));
            bindings.push(Binding::read("bias"));
        }
        EpilogueKind::BiasResidual => {
            parts.push(file(wgsl!("lib/epilogue_bias_residual.wgsl")));
            bindings.extend([Binding::read("bias"), Binding::read("residual")]);
        }
        EpilogueKind::Mixer(kernel) => {
            parts.extend([ROW_ENTRY, PLACED, file(wgsl!("lib/epilogue_mixer.wgsl"))]);
            bindings.extend([
                MixerParams::binding("mixer"),
                Binding::read("rows").of(RowEntry::LAYOUT),
                Binding::read("taps"),
            ]);
            bindings.push(Binding::write("state"));
            consts.push(("K", size(kernel)));
        }
        EpilogueKind::Logits(versions) => {
            parts.extend([ROW_ENTRY, file(wgsl!("lib/epilogue_logits.wgsl"))]);
            bindings.push(Binding::read("rows").of(RowEntry::LAYOUT));
            consts.push(("VERSIONS", size(versions)));
        }
    }
    let mut def = match product {
        Product::Matvec(variant) => {
            parts.extend(dot_parts(format));
            variant.def(parts, bindings, matvec::Input { format, columns, squares })
        }
        Product::Matmul(variant) => {
            parts.push(file(wgsl!("lib/x_words.wgsl")));
            variant.def(format, epilogue.slices(), parts, bindings)
        }
    };
    def.consts.extend(consts);
    def.weights = weights_bindings();
    if squares.is_some() {
        def.weights.push(Binding::read("squares"));
    }
    if product.takes_tops() {
        def.weights.extend(["x_tops", "w_tops"].map(Binding::read));
    }
    def
}

impl Linear {
    /// Records prologue, `y = W x` and epilogue for every row of the plan's run.
    pub fn record(
        &self,
        plan: &mut Plan,
        label: &str,
        (x, y): (&Activation, &Activation),
        (prologue, epilogue): (Prologue<'_>, Epilogue<'_>),
        (product, batch): (Product, &Buf<Batch>),
    ) -> Result<()> {
        assert!(x.width >= self.columns() && y.width >= self.rows(), "{}: x or y is too narrow", self.name);
        assert_eq!(x.order, product.order(self), "{}: x is not in the order that the product reads", self.name);
        let (product, square_rows) = match product {
            Product::Matmul(_) => (product, 1),
            Product::Matvec(variant) => {
                let packed = epilogue.kind() == EpilogueKind::ResidualNormInt8;
                assert_eq!(
                    variant.packs(),
                    packed,
                    "{}: its output is not packed as the next product reads it",
                    self.name
                );
                assert!(!packed || self.cut_by_groups(), "{}: a shard begins within a group", self.name);
                (product, variant.square_rows as usize)
            }
        };
        // Order of the next product's input.
        let [order_shift, order_units] = match epilogue {
            Epilogue::ResidualNorm(_, next) => next.normed.order.placing(next.normed.width),
            Epilogue::Mixer(conv, _) => y.order.placing(conv.inner),
            _ => Order::Plain.placing(y.width),
        };
        let (squares, squares_in, eps) = match prologue {
            Prologue::None => (None, 0, 0.0),
            Prologue::Norm { squares, parts, eps } => (Some(squares), parts, eps),
        };
        let shape = Shape {
            format: self.format(),
            columns: self.columns(),
            squares: squares.map(|_| squares_in),
            epilogue: epilogue.kind(),
        };
        let gpu = plan.gpu().clone();
        let x_tops = product.takes_tops().then(|| tops::record(plan, label, x, batch)).transpose()?;
        let w_tops = match product.takes_tops() && matmul::scales_rows(self.format()) {
            true => Some(self.row_tops(&gpu)?),
            false => None,
        };
        let parts_out = self.square_parts(square_rows);
        let slices = epilogue.kind().slices();
        if slices > 1 {
            assert!(matches!(product, Product::Matmul(_)), "{}: a step's product is not cut", self.name);
            assert!(y.buf.len().is_multiple_of(slices as usize * y.stride), "{}: y is whole planes", self.name);
        }
        let mut first_square = 0;
        for (s, shard) in self.shards().iter().enumerate() {
            let params = Params {
                units: size(self.format().row_units(self.columns())),
                columns: size(self.columns()),
                x_stride: size(x.stride / 4),
                y_stride: size(y.stride),
                first: size(shard.first),
                rows: size(shard.rows),
                squares_in: size(squares_in),
                squares_out: size(parts_out),
                first_square: size(first_square),
                eps,
                order_shift,
                order_units,
                plane: size(y.buf.len() / slices as usize),
            };
            first_square += shard.rows.div_ceil(square_rows);
            let params = plan.gpu().upload("linear params", &[params], Usage::Uniform)?;
            let mut bound = vec![
                ("params", params.bind()),
                ("batch", batch.bind()),
                ("x", x.buf.bind()),
                ("y", y.buf.bind()),
                ("weight", shard.weight.bind()),
            ];
            bound.extend(squares.map(|squares| ("squares", squares.bind())));
            if let Some(x_tops) = &x_tops {
                // Not read if W is not scaled.
                let w_tops = w_tops.map_or(x_tops, |tops| &tops[s]);
                bound.extend([("x_tops", x_tops.bind()), ("w_tops", w_tops.bind())]);
            }
            let mut row_bytes = floats(self.columns() + slices as usize * shard.rows + squares_in);
            let mut bytes = shard.rows * self.format().device_row_bytes(self.columns());
            match epilogue {
                Epilogue::Store | Epilogue::Slices(_) => {}
                Epilogue::Residual(residual) => {
                    assert_eq!(residual.stride, y.stride, "{}: the residual has the stride of y", self.name);
                    bound.push(("residual", residual.buf.bind()));
                    row_bytes += floats(shard.rows);
                }
                Epilogue::ResidualNorm(residual, next) => {
                    let alike = residual.stride == y.stride && next.normed.stride == y.stride;
                    assert!(alike, "{}: the residual and the normed stream have the stride of y", self.name);
                    bound.extend([("residual", residual.buf.bind()), ("next_norm", next.weight.bind())]);
                    bound.extend([("normed", next.normed.buf.bind()), ("next_squares", next.squares.bind())]);
                    row_bytes += floats(2 * shard.rows + shard.rows.div_ceil(square_rows));
                    bytes += floats(shard.rows);
                }
                Epilogue::Softplus(bias) | Epilogue::Gelu(bias) => bound.push(("bias", bias.bind())),
                Epilogue::BiasResidual(bias, residual) => {
                    assert_eq!(residual.stride, y.stride, "{}: the residual has the stride of y", self.name);
                    bound.extend([("bias", bias.bind()), ("residual", residual.buf.bind())]);
                    row_bytes += floats(shard.rows);
                }
                Epilogue::Table(table) => {
                    assert!(table.len().is_multiple_of(y.stride), "{}: the table has the stride of y", self.name);
                    bound.push(("table", table.bind()));
                    bytes += floats(shard.rows * table.len() / y.stride);
                }
                Epilogue::Mixer(conv, rows) => {
                    let mixer = MixerParams {
                        inner: size(conv.inner),
                        versions: size(conv.versions),
                        gate_first: size(gate_first(conv.inner)),
                    };
                    let mixer = plan.gpu().upload("mixer params", &[mixer], Usage::Uniform)?;
                    bound.extend([("mixer", mixer.bind()), ("rows", rows.bind())]);
                    bound.extend([("taps", conv.taps.bind()), ("state", conv.state.bind())]);
                    let channels = conv.inner.saturating_sub(shard.first).min(shard.rows);
                    bytes += floats((conv.kernel + 1) * channels);
                    row_bytes += floats(2 * (conv.kernel - 1) * channels);
                }
                Epilogue::Logits(rows, _) => bound.push(("rows", rows.bind())),
            }
            let choices = match product {
                Product::Matvec(variant) => {
                    let choice = |(most_rows, variant): (u32, matvec::MatvecVariant)| {
                        let passes = Count::Rows(variant.x_rows);
                        KernelChoice {
                            most_rows,
                            def: def(Product::Matvec(variant), shape),
                            grid: variant.grid(shard.rows),
                            passes,
                        }
                    };
                    variant.by_rows(self.format()).map(choice).collect()
                }
                Product::Matmul(variant) => {
                    let choice = |(most_rows, variant): (u32, matmul::MatmulVariant)| {
                        let def = def(Product::Matmul(variant), shape);
                        KernelChoice { most_rows, ..KernelChoice::only(def, variant.grid(shard.rows, slices)) }
                    };
                    variant.for_matrix(gpu.caps(), self.format(), self.rows()).into_iter().map(choice).collect()
                }
            };
            let macs = (shard.rows * self.columns()) as u64;
            let cost = Cost { macs, bytes: bytes as u64, row_bytes: row_bytes as u64 };
            plan.dispatch_by_rows(choices, label, &bound, cost)?;
        }
        Ok(())
    }
}
