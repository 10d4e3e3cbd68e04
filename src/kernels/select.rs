//! Selection of the next token on the device: bias, then top-k, top-p and min-p on the plain probabilities, then
//! temperature, then one draw from a counter-based generator. The order is llama.cpp's.

mod cases;
mod slices;
mod whole;

pub(super) use cases::cases;
pub use slices::Tallies;

use super::activation::Activation;
use super::batch::{Batch, RowEntry};
use super::sizes::size;
use crate::error::Result;
use crate::gpu::{Buf, KernelDef, Plan, ShaderPart, Stages, params, wgsl};

params! {
    /// A slot's sampling parameters, as the device holds them.
    pub struct SamplingParams {
        /// Divides the logits before the draw; 0 takes the largest.
        temperature: f32,
        /// Keeps the k largest; 0 keeps all.
        top_k: u32,
        /// Keeps the most probable tokens until their probabilities sum up to this; 1 keeps all.
        top_p: f32,
        /// Natural logarithm of min-p: keeps tokens at least min-p times as probable as the best; -inf keeps all.
        log_min_p: f32,
        /// Seed of the draws, low word.
        seed_low: u32,
        /// Seed of the draws, high word.
        seed_high: u32,
        /// Divides the positive logits of recent tokens and multiplies the negative ones; 1 does nothing.
        repeat_penalty: f32,
        /// Subtracted from the logit of each recent token.
        presence_penalty: f32,
        /// Subtracted from the logit of a recent token for each of its occurrences.
        frequency_penalty: f32,
        /// Number of recent tokens, at most [`WINDOW`]; 0: no penalties.
        window: u32,
        /// Not used; keeps the size a multiple of 16.
        unused_a: u32,
        /// Not used.
        unused_b: u32,
    }
}

impl SamplingParams {
    /// Selects the largest logit.
    pub const GREEDY: SamplingParams = SamplingParams {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        log_min_p: f32::NEG_INFINITY,
        seed_low: 0,
        seed_high: 0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        window: 0,
        unused_a: 0,
        unused_b: 0,
    };

    /// Optional stages that these parameters need in [`SelectVariant::Slices`].
    pub fn stages(&self, vocab: usize) -> Stages {
        slices::stages(self, vocab)
    }
}

/// Most recent tokens that a slot keeps for penalties.
pub const WINDOW: usize = 4096;
/// An empty entry among a slot's recent tokens.
const EMPTY: u32 = u32::MAX;

/// A slot's recent tokens, as the device holds them for penalties: the last `window` ids of `tokens`, each at its position modulo
/// `window`, then the count of each id. The last token is at `position - 1`.
pub fn recent(tokens: &[u32], position: u64, window: usize, vocab: usize) -> Vec<u32> {
    let mut recent = vec![EMPTY; WINDOW];
    recent.resize(WINDOW + vocab, 0);
    if window > 0 {
        for (back, id) in (1u64..).zip(tokens.iter().rev().take(window)) {
            // As the device counts positions: modulo 2^32.
            recent[(position.wrapping_sub(back) as u32 as usize) % window] = *id;
            recent[WINDOW + *id as usize] += 1;
        }
    }
    recent
}

/// The twin of the penalties: the logit of a token that occurs `count` times among the recent ones.
pub fn penalized(logit: f64, count: u32, rules: &SamplingParams) -> f64 {
    if rules.window == 0 || count == 0 {
        return logit;
    }
    let penalty = f64::from(rules.repeat_penalty);
    let logit = if logit <= 0.0 { logit * penalty } else { logit / penalty };
    logit - f64::from(count) * f64::from(rules.frequency_penalty) - f64::from(rules.presence_penalty)
}

/// Returned instead of an id: a logit is NaN or +inf.
pub const NOT_FINITE: u32 = 0xffff_ffff;
/// Returned instead of an id: every logit is -inf.
pub const ALL_BANNED: u32 = 0xffff_fffe;

/// Lanes of a workgroup.
const LANES: usize = 256;

const RULES: ShaderPart = ShaderPart::File(wgsl!("lib/select_rules.wgsl"));
const LOGIT: ShaderPart = ShaderPart::File(wgsl!("lib/select_logit.wgsl"));
const MASS: ShaderPart = ShaderPart::File(wgsl!("lib/select_mass.wgsl"));
const LINE: ShaderPart = ShaderPart::File(wgsl!("lib/select_line.wgsl"));
const END: ShaderPart = ShaderPart::File(wgsl!("lib/select_end.wgsl"));
const WHOLE: ShaderPart = ShaderPart::File(wgsl!("select.wgsl"));
const SLICES: ShaderPart = ShaderPart::File(wgsl!("lib/select_slices.wgsl"));
const NARROW: ShaderPart = ShaderPart::File(wgsl!("lib/select_narrow.wgsl"));
const TOPS: ShaderPart = ShaderPart::File(wgsl!("select_tops.wgsl"));
const TALLY: ShaderPart = ShaderPart::File(wgsl!("select_tally.wgsl"));
const LIST: ShaderPart = ShaderPart::File(wgsl!("select_list.wgsl"));
const WEIGH: ShaderPart = ShaderPart::File(wgsl!("select_weigh.wgsl"));
const FINISH: ShaderPart = ShaderPart::File(wgsl!("select_finish.wgsl"));

