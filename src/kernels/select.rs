//! The choice of the next token on the device: bias, then top-k, top-p and min-p on the plain probabilities, then
//! temperature, then one draw from a counter-based generator. The order is llama.cpp's.

use super::case::{Case, Fault, Reached, wide};
use super::{Activation, BATCH, Batch, ROW, Row, TEAM, file, floats, size};
use crate::error::Result;
use crate::gpu::{Binding, Buf, Cost, Count, KernelDef, Plan, Usage, params, wgsl};
use bytemuck::{Pod, Zeroable};

params! {
    /// Parameters.
    pub struct Params {
        /// Logits of a row.
        vocab: u32,
        /// Floats from one row of logits to the next.
        stride: u32,
    }
}

/// A slot's rules of choice, as the device holds them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct Rules {
    /// Divides the logits before the draw; 0 takes the largest.
    pub temperature: f32,
    /// Keeps the k largest; 0 keeps all.
    pub top_k: u32,
    /// Keeps the largest until their probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Natural logarithm of min-p: keeps what is at least min-p as probable as the best; -inf keeps all.
    pub log_min_p: f32,
    /// Seed of the draws, low word.
    pub seed_low: u32,
    /// Seed of the draws, high word.
    pub seed_high: u32,
    /// Divides the positive logits of recent tokens and multiplies the negative ones; 1 does nothing.
    pub repeat_penalty: f32,
    /// Taken off the logit of each recent token.
    pub presence_penalty: f32,
    /// Taken off the logit of a recent token for each time that it stands there.
    pub frequency_penalty: f32,
    /// Tokens that count as recent, at most [`WINDOW`]; 0: no penalties.
    pub window: u32,
    /// Not used; keeps the size a multiple of 16.
    pub unused: [u32; 2],
}

impl Rules {
    /// Always the largest logit.
    pub const GREEDY: Rules = Rules {
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
        unused: [0; 2],
    };
}

/// Tokens that a slot's memory for penalties holds, at most.
pub const WINDOW: usize = 4096;
/// In the memory for penalties: a place without a token.
const EMPTY: u32 = u32::MAX;

/// A slot's memory for penalties, as the device holds it: the ids of the last `window` of `tokens`, each at its position
/// modulo `window`, then how often each id stands there. The last token is at `position - 1`.
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

/// The twin of the penalties: a logit of a token that stands `count` times among the recent ones.
pub fn penalized(logit: f64, count: u32, rules: &Rules) -> f64 {
    if rules.window == 0 || count == 0 {
        return logit;
    }
    let penalty = f64::from(rules.repeat_penalty);
    let logit = if logit <= 0.0 { logit * penalty } else { logit / penalty };
    logit - f64::from(count) * f64::from(rules.frequency_penalty) - f64::from(rules.presence_penalty)
}

/// In place of an id: a logit was NaN or +inf.
pub const NOT_FINITE: u32 = 0xffff_ffff;
/// In place of an id: every logit was -inf.
pub const ALL_BANNED: u32 = 0xffff_fffe;

fn def() -> KernelDef {
    let mut def = KernelDef::new(
        "select",
        vec![BATCH, ROW, TEAM, file(wgsl!("select.wgsl"))],
        vec![
            Params::binding("params"),
            Batch::binding("batch"),
            Binding::read("logits"),
            Binding::read("bias"),
            Binding::read("sampling"),
            Binding::write("recent"),
            Binding::write("rows"),
            Binding::write("chosen"),
        ],
    )
    .consts(&[("WINDOW", size(WINDOW))])
    .overrides(&[("WG", 256)]);
    def.entry = "select_token"; // `select` is a function of WGSL
    def
}

