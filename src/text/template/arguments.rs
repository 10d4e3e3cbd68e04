//! Positional and keyword arguments of filters, methods and functions.

use super::budget::refused;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// The arguments of a call.
pub struct Arguments<'a> {
    function: &'a str,
    by_place: &'a [Value],
    by_name: Option<Kwargs>,
}

impl<'a> Arguments<'a> {
    /// `names` are the function's parameters.
    pub fn new(function: &'a str, values: &'a [Value], names: &[&str]) -> Result<Self, Error> {
        let (by_place, by_name) = match values.split_last() {
            Some((last, rest)) if last.is_kwargs() => (rest, Some(Kwargs::try_from(last.clone())?)),
            _ => (values, None),
        };
        if by_place.len() > names.len() {
            let problem = format!("{function} takes {} arguments, {} are given", names.len(), by_place.len());
            return Err(Error::new(ErrorKind::TooManyArguments, problem));
        }
        for name in by_name.iter().flat_map(Kwargs::args) {
            let known = names.iter().position(|known| *known == name && !name.is_empty());
            match known {
                Some(at) if at < by_place.len() => return Err(refused(format!("{function}: {name} is given twice"))),
                Some(_) => {}
                None => return Err(refused(format!("{function} has no argument {name}"))),
            }
        }
        Ok(Arguments { function, by_place, by_name })
    }

    /// An argument; `None` if it is not given.
    pub fn get(&self, at: usize, name: &str) -> Option<Value> {
        self.by_place.get(at).cloned().or_else(|| self.by_name.as_ref()?.get::<Option<Value>>(name).ok().flatten())
    }

    /// An argument, with Jinja's none treated as not given.
    pub fn some(&self, at: usize, name: &str) -> Option<Value> {
        self.get(at, name).filter(|value| !value.is_none())
    }

    pub fn needed(&self, at: usize, name: &str) -> Result<Value, Error> {
        let missing = || Error::new(ErrorKind::MissingArgument, format!("{} needs an argument", self.function));
        self.get(at, name).ok_or_else(missing)
    }

    /// A string argument; `None` if it is not given.
    pub fn text(&self, at: usize, name: &str) -> Result<Option<Value>, Error> {
        match self.some(at, name) {
            Some(value) if value.kind() != ValueKind::String => {
                Err(refused(format!("{}: {}, expected a string", self.function, type_of(&value))))
            }
            value => Ok(value),
        }
    }

    /// An integer argument; `None` if it is not given.
    pub fn whole(&self, at: usize, name: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.some(at, name) else { return Ok(None) };
        match value.kind() {
            ValueKind::Bool => Ok(Some(value.is_true().into())),
            _ if value.is_integer() => Ok(Some(value.as_i64().unwrap_or(i64::MAX))),
            _ => Err(refused(format!("{}: {}, expected an integer", self.function, type_of(&value)))),
        }
    }

    /// A boolean argument; `usual` if it is not given.
    pub fn flag(&self, at: usize, name: &str, usual: bool) -> bool {
        self.get(at, name).map_or(usual, |value| value.is_true())
    }
}

/// A value's type for messages.
pub fn type_of(value: &Value) -> String {
    format!("a value of type {}", value.kind())
}
