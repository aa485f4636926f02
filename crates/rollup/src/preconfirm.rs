//! Pre-confirmations: the sequencer says what it has executed before the block is complete.
//!
//! A block of a chain derived from L1 is open for the whole of its slot. Transactions run as they
//! arrive; what has run becomes a [`SubBlock`], in the manner of Flashblocks, as soon as nothing
//! else is waiting to run, and at the latest after
//! [`SequencerConfig::sub_block`](crate::SequencerConfig::sub_block). A pre-confirmation is the word of the
//! sequencer and no more: nothing is on disk yet, and a crash or an L1 reorg takes it back.

use crate::{
    block::{Block, ExecutedBlock, Transaction},
    error::Result,
    exec::{BlockInputs, Candidates, NoCandidates, Skip, execute},
    pool::{BestTransactions, Pool},
    reader::ChainReader,
    sequencer::Clock,
    spec::ChainSpec,
    state::{StateChanges, View},
};
use alloy_consensus::{Header, Sealed, Transaction as _};
use alloy_primitives::{Address, B256};
use op_alloy_consensus::OpReceiptEnvelope;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::broadcast;

/// Sub-blocks kept for a subscriber that lags.
const BACKLOG: usize = 256;

/// Shortest time between sub-blocks: transactions that come one by one share one.
const CLOSEST: Duration = Duration::from_millis(10);

/// What ran since the previous sub-block of the same block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubBlock {
    /// The open block.
    pub open: OpenBlock,
    /// Counts the sub-blocks of the block, from 0.
    pub index: u32,
    /// Index in the block of the first transaction.
    pub first: usize,
    /// Transactions in order. The first sub-block starts with the deposits.
    pub transactions: Vec<Arc<Transaction>>,
    /// Their receipts.
    pub receipts: Vec<OpReceiptEnvelope>,
}

/// What is known of a block that is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBlock {
    /// Number.
    pub number: u64,
    /// Hash of the block before it.
    pub parent_hash: B256,
    /// Wei per gas.
    pub base_fee: u64,
    /// What it is given from outside; the timestamp is when it ends.
    pub inputs: BlockInputs,
}

impl OpenBlock {
    /// The block without transactions. It has no hash yet, so it carries zero.
    fn empty(&self) -> ExecutedBlock {
        let inputs = &self.inputs;
        let header = Header {
            number: self.number,
            parent_hash: self.parent_hash,
            timestamp: inputs.timestamp,
            beneficiary: inputs.beneficiary,
            mix_hash: inputs.prev_randao,
            base_fee_per_gas: Some(self.base_fee),
            gas_limit: inputs.gas_limit,
            extra_data: inputs.extra_data.clone(),
            parent_beacon_block_root: inputs.parent_beacon_block_root,
            ..Default::default()
        };
        ExecutedBlock {
            block: Arc::new(Block {
                header: Sealed::new_unchecked(header, B256::ZERO),
                transactions: Vec::new(),
            }),
            receipts: Vec::new(),
        }
    }
}

/// Where sub-blocks are published.
#[derive(Debug)]
pub(crate) struct Feed {
    pending: Mutex<Option<(OpenBlock, Arc<ExecutedBlock>)>>,
    sub_blocks: broadcast::Sender<Arc<SubBlock>>,
    /// The state that was asked for last.
    state: Mutex<Option<Executed>>,
}

/// What has run of an open block, executed once more to have its state.
#[derive(Debug)]
struct Executed {
    open: OpenBlock,
    transactions: Vec<B256>,
    changes: Arc<StateChanges>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            pending: Mutex::default(),
            sub_blocks: broadcast::channel(BACKLOG).0,
            state: Mutex::default(),
        }
    }
}

impl Feed {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<SubBlock>> {
        self.sub_blocks.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(OpenBlock, Arc<ExecutedBlock>)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open block so far, if there is one.
    pub(crate) fn pending(&self) -> Option<Arc<ExecutedBlock>> {
        self.lock().as_ref().map(|(_, block)| Arc::clone(block))
    }

    /// Header and state of the open block as far as it was told, if it stands on the head of
    /// `reader`. Each sub-block is executed at most once more for this, and one at a time, however
    /// many ask.
    pub(crate) fn pending_state(
        &self,
        spec: &ChainSpec,
        reader: &ChainReader,
    ) -> Result<Option<(Header, View)>> {
        let Some((open, whole)) = self.lock().clone() else {
            return Ok(None);
        };
        let head = reader.head()?;
        if head.hash() != open.parent_hash {
            return Ok(None);
        }
        let (before, block) = (reader.state(head.number)?, &whole.block);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes: Vec<B256> = block.transactions.iter().map(|tx| tx.hash()).collect();
        let known = state
            .as_ref()
            .filter(|known| known.open == open && known.transactions == hashes);
        let changes = match known {
            Some(known) => Arc::clone(&known.changes),
            None => {
                let (view, none) = (before.clone(), &mut NoCandidates);
                let (txs, inputs) = (&block.transactions, &open.inputs);
                let done = execute(spec, &head, head.hash(), inputs, view, txs, none)?;
                let changes = Arc::new(done.changes);
                *state = Some(Executed {
                    open,
                    transactions: hashes,
                    changes: Arc::clone(&changes),
                });
                changes
            }
        };
        Ok(Some((block.header.inner().clone(), before.with(changes))))
    }

