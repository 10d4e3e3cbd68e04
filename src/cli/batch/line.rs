//! Lines of a batch: requests and their replies.

use peregrine::Error;
use peregrine::openai::{Completion, Endpoint, Request, RequestError, ResponseId, error_body, failure_body};
use peregrine::runtime::Checkpoint;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// An input line.
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    pub custom_id: Option<String>,
    pub request: Result<Request, Rejected>,
}

/// Why a line is not answered by the model, and how its error reply is identified.
#[derive(Debug, PartialEq)]
pub enum Rejected {
    /// By custom_id: the request is invalid.
    Request(RequestError),
    /// By line number: the line has no custom_id, or a repeated one.
    Line(RequestError),
}

/// An output line.
pub struct Reply {
    pub line: Value,
    /// Tokens generated.
    pub tokens: u64,
    pub failed: bool,
}

/// The fields of a line.
const FIELDS: [&str; 4] = ["custom_id", "method", "url", "body"];

impl Line {
    /// Parses a line. An error is stored in `request`.
    pub fn parse(number: usize, text: &[u8]) -> Self {
        let value: Value = match serde_json::from_slice(text) {
            Ok(value) => value,
            Err(error) => {
                let rejected = Rejected::Line(invalid(format!("not JSON: {error}"), None));
                return Line { number, custom_id: None, request: Err(rejected) };
            }
        };
        let custom_id = value["custom_id"].as_str().map(str::to_owned);
        let request = match (&custom_id, value.as_object()) {
            (Some(_), Some(line)) => parse(line).map_err(Rejected::Request),
            _ => Err(Rejected::Line(invalid("custom_id is missing: it must be a string", Some("custom_id")))),
        };
        Line { number, custom_id, request }
    }

    /// Rejects the line because an earlier line has the same custom_id.
    pub fn repeated(self) -> Self {
        let message = "an earlier line has the same custom_id";
        Line { request: Err(Rejected::Line(invalid(message, Some("custom_id")))), ..self }
    }

    /// Whether the error reply is identified by the line's number.
    pub fn is_rejected_by_number(&self) -> bool {
        matches!(&self.request, Err(Rejected::Line(_)))
    }

    /// The error reply of a rejected line.
    pub fn rejected(&self, rejected: &Rejected) -> Reply {
        let line = match rejected {
            Rejected::Request(error) => self.answered(400, error_body(error)),
            Rejected::Line(RequestError { message, param }) => {
                let message = format!("line {}: {message}", self.number);
                let error = json!({"code": "invalid_request", "message": message, "param": param, "line": self.number});
                json!({"id": self.id(), "custom_id": self.custom_id, "response": null, "error": error})
            }
        };
        Reply { line, tokens: 0, failed: true }
    }

    /// The reply with the model's answers.
    pub fn done(&self, endpoint: Endpoint, answered: &Completion, checkpoint: &Checkpoint) -> peregrine::Result<Reply> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = answered.body(
            endpoint,
            checkpoint,
            &ResponseId::new(endpoint, self.number, created, checkpoint.label()),
        )?;
        Ok(Reply { line: self.answered(200, body), tokens: answered.completion_tokens, failed: false })
    }

    /// The reply to a request that failed while it was answered.
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
        return Err(invalid(
            format!("unknown field {name}: the fields of a line are {}", FIELDS.join(", ")),
            Some(&name),
        ));
    }
    if line.get("method").is_some_and(|method| !method.is_null() && method != "POST") {
        return Err(invalid("method must be \"POST\"", Some("method")));
    }
    let path = line
        .get("url")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid("url is missing: it must be a string", Some("url")))?;
    let endpoint = Endpoint::of_path(path).ok_or_else(|| {
        let known = Endpoint::PATHS.map(|(path, _)| path).join(" or ");
        let path: String = path.chars().take(40).collect();
        invalid(format!("url is {path:?}: it must be {known}"), Some("url"))
    })?;
    let body = line.get("body").filter(|body| body.is_object());
    let body = body.ok_or_else(|| invalid("body is missing: it must be an object", Some("body")))?;
    let request = Request::parse(endpoint, body)?;
    if request.streams() {
        return Err(invalid("stream is not supported in a batch: each answer is one line", Some("stream")));
    }
    if request.state().is_some() {
        return Err(invalid("state is not supported in a batch: states are kept by a server", Some("state")));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(line: &Value) -> Rejected {
        Line::parse(1, line.to_string().as_bytes()).request.expect_err("the line is rejected")
    }

    #[test]
    fn errors_of_a_line_differ_from_errors_of_its_request() {
        for (line, said) in [
            (json!([1]), "custom_id is missing"),
            (json!({"url": "/v1/completions", "body": {"prompt": "a"}}), "custom_id is missing"),
            (json!({"custom_id": 7, "url": "/v1/completions", "body": {"prompt": "a"}}), "custom_id is missing"),
        ] {
            let Rejected::Line(error) = rejected(&line) else { panic!("{line}") };
            assert!(error.message.contains(said), "{error}");
        }
        for (line, said) in [
            (json!({"custom_id": "a"}), "url is missing"),
            (json!({"custom_id": "a", "url": "/v1/images", "body": {}}), "url is \"/v1/images\""),
            (json!({"custom_id": "a", "url": "/v1/completions"}), "body is missing"),
            (json!({"custom_id": "a", "url": "/v1/completions", "body": []}), "body is missing"),
            (json!({"custom_id": "a", "method": "GET", "url": "/v1/completions", "body": {"prompt": "a"}}), "method"),
            (
                json!({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "a"}, "colour": 1}),
                "unknown field colour",
            ),
            (
                json!({"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "a", "stream": true}}),
                "stream is not",
            ),
        ] {
            let Rejected::Request(error) = rejected(&line) else { panic!("{line}") };
            assert!(error.message.contains(said), "{error}");
        }
    }
}
