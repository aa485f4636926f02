//! A data availability server on one machine, with the routes of eigenda-proxy.
//!
//! ```text
//! POST  /put                  payload -> commitment          ?commitment_mode=standard
//! POST  /put/0x00<keccak256>  payload, nothing comes back
//! GET   /get/0x<commitment>   payload                        ?commitment_mode=standard
//!                                                            ?l1_inclusion_block_number=N
//!                                                            ?return_encoded_payload
//! GET   /health  /config  /metrics
//! GET   /memstore/config      faults to inject; PATCH changes them
//! ```
//!
//! With [`ServerConfig::certificates`] the commitment is a certificate, and a certificate that
//! does not hold is answered with 418 and the reason; without, it is the payload's digest.
//!
//! A payload is on the disk, synced, before it is acknowledged, and stays for the retention.
//! Every connection carries one request and has one deadline for all of it, so a peer that
//! trickles can hold one of [`ServerConfig::max_connections`] places for that long and nothing
//! more; and no more than [`ServerConfig::max_requests`] payloads are in memory at a time.

mod faults;
mod guard;
mod issuer;
mod routes;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::MAX_PAYLOAD_LEN;
use crate::certificate::{Committee, CommitteeError, Operators, Srs};
use crate::vault::Vault;
use faults::Faults;
use issuer::Issuer;
use routes::State;

/// A clock: seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The number of the layer 1's newest block; `None` while it is not known, and then there are no
/// certificates. It may block.
pub type BlockNumber = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// How the server makes certificates.
#[derive(Clone)]
pub struct Certificates {
    /// How many operators there are, when their keys are made at the first start; then the file
    /// `operators.secret` in the folder says so.
    pub operators: usize,
    /// What the operators' keys follow from, for development; without it they are made by chance
    /// and kept in the folder.
    pub seed: Option<String>,
    /// The share of the stake that must have signed, in percent.
    pub threshold_percent: u8,
    /// What certificates refer to. They are stale when included [`RECENCY_WINDOW`] blocks later.
    ///
    /// [`RECENCY_WINDOW`]: crate::certificate::RECENCY_WINDOW
    pub reference_block: BlockNumber,
}

impl Certificates {
    /// Four operators, 67 percent.
    #[must_use]
    pub fn new(reference_block: BlockNumber) -> Self {
        Self {
            operators: 4,
            seed: None,
            threshold_percent: 67,
            reference_block,
        }
    }

    /// The operators of the server whose folder is `folder`.
    pub(crate) fn open(&self, folder: &Path, srs: &Srs) -> Result<Operators, CommitteeError> {
        let (count, threshold) = (self.operators, self.threshold_percent);
        match &self.seed {
            Some(seed) => Operators::from_seed(seed, count, threshold, srs),
            None => Operators::open(&folder.join("operators.secret"), count, threshold, srs),
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("operators", &self.operators)
            .field("threshold_percent", &self.threshold_percent)
            .finish_non_exhaustive()
    }
}

/// How long EigenDA keeps a blob.
const RETENTION: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How long a shutdown waits for answers.
const GRACE: Duration = Duration::from_secs(5);

/// What a server needs to know.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes any that is free.
    pub address: SocketAddr,
    /// The folder of the payloads.
    pub data_dir: PathBuf,
    /// What payloads are dated and kept by.
    pub clock: Clock,
    /// How long a payload is kept after it was last put; `None` is for ever. Deletion is coarse:
    /// a payload may stay for another fourteenth of this time, and until the next sweep.
    pub retention: Option<Duration>,
    /// How often to look for payloads to delete.
    pub sweep_every: Duration,
    /// The most bytes of a payload, at most [`MAX_PAYLOAD_LEN`].
    pub max_payload: usize,
    /// How many requests may be worked on at a time; others are told to come back (429).
    pub max_requests: usize,
    /// How many connections may be open at a time; others wait.
    pub max_connections: usize,
    /// How long a connection may last, from its first byte to the last one of the answer.
    pub deadline: Duration,
    /// What `POST /put` answers with; `None` is the digest of the payload.
    pub certificates: Option<Certificates>,
    /// Whether `/memstore/config` exists. For tests: anybody who reaches it can break the server.
    pub fault_injection: bool,
}

impl ServerConfig {
    /// The defaults: 14 days of retention, digests in place of certificates, no faults.
    #[must_use]
    pub fn new(address: SocketAddr, data_dir: impl Into<PathBuf>, clock: Clock) -> Self {
        Self {
            address,
            data_dir: data_dir.into(),
            clock,
            retention: Some(RETENTION),
            sweep_every: Duration::from_secs(600),
            max_payload: MAX_PAYLOAD_LEN,
            max_requests: 8,
            max_connections: 256,
            deadline: Duration::from_secs(120),
            certificates: None,
            fault_injection: false,
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("address", &self.address)
            .field("data_dir", &self.data_dir)
            .field("retention", &self.retention)
            .field("max_payload", &self.max_payload)
            .field("certificates", &self.certificates)
            .field("fault_injection", &self.fault_injection)
            .finish_non_exhaustive()
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The payloads cannot be reached.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
    /// The operators cannot sign.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
}

/// A server that listens. Dropping it stops the server without waiting for anything; what it
/// acknowledged is on the disk in any case.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    committee: Option<Committee>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    sweeping: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, for a [`crate::ClientConfig`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The operators that sign its certificates, if it has any.
    #[must_use]
    pub fn committee(&self) -> Option<&Committee> {
        self.committee.as_ref()
    }

    /// Takes no new connection, waits a few seconds for answers that have begun, and ends. A peer
    /// that trickles cannot hold it up.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(GRACE, &mut self.serving).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.serving.abort();
        self.sweeping.abort();
    }
}

/// Starts a server on the current runtime.
///
/// # Errors
/// [`ServerError`] if the folder or the address cannot be used.
pub async fn serve(config: ServerConfig) -> Result<Running, ServerError> {
    let address = config.address;
    let fail = |source| ServerError::Listen { address, source };
    let vault = Vault::open(&config.data_dir.join("payloads"))?;
    let issuer = match &config.certificates {
        Some(certificates) => Some(Issuer::open(&config.data_dir, certificates)?),
        None => None,
    };
    let committee = issuer.as_ref().map(|issuer| issuer.committee().clone());
    let listener = tokio::net::TcpListener::bind(address).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let listener = guard::Guarded::new(listener, config.max_connections, config.deadline);
    let faults = Faults::new(config.max_payload.min(MAX_PAYLOAD_LEN), config.retention);
    let sweep_every = config.sweep_every;
    let state = Arc::new(State::new(config, vault, faults, issuer));

    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        // An error is a dropped sender, which stops as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let sweeping = tokio::spawn({
        let (state, stopped) = (state.clone(), wait(stopped.clone()));
        async move {
            let sweeps = async {
                loop {
                    state.clone().sweep().await;
                    tokio::time::sleep(sweep_every).await;
                }
            };
            tokio::select! {
                () = sweeps => {}
                () = stopped => {}
            }
        }
    });
    let serving = tokio::spawn(async move {
        let served = axum::serve(listener, routes::router(state))
            .with_graceful_shutdown(wait(stopped))
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the data availability server ended");
        }
    });
    tracing::info!(%address, "data availability server listens");
    Ok(Running {
        address,
        committee,
        stop,
        serving,
        sweeping,
    })
}
