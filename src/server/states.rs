//! `/v1/states`: states as resources.

use super::app::{App, now, unique};
use super::body::{Body, aside, broken, bytes_of, json_of, request_of};
use super::failure::Failure;
use super::jobs::{Task, Update};
use super::store::{Kept, is_id};
use crate::error::Error;
use crate::openai::Endpoint;
use crate::runtime::Snapshot;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

fn described(kept: &Kept) -> Value {
    json!({ "id": kept.id, "object": "state", "bytes": kept.bytes, "created": kept.created })
}

/// All states, their bytes, and the budget.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let all = app.store.list().await?;
    let bytes: u64 = all.iter().map(|kept| kept.bytes).sum();
    let data: Vec<Value> = all.iter().map(described).collect();
    let place = app.store.label();
    Ok(Json(
        json!({ "object": "list", "data": data, "bytes": bytes, "budget": app.store.most_bytes(), "place": place }),
    ))
}

/// Keeps a state: of a response that was stored (`response`), or after a prompt or messages that are read now.
pub(super) async fn create(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    let body = json_of(body)?;
    let id = format!("state-{}", unique());
    match body.get("response") {
        Some(Value::String(response)) => copy(&app, response, &id).await?,
        Some(_) => return Err(Failure::of_field("response", "response is the id of a response")),
        None => read(&app, body, &id).await?,
    }
    created(&app, &id).await
}

/// The response that describes a new state.
async fn created(app: &App, id: &str) -> Result<Response, Failure> {
    let kept = app.store.find(id).await?.ok_or_else(|| Failure::no_state(id))?;
    Ok((StatusCode::CREATED, Json(described(&kept))).into_response())
}

async fn copy(app: &App, from: &str, to: &str) -> Result<(), Failure> {
    if app.store.find(from).await?.is_none() {
        return Err(Failure::no_state(from));
    }
    Ok(app.store.copy(from, to).await?)
}

/// Reads the prompt or the messages of a body and keeps the state.
async fn read(app: &Arc<App>, body: Value, id: &str) -> Result<(), Failure> {
    let endpoint = if body.get("messages").is_some() { Endpoint::Chat } else { Endpoint::Completions };
    let request = request_of(app, endpoint, body).await?;
    if !request.is_one_answer() || request.state().is_some() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "a state has one prompt, and no state before it"));
    }
    let mut ticket = app.jobs.push(Task::KeepState, request, id.to_owned())?;
    loop {
        match ticket.updates.recv().await.ok_or_else(broken)? {
            Update::Failed(failure) => return Err(failure),
            Update::Done => return Ok(()),
            Update::Event(_) | Update::Stored => {}
        }
    }
}

/// A state's file.
pub(super) async fn download(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let bytes = app.store.get(&id).await?.ok_or_else(|| Failure::no_state(&id))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Bytes that the conversation of an uploaded state may have beside the state: millions of tokens.
const CONVERSATION_BYTES: u64 = 64 << 20;

/// The largest upload.
pub(super) fn most_bytes(app: &App) -> usize {
    let state = app.engine.checkpoint().config().state_layout().bytes();
    let most = (2 * state + CONVERSATION_BYTES).min(app.options.state_bytes);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Lets a few uploads be read at a time.
pub(super) async fn in_turn(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // It is never closed.
    let _turn = app.uploads.acquire().await;
    next.run(request).await
}

/// Keeps a state's file, if it is one and continues on this model.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Failure> {
    if !is_id(&id) {
        return Err(Failure::of_field("id", "an id has up to 64 letters, digits, hyphens and underscores"));
    }
    let bytes = bytes_of(body)?;
    let (engine, label) = (app.engine.clone(), id.clone());
    let (bytes, warnings) = aside(move || {
        let warnings = engine.check_snapshot(&Snapshot::from_bytes(&label, &bytes)?)?;
        Ok::<_, Error>((bytes, warnings))
    })
    .await?;
    let size = bytes.len() as u64;
    app.store.put(&id, bytes.into()).await?;
    let mut body = described(&Kept { id, bytes: size, created: i64::try_from(now()).unwrap_or(0) });
    body["warnings"] = warnings.iter().map(ToString::to_string).collect();
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    match app.store.delete(&id).await? {
        true => Ok(Json(json!({ "id": id, "object": "state.deleted", "deleted": true }))),
        false => Err(Failure::no_state(&id)),
    }
}

/// A copy under a new id.
pub(super) async fn fork(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let to = format!("state-{}", unique());
    copy(&app, &id, &to).await?;
    created(&app, &to).await
}
