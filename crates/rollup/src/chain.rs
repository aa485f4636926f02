//! The chain as the rest of the system uses it: open, read, send, follow, shut down.

use crate::{
    block::{Block, ExecutedBlock, Transaction},
    call::{CallContext, CallOutcome, Overrides},
    engine::{ChainEvent, EmbeddedEngine, Engine, EngineClient, ExternalEngine},
    error::{Error, Result},
    fees,
    genesis::GenesisBlock,
    kv::{DiskStore, MemoryStore, Store},
    logs::{self, LogLimits},
    pool::{Admission, Pool, PoolConfig, PoolError, PoolStatus},
    preconfirm::{Feed, SubBlock},
    reader::{ChainReader, Labels, Totals},
    sequencer::{AttributesSource, BlockMaker, Clock, Sequencer, SequencerConfig},
    simulate::{self, Refusal, Simulated},
    spec::ChainSpec,
    state::{AccountProof, StateTrie, View, reverse_to},
    witness::{self, BlockWitness},
};
use alloy_consensus::{Header, Sealed};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_eth::{
    Filter, FilterBlockOption, Log, TransactionRequest, simulate::SimulatePayload,
};
use op_alloy_consensus::OpReceiptEnvelope;
use op_revm::L1BlockInfo;
use std::{
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::broadcast;

/// Events kept for a subscriber that lags; then it is told that it missed some.
const EVENT_BACKLOG: usize = 1_024;

/// How a chain is opened.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// Where `chain.redb` lives; `None` keeps the chain in memory.
    pub data_dir: Option<PathBuf>,
    /// The genesis description; its `config.chain_id` is the chain id.
    pub genesis: Genesis,
    /// The rules; [`ChainConfig::new`] takes [`ChainSpec::of_genesis`].
    pub spec: ChainSpec,
    /// For a chain derived from L1, what its blocks begin with.
    pub attributes: Option<Arc<dyn AttributesSource>>,
    /// When blocks are made; `None` for a chain that is only driven by hand or by derivation.
    pub sequencer: Option<SequencerConfig>,
    /// Limits of the mempool.
    pub pool: PoolConfig,
    /// Limits of log queries.
    pub logs: LogLimits,
    /// How many blocks back `eth_getProof` answers.
    pub proof_window: u64,
    /// For how many blocks before the head the state can be read, proved against and gone back to;
    /// `None` for all. What is not final stays in any case, and so do blocks and receipts of any
    /// age. A chain that starts to prune catches up while it makes blocks.
    pub state_history: Option<NonZeroU64>,
    /// Where the time comes from.
    pub clock: Clock,
    /// Another execution client that makes and checks every block, too.
    pub client: Option<Arc<dyn EngineClient>>,
}

impl ChainConfig {
    /// The default configuration over a genesis.
    #[must_use]
    pub fn new(data_dir: Option<PathBuf>, genesis: Genesis) -> Self {
        Self {
            spec: ChainSpec::of_genesis(&genesis),
            attributes: None,
            data_dir,
            genesis,
            sequencer: Some(SequencerConfig::default()),
            pool: PoolConfig::default(),
            logs: LogLimits::default(),
            proof_window: 1_024,
            state_history: None,
            clock: Clock::system(),
            client: None,
        }
    }
}

/// A running chain. Dropping it stops the sequencer.
#[derive(Debug)]
pub struct Chain {
    handle: ChainHandle,
    sequencer: Option<Sequencer>,
}