/// Buffers of a choice.
pub struct Select<'a> {
    /// `[rows, vocab]`.
    pub logits: &'a Activation,
    /// `[slot][vocab]`, added to the logits; -inf bans.
    pub bias: &'a Buf<f32>,
    /// `[slot]`.
    pub rules: &'a Buf<Rules>,
    /// `[slot]`, see [`recent`].
    pub recent: &'a Buf<u32>,
    /// The row table.
    pub rows: &'a Buf<Row>,
    /// `[rows]`: the ids.
    pub chosen: &'a Buf<u32>,
}

impl Select<'_> {
    /// Records the choice for each row of the plan's run.
    pub fn record(&self, plan: &mut Plan, batch: &Buf<Batch>) -> Result<()> {
        let params = Params { vocab: size(self.logits.width), stride: size(self.logits.stride) };
        let params = plan.gpu().upload("select params", &[params], Usage::Uniform)?;
        let bound = [
            ("params", params.bind()),
            ("batch", batch.bind()),
            ("logits", self.logits.buf.bind()),
            ("bias", self.bias.bind()),
            ("sampling", self.rules.bind()),
            ("recent", self.recent.bind()),
            ("rows", self.rows.bind()),
            ("chosen", self.chosen.bind()),
        ];
        // Logits and bias are read at least once; rules other than greedy look at them some 60 times.
        let width = self.logits.width;
        let cost = Cost { macs: width as u64 * 64, row_bytes: floats(2 * width) as u64, ..Default::default() };
        plan.dispatch(&def(), "select", &bound, [Count::Rows(1), Count::Fixed(1)], cost)
    }
}

