//! The constraint on the answers of a request: OpenAI's `response_format`, and the fields of llama.cpp and vLLM for the same.

use super::fields::{Fields, items};
use super::request_error::{FieldPath, RequestError};
use super::tools::calls::CallForm;
use crate::error::{Error, Result as Outcome};
use crate::runtime::Checkpoint;
use crate::text::{Constraint, Grammar};
use serde_json::Value;

/// A constraint, and the field that asks for it.
#[derive(Debug)]
pub(super) struct AskedConstraint {
    constraint: Constraint,
    path: FieldPath,
}

const FORMATS: &str = "\"text\", \"json_object\", \"json_schema\" or \"regex\"";

impl AskedConstraint {
    /// The constraint on an answer that must call a tool; `schema` is that of the call.
    pub(super) fn on_call(form: CallForm, schema: &Value, path: &FieldPath) -> Option<Self> {
        asked(Constraint::Lark(form.grammar(schema)), path.clone())
    }

    /// The constraint of a request, if it has one.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Option<Self>, RequestError> {
        let asked = [
            response_format(fields)?,
            schema(fields, "json_schema")?,
            grammar(fields, "grammar")?,
            schema(fields, "guided_json")?,
            regex(fields, "guided_regex")?,
            choice(fields, "guided_choice")?,
            grammar(fields, "guided_grammar")?,
            structured_outputs(fields)?,
        ];
        only_one(asked)
    }

    /// An error if the constraint cannot be used with this model.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> Result<(), RequestError> {
        let problem = match self.grammar(checkpoint) {
            Ok(_) => return Ok(()),
            Err(Error::BadConstraint { problem, .. }) => problem,
            Err(error) => error.to_string(),
        };
        Err(self.path.error(format_args!("cannot be used: {problem}")))
    }

    /// The constraint compiled for this model.
    pub(super) fn grammar(&self, checkpoint: &Checkpoint) -> Outcome<Grammar> {
        checkpoint.grammar(&self.constraint)
    }
}

type Asked = Result<Option<AskedConstraint>, RequestError>;

fn asked(constraint: Constraint, path: FieldPath) -> Option<AskedConstraint> {
    Some(AskedConstraint { constraint, path })
}

/// The only constraint of several fields.
fn only_one(asked: impl IntoIterator<Item = Option<AskedConstraint>>) -> Asked {
    let mut all = asked.into_iter().flatten();
    let first = all.next();
    match all.next() {
        Some(second) => Err(second.path.error("is a second constraint on the answer: give only one")),
        None => Ok(first),
    }
}

/// `{"type": "json_schema", "json_schema": {"name": .., "schema": ..}}` and the like.
fn response_format(fields: &mut Fields<'_>) -> Asked {
    let path = fields.path("response_format");
    let Some(format) = fields.read("response_format", "an object", Value::as_object)?.filter(|map| !map.is_empty())
    else {
        return Ok(None);
    };
    let mut format = Fields::new(format, path.clone());
    let Some(kind) = format.read("type", "a string", Value::as_str)? else {
        return Err(format.path("type").error(format_args!("is missing: it is {FORMATS}")));
    };
    let constraint = match kind {
        "text" => None,
        // llama.cpp takes a schema here too.
        "json_object" => match schema(&mut format, "schema")? {
            None => asked(Constraint::JsonObject, path),
            constraint => constraint,
        },
        "json_schema" => {
            let inner = format.path("json_schema");
            let described = format.read("json_schema", "an object with name and schema", Value::as_object)?;
            let found = match described {
                Some(map) => {
                    let mut described = Fields::new(map, inner.clone());
                    for (name, what) in [("name", "a string"), ("description", "a string")] {
                        described.read(name, what, Value::as_str)?;
                    }
                    // Constraints are always strict.
                    described.read("strict", "true or false", Value::as_bool)?;
                    let found = schema(&mut described, "schema")?;
                    described.finish()?;
                    found
                }
                None => schema(&mut format, "schema")?,
            };
            Some(found.ok_or_else(|| inner.field("schema").error("is missing"))?)
        }
        "regex" => {
            let found =
                only_one([regex(&mut format, "regex")?, regex(&mut format, "pattern")?, regex(&mut format, "value")?])?;
            Some(found.ok_or_else(|| path.field("regex").error("is missing"))?)
        }
        other => return Err(format.path("type").must_be(&other.into(), FORMATS)),
    };
    format.finish()?;
    Ok(constraint)
}

/// vLLM's newer form: an object with one of several constraints.
fn structured_outputs(fields: &mut Fields<'_>) -> Asked {
    let path = fields.path("structured_outputs");
    let Some(map) = fields.read("structured_outputs", "an object", Value::as_object)? else { return Ok(None) };
    let mut outputs = Fields::new(map, path);
    let object = outputs.read("json_object", "true or false", Value::as_bool)?.unwrap_or(false);
    let object =
        object.then(|| AskedConstraint { constraint: Constraint::JsonObject, path: outputs.path("json_object") });
    let constraint = only_one([
        schema(&mut outputs, "json")?,
        regex(&mut outputs, "regex")?,
        choice(&mut outputs, "choice")?,
        grammar(&mut outputs, "grammar")?,
        object,
    ])?;
    outputs.finish()?;
    Ok(constraint)
}

