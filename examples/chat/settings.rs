//! `/set`: sampling settings by name.

use super::commands::nearest;
use super::screen::printable;
use peregrine::runtime::{AnswerOptions, Sampling};

/// All settings.
pub const NAMES: &[&str] =
    &["temp", "top_k", "top_p", "min_p", "seed", "repeat_penalty", "presence_penalty", "frequency_penalty", "n"];

/// All settings with their values.
pub fn shown(sampling: &Sampling, options: &AnswerOptions) -> String {
    let all = NAMES.iter().filter_map(|name| Some(format!("{name} {}", value(name, sampling, options)?)));
    all.collect::<Vec<_>>().join(" ")
}

fn value(name: &str, s: &Sampling, options: &AnswerOptions) -> Option<String> {
    Some(match name {
        "temp" | "temperature" => s.temperature.to_string(),
        "top_k" => s.top_k.to_string(),
        "top_p" => s.top_p.to_string(),
        "min_p" => s.min_p.to_string(),
        "seed" => s.seed.to_string(),
        "repeat_penalty" => s.repeat_penalty.to_string(),
        "presence_penalty" => s.presence_penalty.to_string(),
        "frequency_penalty" => s.frequency_penalty.to_string(),
        "n" => options.max_tokens.map_or("-1".to_owned(), |n| n.to_string()),
        _ => return None,
    })
}

/// Changes a setting by `NAME VALUE` or `NAME=VALUE`; a name alone gives its value. An unknown name or value is an error message.
pub fn change(line: &str, sampling: &mut Sampling, options: &mut AnswerOptions) -> Result<Option<String>, String> {
    let (name, rest) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
    let Some(now) = value(name, sampling, options) else {
        let meant =
            nearest(name, NAMES.iter().copied()).map_or_else(String::new, |name| format!(", did you mean {name}?"));
        return Err(format!("unknown setting \"{}\"{meant}; /help lists the settings", printable(name)));
    };
    let text = rest.trim().trim_start_matches('=').trim_start();
    if text.is_empty() {
        return Ok(Some(format!("{name} {now}")));
    }
    let set = match name {
        "temp" | "temperature" => text.parse().map(|v| sampling.temperature = v).is_ok(),
        "top_k" => text.parse().map(|v| sampling.top_k = v).is_ok(),
        "top_p" => text.parse().map(|v| sampling.top_p = v).is_ok(),
        "min_p" => text.parse().map(|v| sampling.min_p = v).is_ok(),
        "seed" => text.parse().map(|v| sampling.seed = v).is_ok(),
        "repeat_penalty" => text.parse().map(|v| sampling.repeat_penalty = v).is_ok(),
        "presence_penalty" => text.parse().map(|v| sampling.presence_penalty = v).is_ok(),
        "frequency_penalty" => text.parse().map(|v| sampling.frequency_penalty = v).is_ok(),
        _ => text.parse::<i64>().map(|n| options.max_tokens = usize::try_from(n).ok()).is_ok(),
    };
    if set { Ok(None) } else { Err(format!("cannot set {name} to \"{}\": it stays {now}", printable(text))) }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, change, shown};
    use peregrine::runtime::{AnswerOptions, Sampling};

    #[test]
    fn every_setting_can_be_shown_and_changed_and_rejects_bad_values() {
        let (mut sampling, mut options) = (Sampling::GREEDY, AnswerOptions::default());
        for name in NAMES {
            assert_eq!(change(&format!("{name} 1"), &mut sampling, &mut options), Ok(None), "{name}");
            assert_eq!(change(name, &mut sampling, &mut options), Ok(Some(format!("{name} 1"))));
            assert!(change(&format!("{name} = x"), &mut sampling, &mut options).is_err(), "{name}");
        }
        change("temp=0.5", &mut sampling, &mut options).unwrap();
        change("n = -1", &mut sampling, &mut options).unwrap();
        assert!(shown(&sampling, &options).starts_with("temp 0.5 top_k 1 "));
        assert_eq!(options.max_tokens, None);
        let unknown = change("tmep 1", &mut sampling, &mut options).unwrap_err();
        assert!(unknown.contains("did you mean temp?"), "{unknown}");
    }
}
