//! Probes and metrics.

use super::app::App;
use super::failure::Failure;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// As llama.cpp's.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether the process works.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether it takes requests.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.jobs.is_draining() {
        false => "ok\n".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    }
}

/// In Prometheus' text format.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let text = app
        .metrics
        .text(&app.engine, app.jobs.counts())
        .map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
