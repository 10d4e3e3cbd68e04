//! `/set`: how tokens are chosen, by name.

use peregrine::runtime::{AnswerOptions, Sampling};

/// All settings with their values.
pub fn shown(sampling: &Sampling, options: &AnswerOptions) -> String {
    let n = options.max_tokens.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    let s = sampling;
    format!(
        "temp {} top_k {} top_p {} min_p {} seed {} repeat_penalty {} presence_penalty {} frequency_penalty {} n {n}",
        s.temperature, s.top_k, s.top_p, s.min_p, s.seed, s.repeat_penalty, s.presence_penalty, s.frequency_penalty
    )
}

/// Changes one of them, `NAME VALUE` or `NAME=VALUE`; where there is no such name or value, says so.
pub fn change(line: &str, sampling: &mut Sampling, options: &mut AnswerOptions) -> Result<(), String> {
    let (name, value) = line.split_once([' ', '=']).unwrap_or((line, ""));
    let value = value.trim();
    let known = match name {
        "temp" | "temperature" => value.parse().map(|v| sampling.temperature = v).is_ok(),
        "top_k" => value.parse().map(|v| sampling.top_k = v).is_ok(),
        "top_p" => value.parse().map(|v| sampling.top_p = v).is_ok(),
        "min_p" => value.parse().map(|v| sampling.min_p = v).is_ok(),
        "seed" => value.parse().map(|v| sampling.seed = v).is_ok(),
        "repeat_penalty" => value.parse().map(|v| sampling.repeat_penalty = v).is_ok(),
        "presence_penalty" => value.parse().map(|v| sampling.presence_penalty = v).is_ok(),
        "frequency_penalty" => value.parse().map(|v| sampling.frequency_penalty = v).is_ok(),
        "n" => value.parse::<i64>().map(|n| options.max_tokens = usize::try_from(n).ok()).is_ok(),
        _ => false,
    };
    if known { Ok(()) } else { Err(format!("cannot set {name:?} to {value:?}; /help shows what can be set")) }
}
