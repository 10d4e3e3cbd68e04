//! The embedding: one row of the table for each row's token.

use super::activation::{Activation, Order, int8};
use super::batch::RowEntry;
use super::case::{Case, Random, Tolerance, wide};
use super::linear::{self, Linear, NextNorm};
use super::parts::{PLACED, ROW_ENTRY, TEAM, file};
use super::sizes::{floats, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, ShaderPart, Usage, params, wgsl};

params! {
    /// Parameters of one shard of the table.
    pub struct Params {
        /// Units in a row of E.
        units: u32,
        /// Floats from one row of x to the next.
        x_stride: u32,
        /// Hidden size.
        dim: u32,
        /// First id of this shard.
        first: u32,
        /// Ids in this shard.
        rows: u32,
        /// Order of the first product's input, see [`super::Order::placing`].
        order_shift: u32,
        /// Units in a row of that input.
        order_units: u32,
    }
}

/// What both kernels have, and what one adds.
fn declare(name: &'static str, own: &[ShaderPart], bindings: &[Binding], format: WeightFormat) -> KernelDef {
    let shared = [ROW_ENTRY, file(wgsl!("lib/embed_params.wgsl"))];
    let parts = [&shared, linear::weights_parts(format).as_slice(), own].concat();
    let bindings = [&[Params::binding("params"), Binding::read("rows").of(RowEntry::LAYOUT)], bindings].concat();
    let mut def = KernelDef::new(name, parts, bindings);
    def.weights = linear::weights_bindings();
    def.overrides(&[("WG", LANES)])
}

/// Lanes of a workgroup.
const LANES: u32 = 64;

fn def(format: WeightFormat) -> KernelDef {
    declare("embed", &[file(wgsl!("embed.wgsl"))], &[Binding::write("x")], format)
}

fn step_def(format: WeightFormat, next: Order) -> KernelDef {
    let packed = next == Order::Int8;
    let own = match packed {
        true => vec![TEAM, file(wgsl!("lib/int8_pack.wgsl")), file(wgsl!("lib/embed_next_int8.wgsl"))],
        false => vec![TEAM, PLACED, file(wgsl!("lib/embed_next.wgsl"))],
    };
    let own = [own, vec![file(wgsl!("embed_step.wgsl"))]].concat();
    let written = ["x", "normed", "squares"].map(Binding::write);
    let bindings = [&[Binding::read("norm")], written.as_slice()].concat();
    let mut def = declare("embed_step", &own, &bindings, format);
    if packed {
        // One group per lane.
        def.consts.push(("KEPT", LANES * size(int8::GROUP)));
    }
    def
}

/// Records `x[row] = table[rows[row].id]`, and with `next` the input of a decode step's first norm, with one sum of squares per row.
/// Each shard of the table writes the rows whose id it holds.
pub fn record(
    plan: &mut Plan,
    table: &Linear,
    rows: &Buf<RowEntry>,
    x: &Activation,
    next: Option<NextNorm<'_>>,
) -> Result<()> {
    let format = table.format();
    let order = next.map_or(Order::Plain, |next| next.normed.order);
    let [order_shift, order_units] = order.placing(table.columns());
    for shard in table.shards() {
        // Only one shard holds the row.
        let row =
            format.device_row_bytes(table.columns()) + floats(table.columns() * if next.is_some() { 2 } else { 1 });
        let cost = Cost { row_bytes: if shard.first == 0 { row as u64 } else { 0 }, ..Default::default() };
        let params = Params {
            units: size(format.row_units(table.columns())),
            x_stride: size(x.stride),
            dim: size(table.columns()),
            first: size(shard.first),
            rows: size(shard.rows),
            order_shift,
            order_units,
        };
        let params = plan.gpu().upload("embed params", &[params], Usage::Uniform)?;
        let mut bound = vec![
            ("params", params.bind()),
            ("rows", rows.bind()),
            ("x", x.buf.bind()),
            ("weight", shard.weight.bind()),
        ];
        if let Some(next) = next {
            assert_eq!(x.stride, next.normed.stride, "the normed stream has the stride of x");
            bound.extend([("norm", next.weight.bind()), ("normed", next.normed.buf.bind())]);
            bound.push(("squares", next.squares.bind()));
        }
        let def = if next.is_some() { step_def(format, order) } else { def(format) };
        plan.dispatch(&def, "embed", &bound, [Count::Rows(1), Count::Fixed(1)], cost)?;
    }
    Ok(())
}

