//! A conversation.

use crate::answer::Answer;
use crate::errors::{Failure, Outcome};
use crate::keywords::Keywords;
use crate::message::{from_dict, to_dict};
use crate::model::ids_of;
use crate::wait::call;
use peregrine::{Engine, Prompt, Snapshot};
use peregrine_bindings::{Place, Refused};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::sync::Arc;

const NAMES: [&str; 2] = [
    "session",
    "the session is busy with an answer or another call: finish or close the answer first, or fork the session before",
];

#[pyclass(frozen, module = "peregrine")]
pub struct Session {
    engine: Engine,
    place: Arc<Place<peregrine::Session>>,
}

/// A moment of a session.
#[pyclass(frozen, module = "peregrine")]
pub struct Mark(peregrine::Mark);

impl Session {
    pub fn new(session: peregrine::Session) -> Self {
        let engine = session.engine().clone();
        let cancel = session.cancel_handle();
        Session { engine, place: Place::new(session, cancel, NAMES) }
    }

    fn answer(&self, py: Python<'_>, prompt: Prompt, options: Option<&Bound<'_, PyDict>>) -> Outcome<Answer> {
        let keywords = Keywords::new(py, options)?;
        let options = keywords.answer(self.engine.checkpoint())?;
        keywords.end()?;
        Ok(Answer::of(self.place.take()?, prompt, &options))
    }
}

#[pymethods]
impl Session {
    #[pyo3(signature = (text, **options))]
    fn send(&self, py: Python<'_>, text: String, options: Option<&Bound<'_, PyDict>>) -> PyResult<Answer> {
        Ok(self.answer(py, Prompt::Message(text), options)?)
    }

    #[pyo3(signature = (messages, **options))]
    fn converse(
        &self,
        py: Python<'_>,
        messages: Vec<Bound<'_, PyDict>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Answer> {
        let messages = messages.iter().map(from_dict).collect::<PyResult<_>>()?;
        Ok(self.answer(py, Prompt::Messages(messages), options)?)
    }

    #[pyo3(signature = (prompt, **options))]
    fn complete(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Answer> {
        Ok(self.answer(py, Prompt::Ids(ids_of(&self.engine, prompt)?), options)?)
    }

    #[pyo3(signature = (**options))]
    fn resume(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Answer> {
        Ok(self.answer(py, Prompt::Resume, options)?)
    }

    #[pyo3(signature = (**options))]
    fn retry(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Answer> {
        Ok(self.answer(py, Prompt::Retry, options)?)
    }

    fn feed(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<()> {
        Ok(call(py, &self.place, |session| session.feed(&ids))?)
    }

    #[pyo3(signature = (**sampling))]
    fn set_sampling(&self, py: Python<'_>, sampling: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let keywords = Keywords::new(py, sampling)?;
        let was = self.place.look(|session| session.sampling().clone()).map_err(Failure::from)?;
        let sampling = keywords.sampling_over(was)?;
        keywords.end()?;
        Ok(call(py, &self.place, |session| session.set_sampling(sampling))?)
    }

    fn system(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        let set = |session: &mut peregrine::Session| {
            session.system(text);
            Ok(())
        };
        Ok(call(py, &self.place, set)?)
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        Ok(call(py, &self.place, |session| session.clear())?)
    }

    fn undo<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let message = call(py, &self.place, |session| session.undo())?;
        to_dict(py, &message)
    }

    fn fork(&self, py: Python<'_>) -> PyResult<Session> {
        Ok(Session::new(call(py, &self.place, |session| session.fork())?))
    }

    fn mark(&self, py: Python<'_>) -> PyResult<Mark> {
        Ok(Mark(call(py, &self.place, |session| session.mark())?))
    }

    fn back_to(&self, py: Python<'_>, mark: &Bound<'_, Mark>) -> PyResult<()> {
        let mark = &mark.get().0;
        Ok(call(py, &self.place, |session| session.back_to(mark))?)
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = call(py, &self.place, |session| session.snapshot()?.to_bytes())?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn restore(&self, py: Python<'_>, snapshot: &[u8]) -> PyResult<Vec<String>> {
        let warnings =
            call(py, &self.place, |session| session.restore(&Snapshot::from_bytes("the snapshot", snapshot)?))?;
        Ok(warnings.iter().map(ToString::to_string).collect())
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
    fn messages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let messages = self.place.look(|session| session.messages().to_vec()).map_err(Failure::from)?;
        let dicts: Vec<_> = messages.iter().map(|message| to_dict(py, message)).collect::<PyResult<_>>()?;
        PyList::new(py, dicts)
    }

    #[getter]
    fn position(&self) -> PyResult<u64> {
        Ok(self.place.look(|session| session.position()).map_err(Failure::from)?)
    }

    fn __repr__(&self) -> String {
        let label = self.engine.checkpoint().label();
        let facts = |session: &peregrine::Session| {
            format!("{} messages, {} tokens", session.messages().len(), session.position())
        };
        let facts = self.place.look(facts).unwrap_or_else(|refused| match refused {
            Refused::Busy(_) => "busy".to_owned(),
            Refused::Closed(_) => "closed".to_owned(),
        });
        format!("<peregrine.Session of {label}: {facts}>")
    }
}

#[pymethods]
impl Mark {
    #[getter]
    fn messages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let dicts: Vec<_> = self.0.messages().iter().map(|m| to_dict(py, m)).collect::<PyResult<_>>()?;
        PyList::new(py, dicts)
    }

    #[getter]
    fn position(&self) -> u64 {
        self.0.position()
    }

    fn __repr__(&self) -> String {
        format!("<peregrine.Mark: {} messages, {} tokens>", self.0.messages().len(), self.0.position())
    }
}
