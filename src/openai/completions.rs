//! The prompts of a completion request.

use super::fields::{Fields, id, items};
use super::request_error::{FieldPath, RequestError};
use crate::error::Result as Outcome;
use crate::runtime::Checkpoint;
use crate::text::Specials;
use serde_json::Value;

/// A text to continue.
#[derive(Debug, PartialEq)]
pub(super) enum Prompt {
    Text(String),
    Ids { ids: Vec<u32>, path: FieldPath },
}

const FORMATS: &str = "a string, a list of token ids, or a list of those";

/// Parses `prompt`: one or several texts or lists of token ids.
pub(super) fn read(fields: &mut Fields<'_>) -> Result<Vec<Prompt>, RequestError> {
    let path = fields.path("prompt");
    match fields.get("prompt") {
        None => Err(path.error(format_args!("is missing: it is {FORMATS}"))),
        Some(Value::String(text)) => Ok(vec![Prompt::Text(text.clone())]),
        Some(Value::Array(list)) if list.is_empty() => Err(path.error(format_args!("is empty: it must be {FORMATS}"))),
        Some(Value::Array(list)) if list[0].is_number() => Ok(vec![Prompt::of_ids(list, path)?]),
        Some(Value::Array(list)) => list.iter().enumerate().map(|(i, one)| Prompt::of(one, path.item(i))).collect(),
        Some(other) => Err(path.must_be(other, FORMATS)),
    }
}

impl Prompt {
    /// Parses one of several prompts.
    fn of(value: &Value, path: FieldPath) -> Result<Self, RequestError> {
        match value {
            Value::String(text) => Ok(Prompt::Text(text.clone())),
            Value::Array(ids) => Prompt::of_ids(ids, path),
            other => Err(path.must_be(other, "a string or a list of token ids")),
        }
    }

    fn of_ids(list: &[Value], path: FieldPath) -> Result<Self, RequestError> {
        Ok(Prompt::Ids { ids: items(list, &path, "a token id", id)?, path })
    }

    /// An error for ids outside the vocabulary.
    pub(super) fn fits(&self, vocab: usize) -> Result<(), RequestError> {
        let Prompt::Ids { ids, path } = self else { return Ok(()) };
        match ids.iter().position(|id| *id as usize >= vocab) {
            Some(at) => Err(path.item(at).must_be(&ids[at].into(), &of_this_model(vocab))),
            None => Ok(()),
        }
    }

    pub(super) fn ids(&self, checkpoint: &Checkpoint) -> Outcome<Vec<u32>> {
        match self {
            Prompt::Text(text) => checkpoint.tokenizer()?.encode_text(text, Specials::Parse),
            Prompt::Ids { ids, .. } => Ok(ids.clone()),
        }
    }
}

/// The allowed range of token ids, for messages.
pub(super) fn of_this_model(vocab: usize) -> String {
    format!("a token id of this model, from 0 to {}", vocab.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn prompts(prompt: Value) -> Result<Vec<Prompt>, RequestError> {
        let body = json!({ "prompt": prompt });
        read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()))
    }

    #[test]
    fn prompts_are_texts_or_ids_one_or_several() {
        for (prompt, count) in [
            (json!("a"), 1),
            (json!(""), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2.0, 3]), 1),
            (json!([[1, 2], "a", [4]]), 3),
        ] {
            assert_eq!(prompts(prompt.clone()).map(|prompts| prompts.len()), Ok(count), "{prompt}");
        }
    }

    #[test]
    fn errors_in_a_prompt_name_their_path() {
        for (prompt, said) in [
            (json!(null), "prompt is missing"),
            (json!([]), "prompt is empty"),
            (json!(7), "prompt is 7"),
            (json!({"a": 1}), "prompt is an object"),
            (json!([1, "a"]), "prompt[1] is \"a\""),
            (json!([1, -1]), "prompt[1] is -1"),
            (json!([1, 1.5]), "prompt[1] is 1.5"),
            (json!(["a", 7]), "prompt[1] is 7"),
            (json!([[1], [2, {}]]), "prompt[1][1] is an object"),
        ] {
            let error = prompts(prompt).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
        let ids = prompts(json!([[1], [2, 300]])).unwrap();
        assert_eq!(ids[0].fits(288), Ok(()));
        assert!(ids[1].fits(288).unwrap_err().message.starts_with("prompt[1][1] is 300: it must be a token id"));
    }
}
