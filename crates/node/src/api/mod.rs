//! The public HTTP API: an OpenAI-compatible `/v1` with our own resources beside it.
//!
//! `node` is the only crate that knows HTTP and JSON of the public API; the services below it
//! expose Rust types. Every body is bounded, every error has the API's own shape, and nothing
//! here waits for the chain or for attribution unless the caller asks for it.

mod choices;
mod error;
mod events;
mod metrics;
mod openai;
mod resources;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use error::{ApiError, Body};

use crate::Node;

/// Most bytes of a completion request.
const REQUEST_BYTES: usize = 1 << 20;
/// Most bytes of a contributed file.
const FILE_BYTES: usize = 32 << 20;

/// The API of `node`, to be served at the root.
pub fn router(node: Node) -> Router {
    use resources as r;
    let files = Router::new()
        .route("/v1/contributions/judge", post(r::judge))
        .layer(DefaultBodyLimit::max(FILE_BYTES));
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(prometheus))
        .route("/events", get(events::events))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat))
        .route(
            "/v1/completions",
            post(openai::complete).get(r::completions),
        )
        .route("/v1/attributions/{id}", get(r::attribution))
        .route("/v1/receipts/{id}", get(openai::receipt))
        .route("/v1/overview", get(r::overview))
        .route("/v1/rollup", get(r::rollup))
        .route("/v1/rollup/batches/{block}", get(r::batch))
        .route("/v1/datanets", get(r::datanets))
        .route("/v1/datanets/{id}", get(r::datanet))
        .route("/v1/datanets/{id}/rows", get(r::rows))
        .route("/v1/datanets/{id}/rejections", get(r::rejections))
        .route("/v1/contributions", post(r::contribute))
        .route("/v1/adapters", get(r::adapters))
        .route("/v1/adapters/{id}", get(r::adapter))
        .route("/v1/runs", get(r::runs).post(r::start_run))
        .route("/v1/runs/estimate", post(r::estimate_run))
        .route("/v1/runs/{id}", get(r::run))
        .route("/v1/runs/{id}/metrics", get(metrics::metrics))
        .route("/v1/runs/{id}/{action}", post(r::control_run))
        .route("/v1/wallets", get(r::earners))
        .route("/v1/wallets/{id}", get(r::wallet))
        .route("/v1/epochs", get(r::epochs))
        .route("/v1/epochs/settle", post(r::settle))
        .route("/v1/blocks", get(r::blocks))
        .route("/v1/blocks/{number}", get(r::block))
        .route("/v1/transactions/{hash}", get(r::transaction))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .merge(files)
        .layer(axum::middleware::from_fn(known_host))
        .layer(cors())
        .with_state(node)
}

/// Answers paths below `/v1` that do not exist in the API's own shape.
pub async fn unknown_path(uri: axum::http::Uri) -> impl IntoResponse {
    ApiError {
        status: StatusCode::NOT_FOUND,
        message: format!("there is no {}", uri.path()),
        kind: "invalid_request_error",
        param: None,
        code: "unknown_url",
    }
}

/// Whether a `Host` header names this machine or an address: `localhost:8080`, `[::1]:8080`.
///
/// A node that signs with its visitors' keys must not answer to a name that another site made
/// point here (DNS rebinding).
pub fn is_local_host(host: &str) -> bool {
    let is_ip = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(is_ip),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.ends_with(".localhost") || is_ip(name)
}

/// Refuses requests for a name that is not this machine's.
async fn known_host(request: Request, next: Next) -> Response {
    let asked = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    if asked.is_none_or(is_local_host) {
        return next.run(request).await;
    }
    ApiError {
        status: StatusCode::MISDIRECTED_REQUEST,
        message: "this development node answers to localhost and IP addresses only".into(),
        kind: "invalid_request_error",
        param: Some("host".into()),
        code: "unknown_host",
    }
    .into_response()
}

/// Pages of other origins may read, and call completions with a key or a voucher of their own.
/// What changes this node's state (contributing, tuning, settling) needs the same origin.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(|_, request| {
            let path = request.uri.path();
            request.method == Method::GET
                || path.ends_with("/completions")
                || request.method == Method::OPTIONS && path.ends_with("/completions")
        }))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static(openai::VOUCHER_HEADER),
        ])
        .expose_headers([HeaderName::from_static(openai::ATTRIBUTION_HEADER)])
        .max_age(Duration::from_secs(600))
}

async fn health() -> impl IntoResponse {
    axum::Json(serde_json::json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

async fn prometheus(
    axum::extract::State(node): axum::extract::State<Node>,
) -> Result<impl IntoResponse, ApiError> {
    let content = HeaderValue::from_static("text/plain; version=0.0.4");
    Ok(([(header::CONTENT_TYPE, content)], node.metrics()?))
}
