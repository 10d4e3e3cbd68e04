//! Keys, request ids and the log line of each request.

use super::app::{App, unique};
use super::failure::Failure;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum characters of a client's request id.
const LONGEST_ID: usize = 128;

/// Lets requests with a key pass: `Authorization: Bearer KEY`, or `X-Api-Key: KEY`.
pub(super) async fn check_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let other = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let key = bearer.map(|(_, key)| key.trim()).or(other);
    if app.options.keys.is_empty() || key.is_some_and(|key| app.options.keys.admit(key)) {
        return next.run(request).await;
    }
    let message = match key {
        None => "no API key: send it as Authorization: Bearer KEY",
        Some(_) => "the API key is not one of this server's",
    };
    let mut response = Failure::new(StatusCode::UNAUTHORIZED, message).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Gives the request an id, the client's if it sent one, and logs one line when the response begins.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let sent = request.headers().get(REQUEST_ID).filter(|id| id.len() <= LONGEST_ID && id.to_str().is_ok()).cloned();
    // A unique name is plain ASCII.
    let id = sent.or_else(|| HeaderValue::from_str(&unique()).ok());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    tracing::info!(%method, path, status, milliseconds, id = shown, "request");
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
