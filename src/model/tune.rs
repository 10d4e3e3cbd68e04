//! Autotuning: chooses kernel forms by measuring them once on this adapter with this model.

use super::architecture::Tuned;
use super::config::Config;
use super::first_use;
use super::forward::Forward;
use super::options::{ForwardOptions, Tune};
use super::weights::Weights;
use crate::error::Result;
use crate::gpu::{Gpu, link};
use crate::kernels::linear::{MatmulVariant, MatvecVariant};
use crate::kernels::variants::Variants;
use crate::kernels::{self, scan, ssm_step};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Layers of a chunk that are timed; all layers cost the same.
const LAYERS: usize = 2;
/// A form replaces the static choice if it takes less than this share of its time; smaller gains are noise.
const MARGIN: f64 = 0.97;

/// The forms for a model, by its options.
pub(super) async fn variants(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
) -> Result<Variants> {
    let sizes = config.architecture.kernel_sizes(weights);
    let portable = Variants::portable(&sizes, options.math);
    let table = async || first_use::checked(gpu, Variants::tried(gpu, options.math, &sizes).await?, &portable).await;
    match options.tune {
        Tune::Off => Ok(portable),
        Tune::Static => table().await,
        Tune::Auto => {
            let start = table().await?;
            let key = key(gpu, config, weights, &start);
            let kept = gpu.found("tuned", &key, ".json");
            if let Some(variants) = kept.and_then(|kept| read(kept.as_bytes(), &key, &start, gpu)) {
                return Ok(variants);
            }
            let (tuned, times) = measure(gpu, config, weights, options, start).await?;
            let forms: serde_json::Map<_, _> = tuned.named().into_iter().map(|(k, v)| (k, v.into())).collect();
            let text = format!("{:#}", json!({ "key": key, "forms": forms, "us": times }));
            gpu.keep("tuned", &key, ".json", text);
            Ok(tuned)
        }
    }
}

/// Picks the fastest form of each product and of each other kernel, timed in a row, where it is clearly faster than the static
/// choice.
async fn measure(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
    start: Variants,
) -> Result<(Variants, Times)> {
    let mut tuner = Tuner { gpu, config, weights, options, times: Times::new() };
    let mut best = start.clone();
    tuner.products(&start, &mut best).await?;
    tuner.step(&start, &mut best).await?;
    tuner.chunk(&start, &mut best).await?;
    Ok((best, tuner.times))
}

/// Microseconds of a dispatch with each form, by kernel.
type Times = serde_json::Map<String, Value>;

struct Tuner<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    weights: &'a Arc<Weights>,
    options: ForwardOptions,
    times: Times,
}

