//! Log-probabilities of an answer's tokens: parsing the request's fields, and the JSON of the two endpoints.

use super::answer::Echo;
use super::fields::{Fields, count};
use super::request::Endpoint;
use super::request_error::RequestError;
use crate::runtime::{Chosen, Logprobs};
use crate::text::Tokenizer;
use serde_json::{Map, Value, json};

/// Maximum number of top tokens per position.
const MOST: usize = 20;

/// JSON has no -infinity: the log-probability of an impossible token.
const NEVER: f64 = -9999.0;

/// The number of top tokens to report with log-probabilities; `None` if none are requested.
pub(super) fn read(fields: &mut Fields<'_>, endpoint: Endpoint) -> Result<Option<usize>, RequestError> {
    let few = |value: &Value| count(value).filter(|n| *n <= MOST);
    let kind = format!("a whole number from 0 to {MOST}");
    match endpoint {
        Endpoint::Completions => {
            let none_or_few = |value: &Value| match value {
                Value::Bool(false) => Some(None),
                value => few(value).map(Some),
            };
            Ok(fields.read("logprobs", &kind, none_or_few)?.flatten())
        }
        Endpoint::Chat => {
            let wanted = fields.read("logprobs", "true or false", Value::as_bool)?.unwrap_or(false);
            match fields.read("top_logprobs", &kind, few)? {
                Some(top) if top > 0 && !wanted => Err(fields.path("top_logprobs").error("needs logprobs: true")),
                top => Ok(wanted.then_some(top.unwrap_or(0))),
            }
        }
    }
}

/// The format of chat completions: each token with its bytes, and the most probable ones.
pub(super) fn of_chat(chosen: &[Chosen], tokenizer: &Tokenizer) -> Value {
    let named = |id: u32, logprob: f64| {
        let bytes = tokenizer.bytes(id).unwrap_or_default();
        json!({ "token": spelled(bytes, ""), "logprob": logprob.max(NEVER), "bytes": bytes })
    };
    let content = chosen.iter().map(|token| {
        let mut entry = named(token.id, token.logprobs.chosen);
        entry["top_logprobs"] = token.logprobs.top.iter().map(|(id, logprob)| named(*id, *logprob)).collect();
        entry
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// The format of completions: parallel lists. Offsets count characters of `text`; the top tokens include the chosen one at any
/// rank.
///
/// `echo`: the prompt comes first. Its first token has no log-probability.
pub(super) fn of_completion(echo: Option<&Echo>, text: &str, chosen: &[Chosen], tokenizer: &Tokenizer) -> Value {
    let spelled = |id: u32| spelled(tokenizer.bytes(id).unwrap_or_default(), "bytes:");
    let top = |id: u32, logprobs: &Logprobs| {
        let mut top = Map::new();
        for (id, logprob) in logprobs.top.iter().copied().chain([(id, logprobs.chosen)]) {
            // If two tokens have the same text, keep the more probable one.
            top.entry(spelled(id)).or_insert(json!(logprob.max(NEVER)));
        }
        Value::Object(top)
    };
    let (mut tokens, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    if let Some(echo) = echo {
        let mut read = Vec::new();
        for (i, id) in echo.ids.iter().enumerate() {
            // Of a character that several tokens make, each has its place.
            offsets.push(String::from_utf8_lossy(&read).trim_end_matches('\u{fffd}').chars().count());
            read.extend_from_slice(tokenizer.bytes(*id).unwrap_or_default());
            let scored = i.checked_sub(1).and_then(|i| echo.logprobs.as_ref()?.get(i));
            tokens.push(spelled(*id));
            logprobs.push(scored.map(|scored| scored.chosen.max(NEVER)));
            tops.push(scored.map(|scored| top(*id, scored)));
        }
    }
    let (mut bytes, mut characters) = (0, echo.map_or(0, |echo| echo.text.chars().count()));
    for token in chosen {
        characters += text.get(bytes..token.at).map_or(0, |between| between.chars().count());
        bytes = token.at;
        offsets.push(characters);
        tokens.push(spelled(token.id));
        logprobs.push(Some(token.logprobs.chosen.max(NEVER)));
        tops.push(Some(top(token.id, &token.logprobs)));
    }
    json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}

/// A token's text, or its escaped bytes after the prefix `before` if they are not UTF-8.
fn spelled(bytes: &[u8], before: &str) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => before.to_owned() + &bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request_error::FieldPath;
    use super::*;

    fn wanted(body: Value, endpoint: Endpoint) -> Result<Option<usize>, RequestError> {
        read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()), endpoint)
    }

    #[test]
    fn each_endpoint_has_its_own_fields() {
        use Endpoint::{Chat, Completions};
        for (body, endpoint, expected) in [
            (json!({}), Completions, None),
            (json!({"logprobs": false}), Completions, None),
            (json!({"logprobs": 0}), Completions, Some(0)),
            (json!({"logprobs": 5.0}), Completions, Some(5)),
            (json!({"top_logprobs": 0}), Chat, None),
            (json!({"logprobs": false, "top_logprobs": null}), Chat, None),
            (json!({"logprobs": true}), Chat, Some(0)),
            (json!({"logprobs": true, "top_logprobs": 20}), Chat, Some(20)),
        ] {
            assert_eq!(wanted(body.clone(), endpoint), Ok(expected), "{body}");
        }
        for (body, endpoint, said) in [
            (json!({"logprobs": true}), Completions, "logprobs is true"),
            (json!({"logprobs": 21}), Completions, "logprobs is 21"),
            (json!({"logprobs": 3}), Chat, "logprobs is 3"),
            (json!({"top_logprobs": 3}), Chat, "top_logprobs needs logprobs"),
        ] {
            let error = wanted(body, endpoint).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_token_that_is_not_utf8_is_written_as_bytes() {
        assert_eq!(spelled("é".as_bytes(), "bytes:"), "é");
        assert_eq!(spelled(&[0xf0, 0x9f], "bytes:"), "bytes:\\xf0\\x9f");
    }
}
