//! The choice of kernel forms by measuring them: on this adapter, for this model, once.

use super::config::Config;
use super::forward::Forward;
use super::options::ForwardOptions;
use super::weights::Weights;
use crate::error::Result;
use crate::gpu::{Gpu, link, write_atomic};
use crate::kernels::linear::{MatmulVariant, MatvecVariant};
use crate::kernels::variants::{Sizes, Variants};
use crate::kernels::{self, scan, ssm_step};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

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

/// Layers of a chunk that are timed: what one costs, the others cost.
const LAYERS: usize = 2;
/// How much faster than the static choice a form must be to replace it: less is noise.
const MARGIN: f64 = 0.97;

/// The forms for a model, by its options.
pub(super) async fn variants(
    gpu: &Gpu,
    config: &Config,
    weights: &Arc<Weights>,
    options: ForwardOptions,
) -> Result<Variants> {
    let sizes = Sizes {
        matrices: weights.step_matrices(),
        by_groups: weights.cut_by_groups(),
        channels: config.inner,
        states: config.state,
    };
    let table = || Variants::tried(gpu, options.math, &sizes);
    match options.tune {
        Tune::Off => Ok(Variants::portable(&sizes, options.math)),
        Tune::Static => table().await,
        Tune::Auto => {
            let start = table().await?;
            let key = key(gpu, config, weights, &start);
            let path = gpu.kept_file("tuned", &key, ".json");
            let kept = path.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Some(variants) = kept.and_then(|kept| read(&kept, &key, &start, gpu)) {
                return Ok(variants);
            }
            let (tuned, times) = measure(gpu, config, weights, options, start).await?;
            if let Some(path) = path {
                // Not to have kept it costs the next start the same again, and nothing else.
                let forms: serde_json::Map<_, _> = tuned.named().into_iter().map(|(k, v)| (k, v.into())).collect();
                let text = format!("{:#}", json!({ "key": key, "forms": forms, "us": times }));
                let _ = write_atomic(&path, text.as_bytes());
            }
            Ok(tuned)
        }
    }
}

/// Takes the fastest form of each product and of each other kernel, as they run among their like, where it is clearly faster
/// than the one that the adapter's table names.
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

/// Microseconds of a dispatch with each form, by what the forms are for.
type Times = serde_json::Map<String, Value>;

struct Tuner<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    weights: &'a Arc<Weights>,
    options: ForwardOptions,
    times: Times,
}

impl Tuner<'_> {
    /// The fastest of some forms, of which the first is the static choice, by their times in seconds.
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

    /// The products of a decode step: the n-th candidates of all matrices at once.
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

    /// The scan of a decode step.
    async fn step(&mut self, start: &Variants, best: &mut Variants) -> Result<()> {
        let forms = with_first(start.step, ssm_step::StepVariant::all(self.gpu.caps()));
        let mut times = vec![];
        for step in &forms {
            let mut forward = self.forward(Variants { step: *step, ..start.clone() })?;
            forward.heat()?;
            times.push(forward.seconds_of_step("ssm_step").await?);
        }
        best.step = self.fastest("step", &forms, &times);
        Ok(())
    }

    /// Products and scan of a chunk, at its real size.
    async fn chunk(&mut self, start: &Variants, best: &mut Variants) -> Result<()> {
        // Cooperative matrices have had their trial.
        let forms = MatmulVariant::all(self.gpu.caps()).into_iter();
        let forms = forms.filter(|form| !matches!(form, MatmulVariant::Coop(..))).collect();
        let forms = with_first(start.matmul, forms);
        let mut times = vec![];
        for matmul in &forms {
            let mut forward = self.forward(Variants { matmul: *matmul, ..start.clone() })?;
            times.push(forward.seconds_of_chunk(LAYERS, |purpose| purpose.ends_with("_proj")).await?);
        }
        best.matmul = self.fastest("matmul", &forms, &times);
        let scans = with_first(start.scan, scan::ScanVariant::all(self.gpu.caps()));
        let mut times = vec![];
        for scan in &scans {
            let mut forward = self.forward(Variants { scan: *scan, ..start.clone() })?;
            forward.heat()?;
            times.push(forward.seconds_of_chunk(LAYERS, |purpose| purpose.contains("scan")).await?);
        }
        best.scan = self.fastest("scan", &scans, &times);
        Ok(())
    }
}

/// These forms once each, the static choice first.
fn with_first<F: Copy + PartialEq>(first: F, forms: Vec<F>) -> Vec<F> {
    let mut all = vec![first];
    all.extend(forms.into_iter().filter(|form| *form != first));
    all
}

/// What a result holds for: adapter, driver, model, class of arithmetic, and the kernels themselves.
fn key(gpu: &Gpu, config: &Config, weights: &Weights, start: &Variants) -> String {
    let mut kernels = DefaultHasher::new();
    for def in kernels::all(gpu.caps()).into_iter().flat_map(|(defs, _)| defs) {
        (link(&def, gpu.caps()).wgsl, &def.overrides).hash(&mut kernels);
    }
    format!("{} · {config:?} · {} · {} · {:016x}", gpu.info(), weights.formats(), start.math, kernels.finish())
}

/// The variants that a file names, if it is about this key and every form is still known.
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
