//! The model and its tokenizer: `/v1/models`, `/tokenize`, `/detokenize`, `/tokenizer_info`.

use super::app::App;
use super::body::{Body, aside, json_of};
use super::failure::Failure;
use crate::text::Specials;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

fn described(app: &App) -> Value {
    json!({ "id": app.options.model, "object": "model", "created": app.started, "owned_by": "peregrine" })
}

pub(super) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [described(&app)] }))
}

pub(super) async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    match id == app.options.model {
        true => Ok(Json(described(&app))),
        false => Err(Failure::new(
            StatusCode::NOT_FOUND,
            format!("no model {id:?}: this server has {:?}", app.options.model),
        )),
    }
}

/// llama.cpp's `content` or vLLM's `prompt` to ids. Special tokens are parsed; `add_special` adds those around a text.
pub(super) async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, Failure> {
    let body = json_of(body)?;
    let text = body.get("content").or_else(|| body.get("prompt")).and_then(Value::as_str);
    let text = text.ok_or_else(|| Failure::of_field("content", "content is missing: it is a string"))?.to_owned();
    let add = ["add_special", "add_special_tokens"].iter().find_map(|name| body.get(*name)).and_then(Value::as_bool);
    let ids = aside(move || {
        let tokenizer = app.engine.checkpoint().tokenizer()?;
        match add {
            Some(true) => tokenizer.encode_text(&text, Specials::Parse),
            _ => tokenizer.encode(&text, Specials::Parse),
        }
    })
    .await?;
    Ok(Json(json!({ "tokens": ids, "count": ids.len() })))
}

/// Ids to a text.
pub(super) async fn detokenize(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, Failure> {
    let body = json_of(body)?;
    let vocab = app.engine.checkpoint().config().vocab;
    let id = |value: &Value| value.as_u64().filter(|id| *id < vocab as u64).and_then(|id| u32::try_from(id).ok());
    let tokens = body.get("tokens").and_then(Value::as_array);
    let ids: Option<Vec<u32>> = tokens.and_then(|tokens| tokens.iter().map(id).collect());
    let ids =
        ids.ok_or_else(|| Failure::of_field("tokens", format!("tokens is a list of ids from 0 to {}", vocab - 1)))?;
    let text = app.engine.checkpoint().tokenizer()?.decode(&ids);
    Ok(Json(json!({ "content": text, "prompt": text })))
}

/// What lm-evaluation-harness asks for before it sends ids.
pub(super) async fn tokenizer_info(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    let checkpoint = app.engine.checkpoint();
    let tokenizer = checkpoint.tokenizer()?;
    let name = |id: u32| tokenizer.bytes(id).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let eos = checkpoint.eos().first().copied();
    Ok(Json(json!({
        "eos_token": eos.and_then(name), "eos_token_id": eos, "bos_token": tokenizer.around()[0].first().copied().and_then(name),
        "vocab_size": checkpoint.config().vocab, "has_chat_template": checkpoint.has_template(),
    })))
}
