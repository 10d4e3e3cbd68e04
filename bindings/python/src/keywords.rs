//! Keyword arguments: how tokens are chosen, and when an answer ends. The same names in every call, with the library's meaning.

use crate::errors::Outcome;
use crate::message::json_of;
use crate::wait::wait_briefly;
use peregrine::runtime::SamplingDefaults;
use peregrine::{AnswerOptions, Checkpoint, Constraint, Sampling};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The keyword arguments of a call that are not read yet.
pub struct Keywords<'py> {
    py: Python<'py>,
    left: Option<Bound<'py, PyDict>>,
}

impl<'py> Keywords<'py> {
    pub fn new(py: Python<'py>, given: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        Ok(Keywords { py, left: given.map(PyDictMethods::copy).transpose()? })
    }

    /// An argument; `None`: it was not given, or is None.
    fn take<T: FromPyObjectOwned<'py>>(&self, name: &str) -> PyResult<Option<T>> {
        let Some(value) = self.take_any(name)? else { return Ok(None) };
        value.extract().map(Some).map_err(Into::into).map_err(|error: PyErr| {
            let text = format!("{name}: {}", error.value(self.py));
            match error.is_instance_of::<PyTypeError>(self.py) {
                true => PyTypeError::new_err(text),
                false => PyValueError::new_err(text),
            }
        })
    }

    fn take_any(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(left) = &self.left else { return Ok(None) };
        let Some(value) = left.get_item(name)? else { return Ok(None) };
        left.del_item(name)?;
        Ok(Some(value).filter(|value| !value.is_none()))
    }

    /// Refuses what no one has read.
    pub fn end(self) -> PyResult<()> {
        match self.left.iter().flat_map(|left| left.keys()).next() {
            Some(name) => Err(PyTypeError::new_err(format!("there is no keyword argument {name}"))),
            None => Ok(()),
        }
    }

    /// The sampling that is asked for, else the model's. Without a seed it is a random one.
    pub fn sampling(&self, checkpoint: &Checkpoint) -> Outcome<Sampling> {
        let asked = SamplingDefaults {
            temperature: self.take("temperature")?,
            top_k: self.take("top_k")?,
            top_p: self.take("top_p")?,
            min_p: self.take("min_p")?,
            repeat_penalty: self.take("repeat_penalty")?,
            max_tokens: None,
        };
        let seed = self.take("seed")?.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let sampling = checkpoint.sampling(&asked, seed)?;
        Ok(self.penalties(sampling)?)
    }

    /// The sampling `was`, with what is asked for.
    pub fn sampling_over(&self, was: Sampling) -> PyResult<Sampling> {
        let mut sampling = was;
        set(&mut sampling.temperature, self.take("temperature")?);
        set(&mut sampling.top_k, self.take("top_k")?);
        set(&mut sampling.top_p, self.take("top_p")?);
        set(&mut sampling.min_p, self.take("min_p")?);
        set(&mut sampling.repeat_penalty, self.take("repeat_penalty")?);
        set(&mut sampling.seed, self.take("seed")?);
        self.penalties(sampling)
    }

    /// What models have no defaults for.
    fn penalties(&self, mut sampling: Sampling) -> PyResult<Sampling> {
        set(&mut sampling.presence_penalty, self.take("presence_penalty")?);
        set(&mut sampling.frequency_penalty, self.take("frequency_penalty")?);
        set(&mut sampling.repeat_last_n, self.take("repeat_last_n")?);
        let bias = self.take::<HashMap<u32, f32>>("logit_bias")?;
        set(&mut sampling.logit_bias, bias.map(|bias| bias.into_iter().collect()));
        Ok(sampling)
    }

    /// The options of an answer. A constraint is compiled here.
    pub fn answer(&self, checkpoint: &Checkpoint) -> Outcome<AnswerOptions> {
        let most = match self.take("max_tokens")? {
            Some(most) => Some(most),
            None => checkpoint.defaults().max_tokens,
        };
        let stop = match self.take_any("stop")? {
            Some(stop) => match stop.extract::<String>() {
                Ok(one) => vec![one],
                Err(_) => stop.extract().map_err(|_| PyTypeError::new_err("stop: a string, or a list of strings"))?,
            },
            None => vec![],
        };
        let grammar = match self.constraint()? {
            Some(constraint) => Some(wait_briefly(self.py, || Ok(checkpoint.grammar(&constraint)?))?),
            None => None,
        };
        Ok(AnswerOptions::default().max_tokens(most).stop(stop).grammar(grammar))
    }

    fn constraint(&self) -> PyResult<Option<Constraint>> {
        let schema = match self.take_any("json_schema")? {
            Some(schema) => Some(Constraint::JsonSchema(
                match schema.extract::<String>() {
                    Ok(text) => text,
                    Err(_) => json_of(&schema)?,
                }
                .parse()
                .map_err(|error| PyValueError::new_err(format!("json_schema: {error}")))?,
            )),
            None => None,
        };
        let given = [
            schema,
            self.take("regex")?.map(Constraint::Regex),
            self.take("choice")?.map(Constraint::Choice),
            self.take("grammar")?.map(Constraint::Lark),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (first, None) => Ok(first),
            _ => Err(PyTypeError::new_err("json_schema, regex, choice and grammar do not go together: give one")),
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
