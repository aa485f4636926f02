//! The composition root: one handle that everything else hangs on.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use openledger_primitives::{Address, B256, DEV_CHAIN_ID, Wei, keccak256};
use openledger_rollup::chain::ChainHandle;
use openledger_rollup::engine::ChainEvent;
use openledger_rollup::sequencer::SequencerConfig;
use openledger_serving::{Credit, Engine, EngineConfig, ReceiptLog};
use openledger_store::{Blobs, Catalogue};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::attributor::{self, Artefacts};
use crate::base_model::BaseModel;
use crate::cache::Cache;
use crate::contracts::Contracts;
use crate::datanets::address_key;
use crate::devnet;
use crate::notice::{Notice, Notices};
use crate::rollup::batching::BatcherConfig;
use crate::rollup::roles::{DevPorts, DevRollup};
use crate::state::{ModelDoc, NameDoc, RowDoc, collection};
use crate::tuning::{PRICE_IN, PRICE_OUT, Runs};
use crate::view::StageView;
use crate::wallets::{DevWallets, Role};
use crate::{Error, Result};

/// Ids handed out before the counter is written again; a restart skips the rest.
const ID_BLOCK: u64 = 256;

/// How a node is opened.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where everything is kept. One node at a time.
    pub data_dir: PathBuf,
    /// Address of the JSON-RPC; port 0 takes a free one.
    pub rpc: SocketAddr,
    /// Address of the layer 1's JSON-RPC; port 0 takes a free one.
    pub l1: SocketAddr,
    /// Address of the data availability server; port 0 takes a free one.
    pub da: SocketAddr,
    /// Address of the API and the pages; port 0 takes a free one.
    pub http: SocketAddr,
    /// Base model in Hugging Face format; the bundled one when missing.
    pub base: Option<PathBuf>,
}

/// A running node. Clones share it.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    /// Held for as long as the node lives.
    _lock: File,
    catalogue: Catalogue,
    blobs: Blobs,
    notices: Notices,
    wallets: DevWallets,
    chain: ChainHandle,
    running: Mutex<Option<Running>>,
    rpc_addr: SocketAddr,
    http_addr: SocketAddr,
    contracts: Contracts,
    base: BaseModel,
    engine: Engine,
    receipts: ReceiptLog,
    credit: Mutex<Credit>,
    runs: Runs,
    tracing: mpsc::SyncSender<String>,
    rows: Cache<Vec<RowDoc>>,
    artefacts: Cache<Artefacts>,
    anchoring: tokio::sync::Mutex<()>,
    settling: tokio::sync::Mutex<()>,
    stage: Mutex<Option<StageView>>,
    boot_seconds: BTreeMap<String, f64>,
    ids: AtomicU64,
    id_secret: B256,
    stopping: AtomicBool,
    stop: Notify,
    runtime: tokio::runtime::Handle,
}

