//! What an answer can be constrained to.

use serde_json::Value;

/// What the whole text of an answer must be.
///
/// JSON is written with at most a few spaces or one line break and its indentation between two tokens of JSON.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// JSON that a schema allows. llguidance's documentation lists the keywords that it supports; others are an error. `$ref`
    /// names a place in the same schema, such as `#/$defs/point`.
    JsonSchema(Value),
    /// A text that this regular expression matches from beginning to end, in the syntax of Rust's crate `regex`.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of a grammar in llguidance's form of Lark, whose first rule is `start`.
    Lark(String),
}

impl Constraint {
    /// What it is, for messages.
    pub(super) fn source(&self) -> &'static str {
        match self {
            Constraint::JsonObject => "JSON",
            Constraint::JsonSchema(_) => "the JSON schema",
            Constraint::Regex(_) => "the regular expression",
            Constraint::Choice(_) => "the list of choices",
            Constraint::Lark(_) => "the grammar",
        }
    }
}

/// A regular expression for one of these texts.
pub(super) fn any_of(choices: &[String]) -> String {
    let literal = |text: &String| -> String {
        let plain = |c: char| c.is_ascii_alphanumeric();
        text.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) }).collect()
    };
    choices.iter().map(literal).collect::<Vec<_>>().join("|")
}
