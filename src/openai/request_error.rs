//! Why a request is not answered, and where in it the reason stands.

use serde_json::Value;
use std::fmt;

/// Why a request is not answered: a short line that names the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// What is wrong, where, and what would be right.
    pub message: String,
    /// The place, such as `messages[3].role`.
    pub param: Option<String>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RequestError {}

/// Characters of a name or a text that a message shows.
const SHOWN: usize = 40;

/// Where in a request something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath(String);

impl FieldPath {
    /// The request itself.
    pub(super) fn root() -> Self {
        FieldPath(String::new())
    }

    /// A field of the object here.
    pub(super) fn field(&self, name: &str) -> Self {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match (plain && name.len() <= SHOWN, self.0.is_empty()) {
            (true, true) => FieldPath(name.to_owned()),
            (true, false) => FieldPath(format!("{}.{name}", self.0)),
            (false, _) => self.key(name),
        }
    }

    /// An entry of the object here, whose keys are no names of fields.
    pub(super) fn key(&self, key: &str) -> Self {
        FieldPath(format!("{}[{:?}]", self.0, cut(key)))
    }

    /// An item of the list here.
    pub(super) fn item(&self, index: usize) -> Self {
        FieldPath(format!("{}[{index}]", self.0))
    }

    /// That something is wrong here: the problem follows the place.
    pub(super) fn error(&self, problem: impl fmt::Display) -> RequestError {
        RequestError { message: format!("{} {problem}", self.0), param: Some(self.0.clone()) }
    }

    /// That the value here is not what it must be.
    pub(super) fn must_be(&self, value: &Value, what: &str) -> RequestError {
        self.error(format_args!("is {}: it must be {what}", shown(value)))
    }
}

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A value in a few words, however long it is.
fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{:?}", cut(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_read_as_in_javascript() {
        let root = FieldPath::root();
        let part = root.field("messages").item(3).field("content").item(1).field("type");
        assert_eq!(part.0, "messages[3].content[1].type");
        assert_eq!(root.field("logit_bias").key("12a").0, "logit_bias[\"12a\"]");
        assert_eq!(root.field("a b").0, "[\"a b\"]");
    }

    #[test]
    fn however_long_a_value_is_its_refusal_is_short() {
        let long = "é".repeat(5000);
        let place = FieldPath::root().field("stop");
        for value in [json!(long), json!([long]), json!({"a": long}), json!(1.5)] {
            let refusal = place.must_be(&value, "a text");
            assert!(refusal.message.len() < 140 && refusal.message.starts_with("stop is "), "{refusal}");
        }
        let refusal = FieldPath::root().field(&long).error("is unknown");
        assert!(refusal.message.len() < 140, "{refusal}");
    }
}