/// Bits of each of the two words of a mass: as many as keep the sum of a word over all tokens below 2^32.
fn mass_bits(vocab: usize) -> u32 {
    size(vocab).leading_zeros().min(16)
}

/// Constants of every selection kernel.
fn consts(lane_ids: usize) -> [(&'static str, u32); 5] {
    [
        ("WINDOW", size(WINDOW)),
        ("WG", size(LANES)),
        ("LANE_IDS", size(lane_ids)),
        ("NOT_FINITE", NOT_FINITE),
        ("ALL_BANNED", ALL_BANNED),
    ]
}

/// How a token is selected. Both variants select alike, except for the rounding of exp().
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectVariant {
    /// One workgroup per row, in one dispatch: for at most [`SelectVariant::MOST_WHOLE`] logits.
    Whole,
    /// One workgroup per slice of a row, in stages: see [`SamplingParams::stages`].
    Slices,
}

impl SelectVariant {
    /// Most logits of a row that one workgroup takes.
    pub const MOST_WHOLE: usize = 4096;

    /// The variant for `vocab` logits.
    pub fn of(vocab: usize) -> Self {
        if vocab <= Self::MOST_WHOLE { SelectVariant::Whole } else { SelectVariant::Slices }
    }
}

/// Buffers of a selection.
pub struct Select<'a> {
    /// `[slot][version][vocab]`: a row reads its slot's version after the step.
    pub logits: &'a Activation,
    /// Versions of a slot's logits.
    pub versions: usize,
    /// `[slot][vocab]`, added to the logits; -inf bans.
    pub bias: &'a Buf<f32>,
    /// `[slot]`.
    pub rules: &'a Buf<SamplingParams>,
    /// `[slot]`, see [`recent`].
    pub recent: &'a Buf<u32>,
    /// The row table.
    pub rows: &'a Buf<RowEntry>,
    /// `[rows]`: the ids.
    pub chosen: &'a Buf<u32>,
    /// For at least as many rows.
    pub tallies: &'a Tallies,
}

impl Select<'_> {
    /// Records the selection for each row of the plan's run, in the variant of its tallies. A run needs the stages of its rows'
    /// parameters; additional stages change nothing.
    pub fn record(&self, plan: &mut Plan, batch: &Buf<Batch>) -> Result<()> {
        match self.tallies.variant() {
            SelectVariant::Whole => whole::record(self, plan, batch),
            SelectVariant::Slices => slices::record(self, plan, batch),
        }
    }
}

/// The uniform random number in [0, 1) for `position`: pcg4d of Jarzynski and Olano, "Hash Functions for GPU
/// Rendering" (2020), of seed and position.
pub fn draw(seed: u64, position: u32) -> f64 {
    let mut v =
        [seed as u32, (seed >> 32) as u32, position, 0].map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let mix = |v: &mut [u32; 4]| {
        let [x, y, z, w] = *v;
        // All products are of the old values: v += v.yzxy * v.wxyz.
        *v = [
            x.wrapping_add(y.wrapping_mul(w)),
            y.wrapping_add(z.wrapping_mul(x)),
            z.wrapping_add(x.wrapping_mul(y)),
            w.wrapping_add(y.wrapping_mul(z)),
        ];
    };
    mix(&mut v);
    v = v.map(|v| v ^ (v >> 16));
    mix(&mut v);
    f64::from(v[0] >> 8) / f64::from(1u32 << 24)
}

/// The twin: the probability of each id with all parameters applied, 0 if it was cut. Greedy gives 1 to the largest.
pub fn cpu(logits: &[f64], rules: &SamplingParams) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if rules.temperature == 0.0 {
        let best = logits.iter().position(|v| *v == largest);
        return (0..logits.len()).map(|i| if Some(i) == best { 1.0 } else { 0.0 }).collect();
    }
    let mut sorted = logits.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut least = f64::NEG_INFINITY;
    if rules.top_k > 0 && (rules.top_k as usize) < sorted.len() {
        least = sorted[rules.top_k as usize - 1];
    }
    if rules.top_p < 1.0 {
        let kept: Vec<f64> = sorted.iter().copied().filter(|v| *v >= least).collect();
        let total: f64 = kept.iter().map(|v| (v - largest).exp()).sum();
        let mut mass = 0.0;
        let last = kept.iter().find(|v| {
            mass += (*v - largest).exp();
            mass >= f64::from(rules.top_p) * total
        });
        least = least.max(*last.unwrap_or(&least));
    }
    let weights: Vec<f64> = logits
        .iter()
        .map(|v| {
            let kept = *v >= least && v - largest >= f64::from(rules.log_min_p);
            if kept { ((v - largest) / f64::from(rules.temperature)).exp() } else { 0.0 }
        })
        .collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

pub(super) fn defs() -> Vec<KernelDef> {
    [whole::defs(), slices::defs()].concat()
}
