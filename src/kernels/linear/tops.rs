//! Exponents of the largest values of tokens and of rows of W, by which products by cooperative matrices scale them, because f16 has
//! less range than f32. Those of tokens are computed before each product, those of rows once.

use super::unpack::{weights_bindings, weights_parts};
use super::weights::Linear;
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Cost, Count, Gpu, KernelDef, Plan, ShaderPart, Usage, params, wgsl};
use crate::kernels::activation::Activation;
use crate::kernels::batch::Batch;
use crate::kernels::case::{Case, Io, Tolerance};
use crate::kernels::parts::{BATCH, file};
use crate::kernels::sizes::{floats, size};

params! {
    /// Parameters of tokens.
    pub struct TokenParams {
        /// vec4s in a token.
        quads: u32,
        /// vec4s from one token to the next.
        stride: u32,
    }
}

params! {
    /// Parameters of a shard's rows.
    pub struct RowParams {
        /// Units in a row of W.
        units: u32,
        /// Rows of this shard.
        rows: u32,
    }
}

/// Lanes of a workgroup.
const LANES: u32 = 128;
/// Rows per workgroup.
const ROWS: u32 = 16;

const EXPONENTS: ShaderPart = file(wgsl!("lib/exponents.wgsl"));

fn def_of_tokens() -> KernelDef {
    let parts = vec![BATCH, EXPONENTS, file(wgsl!("tops.wgsl"))];
    let bindings =
        vec![TokenParams::binding("params"), Batch::binding("batch"), Binding::read("x"), Binding::write("tops")];
    let mut def = KernelDef::new("tops", parts, bindings).consts(&[("WG", LANES)]);
    def.entry = "tops_of_tokens";
    def
}

fn def_of_rows(format: WeightFormat) -> KernelDef {
    let mut parts = weights_parts(format);
    parts.extend([EXPONENTS, file(wgsl!("row_tops.wgsl"))]);
    let bindings = vec![RowParams::binding("params"), Binding::write("tops")];
    let mut def = KernelDef::new("row_tops", parts, bindings).consts(&[("WG", LANES), ("ROWS", ROWS)]);
    def.entry = "tops_of_rows";
    def.weights = weights_bindings();
    def
}

/// Records the exponents of x for a run's tokens; returns their buffer.
pub fn record(plan: &mut Plan, label: &str, x: &Activation, batch: &Buf<Batch>) -> Result<Buf<u32>> {
    let tops = plan.gpu().buffer(format!("{label}.tops"), x.buf.len() / x.stride, Usage::Storage)?;
    record_to(plan, label, (x, &tops), batch)?;
    Ok(tops)
}

fn record_to(plan: &mut Plan, label: &str, (x, tops): (&Activation, &Buf<u32>), batch: &Buf<Batch>) -> Result<()> {
    let params = TokenParams { quads: size(x.width.div_ceil(4)), stride: size(x.stride / 4) };
    let params = plan.gpu().upload("tops params", &[params], Usage::Uniform)?;
    let bound = [("params", params.bind()), ("batch", batch.bind()), ("x", x.buf.bind()), ("tops", tops.bind())];
    let cost = Cost { row_bytes: floats(x.width + 1) as u64, ..Default::default() };
    plan.dispatch(&def_of_tokens(), format!("{label}.tops"), &bound, [Count::Rows(1), Count::Fixed(1)], cost)
}

impl Linear {
    /// Exponents of the largest weight of each row, per shard; computed once.
    pub(super) fn row_tops(&self, gpu: &Gpu) -> Result<&[Buf<u32>]> {
        if let Some(tops) = self.tops.get() {
            return Ok(tops);
        }
        let mut plan = Plan::new(gpu, "tops of rows");
        let tops: Vec<Buf<u32>> = self
            .shards()
            .iter()
            .map(|shard| gpu.buffer(format!("{}.tops", self.name), shard.rows, Usage::Storage))
            .collect::<Result<_>>()?;
        self.record_row_tops(&mut plan, &tops)?;
        plan.run(1)?;
        Ok(self.tops.get_or_init(|| tops))
    }

    fn record_row_tops(&self, plan: &mut Plan, tops: &[Buf<u32>]) -> Result<()> {
        for (shard, tops) in self.shards().iter().zip(tops) {
            let params = RowParams { units: size(self.format().row_units(self.columns())), rows: size(shard.rows) };
            let params = plan.gpu().upload("row tops params", &[params], Usage::Uniform)?;
            let bound = [("params", params.bind()), ("tops", tops.bind()), ("weight", shard.weight.bind())];
            let grid = [Count::of(shard.rows, ROWS), Count::Fixed(1)];
            let bytes = (shard.rows * self.format().device_row_bytes(self.columns())) as u64;
            plan.dispatch(&def_of_rows(self.format()), "row_tops", &bound, grid, Cost { bytes, ..Default::default() })?;
        }
        Ok(())
    }
}

pub(in crate::kernels) fn defs() -> Vec<KernelDef> {
    WeightFormat::ALL.into_iter().map(def_of_rows).chain([def_of_tokens()]).collect()
}

/// The twin: the exponent of the largest of some values, with f32's bias.
fn cpu(values: &[f32]) -> u32 {
    values.iter().fold(0, |top, v| top.max(v.abs().to_bits() >> 23))
}

/// Values of both signs and many magnitudes.
fn values(io: &mut Io, count: usize, width: usize) -> Vec<f32> {
    (0..count * width).map(|i| io.random.uniform(-1.0, 1.0) * 2f32.powi((i / width % 7) as i32 * 3 - 9)).collect()
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (tokens, width) in [(1, 1), (9, 70), (3, 1500)] {
        cases.push(Case::new("tops", format!("{tokens}x{width}"), move |io| {
            let values = values(io, tokens, width);
            io.rows = tokens;
            let tops = values.chunks_exact(width).map(|row| Some(f32::from_bits(cpu(row)).into())).collect();
            let x = io.rows_in("x", &values, width)?;
            let tops = io.output("tops", tops, Tolerance::EXACT)?.reinterpret();
            let batch = io.uniform(Batch { rows: size(tokens), ..Default::default() })?;
            record_to(&mut io.plan, "tops", (&x, &tops), &batch)
        }));
    }
    for format in WeightFormat::ALL {
        let (rows, columns) = (37, 500);
        cases.push(Case::new("row_tops", format!("{format} {rows}x{columns}"), move |io| {
            let bytes = format.encode(&values(io, rows, columns), columns);
            let tensor = Tensor::of_blocks("W", "case", format, &[rows, columns], &bytes);
            let matrix = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
            let all = tensor.to_f32();
            let mut tops = Vec::new();
            for shard in matrix.shards() {
                let of_shard = all[shard.first * columns..][..shard.rows * columns].chunks_exact(columns);
                let of_shard = of_shard.map(|row| Some(f32::from_bits(cpu(row)).into())).collect();
                tops.push(io.output("tops", of_shard, Tolerance::EXACT)?.reinterpret());
            }
            matrix.record_row_tops(&mut io.plan, &tops)
        }));
    }
    cases
}
