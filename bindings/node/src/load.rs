//! Loading: a model from a path or the hub onto a device, with progress.

use crate::adapter;
use crate::calls::{Calls, Desk};
use crate::errors::{Failure, Outcome, Stopped};
use crate::model::Model;
use napi::bindgen_prelude::{Either, ToNapiValue};
use napi_derive::napi;
use peregrine::gpu::cache_dir;
use peregrine::hub::{Event, Hub, HubSettings, Location, ModelName};
use peregrine::runtime::{Math, Progress, Recipe, WeightFormat};
use peregrine::vision::VisionCheckpoint;
use peregrine::{AdapterChoice, Checkpoint, Engine, EngineOptions, Gpu, Sampling};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Slots of a model: a conversation, forks of it, and a place to read logits in.
const SLOTS: usize = 4;

/// Where a model goes. `lib/options.js` has checked the types.
#[napi(object, object_to_js = false)]
pub struct LoadOptions {
    pub gpu: Option<Either<u32, String>>,
    pub slots: Option<u32>,
    /// Of a vision model: most pictures at a time.
    pub batch: Option<u32>,
    pub weights: Option<String>,
    pub memory: Option<f64>,
    pub chunk: Option<u32>,
    pub math: Option<String>,
}

/// Tells JavaScript how far a load is, and ends it.
pub struct Report {
    desk: Arc<Desk>,
    call: u32,
    stop: Arc<AtomicBool>,
}

impl Report {
    /// Neither loads nor downloads return when they are told to stop, so this unwinds; both are built to be dropped at any moment.
    fn show(&self, stage: &'static str, done: u64, total: u64) {
        if self.stop.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Stopped));
        }
        self.desk.progress(self.call, stage, done, total);
    }

    pub fn upload(&self, progress: Progress) {
        self.show("load", progress.done, progress.total);
    }

    /// Says what is worth knowing about the model or the device.
    pub fn note(&self, note: String) {
        self.desk.note(self.call, note);
    }

    /// The path of a model of the hub, which is fetched.
    fn fetch(&self, name: &ModelName) -> peregrine::Result<PathBuf> {
        let hub = Hub::new(HubSettings::from_env()?)?;
        let check = |dir: &Path| match VisionCheckpoint::is_at(dir) {
            true => Ok(()),
            false => Checkpoint::check_architecture(dir),
        };
        let fetched = hub.fetch(name, &check, &mut |event| match event {
            Event::Progress { done, total, .. } => self.show("download", done, total),
            Event::Note(note) => self.note(note),
            _ => {}
        });
        Ok(fetched?.path)
    }
}

impl LoadOptions {
    pub fn memory(&self) -> Option<u64> {
        self.memory.map(|bytes| bytes as u64)
    }

    pub fn recipe(&self) -> Outcome<Recipe> {
        let Some(name) = &self.weights else { return Ok(Recipe::AsStored) };
        let names = || WeightFormat::ALL.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
        let format = WeightFormat::parse(name);
        format.map(Recipe::To).ok_or_else(|| Failure::Setting(format!("weights: no format {name:?}: {}", names())))
    }

    pub fn math(&self) -> Outcome<Math> {
        match self.math.as_deref() {
            None | Some("exact") => Ok(Math::Exact),
            Some("fast") => Ok(Math::Fast),
            Some(other) => Err(Failure::Setting(format!("math: {other:?} is neither \"exact\" nor \"fast\""))),
        }
    }

    fn engine(&self) -> Outcome<EngineOptions> {
        let slots = self.slots.map_or(SLOTS, |slots| slots as usize);
        let options = EngineOptions::default().slots(slots).weights(self.recipe()?).memory(self.memory());
        let options = options.math(self.math()?);
        Ok(self.chunk.map_or(options, |chunk| options.chunk(chunk as usize)))
    }
}

impl Desk {
    /// Loads what `load` makes of a device, a path, and where it reports to. Without a path the model is the compiled-in one.
    pub fn load<T: ToNapiValue + Send + 'static>(
        self: &Arc<Self>,
        call: u32,
        model: Option<String>,
        gpu: AdapterChoice,
        load: impl FnOnce(&Gpu, Option<PathBuf>, &Report) -> Outcome<T> + Send + 'static,
    ) {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Report { desk: self.clone(), call, stop: stop.clone() };
        let work = move || {
            let path = match model.map(|model| Location::of(Path::new(&model))).transpose()? {
                None => None,
                Some(Location::Path(path)) => Some(path),
                Some(Location::Hub(name)) => Some(report.fetch(&name)?),
            };
            let gpu = Gpu::open(&gpu)?;
            if let Some(dir) = cache_dir() {
                gpu.keep_in(&dir)?;
            }
            let model = load(&gpu, path, &report)?;
            // Only the next start is slower without them.
            let _ = gpu.save_pipelines();
            for note in gpu.take_notes() {
                report.note(note);
            }
            Ok(model)
        };
        self.begin(call, move || stop.store(true, Ordering::Relaxed), work);
    }
}

#[napi]
impl Calls {
    /// Replies with a loaded language model.
    #[napi(catch_unwind)]
    pub fn load(&self, call: u32, model: Option<String>, options: LoadOptions) {
        let desk = self.desk().clone();
        let gpu = adapter::choice(options.gpu.clone());
        self.desk().load(call, model, gpu, move |gpu, path, report| {
            let options = options.engine()?;
            let checkpoint = path.map_or_else(Checkpoint::embedded, Checkpoint::open)?;
            let unknown = &checkpoint.unused_keys().unknown;
            if !unknown.is_empty() {
                report.note(format!("{}: ignoring unknown keys: {}", checkpoint.label(), unknown.join(", ")));
            }
            let engine = Engine::load(gpu, checkpoint, options, &mut |progress| report.upload(progress))?;
            // The first session compiles nothing more, and shows that the device works.
            drop(engine.session(Sampling::GREEDY)?);
            Ok(Model::new(&desk, engine))
        });
    }
}
