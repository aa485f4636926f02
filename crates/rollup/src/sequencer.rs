//! The sequencer: decides when a block is made and drives the engine to make it.

use crate::{
    block::Block,
    engine::{Engine, ForkChoice, PayloadAttributes, PayloadStatus},
    error::{Error, Result},
    exec::{Candidates, NoCandidates},
    genesis::SEQUENCER_FEE_VAULT,
    kv::Store,
    pool::Pool,
    preconfirm::{Feed, Live, OpenBlock, Slot},
    reader::ChainReader,
    spec::ChainSpec,
};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B64, B256, keccak256};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a block stays open that should be complete already.
const LATE_SLOT: Duration = Duration::from_millis(200);

/// Gives the time since the epoch. Tests give their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The machine's clock.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place of this crate that reads it; callers may give another clock"
    )]
    pub fn system() -> Self {
        // A clock set before 1970 reads as zero; timestamps rise regardless.
        Self::new(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        })
    }

    /// Time since the epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// When blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequencerConfig {
    /// Seconds between blocks, at least 1.
    pub block_time: u64,
    /// Make a block as soon as a transaction is executable, instead of at the next interval.
    /// Header timestamps count whole seconds and must rise, so this needs `max_lead` to make more
    /// than one block in a second. Not for chains whose blocks are derived from L1, where every
    /// block is exactly `block_time` after its parent.
    pub eager: bool,
    /// Seconds that block timestamps may run ahead of the clock in eager mode. Idle time lets the
    /// clock catch up.
    pub max_lead: u64,
    /// Make blocks without transactions, too.
    pub empty_blocks: bool,
    /// Milliseconds between the sub-blocks of a block that is still open, at most; zero keeps blocks
    /// to themselves until they are complete. On chains derived from L1 only.
    pub sub_block: u64,
    /// Minimum base fee, wei per gas (Jovian).
    pub min_base_fee: u64,
    /// Blocks that `safe` and `finalized` stay behind the head. Zero for a chain without L1, where
    /// this node's word is all there is; `None` where derivation sets both labels.
    pub finality_lag: Option<u64>,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            block_time: 1,
            eager: true,
            max_lead: 0,
            empty_blocks: true,
            sub_block: 200,
            min_base_fee: 0,
            finality_lag: Some(0),
        }
    }
}

/// Where the blocks of a chain derived from L1 begin: the same rules by which a verifier derives
/// them again.
pub trait AttributesSource: fmt::Debug + Send + Sync {
    /// Attributes of the block after `head`: time, gas, fee parameters, and the deposits of its L1
    /// origin.
    ///
    /// # Errors
    /// [`Error::Layer1`] when L1 cannot be read now; the block is tried again.
    fn next(&self, head: &Block) -> Result<PayloadAttributes>;
}

/// Makes blocks.
#[derive(Debug, Clone)]
pub struct BlockMaker {
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Clock,
    pub(crate) config: SequencerConfig,
    pub(crate) source: Option<Arc<dyn AttributesSource>>,
    pub(crate) feed: Arc<Feed>,
    /// One block at a time: the loop and a manual call may meet.
    pub(crate) turn: Arc<Mutex<()>>,
}

impl BlockMaker {
    /// Makes one block now: attributes, build, execute, commit. On a chain derived from L1 the
    /// attributes are what derivation asks for. Otherwise the timestamp is the clock's, or one
    /// second after the parent's if that is later, and no L1-attributes deposit is faked.
    ///
    /// # Errors
    /// When the engine fails or refuses the block.
    pub fn make_block(&self) -> Result<Arc<Block>> {
        let _turn = self.turn();
        let head = self.head()?;
        let attributes = self.attributes(&head)?;
        let current = ForkChoice::head_only(head.hash());
        let outcome = self.engine.fork_choice_updated(current, Some(attributes))?;
        let id = outcome.payload.ok_or_else(|| refused(&outcome.status))?;
        let block = self.engine.get_payload(id)?;
        self.commit(block)
    }

    fn make_due_block(&self, stop: &AtomicBool) -> Result<Arc<Block>> {
        if self.is_live() {
            self.make_live_block(stop)
        } else {
            self.make_block()
        }
    }

    /// Makes the block of the present slot: it is open until the slot ends, and what runs in it is
    /// told in sub-blocks. Ends early when `stop` is set.
    fn make_live_block(&self, stop: &AtomicBool) -> Result<Arc<Block>> {
        let head = self.head()?;
        let attributes = self.attributes(&head)?;
        let slot = Slot {
            pool: &self.pool,
            feed: &self.feed,
            clock: &self.clock,
            stop,
            open: OpenBlock {
                number: head.number + 1,
                parent_hash: head.hash(),
                base_fee: self.spec.next_base_fee(&head)?,
                inputs: attributes.inputs(&self.spec)?,
            },
            end: self.slot_end(attributes.timestamp, &head)?,
            interval: Duration::from_millis(self.config.sub_block),
        };
        let mut live = Live::new(slot);
        let candidates: &mut dyn Candidates = if attributes.no_tx_pool {
            &mut NoCandidates
        } else {
            &mut live
        };
        let built = self.engine.build(head.hash(), &attributes, candidates);
        // Others may have moved the head meanwhile; then the block comes to nothing.
        let _turn = self.turn();
        let committed = built.and_then(|block| self.commit(block));
        self.feed.clear();
        committed
    }

