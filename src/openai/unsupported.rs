//! Fields that are ignored, and unsupported fields with the values at which they have no effect.

use serde_json::Value;

/// Fields that do not affect an answer: user, billing, storage, routing, caching, speed hints, and parameters of samplers that
/// are themselves unsupported.
pub(super) const IGNORED: &[&str] = &[
    "cache_prompt",
    "cache_salt",
    "dry_allowed_length",
    "dry_base",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "id_slot",
    "metadata",
    "mirostat_eta",
    "mirostat_tau",
    "model",
    "n_discard",
    "n_keep",
    "parallel_tool_calls",
    "prediction",
    "priority",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
    "safety_identifier",
    "service_tier",
    "spaces_between_special_tokens",
    "timings_per_token",
    "user",
    "xtc_threshold",
];

/// A value at which an unsupported field has no effect.
#[derive(Clone, Copy)]
enum NoOp {
    False,
    True,
    Number(f64),
    Word(&'static str),
    /// An empty string, list or object.
    Empty,
    /// The object `{"type": "text"}`.
    PlainText,
    /// A list with "text" as its only value.
    OnlyText,
}

use NoOp::{Empty, False, Number, OnlyText, PlainText, True, Word};

/// Unsupported fields, with the values at which they have no effect.
const UNSUPPORTED: &[(&str, &[NoOp])] = &[
    ("add_generation_prompt", &[True]),
    ("allowed_token_ids", &[Empty]),
    ("audio", &[]),
    ("bad_words", &[Empty]),
    ("chat_template", &[]),
    ("chat_template_kwargs", &[Empty]),
    ("continue_final_message", &[False]),
    ("detokenize", &[True]),
    ("documents", &[Empty]),
    ("dry_multiplier", &[Number(0.0)]),
    ("dynatemp_range", &[Number(0.0)]),
    ("early_stopping", &[False]),
    ("echo", &[False]),
    ("function_call", &[Word("none"), Word("auto")]),
    ("functions", &[Empty]),
    ("ignore_eos", &[False]),
    ("include_stop_str_in_output", &[False]),
    ("length_penalty", &[Number(1.0)]),
    ("logits_processors", &[Empty]),
    ("min_keep", &[Number(0.0)]),
    ("min_tokens", &[Number(0.0)]),
    ("mirostat", &[Number(0.0)]),
    ("modalities", &[Empty, OnlyText]),
    ("n_probs", &[Number(0.0)]),
    ("no_repeat_ngram_size", &[Number(0.0)]),
    ("penalize_nl", &[False]),
    ("prompt_logprobs", &[]),
    ("reasoning_effort", &[Word("none")]),
    ("repetition_penalty", &[Number(1.0)]),
    ("return_token_ids", &[False]),
    ("return_tokens", &[False]),
    ("samplers", &[]),
    ("skip_special_tokens", &[True]),
    ("stop_token_ids", &[Empty]),
    ("suffix", &[Empty]),
    ("t_max_predict_ms", &[Number(0.0), Number(-1.0)]),
    ("tfs_z", &[Number(1.0)]),
    ("tool_choice", &[Word("none"), Word("auto")]),
    ("tools", &[Empty]),
    ("top_a", &[Number(0.0)]),
    ("top_n_sigma", &[Number(-1.0), Number(0.0)]),
    ("truncate_prompt_tokens", &[Number(-1.0)]),
    ("typical_p", &[Number(1.0)]),
    ("use_beam_search", &[False]),
    ("verbosity", &[Word("medium")]),
    ("web_search_options", &[]),
    ("xtc_probability", &[Number(0.0)]),
];

/// Fields that constrain the answer: unsupported without the feature `grammar`, and else read before this list is looked at.
const CONSTRAINTS: &[(&str, &[NoOp])] = &[
    ("grammar", &[Empty]),
    ("guided_choice", &[Empty]),
    ("guided_grammar", &[Empty]),
    ("guided_json", &[Empty]),
    ("guided_regex", &[Empty]),
    ("json_schema", &[Empty]),
    ("response_format", &[Empty, PlainText]),
    ("structured_outputs", &[Empty]),
];

/// Alternatives to unsupported fields.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("ignore_eos", "ban the EOS tokens with logit_bias"),
    ("repetition_penalty", "use repeat_penalty and repeat_last_n"),
    ("stop_token_ids", "use stop strings"),
];

/// The error message for an unsupported field.
pub(super) fn message_for(name: &str) -> String {
    match ALTERNATIVES.iter().find(|(known, _)| *known == name) {
        Some((_, instead)) => format!("is not supported: {instead}"),
        None => "is not supported".to_owned(),
    }
}

/// Whether a field is in the list of unsupported ones.
pub(super) fn is_listed(name: &str) -> bool {
    listed(name).is_some()
}

/// The values at which an unsupported field has no effect.
fn listed(name: &str) -> Option<&'static [NoOp]> {
    let constraints = if cfg!(feature = "grammar") { &[] } else { CONSTRAINTS };
    UNSUPPORTED.iter().chain(constraints).find(|(known, _)| *known == name).map(|(_, idle)| *idle)
}

/// Whether an unsupported field would have an effect at this value.
pub(super) fn has_effect(name: &str, value: &Value) -> bool {
    !listed(name).unwrap_or_default().iter().any(|idle| match idle {
        False => value == &Value::Bool(false),
        True => value == &Value::Bool(true),
        Number(number) => value.as_f64() == Some(*number),
        Word(word) => value == word,
        Empty => is_empty(value),
        PlainText => {
            value.as_object().is_some_and(|object| object.len() == 1 && object.get("type").is_some_and(is_text))
        }
        OnlyText => value.as_array().is_some_and(|list| list.iter().all(is_text)),
    })
}

/// Whether a value is an empty string, list or object.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn is_text(value: &Value) -> bool {
    value == "text"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_without_effect_are_recognized() {
        for (name, nothing, something) in [
            ("mirostat", json!(0), json!(2)),
            ("repetition_penalty", json!(1.0), json!(1.8)),
            ("ignore_eos", json!(false), json!(true)),
            ("stop_token_ids", json!([]), json!([8])),
            ("typical_p", json!(1.0), json!(0.2)),
            ("tools", json!([]), json!([1])),
            ("tool_choice", json!("auto"), json!("required")),
            ("skip_special_tokens", json!(true), json!(false)),
            ("echo", json!(false), json!(true)),
            ("modalities", json!(["text"]), json!(["text", "audio"])),
        ] {
            assert!(is_listed(name) && !has_effect(name, &nothing) && has_effect(name, &something), "{name}");
        }
    }

    #[test]
    fn no_field_is_on_both_lists() {
        assert!(IGNORED.iter().all(|name| !is_listed(name)));
        assert!(ALTERNATIVES.iter().all(|(name, _)| is_listed(name)));
    }
}
