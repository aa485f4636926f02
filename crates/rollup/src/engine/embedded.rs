//! The engine in this process: executor, tries and tables.
//!
//! One block is one transaction of the store. Between blocks the tries stay in memory; they follow
//! the block executed last, and are dropped and reloaded when that block is not the one committed.

use super::{
    ChainEvent, Engine, ForkChoice, ForkChoiceOutcome, PayloadAttributes, PayloadId, PayloadStatus,
};
use crate::{
    block::{Block, ExecutedBlock, Transaction},
    error::{Error, Result},
    exec::{self, BlockInputs, BodyRoots, Candidates, Execution, NoCandidates},
    genesis::GenesisBlock,
    kv::{Batch, Snapshot, Store},
    pool::Pool,
    reader::{self, ChainReader, Labels, Totals},
    spec::ChainSpec,
    state::{self, StateChanges, StateTrie, TrieChanges, View},
};
use alloy_consensus::{Header, Sealable, Sealed, Transaction as _};
use alloy_primitives::{B256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use op_alloy_consensus::L2_TO_L1_MESSAGE_PASSER_ADDRESS;
use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};
use tokio::sync::broadcast;

/// Blocks beside the canonical chain that are kept for a later fork choice.
const SIDE_BLOCKS: usize = 256;
/// Executed payloads and build jobs kept on one parent.
const JOBS: usize = 16;

/// Transactions from which on the roots of a block's body are worth a thread of their own.
const AT_ONCE: usize = 128;

/// Blocks between looks at the memory that tries use.
const PRUNE_EVERY: u64 = 16;
/// Blocks for which an untouched trie node stays in memory when there are too many, unless these
/// blocks alone touched too many.
const PRUNE_AGE: u32 = 64;
/// Trie nodes in memory above which old ones are dropped; about 300 bytes each.
const NODES_KEPT: usize = 1 << 18;
/// Rows of history that a new block takes away at the most, unless two old blocks have more.
const HISTORY_ROWS: usize = 4_096;

/// A block executed on the head and not committed.
#[derive(Debug, Clone)]
struct Candidate {
    executed: Arc<ExecutedBlock>,
    changes: Arc<StateChanges>,
    tries: Arc<TrieChanges>,
}

/// An executed block without roots.
#[derive(Debug)]
struct Built {
    /// The snapshot that it was executed on.
    reader: ChainReader,
    head: Sealed<Header>,
    inputs: BlockInputs,
    execution: Execution,
}

#[derive(Debug)]
struct Job {
    parent: B256,
    attributes: PayloadAttributes,
    built: Option<Arc<Block>>,
}

#[derive(Debug)]
struct Inner {
    trie: StateTrie,
    /// Hash of the block whose state the tries in memory have; zero when unknown.
    trie_at: B256,
    jobs: HashMap<PayloadId, Job>,
    candidates: HashMap<B256, Candidate>,
    side: VecDeque<Arc<Block>>,
}

/// The embedded engine.
#[derive(Debug)]
pub struct EmbeddedEngine {
    spec: Arc<ChainSpec>,
    store: Arc<dyn Store>,
    pool: Arc<Pool>,
    events: broadcast::Sender<ChainEvent>,
    state_history: Option<NonZeroU64>,
    inner: Mutex<Inner>,
}

