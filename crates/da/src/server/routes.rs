//! The routes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use openledger_primitives::B256;
use openledger_store::Error;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::ServerConfig;
use super::faults::{DerivationError, Faults, Update};
use super::issuer::Issuer;
use crate::certificate::CertificateError;
use crate::commitment::{CertificateKind, Commitment, DecodeError, from_hex};
use crate::encoding;
use crate::vault::Vault;

/// What all requests share.
pub(super) struct State {
    config: ServerConfig,
    vault: Vault,
    faults: Faults,
    issuer: Option<Issuer>,
    requests: Semaphore,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    puts: AtomicU64,
    put_bytes: AtomicU64,
    gets: AtomicU64,
    get_bytes: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
}

/// An answer that is not 200, as a status and what to say.
enum Refusal {
    BadRequest(String),
    NotFound,
    TooLarge(usize),
    Teapot(DerivationError),
    Busy,
    FailOver,
    Internal(String),
}

type Answer<T> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = |status, text: String| (status, text).into_response();
        match self {
            Self::BadRequest(why) => text(StatusCode::BAD_REQUEST, why),
            Self::NotFound => text(StatusCode::NOT_FOUND, "no such payload here".into()),
            Self::TooLarge(most) => text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a payload has 1 to {most} bytes"),
            ),
            Self::Teapot(error) => (StatusCode::IM_A_TEAPOT, Json(error)).into_response(),
            Self::Busy => {
                let retry = [(header::RETRY_AFTER, "1")];
                (StatusCode::TOO_MANY_REQUESTS, retry, "come back later").into_response()
            }
            Self::FailOver => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "out of service on request: use the layer 1".into(),
            ),
            Self::Internal(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        tracing::error!(%error, "a payload cannot be stored or read");
        Self::Internal("the store failed".into())
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

/// What a certificate that does not hold is answered with.
impl From<CertificateError> for Refusal {
    fn from(error: CertificateError) -> Self {
        match error {
            // Signed by others, perhaps by this server before it lost its keys: not for us to
            // say that it is invalid.
            CertificateError::Committee { .. } => Self::NotFound,
            error => Self::Teapot(DerivationError {
                status_code: error.reason().code(),
                msg: error.to_string(),
            }),
        }
    }
}

#[derive(Deserialize)]
struct Options {
    commitment_mode: Option<String>,
    l1_inclusion_block_number: Option<u64>,
    return_encoded_payload: Option<String>,
}

impl Options {
    /// As in eigenda-proxy, 0 is as good as none.
    fn l1_inclusion(&self) -> Option<u64> {
        self.l1_inclusion_block_number.filter(|block| *block != 0)
    }

    fn encoded(&self) -> bool {
        let value = self.return_encoded_payload.as_deref();
        value.is_some_and(|v| v.is_empty() || v == "1" || v.eq_ignore_ascii_case("true"))
    }

    fn standard(&self) -> bool {
        self.commitment_mode.as_deref() == Some("standard")
    }
}

pub(super) fn router(state: Arc<State>) -> Router {
    let mut router = Router::new()
        .route("/put", post(put))
        .route("/put/", post(put))
        .route("/put/{commitment}", post(put_keccak))
        .route("/get/{commitment}", get(fetch))
        .route_layer(middleware::from_fn_with_state(state.clone(), admit))
        .route("/health", get(|| async {}))
        .route("/config", get(config))
        .route("/metrics", get(metrics));
    if state.config.fault_injection {
        router = router.route("/memstore/config", get(faults).patch(set_faults));
    }
    router
        .layer(middleware::from_fn_with_state(state.clone(), account))
        .layer(DefaultBodyLimit::max(64 << 10))
        .with_state(state)
}

/// Lets a request in if there is room for its payload.
async fn admit(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    if state.faults.settings().returns_rate_limit_error {
        return Refusal::Busy.into_response();
    }
    let Ok(_room) = state.requests.try_acquire() else {
        return Refusal::Busy.into_response();
    };
    next.run(request).await
}

/// Counts answers, and ends the connection with each.
async fn account(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.status().as_u16() {
        400..500 => add(&state.counts.client_errors, 1),
        500.. => add(&state.counts.server_errors, 1),
        _ => {}
    }
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

async fn put(
    Shared(state): Shared<Arc<State>>,
    Query(options): Query<Options>,
    request: Request,
) -> Answer<Vec<u8>> {
    if options.standard() && state.issuer.is_none() {
        let why = "there are no certificates here, and a digest has no standard spelling";
        return Err(Refusal::BadRequest(why.into()));
    }
    let payload = state.payload(request).await?;
    let commitment = state.store(payload, true).await?;
    let spelling = if options.standard() {
        commitment.encode_standard()
    } else {
        Some(commitment.encode())
    };
    let spelling = spelling.ok_or_else(|| Refusal::Internal("no such spelling".into()))?;
    Ok(spelling.to_vec())
}

async fn put_keccak(
    Shared(state): Shared<Arc<State>>,
    Path(commitment): Path<String>,
    request: Request,
) -> Answer<()> {
    let commitment = commitment.parse()?;
    let Commitment::Keccak(_) = &commitment else {
        let why = "only the digest of a payload can be named before it is stored";
        return Err(Refusal::BadRequest(why.into()));
    };
    let payload = state.payload(request).await?;
    if Commitment::keccak(&payload) != commitment {
        let why = format!("{commitment} is not the commitment of this payload");
        return Err(Refusal::BadRequest(why));
    }
    state.store(payload, false).await?;
    Ok(())
}

async fn fetch(
    Shared(state): Shared<Arc<State>>,
    Path(commitment): Path<String>,
    Query(options): Query<Options>,
) -> Answer<Vec<u8>> {
    let bytes = from_hex(&commitment)?;
    let commitment = if options.standard() {
        Commitment::decode_standard(&bytes)?
    } else {
        Commitment::decode(&bytes)?
    };
    let settings = state.faults.settings();
    tokio::time::sleep(settings.get_latency).await;
    if settings.get_returns_error {
        return Err(Refusal::Internal("a fault on request".into()));
    }
    let digest = state
        .clone()
        .open(commitment, options.l1_inclusion())
        .await?;
    if let Some(error) = state.faults.marked(&digest) {
        return Err(Refusal::Teapot(error));
    }
    let payload = state.clone().load(digest).await?.ok_or(Refusal::NotFound)?;
    add(&state.counts.gets, 1);
    add(&state.counts.get_bytes, payload.len());
    if options.encoded() {
        let encoded = encoding::encode(&payload);
        return encoded.map_err(|error| Refusal::Internal(error.to_string()));
    }
    Ok(payload)
}

/// As eigenda-proxy's, for its clients, and what ours need.
async fn config(Shared(state): Shared<Arc<State>>) -> Json<serde_json::Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chain_id": "",
        "directory_address": "",
        "cert_verifier_address": "",
        "max_payload_size_bytes": state.faults.settings().max_blob_size_bytes,
        "apis_enabled": ["op-generic", "op-keccak", "standard"],
        "read_only_mode": false,
        "openledger": state.issuer.as_ref().map(|issuer| json!({
            "committee": issuer.committee(),
            "committee_digest": issuer.committee().digest(),
        })),
    }))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let counts = &state.counts;
    let lines = [
        ("puts", "Payloads stored.", &counts.puts),
        ("put_bytes", "Bytes of them.", &counts.put_bytes),
        ("gets", "Payloads served.", &counts.gets),
        ("get_bytes", "Bytes of them.", &counts.get_bytes),
        ("client_errors", "Answers from 400.", &counts.client_errors),
        ("server_errors", "Answers from 500.", &counts.server_errors),
    ];
    let mut text = String::new();
    for (name, help, count) in lines {
        let count = count.load(Ordering::Relaxed);
        let name = format!("openledger_da_{name}_total");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}\n"
        );
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