/// The uniform number in [0, 1) that decides at `position`: pcg4d of Jarzynski and Olano, "Hash Functions for GPU
/// Rendering" (2020), of seed and position.
pub fn draw(seed: u64, position: u32) -> f64 {
    let mut v =
        [seed as u32, (seed >> 32) as u32, position, 0].map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let mix = |v: &mut [u32; 4]| {
        let [x, y, z, w] = *v;
        // The products are all of the values before: v += v.yzxy * v.wxyz.
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

/// The twin: the probability of each id after all rules, 0 where it was cut. Greedy gives 1 to the largest.
pub fn cpu(logits: &[f64], rules: &Rules) -> Vec<f64> {
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
    vec![def()]
}

/// How far the draw may fall outside of the twin's interval for the chosen id: f32 sums of a few thousand terms.
const DRAW_SLACK: f64 = 2e-5;

/// Whether `id` is what the rules and the draw allow.
fn judge(id: u32, logits: &[f64], rules: &Rules, position: u32) -> Result<Reached, String> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if logits.iter().any(|v| v.is_nan() || *v == f64::INFINITY) {
        return if id == NOT_FINITE {
            Ok(Reached::default())
        } else {
            Err(format!("chose {id} of logits that are not finite"))
        };
    }
    if largest == f64::NEG_INFINITY {
        return if id == ALL_BANNED { Ok(Reached::default()) } else { Err(format!("chose {id} where all are banned")) };
    }
    let probabilities = cpu(logits, rules);
    let Some(p) = probabilities.get(id as usize) else { return Err(format!("chose {id} of {}", logits.len())) };
    if *p == 0.0 {
        return Err(format!("chose {id}, which the rules cut"));
    }
    if rules.temperature == 0.0 {
        return Ok(Reached::default());
    }
    let below: f64 = probabilities[..id as usize].iter().sum();
    let u = draw(u64::from(rules.seed_high) << 32 | u64::from(rules.seed_low), position);
    let outside = (below - u).max(u - (below + p)).max(0.0);
    if outside > DRAW_SLACK {
        return Err(format!("chose {id} at [{below}, {}), but the draw is {u}", below + p));
    }
    Ok(Reached { max_abs: outside, share: outside / DRAW_SLACK, nmse: 0.0 })
}

pub(super) fn cases() -> Vec<Case> {
    let plain = Rules { temperature: 1.0, seed_low: 42, seed_high: 7, ..Rules::GREEDY };
    let penalties = Rules { repeat_penalty: 1.3, presence_penalty: 0.4, frequency_penalty: 0.2, ..plain };
    let rules = [
        ("greedy", Rules { temperature: 0.0, top_k: 3, top_p: 0.5, ..plain }),
        ("plain", plain),
        ("hot", Rules { temperature: 2.5, ..plain }),
        ("top_k 5", Rules { top_k: 5, ..plain }),
        ("top_k 1", Rules { top_k: 1, ..plain }),
        ("top_p 0.7", Rules { top_p: 0.7, temperature: 0.8, ..plain }),
        ("top_p 0", Rules { top_p: 0.0, ..plain }),
        ("min_p 0.1", Rules { log_min_p: 0.1f32.ln(), ..plain }),
        ("penalties of 64", Rules { window: 64, ..penalties }),
        ("penalties of 4096, greedy", Rules { window: 4096, temperature: 0.0, ..penalties }),
        ("rewards of 3", Rules { window: 3, repeat_penalty: 0.5, presence_penalty: -1.0, ..penalties }),
        (
            "all rules",
            Rules {
                window: 100,
                repeat_penalty: 1.1,
                top_k: 40,
                top_p: 0.95,
                log_min_p: 0.05f32.ln(),
                temperature: 0.8,
                ..plain
            },
        ),
    ];
    let mut cases = Vec::new();
    for (name, rules) in rules {
        for (rows, vocab, advance) in [(1, 1, 0), (5, 301, 1), (3, 2048, 0)] {
            cases.push(Case::new("select", format!("{name} {rows}x{vocab}"), move |io| {
                build(io, rules, (rows, vocab, advance), |_, _| {})
            }));
        }
    }
    cases.push(Case::new("select", "nan in row 1 of 3x100", move |io| {
        build(io, plain, (3, 100, 1), |r, logits| {
            if r == 1 {
                logits[77] = f32::NAN
            }
        })
    }));
    cases.push(Case::new("select", "inf in row 1 of 3x100", move |io| {
        build(io, plain, (3, 100, 1), |r, logits| {
            if r == 1 {
                logits[99] = f32::INFINITY
            }
        })
    }));
    cases.push(Case::new("select", "all banned in row 2 of 3x100", move |io| {
        build(io, plain, (3, 100, 0), |r, logits| {
            if r == 2 {
                logits.fill(f32::NEG_INFINITY)
            }
        })
    }));
    cases.push(Case::new("select", "ties 4x64", move |io| {
        build(io, Rules { top_k: 3, ..plain }, (4, 64, 0), |_, logits| logits.fill(1.5))
    }));
    cases
}

fn build(
    io: &mut super::case::Io,
    rules: Rules,
    (rows, vocab, advance): (usize, usize, u32),
    spoil: impl Fn(usize, &mut [f32]),
) -> Result<()> {
    let mut logits = io.random.uniforms(rows * vocab, -6.0, 6.0);
    // Slots in another order than rows; a tenth of the ids banned in each (never id 0).
    let slot = |row: usize| rows - 1 - row;
    let mut bias: Vec<f32> = (0..rows * vocab)
        .map(|i| if i % vocab > 0 && io.random.below(10) == 0 { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let mut spoiled = false;
    for (r, logits) in logits.chunks_exact_mut(vocab).enumerate() {
        spoil(r, logits);
        if logits.iter().any(|v| !v.is_finite()) {
            spoiled = true;
            bias[slot(r) * vocab..][..vocab].fill(0.0);
        }
    }
    let all: Vec<Rules> = (0..size(rows)).map(|s| Rules { seed_low: rules.seed_low + s, ..rules }).collect();
    let entry = 2;
    let table: Vec<Row> = (0..size(rows) + entry)
        .map(|e| Row { slot: size(rows + 1).wrapping_sub(e), id: 0, position: 100 + e, version: 5 + e })
        .collect();
    // What each slot has read lately: as many tokens as its position says.
    let read: Vec<Vec<u32>> = (0..rows)
        .map(|s| (0..100 + rows - 1 - s + entry as usize).map(|_| size(io.random.below(vocab))).collect())
        .collect();
    let memory_of = |tokens: &[u32]| recent(tokens, tokens.len() as u64, rules.window as usize, vocab);
    let memory: Vec<u32> = read.iter().flat_map(|tokens| memory_of(tokens)).collect();
    let expected: Vec<(Vec<f64>, Rules, u32)> = (0..rows)
        .map(|r| {
            let row = wide(&logits[r * vocab..][..vocab]);
            let counts = &memory[slot(r) * (WINDOW + vocab) + WINDOW..];
            let biased = row.iter().zip(&bias[slot(r) * vocab..]).map(|(l, b)| l + f64::from(*b));
            let penalized = biased.zip(counts).map(|(v, count)| penalized(v, *count, &rules)).collect();
            (penalized, all[slot(r)], 100 + size(r) + entry + advance)
        })
        .collect();
    io.rows = rows;
    let judged = move |ids: &[u32]| {
        let mut worst = Reached::default();
        for (r, (id, (logits, rules, position))) in ids.iter().zip(&expected).enumerate() {
            match judge(*id, logits, rules, *position) {
                Ok(reached) if reached.share > worst.share => worst = reached,
                Ok(_) => {}
                Err(why) => return Err(Fault::Choice { output: format!("chosen[{r}]"), why }),
            }
        }
        Ok(worst)
    };
    let before = table.clone();
    let words: Vec<Option<u32>> = bytemuck::cast_slice::<Row, u32>(&table).iter().map(|w| Some(*w)).collect();
    let row_table = io.output_words("rows", &words, move |words| {
        let after: Vec<Row> = bytemuck::pod_collect_to_vec(words);
        for (e, (was, is)) in before.iter().zip(&after).enumerate() {
            let moved = if size(e) < entry { 0 } else { advance };
            let wanted = Row { id: is.id, position: was.position + moved, version: was.version + moved, ..*was };
            if *is != wanted || is.id as usize >= vocab || (size(e) < entry && is.id != was.id) {
                return Err(Fault::Choice { output: format!("rows[{e}]"), why: format!("is {is:?}, was {was:?}") });
            }
        }
        Ok(Reached::default())
    })?;
    let chosen = io.output_words("chosen", &vec![None; rows], judged)?;
    let start: Vec<Option<u32>> = memory.iter().map(|w| Some(*w)).collect();
    let remembered = move |words: &[u32]| {
        for (s, (words, before)) in words.chunks(WINDOW + vocab).zip(memory.chunks(WINDOW + vocab)).enumerate() {
            // Whatever was chosen: the place of its position has changed and the counts are those of the places.
            let window = rules.window as usize;
            let place = if window > 0 { (read[s].len() + advance as usize) % window } else { 0 };
            let mut counts = vec![0; vocab];
            for id in words[..WINDOW].iter().filter(|id| (**id as usize) < vocab) {
                counts[*id as usize] += 1;
            }
            let others = (0..WINDOW).find(|i| *i != place && words[*i] != before[*i]);
            let unwritten = window > 0 && words[place] == EMPTY && !spoiled;
            if others.is_some() || unwritten || counts != words[WINDOW..] || (window == 0 && words != before) {
                return Err(Fault::Choice {
                    output: format!("recent of slot {s}"),
                    why: "is not what was read".to_owned(),
                });
            }
        }
        Ok(Reached::default())
    };
    let recent = io.output_words("recent", &start, remembered)?;
    let logits_rows = Activation { buf: io.input("logits", &logits)?, width: vocab, stride: vocab };
    let batch = io.uniform(Batch { rows: size(rows), entry, advance, ..Default::default() })?;
    let (bias, rules) = (io.input("bias", &bias)?, io.input("rules", &all)?);
    let rows = row_table.reinterpret();
    Select { logits: &logits_rows, bias: &bias, rules: &rules, recent: &recent, rows: &rows, chosen: &chosen }
        .record(&mut io.plan, &batch)
}
