//! The roles, each startable alone, and all of them together for development.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use alloy_signer_local::PrivateKeySigner as Signer;
use openledger_chain::Replacement;
use openledger_chain::layer1::Layer1;
pub use openledger_da::server::{BlockNumber, Certificates, Running as Server};
use openledger_primitives::{Address, Wei};
pub use openledger_rollup::rpc::JwtSecret;
use openledger_rollup::rpc::{self, RollupStatus, RpcConfig, RpcServer};
use openledger_rollup::{Chain, ChainConfig, ChainHandle, Clock, SequencerConfig};

use super::Stop;
use super::availability::{Availability, seeded};
use super::batching::{Batcher, BatcherConfig, Batches};
use super::claims::{Challenger, Claimant, Claims, Proposer};
use super::deriving::{Deriver, Sequencing, Status};
use super::layer1::DevLayer1;
use super::network::{Choices, Network, layer1_sender};
use super::rpc::Rpc;
use crate::{Error, Result};

/// L2 blocks between two claims in development.
const INTERVAL: u64 = 30;

/// The Engine API of a node, on either side of it.
#[derive(Clone, Debug, Default)]
pub struct EngineApi {
    /// Where it is served, so that an op-node can drive this chain.
    pub serve: Option<SocketAddr>,
    /// URL of another execution client's, which then makes and checks every block, too.
    pub client: Option<String>,
    /// What both sides know; needed for either.
    pub secret: Option<JwtSecret>,
}

/// How a node of the layer 2 is run.
#[derive(Clone, Debug)]
pub struct Layer2Config {
    /// Where the chain is kept.
    pub dir: PathBuf,
    /// Address of its JSON-RPC; port 0 takes a free one.
    pub rpc: SocketAddr,
    /// JSON-RPC of the layer 1.
    pub l1: String,
    /// HTTP API of the layer 1's consensus layer, where blobs are; needed when a batch is in one.
    pub beacon: Option<String>,
    /// Data availability server.
    pub da: Option<String>,
    /// Makes blocks, too; without it the node follows the layer 1 alone.
    pub sequencer: Option<SequencerConfig>,
    /// For how many blocks before the head state is kept, once they are final; `None` for all.
    pub state_history: Option<NonZeroU64>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Its Engine API.
    pub engine: EngineApi,
}

/// A node of the layer 2: a sequencer, or a verifier.
#[derive(Debug)]
pub struct Layer2 {
    chain: Chain,
    rpc: RpcServer,
    engine: Option<RpcServer>,
    status: Status,
    stop: Arc<Stop>,
    deriving: Option<JoinHandle<()>>,
}

impl Layer2 {
    /// Opens or creates the chain, serves its JSON-RPC and follows the layer 1.
    ///
    /// # Errors
    /// When the directory belongs to another network, or an address cannot be used.
    pub async fn start(network: &Network, config: Layer2Config) -> Result<Self> {
        let l1 = Arc::new(Rpc::new(&config.l1).with_beacon(config.beacon.as_deref()));
        let mut chain = ChainConfig::new(Some(config.dir.clone()), network.genesis.clone());
        chain.clock = config.clock.clone();
        chain.state_history = config.state_history;
        let secret = || {
            let secret = config.engine.secret;
            secret.ok_or_else(|| Error::not_found("secret of", "the Engine API"))
        };
        if let Some(url) = &config.engine.client {
            let rpc = Rpc::engine(url, secret()?, config.clock.clone());
            chain.client = Some(Arc::new(rpc));
        }
        chain.sequencer = config.sequencer.map(|sequencer| SequencerConfig {
            block_time: network.rollup.block_time(),
            eager: false,
            finality_lag: None,
            ..sequencer
        });
        if chain.sequencer.is_some() {
            let sequencing = Sequencing::new(network.rollup.clone(), Arc::clone(&l1), 0);
            chain.attributes = Some(Arc::new(sequencing));
        }
        // Another client may have much to catch up with.
        let chain = tokio::task::spawn_blocking(|| Chain::open(chain)).await??;
        let handle = chain.handle();
        let da = Availability::at(config.da, network.committee);
        let deriver = Deriver::new(&config.dir, handle.clone(), network.rollup.clone(), l1, da)?;
        let status = deriver.status();
        let shown: Arc<dyn RollupStatus> = Arc::new(status.clone());
        let limits = RpcConfig::default();
        let engine = match config.engine.serve {
            None => None,
            Some(addr) => {
                let (handle, limits, secret) = (handle.clone(), limits.clone(), secret()?);
                Some(rpc::serve_engine(handle, addr, limits, secret, config.clock.clone()).await?)
            }
        };
        let rpc = rpc::serve_derived(handle, config.rpc, limits, Some(shown)).await?;
        let stop = Arc::<Stop>::default();
        let flag = Arc::clone(&stop);
        let deriving = thread("derivation", move || deriver.run(&flag))?;
        Ok(Self {
            chain,
            rpc,
            engine,
            status,
            stop,
            deriving: Some(deriving),
        })
    }

