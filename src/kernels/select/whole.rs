//! Selection by one workgroup per row.

use super::{END, LANES, LINE, LOGIT, MASS, RULES, SamplingParams, Select, SelectVariant, WHOLE, consts, mass_bits};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params};
use crate::kernels::batch::{Batch, RowEntry};
use crate::kernels::parts::{BATCH, ROW_ENTRY};
use crate::kernels::sizes::{floats, size};

params! {
    /// Parameters.
    pub struct Params {
        /// Logits of a row.
        vocab: u32,
        /// Floats from one version of a slot's logits to the next.
        stride: u32,
        /// Versions of a slot's logits.
        versions: u32,
        /// Bits of a word of mass.
        mass_bits: u32,
    }
}

fn def() -> KernelDef {
    let mut def = KernelDef::new(
        "select",
        vec![BATCH, ROW_ENTRY, RULES, LOGIT, MASS, LINE, END, WHOLE],
        vec![
            Params::binding("params"),
            Batch::binding("batch"),
            Binding::read("logits"),
            Binding::read("bias"),
            Binding::read("sampling").of(SamplingParams::LAYOUT),
            Binding::write("recent"),
            Binding::write("rows").of(RowEntry::LAYOUT),
            Binding::write("chosen"),
        ],
    )
    .consts(&consts(SelectVariant::MOST_WHOLE / LANES));
    def.entry = "select_token"; // `select` is a function of WGSL
    def
}

pub(super) fn record(select: &Select<'_>, plan: &mut Plan, batch: &Buf<Batch>) -> Result<()> {
    let width = select.logits.width;
    assert!(width <= SelectVariant::MOST_WHOLE, "one workgroup takes {} logits", SelectVariant::MOST_WHOLE);
    let params = Params {
        vocab: size(width),
        stride: size(select.logits.stride),
        versions: size(select.versions),
        mass_bits: mass_bits(width),
    };
    let params = plan.gpu().upload("select params", &[params], Usage::Uniform)?;
    let bound = [
        ("params", params.bind()),
        ("batch", batch.bind()),
        ("logits", select.logits.buf.bind()),
        ("bias", select.bias.bind()),
        ("sampling", select.rules.bind()),
        ("recent", select.recent.bind()),
        ("rows", select.rows.bind()),
        ("chosen", select.chosen.bind()),
    ];
    let cost = Cost { macs: width as u64 * 16, row_bytes: floats(2 * width) as u64, ..Default::default() };
    plan.dispatch(&def(), "select", &bound, [Count::Rows(1), Count::Fixed(1)], cost)
}

pub(super) fn defs() -> Vec<KernelDef> {
    vec![def()]
}