/// Rows that the host supplies instead of a table, in the table's format: row i of a step reads row i.
pub struct GivenRows {
    table: Linear,
    rows: Buf<RowEntry>,
}

impl GivenRows {
    /// Space for `count` rows of `dim` values.
    pub fn new(gpu: &Gpu, format: WeightFormat, count: usize, dim: usize) -> Result<Self> {
        let zeros = vec![0; format.row_bytes(dim) * count];
        let tensor = Tensor::of_blocks("given rows", "the host", format, &[count, dim], &zeros);
        let table = Linear::load(gpu, &tensor, &mut |_| {})?;
        let rows: Vec<RowEntry> = (0..size(count)).map(|id| RowEntry { id, ..Default::default() }).collect();
        Ok(GivenRows { table, rows: gpu.upload("rows of given rows", &rows, Usage::Storage)? })
    }

    /// Bytes on the device.
    pub fn bytes(format: WeightFormat, count: usize, dim: usize) -> usize {
        count * (format.device_row_bytes(dim) + size_of::<RowEntry>())
    }

    /// The rows as a table, and row table entries that select them in order.
    pub fn as_table(&self) -> (&Linear, &Buf<RowEntry>) {
        (&self.table, &self.rows)
    }

    /// Sets the first rows, packed as [`Tensor::pack_rows`] does, before anything submitted later runs.
    pub fn set(&self, gpu: &Gpu, packed: &[u8]) -> Result<()> {
        let row_bytes = self.table.format().device_row_bytes(self.table.columns());
        let mut rest = packed;
        for shard in self.table.shards() {
            let (rows, others) = rest.split_at(rest.len().min(shard.rows * row_bytes));
            gpu.write(&shard.weight, 0, rows)?;
            rest = others;
        }
        Ok(())
    }
}

/// The twin: the rows of the table `[ids, dim]` for `ids`.
pub fn cpu(ids: &[u32], table: &[f32], dim: usize) -> Vec<f64> {
    ids.iter().flat_map(|id| &table[*id as usize * dim..][..dim]).map(|v| f64::from(*v)).collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    let steps = [Order::Plain, Order::Int8];
    let of_format = |format| steps.map(|order| step_def(format, order)).into_iter().chain([def(format)]);
    WeightFormat::ALL.into_iter().flat_map(of_format).collect()
}

