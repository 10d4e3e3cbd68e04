//! Cases of the selection: every parameter, alone and combined, against the twin's probabilities.

use super::{
    ALL_BANNED, EMPTY, NOT_FINITE, SamplingParams, Select, SelectVariant, Tallies, WINDOW, cpu, draw, penalized, recent,
};
use crate::error::Result;
use crate::kernels::activation::{Activation, Order};
use crate::kernels::batch::{Batch, RowEntry};
use crate::kernels::case::{Case, Io, Mismatch, Reached, wide};
use crate::kernels::sizes::size;

/// How far the draw may be outside of the twin's interval for the selected id: f32 sums of a few thousand terms.
const DRAW_SLACK: f64 = 2e-5;

/// Whether parameters and draw allow `id`.
fn judge(id: u32, logits: &[f64], rules: &SamplingParams, position: u32) -> Result<Reached, String> {
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
    Ok(Reached { max_abs: outside, share: outside / DRAW_SLACK, ..Default::default() })
}

pub(in crate::kernels) fn cases() -> Vec<Case> {
    let plain = SamplingParams { temperature: 1.0, seed_low: 42, seed_high: 7, ..SamplingParams::GREEDY };
    let penalties = SamplingParams { repeat_penalty: 1.3, presence_penalty: 0.4, frequency_penalty: 0.2, ..plain };
    let rules = [
        ("greedy", SamplingParams { temperature: 0.0, top_k: 3, top_p: 0.5, ..plain }),
        ("plain", plain),
        ("hot", SamplingParams { temperature: 2.5, ..plain }),
        ("top_k 5", SamplingParams { top_k: 5, ..plain }),
        ("top_k 1", SamplingParams { top_k: 1, ..plain }),
        ("top_k 300", SamplingParams { top_k: 300, ..plain }),
        ("top_k 300 top_p 0.9", SamplingParams { top_k: 300, top_p: 0.9, ..plain }),
        ("top_p 0.7", SamplingParams { top_p: 0.7, temperature: 0.8, ..plain }),
        ("top_p 0", SamplingParams { top_p: 0.0, ..plain }),
        ("min_p 0.1", SamplingParams { log_min_p: 0.1f32.ln(), ..plain }),
        ("penalties of 64", SamplingParams { window: 64, ..penalties }),
        ("penalties of 4096, greedy", SamplingParams { window: 4096, temperature: 0.0, ..penalties }),
        ("rewards of 3", SamplingParams { window: 3, repeat_penalty: 0.5, presence_penalty: -1.0, ..penalties }),
        (
            "all rules",
            SamplingParams {
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
        let large = ["greedy", "plain", "top_p 0.7", "all rules"].contains(&name).then_some((1, 65_024, 0));
        let whole = [(1, 1, 0), (5, 301, 1), (3, 2048, 0)].map(|shape| (SelectVariant::Whole, shape));
        let slices =
            [(1, 1, 0), (5, 301, 1), (2, 5000, 1)].into_iter().chain(large).map(|shape| (SelectVariant::Slices, shape));
        for (variant, (rows, vocab, advance)) in whole.into_iter().chain(slices) {
            cases.push(Case::new("select", format!("{variant:?} {name} {rows}x{vocab}"), move |io| {
                build(io, (variant, rules), Size { rows, vocab, advance }, |_, _| {})
            }));
        }
    }
    for variant in [SelectVariant::Whole, SelectVariant::Slices] {
        let all = SamplingParams { top_k: 40, top_p: 0.95, log_min_p: 0.05f32.ln(), temperature: 0.8, ..plain };
        for (rules, kind) in [(plain, "plain"), (all, "all rules"), (SamplingParams { top_k: 0, ..all }, "top_p")] {
            cases.push(Case::new("select", format!("{variant:?} {kind}, nan in row 1 of 3x100"), move |io| {
                build(io, (variant, rules), Size { rows: 3, vocab: 100, advance: 1 }, |r, logits| {
                    if r == 1 {
                        logits[77] = f32::NAN
                    }
                })
            }));
            cases.push(Case::new("select", format!("{variant:?} {kind}, inf in row 1 of 3x100"), move |io| {
                build(io, (variant, rules), Size { rows: 3, vocab: 100, advance: 1 }, |r, logits| {
                    if r == 1 {
                        logits[99] = f32::INFINITY
                    }
                })
            }));
            cases.push(Case::new("select", format!("{variant:?} {kind}, all banned in row 2 of 3x100"), move |io| {
                build(io, (variant, rules), Size { rows: 3, vocab: 100, advance: 0 }, |r, logits| {
                    if r == 2 {
                        logits.fill(f32::NEG_INFINITY)
                    }
                })
            }));
            cases.push(Case::new("select", format!("{variant:?} {kind}, ties 2x3000"), move |io| {
                build(io, (variant, rules), Size { rows: 2, vocab: 3000, advance: 0 }, |_, logits| logits.fill(1.5))
            }));
        }
        cases.push(Case::new("select", format!("{variant:?} ties 4x64"), move |io| {
            build(
                io,
                (variant, SamplingParams { top_k: 3, ..plain }),
                Size { rows: 4, vocab: 64, advance: 0 },
                |_, logits| logits.fill(1.5),
            )
        }));
    }
    cases
}

/// Size of a case, and whether slots advance.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    vocab: usize,
    advance: u32,
}

fn build(
    io: &mut Io,
    (variant, rules): (SelectVariant, SamplingParams),
    Size { rows, vocab, advance }: Size,
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
    let all: Vec<SamplingParams> =
        (0..size(rows)).map(|s| SamplingParams { seed_low: rules.seed_low + s, ..rules }).collect();
    let entry = 2;
    let table: Vec<RowEntry> = (0..size(rows) + entry)
        .map(|e| RowEntry { slot: size(rows + 1).wrapping_sub(e), id: 0, position: 100 + e, version: 5 + e })
        .collect();
    // The tokens that each slot has read: as many as its position.
    let read: Vec<Vec<u32>> = (0..rows)
        .map(|s| (0..100 + rows - 1 - s + entry as usize).map(|_| size(io.random.below(vocab))).collect())
        .collect();
    let memory_of = |tokens: &[u32]| recent(tokens, tokens.len() as u64, rules.window as usize, vocab);
    let memory: Vec<u32> = read.iter().flat_map(|tokens| memory_of(tokens)).collect();
    let expected: Vec<(Vec<f64>, SamplingParams, u32)> = (0..rows)
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
                Err(why) => return Err(Mismatch::Token { output: format!("chosen[{r}]"), why }),
            }
        }
        Ok(worst)
    };
    let before = table.clone();
    let words: Vec<Option<u32>> = bytemuck::cast_slice::<RowEntry, u32>(&table).iter().map(|w| Some(*w)).collect();
    let row_table = io.output_words("rows", &words, move |words| {
        let after: Vec<RowEntry> = bytemuck::pod_collect_to_vec(words);
        for (e, (was, is)) in before.iter().zip(&after).enumerate() {
            let moved = if size(e) < entry { 0 } else { advance };
            let wanted = RowEntry { id: is.id, position: was.position + moved, version: was.version + moved, ..*was };
            if *is != wanted || is.id as usize >= vocab || (size(e) < entry && is.id != was.id) {
                return Err(Mismatch::Token { output: format!("rows[{e}]"), why: format!("is {is:?}, was {was:?}") });
            }
        }
        Ok(Reached::default())
    })?;
    let chosen = io.output_words("chosen", &vec![None; rows], judged)?;
    let start: Vec<Option<u32>> = memory.iter().map(|w| Some(*w)).collect();
    let remembered = move |words: &[u32]| {
        for (s, (words, before)) in words.chunks(WINDOW + vocab).zip(memory.chunks(WINDOW + vocab)).enumerate() {
            // For any selected token: only the entry of its position has changed, and the counts match the entries.
            let window = rules.window as usize;
            let place = if window > 0 { (read[s].len() + advance as usize) % window } else { 0 };
            let mut counts = vec![0; vocab];
            for id in words[..WINDOW].iter().filter(|id| (**id as usize) < vocab) {
                counts[*id as usize] += 1;
            }
            let others = (0..WINDOW).find(|i| *i != place && words[*i] != before[*i]);
            let unwritten = window > 0 && words[place] == EMPTY && !spoiled;
            if others.is_some() || unwritten || counts != words[WINDOW..] || (window == 0 && words != before) {
                return Err(Mismatch::Token {
                    output: format!("recent of slot {s}"),
                    why: "does not match the tokens read".to_owned(),
                });
            }
        }
        Ok(Reached::default())
    };
    let recent = io.output_words("recent", &start, remembered)?;
    // Each row's logits are those of its slot's version after the step; the other version must not be read.
    let versions = 2;
    let mut of_slots = vec![f32::NAN; rows * versions * vocab];
    for (r, logits) in logits.chunks_exact(vocab).enumerate() {
        let version = (5 + size(r) + entry + advance) as usize % versions;
        of_slots[(slot(r) * versions + version) * vocab..][..vocab].copy_from_slice(logits);
    }
    let of_slots = Activation { buf: io.input("logits", &of_slots)?, width: vocab, stride: vocab, order: Order::Plain };
    let batch = io.uniform(Batch { rows: size(rows), entry, advance, ..Default::default() })?;
    let (bias, rules) = (io.input("bias", &bias)?, io.input("rules", &all)?);
    let rows = row_table.reinterpret();
    let select = Select {
        logits: &of_slots,
        versions,
        bias: &bias,
        rules: &rules,
        recent: &recent,
        rows: &rows,
        chosen: &chosen,
        tallies: &Tallies::new(&io.gpu, variant, io.rows, vocab)?,
    };
    select.record(&mut io.plan, &batch)
}
