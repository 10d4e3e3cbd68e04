//! A loaded language model.

use crate::adapter::Adapter;
use crate::answer::Answer;
use crate::array::Array;
use crate::errors::{Failure, Outcome};
use crate::keywords::Keywords;
use crate::session::Session;
use crate::wait::{wait, wait_briefly};
use peregrine::{Engine, Prompt, Sampling, Specials};
use peregrine_bindings::Refused;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Mutex;

#[pyclass(frozen, module = "peregrine")]
pub struct Model {
    /// `None`: it is closed. Sessions have handles of their own.
    engine: Mutex<Option<Engine>>,
}

impl Model {
    pub fn new(engine: Engine) -> Self {
        Model { engine: Mutex::new(Some(engine)) }
    }

    fn engine(&self) -> Outcome<Engine> {
        let engine = self.engine.lock().unwrap_or_else(|e| e.into_inner());
        engine.clone().ok_or(Failure::Refused(Refused::Closed("model")))
    }
}

#[pymethods]
impl Model {
    #[pyo3(signature = (*, system=None, **sampling))]
    fn chat(&self, py: Python<'_>, system: Option<&str>, sampling: Option<&Bound<'_, PyDict>>) -> PyResult<Session> {
        let engine = self.engine()?;
        let keywords = Keywords::new(py, sampling)?;
        let sampling = keywords.sampling(engine.checkpoint())?;
        keywords.end()?;
        let mut session = wait_briefly(py, || Ok(engine.session(sampling)?))?;
        if let Some(text) = system {
            session.system(text);
        }
        Ok(Session::new(session))
    }

    #[pyo3(signature = (prompt, **options))]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Answer> {
        let engine = self.engine()?;
        let keywords = Keywords::new(py, options)?;
        let (sampling, options) = (keywords.sampling(engine.checkpoint())?, keywords.answer(engine.checkpoint())?);
        keywords.end()?;
        let ids = ids_of(&engine, prompt)?;
        let session = wait_briefly(py, || Ok(engine.session(sampling)?))?;
        Ok(Answer::alone(session, Prompt::Ids(ids), &options))
    }

    fn logits(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<Array> {
        let engine = self.engine()?;
        let vocab = engine.checkpoint().config().vocab;
        let mut session = wait_briefly(py, || Ok(engine.session(Sampling::GREEDY)?))?;
        let cancel = session.cancel_handle();
        let logits = wait(py, &|| cancel.cancel(), || Ok(session.logits(&ids)?))?;
        Ok(Array::new(logits, &[ids.len(), vocab]))
    }

    #[pyo3(signature = (text, *, add_special=false, parse_special=false))]
    fn tokenize(&self, py: Python<'_>, text: &str, add_special: bool, parse_special: bool) -> PyResult<Vec<u32>> {
        let engine = self.engine()?;
        let specials = if parse_special { Specials::Parse } else { Specials::Literal };
        Ok(wait_briefly(py, || {
            let tokenizer = engine.checkpoint().tokenizer()?;
            Ok(match add_special {
                true => tokenizer.encode_text(text, specials)?,
                false => tokenizer.encode(text, specials)?,
            })
        })?)
    }

    fn detokenize(&self, ids: Vec<u32>) -> PyResult<String> {
        let engine = self.engine()?;
        let vocab = engine.checkpoint().config().vocab;
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            return Err(Failure::Library(peregrine::Error::IdOutOfRange { id: *id, at, vocab }).into());
        }
        Ok(engine.checkpoint().tokenizer().map_err(Failure::from)?.decode(&ids))
    }

    fn recover(&self, py: Python<'_>) -> PyResult<bool> {
        let engine = self.engine()?;
        Ok(wait_briefly(py, || Ok(engine.recover(&mut |_| {})?))?)
    }

    fn close(&self, py: Python<'_>) {
        let engine = self.engine.lock().unwrap_or_else(|e| e.into_inner()).take();
        // Without sessions this frees the device's memory.
        py.detach(|| drop(engine));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(self.engine()?.checkpoint().label().to_owned())
    }

    #[getter]
    fn adapter(&self) -> PyResult<Adapter> {
        Ok(Adapter::from(self.engine()?.gpu().info()))
    }

    #[getter]
    fn memory(&self) -> PyResult<u64> {
        Ok(self.engine()?.gpu().allocated_bytes())
    }

    #[getter]
    fn slots(&self) -> PyResult<usize> {
        Ok(self.engine()?.slots())
    }

    #[getter]
    fn vocab(&self) -> PyResult<usize> {
        Ok(self.engine()?.checkpoint().config().vocab)
    }

    #[getter]
    fn eos(&self) -> PyResult<Vec<u32>> {
        Ok(self.engine()?.checkpoint().eos().to_vec())
    }

    #[getter]
    fn can_chat(&self) -> PyResult<bool> {
        Ok(self.engine()?.checkpoint().has_template())
    }

    fn __repr__(&self) -> String {
        let Ok(engine) = self.engine() else { return "<peregrine.Model, closed>".to_owned() };
        let (gpu, slots) = (engine.gpu(), engine.slots());
        let (label, adapter, bytes) = (engine.checkpoint().label(), gpu.info(), gpu.allocated_bytes());
        format!("<peregrine.Model {label} on {adapter}: {:.1} MB, {slots} slots>", bytes as f64 / 1e6)
    }
}

/// The ids of a prompt: a text, with the tokens that the tokenizer puts around one, or ids.
pub fn ids_of(engine: &Engine, prompt: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    match prompt.extract::<&str>() {
        Ok(text) => Ok(wait_briefly(prompt.py(), || {
            Ok(engine.checkpoint().tokenizer()?.encode_text(text, Specials::Literal)?)
        })?),
        Err(_) => prompt.extract(),
    }
}
