//! Bodies of requests.

use super::app::App;
use super::failure::Failure;
use crate::openai::{Endpoint, Request};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

pub(super) type Body = Result<Bytes, BytesRejection>;

/// The bytes of a body.
pub(super) fn bytes_of(body: Body) -> Result<Bytes, Failure> {
    body.map_err(|e| Failure::new(e.status(), format!("the body cannot be read: {}", e.body_text())))
}

/// The JSON of a body. Its content type is not looked at.
pub(super) fn json_of(body: Body) -> Result<Value, Failure> {
    serde_json::from_slice(&bytes_of(body)?)
        .map_err(|e| Failure::new(StatusCode::BAD_REQUEST, format!("the body is not valid JSON: {e}")))
}

/// Runs work that takes time outside of tokio's threads.
pub(super) async fn aside<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure>
where
    Failure: From<E>,
{
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| broken())??)
}

/// The request in a body, if this server can answer it. Rendering and tokenizing a long prompt takes time.
pub(super) async fn request_of(app: &Arc<App>, endpoint: Endpoint, body: Value) -> Result<Request, Failure> {
    let app = app.clone();
    aside(move || parse(&app, endpoint, &body)).await
}

fn parse(app: &App, endpoint: Endpoint, body: &Value) -> Result<Request, Failure> {
    let request = Request::parse(endpoint, body)?;
    let checkpoint = app.engine.checkpoint();
    request.fits(checkpoint)?;
    let field = if request.state().is_some() { "state" } else { "store" };
    if (request.state().is_some() || request.stores()) && !request.is_one_answer() {
        return Err(Failure::of_field(field, format!("{field} needs one prompt and n: 1")));
    }
    if let Some(most) = app.options.max_prompt {
        let tokens: usize = request.prompts(checkpoint)?.iter().map(Vec::len).sum();
        if tokens > most {
            let message = format!("the prompt has {tokens} tokens: this server reads up to {most}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, message));
        }
    }
    Ok(request)
}

/// The failure of a worker that sent no outcome.
pub(super) fn broken() -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the request ended without an outcome, a defect of the server")
}
