//! The messages of a chat request.

use super::fields::Fields;
use super::request_error::{FieldPath, RequestError};
use super::unsupported::is_empty;
use crate::text::Message;
use serde_json::Value;

/// A conversation.
#[derive(Debug, PartialEq)]
pub(super) struct Chat {
    pub(super) messages: Vec<Message>,
}

/// Message fields that templates get beside role and content: tool calls, names, reasoning.
const TEMPLATE_FIELDS: &[&str] =
    &["function_call", "name", "reasoning", "reasoning_content", "thinking", "tool_call_id", "tool_calls"];

/// Message fields without effect: cache hints, citations.
const IGNORED: &[&str] = &["annotations", "cache_control"];

/// Types of content parts that are text, with the field that holds it.
const TEXTS: &[(&str, &str)] =
    &[("text", "text"), ("input_text", "text"), ("output_text", "text"), ("refusal", "refusal")];

impl Chat {
    /// `continues`: whether the list may be empty, to go on with an answer that was cut off.
    pub(super) fn read(fields: &mut Fields<'_>, continues: bool) -> Result<Self, RequestError> {
        let path = fields.path("messages");
        let list = fields.read("messages", "a list of messages", Value::as_array)?;
        let list = list.ok_or_else(|| path.error("is missing: it is a list of messages"))?;
        if list.is_empty() && !continues {
            return Err(path.error("is empty: it must have at least one message"));
        }
        let mut chat = Chat { messages: Vec::with_capacity(list.len()) };
        for (i, value) in list.iter().enumerate() {
            let path = path.item(i);
            let object = value.as_object().ok_or_else(|| path.must_be(value, "an object with role and content"))?;
            chat.read_message(Fields::new(object, path.clone()), &path)?;
        }
        Ok(chat)
    }

    fn read_message(&mut self, mut message: Fields<'_>, path: &FieldPath) -> Result<(), RequestError> {
        let role = message.read("role", "a string", Value::as_str)?;
        let role = role.filter(|role| !role.is_empty()).ok_or_else(|| path.error("has no role"))?;
        // OpenAI's newer name of the system role.
        let role = if role == "developer" { "system" } else { role };
        let content = message.get("content").map(|content| read_content(content, &message.path("content")));
        // An assistant's refusal is its text if it has no content.
        let refused = message.read("refusal", "a string", Value::as_str)?;
        let content = content.transpose()?.or_else(|| refused.map(str::to_owned)).unwrap_or_default();
        let mut read = Message::new(role, content);
        for (name, value) in message.rest() {
            if is_empty(value) || IGNORED.contains(&name) {
                continue;
            }
            if !TEMPLATE_FIELDS.contains(&name) {
                return Err(message.unknown(name));
            }
            let value = if name == "tool_calls" { with_parsed_arguments(value) } else { value.clone() };
            read = read.with_field(name, value);
        }
        self.messages.push(read);
        Ok(())
    }
}

/// Calls with their arguments as objects, as templates expect them; in requests they are JSON in a text.
fn with_parsed_arguments(calls: &Value) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(parsed) = parsed.filter(Value::is_object) {
            *arguments = parsed;
        }
    }
    calls
}

/// A string, or the joined texts of a list of parts.
fn read_content(content: &Value, path: &FieldPath) -> Result<String, RequestError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().enumerate().map(|(i, part)| read_part(part, &path.item(i))).collect(),
        other => Err(path.must_be(other, "a string, null, or a list of parts")),
    }
}

fn read_part<'a>(part: &'a Value, path: &FieldPath) -> Result<&'a str, RequestError> {
    let Some(object) = part.as_object() else {
        return part.as_str().ok_or_else(|| path.must_be(part, "a string, or an object with type and text"));
    };
    let mut fields = Fields::new(object, path.clone());
    let kind = fields.read("type", "a string", Value::as_str)?.unwrap_or("text");
    let Some((_, field)) = TEXTS.iter().find(|(known, _)| *known == kind) else {
        return Err(path.field("type").must_be(&Value::from(kind), "\"text\", the only supported type"));
    };
    let text = fields.read(field, "a string", Value::as_str)?;
    let text = text.ok_or_else(|| path.field(field).error("is missing"))?;
    match fields.rest().find(|(name, value)| !is_empty(value) && !IGNORED.contains(name)) {
        Some((name, _)) => Err(fields.unknown(name)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(messages: Value) -> Result<Chat, RequestError> {
        let body = json!({ "messages": messages });
        Chat::read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()), false)
    }

    #[test]
    fn contents_are_texts_parts_or_nothing() {
        let call = json!([{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]);
        let chat = read(json!([
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "input_text", "text": "kind."}]},
            {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral"}},
            {"role": "assistant", "content": null, "tool_calls": call, "refusal": null, "annotations": []},
            {"role": "assistant", "tool_calls": call},
            {"role": "assistant", "content": null, "refusal": "No."},
        ]));
        let chat = chat.unwrap();
        let call = json!([{"id": "c1", "type": "function", "function": {"name": "add", "arguments": {}}}]);
        let calling = || Message::new("assistant", "").with_field("tool_calls", call.clone());
        let plain = Message::new;
        let expected =
            [plain("system", "Be kind."), plain("user", "Hi"), calling(), calling(), plain("assistant", "No.")];
        assert_eq!(chat.messages, expected);
    }

    #[test]
    fn errors_in_a_message_name_their_path_in_a_short_line() {
        let long = "x".repeat(5000);
        let part = |part: Value| json!([{"role": "user", "content": "x"}, {"role": "user", "content": ["x", part]}]);
        for (messages, said) in [
            (json!(7), "messages is 7"),
            (json!([]), "messages is empty"),
            (json!([{"role": "user", "content": long}, 7]), "messages[1] is 7"),
            (json!([{"content": long}]), "messages[0] has no role"),
            (json!([{"role": 7, "content": long}]), "messages[0].role is 7"),
            (json!([{"role": "user", "content": 7}]), "messages[0].content is 7"),
            (json!([{"role": "user", "content": {"text": long}}]), "messages[0].content is an object"),
            (part(json!(7)), "messages[1].content[1] is 7"),
            (
                part(json!({"type": "image_url", "image_url": {"url": long}})),
                "messages[1].content[1].type is \"image_url\"",
            ),
            (part(json!({"type": "text", "text": 7})), "messages[1].content[1].text is 7"),
            (part(json!({"type": "text"})), "messages[1].content[1].text is missing"),
            (
                part(json!({"type": "text", "text": long, "weight": 2})),
                "messages[1].content[1].weight is not a known field",
            ),
            (json!([{"role": "user", "content": long, "colour": long}]), "messages[0].colour is not a known field"),
        ] {
            let error = read(messages).unwrap_err();
            assert!(error.message.starts_with(said) && error.message.len() < 150, "{error}");
            assert!(error.param.is_some_and(|param| said.starts_with(&param)), "{said}");
        }
    }
}