    /// Its JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.rpc.addr())
    }

    /// Address of its JSON-RPC.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.rpc.addr()
    }

    /// Address of its Engine API, where that is served.
    #[must_use]
    pub fn engine(&self) -> Option<SocketAddr> {
        self.engine.as_ref().map(RpcServer::addr)
    }

    /// The chain itself.
    #[must_use]
    pub fn chain(&self) -> ChainHandle {
        self.chain.handle()
    }

    /// What derivation knows.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Stops serving, deriving and making blocks.
    pub async fn stop(mut self) {
        self.stop.set();
        self.rpc.stop().await;
        if let Some(engine) = self.engine {
            engine.stop().await;
        }
        let (chain, deriving) = (self.chain, self.deriving.take());
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(thread) = deriving {
                // A thread that panicked has said so on stderr already.
                let _ = thread.join();
            }
            chain.shutdown();
        })
        .await;
    }
}

/// A role that only sends transactions to the layer 1.
#[derive(Debug)]
pub struct Worker<T> {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    done: Arc<Mutex<T>>,
}

impl<T: Clone> Worker<T> {
    /// What it has done so far.
    #[must_use]
    pub fn done(&self) -> T {
        let done = self.done.lock();
        done.unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// The same, as it goes on, for whoever watches.
    pub(crate) const fn done_so_far(&self) -> &Arc<Mutex<T>> {
        &self.done
    }

    /// Lets it finish what it is at, ends it, and tells what it has done in all.
    pub async fn stop(mut self) -> T {
        self.stop.set();
        let thread = self.thread.take();
        // A thread that panicked has said so on stderr already.
        let _ = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await;
        self.done()
    }
}

/// Starts a batcher: the sequencer's node at `l2`, to the layer 1 at `l1`.
///
/// # Errors
/// When the layer 1 does not answer.
pub async fn start_batcher(
    network: &Network,
    l1: &str,
    l2: &str,
    da: Option<String>,
    key: Signer,
    config: BatcherConfig,
) -> Result<Worker<Batches>> {
    let account = key.address();
    let expected = network.rollup.genesis_system_config().batcher;
    if account != expected {
        tracing::warn!(%account, %expected, "batches of this account count only if the system configuration names it");
    }
    let done = Arc::<Mutex<Batches>>::default();
    let batcher = Batcher {
        rollup: network.rollup.clone(),
        config,
        l2: Rpc::new(l2),
        sender: layer1_sender(l1, key, config.replacement).await?,
        account,
        l1: Rpc::new(l1),
        layer1: network.layer1,
        da: Availability::at(da, network.committee),
        runtime: tokio::runtime::Handle::current(),
        done: Arc::clone(&done),
    };
    start("batcher", done, move |stop| batcher.run(stop))
}

async fn claimant(
    layer1: Layer1,
    l1: &str,
    l2: &str,
    key: Signer,
    done: &Arc<Mutex<Claims>>,
) -> Result<Claimant> {
    Ok(Claimant {
        layer1,
        account: key.address(),
        sender: layer1_sender(l1, key, Replacement::default()).await?,
        l2: Rpc::new(l2),
        runtime: tokio::runtime::Handle::current(),
        done: Arc::clone(done),
    })
}

/// Starts a proposer that believes the node at `l2`.
///
/// # Errors
/// When the layer 1 does not answer.
pub async fn start_proposer(
    layer1: Layer1,
    l1: &str,
    l2: &str,
    key: Signer,
    interval: u64,
    unfinalized: bool,
) -> Result<Worker<Claims>> {
    let done = Arc::<Mutex<Claims>>::default();
    let proposer = Proposer {
        as_claimant: claimant(layer1, l1, l2, key, &done).await?,
        interval: interval.max(1),
        unfinalized,
    };
    start("proposer", done, move |stop| proposer.run(stop))
}

/// Starts a challenger that believes the node at `l2`; `guardian` decides about single blocks, too.
///
/// # Errors
/// When the layer 1 does not answer.
pub async fn start_challenger(
    layer1: Layer1,
    l1: &str,
    l2: &str,
    key: Signer,
    guardian: bool,
) -> Result<Worker<Claims>> {
    let done = Arc::<Mutex<Claims>>::default();
    let challenger = Challenger {
        as_claimant: claimant(layer1, l1, l2, key, &done).await?,
        guardian,
        right: Default::default(),
    };
    start("challenger", done, move |stop| challenger.run(stop))
}

/// Starts a data availability server that keeps payloads in `dir` for `retention`, or for ever, and
/// answers with certificates if it is told how, else with digests.
///
/// # Errors
/// When the directory or the address cannot be used.
pub async fn start_da(
    address: SocketAddr,
    dir: &Path,
    clock: Clock,
    retention: Option<std::time::Duration>,
    certificates: Option<Certificates>,
) -> Result<Server> {
    let clock = Arc::new(move || clock.now().as_secs());
    let mut config = openledger_da::ServerConfig::new(address, dir, clock);
    config.retention = retention;
    config.certificates = certificates;
    let server = openledger_da::server::serve(config).await;
    server.map_err(|error| match error {
        openledger_da::ServerError::Listen { address, source } => Error::Listen { address, source },
        other => Error::Task(other.to_string()),
    })
}

fn start<T>(
    name: &str,
    done: Arc<Mutex<T>>,
    run: impl FnOnce(&Stop) + Send + 'static,
) -> Result<Worker<T>> {
    let stop = Arc::<Stop>::default();
    let flag = Arc::clone(&stop);
    let thread = Some(thread(name, move || run(&flag))?);
    Ok(Worker { stop, thread, done })
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::Task(format!("cannot start the {name} thread: {error}")))
}

