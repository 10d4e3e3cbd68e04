//! Functions that a chat request offers to the model: `tools` and `tool_choice`.
//!
//! The model's chat template tells it about them, and the model writes its calls as text in the form that the template taught it
//! ([`calls`]).

pub(super) mod calls;

use super::fields::Fields;
use super::request_error::{FieldPath, RequestError};
use crate::runtime::Checkpoint;
use serde_json::{Value, json};

/// Maximum number of functions, as OpenAI has it.
const MOST: usize = 128;

/// The functions of a request that offers some.
#[derive(Debug, PartialEq)]
pub(super) struct Tools {
    offered: Vec<Value>,
    choice: ToolChoice,
    path: FieldPath,
}

#[derive(Debug, PartialEq)]
enum ToolChoice {
    /// The model decides.
    Auto,
    /// It must call one of these.
    Required(Vec<String>),
}

impl Tools {
    /// The functions, unless there are none or the model is not to call any.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Option<Self>, RequestError> {
        let path = fields.path("tools");
        let list = fields.read("tools", "a list of functions", Value::as_array)?.map_or(&[][..], Vec::as_slice);
        if list.len() > MOST {
            return Err(path.error(format_args!("has {} functions: at most {MOST} are possible", list.len())));
        }
        let names = list.iter().enumerate().map(|(i, tool)| name_of(tool, &path.item(i)));
        let names = names.collect::<Result<Vec<String>, _>>()?;
        let path_of_choice = fields.path("tool_choice");
        let choice = match fields.get("tool_choice") {
            None => ToolChoice::Auto,
            Some(Value::String(word)) if word == "auto" => ToolChoice::Auto,
            Some(Value::String(word)) if word == "none" => return Ok(None),
            Some(_) if names.is_empty() => return Err(path_of_choice.error("needs tools")),
            Some(Value::String(word)) if word == "required" => ToolChoice::Required(names),
            Some(value) => ToolChoice::Required(vec![chosen(value, &names, &path_of_choice)?]),
        };
        let offered = list.to_vec();
        Ok((!offered.is_empty()).then_some(Tools { offered, choice, path }))
    }

    /// What the chat template gets as `tools`.
    pub(super) fn offered(&self) -> &[Value] {
        &self.offered
    }

    /// An error if the model's template does not offer tools.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> Result<(), RequestError> {
        match checkpoint.template_mentions("tools") {
            true => Ok(()),
            false => Err(self.path.error("is not supported: this model's chat template does not offer tools")),
        }
    }

    /// Whether the answer must be a call.
    pub(super) fn must_be_called(&self) -> bool {
        matches!(self.choice, ToolChoice::Required(_))
    }

    /// A JSON schema of the calls, if the answer must be one.
    pub(super) fn required_call(&self) -> Option<Value> {
        let ToolChoice::Required(names) = &self.choice else { return None };
        let functions = self.offered.iter().map(|tool| &tool["function"]);
        let wanted = functions.filter(|function| names.iter().any(|name| function["name"] == name.as_str()));
        let call = |function: &Value| {
            let arguments = match &function["parameters"] {
                Value::Null => json!({ "type": "object" }),
                parameters => parameters.clone(),
            };
            json!({
                "type": "object",
                "properties": { "name": { "const": function["name"] }, "arguments": arguments },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        };
        Some(json!({ "anyOf": wanted.map(call).collect::<Vec<_>>() }))
    }

    /// The field, for errors about the constraint.
    pub(super) fn path(&self) -> &FieldPath {
        &self.path
    }
}

/// The name of a function.
fn name_of(tool: &Value, path: &FieldPath) -> Result<String, RequestError> {
    let map = tool.as_object().ok_or_else(|| path.must_be(tool, "an object with type and function"))?;
    let mut tool = Fields::new(map, path.clone());
    let kind = tool.read("type", "a string", Value::as_str)?.unwrap_or("function");
    if kind != "function" {
        return Err(path.field("type").must_be(&kind.into(), "\"function\", the only supported type"));
    }
    let path = path.field("function");
    let function = tool.read("function", "an object with name and parameters", Value::as_object)?;
    let mut function = Fields::new(function.ok_or_else(|| path.error("is missing"))?, path.clone());
    let name = function.read("name", "a string", Value::as_str)?.filter(|name| !name.is_empty());
    function.read("parameters", "a JSON schema, which is an object", Value::as_object)?;
    Ok(name.ok_or_else(|| path.field("name").error("is missing"))?.to_owned())
}

/// The function of `{"type": "function", "function": {"name": ..}}`.
fn chosen(choice: &Value, names: &[String], path: &FieldPath) -> Result<String, RequestError> {
    let forms = "\"auto\", \"none\", \"required\", or an object that names a function";
    let name = choice["function"]["name"].as_str().ok_or_else(|| path.must_be(choice, forms))?;
    match names.iter().any(|known| known == name) {
        true => Ok(name.to_owned()),
        false => Err(path.error(format_args!("names {name:?}, which is not in tools"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Option<Tools>, RequestError> {
        Tools::read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()))
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn a_choice_says_whether_the_model_must_call() {
        let with = |choice: Value| json!({"tools": [tool("add"), tool("now")], "tool_choice": choice});
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        let choice = |body| read(body).unwrap().map(|tools| tools.choice);
        assert_eq!(choice(json!({})), None);
        assert_eq!(choice(json!({"tools": [], "tool_choice": "auto"})), None);
        assert_eq!(choice(with(json!("none"))), None);
        assert_eq!(choice(with(json!("auto"))), Some(ToolChoice::Auto));
        let required = |names: &[&str]| Some(ToolChoice::Required(names.iter().map(|&name| name.to_owned()).collect()));
        assert_eq!(choice(with(json!("required"))), required(&["add", "now"]));
        assert_eq!(choice(with(named("now"))), required(&["now"]));
        for (body, said) in [
            (with(named("gone")), "tool_choice names \"gone\""),
            (with(json!("maybe")), "tool_choice is \"maybe\""),
            (json!({"tool_choice": "required"}), "tool_choice needs tools"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type is \"web_search\""),
            (json!({"tools": [tool("a"), {"function": {}}]}), "tools[1].function.name is missing"),
            (json!({"tools": [{}]}), "tools[0].function is missing"),
            (json!({"tools": vec![tool("a"); 129]}), "tools has 129 functions"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.message.starts_with(said), "{error}");
        }
    }
}
