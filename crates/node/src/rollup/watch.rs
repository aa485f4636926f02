//! What a role tells whoever watches it: `GET /health` and `GET /metrics`, on an address of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::batching::Batches;
use super::claims::Claims;
use super::deriving::Heads;
use super::roles::{Layer2, Worker};
use crate::{Error, Result};

/// A number about a role, as Prometheus names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name; that of a counter ends in `_total`.
    pub name: &'static str,
    /// What it counts, and in which unit.
    pub help: &'static str,
    /// The number.
    pub value: u128,
}

impl Metric {
    pub(crate) fn new(name: &'static str, help: &'static str, value: impl Into<u128>) -> Self {
        let value = value.into();
        Self { name, help, value }
    }

    /// The lines of Prometheus's text format, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, help, value } = self;
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    }
}

/// How a role is at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What keeps it from going on, if something does.
    pub trouble: Option<String>,
    /// Its numbers.
    pub metrics: Vec<Metric>,
}

/// Numbers of derivation, with `head` the newest block of the chain.
pub(crate) fn of_heads(heads: &Heads, head: u64, finalized: u64) -> Vec<Metric> {
    let safe = heads.safe.number;
    let (l1, derived) = (heads.l1_head.number, heads.derived_from.number);
    vec![
        Metric::new(
            "openledger_chain_safe",
            "Newest block derived from the layer 1",
            safe,
        ),
        Metric::new(
            "openledger_chain_finalized",
            "Newest block that stays",
            finalized,
        ),
        Metric::new(
            "openledger_chain_unsafe_blocks",
            "Blocks that are not derived from the layer 1 yet",
            head.saturating_sub(safe),
        ),
        Metric::new("openledger_l1_head", "Newest block of the layer 1", l1),
        Metric::new(
            "openledger_l1_finalized",
            "Newest block of the layer 1 that stays",
            heads.l1_finalized.number,
        ),
        Metric::new("openledger_l1_derived", "Layer 1 block derived to", derived),
        Metric::new(
            "openledger_l1_lag_blocks",
            "Layer 1 blocks that are not derived yet",
            l1.saturating_sub(derived),
        ),
        Metric::new(
            "openledger_l1_resets_total",
            "Times that derivation went back: reorgs of the layer 1, data not shown",
            heads.resets,
        ),
    ]
}

/// Numbers of a batcher.
pub(crate) fn of_batches(batches: &Batches) -> Vec<Metric> {
    vec![
        Metric::new("openledger_batches_total", "Batches sent", batches.count),
        Metric::new(
            "openledger_batch_bytes_total",
            "Bytes of batches",
            batches.bytes,
        ),
        Metric::new(
            "openledger_batch_transactions_total",
            "Transactions in batches",
            batches.transactions,
        ),
        Metric::new(
            "openledger_batch_gas_total",
            "Layer 1 gas of batches",
            batches.l1_gas,
        ),
        Metric::new(
            "openledger_batch_fee_wei_total",
            "What the layer 1 took for batches, wei of its coin",
            batches.l1_fee.get(),
        ),
        Metric::new(
            "openledger_batch_fail_overs_total",
            "Batches put on the layer 1 itself",
            batches.fail_overs,
        ),
        Metric::new(
            "openledger_batches_lost_total",
            "Times that the layer 1 took batches back, or left them out",
            batches.lost,
        ),
        Metric::new(
            "openledger_batches_shown_total",
            "Batches whose data was demanded, and shown on the layer 1",
            batches.shown,
        ),
        Metric::new(
            "openledger_batch_backlog_blocks",
            "Blocks of the sequencer that are not safe yet",
            batches.backlog,
        ),
    ]
}

