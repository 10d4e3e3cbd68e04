//! A config as state files write it: a JSON object of the model.

use super::{Config, LARGEST};
use crate::model::architecture::REGISTRY;
use serde_json::{Map, Value};

/// Typed access to that object. An error says what is wrong in it.
pub(crate) struct ConfigEntry<'a>(pub(crate) &'a Map<String, Value>);

type Read<T> = Result<T, String>;

impl ConfigEntry<'_> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Read<&Value> {
        self.0.get(key).ok_or_else(|| format!("model has no {key}"))
    }

    /// A size, from 1 to 2^20.
    pub(crate) fn size(&self, key: &str) -> Read<usize> {
        let size = self.get(key)?.as_u64().filter(|size| (1..=LARGEST as u64).contains(size));
        size.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| format!("{key} of the model is no size"))
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Read<f32> {
        Ok(self.get(key)?.as_f64().ok_or_else(|| format!("{key} is no number"))? as f32)
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Read<&str> {
        self.get(key)?.as_str().ok_or_else(|| format!("{key} of the model is no text"))
    }

    /// The config.
    pub(crate) fn config(&self) -> Read<Config> {
        let name = self.text("family")?;
        let entry = REGISTRY.iter().find(|entry| entry.names.contains(&name));
        let entry = entry.ok_or_else(|| format!("the family of the model is {name:?}"))?;
        (entry.from_entry)(self)?.check("the state").map_err(|e| e.to_string())
    }
}