/// Who does what in a network for development.
#[derive(Clone, Debug)]
pub struct DevKeys {
    /// Deploys the contracts of the layer 1, and does nothing else there.
    pub deployer: Signer,
    /// Sends batches.
    pub batcher: Signer,
    /// Makes claims.
    pub proposer: Signer,
    /// Contradicts claims, and decides as the guardian.
    pub guardian: Signer,
    /// What the keys of the operators of data availability follow from; without it payloads get
    /// digests. The network's committee must be theirs:
    /// [`seeded_committee`](super::availability::seeded_committee).
    pub operators: Option<String>,
}

/// Where the parts of a network for development listen. Port 0 takes a free one.
#[derive(Clone, Copy, Debug)]
pub struct DevPorts {
    /// JSON-RPC of the layer 2.
    pub l2: SocketAddr,
    /// JSON-RPC of the layer 1.
    pub l1: SocketAddr,
    /// Data availability.
    pub da: SocketAddr,
}

/// A whole rollup in this process: layer 1, data availability, sequencer, batcher, proposer and
/// challenger.
#[derive(Debug)]
pub struct DevRollup {
    layer1: DevLayer1,
    da: Server,
    network: Network,
    layer2: Layer2,
    batcher: Worker<Batches>,
    proposer: Worker<Claims>,
    challenger: Worker<Claims>,
}

