//! Selection by one workgroup per slice of a row, in stages: tops, tallies that narrow down the k-th key, tallies that narrow down the
//! last key of top-p, then a list of the few tokens that a small top-k leaves, or the weight of each slice in the draw, and the finish.
//! Only the first and the last stage always run.

use super::{END, FINISH, LINE, LIST, LOGIT, MASS, NARROW, RULES, SLICES, TALLY, TOPS, WEIGH};
use super::{LANES, SamplingParams, Select, SelectVariant, consts, mass_bits};
use crate::error::Result;
use crate::gpu::{Binding, Bound, Buf, Cost, Count, Gpu, KernelDef, Plan, ShaderPart, Stages, Usage, params};
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
        /// Slices of a row.
        slices: u32,
        /// Words of a row in `work`.
        work: u32,
        /// The tally that a dispatch makes.
        tally: u32,
    }
}

/// Tallies that narrow down the k-th key, after the first.
const BY_RANK: Stages = Stages::only(0);
/// Tallies that narrow down the last key of top-p.
const BY_MASS: Stages = Stages::only(1);
/// The list of tokens that a small top-k leaves.
const BY_LIST: Stages = Stages::only(2);
/// The weights of slices in the draw, if there is no list.
const BY_WEIGHT: Stages = Stages::only(3);

/// The largest top-k whose tokens are listed: one entry per lane.
const LISTED: usize = LANES;
/// Words of a row's notes.
const NOTES: usize = 32;
/// Distinct values of a tally.
const VALUES: usize = 2048;
/// Words of a row in each of the two buffers of tallies: three of two words.
const TALLIES: usize = 3 * 2 * VALUES;

pub(super) fn stages(rules: &SamplingParams, vocab: usize) -> Stages {
    if rules.temperature <= 0.0 {
        return Stages::NONE;
    }
    let k = rules.top_k as usize;
    let ranked = k > 0 && k < vocab;
    if ranked && k <= LISTED {
        return BY_RANK.and(BY_LIST);
    }
    let mut stages = BY_WEIGHT;
    if ranked {
        stages = stages.and(BY_RANK);
    }
    if rules.top_p < 1.0 {
        stages = stages.and(BY_MASS);
    }
    stages
}

/// Ids per lane: as few as give at most one slice to each lane of the finishing workgroup.
fn lane_ids(vocab: usize) -> usize {
    vocab.div_ceil(LANES * LANES).next_power_of_two().max(4)
}

fn slices(vocab: usize) -> usize {
    vocab.div_ceil(LANES * lane_ids(vocab))
}

/// Words of a row that stages pass on: keys, five per slice, the list.
fn work(vocab: usize) -> usize {
    vocab + 5 * slices(vocab) + 2 * LISTED
}

/// Buffers that the stages of a selection share; empty in the variant with one stage.
pub struct Tallies {
    variant: SelectVariant,
    work: Buf<u32>,
    notes: Buf<u32>,
    even: Buf<u32>,
    odd: Buf<u32>,
}

impl Tallies {
    /// Buffers for at most `rows` rows of a step.
    pub fn new(gpu: &Gpu, variant: SelectVariant, rows: usize, vocab: usize) -> Result<Self> {
        let [work, notes, tallies] = Self::parts(variant, vocab);
        let buffer = |label, words: usize| gpu.buffer(label, rows * words, Usage::Storage);
        Ok(Tallies {
            variant,
            work: buffer("choice work", work)?,
            notes: buffer("choice notes", notes)?,
            even: buffer("choice tallies even", tallies)?,
            odd: buffer("choice tallies odd", tallies)?,
        })
    }

    fn parts(variant: SelectVariant, vocab: usize) -> [usize; 3] {
        match variant {
            SelectVariant::Whole => [0; 3],
            SelectVariant::Slices => [work(vocab), NOTES, TALLIES],
        }
    }

