//! A checkpoint's sampling defaults: generation_config.json, or llama.cpp's keys `general.sampling.*` of a GGUF file.

use super::component::restated;
use crate::error::{Error, Result};
use crate::format::gguf::{self, Metadata};
use crate::input::shown;
use crate::runtime::sampler::SamplingDefaults;
use serde_json::{Map, Value, json};

/// peregrine's own GGUF key for the length of answers; llama.cpp has none.
const MAX_NEW_TOKENS: &str = "peregrine.max_new_tokens";

/// Sampling defaults, and the file's invalid values.
pub(in crate::runtime) struct Defaults {
    pub(super) values: SamplingDefaults,
    file: String,
    wrong: Vec<(Setting, String)>,
    /// Why the file cannot be read.
    unreadable: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Temperature,
    TopK,
    TopP,
    MinP,
    RepeatPenalty,
    MaxTokens,
}

/// The settings with their keys in generation_config.json and in GGUF files.
const KEYS: [(Setting, &str, &str); 6] = [
    (Setting::Temperature, "temperature", "general.sampling.temp"),
    (Setting::TopK, "top_k", "general.sampling.top_k"),
    (Setting::TopP, "top_p", "general.sampling.top_p"),
    (Setting::MinP, "min_p", "general.sampling.min_p"),
    (Setting::RepeatPenalty, "repetition_penalty", "general.sampling.penalty_repeat"),
    (Setting::MaxTokens, "max_new_tokens", MAX_NEW_TOKENS),
];

impl Defaults {
    /// Those of a file that cannot be read; [`Defaults::check`] reports the error.
    pub(super) fn unreadable(file: String, error: Error) -> Self {
        Defaults { values: SamplingDefaults::default(), file, wrong: vec![], unreadable: Some(error) }
    }

    /// Those of generation_config.json. `do_sample: false` is greedy.
    pub(super) fn of_json(file: String, json: &Value) -> Self {
        let greedy = json.get("do_sample").and_then(Value::as_bool) == Some(false);
        Self::read(file, |setting, key, _| match setting {
            Setting::Temperature if greedy => Some((key, json!(0))),
            _ => Some((key, json.get(key)?.clone())),
        })
    }

    /// Those of a GGUF file.
    pub(super) fn of_gguf(metadata: &Metadata) -> Self {
        Self::read(metadata.file().to_owned(), |_, _, key| Some((key, number(metadata.get(key)?))))
    }

    fn read(file: String, said: impl Fn(Setting, &'static str, &'static str) -> Option<(&'static str, Value)>) -> Self {
        let mut defaults = Defaults { values: SamplingDefaults::default(), file, wrong: vec![], unreadable: None };
        for (setting, of_json, of_gguf) in KEYS {
            let Some((key, value)) = said(setting, of_json, of_gguf).filter(|(_, value)| !value.is_null()) else {
                continue;
            };
            if let Err(wanted) = defaults.set(setting, &value) {
                defaults.wrong.push((setting, format!("{key} is {}, it must be {wanted}", shown(&value))));
            }
        }
        defaults
    }

    /// Sets a value; the error says what it must be.
    fn set(&mut self, setting: Setting, value: &Value) -> Result<(), &'static str> {
        const SHARE: &str = "a number from 0 to 1";
        let number = |is: &dyn Fn(f32) -> bool| value.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && is(*v));
        let share = || number(&|v| (0.0..=1.0).contains(&v)).map(Some).ok_or(SHARE);
        let values = &mut self.values;
        match setting {
            Setting::Temperature => {
                values.temperature = Some(number(&|v| v >= 0.0).ok_or("a number from 0 on; 0 is greedy")?);
            }
            Setting::TopK => {
                // Some configs write -1 for all.
                let all = (value.as_i64() == Some(-1)).then_some(0);
                let k = value.as_u64().map(|k| u32::try_from(k).unwrap_or(u32::MAX)).or(all);
                values.top_k = Some(k.ok_or("a whole number from 0 on; 0 keeps all")?);
            }
            Setting::TopP => values.top_p = share()?,
            Setting::MinP => values.min_p = share()?,
            Setting::RepeatPenalty => {
                values.repeat_penalty = Some(number(&|v| v > 0.0).ok_or("a number above 0; 1 does nothing")?);
            }
            Setting::MaxTokens => {
                let tokens = value.as_u64().and_then(|n| usize::try_from(n).ok());
                values.max_tokens = Some(tokens.ok_or("a whole number from 0 on")?);
            }
        }
        Ok(())
    }

    /// Fails if an invalid value is not overridden by `asked`.
    pub(super) fn check(&self, asked: &SamplingDefaults) -> Result<()> {
        if let Some(error) = &self.unreadable {
            return Err(restated(error));
        }
        let is_asked = |setting| match setting {
            Setting::Temperature => asked.temperature.is_some(),
            Setting::TopK => asked.top_k.is_some(),
            Setting::TopP => asked.top_p.is_some(),
            Setting::MinP => asked.min_p.is_some(),
            Setting::RepeatPenalty => asked.repeat_penalty.is_some(),
            Setting::MaxTokens => asked.max_tokens.is_some(),
        };
        match self.wrong.iter().find(|(setting, _)| !is_asked(*setting)) {
            None => Ok(()),
            Some((_, said)) => {
                let problem = format!("{said}; correct the file, or set another value where you ask the model");
                Err(Error::BadConfig { file: self.file.clone(), problem })
            }
        }
    }
}

