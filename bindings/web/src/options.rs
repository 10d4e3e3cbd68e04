//! Options of calls: objects with the library's names in camel case. A name that is not known is an error.

use crate::error::{Failure, Outcome};
use peregrine::runtime::{Recipe, SamplingDefaults, WeightFormat};
use peregrine::{AnswerOptions, Checkpoint, EngineOptions, Sampling};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use wasm_bindgen::prelude::*;

/// How a model is loaded.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    pub name: Option<String>,
    slots: Option<usize>,
    weights: Option<String>,
    chunk: Option<usize>,
}

/// How tokens are chosen.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Choice {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    seed: Option<u64>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    repeat_last_n: Option<u32>,
    logit_bias: Option<BTreeMap<u32, f32>>,
}

/// When an answer ends.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct End {
    max_tokens: Option<usize>,
    stop: Option<Stop>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// Reads an object of JavaScript; `undefined` and `null` are the defaults.
pub fn read<T: DeserializeOwned + Default>(options: &JsValue) -> Outcome<T> {
    if options.is_undefined() || options.is_null() {
        return Ok(T::default());
    }
    let text = js_sys::JSON::stringify(options).ok().and_then(|text| text.as_string());
    let text = text.ok_or_else(|| Failure::argument("options: not an object of plain values"))?;
    serde_json::from_str(&text).map_err(|problem| Failure::argument(format!("options: {problem}")))
}

impl Load {
    /// The library's options. There are 4 slots unless it says otherwise: a conversation and some forks.
    pub fn engine(&self) -> Outcome<EngineOptions> {
        let mut options = EngineOptions::default().slots(self.slots.unwrap_or(4));
        if let Some(chunk) = self.chunk {
            options = options.chunk(chunk);
        }
        let Some(name) = &self.weights else { return Ok(options) };
        let format = WeightFormat::parse(name).ok_or_else(|| {
            let names = WeightFormat::ALL.map(WeightFormat::name).join(", ");
            Failure::argument(format!("weights: no format {name:?}: {names}"))
        })?;
        Ok(options.weights(Recipe::To(format)))
    }
}

impl Choice {
    /// The sampling that is asked for, else the model's. Without a seed it is a random one.
    pub fn sampling(self, checkpoint: &Checkpoint) -> Outcome<Sampling> {
        let asked = SamplingDefaults {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            max_tokens: None,
        };
        let random = || (js_sys::Math::random() * 2f64.powi(53)) as u64;
        let mut sampling = checkpoint.sampling(&asked, self.seed.unwrap_or_else(random))?;
        if let Some(penalty) = self.presence_penalty {
            sampling.presence_penalty = penalty;
        }
        if let Some(penalty) = self.frequency_penalty {
            sampling.frequency_penalty = penalty;
        }
        if let Some(last) = self.repeat_last_n {
            sampling.repeat_last_n = last as usize;
        }
        if let Some(bias) = self.logit_bias {
            sampling.logit_bias = bias.into_iter().collect();
        }
        Ok(sampling)
    }
}

impl End {
    pub fn answer(self, checkpoint: &Checkpoint) -> AnswerOptions {
        let stop = match self.stop {
            None => vec![],
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        AnswerOptions::default().max_tokens(self.max_tokens.or(checkpoint.defaults().max_tokens)).stop(stop)
    }
}
