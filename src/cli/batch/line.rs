//! A line of a batch: the request that it is, and the line that answers it.

use peregrine::Error;
use peregrine::openai::{Completion, Endpoint, Request, RequestError, error_body, failure_body};
use peregrine::runtime::Checkpoint;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line of the input.
pub struct Line {
    /// From 1 on.
    pub number: usize,
    pub custom_id: Option<String>,
    pub request: Result<Request, Rejected>,
}

/// Why a line is not worked on, and what that is the answer to.
#[derive(Debug, PartialEq)]
pub enum Rejected {
    /// The request of a custom_id.
    Request(RequestError),
    /// A line without a custom_id of its own.
    Line(RequestError),
}

/// A line of the output.
pub struct Reply {
    pub line: Value,
    /// Tokens generated.
    pub tokens: u64,
    pub failed: bool,
}

/// What a line may have.
const FIELDS: [&str; 4] = ["custom_id", "method", "url", "body"];

impl Line {
    /// Reads a line; what is wrong with it is kept beside its id, as far as it has one.
    pub fn parse(number: usize, text: &[u8]) -> Self {
        let value: Value = match serde_json::from_slice(text) {
            Ok(value) => value,
            Err(error) => {
                let refused = Rejected::Line(invalid(format!("not JSON: {error}"), None));
                return Line { number, custom_id: None, request: Err(refused) };
            }
        };
        let custom_id = value["custom_id"].as_str().map(str::to_owned);
        let request = match (&custom_id, value.as_object()) {
            (Some(_), Some(line)) => parse(line).map_err(Rejected::Request),
            _ => Err(Rejected::Line(invalid("it has no custom_id, a text", Some("custom_id")))),
        };
        Line { number, custom_id, request }
    }

    /// As a line whose id stands before it in the input.
    pub fn repeated(self) -> Self {
        let message = "this custom_id stands on an earlier line already";
        Line { request: Err(Rejected::Line(invalid(message, Some("custom_id")))), ..self }
    }

    /// Whether its answer goes by its number: it has no custom_id, or that of another line.
    pub fn is_refused_as_line(&self) -> bool {
        matches!(&self.request, Err(Rejected::Line(_)))
    }

    /// The answer to a line that is not worked on.
    pub fn refused(&self, refused: &Rejected) -> Reply {
        let line = match refused {
            Rejected::Request(refusal) => self.answered(400, error_body(refusal)),
            Rejected::Line(RequestError { message, param }) => {
                let message = format!("line {}: {message}", self.number);
                let error = json!({"code": "invalid_request", "message": message, "param": param, "line": self.number});
                json!({"id": self.id(), "custom_id": self.custom_id, "response": null, "error": error})
            }
        };
        Reply { line, tokens: 0, failed: true }
    }

    /// The answer to a request that was worked on.
    pub fn done(&self, endpoint: Endpoint, answered: &Completion, checkpoint: &Checkpoint) -> peregrine::Result<Reply> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = answered.body(endpoint, checkpoint, (self.number, created))?;
        Ok(Reply { line: self.answered(200, body), tokens: answered.completion_tokens, failed: false })
    }

    /// The answer to a request that something went wrong with.
    pub fn failed(&self, error: &Error) -> Reply {
        let (status, body) = failure_body(error);
        Reply { line: self.answered(status, body), tokens: 0, failed: true }
    }

    fn id(&self) -> String {
        format!("batch_req_{}", self.number)
    }

    fn answered(&self, status: u16, body: Value) -> Value {
        let response = json!({"status_code": status, "request_id": format!("req_{}", self.number), "body": body});
        json!({"id": self.id(), "custom_id": self.custom_id, "response": response, "error": null})
    }
}

fn invalid(message: impl Into<String>, param: Option<&str>) -> RequestError {
    RequestError { message: message.into(), param: param.map(str::to_owned) }
}

fn parse(line: &Map<String, Value>) -> Result<Request, RequestError> {
    if let Some((name, _)) = line.iter().find(|(name, value)| !value.is_null() && !FIELDS.contains(&name.as_str())) {
        let name: String = name.chars().take(40).collect();
        return Err(invalid(format!("{name} is not a field of a line: there are {}", FIELDS.join(", ")), Some(&name)));
    }
    if line.get("method").is_some_and(|method| !method.is_null() && method != "POST") {
        return Err(invalid("method can only be \"POST\"", Some("method")));
    }
    let path = line.get("url").and_then(Value::as_str).ok_or_else(|| invalid("it has no url, a text", Some("url")))?;
    let endpoint = Endpoint::of_path(path).ok_or_else(|| {
        let known = Endpoint::PATHS.map(|(path, _)| path).join(" and ");
        let path: String = path.chars().take(40).collect();
        invalid(format!("url is {path:?}: there are {known}"), Some("url"))
    })?;
    let body = line.get("body").filter(|body| body.is_object());
    let body = body.ok_or_else(|| invalid("it has no body, an object", Some("body")))?;
    let request = Request::parse(endpoint, body)?;
    match request.streams() {
        true => Err(invalid("stream is not supported in a batch: each answer is one line", Some("stream"))),
        false => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &Value) -> Rejected {
        Line::parse(1, line.to_string().as_bytes()).request.expect_err("it is refused")
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_from_what_is_wrong_with_its_request() {
        for (line, said) in [
            (json!([1]), "no custom_id"),
            (json!({"url": "/v1/completions", "body": {"prompt": "a"}}), "no custom_id"),
            (json!({"custom_id": 7, "url": "/v1/completions", "body": {"prompt": "a"}}), "no custom_id"),
        ] {
            let Rejected::Line(refusal) = refused(&line) else { panic!("{line}") };
            assert!(refusal.message.contains(said), "{refusal}");
        }
        for (line, said) in [
            (json!({"custom_id": "a"}), "no url"),
            (json!({"custom_id": "a", "url": "/v1/images", "body": {}}), "url is \"/v1/images\""),
            (json!({"custom_id": "a", "url": "/v1/completions"}), "no body"),
            (json!({"custom_id": "a", "url": "/v1/completions", "body": []}), "no body"),
            (json!({"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}}), "method"),
            (
                json!({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "a"}, "colour": 1}),
                "colour is not",
            ),
            (
                json!({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "a", "stream": true}}),
                "stream is not",
            ),
        ] {
            let Rejected::Request(refusal) = refused(&line) else { panic!("{line}") };
            assert!(refusal.message.contains(said), "{refusal}");
        }
    }
}
