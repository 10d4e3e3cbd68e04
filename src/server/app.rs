//! What the handlers share, and the routes.

use super::jobs::Jobs;
use super::metrics::Metrics;
use super::options::ServerOptions;
use super::store::Store;
use super::{access, completions, failure::Failure, health, page, states, tokens, worker};
use crate::error::{Error, Result};
use crate::runtime::Engine;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use uuid::Uuid;

/// What the handlers and the workers share.
pub(super) struct App {
    pub(super) engine: Engine,
    pub(super) options: ServerOptions,
    pub(super) jobs: Arc<Jobs>,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    /// In seconds since 1970.
    pub(super) started: u64,
}

impl App {
    pub(super) fn new(engine: Engine, options: ServerOptions) -> Result<Arc<Self>> {
        // Bad origins are found here rather than at the first request.
        cors(&options.origins)?;
        Ok(Arc::new(App {
            jobs: Arc::new(Jobs::new(options.queue)),
            metrics: Metrics::new(options.metric_names),
            store: Store::open(&options.states, options.state_bytes)?,
            started: now(),
            engine,
            options,
        }))
    }

    /// Starts a worker for each slot. Must be called in a tokio runtime.
    pub(super) fn start_workers(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let tokio = Handle::current();
        let start = |_| {
            let (app, tokio) = (self.clone(), tokio.clone());
            std::thread::spawn(move || worker::run(&app, &tokio))
        };
        (0..self.engine.slots()).map(start).collect()
    }

    /// Takes no new requests, and cancels those that take longer than the options allow.
    pub(super) fn drain(&self) {
        self.jobs.drain(self.options.drain);
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A random name for a response or a state.
pub(super) fn unique() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The routes. The page, its API description and the probes need no key: they say nothing about requests.
pub(super) fn router(app: Arc<App>) -> Router {
    let state_size = usize::try_from(app.options.state_bytes).unwrap_or(usize::MAX);
    let open = Router::new()
        .route("/", get(page::page))
        .route("/openapi.json", get(page::openapi))
        .route("/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready));
    let one_state =
        get(states::download).delete(states::delete).put(states::upload).layer(DefaultBodyLimit::max(state_size));
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
    let router = router.layer(axum::middleware::from_fn(access::log));
    let router = match cors(&app.options.origins) {
        Ok(Some(cors)) => router.layer(cors),
        _ => router,
    };
    router.with_state(app)
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