/// A JSON schema, or a string that holds one, as vLLM takes it.
fn schema(fields: &mut Fields<'_>, name: &'static str) -> Asked {
    let path = fields.path(name);
    let parsed = |value: &Value| match value {
        Value::Object(_) | Value::Bool(_) => Some(value.clone()),
        Value::String(text) => {
            serde_json::from_str(text).ok().filter(|schema: &Value| schema.is_object() || schema.is_boolean())
        }
        _ => None,
    };
    let schema = fields.read(name, "a JSON schema, which is an object", parsed)?;
    Ok(schema.and_then(|schema| asked(Constraint::JsonSchema(schema), path)))
}

/// A regular expression; an empty string is none.
fn regex(fields: &mut Fields<'_>, name: &'static str) -> Asked {
    text(fields, name, "a regular expression, which is a string", Constraint::Regex)
}

/// A grammar; an empty string is none.
fn grammar(fields: &mut Fields<'_>, name: &'static str) -> Asked {
    text(fields, name, "a grammar, which is a string", Constraint::Lark)
}

fn text(fields: &mut Fields<'_>, name: &'static str, what: &str, constraint: fn(String) -> Constraint) -> Asked {
    let path = fields.path(name);
    let text = fields.read(name, what, Value::as_str)?.filter(|text| !text.is_empty());
    Ok(text.and_then(|text| asked(constraint(text.to_owned()), path)))
}

/// A list of texts; an empty list is none.
fn choice(fields: &mut Fields<'_>, name: &'static str) -> Asked {
    let path = fields.path(name);
    let Some(list) = fields.read(name, "a list of strings", Value::as_array)?.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let choices = items(list, &path, "a string", |value| value.as_str().map(str::to_owned))?;
    Ok(asked(Constraint::Choice(choices), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Option<Constraint>, RequestError> {
        let mut fields = Fields::new(body.as_object().unwrap(), FieldPath::root());
        let asked = AskedConstraint::read(&mut fields)?;
        fields.finish()?;
        Ok(asked.map(|asked| asked.constraint))
    }

    #[test]
    fn each_field_asks_for_its_constraint() {
        let schema = json!({"type": "object"});
        let as_schema = || Constraint::JsonSchema(json!({"type": "object"}));
        let format = |format: Value| json!({"response_format": format});
        let outputs = |outputs: Value| json!({"structured_outputs": outputs});
        for (body, expected) in [
            (format(json!({"type": "json_object"})), Constraint::JsonObject),
            (format(json!({"type": "json_object", "schema": schema})), as_schema()),
            (
                format(json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}})),
                as_schema(),
            ),
            (format(json!({"type": "json_schema", "schema": schema})), as_schema()),
            (format(json!({"type": "regex", "regex": "a+"})), Constraint::Regex("a+".to_owned())),
            (json!({"json_schema": schema}), as_schema()),
            (json!({"grammar": "start: \"a\""}), Constraint::Lark("start: \"a\"".to_owned())),
            (json!({"guided_json": schema.to_string()}), as_schema()),
            (json!({"guided_regex": "a+"}), Constraint::Regex("a+".to_owned())),
            (json!({"guided_choice": ["a", "b"]}), Constraint::Choice(vec!["a".to_owned(), "b".to_owned()])),
            (json!({"guided_grammar": "start: \"a\""}), Constraint::Lark("start: \"a\"".to_owned())),
            (outputs(json!({"json": schema, "regex": null})), as_schema()),
            (outputs(json!({"json_object": true})), Constraint::JsonObject),
            (outputs(json!({"choice": ["a"]})), Constraint::Choice(vec!["a".to_owned()])),
        ] {
            assert_eq!(read(body.clone()), Ok(Some(expected)), "{body}");
        }
    }

    #[test]
    fn values_without_effect_ask_for_none() {
        for body in [
            json!({"response_format": {"type": "text"}}),
            json!({"response_format": {}, "grammar": "", "guided_choice": [], "json_schema": null}),
            json!({"structured_outputs": {}}),
            json!({"structured_outputs": {"json_object": false}}),
        ] {
            assert_eq!(read(body.clone()), Ok(None), "{body}");
        }
    }

    #[test]
    fn errors_name_the_path() {
        for (body, said) in [
            (json!({"response_format": "json"}), "response_format is \"json\""),
            (json!({"response_format": {"type": "xml"}}), "response_format.type is \"xml\""),
            (json!({"response_format": {"schema": {}}}), "response_format.type is missing"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema is missing"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}}),
                "response_format.json_schema.schema is 7",
            ),
            (
                json!({"response_format": {"type": "json_object", "colour": 7}}),
                "response_format.colour is not a known field",
            ),
            (json!({"response_format": {"type": "regex"}}), "response_format.regex is missing"),
            (json!({"guided_choice": ["a", 7]}), "guided_choice[1] is 7"),
            (json!({"guided_json": "{"}), "guided_json is \"{\""),
            (json!({"grammar": 7}), "grammar is 7"),
            (json!({"structured_outputs": {"regex": 7}}), "structured_outputs.regex is 7"),
            (json!({"structured_outputs": {"structural_tag": "x"}}), "structured_outputs.structural_tag is not"),
            (json!({"guided_regex": "a", "grammar": "b"}), "guided_regex is a second constraint"),
            (
                json!({"structured_outputs": {"regex": "a", "choice": ["b"]}}),
                "structured_outputs.choice is a second constraint",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.message.starts_with(said) && error.message.len() < 150, "{error}");
            assert!(error.param.is_some_and(|param| said.starts_with(&param)), "{said}");
        }
    }
}