impl EmbeddedEngine {
    /// Opens the chain in `store`, writing `genesis` when it is empty. The state of old blocks is
    /// kept as [`ChainConfig::state_history`](crate::ChainConfig::state_history) says.
    ///
    /// # Errors
    /// When the store fails or belongs to another genesis.
    pub fn open(
        spec: Arc<ChainSpec>,
        store: Arc<dyn Store>,
        pool: Arc<Pool>,
        genesis: &GenesisBlock,
        events: broadcast::Sender<ChainEvent>,
        state_history: Option<NonZeroU64>,
    ) -> Result<Self> {
        let snapshot = store.snapshot()?;
        let reader = ChainReader::new(Arc::clone(&snapshot));
        if reader.is_initialised()? {
            let found = reader.header(0)?.map(|h| h.hash()).unwrap_or_default();
            if found != genesis.header.hash() {
                let expected = genesis.header.hash();
                return Err(Error::GenesisMismatch { found, expected });
            }
        } else {
            let block = Block {
                header: genesis.header.clone(),
                transactions: Vec::new(),
            };
            let executed = ExecutedBlock {
                block: Arc::new(block),
                receipts: Vec::new(),
            };
            let mut batch = Batch::default();
            reader::put_format(&mut batch);
            reader::put_block(&mut batch, &executed, Totals::default());
            state::append(&mut batch, &*snapshot, 0, &genesis.changes, &genesis.tries)?;
            reader::put_labels(&mut batch, Labels::default());
            store.commit(batch)?;
        }
        let head = ChainReader::new(store.snapshot()?).head()?;
        let inner = Inner {
            trie: StateTrie::new(head.state_root),
            trie_at: head.hash(),
            jobs: HashMap::new(),
            candidates: HashMap::new(),
            side: VecDeque::new(),
        };
        Ok(Self {
            spec,
            store,
            pool,
            events,
            state_history,
            inner: Mutex::new(inner),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| {
            // A panic may have left the tries half-updated: forget them.
            let mut inner = PoisonError::into_inner(poisoned);
            inner.trie_at = B256::ZERO;
            inner
        })
    }

    fn reader(&self) -> Result<ChainReader> {
        Ok(ChainReader::new(self.store.snapshot()?))
    }

    /// State root and message-passer root after `changes` on top of `parent`.
    fn roots(
        inner: &mut Inner,
        snapshot: &dyn Snapshot,
        parent: &Sealed<Header>,
        changes: &StateChanges,
    ) -> Result<(TrieChanges, B256)> {
        if inner.trie_at != parent.hash() {
            inner.trie.reset(parent.state_root);
        }
        // Until the caller names the new block, the tries match no block.
        inner.trie_at = B256::ZERO;
        let tries = inner.trie.apply(snapshot, changes)?;
        let message_passer = keccak256(L2_TO_L1_MESSAGE_PASSER_ADDRESS);
        let account = inner.trie.account(snapshot, message_passer)?;
        Ok((tries, account.map_or(EMPTY_ROOT_HASH, |a| a.storage_root)))
    }

    fn keep(
        inner: &mut Inner,
        header: Sealed<Header>,
        execution: Execution,
        tries: TrieChanges,
    ) -> Arc<Block> {
        let hash = header.hash();
        inner.trie_at = hash;
        let block = Arc::new(Block {
            header,
            transactions: execution.transactions,
        });
        let executed = Arc::new(ExecutedBlock {
            block: Arc::clone(&block),
            receipts: execution.receipts,
        });
        if inner.candidates.len() >= JOBS {
            inner.candidates.clear();
        }
        let candidate = Candidate {
            executed,
            changes: Arc::new(execution.changes),
            tries: Arc::new(tries),
        };
        inner.candidates.insert(hash, candidate);
        block
    }

    /// Executes on the head without holding the engine.
    fn run(
        &self,
        parent: B256,
        attributes: &PayloadAttributes,
        candidates: &mut dyn Candidates,
    ) -> Result<Built> {
        let reader = self.reader()?;
        let head = reader.head()?;
        if head.hash() != parent {
            return Err(Error::Unknown {
                what: "payload parent",
                id: parent.to_string(),
            });
        }
        let inputs = attributes.inputs(&self.spec)?;
        let forced = Transaction::decode_all(&attributes.transactions)?;
        let view = View::latest(Arc::clone(reader.snapshot()));
        let execution = exec::execute(
            &self.spec, &head, parent, &inputs, view, &forced, candidates,
        )?;
        Ok(Built {
            reader,
            head,
            inputs,
            execution,
        })
    }

    /// Computes the roots of what was built, and keeps the block.
    fn seal(&self, inner: &mut Inner, built: Built) -> Result<Arc<Block>> {
        let Built {
            reader,
            head,
            inputs,
            execution,
        } = built;
        let snapshot = &**reader.snapshot();
        let (tries, header) = self.header(inner, snapshot, &head, &inputs, &execution)?;
        Ok(Self::keep(inner, header, execution, tries))
    }

    /// The header of what was executed on `parent`, with the tries that its state root is of.
    fn header(
        &self,
        inner: &mut Inner,
        snapshot: &dyn Snapshot,
        parent: &Sealed<Header>,
        inputs: &BlockInputs,
        execution: &Execution,
    ) -> Result<(TrieChanges, Sealed<Header>)> {
        let mut roots = || Self::roots(inner, snapshot, parent, &execution.changes);
        let (roots, body) = if execution.transactions.len() < AT_ONCE {
            (roots(), BodyRoots::of(execution))
        } else {
            thread::scope(|scope| {
                let body = scope.spawn(|| BodyRoots::of(execution));
                let roots = roots();
                let body = body.join();
                (
                    roots,
                    body.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                )
            })
        };
        let (tries, passer) = roots?;
        let root = tries.root;
        let header = exec::seal(&self.spec, parent, inputs, execution, &body, root, passer)?;
        Ok((tries, header.seal_slow()))
    }

    /// Executes a block whose parent is the head.
    fn validate(&self, inner: &mut Inner, block: &Arc<Block>) -> Result<PayloadStatus> {
        if inner.candidates.contains_key(&block.hash()) {
            return Ok(PayloadStatus::Valid);
        }
        let reader = self.reader()?;
        let parent = reader.head()?;
        let inputs = BlockInputs::of(&block.header);
        let view = View::latest(Arc::clone(reader.snapshot()));
        let result = exec::execute(
            &self.spec,
            &parent,
            parent.hash(),
            &inputs,
            view,
            &block.transactions,
            &mut NoCandidates,
        );
        let execution = match result {
            Ok(execution) => execution,
            Err(Error::InvalidBlock(reason)) => return Ok(PayloadStatus::Invalid { reason }),
            Err(error) => return Err(error),
        };
        let snapshot = &**reader.snapshot();
        let (tries, header) = self.header(inner, snapshot, &parent, &inputs, &execution)?;
        if header.hash() != block.hash() {
            let reason = difference(&block.header, &header);
            return Ok(PayloadStatus::Invalid { reason });
        }
        Self::keep(inner, header, execution, tries);
        Ok(PayloadStatus::Valid)
    }

    /// Makes an executed block the head: one store transaction, labels included.
    fn commit(&self, inner: &mut Inner, candidate: &Candidate, wanted: ForkChoice) -> Result<()> {
        let reader = self.reader()?;
        let block = &candidate.executed.block;
        let labels = labels(&reader, wanted, Some(block))?;
        let before = reader.totals(block.number().saturating_sub(1))?;
        let mut batch = Batch::default();
        reader::put_block(&mut batch, &candidate.executed, before);
        let snapshot = &**reader.snapshot();
        state::append(
            &mut batch,
            snapshot,
            block.number(),
            &candidate.changes,
            &candidate.tries,
        )?;
        reader::put_labels(&mut batch, labels);
        self.prune_history(&mut batch, &reader, labels)?;
        if let Err(error) = self.store.commit(batch) {
            // A failing disk may have it all the same; then the block is there.
            let head = self.reader().and_then(|reader| reader.head());
            if head.map_or(true, |head| head.hash() != block.hash()) {
                return Err(error);
            }
        }
        inner.candidates.clear();
        inner.jobs.clear();
        if inner.trie_at == block.hash() && block.number().is_multiple_of(PRUNE_EVERY) {
            inner.trie.prune(PRUNE_AGE, NODES_KEPT);
        }
        self.follow(&candidate.changes)?;
        // No receiver is fine: nobody subscribed.
        let _ = self
            .events
            .send(ChainEvent::Committed(Arc::clone(&candidate.executed)));
        Ok(())
    }

    /// Takes away the history of blocks that are final and older than is wanted.
    fn prune_history(&self, batch: &mut Batch, before: &ChainReader, after: Labels) -> Result<()> {
        let Some(kept) = self.state_history else {
            return Ok(());
        };
        let oldest = before.oldest_state()?;
        let wanted = after.head.saturating_sub(kept.get()).min(after.finalized);
        if wanted <= oldest {
            return Ok(());
        }
        let snapshot = &**before.snapshot();
        let oldest = state::prune_history(batch, snapshot, (oldest, wanted), HISTORY_ROWS)?;
        reader::put_oldest_state(batch, oldest);
        Ok(())
    }

    /// Takes the head back: one store transaction.
    fn revert(&self, inner: &mut Inner) -> Result<Arc<Block>> {
        let reader = self.reader()?;
        let snapshot = &**reader.snapshot();
        let labels = reader.labels()?;
        let missing = |number| Error::corrupt("blocks", format_args!("block {number} is missing"));
        let executed = reader
            .executed(labels.head)?
            .ok_or_else(|| missing(labels.head))?;
        let block = Arc::clone(&executed.block);
        let Some(number) = block.number().checked_sub(1) else {
            return Err(Error::InvalidBlock(
                "the genesis block cannot be reverted".into(),
            ));
        };
        let parent = reader.header(number)?.ok_or_else(|| missing(number))?;
        let mut batch = Batch::default();
        let changes = state::unwind(&mut batch, snapshot, block.number())?;
        let (tries, _) = Self::roots(inner, snapshot, &block.header, &changes)?;
        if tries.root != parent.state_root {
            return Err(Error::corrupt(
                "history",
                format_args!("unwinding {} gives root {}", block.number(), tries.root),
            ));
        }
        state::rewind_tables(&mut batch, snapshot, block.number(), &changes, &tries)?;
        reader::delete_block(&mut batch, &block);
        reader::put_labels(
            &mut batch,
            Labels {
                head: number,
                safe: labels.safe.min(number),
                finalized: labels.finalized.min(number),
            },
        );
        self.store.commit(batch)?;
        inner.trie_at = parent.hash();
        inner.candidates.clear();
        inner.jobs.clear();
        self.follow(&changes)?;
        self.give_back(&block)?;
        Self::set_aside(inner, Arc::clone(&block));
        let _ = self.events.send(ChainEvent::Reverted(Arc::new(executed)));
        Ok(block)
    }

    /// Tells the pool the next nonces of its senders whose accounts changed.
    fn follow(&self, changes: &StateChanges) -> Result<()> {
        let state = View::latest(self.store.snapshot()?);
        let nonces = self
            .pool
            .affected(|hashed| changes.accounts.contains_key(hashed))
            .into_iter()
            .map(|sender| Ok((sender, state.nonce(sender)?)))
            .collect::<Result<Vec<_>>>()?;
        self.pool.advance(nonces, Instant::now());
        Ok(())
    }

    /// Gives the transactions of a reverted block back to the pool.
    fn give_back(&self, block: &Block) -> Result<()> {
        let state = View::latest(self.store.snapshot()?);
        for tx in block.transactions.iter().filter(|tx| !tx.is_deposit()) {
            let account = state.account(tx.sender())?.unwrap_or_default();
            if tx.envelope().nonce() >= account.nonce {
                self.pool
                    .reinsert(tx, account.nonce, account.balance, Instant::now());
            }
        }
        Ok(())
    }

    fn set_aside(inner: &mut Inner, block: Arc<Block>) {
        if inner.side.iter().any(|b| b.hash() == block.hash()) {
            return;
        }
        if inner.side.len() >= SIDE_BLOCKS {
            inner.side.pop_front();
        }
        inner.side.push_back(block);
    }

    /// Moves the head to a block of the side blocks: unwinds to the fork point, executes up.
    fn switch(&self, inner: &mut Inner, target: B256) -> Result<PayloadStatus> {
        let reader = self.reader()?;
        let mut branch = Vec::new();
        let mut cursor = target;
        let fork = loop {
            if let Some(number) = reader.number_of(cursor)? {
                break number;
            }
            let Some(block) = inner.side.iter().find(|b| b.hash() == cursor).cloned() else {
                return Ok(PayloadStatus::Syncing);
            };
            cursor = block.header.parent_hash;
            branch.push(block);
        };
        // Before anything is taken back: what is missing would only show half-way.
        let oldest = reader.oldest_state()?;
        if fork < oldest {
            return Err(Error::StateUnavailable {
                number: fork,
                oldest,
            });
        }
        let mut old = Vec::new();
        while self.reader()?.labels()?.head > fork {
            old.push(self.revert(inner)?);
        }
        let status = self.extend(inner, branch.into_iter().rev())?;
        if let PayloadStatus::Invalid { .. } = status {
            inner.side.retain(|b| b.hash() != target);
            while self.reader()?.labels()?.head > fork {
                self.revert(inner)?;
            }
            self.extend(inner, old.into_iter().rev())?;
        }
        Ok(status)
    }

    fn extend(
        &self,
        inner: &mut Inner,
        blocks: impl Iterator<Item = Arc<Block>>,
    ) -> Result<PayloadStatus> {
        for block in blocks {
            let status = self.validate(inner, &block)?;
            if status != PayloadStatus::Valid {
                return Ok(status);
            }
            let candidate = inner.candidates.get(&block.hash()).cloned();
            let candidate = candidate.expect("validate keeps what it finds valid");
            // Labels follow once the whole branch is in.
            let unchanged = ForkChoice::head_only(block.hash());
            self.commit(inner, &candidate, unchanged)?;
        }
        Ok(PayloadStatus::Valid)
    }

    fn make_head(&self, inner: &mut Inner, wanted: ForkChoice) -> Result<PayloadStatus> {
        let reader = self.reader()?;
        if reader.head()?.hash() == wanted.head {
            return Ok(PayloadStatus::Valid);
        }
        if let Some(candidate) = inner.candidates.get(&wanted.head).cloned() {
            self.commit(inner, &candidate, wanted)?;
            return Ok(PayloadStatus::Valid);
        }
        self.switch(inner, wanted.head)
    }

    fn label(&self, wanted: ForkChoice) -> Result<()> {
        let reader = self.reader()?;
        let labels = labels(&reader, wanted, None)?;
        if labels == reader.labels()? {
            return Ok(());
        }
        let mut batch = Batch::default();
        reader::put_labels(&mut batch, labels);
        self.store.commit(batch)
    }
}

/// The labels that a fork choice asks for; `new` is the head about to be committed, if any.
fn labels(reader: &ChainReader, wanted: ForkChoice, new: Option<&Block>) -> Result<Labels> {
    let now = reader.labels()?;
    let number = |hash: B256, current: u64| {
        if hash.is_zero() {
            return Ok(current);
        }
        if let Some(block) = new.filter(|block| block.hash() == hash) {
            return Ok(block.number());
        }
        reader.number_of(hash)?.ok_or_else(|| Error::Unknown {
            what: "canonical block",
            id: hash.to_string(),
        })
    };
    let labels = Labels {
        head: new.map_or(now.head, Block::number),
        safe: number(wanted.safe, now.safe)?,
        finalized: number(wanted.finalized, now.finalized)?,
    };
    if labels.finalized > labels.safe {
        return Err(Error::InvalidAttributes(format!(
            "finalized block {} is above the safe block {}",
            labels.finalized, labels.safe
        )));
    }
    Ok(labels)
}

impl Engine for EmbeddedEngine {
    fn fork_choice_updated(
        &self,
        state: ForkChoice,
        attributes: Option<PayloadAttributes>,
    ) -> Result<ForkChoiceOutcome> {
        let mut inner = self.lock();
        let status = self.make_head(&mut inner, state)?;
        if status != PayloadStatus::Valid {
            return Ok(ForkChoiceOutcome {
                status,
                payload: None,
            });
        }
        self.label(state)?;
        let payload = match attributes {
            None => None,
            Some(attributes) => {
                let parent = self.reader()?.head()?;
                if attributes.timestamp <= parent.timestamp {
                    return Err(Error::InvalidAttributes(format!(
                        "timestamp {} is not after the head's {}",
                        attributes.timestamp, parent.timestamp
                    )));
                }
                let id = PayloadId::of(state.head, &attributes);
                if inner.jobs.len() >= JOBS {
                    inner.jobs.clear();
                }
                inner.jobs.insert(
                    id,
                    Job {
                        parent: state.head,
                        attributes,
                        built: None,
                    },
                );
                Some(id)
            }
        };
        Ok(ForkChoiceOutcome { status, payload })
    }