impl Chain {
    /// Opens or creates the chain and starts its sequencer.
    ///
    /// # Errors
    /// When the genesis is invalid, the directory belongs to another chain or another process, or
    /// the store fails.
    pub fn open(config: ChainConfig) -> Result<Self> {
        let spec = Arc::new(config.spec);
        let genesis = GenesisBlock::new(&spec, &config.genesis)?;
        let store: Arc<dyn Store> = match &config.data_dir {
            Some(dir) => Arc::new(DiskStore::open(dir)?),
            None => Arc::new(MemoryStore::default()),
        };
        let pool = Arc::new(Pool::new(config.pool));
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let mut engine: Arc<dyn Engine> = Arc::new(EmbeddedEngine::open(
            Arc::clone(&spec),
            Arc::clone(&store),
            Arc::clone(&pool),
            &genesis,
            events.clone(),
            config.state_history,
        )?);
        if let Some(client) = config.client {
            let (spec, store) = (Arc::clone(&spec), Arc::clone(&store));
            engine = Arc::new(ExternalEngine::connect(engine, client, spec, store)?);
        }
        let feed = Arc::<Feed>::default();
        let maker = BlockMaker {
            spec: Arc::clone(&spec),
            store: Arc::clone(&store),
            pool: Arc::clone(&pool),
            engine: Arc::clone(&engine),
            clock: config.clock,
            config: config.sequencer.unwrap_or_default(),
            source: config.attributes,
            feed: Arc::clone(&feed),
            turn: Arc::default(),
        };
        let shared = Shared {
            spec,
            store,
            pool,
            engine,
            events,
            feed,
            maker: maker.clone(),
            log_limits: config.logs,
            proof_window: config.proof_window,
            genesis: genesis.header,
            standing: Mutex::default(),
        };
        let sequencer = config
            .sequencer
            .map(|_| Sequencer::start(maker))
            .transpose()?;
        Ok(Self {
            handle: ChainHandle(Arc::new(shared)),
            sequencer,
        })
    }

    /// A handle to read and send with; cheap to clone.
    #[must_use]
    pub fn handle(&self) -> ChainHandle {
        self.handle.clone()
    }

    /// Finishes the block in progress and stops. What was committed stays; handles keep reading.
    pub fn shutdown(mut self) {
        if let Some(mut sequencer) = self.sequencer.take() {
            sequencer.stop();
        }
    }
}

#[derive(Debug)]
struct Shared {
    spec: Arc<ChainSpec>,
    store: Arc<dyn Store>,
    pool: Arc<Pool>,
    engine: Arc<dyn Engine>,
    events: broadcast::Sender<ChainEvent>,
    feed: Arc<Feed>,
    maker: BlockMaker,
    log_limits: LogLimits,
    proof_window: u64,
    genesis: Sealed<Header>,
    standing: Mutex<Option<Arc<Standing>>>,
}

/// Head and state for as long as the pool has followed no further block.
#[derive(Debug)]
struct Standing {
    epoch: u64,
    head: Sealed<Header>,
    state: View,
    /// Fee parameters; Ethereum has none.
    l1: Option<L1BlockInfo>,
}

/// A transaction in a block, with everything about it.
#[derive(Debug, Clone)]
pub struct Included {
    /// The block with all its receipts.
    pub block: Arc<ExecutedBlock>,
    /// Index of the transaction in it.
    pub index: usize,
}

impl Included {
    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.block.block.transactions[self.index]
    }

    /// Its receipt.
    #[must_use]
    pub fn receipt(&self) -> &OpReceiptEnvelope {
        &self.block.receipts[self.index]
    }

    /// Gas that this transaction used.
    #[must_use]
    pub fn gas_used(&self) -> u64 {
        let before = match self.index {
            0 => 0,
            i => self.block.receipts[i - 1].cumulative_gas_used(),
        };
        self.receipt().cumulative_gas_used() - before
    }
}

/// Access to the chain from this process. All methods block for at most a disk read or, for calls,
/// the execution; none needs an async runtime.
#[derive(Debug, Clone)]
pub struct ChainHandle(Arc<Shared>);

impl ChainHandle {
    /// The rules.
    #[must_use]
    pub fn spec(&self) -> &ChainSpec {
        &self.0.spec
    }

