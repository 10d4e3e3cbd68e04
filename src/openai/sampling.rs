//! Sampling settings and limits of a request.

use super::completions::of_this_model;
use super::fields::{Fields, count, count_or_all, id, items, number, whole};
use super::request_error::{FieldPath, RequestError};
use crate::error::Error;
use crate::runtime::{Sampling, SamplingDefaults};
use serde_json::Value;

/// A request's sampling settings; any of them may be missing.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    defaults: SamplingDefaults,
    pub(super) seed: Option<u64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    repeat_last_n: Option<usize>,
    logit_bias: Vec<Bias>,
}

#[derive(Debug, PartialEq)]
struct Bias {
    id: u32,
    bias: f32,
    path: FieldPath,
}

impl Settings {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, RequestError> {
        let top_k = fields.read("top_k", "a whole number, or -1 for all", count_or_all)?;
        let last_n = fields.read("repeat_last_n", "a whole number, or -1 for the maximum", count_or_all)?;
        let settings = Settings {
            defaults: SamplingDefaults {
                temperature: fields.read("temperature", "a number", number)?,
                top_k: top_k.map(|k| k.map_or(0, |k| u32::try_from(k).unwrap_or(u32::MAX))),
                top_p: fields.read("top_p", "a number", number)?,
                min_p: fields.read("min_p", "a number", number)?,
                repeat_penalty: fields.read("repeat_penalty", "a number", number)?,
                max_tokens: None,
            },
            seed: fields.read("seed", "a whole number, or -1 for no fixed seed", seed)?.flatten(),
            presence_penalty: fields.read("presence_penalty", "a number", number)?,
            frequency_penalty: fields.read("frequency_penalty", "a number", number)?,
            repeat_last_n: last_n.map(|n| n.unwrap_or(Sampling::MOST_RECENT)),
            logit_bias: read_biases(fields)?,
        };
        // Check the values that do not depend on the model.
        let plain = Sampling { logit_bias: vec![], ..settings.over(&SamplingDefaults::default(), 0) };
        match plain.rules(usize::MAX) {
            Err(Error::BadSetting { name, value, problem }) => {
                Err(FieldPath::root().field(name).error(format_args!("is {value}: {problem}")))
            }
            _ => Ok(settings),
        }
    }

    /// An error for a bias on a token id outside the vocabulary.
    pub(super) fn fits(&self, vocab: usize) -> Result<(), RequestError> {
        match self.logit_bias.iter().find(|bias| bias.id as usize >= vocab) {
            Some(bias) => {
                Err(bias.path.error(format_args!("is not a token of the model: it must be {}", of_this_model(vocab))))
            }
            None => Ok(()),
        }
    }