/// What shutdown takes apart.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) rollup: DevRollup,
    http: Option<TcpListener>,
    tasks: Vec<JoinHandle<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Node {
    /// Starts a node on `config.data_dir`, or resumes the one that was there.
    ///
    /// # Errors
    /// [`Error::DataDirInUse`], [`Error::Listen`], or whatever part does not start: a damaged
    /// store, an unreadable base model, contracts that cannot be deployed.
    pub async fn open(config: NodeConfig) -> Result<Self> {
        let begun = Instant::now();
        let mut boot_seconds = BTreeMap::new();
        let data_dir = config.data_dir.clone();
        let lock = lock(&data_dir)?;
        let http = listen(config.http)?;
        let http_addr = local_addr(&http, config.http)?;
        remember_base(&data_dir, config.base.as_deref())?;
        let catalogue = Catalogue::open(&data_dir.join("catalogue.redb"))?;
        let blobs = Blobs::open(data_dir.join("blobs"))?;
        let wallets = DevWallets::new(DEV_CHAIN_ID)?;

        // A bad base is told at once, before a chain is made for it.
        let (dir, home) = (config.base.clone(), data_dir.clone());
        let base =
            tokio::task::spawn_blocking(move || BaseModel::load(dir.as_deref(), &home)).await??;
        let engine = Engine::start(
            Arc::clone(&base.base),
            base.tokenizer.as_ref().clone(),
            base.template.clone(),
            EngineConfig::default(),
        )?;
        boot_seconds.insert("model".to_owned(), begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let ports = DevPorts {
            l2: config.rpc,
            l1: config.l1,
            da: config.da,
        };
        let rollup = DevRollup::start(
            &data_dir,
            ports,
            devnet::DEV_L1_CHAIN_ID,
            &devnet::choices()?,
            &devnet::keys(&wallets),
            SequencerConfig::default(),
            BatcherConfig::default(),
        )
        .await
        .map_err(listening)?;
        let handle = rollup.layer2().chain();
        let rpc_addr = rollup.layer2().addr();
        boot_seconds.insert("chain".to_owned(), begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let contracts = Contracts::open(&url(rpc_addr), &wallets, &catalogue).await?;
        boot_seconds.insert("contracts".to_owned(), begun.elapsed().as_secs_f64());

        let (runs, run_jobs) = Runs::new();
        let (tracing, trace_jobs) = mpsc::sync_channel(attributor::QUEUE);
        let operator = wallets.address(Role::Operator);
        let first_id = catalogue
            .get::<u64>(collection::NODE, "next-id")?
            .unwrap_or(0);
        let node = Self(Arc::new(Inner {
            id_secret: keccak256(
                [
                    b"completion ids".as_slice(),
                    wallets.role(Role::Operator).to_bytes().as_slice(),
                ]
                .concat(),
            ),
            data_dir,
            _lock: lock,
            receipts: ReceiptLog::new(catalogue.clone()),
            catalogue,
            blobs,
            notices: Notices::default(),
            wallets,
            chain: handle,
            running: Mutex::new(None),
            rpc_addr,
            http_addr,
            contracts,
            base,
            engine,
            credit: Mutex::new(Credit::new(DEV_CHAIN_ID, operator)),
            runs,
            tracing,
            rows: Cache::default(),
            artefacts: Cache::default(),
            anchoring: tokio::sync::Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            stage: Mutex::default(),
            boot_seconds,
            ids: AtomicU64::new(first_id),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            runtime: tokio::runtime::Handle::current(),
        }));
        node.name_roles()?;
        node.restore_accounts()?;
        node.offer_base().await?;
        node.load_adapters()?;

        let follow = tokio::spawn(node.clone().follow_chain());
        let tuner = node.clone();
        let tracer = node.clone();
        let threads = vec![
            spawn_thread("tuner", move || tuner.tune_forever(&run_jobs))?,
            spawn_thread("attributor", move || tracer.trace_forever(&trace_jobs))?,
        ];
        *node.running() = Some(Running {
            rollup,
            http: Some(http),
            tasks: vec![follow],
            threads,
        });
        node.requeue_runs()?;
        node.retrace()?;
        Ok(node)
    }

    /// Serves `router` on the node's HTTP address until the node stops. The task ends with the
    /// server.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is served already, [`Error::Listen`] if the socket is unusable.
    pub fn serve_http(&self, router: axum::Router) -> Result<JoinHandle<std::io::Result<()>>> {
        let listener = self
            .running()
            .as_mut()
            .and_then(|running| running.http.take());
        let listener =
            listener.ok_or_else(|| Error::Conflict("the pages are served already".into()))?;
        let address = self.0.http_addr;
        let fail = |source| Error::Listen { address, source };
        listener.set_nonblocking(true).map_err(fail)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(fail)?;
        let node = self.clone();
        Ok(tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { node.stopped().await })
                .await
        }))
    }

    /// Stops: no new work, running work saved, stores closed. What was acknowledged is on disk in
    /// any case.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.stop.notify_waiters();
        self.0.runs.pause_all();
        self.0.runs.wake();
        // The worker looks at the flag after each job; an empty job is enough to wake it.
        let _ = self.0.tracing.try_send(String::new());
        let Some(running) = self.running().take() else {
            return;
        };
        for task in running.tasks {
            task.abort();
        }
        let threads = running.threads;
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker that panicked has said so on stderr already.
                let _ = thread.join();
            }
        })
        .await;
        running.rollup.stop().await;
    }

    pub(crate) async fn stopped(&self) {
        let notified = self.0.stop.notified();
        if !self.stopping() {
            notified.await;
        }
    }

    /// Tells pages about new blocks.
    async fn follow_chain(self) {
        let mut events = self.0.chain.subscribe();
        loop {
            match events.recv().await {
                Ok(ChainEvent::Committed(block)) => {
                    let header = &block.block.header;
                    let notice = serde_json::json!({
                        "number": header.number, "hash": block.block.hash(),
                        "timestamp": header.timestamp,
                        "transactions": block.block.transactions.len(),
                    });
                    self.notices().publish("block", &notice);
                }
                Ok(ChainEvent::Reverted(_))
                | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn name_roles(&self) -> Result<()> {
        self.catalogue().write(|tx| {
            for role in Role::ALL {
                let name = NameDoc {
                    name: role.name().into(),
                    role: role.name().into(),
                };
                tx.put(
                    collection::NAMES,
                    &address_key(self.wallets().address(role)),
                    &name,
                )?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Registers the base on the chain and offers it by name.
    async fn offer_base(&self) -> Result<()> {
        let base = self.base();
        let registered = self.contracts().register_base(self.wallets(), base).await?;
        let model = ModelDoc {
            name: base.name.clone(),
            parent: None,
            owner: self.wallets().address(Role::ModelOwner),
            registry_id: Some(registered.id),
            digest: base.weights_root,
            weights: base.weights_root,
            parameters: base.parameters,
            facts: base.facts(),
            price_in: PRICE_IN,
            price_out: PRICE_OUT,
            run: None,
            datanet: None,
            train_rows: None,
            tx: Some(registered.tx),
        };
        Ok(self
            .catalogue()
            .write(|tx| tx.put(collection::MODELS, &model.name, &model))?)
    }

    /// Puts the adapters of this base back into the engine.
    fn load_adapters(&self) -> Result<()> {
        for (_, model) in self.catalogue().list::<ModelDoc>(collection::MODELS)? {
            if model.parent.as_deref() == Some(&self.base().name) {
                self.load_adapter(&model)?;
            }
        }
        Ok(())
    }

    pub(crate) fn load_adapter(&self, model: &ModelDoc) -> Result<()> {
        let run = model.run.as_deref().unwrap_or_default();
        let dir = self.run_dir(run).join(openledger_finetune::ADAPTER_DIR);
        let info = self.engine().adapters().load(&model.name, &dir)?;
        if info.weights != model.weights {
            return Err(Error::Conflict(format!(
                "the files of {} have weights root {}, the chain says {}",
                model.name, info.weights, model.weights
            )));
        }
        Ok(())
    }

    /// The base model that the node in `data_dir` was last started with.
    ///
    /// # Errors
    /// [`Error::File`] if `data_dir` is not a node's.
    pub fn base_of(data_dir: &Path) -> Result<Option<PathBuf>> {
        let path = data_dir.join(BASE_FILE);
        let text = fs::read_to_string(&path).map_err(|source| Error::File {
            action: "read",
            path,
            source,
        })?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// What happens in this node, to follow.
    pub fn notices(&self) -> &Notices {
        &self.0.notices
    }

    /// Notices from now on.
    pub fn events(&self) -> tokio::sync::broadcast::Receiver<Notice> {
        self.0.notices.follow()
    }

    /// JSON-RPC of the layer 1; empty once the node has stopped.
    pub fn l1_url(&self) -> String {
        let running = self.running();
        running
            .as_ref()
            .map_or_else(String::new, |r| r.rollup.layer1().url())
    }

    /// The data availability server; empty once the node has stopped.
    pub fn da_url(&self) -> String {
        let running = self.running();
        running
            .as_ref()
            .map_or_else(String::new, |r| r.rollup.da_url())
    }

    /// URL of the JSON-RPC.
    pub fn rpc_url(&self) -> String {
        url(self.0.rpc_addr)
    }

    /// URL of the API and the pages.
    pub fn http_url(&self) -> String {
        url(self.0.http_addr)
    }

    /// The key of the dev payer.
    pub fn dev_api_key(&self) -> Option<String> {
        Some(self.0.wallets.api_key())
    }

    /// Where the contracts are.
    pub fn deployment(&self) -> openledger_chain::Deployment {
        *self.0.contracts.deployment()
    }

    /// The settler that vouchers are made out to.
    pub fn settler(&self) -> Address {
        self.0.wallets.address(Role::Operator)
    }

    /// Deposits for a payer from the dev network's faucet.
    ///
    /// # Errors
    /// If the faucet is empty or the chain refuses.
    pub async fn deposit_for(&self, payer: Address, amount: Wei) -> Result<()> {
        self.contracts()
            .deposit_for(self.wallets(), payer, amount)
            .await
    }

    /// Chain id.
    pub fn chain_id(&self) -> u64 {
        DEV_CHAIN_ID
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    pub(crate) fn wallets(&self) -> &DevWallets {
        &self.0.wallets
    }

    pub(crate) fn chain(&self) -> &ChainHandle {
        &self.0.chain
    }

    pub(crate) fn contracts(&self) -> &Contracts {
        &self.0.contracts
    }

    pub(crate) fn parameters(&self) -> &openledger_primitives::records::Parameters {
        self.0.contracts.parameters()
    }

    pub(crate) fn base(&self) -> &BaseModel {
        &self.0.base
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn receipts(&self) -> &ReceiptLog {
        &self.0.receipts
    }

    pub(crate) fn credit(&self) -> MutexGuard<'_, Credit> {
        self.0.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn runs_queue(&self) -> &Runs {
        &self.0.runs
    }

    pub(crate) fn tracing_queue(&self) -> &mpsc::SyncSender<String> {
        &self.0.tracing
    }

    pub(crate) fn rows_cache(&self) -> &Cache<Vec<RowDoc>> {
        &self.0.rows
    }

    pub(crate) fn artefact_cache(&self) -> &Cache<Artefacts> {
        &self.0.artefacts
    }

    pub(crate) fn anchoring(&self) -> &tokio::sync::Mutex<()> {
        &self.0.anchoring
    }

    pub(crate) fn settling(&self) -> &tokio::sync::Mutex<()> {
        &self.0.settling
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.0.data_dir
    }

    pub(crate) fn boot_seconds(&self) -> BTreeMap<String, f64> {
        self.0.boot_seconds.clone()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn set_stage(&self, view: StageView) {
        *self.0.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(view);
    }

    pub(crate) fn current_stage(&self) -> Option<StageView> {
        self.0
            .stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn id_secret(&self) -> B256 {
        self.0.id_secret
    }

    /// A number that was never given before, not even by an earlier process.
    pub(crate) fn next_id(&self) -> Result<u64> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        if id.is_multiple_of(ID_BLOCK) {
            self.catalogue()
                .write(|tx| tx.put(collection::NODE, "next-id", &(id + ID_BLOCK)))?;
        }
        Ok(id)
    }

    /// Waits for `future` from a thread that is not the runtime's.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(future)
    }

    /// The key of an address that this node holds: a role's or a contributor's.
    pub(crate) fn signer_of(
        &self,
        address: Address,
    ) -> Result<Option<alloy_signer_local::PrivateKeySigner>> {
        let Some(doc) = self.name_of(address)? else {
            return Ok(None);
        };
        if doc.role == "contributor" {
            return self.wallets().contributor(&doc.name).map(Some);
        }
        Ok(Role::ALL
            .into_iter()
            .find(|role| self.wallets().address(*role) == address)
            .map(|role| self.wallets().role(role)))
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const BASE_FILE: &str = "base-model";

/// Notes the base model, for commands that open the directory later.
fn remember_base(data_dir: &Path, base: Option<&Path>) -> Result<()> {
    let text = match base {
        None => String::new(),
        Some(dir) => dir
            .canonicalize()
            .map_err(|source| Error::File {
                action: "open the base model",
                path: dir.to_path_buf(),
                source,
            })?
            .display()
            .to_string(),
    };
    Ok(openledger_store::write_atomic(
        &data_dir.join(BASE_FILE),
        text.as_bytes(),
    )?)
}

/// Locks the data directory for this process; the lock falls with it, even by `kill -9`.
fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let fail = |action| {
        let path = path.clone();
        move |source| Error::File {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(data_dir).map_err(fail("create the directory of"))?;
    let file = File::create(&path).map_err(fail("create"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::DataDirInUse {
            path: data_dir.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(fail("lock")(source)),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|source| Error::Listen { address, source })
}

fn local_addr(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::Listen {
        address: asked,
        source,
    })
}

/// An address that is taken, in the words of the command line.
fn listening(error: Error) -> Error {
    match error {
        Error::Rollup(openledger_rollup::Error::Bind { addr, reason }) => Error::Listen {
            address: addr,
            source: std::io::Error::other(reason),
        },
        other => other,
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn spawn_thread(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| Error::Task(format!("cannot start the {name} thread: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_data_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(Error::DataDirInUse { .. })));
        drop(first);
        lock(dir.path()).unwrap();
    }
}
