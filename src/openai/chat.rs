//! The messages of a chat request.

use super::fields::Fields;
use super::request_error::{FieldPath, RequestError};
use super::unsupported::is_empty;
use crate::runtime::Checkpoint;
use crate::text::Message;
use serde_json::Value;

/// A conversation, and what its messages say beside role and content.
#[derive(Debug, PartialEq)]
pub(super) struct Chat {
    pub(super) messages: Vec<Message>,
    extra: Vec<ExtraField>,
}

/// A field of a message that some templates show. Templates here get role and content alone, which is right for those that
/// never look at the field.
#[derive(Debug, PartialEq)]
struct ExtraField {
    name: &'static str,
    place: FieldPath,
}

/// What a message may say beside role and content: calls of tools and what they belong to, who speaks, what was thought.
const TEMPLATE_FIELDS: &[&str] =
    &["function_call", "name", "reasoning", "reasoning_content", "thinking", "tool_call_id", "tool_calls"];

/// What changes nothing: hints for caches, sources of what was said.
const IGNORED: &[&str] = &["annotations", "cache_control"];

/// Kinds of parts of a content that are text, with the field that has it.
const TEXTS: &[(&str, &str)] =
    &[("text", "text"), ("input_text", "text"), ("output_text", "text"), ("refusal", "refusal")];

impl Chat {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, RequestError> {
        let place = fields.place("messages");
        let list = fields.read("messages", "a list of messages", Value::as_array)?;
        let list = list.ok_or_else(|| place.error("is missing: it is a list of messages"))?;
        if list.is_empty() {
            return Err(place.error("is empty: it must have one message at least"));
        }
        let mut chat = Chat { messages: Vec::with_capacity(list.len()), extra: vec![] };
        for (i, value) in list.iter().enumerate() {
            let place = place.item(i);
            let object = value.as_object().ok_or_else(|| place.must_be(value, "an object with role and content"))?;
            chat.read_message(Fields::new(object, place.clone()), &place)?;
        }
        Ok(chat)
    }

    fn read_message(&mut self, mut message: Fields<'_>, place: &FieldPath) -> Result<(), RequestError> {
        let role = message.read("role", "a text", Value::as_str)?;
        let role = role.filter(|role| !role.is_empty()).ok_or_else(|| place.error("has no role"))?;
        // OpenAI's newer word, which templates do not know.
        let role = if role == "developer" { "system" } else { role };
        let content = message.get("content").map(|content| read_content(content, &message.place("content")));
        // What an assistant said where it refused to say more.
        let refused = message.read("refusal", "a text", Value::as_str)?;
        let content = content.transpose()?.or_else(|| refused.map(str::to_owned)).unwrap_or_default();
        for (name, value) in message.rest() {
            if is_empty(value) || IGNORED.contains(&name) {
                continue;
            }
            let Some(name) = TEMPLATE_FIELDS.iter().find(|known| **known == name) else {
                return Err(message.unknown(name));
            };
            self.extra.push(ExtraField { name, place: message.place(name) });
        }
        self.messages.push(Message::new(role, content));
        Ok(())
    }

    /// Refuses what the model's template would show and does not get.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> Result<(), RequestError> {
        let shown = self.extra.iter().find(|field| checkpoint.template_mentions(field.name));
        let problem = "is not supported: this model's chat template looks at it, and gets role and content alone here";
        shown.map_or(Ok(()), |field| Err(field.place.error(problem)))
    }
}

/// A text, or the texts of a list's parts, joined.
fn read_content(content: &Value, place: &FieldPath) -> Result<String, RequestError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts.iter().enumerate().map(|(i, part)| read_part(part, &place.item(i))).collect(),
        other => Err(place.must_be(other, "a text, null, or a list of parts")),
    }
}

fn read_part<'a>(part: &'a Value, place: &FieldPath) -> Result<&'a str, RequestError> {
    let Some(object) = part.as_object() else {
        return part.as_str().ok_or_else(|| place.must_be(part, "a text, or an object with type and text"));
    };
    let mut fields = Fields::new(object, place.clone());
    let kind = fields.read("type", "a text", Value::as_str)?.unwrap_or("text");
    let Some((_, field)) = TEXTS.iter().find(|(known, _)| *known == kind) else {
        return Err(place.field("type").must_be(&Value::from(kind), "\"text\", as this model reads nothing else"));
    };
    let text = fields.read(field, "a text", Value::as_str)?;
    let text = text.ok_or_else(|| place.field(field).error("is missing"))?;
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
        Chat::read(&mut Fields::new(body.as_object().unwrap(), FieldPath::root()))
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
        let expected =
            [("system", "Be kind."), ("user", "Hi"), ("assistant", ""), ("assistant", ""), ("assistant", "No.")];
        assert_eq!(chat.messages, expected.map(|(role, content)| Message::new(role, content)));
        let extra: Vec<_> = chat.extra.iter().map(|field| field.place.error("").message).collect();
        assert_eq!(extra, ["messages[2].tool_calls ", "messages[3].tool_calls "]);
    }

    #[test]
    fn what_is_wrong_in_a_message_is_named_by_its_place_in_a_short_line() {
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
            (part(json!({"type": "text", "text": long, "weight": 2})), "messages[1].content[1].weight is not a field"),
            (json!([{"role": "user", "content": long, "colour": long}]), "messages[0].colour is not a field"),
        ] {
            let refusal = read(messages).unwrap_err();
            assert!(refusal.message.starts_with(said) && refusal.message.len() < 150, "{refusal}");
            assert!(refusal.param.is_some_and(|param| said.starts_with(&param)), "{said}");
        }
    }
}