impl DevRollup {
    /// Starts all of it in `dir`, or resumes what is there.
    ///
    /// # Errors
    /// When a directory or an address cannot be used, or a part does not start.
    pub async fn start(
        dir: &Path,
        ports: DevPorts,
        l1_chain_id: u64,
        choices: &Choices,
        keys: &DevKeys,
        sequencer: SequencerConfig,
        batcher: BatcherConfig,
    ) -> Result<Self> {
        let rich = Wei::new(10_000 * Wei::OPEN.get());
        let accounts: Vec<(Address, Wei)> = [
            &keys.deployer,
            &keys.batcher,
            &keys.proposer,
            &keys.guardian,
        ]
        .map(|key| (key.address(), rich))
        .into_iter()
        .chain(choices.allocations.keys().map(|account| (*account, rich)))
        .collect();
        let layer1 = DevLayer1::start(&dir.join("l1"), ports.l1, l1_chain_id, &accounts).await?;
        let l1 = layer1.url();

        let clock = layer1.clock();
        let handle = layer1.handle();
        let certificates = keys.operators.as_ref().map(|seed| {
            let head = move || handle.head().ok().map(|head| head.number);
            seeded(seed, Arc::new(head))
        });
        let da = start_da(ports.da, &dir.join("da"), clock.clone(), None, certificates).await?;
        let (found, expected) = (da.committee().map(|c| c.digest()), choices.committee);
        if found != expected {
            return Err(Error::Conflict(format!(
                "data availability has committee {found:?}, the network {expected:?}"
            )));
        }

        let deployer = keys.deployer.address();
        let sender = layer1_sender(&l1, keys.deployer.clone(), Replacement::default()).await?;
        let network = choices.deploy(&sender, &l1, deployer, 0).await?;
        network.save(&dir.join("network"))?;

        let layer2 = Layer2Config {
            dir: dir.join("chain"),
            rpc: ports.l2,
            l1: l1.clone(),
            beacon: None,
            da: Some(da.url()),
            sequencer: Some(sequencer),
            state_history: None,
            clock,
            engine: EngineApi::default(),
        };
        let layer2 = Layer2::start(&network, layer2).await?;
        let l2 = layer2.url();
        let at = network.layer1;
        Ok(Self {
            batcher: start_batcher(
                &network,
                &l1,
                &l2,
                Some(da.url()),
                keys.batcher.clone(),
                batcher,
            )
            .await?,
            proposer: start_proposer(at, &l1, &l2, keys.proposer.clone(), INTERVAL, false).await?,
            challenger: start_challenger(at, &l1, &l2, keys.guardian.clone(), true).await?,
            layer1,
            da,
            network,
            layer2,
        })
    }

    /// The layer 1.
    #[must_use]
    pub const fn layer1(&self) -> &DevLayer1 {
        &self.layer1
    }

    /// The sequencer's node.
    #[must_use]
    pub const fn layer2(&self) -> &Layer2 {
        &self.layer2
    }

    /// URL of the data availability server.
    #[must_use]
    pub fn da_url(&self) -> String {
        self.da.url()
    }

    /// What the network is.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// What the batcher has done.
    #[must_use]
    pub fn batches(&self) -> Batches {
        self.batcher.done()
    }

    /// What the proposer has done.
    #[must_use]
    pub fn proposals(&self) -> Claims {
        self.proposer.done()
    }

    /// What the challenger has done.
    #[must_use]
    pub fn challenges(&self) -> Claims {
        self.challenger.done()
    }

    /// Stops everything, those first that need the others.
    pub async fn stop(self) {
        self.challenger.stop().await;
        self.proposer.stop().await;
        self.batcher.stop().await;
        self.layer2.stop().await;
        self.da.shutdown().await;
        self.layer1.stop().await;
    }
}
