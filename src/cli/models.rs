//! `peregrine models`: the models in the cache of the hub, whether they run here, and the short names.

use super::model::DeviceArgs;
use clap::{Args, ValueEnum};
use peregrine::gpu::{Caps, Gpu};
use peregrine::hub::{CachedModel, Format, Hub, HubSettings, SHORT_NAMES};
use peregrine::model::{Bytes, MemoryPlan, Room};
use peregrine::runtime::{Checkpoint, EngineOptions};
use peregrine::vision::VisionCheckpoint;
use serde_json::json;
use std::io::Write;
use std::path::Path;

#[derive(Args)]
pub struct Models {
    #[command(flatten)]
    device: DeviceArgs,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Whether a model runs on this device, and its device memory where that is known.
struct Verdict {
    /// `None` where the device does not report its free memory.
    runs: Option<bool>,
    memory: Option<u64>,
    said: String,
}

impl Verdict {
    fn no(said: impl Into<String>) -> Self {
        Verdict { runs: Some(false), memory: None, said: said.into() }
    }
}

impl Models {
    pub fn run(self) -> anyhow::Result<()> {
        let hub = Hub::new(HubSettings::from_env()?)?;
        let models = hub.cached_models()?;
        // Without models there is nothing to plan for.
        let gpu = if models.is_empty() { None } else { self.device.open(false).ok() };
        let models: Vec<(CachedModel, Verdict)> = models
            .into_iter()
            .map(|model| {
                let verdict = verdict(&model, gpu.as_ref());
                (model, verdict)
            })
            .collect();
        let cache = &hub.settings().cache;
        match self.output {
            Output::Text => print(cache, &models)?,
            Output::Json => {
                let listed = models.iter().map(|(model, verdict)| {
                    json!({
                        "name": model.name, "repo": model.repo, "revision": model.commit, "refs": model.refs,
                        "format": model.format.to_string(), "bytes": model.bytes, "path": model.path,
                        "runs": verdict.runs, "memory": verdict.memory, "why": verdict.said,
                    })
                });
                let names = SHORT_NAMES.iter().map(|short| json!({ "name": short.name, "repo": short.repo }));
                let report = json!({
                    "cache": cache, "models": listed.collect::<Vec<_>>(), "short_names": names.collect::<Vec<_>>(),
                });
                writeln!(std::io::stdout().lock(), "{report:#}")?;
            }
        }
        Ok(())
    }
}

fn print(cache: &Path, models: &[(CachedModel, Verdict)]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if models.is_empty() {
        writeln!(out, "no models in {}", cache.display())?;
    } else {
        writeln!(out, "models in {}:", cache.display())?;
    }
    let width = models.iter().map(|(model, _)| model.name.chars().count()).max().unwrap_or(0);
    for (CachedModel { name, commit, format, bytes, .. }, verdict) in models {
        let revision = commit.get(..12).unwrap_or("-");
        let (size, format) = (Bytes(*bytes).to_string(), format.to_string());
        writeln!(out, "  {name:width$}  {revision:12}  {size:>9}  {format:11}  {}", verdict.said)?;
    }
    writeln!(out, "short names, for -m and -hf:")?;
    let width = SHORT_NAMES.iter().map(|short| short.name.len()).max().unwrap_or(0);
    SHORT_NAMES.iter().try_for_each(|short| writeln!(out, "  {:width$}  {}", short.name, short.repo))
}

/// Opens a model, without its weights, and compares its memory plan with the device's free memory.
fn verdict(model: &CachedModel, gpu: Option<&Gpu>) -> Verdict {
    let Some(path) = &model.path else { return Verdict::no("not complete: run it again to continue the download") };
    if VisionCheckpoint::is_at(path) {
        return match VisionCheckpoint::open(path) {
            Ok(_) => Verdict { runs: Some(true), memory: None, said: "runs: peregrine classify".to_owned() },
            Err(error) => Verdict::no(error.to_string()),
        };
    }
    let planned = Checkpoint::open(path).and_then(|checkpoint| {
        // Without a device the plan uses WebGPU's guaranteed limits.
        let limit = gpu.map_or_else(|| Caps::portable().span_limit(), |gpu| gpu.caps().span_limit());
        let options = EngineOptions::default().slots(1);
        Ok((MemoryPlan::of(checkpoint.config(), &checkpoint.tensors()?, options, limit), options))
    });
    let (plan, options) = match planned {
        Ok(planned) => planned,
        Err(error) => return Verdict::no(error.to_string()),
    };
    let (needed, memory) = (Bytes(plan.total()), Some(plan.total()));
    let (runs, said) = match gpu.map(|gpu| Room::of(gpu, &options)) {
        None => (Some(false), format!("needs {needed} on a device; there is none")),
        Some(None) => (None, format!("needs {needed}; the driver does not report free memory")),
        Some(Some(room)) if room.holds(&plan) => (Some(true), format!("runs: needs {needed}")),
        Some(Some(room)) if matches!(model.format, Format::Gguf(_)) => {
            (Some(false), format!("needs {needed}, {room}: take a smaller quantization"))
        }
        Some(Some(room)) => {
            (Some(false), format!("needs {needed}, {room}: try --weights q4_K, or see peregrine inspect"))
        }
    };
    Verdict { runs, memory, said }
}