async fn faults(Shared(state): Shared<Arc<State>>) -> Response {
    Json(state.faults.settings()).into_response()
}

/// The proxy reads the body as JSON whatever its content type says, so `curl -d` works.
async fn set_faults(Shared(state): Shared<Arc<State>>, body: String) -> Answer<Response> {
    let update: Update =
        serde_json::from_str(&body).map_err(|error| Refusal::BadRequest(error.to_string()))?;
    let settings = state.faults.update(update).map_err(Refusal::BadRequest)?;
    Ok(Json(settings).into_response())
}

impl State {
    pub(super) fn new(
        config: ServerConfig,
        vault: Vault,
        faults: Faults,
        issuer: Option<Issuer>,
    ) -> Self {
        Self {
            requests: Semaphore::new(config.max_requests),
            counts: Counts::default(),
            config,
            vault,
            faults,
            issuer,
        }
    }

    /// Deletes what is too old.
    pub(super) async fn sweep(self: Arc<Self>) {
        let Some((span, retention)) = self.times() else {
            return;
        };
        let swept = blocking(move || {
            let now = (self.config.clock)();
            self.vault.sweep(now, span, retention)
        });
        match swept.await {
            Ok(0) => {}
            Ok(folders) => tracing::info!(folders, "payloads past their retention are deleted"),
            Err(_) => tracing::warn!("payloads past their retention cannot be deleted"),
        }
    }