/// Numbers of a proposer or challenger.
pub(crate) fn of_claims(claims: &Claims) -> Vec<Metric> {
    vec![
        Metric::new(
            "openledger_claims_total",
            "Claims made on the layer 1",
            claims.proposed,
        ),
        Metric::new(
            "openledger_claimed_block",
            "Newest block claimed",
            claims.last_block.unwrap_or_default(),
        ),
        Metric::new(
            "openledger_wrong_claims_total",
            "Claims found wrong",
            claims.wrong,
        ),
        Metric::new("openledger_duels_total", "Duels opened", claims.challenged),
        Metric::new(
            "openledger_duel_moves_total",
            "Moves in duels",
            claims.moves,
        ),
        Metric::new(
            "openledger_games_resolved_total",
            "Games ended",
            claims.resolved,
        ),
        Metric::new(
            "openledger_claim_gas_total",
            "Layer 1 gas of claims",
            claims.l1_gas,
        ),
        Metric::new(
            "openledger_claim_fee_wei_total",
            "What the layer 1 took for claims, wei of its coin",
            claims.l1_fee.get(),
        ),
    ]
}

/// A role that can be watched, also while it runs.
pub trait Watched {
    /// How it is, whenever that is asked.
    fn reports(&self) -> Arc<dyn Fn() -> Report + Send + Sync>;
}

impl Watched for Layer2 {
    fn reports(&self) -> Arc<dyn Fn() -> Report + Send + Sync> {
        let (chain, status) = (self.chain(), self.status().clone());
        Arc::new(move || {
            let heads = status.heads();
            let reader = chain.reader();
            let (labels, oldest) = match reader.and_then(|r| Ok((r.labels()?, r.oldest_state()?))) {
                Ok(read) => read,
                Err(error) => {
                    return Report {
                        trouble: Some(error.to_string()),
                        metrics: Vec::new(),
                    };
                }
            };
            let mut metrics = vec![
                Metric::new("openledger_chain_head", "Newest block", labels.head),
                Metric::new(
                    "openledger_chain_oldest_state",
                    "Oldest block whose state can be read",
                    oldest,
                ),
            ];
            metrics.extend(of_heads(&heads, labels.head, labels.finalized));
            Report {
                trouble: heads.trouble,
                metrics,
            }
        })
    }
}

impl Watched for Worker<Batches> {
    fn reports(&self) -> Arc<dyn Fn() -> Report + Send + Sync> {
        reports(self.done_so_far(), |done| Report {
            trouble: done.trouble.clone(),
            metrics: of_batches(done),
        })
    }
}

impl Watched for Worker<Claims> {
    fn reports(&self) -> Arc<dyn Fn() -> Report + Send + Sync> {
        reports(self.done_so_far(), |done| Report {
            trouble: done.trouble.clone(),
            metrics: of_claims(done),
        })
    }
}

fn reports<T: Send + 'static>(
    done: &Arc<Mutex<T>>,
    report: impl Fn(&T) -> Report + Send + Sync + 'static,
) -> Arc<dyn Fn() -> Report + Send + Sync> {
    let done = Arc::clone(done);
    Arc::new(move || report(&done.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The address at which a role can be watched. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Watch {
    /// Serves what `role` tells, at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Listen`] when the address cannot be used.
    pub async fn start(address: SocketAddr, role: &impl Watched) -> Result<Self> {
        let fail = |source| Error::Listen { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let (health, metrics) = (role.reports(), role.reports());
        let router = Router::new()
            .route(
                "/health",
                get(move || std::future::ready(self::health(&health()))),
            )
            .route(
                "/metrics",
                get(move || std::future::ready(self::metrics(&metrics()))),
            );
        let (stop, mut stopped) = watch::channel(false);
        let ended = async move {
            // An error is a dropped sender, which ends it as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(ended);
            if let Err(error) = served.await {
                tracing::error!(%error, "health and metrics are served no longer");
            }
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// Where `/health` and `/metrics` are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.serving.abort();
    }
}

/// 200 while it goes on, 503 with the reason while something keeps it from that.
fn health(report: &Report) -> Response {
    let (status, word) = match report.trouble {
        None => (StatusCode::OK, "ok"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "trouble"),
    };
    let version = env!("CARGO_PKG_VERSION");
    let told = json!({"status": word, "trouble": report.trouble, "version": version});
    (status, axum::Json(told)).into_response()
}

fn metrics(report: &Report) -> Response {
    let mut text: String = report.metrics.iter().map(Metric::text).collect();
    let trouble = u8::from(report.trouble.is_some());
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# HELP openledger_trouble 1 while something keeps the role from going on\n\
         # TYPE openledger_trouble gauge\nopenledger_trouble {trouble}\n"
    );
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}