/// Blocks of random bits with finite scales, some of which are subnormal if they are f16.
fn any_blocks(random: &mut Random, format: WeightFormat, blocks: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..blocks * format.block_bytes()).map(|_| random.below(256) as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        // The upper bytes of scales, or of values.
        let (halves, wide): (&[usize], &[usize]) = match format {
            WeightFormat::F16 | WeightFormat::Q8_0 | WeightFormat::Q4_0 => (&[1], &[]),
            WeightFormat::Q4K | WeightFormat::Q5K => (&[1, 3], &[]),
            WeightFormat::Q6K => (&[209], &[]),
            WeightFormat::Bf16 => (&[], &[1]),
            WeightFormat::F32 | WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => (&[], &[3]),
        };
        halves.iter().for_each(|at| block[*at] &= 0xbf);
        wide.iter().for_each(|at| block[*at] = block[*at] & 0xbf | 0x30);
    }
    bytes
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for format in WeightFormat::ALL {
        cases.push(Case::new("embed", format!("{} blocks of any bits", format.name()), move |io| {
            let (vocab, dim) = (40, 512);
            let bytes = any_blocks(&mut io.random, format, vocab * format.row_blocks(dim));
            let tensor = Tensor::of_blocks("E", "case", format, &[vocab, dim], &bytes);
            let table = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
            let ids: Vec<u32> = (0..size(vocab)).collect();
            let rows: Vec<RowEntry> = ids.iter().map(|id| RowEntry { id: *id, ..Default::default() }).collect();
            io.rows = ids.len();
            let rows = io.input("rows", &rows)?;
            let x = io.rows_out("x", &cpu(&ids, &tensor.to_f32(), dim), dim, Tolerance::EXACT)?;
            record(&mut io.plan, &table, &rows, &x, None)
        }));
        for (vocab, dim) in [(1, 1), (40, 70), (31, 300)] {
            cases.push(Case::new("embed", format!("{} {vocab}x{dim}", format.name()), move |io| {
                let bytes = format.encode(&io.random.uniforms(vocab * dim, -2.0, 2.0), dim);
                let tensor = Tensor::of_blocks("E", "case", format, &[vocab, dim], &bytes);
                let table = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
                let ids: Vec<u32> = (0..9).map(|_| size(io.random.below(vocab))).collect();
                let rows: Vec<RowEntry> = ids.iter().map(|id| RowEntry { id: *id, ..Default::default() }).collect();
                io.rows = ids.len();
                let rows = io.input("rows", &rows)?;
                // A copy is exact.
                let x = io.rows_out("x", &cpu(&ids, &tensor.to_f32(), dim), dim, Tolerance::EXACT)?;
                record(&mut io.plan, &table, &rows, &x, None)
            }));
            cases.extend([false, true].map(|packed| step_case(format, (vocab, dim), packed)));
        }
    }
    cases
}

/// A case of the embedding of a decode step, whose first product reads f32 or int8.
fn step_case(format: WeightFormat, (vocab, dim): (usize, usize), packed: bool) -> Case {
    let next = if packed { ", int8 next" } else { "" };
    Case::new("embed_step", format!("{} {vocab}x{dim}{next}", format.name()), move |io| {
        const NORMED: Tolerance = Tolerance { nmse: 1e-12, abs: 1e-6, rel: 2e-6 };
        let bytes = format.encode(&io.random.uniforms(vocab * dim, -2.0, 2.0), dim);
        let tensor = Tensor::of_blocks("E", "case", format, &[vocab, dim], &bytes);
        let table = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
        let ids: Vec<u32> = (0..9).map(|_| size(io.random.below(vocab))).collect();
        let weight = io.random.uniforms(dim, -1.0, 1.0);
        let x = cpu(&ids, &tensor.to_f32(), dim);
        let normed: Vec<f64> = x.iter().zip(wide(&weight).iter().cycle()).map(|(x, w)| x * w).collect();
        let squares = x.chunks_exact(dim).flat_map(|row| [Some(row.iter().map(|x| x * x).sum()), None, None, None]);
        let rows: Vec<RowEntry> = ids.iter().map(|id| RowEntry { id: *id, ..Default::default() }).collect();
        io.rows = ids.len();
        let (rows, weight) = (io.input("rows", &rows)?, io.input("norm", &weight)?);
        let x = io.rows_out("x", &x, dim, Tolerance::EXACT)?;
        let order = if io.random.below(2) == 0 { Order::Plain } else { Order::ByQuads };
        let normed = match packed {
            true => io.rows_out_int8("normed", &normed, dim)?,
            false => io.rows_out_order("normed", &normed, dim, NORMED, order)?,
        };
        let squares = io.output("squares", squares.collect(), NORMED)?;
        let next = NextNorm { weight: &weight, normed: &normed, squares: &squares };
        record(&mut io.plan, &table, &rows, &x, Some(next))
    })
}