    /// Words per row.
    pub fn words(variant: SelectVariant, vocab: usize) -> usize {
        let [work, notes, tallies] = Self::parts(variant, vocab);
        work + notes + 2 * tallies
    }

    /// Words per row in the largest of the buffers.
    pub fn widest(variant: SelectVariant, vocab: usize) -> usize {
        Self::parts(variant, vocab).into_iter().max().unwrap_or(0)
    }

    /// The variant that uses them.
    pub fn variant(&self) -> SelectVariant {
        self.variant
    }
}

fn def(name: &'static str, parts: &[ShaderPart], bindings: &[Binding], lane_ids: usize) -> KernelDef {
    let parts = [&[BATCH, ROW_ENTRY, RULES, MASS, LINE, SLICES][..], parts].concat();
    let bindings = [&[Params::binding("params"), Batch::binding("batch")][..], bindings].concat();
    let own = [("LISTED", size(LISTED)), ("NOTES", size(NOTES)), ("VALUES", size(VALUES)), ("TALLIES", size(TALLIES))];
    KernelDef::new(name, parts, bindings).consts(&[&consts(lane_ids)[..], &own].concat())
}

fn tops(lane_ids: usize) -> KernelDef {
    let bindings = [
        Binding::read("logits"),
        Binding::read("bias"),
        Binding::read("sampling").of(SamplingParams::LAYOUT),
        Binding::read("recent"),
        Binding::read("rows").of(RowEntry::LAYOUT),
        Binding::write("work"),
        Binding::write("notes"),
        Binding::write("tally"),
    ];
    def("select_tops", &[LOGIT, TOPS], &bindings, lane_ids)
}

fn tally(lane_ids: usize) -> KernelDef {
    let bindings = [
        Binding::read("sampling").of(SamplingParams::LAYOUT),
        Binding::read("rows").of(RowEntry::LAYOUT),
        Binding::read("work"),
        Binding::write("notes"),
        Binding::read("tally_before"),
        Binding::write("tally"),
    ];
    def("select_tally", &[NARROW, TALLY], &bindings, lane_ids)
}

fn list(lane_ids: usize) -> KernelDef {
    let bindings = [
        Binding::read("sampling").of(SamplingParams::LAYOUT),
        Binding::read("rows").of(RowEntry::LAYOUT),
        Binding::write("work"),
        Binding::write("notes"),
        Binding::read("tally_rank"),
    ];
    def("select_list", &[NARROW, LIST], &bindings, lane_ids)
}

fn weigh(lane_ids: usize) -> KernelDef {
    let bindings = [
        Binding::read("sampling").of(SamplingParams::LAYOUT),
        Binding::read("rows").of(RowEntry::LAYOUT),
        Binding::write("work"),
        Binding::write("notes"),
        Binding::read("tally_rank"),
        Binding::read("tally_mass"),
    ];
    def("select_weigh", &[NARROW, WEIGH], &bindings, lane_ids)
}

fn finish(lane_ids: usize) -> KernelDef {
    let bindings = [
        Binding::read("sampling").of(SamplingParams::LAYOUT),
        Binding::write("recent"),
        Binding::write("rows").of(RowEntry::LAYOUT),
        Binding::write("chosen"),
        Binding::read("work"),
        Binding::write("notes"),
        Binding::write("tally_even"),
        Binding::write("tally_odd"),
    ];
    def("select_finish", &[END, FINISH], &bindings, lane_ids)
}

/// The work of a dispatch.
#[derive(Clone, Copy)]
enum Stage {
    /// One workgroup per slice; `words` words are read or written per token.
    Slices { words: usize },
    /// The same, for this tally of tokens.
    Counts(u32),
    /// Two workgroups per slice, one for each word of mass, for this tally of masses.
    Masses(u32),
    /// One workgroup per row.
    Finish,
}

