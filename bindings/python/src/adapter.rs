//! The adapters of this machine.

use crate::wait::wait_briefly;
use peregrine::AdapterChoice;
use peregrine::gpu::{self, AdapterInfo};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// A GPU, or a CPU that takes the place of one.
#[pyclass(frozen, module = "peregrine")]
#[derive(Clone)]
pub struct Adapter {
    #[pyo3(get)]
    name: String,
    #[pyo3(get)]
    backend: String,
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    driver: String,
    #[pyo3(get)]
    cpu: bool,
    #[pyo3(get)]
    unfit: Option<String>,
    shown: String,
}

impl From<&AdapterInfo> for Adapter {
    fn from(info: &AdapterInfo) -> Self {
        Adapter {
            shown: info.to_string(),
            name: info.name.clone(),
            backend: info.backend.clone(),
            kind: info.kind,
            driver: info.driver.clone(),
            cpu: info.cpu,
            unfit: info.unfit.clone(),
        }
    }
}

impl Adapter {
    /// Its name with all that tells it from others.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

#[pymethods]
impl Adapter {
    fn __str__(&self) -> &str {
        &self.shown
    }

    fn __repr__(&self) -> String {
        format!("<peregrine.Adapter {}>", self.shown)
    }
}

/// The adapters of this machine, best first.
#[pyfunction]
pub fn adapters(py: Python<'_>) -> PyResult<Vec<Adapter>> {
    Ok(wait_briefly(py, || Ok(gpu::adapters().iter().map(Adapter::from).collect()))?)
}

/// What `gpu=` says: an index, a part of a name, or nothing.
pub fn choice(gpu: Option<&Bound<'_, PyAny>>) -> PyResult<AdapterChoice> {
    let Some(gpu) = gpu else { return Ok(AdapterChoice::Best) };
    if let Ok(text) = gpu.extract::<&str>() {
        return Ok(AdapterChoice::parse(text));
    }
    let index = gpu.extract().map_err(|_| PyTypeError::new_err("gpu: an index, or a part of an adapter's name"))?;
    Ok(AdapterChoice::Index(index))
}