    /// How many seconds a folder takes payloads for, and how many it is kept. `None` is for ever.
    fn times(&self) -> Option<(u64, u64)> {
        let retention = self.faults.settings().blob_expiration;
        let seconds = retention.as_secs().max(1);
        (!retention.is_zero()).then_some(((seconds / 14).max(1), seconds))
    }

    /// The body of a put, within the limits.
    async fn payload(&self, request: Request<Body>) -> Answer<Vec<u8>> {
        let most = self.faults.settings().max_blob_size_bytes;
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > most.try_into().unwrap_or(u64::MAX)) {
            return Err(Refusal::TooLarge(most));
        }
        // A body that breaks off and one that does not end look the same from here.
        let payload = axum::body::to_bytes(request.into_body(), most)
            .await
            .map_err(|_| Refusal::TooLarge(most))?;
        if payload.is_empty() {
            return Err(Refusal::BadRequest(
                "a payload has at least one byte".into(),
            ));
        }
        Ok(payload.into())
    }

    /// Stores a payload, unless it is to fail, and returns a certificate if there are any and
    /// one is asked for, else the digest.
    async fn store(self: Arc<Self>, payload: Vec<u8>, certify: bool) -> Answer<Commitment> {
        let settings = self.faults.settings();
        tokio::time::sleep(settings.put_latency).await;
        if settings.put_returns_failover_error {
            return Err(Refusal::FailOver);
        }
        let length = payload.len();
        let state = self.clone();
        let stored = blocking(move || {
            // Kept for ever, a folder per day is as good as any.
            let span = state.times().map_or(86_400, |(span, _)| span);
            let digest = state.vault.put(&payload, (state.config.clock)(), span)?;
            let commitment = match &state.issuer {
                Some(issuer) if certify => {
                    let unknown =
                        "the head of the layer 1, which certificates refer to, is unknown";
                    let certificate = issuer
                        .certify(&payload)
                        .ok_or_else(|| Refusal::Internal(unknown.into()))?
                        .map_err(|error| Refusal::BadRequest(error.to_string()))?;
                    let bytes = certificate.encode().into();
                    Commitment::certificate(CertificateKind::Development, bytes)?
                }
                _ => Commitment::Keccak(digest),
            };
            Ok::<_, Refusal>((digest, commitment))
        });
        let (digest, commitment) = stored.await?;
        self.faults.mark(digest);
        add(&self.counts.puts, 1);
        add(&self.counts.put_bytes, length);
        Ok(commitment)
    }

    /// The digest of the payload of `commitment`, which must be sound.
    async fn open(
        self: Arc<Self>,
        commitment: Commitment,
        l1_inclusion: Option<u64>,
    ) -> Answer<B256> {
        match commitment {
            Commitment::Keccak(digest) => Ok(digest),
            Commitment::Certificate(certified) => {
                blocking(move || match &self.issuer {
                    Some(issuer) if certified.kind() == CertificateKind::Development => {
                        let certificate = issuer.verify(certified.bytes(), l1_inclusion)?;
                        Ok(certificate.payload_digest())
                    }
                    _ => Err(Refusal::NotFound),
                })
                .await
            }
        }
    }

    async fn load(self: Arc<Self>, digest: B256) -> Answer<Option<Vec<u8>>> {
        blocking(move || self.vault.get(&digest)).await
    }
}

/// Work on the disk or the processor, off the threads that serve sockets.
async fn blocking<T: Send + 'static, E: Into<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => {
            tracing::error!(%error, "a request's work ended early");
            Err(Refusal::Internal("the work ended early".into()))
        }
    }
}

fn add(count: &AtomicU64, by: impl TryInto<u64>) {
    count.fetch_add(by.try_into().unwrap_or(0), Ordering::Relaxed);
}