/// The shortest JSON number that reads back as a GGUF file's number; other values as text.
fn number(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::F32(v) => v.to_string().parse::<f64>().map_or_else(|_| json!(v.to_string()), Value::from),
        gguf::Value::F64(v) => Value::from(*v),
        gguf::Value::I32(v) => json!(v),
        gguf::Value::I64(v) => json!(v),
        other => other.whole().map_or_else(|| json!(other.described()), Value::from),
    }
}

/// Sets the keys of a GGUF file for these values.
pub(in crate::runtime) fn to_gguf(values: &SamplingDefaults, keys: &mut Metadata) {
    let SamplingDefaults { temperature, top_k, top_p, min_p, repeat_penalty, max_tokens } = *values;
    let float = |value: Option<f32>| value.map(gguf::Value::F32);
    let said = |setting| match setting {
        Setting::Temperature => float(temperature),
        Setting::TopK => top_k.map(|k| gguf::Value::I32(i32::try_from(k).unwrap_or(i32::MAX))),
        Setting::TopP => float(top_p),
        Setting::MinP => float(min_p),
        Setting::RepeatPenalty => float(repeat_penalty),
        Setting::MaxTokens => max_tokens.map(|n| gguf::Value::U64(n as u64)),
    };
    for (setting, _, key) in KEYS {
        if let Some(value) = said(setting) {
            keys.set(key, value);
        }
    }
}

/// The keys of generation_config.json for these values.
pub(in crate::runtime) fn to_json(values: &SamplingDefaults) -> Map<String, Value> {
    let SamplingDefaults { temperature, top_k, top_p, min_p, repeat_penalty, max_tokens } = *values;
    let float = |value: Option<f32>| value.map(|v| number(&gguf::Value::F32(v)));
    let mut said = Map::new();
    if let Some(temperature) = temperature {
        said.insert("do_sample".to_owned(), (temperature > 0.0).into());
    }
    let all = [
        ("temperature", float(temperature.filter(|t| *t > 0.0))),
        ("top_k", top_k.map(Value::from)),
        ("top_p", float(top_p)),
        ("min_p", float(min_p)),
        ("repetition_penalty", float(repeat_penalty)),
        ("max_new_tokens", max_tokens.map(Value::from)),
    ];
    said.extend(all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: Value) -> Defaults {
        Defaults::of_json("dir/generation_config.json".to_owned(), &json)
    }

    #[test]
    fn generation_config_is_read_and_greedy_is_a_temperature_of_0() {
        let all = json!({
            "temperature": 0.7, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1, "max_new_tokens": 9,
        });
        let values = SamplingDefaults {
            temperature: Some(0.7),
            top_k: Some(5),
            top_p: Some(0.5),
            min_p: Some(0.1),
            repeat_penalty: Some(1.1),
            max_tokens: Some(9),
        };
        assert_eq!(of(all).values, values);
        assert_eq!(of(json!({"do_sample": false, "temperature": 0.7})).values.temperature, Some(0.0));
        assert_eq!(
            of(json!({"top_k": -1, "top_p": null})).values,
            SamplingDefaults { top_k: Some(0), ..Default::default() }
        );
        assert_eq!(of(Value::Null).values, SamplingDefaults::default());
        // Writing to a GGUF file or to JSON and reading back changes nothing.
        let mut keys = Metadata::new("x.gguf");
        to_gguf(&values, &mut keys);
        assert_eq!(Defaults::of_gguf(&keys).values, values);
        assert_eq!(of(to_json(&values).into()).values, values);
        let greedy = SamplingDefaults { temperature: Some(0.0), ..Default::default() };
        assert_eq!(to_json(&greedy), json!({"do_sample": false}).as_object().unwrap().clone());
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_file_unless_it_is_overridden() {
        for (key, value) in [
            ("temperature", json!(-1)),
            ("temperature", json!("hot")),
            ("temperature", json!(1e300)),
            ("top_k", json!(-2)),
            ("top_k", json!(1.5)),
            ("top_p", json!(1.5)),
            ("min_p", json!(-0.1)),
            ("repetition_penalty", json!(0.0)),
            ("repetition_penalty", json!({"__float__": "Infinity"})),
            ("max_new_tokens", json!(-3)),
        ] {
            let defaults = of(json!({ key: value }));
            let error = defaults.check(&SamplingDefaults::default()).unwrap_err();
            assert!(matches!(error, Error::BadConfig { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains("dir/generation_config.json") && said.contains(key), "{said}");
            let asked = of(json!({
                "temperature": 1, "top_k": 1, "top_p": 1, "min_p": 0, "repetition_penalty": 1, "max_new_tokens": 1,
            }));
            defaults.check(&asked.values).unwrap();
        }
        let mut keys = Metadata::new("x.gguf");
        keys.set("general.sampling.top_p", gguf::Value::String("much".to_owned()));
        let said = Defaults::of_gguf(&keys).check(&SamplingDefaults::default()).unwrap_err().to_string();
        assert!(said.contains("x.gguf: general.sampling.top_p is"), "{said}");
    }
}
