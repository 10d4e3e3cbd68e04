//! Pictures: classes and features by a Vision Mamba.

use crate::adapter::Adapter;
use crate::array::Array;
use crate::load::{load_with, recipe};
use crate::wait::call;
use peregrine::vision::{self, FeatureMap, FeatureOptions, Picture, VisionCheckpoint, VisionOptions};
use peregrine_bindings::Place;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

const NAMES: [&str; 2] = ["model", "the model is busy with another call"];

#[pyclass(frozen, module = "peregrine")]
pub struct VisionModel {
    label: String,
    adapter: Adapter,
    classes: Vec<String>,
    place: Arc<Place<vision::VisionModel>>,
}

/// A class of a picture.
#[pyclass(frozen, get_all, module = "peregrine")]
pub struct Class {
    index: usize,
    name: String,
    logit: f32,
    probability: f32,
}

#[pymethods]
impl Class {
    fn __repr__(&self) -> String {
        format!("<peregrine.Class {}: {:?}, {:.1} %>", self.index, self.name, 100.0 * self.probability)
    }
}

/// Features of a picture.
#[pyclass(frozen, get_all, module = "peregrine")]
pub struct Features {
    class_token: Py<Array>,
    map: Option<Py<Array>>,
    layers: Vec<Py<Array>>,
}

impl Features {
    fn new(py: Python<'_>, features: vision::Features) -> PyResult<Self> {
        let map = |map: FeatureMap| Py::new(py, Array::new(map.values, &[map.channels, map.height, map.width]));
        let width = features.class_token.len();
        Ok(Features {
            class_token: Py::new(py, Array::new(features.class_token, &[width]))?,
            map: features.map.map(map).transpose()?,
            layers: features.layers.into_iter().map(map).collect::<PyResult<_>>()?,
        })
    }
}

/// A picture given as a path, or as the bytes of a file.
enum Source {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

impl Source {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        match given.extract::<PathBuf>() {
            Ok(path) => Ok(Source::Path(path)),
            Err(_) => given
                .extract::<&[u8]>()
                .map(|bytes| Source::Bytes(bytes.to_vec()))
                .map_err(|_| PyTypeError::new_err("a picture is a path, or the bytes of a picture's file")),
        }
    }

    fn open(&self) -> peregrine::Result<Picture> {
        match self {
            Source::Path(path) => Picture::open(path),
            Source::Bytes(bytes) => Picture::decode("the picture", bytes),
        }
    }
}

/// One picture, or several.
struct Given {
    sources: Vec<Source>,
    one: bool,
}

impl Given {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(source) = Source::of(given) {
            return Ok(Given { sources: vec![source], one: true });
        }
        let sources = given.try_iter().map_err(|_| PyTypeError::new_err("pictures are paths, or bytes of files"))?;
        Ok(Given { sources: sources.map(|source| Source::of(&source?)).collect::<PyResult<_>>()?, one: false })
    }

    fn open(&self) -> peregrine::Result<Vec<Picture>> {
        self.sources.iter().map(Source::open).collect()
    }

    /// The result of one picture, or the list of results.
    fn result<'py, T: IntoPyObject<'py>>(&self, py: Python<'py>, mut all: Vec<T>) -> PyResult<Bound<'py, PyAny>> {
        match self.one.then(|| all.pop()).flatten() {
            Some(one) => one.into_bound_py_any(py),
            None => all.into_bound_py_any(py),
        }
    }
}

/// Loads a vision model.
#[pyfunction]
#[pyo3(signature = (model=None, *, gpu=None, batch=None, weights=None, memory=None, math="exact", progress=None))]
#[allow(clippy::too_many_arguments, reason = "they are keyword arguments")]
pub fn load_vision(
    py: Python<'_>,
    model: Option<PathBuf>,
    gpu: Option<&Bound<'_, PyAny>>,
    batch: Option<usize>,
    weights: Option<&str>,
    memory: Option<u64>,
    math: &str,
    progress: Option<Py<PyAny>>,
) -> PyResult<VisionModel> {
    let options = VisionOptions::default().batch(batch).weights(recipe(weights)?).memory(memory);
    let options = options.math(crate::load::math(math)?);
    let model = load_with(py, model, gpu, progress, move |gpu, path, report| {
        let checkpoint = path.map_or_else(VisionCheckpoint::embedded, VisionCheckpoint::open)?;
        vision::VisionModel::load(gpu, checkpoint, options, &mut |progress| report.upload(progress))
    })?;
    let (checkpoint, cancel) = (model.checkpoint(), model.cancel_handle());
    Ok(VisionModel {
        label: checkpoint.label().to_owned(),
        adapter: Adapter::from(model.gpu().info()),
        classes: (0..checkpoint.vim().classes).map(|class| checkpoint.class_name(class)).collect(),
        place: Place::new(model, cancel, NAMES),
    })
}

#[pymethods]
impl VisionModel {
    #[pyo3(signature = (pictures, *, top=5))]
    fn classify<'py>(&self, py: Python<'py>, pictures: &Bound<'py, PyAny>, top: usize) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::of(pictures)?;
        let found = call(py, &self.place, |model| model.classify(&given.open()?, top, &mut |_| {}))?;
        let class = |class: vision::Class| {
            let vision::Class { index, name, logit, probability } = class;
            Class { index, name, logit, probability }
        };
        let found = found.into_iter().map(|classes| classes.into_iter().map(class).collect::<Vec<_>>()).collect();
        given.result(py, found)
    }

    #[pyo3(signature = (pictures, *, map=false, layers=vec![], image=None))]
    fn features<'py>(
        &self,
        py: Python<'py>,
        pictures: &Bound<'py, PyAny>,
        map: bool,
        layers: Vec<usize>,
        image: Option<[usize; 2]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = Given::of(pictures)?;
        let options = FeatureOptions::default().map(map).layers(layers).image(image);
        let found = call(py, &self.place, |model| model.features(&given.open()?, &options, &mut |_| {}))?;
        let found = found.into_iter().map(|features| Features::new(py, features)).collect::<PyResult<Vec<_>>>()?;
        given.result(py, found)
    }

    fn cancel(&self) {
        self.place.cancel_handle().cancel();
    }

    fn close(&self) {
        self.place.close();
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }

    #[getter]
    fn name(&self) -> &str {
        &self.label
    }

    #[getter]
    fn adapter(&self) -> Adapter {
        self.adapter.clone()
    }

    #[getter]
    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    fn __repr__(&self) -> String {
        format!("<peregrine.VisionModel {} on {}: {} classes>", self.label, self.adapter.shown(), self.classes.len())
    }
}
