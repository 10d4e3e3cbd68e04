//! The choice of kernel forms by measuring them: on this adapter, for this model, once.

use super::config::Config;
use super::forward::Forward;
use super::options::ForwardOptions;
use super::weights::Weights;
use crate::error::Result;
use crate::gpu::{Gpu, link, write_whole};
use crate::kernels;
use crate::kernels::variants::{Part, Variants};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the forms of kernels are chosen. None changes the class of arithmetic; sums may run in another order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tune {
    /// The forms that run anywhere.
    Off,
    /// By what the adapter is and can do.
    #[default]
    Static,
    /// By measuring each on this adapter with this model; kept where [`Gpu::keep_in`] says.
    Auto,
}

/// Tokens of the chunk that is timed.
const TOKENS: usize = 128;
/// Runs of each, of which the best counts; the first compiles.
const RUNS: usize = 4;

/// The forms for a model, by its options.
pub(super) fn variants(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
) -> Result<Variants> {
    let table = || Variants::tried(gpu, options.math, config.inner, config.state);
    match options.tune {
        Tune::Off => Ok(Variants { math: options.math, ..Variants::portable() }),
        Tune::Static => table(),
        Tune::Auto => {
            let start = table()?;
            let key = key(gpu, config, weights, &start);
            let path = gpu.kept_in().map(|dir| path(dir, &key));
            let kept = path.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Some(variants) = kept.and_then(|kept| read(&kept, &key, start, gpu)) {
                return Ok(variants);
            }
            let tuned = measure(gpu, config, weights, options, start)?;
            if let Some(path) = path {
                // Not to have kept it costs the next start the same again, and nothing else.
                let text = format!("{:#}", json!({ "key": key, "forms": tuned.to_string() }));
                let _ = write_whole(&path, text.as_bytes());
            }
            Ok(tuned)
        }
    }
}

/// Takes the fastest form of each family, one family after the other.
fn measure(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
    start: Variants,
) -> Result<Variants> {
    let mut best = start;
    for family in 0..start.alternatives(gpu.caps()).len() {
        let (part, forms) = best.alternatives(gpu.caps()).swap_remove(family);
        let mut fastest = Duration::MAX;
        let mut winner = best;
        for variants in forms {
            let time = time(gpu, config, weights, options, variants, part)?;
            if time < fastest {
                (fastest, winner) = (time, variants);
            }
        }
        best = winner;
    }
    Ok(best)
}

fn time(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
    variants: Variants,
    part: Part,
) -> Result<Duration> {
    let options = ForwardOptions { slots: 1, chunk: options.chunk.min(TOKENS), ..options };
    let mut forward = Forward::with_variants(gpu, config, weights.clone(), options, variants)?;
    let ids: Vec<u32> = (0..options.chunk).map(|i| (i % config.vocab) as u32).collect();
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        forward.reset(0)?;
        gpu.flush()?;
        let started = Instant::now();
        match part {
            Part::Chunk => {
                forward.feed(0, &ids)?;
                gpu.flush()?;
            }
            Part::Step => {
                forward.set_next(0, ids[0])?;
                forward.set_decoding(&[0])?;
                let step = forward.step()?;
                pollster::block_on(forward.chosen(step))?;
            }
        }
        best = best.min(started.elapsed());
    }
    Ok(best)
}

/// What a result holds for: adapter, driver, model, class of arithmetic, and the kernels themselves.
fn key(gpu: &Gpu, config: &Config, weights: &Weights, start: &Variants) -> String {
    let mut kernels = DefaultHasher::new();
    for def in kernels::all(gpu.caps()).into_iter().flat_map(|(defs, _)| defs) {
        (link(&def, gpu.caps()).wgsl, &def.overrides).hash(&mut kernels);
    }
    format!("{} · {config:?} · {} · {} · {:016x}", gpu.info(), weights.formats(), start.math, kernels.finish())
}

fn path(dir: &std::path::Path, key: &str) -> PathBuf {
    let mut name = DefaultHasher::new();
    key.hash(&mut name);
    dir.join(format!("tuned-{:016x}.json", name.finish()))
}

/// The variants that a file names, if it is about this key and every form is still known.
fn read(kept: &[u8], key: &str, start: Variants, gpu: &Gpu) -> Option<Variants> {
    let kept: Value = serde_json::from_slice(kept).ok()?;
    let forms = kept["forms"].as_str().filter(|_| kept["key"] == key)?;
    let mut names = forms.split(" · ");
    let mut variants = start;
    for family in 0..start.alternatives(gpu.caps()).len() {
        let name = names.next()?;
        let (_, forms) = variants.alternatives(gpu.caps()).swap_remove(family);
        variants = forms.into_iter().find(|v| v.to_string().split(" · ").nth(family) == Some(name))?;
    }
    Some(variants)
}
