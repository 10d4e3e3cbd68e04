//! Messages: role, content, and other fields that a chat template reads, each as JSON.

use crate::errors::{Failure, Outcome};
use napi_derive::napi;

/// A message of a conversation.
#[napi(object)]
pub struct Message {
    pub role: String,
    pub content: String,
    pub fields: Vec<Field>,
}

/// A field beside role and content.
#[napi(object)]
pub struct Field {
    pub name: String,
    pub json: String,
}

impl From<&peregrine::Message> for Message {
    fn from(message: &peregrine::Message) -> Self {
        let field = |(name, value): (&String, _)| Field { name: name.clone(), json: format!("{value}") };
        Message {
            role: message.role.clone(),
            content: message.content.clone(),
            fields: message.fields.iter().map(field).collect(),
        }
    }
}

impl Message {
    /// The library's form of it.
    pub fn of_library(&self) -> Outcome<peregrine::Message> {
        let mut message = peregrine::Message::new(&self.role, self.content.as_str());
        for Field { name, json } in &self.fields {
            let value = json.parse().map_err(|_| Failure::Setting(format!("{name}: it is not JSON")))?;
            message = message.with_field(name, value);
        }
        Ok(message)
    }
}

/// Messages for JavaScript.
pub fn messages(messages: &[peregrine::Message]) -> Vec<Message> {
    messages.iter().map(Message::from).collect()
}