    /// When a block with this timestamp is sealed: at that time. A sequencer that is late takes a
    /// moment for what is waiting, and none for nothing, so that it catches up.
    fn slot_end(&self, timestamp: u64, head: &Header) -> Result<Duration> {
        let end = Duration::from_secs(timestamp);
        let now = self.clock.now();
        if end > now || !self.pool.has_executable(self.spec.next_base_fee(head)?) {
            return Ok(end);
        }
        Ok(now + LATE_SLOT)
    }

    fn head(&self) -> Result<Sealed<Header>> {
        ChainReader::new(self.store.snapshot()?).head()
    }

    fn attributes(&self, head: &Sealed<Header>) -> Result<PayloadAttributes> {
        let Some(source) = &self.source else {
            return Ok(self.own_attributes(head));
        };
        let reader = ChainReader::new(self.store.snapshot()?);
        let block = reader.block(head.number)?;
        let block = block.ok_or_else(|| Error::corrupt("blocks", "the head is missing"))?;
        source.next(&block)
    }

    /// Makes a built block the head.
    fn commit(&self, block: Arc<Block>) -> Result<Arc<Block>> {
        match self.engine.new_payload(Arc::clone(&block))? {
            PayloadStatus::Valid => {}
            status => return Err(refused(&status)),
        }
        let label = match self.config.finality_lag {
            None => B256::ZERO,
            Some(0) => block.hash(),
            Some(lag) => match block.number().checked_sub(lag) {
                None => B256::ZERO,
                Some(number) => {
                    let reader = ChainReader::new(self.store.snapshot()?);
                    reader.header(number)?.map_or(B256::ZERO, |h| h.hash())
                }
            },
        };
        let next = ForkChoice {
            head: block.hash(),
            safe: label,
            finalized: label,
        };
        match self.engine.fork_choice_updated(next, None)?.status {
            PayloadStatus::Valid => Ok(block),
            status => Err(refused(&status)),
        }
    }

    const fn is_live(&self) -> bool {
        self.source.is_some() && self.config.sub_block > 0
    }

    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_attributes(&self, head: &Sealed<Header>) -> PayloadAttributes {
        PayloadAttributes {
            timestamp: self.clock.now().as_secs().max(head.timestamp + 1),
            // Without an L1 there is no beacon randomness; a hash of the parent is unpredictable
            // enough for tests and honest about having no entropy of its own.
            prev_randao: keccak256(head.hash()),
            suggested_fee_recipient: SEQUENCER_FEE_VAULT,
            parent_beacon_block_root: Some(B256::ZERO),
            transactions: Vec::new(),
            no_tx_pool: false,
            gas_limit: head.gas_limit,
            eip_1559_params: Some(B64::ZERO),
            min_base_fee: Some(self.config.min_base_fee),
        }
    }

    /// Whether a block is due, and if not, how long to wait before asking again.
    fn due(&self) -> Result<Option<Duration>> {
        let head = ChainReader::new(self.store.snapshot()?).head()?;
        let now = self.clock.now();
        if self.is_live() {
            // The slot of the next block begins with the head's timestamp.
            let begin = Duration::from_secs(head.timestamp);
            return Ok((now < begin).then(|| begin.saturating_sub(now)));
        }
        let pending = || Ok::<_, Error>(self.pool.has_executable(self.spec.next_base_fee(&head)?));
        let regular = Duration::from_secs(head.timestamp + self.config.block_time.max(1));
        if now >= regular {
            if self.config.empty_blocks || pending()? {
                return Ok(None);
            }
            return Ok(Some(Duration::from_secs(self.config.block_time.max(1))));
        }
        let until_regular = regular.saturating_sub(now);
        if self.config.eager && self.source.is_none() && pending()? {
            let earliest =
                Duration::from_secs((head.timestamp + 1).saturating_sub(self.config.max_lead));
            let wait = earliest.saturating_sub(now);
            return Ok((!wait.is_zero()).then_some(wait.min(until_regular)));
        }
        Ok(Some(until_regular))
    }
}

fn refused(status: &PayloadStatus) -> Error {
    Error::InvalidBlock(format!("the engine answered {status:?} to its own block"))
}

/// The running sequencer.
#[derive(Debug)]
pub struct Sequencer {
    stop: Arc<AtomicBool>,
    pool: Arc<Pool>,
    thread: Option<JoinHandle<()>>,
}

impl Sequencer {
    /// Starts the loop on its own thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(maker: BlockMaker) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let pool = Arc::clone(&maker.pool);
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sequencer".into())
            .spawn(move || run(&maker, &flag))
            .map_err(|e| Error::Database(format!("sequencer thread: {e}")))?;
        Ok(Self {
            stop,
            pool,
            thread: Some(thread),
        })
    }

    /// Lets the block in progress finish and stops.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.pool.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the loop was already logged by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Sequencer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(maker: &BlockMaker, stop: &AtomicBool) {
    // Doubles on repeated failure (a full disk, say) so that the log stays readable.
    let mut backoff = Duration::from_millis(100);
    while !stop.load(Ordering::Acquire) {
        let seen = maker.pool.arrivals();
        let step = maker.due().and_then(|wait| match wait {
            Some(wait) => Ok(Some(wait)),
            None => maker.make_due_block(stop).map(|block| {
                tracing::debug!(
                    number = block.number(),
                    hash = %block.hash(),
                    transactions = block.transactions.len(),
                    gas = block.header.gas_used,
                    "block"
                );
                None
            }),
        });
        match step {
            Ok(None) => backoff = Duration::from_millis(100),
            Ok(Some(wait)) => maker.pool.wait(seen, wait),
            Err(error) => {
                tracing::error!(%error, "no block could be made");
                maker.pool.wait(maker.pool.arrivals(), backoff);
                backoff = (backoff * 2).min(Duration::from_secs(10));
            }
        }
    }
}