pub(super) fn record(select: &Select<'_>, plan: &mut Plan, batch: &Buf<Batch>) -> Result<()> {
    let width = select.logits.width;
    let (lane_ids, slices) = (lane_ids(width), slices(width));
    let params = Params {
        vocab: size(width),
        stride: size(select.logits.stride),
        versions: size(select.versions),
        mass_bits: mass_bits(width),
        slices: size(slices),
        work: size(work(width)),
        tally: 0,
    };
    let Tallies { work, notes, even, odd, .. } = select.tallies;
    let (even, odd) = (even.bind(), odd.bind());
    let gpu = plan.gpu().clone();
    let record = |plan: &mut Plan, (def, label): (KernelDef, &str), stage: Stage, more: &[(&str, &Bound)]| {
        let (tally, grid, words) = match stage {
            Stage::Slices { words } => (0, [Count::Fixed(size(slices)), Count::Rows(1)], words),
            Stage::Counts(tally) => (tally, [Count::Fixed(size(slices)), Count::Rows(1)], 1),
            Stage::Masses(tally) => (tally, [Count::Fixed(size(2 * slices)), Count::Rows(1)], 2),
            Stage::Finish => (0, [Count::Rows(1), Count::Fixed(1)], 0),
        };
        let params = gpu.upload("select params", &[Params { tally, ..params }], Usage::Uniform)?;
        let all = [
            ("params", params.bind()),
            ("batch", batch.bind()),
            ("logits", select.logits.buf.bind()),
            ("bias", select.bias.bind()),
            ("sampling", select.rules.bind()),
            ("recent", select.recent.bind()),
            ("rows", select.rows.bind()),
            ("chosen", select.chosen.bind()),
            ("work", work.bind()),
            ("notes", notes.bind()),
        ];
        let of_kernel = |name: &str| def.bindings.iter().any(|binding| binding.name == name);
        let mut bound: Vec<_> = all.into_iter().filter(|(name, _)| of_kernel(name)).collect();
        bound.extend(more.iter().map(|(name, bound)| (*name, (*bound).clone())));
        let cost = Cost { macs: 4 * width as u64, row_bytes: floats(words * width) as u64, ..Default::default() };
        plan.dispatch(&def, label, &bound, grid, cost)
    };
    record(plan, (tops(lane_ids), "select.tops"), Stage::Slices { words: 3 }, &[("tally", &even)])?;
    plan.staged(BY_RANK, |plan| {
        let bound = [("tally_before", &even), ("tally", &odd)];
        record(plan, (tally(lane_ids), "select.k2"), Stage::Counts(1), &bound)?;
        let bound = [("tally_before", &odd), ("tally", &even)];
        record(plan, (tally(lane_ids), "select.k3"), Stage::Counts(2), &bound)
    })?;
    plan.staged(BY_MASS, |plan| {
        for (number, label) in [(3, "select.p1"), (4, "select.p2"), (5, "select.p3")] {
            let (from, to) = if number % 2 == 1 { (&even, &odd) } else { (&odd, &even) };
            let bound = [("tally_before", from), ("tally", to)];
            record(plan, (tally(lane_ids), label), Stage::Masses(number), &bound)?;
        }
        Ok(())
    })?;
    plan.staged(BY_LIST, |plan| {
        record(plan, (list(lane_ids), "select.list"), Stage::Slices { words: 1 }, &[("tally_rank", &even)])
    })?;
    plan.staged(BY_WEIGHT, |plan| {
        let bound = [("tally_rank", &even), ("tally_mass", &odd)];
        record(plan, (weigh(lane_ids), "select.weigh"), Stage::Slices { words: 1 }, &bound)
    })?;
    let bound = [("tally_even", &even), ("tally_odd", &odd)];
    record(plan, (finish(lane_ids), "select.finish"), Stage::Finish, &bound)
}

pub(super) fn defs() -> Vec<KernelDef> {
    [65_024, 1 << 20]
        .map(lane_ids)
        .into_iter()
        .flat_map(|ids| [tops, tally, list, weigh, finish].map(|def| def(ids)))
        .collect()
}
