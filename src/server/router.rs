//! The routes.

use super::app::App;
use super::{access, completions, failure::Failure, health, page, states, tokens};
use crate::error::{Error, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use std::sync::Arc;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;

/// All routes; an error for an origin that is none. The page, the API's description and the probes need no key: they say nothing
/// about requests.
pub(super) fn router(app: Arc<App>) -> Result<Router> {
    let open = Router::new()
        .route("/", get(page::page))
        .route("/openapi.json", get(page::openapi))
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready));
    let one_state = put(states::upload)
        .layer(from_fn_with_state(app.clone(), states::in_turn))
        .get(states::download)
        .delete(states::delete);
    let one_state = one_state.layer(DefaultBodyLimit::max(states::most_bytes(&app)));
    let guarded = Router::new()
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::text))
        .route("/v1/models", get(tokens::models))
        .route("/v1/models/{*id}", get(tokens::model))
        .route("/v1/states", get(states::list).post(states::create))
        .route("/v1/states/{id}/fork", post(states::fork))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::tokenizer_info))
        .route("/metrics", get(health::metrics))
        .layer(DefaultBodyLimit::max(app.options.max_body))
        .route("/v1/states/{id}", one_state)
        .route_layer(from_fn_with_state(app.clone(), access::check_key));
    let unknown = || async { Failure::new(StatusCode::NOT_FOUND, "no such endpoint: see /openapi.json") };
    let wrong_method =
        || async { Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong method for this endpoint: see /openapi.json") };
    let router = open.merge(guarded).fallback(unknown).method_not_allowed_fallback(wrong_method);
    let slow = RequestBodyTimeoutLayer::new(app.options.patience);
    let router = router.layer(slow).layer(from_fn(access::log));
    let router = match cors(&app.options.origins)? {
        Some(cors) => router.layer(cors),
        None => router,
    };
    Ok(router.with_state(app))
}

/// Which pages may call the server; `None`: only its own.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>> {
    let allowed = match origins {
        [] => return Ok(None),
        origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        origins => {
            let parse = |origin: &String| {
                HeaderValue::from_str(origin).map_err(|_| Error::BadSetting {
                    name: "origins",
                    value: origin.clone(),
                    problem: "an origin is * or scheme://host[:port]",
                })
            };
            AllowOrigin::list(origins.iter().map(parse).collect::<Result<Vec<_>>>()?)
        }
    };
    Ok(Some(CorsLayer::new().allow_origin(allowed).allow_methods(Any).allow_headers(Any)))
}