    /// The chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.0.spec.chain_id
    }

    /// The genesis header.
    #[must_use]
    pub fn genesis(&self) -> &Sealed<Header> {
        &self.0.genesis
    }

    /// The engine, for whoever drives the chain besides the sequencer.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.engine
    }

    /// The mempool.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.0.pool
    }

    /// A consistent reader of the chain as it is now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn reader(&self) -> Result<ChainReader> {
        Ok(ChainReader::new(self.0.store.snapshot()?))
    }

    /// The latest header.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn head(&self) -> Result<Sealed<Header>> {
        self.reader()?.head()
    }

    /// Latest, safe and finalized numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn labels(&self) -> Result<Labels> {
        self.reader()?.labels()
    }

    /// Transactions and gas from genesis to the head, in one read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn totals(&self) -> Result<Totals> {
        let reader = self.reader()?;
        reader.totals(reader.labels()?.head)
    }

    /// A block by number with receipts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn block(&self, number: u64) -> Result<Option<ExecutedBlock>> {
        self.reader()?.executed(number)
    }

    /// Up to `count` blocks with receipts, newest first, starting at `before - 1` or at the head.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent(&self, before: Option<u64>, count: usize) -> Result<Vec<ExecutedBlock>> {
        let reader = self.reader()?;
        let end = before.unwrap_or(u64::MAX).min(reader.labels()?.head + 1);
        (0..end)
            .rev()
            .take(count)
            .filter_map(|n| reader.executed(n).transpose())
            .collect()
    }

    /// A transaction by hash, if a block holds it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn included(&self, hash: B256) -> Result<Option<Included>> {
        included(&self.reader()?, hash)
    }

    /// Resolves a block id to a number. `pending` is the latest block.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is no such block.
    pub fn resolve(&self, reader: &ChainReader, id: BlockId) -> Result<u64> {
        let labels = reader.labels()?;
        let unknown = |id: String| Error::Unknown { what: "block", id };
        match id {
            BlockId::Hash(hash) => reader
                .number_of(hash.block_hash)?
                .ok_or_else(|| unknown(hash.block_hash.to_string())),
            BlockId::Number(tag) => match tag {
                BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => Ok(labels.head),
                BlockNumberOrTag::Safe => Ok(labels.safe),
                BlockNumberOrTag::Finalized => Ok(labels.finalized),
                BlockNumberOrTag::Earliest => Ok(0),
                BlockNumberOrTag::Number(n) if n <= labels.head => Ok(n),
                BlockNumberOrTag::Number(n) => Err(unknown(n.to_string())),
            },
        }
    }

    /// The state after a block; with `pending`, after what was told of the block that is still
    /// open, if one is.
    ///
    /// # Errors
    /// When there is no such block.
    pub fn state(&self, id: BlockId) -> Result<View> {
        let reader = self.reader()?;
        if id.is_pending()
            && let Some((_, state)) = self.0.feed.pending_state(&self.0.spec, &reader)?
        {
            return Ok(state);
        }
        reader.state(self.resolve(&reader, id)?)
    }

    /// The balance at the head, wei.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn balance(&self, address: Address) -> Result<U256> {
        self.state(BlockId::latest())?.balance(address)
    }

    /// The next nonce, counting what is in the open block and what is executable in the pool.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pending_nonce(&self, address: Address) -> Result<u64> {
        let chain = self.state(BlockId::pending())?.nonce(address)?;
        Ok(self
            .0
            .pool
            .pending_nonce(address)
            .map_or(chain, |n| n.max(chain)))
    }

    /// Decodes, checks and queues a signed transaction; returns its hash.
    ///
    /// # Errors
    /// When it is malformed, invalid, or the pool is full; texts are geth's.
    pub fn send_raw(&self, encoded: Bytes) -> Result<B256> {
        // Before recovery, which is the expensive part.
        let limit = self.0.pool.config().max_transaction_bytes;
        if encoded.len() > limit {
            return Err(PoolError::Oversized {
                size: encoded.len(),
                limit,
            }
            .into());
        }
        let tx = Arc::new(Transaction::decode(encoded)?);
        loop {
            let standing = &*self.standing()?;
            let admission = Admission {
                spec: &self.0.spec,
                head: &standing.head,
                state: &standing.state,
                l1: standing.l1.as_ref(),
                epoch: standing.epoch,
            };
            if let Some(hash) = self.0.pool.add(&tx, &admission, Instant::now())? {
                return Ok(hash);
            }
        }
    }

    /// What transactions are checked against now. Opened once a block, not once a transaction.
    fn standing(&self) -> Result<Arc<Standing>> {
        // Before the state, so that a block in between shows.
        let epoch = self.0.pool.epoch();
        let standing = &self.0.standing;
        let mut held = standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.as_ref().filter(|found| found.epoch == epoch) {
            return Ok(Arc::clone(found));
        }
        let reader = self.reader()?;
        let head = reader.head()?;
        let state = reader.state(head.number)?;
        let spec = &self.0.spec;
        let l1 = (!spec.is_ethereum()).then(|| fees::l1_info(spec, &head, &state));
        let fresh = Arc::new(Standing {
            epoch,
            head,
            state,
            l1: l1.transpose()?,
        });
        *held = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// How full the mempool is.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.0.pool.status()
    }

    pub(crate) fn maker(&self) -> &BlockMaker {
        &self.0.maker
    }

    /// Makes a block now, whatever the sequencer's clock says.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn make_block(&self) -> Result<Arc<Block>> {
        self.0.maker.make_block()
    }

    /// Runs a call on the state after a block.
    ///
    /// # Errors
    /// When there is no such block, or the call cannot be run.
    pub fn call(
        &self,
        request: TransactionRequest,
        id: BlockId,
        overrides: Overrides,
    ) -> Result<CallOutcome> {
        self.with_context(id, |context| context.call(request, overrides))
    }

    /// Runs `f` with the rules, header and state of a block, which may be the open one as in
    /// [`ChainHandle::state`].
    ///
    /// # Errors
    /// When there is no such block, or what `f` returns.
    pub fn with_context<T>(
        &self,
        id: BlockId,
        f: impl FnOnce(CallContext<'_>) -> Result<T>,
    ) -> Result<T> {
        let reader = self.reader()?;
        let spec = &*self.0.spec;
        if id.is_pending()
            && let Some((header, state)) = self.0.feed.pending_state(spec, &reader)?
        {
            let (header, state) = (&header, &state);
            return f(CallContext {
                spec,
                header,
                state,
            });
        }
        let number = self.resolve(&reader, id)?;
        let header = reader.header(number)?.ok_or_else(|| Error::Unknown {
            what: "block",
            id: number.to_string(),
        })?;
        let (header, state) = (&header, &reader.state(number)?);
        f(CallContext {
            spec,
            header,
            state,
        })
    }

    /// Logs that match a filter, within the configured limits.
    ///
    /// # Errors
    /// When the filter's block is unknown or the query is too large.
    pub fn logs(&self, filter: &Filter) -> Result<Vec<Log>> {
        let reader = self.reader()?;
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let number = self.resolve(&reader, hash.into())?;
                (number, number)
            }
            FilterBlockOption::Range {
                from_block,
                to_block,
            } => {
                let head = reader.labels()?.head;
                let end = |tag: Option<BlockNumberOrTag>| match tag {
                    None => Ok(head),
                    // A range may end above the head; there is nothing there yet.
                    Some(BlockNumberOrTag::Number(n)) => Ok(n.min(head)),
                    Some(tag) => self.resolve(&reader, tag.into()),
                };
                if let Some(BlockNumberOrTag::Number(from)) = from_block
                    && from > head
                {
                    return Ok(Vec::new());
                }
                (end(from_block)?, end(to_block)?)
            }
        };
        logs::find(&reader, filter, from, to, self.0.log_limits)
    }

    /// Proves an account and slots against a block's state root (EIP-1186). Older blocks than the
    /// configured window are not answered: the proof is made by undoing changes in memory.
    ///
    /// # Errors
    /// When there is no such block or it is too old.
    pub fn proof(&self, address: Address, slots: &[B256], id: BlockId) -> Result<AccountProof> {
        let reader = self.reader()?;
        let number = self.resolve(&reader, id)?;
        let mut trie = self.trie(&reader, number)?;
        trie.proof(&**reader.snapshot(), address, slots)
    }

    /// The tries after a block within the window.
    fn trie(&self, reader: &ChainReader, number: u64) -> Result<StateTrie> {
        let head = reader.head()?;
        self.provable(reader, head.number, number)?;
        let snapshot = &**reader.snapshot();
        let mut trie = StateTrie::new(head.state_root);
        if number < head.number {
            let changes = reverse_to(snapshot, head.number, number)?;
            trie.apply(snapshot, &changes)?;
        }
        Ok(trie)
    }

    /// Refuses blocks whose tries take too long to come by, or cannot be had any more.
    fn provable(&self, reader: &ChainReader, head: u64, number: u64) -> Result<()> {
        let window = head.saturating_sub(self.0.proof_window);
        let oldest = reader.oldest_state()?.max(window);
        if number < oldest {
            return Err(Error::StateUnavailable { number, oldest });
        }
        Ok(())
    }

    /// Simulates blocks on top of a block, see [`simulate`]. Older blocks than the configured
    /// window are not answered, as for [`ChainHandle::proof`]; `pending` is the latest block.
    ///
    /// # Errors
    /// When there is no such block, it is too old, or the request cannot be followed.
    pub fn simulate(
        &self,
        id: BlockId,
        request: SimulatePayload,
    ) -> Result<Vec<Simulated>, Refusal> {
        let reader = self.reader()?;
        let number = self.resolve(&reader, id)?;
        let base = reader.header(number)?.ok_or_else(|| Error::Unknown {
            what: "block",
            id: number.to_string(),
        })?;
        let trie = self.trie(&reader, number)?;
        let state = reader.state(number)?;
        simulate::simulate(self.spec(), &reader, &base, (trie, &state), request)
    }

    /// A block with everything that executing it again takes, see [`witness`]. Older blocks than
    /// the configured window are not answered, as for [`ChainHandle::proof`].
    ///
    /// # Errors
    /// When there is no such block, it is too old, or the genesis block.
    pub fn witness(&self, id: BlockId) -> Result<BlockWitness> {
        let reader = self.reader()?;
        let number = self.resolve(&reader, id)?;
        // It shows the state before the block.
        let head = reader.labels()?.head;
        self.provable(&reader, head, number.saturating_sub(1))?;
        let witness = witness::record(&self.0.spec, &reader, number)?;
        let block = reader.block(number)?.ok_or_else(|| Error::Unknown {
            what: "block",
            id: number.to_string(),
        })?;
        Ok(BlockWitness {
            chain_id: self.chain_id(),
            karst_time: self.spec().karst_time(),
            ethereum: self.spec().is_ethereum(),
            block: block.encode_rlp(),
            witness,
        })
    }

    /// Follows the chain: every block that becomes or stops being the head, from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<ChainEvent> {
        self.0.events.subscribe()
    }

    /// Follows the sub-blocks of blocks that are still open, from now on.
    #[must_use]
    pub fn subscribe_sub_blocks(&self) -> broadcast::Receiver<Arc<SubBlock>> {
        self.0.feed.subscribe()
    }

    /// The block that is still open, as far as it has been told; its hash is zero.
    #[must_use]
    pub fn pending(&self) -> Option<Arc<ExecutedBlock>> {
        self.0.feed.pending()
    }

    /// Waits until a transaction is in a block.
    ///
    /// # Errors
    /// When the store cannot be read or the chain was dropped.
    pub async fn wait_included(&self, hash: B256) -> Result<Included> {
        let mut events = self.subscribe();
        loop {
            if let Some(found) = self.included(hash)? {
                return Ok(found);
            }
            match events.recv().await {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err(Error::Closed),
            }
        }
    }
}

/// A transaction by hash on one snapshot.
pub(crate) fn included(reader: &ChainReader, hash: B256) -> Result<Option<Included>> {
    let Some((number, index)) = reader.position(hash)? else {
        return Ok(None);
    };
    let bad = || Error::corrupt("transaction position", hash);
    let block = reader.executed(number)?.ok_or_else(bad)?;
    if index >= block.receipts.len() {
        return Err(bad());
    }
    Ok(Some(Included {
        block: Arc::new(block),
        index,
    }))
}
