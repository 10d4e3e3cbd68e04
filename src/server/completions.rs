//! `/v1/chat/completions` and `/v1/completions`: whole and as server-sent events.

use super::app::{App, now, unique};
use super::body::{Body, broken, json_of, request_of};
use super::failure::Failure;
use super::jobs::{CancelOnDrop, Task, Ticket, Update};
use crate::openai::{Chunks, Completion, Endpoint, ResponseId};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a streamed response waits for the request's first outcome, so that an early failure has its own status, before its
/// headers are sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Comments in a stream that has nothing to say, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn chat(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    respond(app, Endpoint::Chat, body).await
}

pub(super) async fn text(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    respond(app, Endpoint::Completions, body).await
}

async fn respond(app: Arc<App>, endpoint: Endpoint, body: Body) -> Result<Response, Failure> {
    let request = request_of(&app, endpoint, json_of(body)?).await?;
    let id = ResponseId::new(endpoint, unique(), now(), &app.options.model);
    let chunks = request.streams().then(|| Chunks::new(&request, id.clone()));
    let ticket = app.jobs.push(Task::Answer, request, id.id.clone())?;
    match chunks {
        None => whole(&app, ticket, endpoint, &id).await,
        Some(chunks) => stream(app, ticket, chunks).await,
    }
}

async fn whole(app: &App, mut ticket: Ticket, endpoint: Endpoint, id: &ResponseId) -> Result<Response, Failure> {
    let (mut completion, mut state) = (Completion::default(), None);
    loop {
        match ticket.updates.recv().await.ok_or_else(broken)? {
            Update::Event(event) => completion.add(event),
            Update::Stored => state = Some(&id.id),
            Update::Failed(failure) => return Err(failure),
            Update::Done => break,
        }
    }
    let mut body = completion.body(endpoint, app.engine.checkpoint(), id)?;
    if let Some(state) = state {
        body["state"] = json!(state);
    }
    Ok(Json(body).into_response())
}

async fn stream(app: Arc<App>, ticket: Ticket, chunks: Chunks) -> Result<Response, Failure> {
    let Ticket { mut updates, cancel } = ticket;
    let first = match tokio::time::timeout(PATIENCE, updates.recv()).await {
        Ok(Some(Update::Failed(failure))) => return Err(failure),
        Ok(None) => return Err(broken()),
        Ok(first) => first,
        Err(_) => None,
    };
    let mut answer = Streamed { app, chunks, updates, ready: VecDeque::new(), ended: false, _cancel: cancel };
    if let Some(update) = first {
        answer.take(Some(update));
    }
    let mut response = Sse::new(answer).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would otherwise collect the stream before it passes it on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// A response as a stream of server-sent events.
struct Streamed {
    app: Arc<App>,
    chunks: Chunks,
    updates: UnboundedReceiver<Update>,
    ready: VecDeque<String>,
    ended: bool,
    _cancel: CancelOnDrop,
}

impl Streamed {
    /// Makes the events of an update; of `None` if the worker is gone.
    fn take(&mut self, update: Option<Update>) {
        let mut say = |value: Value| self.ready.push_back(value.to_string());
        match update {
            Some(Update::Event(event)) => match self.chunks.add(&event, self.app.engine.checkpoint()) {
                Ok(chunks) => chunks.into_iter().for_each(say),
                Err(error) => say(Failure::from(error).body),
            },
            Some(Update::Stored) => say(self.chunks.stored()),
            Some(Update::Done) => {
                self.chunks.last().into_iter().for_each(say);
                self.ready.push_back("[DONE]".to_owned());
                self.ended = true;
            }
            Some(Update::Failed(failure)) => {
                say(failure.body);
                self.ended = true;
            }
            None => {
                say(broken().body);
                self.ended = true;
            }
        }
    }
}

impl Stream for Streamed {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(sse::Event::default().data(data))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let update = ready!(this.updates.poll_recv(context));
            this.take(update);
        }
    }
}
