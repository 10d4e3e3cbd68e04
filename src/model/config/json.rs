//! Typed access to the keys of config.json.

use super::LARGEST;
use crate::error::{Error, Result};
use crate::input::shown;
use serde_json::Value;

/// config.json, or an object in it, with a name for messages.
pub(crate) struct Json<'a> {
    pub(in crate::model) file: &'a str,
    /// Put before its keys in messages.
    path: &'static str,
    pub(in crate::model) value: &'a Value,
}

impl<'a> Json<'a> {
    /// The config.json called `file` in messages.
    pub(in crate::model) fn new(file: &'a str, value: &'a Value) -> Result<Self> {
        let json = Json { file, path: "", value };
        if value.is_object() { Ok(json) } else { Err(json.bad("it is not a JSON object".to_owned())) }
    }

    pub(in crate::model) fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.file.to_owned(), problem }
    }

    pub(in crate::model) fn unsupported(&self, what: impl Into<String>, hint: &str) -> Error {
        Error::Unsupported { file: self.file.to_owned(), what: what.into(), hint: hint.to_owned() }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        self.bad(format!("{}{key} is {}, it must be {wanted}", self.path, shown(value)))
    }

    /// The value of a key that is present and not null.
    pub(in crate::model) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// A size; `None` where absent.
    pub(in crate::model) fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {LARGEST}"))),
        }
    }

    /// The size under the first of these keys that is present.
    pub(in crate::model) fn needed(&self, keys: [&str; 2]) -> Result<usize> {
        self.size(keys[0])?.or(self.size(keys[1])?).ok_or_else(|| self.bad(format!("{} is missing", keys[0])))
    }

    pub(in crate::model) fn eps(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_f64() {
            Some(eps) if (0.0..1.0).contains(&eps) => Ok(eps as f32),
            _ => Err(self.wrong(key, value, "a small number from 0 on")),
        }
    }

    pub(in crate::model) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// An object in it; where absent, one without keys.
    pub(in crate::model) fn object(&self, key: &str, path: &'static str) -> Result<Json<'a>> {
        match self.get(key) {
            None => Ok(Json { file: self.file, path, value: &Value::Null }),
            Some(value) if value.is_object() => Ok(Json { file: self.file, path, value }),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }
}