    fn get_payload(&self, id: PayloadId) -> Result<Arc<Block>> {
        let mut inner = self.lock();
        let unknown = || Error::Unknown {
            what: "payload",
            id: id.to_string(),
        };
        let job = inner.jobs.remove(&id).ok_or_else(unknown)?;
        let block = match &job.built {
            Some(block) => Arc::clone(block),
            None => {
                let attributes = &job.attributes;
                let mut best;
                let candidates: &mut dyn Candidates = if attributes.no_tx_pool {
                    &mut NoCandidates
                } else {
                    let head = self.reader()?.head()?;
                    best = self.pool.best(self.spec.next_base_fee(&head)?);
                    &mut best
                };
                let built = self.run(job.parent, attributes, candidates)?;
                self.seal(&mut inner, built)?
            }
        };
        inner.jobs.insert(
            id,
            Job {
                built: Some(Arc::clone(&block)),
                ..job
            },
        );
        Ok(block)
    }

    fn build(
        &self,
        parent: B256,
        attributes: &PayloadAttributes,
        candidates: &mut dyn Candidates,
    ) -> Result<Arc<Block>> {
        let built = self.run(parent, attributes, candidates)?;
        let mut inner = self.lock();
        // The head may have moved meanwhile, and the tries with it.
        if self.reader()?.head()?.hash() != parent {
            return Err(Error::Unknown {
                what: "payload parent",
                id: parent.to_string(),
            });
        }
        self.seal(&mut inner, built)
    }

