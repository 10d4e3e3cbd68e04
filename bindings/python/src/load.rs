//! Loading: a model from a path or the hub onto a device, with progress, and an end when Ctrl-C is pressed.

use crate::adapter;
use crate::errors::{Outcome, Stopped};
use crate::model::Model;
use crate::wait::wait_or_leave;
use peregrine::gpu::cache_dir;
use peregrine::hub::{Event, Hub, HubSettings, Location, ModelName};
use peregrine::runtime::{Math, Progress, Recipe, WeightFormat};
use peregrine::vision::VisionCheckpoint;
use peregrine::{AdapterChoice, Checkpoint, Engine, EngineOptions, Gpu, Sampling};
use pyo3::exceptions::{PyUserWarning, PyValueError};
use pyo3::prelude::*;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Slots of a model: a conversation, forks of it, and a place to read logits in.
const SLOTS: usize = 4;

/// Tells Python how far a load is, and ends it.
pub struct Report {
    progress: Option<Py<PyAny>>,
    stop: Arc<AtomicBool>,
    notes: Vec<String>,
}

impl Report {
    /// Calls `progress(stage, done, total)`. Neither loads nor downloads return when they are told to stop, so this unwinds; both are
    /// built to be dropped at any moment.
    fn show(&self, stage: &str, done: u64, total: u64) {
        if self.stop.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Stopped(None)));
        }
        let Some(progress) = &self.progress else { return };
        if let Err(raised) = Python::attach(|py| progress.call1(py, (stage, done, total)).map(drop)) {
            resume_unwind(Box::new(Stopped(Some(raised))));
        }
    }

    pub fn upload(&self, progress: Progress) {
        self.show("load", progress.done, progress.total);
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The path of a model; one of the hub is fetched.
    fn fetch(&mut self, name: &ModelName) -> peregrine::Result<PathBuf> {
        let hub = Hub::new(HubSettings::from_env()?)?;
        let check = |dir: &std::path::Path| match VisionCheckpoint::is_at(dir) {
            true => Ok(()),
            false => Checkpoint::check_architecture(dir),
        };
        let fetched = hub.fetch(name, &check, &mut |event| match event {
            Event::Progress { done, total, .. } => self.show("download", done, total),
            Event::Note(note) => self.notes.push(note),
            _ => {}
        });
        Ok(fetched?.path)
    }
}

/// Loads in the background; notes become warnings of Python.
pub fn load_with<T: Send + 'static>(
    py: Python<'_>,
    model: Option<PathBuf>,
    gpu: Option<&Bound<'_, PyAny>>,
    progress: Option<Py<PyAny>>,
    load: impl FnOnce(&Gpu, Option<PathBuf>, &mut Report) -> peregrine::Result<T> + Send + 'static,
) -> PyResult<T> {
    let choice = adapter::choice(gpu)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let work = move || -> Outcome<(T, Vec<String>)> {
        let mut report = Report { progress, stop: stopped, notes: vec![] };
        let path = match model.map(|model| Location::of(&model)).transpose()? {
            None => None,
            Some(Location::Path(path)) => Some(path),
            Some(Location::Hub(name)) => Some(report.fetch(&name)?),
        };
        let gpu = open(&choice)?;
        let loaded = load(&gpu, path, &mut report)?;
        // Only the next start is slower without them.
        let _ = gpu.save_pipelines();
        report.notes.extend(gpu.take_notes());
        Ok((loaded, report.notes))
    };
    let (loaded, notes) = wait_or_leave(py, &|| stop.store(true, Ordering::Relaxed), work)?;
    for note in notes {
        py.import("warnings")?.call_method1("warn", (note, py.get_type::<PyUserWarning>()))?;
    }
    Ok(loaded)
}

fn open(choice: &AdapterChoice) -> peregrine::Result<Gpu> {
    let gpu = Gpu::open(choice)?;
    if let Some(dir) = cache_dir() {
        gpu.keep_in(&dir)?;
    }
    Ok(gpu)
}

/// What `weights=` says.
pub fn recipe(weights: Option<&str>) -> PyResult<Recipe> {
    let Some(name) = weights else { return Ok(Recipe::AsStored) };
    let names = || WeightFormat::ALL.map(WeightFormat::name).join(", ");
    let format = WeightFormat::parse(name);
    format.map(Recipe::To).ok_or_else(|| PyValueError::new_err(format!("weights: no format {name:?}: {}", names())))
}

/// What `math=` says.
pub fn math(math: &str) -> PyResult<Math> {
    match math {
        "exact" => Ok(Math::Exact),
        "fast" => Ok(Math::Fast),
        other => Err(PyValueError::new_err(format!("math: {other:?} is neither \"exact\" nor \"fast\""))),
    }
}

/// Loads a language model.
#[pyfunction]
#[pyo3(signature = (model=None, *, gpu=None, slots=SLOTS, weights=None, memory=None, chunk=None, math="exact", progress=None))]
#[allow(clippy::too_many_arguments, reason = "they are keyword arguments")]
pub fn load(
    py: Python<'_>,
    model: Option<PathBuf>,
    gpu: Option<&Bound<'_, PyAny>>,
    slots: usize,
    weights: Option<&str>,
    memory: Option<u64>,
    chunk: Option<usize>,
    math: &str,
    progress: Option<Py<PyAny>>,
) -> PyResult<Model> {
    let options =
        EngineOptions::default().slots(slots).weights(recipe(weights)?).memory(memory).math(self::math(math)?);
    let options = chunk.map_or(options, |chunk| options.chunk(chunk));
    let engine = load_with(py, model, gpu, progress, move |gpu, path, report| {
        let checkpoint = path.map_or_else(Checkpoint::embedded, Checkpoint::open)?;
        let unknown = &checkpoint.unused_keys().unknown;
        if !unknown.is_empty() {
            report.note(format!("{}: ignoring unknown keys: {}", checkpoint.label(), unknown.join(", ")));
        }
        let engine = Engine::load(gpu, checkpoint, options, &mut |progress| report.upload(progress))?;
        // The first session compiles nothing more, and shows that the device works.
        drop(engine.session(Sampling::GREEDY)?);
        Ok(engine)
    })?;
    Ok(Model::new(engine))
}
