//! Options: how tokens are chosen, and when an answer ends. `lib/options.js` has checked their types.

use crate::errors::{Failure, Outcome};
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use peregrine::runtime::SamplingDefaults;
use peregrine::{Checkpoint, Constraint, Sampling};
use std::hash::{BuildHasher, Hasher, RandomState};

/// How tokens are chosen; what is missing is the model's.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct SamplingOptions {
    pub temperature: Option<f64>,
    pub top_k: Option<u32>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub seed: Option<BigInt>,
    pub repeat_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub repeat_last_n: Option<u32>,
    pub logit_bias: Option<Vec<Bias>>,
}

/// What is added to the logit of an id.
#[napi(object, object_to_js = false)]
pub struct Bias {
    pub id: u32,
    pub bias: f64,
}

/// When an answer ends, and what it must be. At most one of the last four is there.
#[napi(object, object_to_js = false)]
pub struct AnswerOptions {
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// JSON.
    pub json_schema: Option<String>,
    pub regex: Option<String>,
    pub choice: Option<Vec<String>>,
    pub grammar: Option<String>,
}

impl SamplingOptions {
    /// The sampling that is asked for, else the model's. Without a seed it is a random one.
    pub fn of(self, checkpoint: &Checkpoint) -> Outcome<Sampling> {
        let asked = SamplingDefaults {
            temperature: self.temperature.map(single),
            top_k: self.top_k,
            top_p: self.top_p.map(single),
            min_p: self.min_p.map(single),
            repeat_penalty: self.repeat_penalty.map(single),
            max_tokens: None,
        };
        let seed = self.seed().unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(self.penalties(checkpoint.sampling(&asked, seed)?))
    }

    /// The sampling `was`, with what is asked for.
    pub fn over(self, was: Sampling) -> Sampling {
        let mut sampling = was;
        set(&mut sampling.temperature, self.temperature.map(single));
        set(&mut sampling.top_k, self.top_k);
        set(&mut sampling.top_p, self.top_p.map(single));
        set(&mut sampling.min_p, self.min_p.map(single));
        set(&mut sampling.repeat_penalty, self.repeat_penalty.map(single));
        set(&mut sampling.seed, self.seed());
        self.penalties(sampling)
    }

    fn seed(&self) -> Option<u64> {
        self.seed.as_ref().map(|seed| seed.get_u64().1)
    }

    /// What models have no defaults for.
    fn penalties(self, mut sampling: Sampling) -> Sampling {
        set(&mut sampling.presence_penalty, self.presence_penalty.map(single));
        set(&mut sampling.frequency_penalty, self.frequency_penalty.map(single));
        set(&mut sampling.repeat_last_n, self.repeat_last_n.map(|n| n as usize));
        let biases = |biases: Vec<Bias>| biases.into_iter().map(|Bias { id, bias }| (id, single(bias))).collect();
        set(&mut sampling.logit_bias, self.logit_bias.map(biases));
        sampling
    }
}

impl AnswerOptions {
    /// The library's options. A constraint is compiled here, which takes a while.
    pub fn of(self, checkpoint: &Checkpoint) -> Outcome<peregrine::AnswerOptions> {
        let most = self.max_tokens.map(|most| most as usize).or(checkpoint.defaults().max_tokens);
        let options = peregrine::AnswerOptions::default().max_tokens(most).stop(self.stop);
        let schema = self.json_schema.map(|text| {
            let schema = text.parse().map_err(|error| Failure::Setting(format!("jsonSchema: {error}")))?;
            Ok::<_, Failure>(Constraint::JsonSchema(schema))
        });
        let constraint = schema
            .transpose()?
            .or(self.regex.map(Constraint::Regex))
            .or(self.choice.map(Constraint::Choice))
            .or(self.grammar.map(Constraint::Lark));
        let grammar = constraint.map(|constraint| checkpoint.grammar(&constraint)).transpose()?;
        Ok(options.grammar(grammar))
    }
}

/// The library computes in f32.
fn single(value: f64) -> f32 {
    value as f32
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
