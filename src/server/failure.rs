//! Failures as responses in OpenAI's form.

use crate::error::Error;
use crate::openai::{RequestError, error_body, failure_body};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Seconds after which a client may try again.
const RETRY_AFTER: u64 = 1;

/// A request that was not answered.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = json!({ "message": message.into(), "type": kind, "param": null, "code": null });
        Failure { status, body: json!({ "error": error }) }
    }

    /// An invalid field.
    pub(super) fn of_field(name: &str, message: impl Into<String>) -> Self {
        RequestError { message: message.into(), param: Some(name.to_owned()) }.into()
    }

    /// The server is ending; a conversation goes on from `state`, if it was saved.
    pub(super) fn draining(state: Option<&str>) -> Self {
        let rest = state.map_or(String::new(), |id| format!(": go on from the state {id}"));
        let mut failure = Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("the server is shutting down{rest}"));
        failure.body["error"]["code"] = json!("shutting_down");
        failure.body["error"]["state"] = json!(state);
        failure
    }

    pub(super) fn no_state(id: &str) -> Self {
        Failure::new(StatusCode::NOT_FOUND, format!("there is no state {id:?}: it was deleted, or never kept"))
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Failure { status: StatusCode::BAD_REQUEST, body: error_body(&error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::DeviceLost { .. } | Error::Timeout { .. } | Error::OutOfMemory { .. } => 503,
            Error::Gpu { .. } | Error::Io { .. } => 500,
            error => failure_body(error).0,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match status.is_server_error() {
            true => Failure::new(status, error.to_string()),
            false => Failure { status, body: failure_body(&error).1 },
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        response
    }
}