    fn new_payload(&self, block: Arc<Block>) -> Result<PayloadStatus> {
        let mut inner = self.lock();
        if block.header.hash() != block.header.inner().hash_slow() {
            return Ok(PayloadStatus::Invalid {
                reason: "block hash does not match".into(),
            });
        }
        let reader = self.reader()?;
        if reader.number_of(block.hash())?.is_some() {
            return Ok(PayloadStatus::Valid);
        }
        if reader.head()?.hash() == block.header.parent_hash {
            return self.validate(&mut inner, &block);
        }
        let parent = block.header.parent_hash;
        let known =
            reader.number_of(parent)?.is_some() || inner.side.iter().any(|b| b.hash() == parent);
        Self::set_aside(&mut inner, block);
        Ok(if known {
            PayloadStatus::Accepted
        } else {
            PayloadStatus::Syncing
        })
    }
}

/// Names the first header field in which a block differs from what execution gives.
fn difference(claimed: &Header, computed: &Header) -> String {
    macro_rules! fields {
        ($($field:ident),+) => {
            $(if claimed.$field != computed.$field {
                return format!(
                    concat!("invalid ", stringify!($field), ": block says {:?}, execution gives {:?}"),
                    claimed.$field, computed.$field
                );
            })+
        };
    }
    fields!(
        parent_hash,
        number,
        base_fee_per_gas,
        transactions_root,
        gas_used,
        blob_gas_used,
        excess_blob_gas,
        receipts_root,
        logs_bloom,
        withdrawals_root,
        requests_hash,
        state_root,
        ommers_hash,
        difficulty,
        nonce
    );
    "invalid header".into()
}
