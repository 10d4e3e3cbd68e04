//! The embedding: one row of the table for each row's token.

use super::case::{Case, Tolerance};
use super::linear::{self, Linear};
use super::{Activation, ROW, Row, file, floats, size};
use crate::error::Result;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};

params! {
    /// Parameters of one shard of the table.
    pub struct Params {
        /// 16-byte units in a row of E.
        units: u32,
        /// Floats from one row of x to the next.
        x_stride: u32,
        /// Hidden size.
        dim: u32,
        /// First id of this shard.
        first: u32,
        /// Ids in this shard.
        rows: u32,
    }
}

fn def(format: WeightFormat) -> KernelDef {
    let mut def = KernelDef::new(
        "embed",
        vec![ROW, linear::weights_part(format), file(wgsl!("embed.wgsl"))],
        vec![Params::binding("params"), Binding::read("rows"), Binding::write("x")],
    );
    def.weights = linear::weights_bindings();
    def.overrides(&[("WG", 64)])
}

/// Records `x[row] = table[rows[row].id]`; each shard of the table writes the rows whose id it holds.
pub fn record(plan: &mut Plan, table: &Linear, rows: &Buf<Row>, x: &Activation) -> Result<()> {
    for shard in table.shards() {
        // One shard has the row.
        let row = (table.format().row_bytes(table.columns()) + floats(table.columns())) as u64;
        let cost = Cost { row_bytes: if shard.first == 0 { row } else { 0 }, ..Default::default() };
        let params = Params {
            units: size(table.format().row_units(table.columns())),
            x_stride: size(x.stride),
            dim: size(table.columns()),
            first: size(shard.first),
            rows: size(shard.rows),
        };
        let params = plan.gpu().upload("embed params", &[params], Usage::Uniform)?;
        let bound =
            [("params", params.bind()), ("rows", rows.bind()), ("x", x.buf.bind()), ("weight", shard.weight.bind())];
        plan.dispatch(&def(table.format()), "embed", &bound, [Count::Rows(1), Count::Fixed(1)], cost)?;
    }
    Ok(())
}

/// The twin: the rows of the table `[ids, dim]` for `ids`.
pub fn cpu(ids: &[u32], table: &[f32], dim: usize) -> Vec<f64> {
    ids.iter().flat_map(|id| &table[*id as usize * dim..][..dim]).map(|v| f64::from(*v)).collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    WeightFormat::ALL.map(def).to_vec()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for format in WeightFormat::ALL {
        for (vocab, dim) in [(1, 1), (40, 70), (301, 64)] {
            cases.push(Case::new("embed", format!("{} {vocab}x{dim}", format.name()), move |io| {
                let bytes = linear::encode(&io.random.uniforms(vocab * dim, -2.0, 2.0), format);
                let tensor =
                    Tensor { name: "E".to_owned(), file: "case", format, shape: vec![vocab, dim], bytes: &bytes };
                let table = Linear::load(&io.gpu, &tensor, &mut |_| {})?;
                let ids: Vec<u32> = (0..9).map(|_| size(io.random.below(vocab))).collect();
                let rows: Vec<Row> = ids.iter().map(|id| Row { id: *id, ..Default::default() }).collect();
                io.rows = ids.len();
                let rows = io.input("rows", &rows)?;
                // A copy: exact.
                let x = io.rows_out("x", &cpu(&ids, &tensor.to_f32(), dim), dim, Tolerance::EXACT)?;
                record(&mut io.plan, &table, &rows, &x)
            }));
        }
    }
    cases
}