    /// The open block is complete, or given up.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    fn publish(&self, sub: SubBlock) {
        let mut lock = self.lock();
        let (_, whole) = lock.get_or_insert_with(|| (sub.open.clone(), Arc::new(sub.open.empty())));
        // Copies only while somebody looks at the block as it was.
        let whole = Arc::make_mut(whole);
        let block = Arc::make_mut(&mut whole.block);
        block.transactions.extend(sub.transactions.iter().cloned());
        whole.receipts.extend(sub.receipts.iter().cloned());
        drop(lock);
        // No receiver is fine: nobody subscribed.
        let _ = self.sub_blocks.send(Arc::new(sub));
    }
}

/// The pool's transactions as they arrive, until the slot ends.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    slot: Slot<'a>,
    best: BestTransactions,
    /// Arrivals that `best` has seen.
    seen: u64,
    /// The next nonce of each sender that is in the block; `None` for one that has no place in it
    /// any more.
    next: HashMap<Address, Option<u64>>,
    /// What has run and is not told yet.
    untold: SubBlock,
    /// When it is told, at the latest.
    due: Duration,
    /// When it is told, at the earliest.
    idle_due: Duration,
}

/// What a live block needs from around it.
#[derive(Debug, Clone)]
pub(crate) struct Slot<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) feed: &'a Feed,
    pub(crate) clock: &'a Clock,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) open: OpenBlock,
    /// Time since the epoch at which the block is sealed.
    pub(crate) end: Duration,
    /// Time between sub-blocks.
    pub(crate) interval: Duration,
}

impl<'a> Live<'a> {
    pub(crate) fn new(slot: Slot<'a>) -> Self {
        // Before the look at the pool, so that an arrival in between shows.
        let seen = slot.pool.arrivals();
        Self {
            best: slot.pool.best(slot.open.base_fee),
            seen,
            next: HashMap::new(),
            untold: SubBlock {
                open: slot.open.clone(),
                index: 0,
                first: 0,
                transactions: Vec::new(),
                receipts: Vec::new(),
            },
            due: slot.clock.now() + slot.interval,
            idle_due: Duration::ZERO,
            slot,
        }
    }

    /// Publishes what has run, if it is time for it: `due`, or `over` at the end of the slot.
    fn tell(&mut self, now: Duration, due: Duration, over: bool) {
        if (now < due && !over) || self.untold.transactions.is_empty() {
            return;
        }
        self.due = now + self.slot.interval;
        self.idle_due = now + CLOSEST.min(self.slot.interval);
        let next = SubBlock {
            open: self.slot.open.clone(),
            index: self.untold.index + 1,
            first: self.untold.first + self.untold.transactions.len(),
            transactions: Vec::new(),
            receipts: Vec::new(),
        };
        let told = std::mem::replace(&mut self.untold, next);
        self.slot.feed.publish(told);
    }

    /// Takes what has arrived since the last look.
    fn look(&mut self) {
        let next = &self.next;
        let from = |sender: &Address, chain: u64| next.get(sender).map_or(Some(chain), |n| *n);
        let Slot { pool, open, .. } = &self.slot;
        self.best = pool.best_since(&mut self.seen, open.base_fee, from);
    }
}

impl Candidates for Live<'_> {
    fn next(&mut self) -> Option<Arc<Transaction>> {
        loop {
            let now = self.slot.clock.now();
            let over = self.slot.stop.load(Ordering::Acquire) || now >= self.slot.end;
            self.tell(now, self.due, over);
            if over {
                return None;
            }
            if let Some(tx) = self.best.next() {
                return Some(tx);
            }
            if self.slot.pool.arrivals() != self.seen {
                self.look();
                continue;
            }
            self.tell(now, self.idle_due, false);
            let wake = if self.untold.transactions.is_empty() {
                self.slot.end
            } else {
                self.idle_due.min(self.slot.end)
            };
            self.slot.pool.wait(self.seen, wake.saturating_sub(now));
        }
    }

    fn skipped(&mut self, transaction: &Transaction, reason: Skip) {
        self.next.insert(transaction.sender(), None);
        self.best.skipped(transaction, reason);
    }

    fn ran(&mut self, transactions: &[Arc<Transaction>], receipts: &[OpReceiptEnvelope]) {
        let known = self.untold.first + self.untold.transactions.len();
        for tx in &transactions[known..] {
            if !tx.is_deposit() {
                let next = tx.envelope().nonce() + 1;
                self.next.insert(tx.sender(), Some(next));
            }
            self.untold.transactions.push(Arc::clone(tx));
        }
        self.untold.receipts.extend_from_slice(&receipts[known..]);
    }
}