impl Tuner<'_> {
    /// The fastest of some forms by their times in seconds. The first is the static choice.
    fn fastest<F: Copy + std::fmt::Display>(&mut self, what: &str, forms: &[F], times: &[f64]) -> F {
        let mut of_forms = Times::new();
        for (form, seconds) in forms.iter().zip(times) {
            of_forms.insert(form.to_string(), json!((seconds * 1e8).round() / 100.0));
        }
        self.times.insert(what.to_owned(), of_forms.into());
        let best = (0..times.len()).min_by(|a, b| times[*a].total_cmp(&times[*b])).unwrap_or(0);
        forms[if times[best] < MARGIN * times[0] { best } else { 0 }]
    }

    fn forward(&self, variants: Variants) -> Result<Forward> {
        let options = ForwardOptions { slots: 1, ..self.options };
        Forward::with_variants(self.gpu, self.config, self.weights.clone(), options, variants)
    }

    /// Tunes the products of a decode step: the n-th candidates of all matrices are timed together.
    async fn products(&mut self, start: &Variants, best: &mut Variants) -> Result<()> {
        let candidates: Vec<Vec<MatvecVariant>> =
            start.products.iter().map(|p| p.variant.candidates(self.gpu.caps(), &p.matrix)).collect();
        let most = candidates.iter().map(Vec::len).max().unwrap_or(0);
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); candidates.len()];
        for n in 0..most {
            let mut variants = start.clone();
            for (product, forms) in variants.products.iter_mut().zip(&candidates) {
                product.variant = forms[n.min(forms.len() - 1)];
            }
            let mut forward = self.forward(variants.clone())?;
            forward.heat()?;
            for (product, times) in variants.products.iter().zip(&mut times) {
                times.push(forward.seconds_of_product(&product.matrix).await?);
            }
        }
        for ((product, forms), times) in best.products.iter_mut().zip(&candidates).zip(&times) {
            product.variant = self.fastest(&product.to_string(), forms, &times[..forms.len()]);
        }
        Ok(())
    }

    /// Tunes the scan of a decode step.
    async fn step(&mut self, start: &Variants, best: &mut Variants) -> Result<()> {
        let forms = with_first(start.step, ssm_step::StepVariant::all(self.gpu.caps()));
        let mut times = vec![];
        for step in &forms {
            let mut forward = self.forward(Variants { step: *step, ..start.clone() })?;
            forward.heat()?;
            times.push(forward.seconds_of_step(Tuned::StepScan).await?);
        }
        best.step = self.fastest("step", &forms, &times);
        Ok(())
    }

    /// Tunes products and scan of a full chunk.
    async fn chunk(&mut self, start: &Variants, best: &mut Variants) -> Result<()> {
        // The trial of cooperative matrices has already decided on them.
        let forms = MatmulVariant::all(self.gpu.caps()).into_iter();
        let forms = forms.filter(|form| !matches!(form, MatmulVariant::Coop(..))).collect();
        let forms = with_first(start.matmul, forms);
        let mut times = vec![];
        for matmul in &forms {
            let mut forward = self.forward(Variants { matmul: *matmul, ..start.clone() })?;
            times.push(forward.seconds_of_chunk(LAYERS, Tuned::ChunkProducts).await?);
        }
        best.matmul = self.fastest("matmul", &forms, &times);
        let scans = with_first(start.scan, scan::ScanVariant::all(self.gpu.caps()));
        let mut times = vec![];
        for scan in &scans {
            let mut forward = self.forward(Variants { scan: *scan, ..start.clone() })?;
            forward.heat()?;
            times.push(forward.seconds_of_chunk(LAYERS, Tuned::ChunkScan).await?);
        }
        best.scan = self.fastest("scan", &scans, &times);
        Ok(())
    }
}

/// These forms, each once, the static choice first.
fn with_first<F: Copy + PartialEq>(first: F, forms: Vec<F>) -> Vec<F> {
    let mut all = vec![first];
    all.extend(forms.into_iter().filter(|form| *form != first));
    all
}

/// The cache key: adapter, driver, model, class of arithmetic, and the kernels' source.
fn key(gpu: &Gpu, config: &Config, weights: &Weights, start: &Variants) -> String {
    let mut kernels = DefaultHasher::new();
    for def in kernels::all(gpu.caps()).into_iter().flat_map(|(defs, _)| defs) {
        (link(&def, gpu.caps()).wgsl, &def.overrides).hash(&mut kernels);
    }
    format!("{} · {config:?} · {} · {} · {:016x}", gpu.info(), weights.formats(), start.math, kernels.finish())
}

/// Reads cached variants, if their key matches and every form still exists.
fn read(kept: &[u8], key: &str, start: &Variants, gpu: &Gpu) -> Option<Variants> {
    let kept: Value = serde_json::from_slice(kept).ok()?;
    let forms = kept["forms"].as_object().filter(|_| kept["key"] == key)?;
    let named = |what: &str| forms.get(what).and_then(Value::as_str);
    let mut variants = start.clone();
    for product in &mut variants.products {
        let name = named(&product.to_string())?;
        let candidates = product.variant.candidates(gpu.caps(), &product.matrix);
        product.variant = candidates.into_iter().find(|form| form.to_string() == name)?;
    }
    let step = ssm_step::StepVariant::all(gpu.caps()).into_iter();
    variants.step = step.chain([start.step]).find(|form| Some(form.to_string().as_str()) == named("step"))?;
    let matmul = MatmulVariant::all(gpu.caps()).into_iter();
    variants.matmul = matmul.chain([start.matmul]).find(|form| Some(form.to_string().as_str()) == named("matmul"))?;
    let scan = scan::ScanVariant::all(gpu.caps()).into_iter();
    variants.scan = scan.chain([start.scan]).find(|form| Some(form.to_string().as_str()) == named("scan"))?;
    Some(variants)
}
