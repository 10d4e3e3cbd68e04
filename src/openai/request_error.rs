//! Errors of a request with the path of the offending field.

use serde_json::Value;
use std::fmt;

/// Why a request is invalid: one short line that names the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The field, the problem, and the allowed values.
    pub message: String,
    /// The path of the field, such as `messages[3].role`.
    pub param: Option<String>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RequestError {}

/// Maximum characters of a name or string in a message.
const SHOWN: usize = 40;

/// The path of a field in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath(String);

impl FieldPath {
    /// The request's top level.
    pub(super) fn root() -> Self {
        FieldPath(String::new())
    }

    /// A field of this object.
    pub(super) fn field(&self, name: &str) -> Self {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match (plain && name.len() <= SHOWN, self.0.is_empty()) {
            (true, true) => FieldPath(name.to_owned()),
            (true, false) => FieldPath(format!("{}.{name}", self.0)),
            (false, _) => self.key(name),
        }
    }

    /// An entry of this object, whose keys are data rather than field names.
    pub(super) fn key(&self, key: &str) -> Self {
        FieldPath(format!("{}[{:?}]", self.0, cut(key)))
    }

    /// An item of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        FieldPath(format!("{}[{index}]", self.0))
    }

    /// An error at this path; its message is the path and the problem.
    pub(super) fn error(&self, problem: impl fmt::Display) -> RequestError {
        RequestError { message: format!("{} {problem}", self.0), param: Some(self.0.clone()) }
    }

    /// An error that says what the value here must be.
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

/// A value shortened for messages.
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
    fn paths_are_written_as_in_javascript() {
        let root = FieldPath::root();
        let part = root.field("messages").item(3).field("content").item(1).field("type");
        assert_eq!(part.0, "messages[3].content[1].type");
        assert_eq!(root.field("logit_bias").key("12a").0, "logit_bias[\"12a\"]");
        assert_eq!(root.field("a b").0, "[\"a b\"]");
    }

    #[test]
    fn errors_about_long_values_are_short() {
        let long = "é".repeat(5000);
        let path = FieldPath::root().field("stop");
        for value in [json!(long), json!([long]), json!({"a": long}), json!(1.5)] {
            let error = path.must_be(&value, "a text");
            assert!(error.message.len() < 140 && error.message.starts_with("stop is "), "{error}");
        }
        let error = FieldPath::root().field(&long).error("is unknown");
        assert!(error.message.len() < 140, "{error}");
    }
}