    /// The sampling: the request's settings, else the model's, else llama.cpp's.
    pub(super) fn over(&self, model: &SamplingDefaults, seed: u64) -> Sampling {
        let below = self.defaults.over(model, seed);
        Sampling {
            presence_penalty: self.presence_penalty.unwrap_or(below.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(below.frequency_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(below.repeat_last_n),
            logit_bias: self.logit_bias.iter().map(|bias| (bias.id, bias.bias)).collect(),
            ..below
        }
    }
}

/// Any integer; -1 means no seed. Other negative numbers are taken as their 64-bit pattern.
fn seed(value: &Value) -> Option<Option<u64>> {
    if let Some(seed) = value.as_u64() {
        return Some(Some(seed));
    }
    whole(value).map(|seed| (seed != -1).then_some(seed as u64))
}

/// Parses `{"15043": -100}`, or llama.cpp's `[[15043, -100], [15044, false]]`, where false bans a token. NaN and infinities are
/// errors.
fn read_biases(fields: &mut Fields<'_>) -> Result<Vec<Bias>, RequestError> {
    let path = fields.path("logit_bias");
    match fields.get("logit_bias") {
        None => Ok(vec![]),
        Some(Value::Object(map)) => {
            let entry = |(key, value): (&String, &Value)| {
                let path = path.key(key);
                let Ok(id) = key.parse() else {
                    return Err(path.error("is not a token id"));
                };
                Ok(Bias { id, bias: read_bias(value, &path)?, path })
            };
            map.iter().map(entry).collect()
        }
        Some(Value::Array(list)) => list.iter().enumerate().map(|(i, pair)| read_pair(pair, &path.item(i))).collect(),
        Some(other) => Err(path.must_be(other, "an object of token ids and numbers")),
    }
}

fn read_pair(pair: &Value, path: &FieldPath) -> Result<Bias, RequestError> {
    let pair = pair.as_array().filter(|pair| pair.len() == 2);
    let pair = pair.ok_or_else(|| path.error("is not a pair: it must be a token id and a number"))?;
    let id = id(&pair[0]).ok_or_else(|| path.item(0).must_be(&pair[0], "a token id"))?;
    Ok(Bias { id, bias: read_bias(&pair[1], &path.item(1))?, path: path.clone() })
}

fn read_bias(value: &Value, path: &FieldPath) -> Result<f32, RequestError> {
    if value == &Value::Bool(false) {
        return Ok(f32::NEG_INFINITY);
    }
    number(value).filter(|bias| bias.is_finite()).ok_or_else(|| path.must_be(value, "a number, or false to ban it"))
}

/// When an answer ends.
#[derive(Debug, PartialEq)]
pub(super) struct Limits {
    /// `None` if the request sets none, `Some(None)` for no limit.
    pub(super) max_tokens: Option<Option<usize>>,
    pub(super) stop: Vec<String>,
}

impl Limits {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, RequestError> {
        let names = ["max_completion_tokens", "max_tokens", "n_predict"];
        let path = fields.path("stop");
        let stop = match fields.get("stop") {
            None => vec![],
            Some(Value::String(stop)) => vec![stop.clone()],
            Some(Value::Array(list)) => items(list, &path, "a string", |stop| stop.as_str().map(str::to_owned))?,
            Some(other) => return Err(path.must_be(other, "a string or a list of strings")),
        };
        let what = "a whole number, or -1 for no limit";
        Ok(Limits { max_tokens: fields.read_any(&names, what, count_or_all)?, stop })
    }
}

/// The number of answers per prompt: 1 to 128, as in OpenAI's API.
pub(super) fn read_answers(fields: &mut Fields<'_>) -> Result<usize, RequestError> {
    let one_to_128 = |value: &Value| count(value).filter(|n| (1..=128).contains(n));
    let n = fields.read("n", "a whole number from 1 to 128", one_to_128)?.unwrap_or(1);
    let best_of = fields.read("best_of", "a whole number", count)?.unwrap_or(n);
    if best_of != n {
        let path = fields.path("best_of");
        return Err(path.must_be(&best_of.into(), &format!("{n}, equal to n: ranking answers is not supported")));
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(body: Value) -> Result<Settings, RequestError> {
        Settings::read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()))
    }

    #[test]
    fn settings_mean_what_they_mean_on_the_command_line() {
        let none = SamplingDefaults::default();
        let sampling = |body| settings(body).unwrap().over(&none, 0);
        assert_eq!(sampling(json!({})), none.over(&none, 0));
        for all in [json!({"top_k": -1}), json!({"top_k": 0}), json!({"top_k": -1.0})] {
            assert_eq!(sampling(all.clone()).top_k, 0, "{all}");
        }
        assert_eq!(sampling(json!({"repeat_last_n": -1})).repeat_last_n, 4096);
        for (body, last_n) in
            [(json!({"repeat_penalty": 1.5}), 64), (json!({"repeat_penalty": 1.5, "repeat_last_n": 8}), 8)]
        {
            let sampling = sampling(body);
            assert_eq!((sampling.repeat_penalty, sampling.repeat_last_n), (1.5, last_n));
        }
        let seed = |seed: Value| settings(json!({ "seed": seed })).unwrap().seed;
        assert_eq!([seed(json!(-1)), seed(json!(null)), seed(json!(8.0))], [None, None, Some(8)]);
        assert_eq!([seed(json!(u64::MAX)), seed(json!(-2))], [Some(u64::MAX), Some(u64::MAX - 1)]);
        let bias = [(12, -100.0), (7, f32::NEG_INFINITY)];
        for value in [json!({"12": -100, "7": false}), json!([[12, -100], [7.0, false]])] {
            assert_eq!(sampling(json!({ "logit_bias": value })).logit_bias, bias);
        }
    }

    #[test]
    fn errors_in_a_setting_name_their_path() {
        for (body, said) in [
            (json!({"temperature": "hot"}), "temperature is \"hot\": it must be a number"),
            (json!({"temperature": -1}), "temperature is -1: it must be 0"),
            (json!({"top_p": 7}), "top_p is 7: it must be from 0 to 1"),
            (json!({"repeat_penalty": 0}), "repeat_penalty is 0: it must be above 0"),
            (json!({"top_k": -2}), "top_k is -2"),
            (json!({"top_k": 1.5}), "top_k is 1.5"),
            (json!({"seed": 0.5}), "seed is 0.5"),
            (json!({"logit_bias": {"12a": 1}}), "logit_bias[\"12a\"] is not a token id"),
            (json!({"logit_bias": {"12": "x"}}), "logit_bias[\"12\"] is \"x\""),
            (json!({"logit_bias": {"12": "NaN"}}), "logit_bias[\"12\"] is \"NaN\""),
            (json!({"logit_bias": {"12": 1e300}}), "logit_bias[\"12\"] is 1e+300"),
            (json!({"logit_bias": [[12, 1], [13]]}), "logit_bias[1] is not a pair"),
            (json!({"logit_bias": [[12, 1], ["a", 1]]}), "logit_bias[1][0] is \"a\""),
        ] {
            let error = settings(body).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
        let far = settings(json!({"logit_bias": {"999": 1}})).unwrap();
        assert_eq!(far.fits(1000), Ok(()));
        assert!(far.fits(288).unwrap_err().message.starts_with("logit_bias[\"999\"] is not a token of the model"));
    }

    #[test]
    fn limits_have_several_names() {
        let limits = |body: Value| Limits::read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()));
        for (body, expected) in [
            (json!({}), None),
            (json!({"max_tokens": null}), None),
            (json!({"max_tokens": 8.0}), Some(Some(8))),
            (json!({"n_predict": -1}), Some(None)),
            (json!({"max_completion_tokens": 2, "max_tokens": 2}), Some(Some(2))),
        ] {
            assert_eq!(limits(body).unwrap().max_tokens, expected);
        }
        for (body, said) in [
            (json!({"max_tokens": -2}), "max_tokens is -2"),
            (json!({"max_tokens": 1, "n_predict": 2}), "n_predict and max_tokens are"),
            (json!({"stop": ["a", "b", 7]}), "stop[2] is 7"),
            (json!({"stop": {"a": 1}}), "stop is an object"),
        ] {
            let error = limits(body).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
    }

    #[test]
    fn several_answers_are_allowed_but_not_ranking() {
        let answers = |body: Value| read_answers(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()));
        for (body, expected) in [
            (json!({}), 1),
            (json!({"n": 1, "best_of": 1}), 1),
            (json!({"best_of": 1.0}), 1),
            (json!({"n": 3}), 3),
            (json!({"n": 3, "best_of": 3}), 3),
        ] {
            assert_eq!(answers(body), Ok(expected));
        }
        for body in
            [json!({"n": 0}), json!({"n": -1}), json!({"n": 129}), json!({"best_of": 2}), json!({"n": 2, "best_of": 1})]
        {
            assert!(answers(body.clone()).is_err(), "{body}");
        }
    }
}
