//! Requests in, pages out: the only module that talks to the node.

mod contribute;
mod read;
mod tune;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    http::{StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use maud::Markup;
use openledger_node::Node;

use crate::{
    assets,
    guard::{Host, guard},
    layout::Frame,
    pages,
};

/// All pages and their assets, over `node`. To be merged with the node's API on the same origin:
/// pages read `/events` and `/v1` from there.
pub fn router(node: Node) -> Router {
    let host = if node.dev_api_key().is_some() {
        Host::Local
    } else {
        Host::Any
    };
    Router::new()
        .route("/", get(read::overview))
        .route("/datanets", get(read::datanets))
        .route("/datanets/{id}", get(read::datanet))
        .route(
            "/datanets/{id}/contribute",
            get(contribute::form).post(contribute::commit),
        )
        .route(
            "/datanets/{id}/contribute/verdicts",
            post(contribute::verdicts).layer(contribute::body_limit()),
        )
        .route("/models", get(read::models))
        .route("/models/{id}", get(read::model))
        .route("/studio/new", get(tune::form).post(tune::start))
        .route("/studio/presets", get(tune::presets))
        .route("/runs", get(tune::runs))
        .route("/runs/{id}", get(tune::run))
        .route("/runs/{id}/control", post(tune::control))
        .route("/chat", get(read::chat))
        .route("/attributions/{id}", get(read::attribution))
        .route("/attributions/{id}/panel", get(read::panel))
        .route("/wallets", get(read::wallets))
        .route("/wallet", get(read::find_wallet))
        .route("/wallet/{who}", get(read::wallet))
        .route("/explorer", get(read::explorer))
        .route("/explorer/find", get(read::find))
        .route("/explorer/layers", get(read::layers))
        .route("/explorer/batch/{block}", get(read::batch))
        .route("/explorer/block/{number}", get(read::block))
        .route("/explorer/tx/{hash}", get(read::transaction))
        .route("/epochs", get(read::epochs))
        .fallback(unknown)
        .with_state(node)
        .merge(assets())
        .layer(middleware::from_fn_with_state(host, guard))
}

/// Why a page could not be shown.
#[derive(Debug)]
enum Failure {
    /// There is no such thing.
    Missing(&'static str),
    /// The request makes no sense.
    Bad(String),
    /// The node failed.
    Node(openledger_node::Error),
    /// A page panicked.
    Crashed,
}

impl From<openledger_node::Error> for Failure {
    fn from(error: openledger_node::Error) -> Self {
        use openledger_node::Error;
        match error {
            Error::NotFound { what, .. } => Self::Missing(what),
            Error::Invalid { .. } | Error::Conflict(_) | Error::Busy => {
                Self::Bad(error.to_string())
            }
            _ => Self::Node(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, words) = match self {
            Self::Missing(what) => (
                StatusCode::NOT_FOUND,
                format!("There is no such {what}"),
                "The address may be mistyped, or it belongs to another data directory.".to_owned(),
            ),
            Self::Bad(words) => (
                StatusCode::BAD_REQUEST,
                "That does not work".to_owned(),
                words,
            ),
            Self::Node(error) => {
                tracing::error!(%error, "page failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "This page could not be made".to_owned(),
                    error.to_string(),
                )
            }
            Self::Crashed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "This page could not be made".to_owned(),
                "The node's log says why.".to_owned(),
            ),
        };
        let frame = Frame {
            now: now(),
            ..Frame::default()
        };
        (status, pages::failure(&frame, &title, &words)).into_response()
    }
}

/// What is neither a page nor an API path. The API's own clients get the API's own shape.
async fn unknown(uri: Uri) -> Response {
    if uri.path().starts_with("/v1") {
        return openledger_node::api::unknown_path(uri)
            .await
            .into_response();
    }
    Failure::Missing("page").into_response()
}

/// A page or why there is none.
type Answer = Result<Markup, Failure>;

/// Runs `work` on a thread that may block: the node's reads touch the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Failure::Crashed))
}

/// Unix seconds.
#[allow(
    clippy::disallowed_methods,
    reason = "the one clock of the pages: they take the time as a value"
)]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What every page shows around its subject.
fn frame(node: &Node) -> Result<Frame, Failure> {
    Ok(Frame {
        now: now(),
        head: node.blocks(None, 1)?.first().map(|block| block.number),
        dev: node.dev_api_key().is_some(),
        notice: None,
    })
}
