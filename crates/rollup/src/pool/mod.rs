//! The mempool: per sender a chain of nonces, bounded in count, bytes and age.
//!
//! Admission does everything that can be checked without executing, on the caller's thread
//! (signature recovery happened in [`Transaction::decode`], so it runs on as many cores as there
//! are callers). Limits and error texts follow geth, which wallets and libraries match on.
//!
//! What comes back from blocks that are no longer canonical was accepted once and may be all that
//! later transactions of its senders wait for, so it has room of its own: a pool that is full of
//! what is new does not lose it.

mod admission;
mod best;
mod error;
#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use best::BestTransactions;
pub use error::PoolError;

use crate::block::Transaction;
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, U256, keccak256};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// Hashes of arrivals kept for a follower that lags; 32 bytes each.
const BACKLOG: usize = 4_096;

/// Limits of the pool.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Transactions in all, apart from those that come back from reverted blocks.
    pub max_transactions: usize,
    /// Encoded bytes in all; as many again for what comes back from reverted blocks.
    pub max_bytes: usize,
    /// Transactions of one sender.
    pub max_per_sender: usize,
    /// Largest encoded transaction, bytes.
    pub max_transaction_bytes: usize,
    /// Rise of both fee caps that a replacement needs, percent.
    pub price_bump_percent: u128,
    /// Lowest priority fee accepted, wei.
    pub min_priority_fee: u128,
    /// Seconds after which a transaction that was not included is dropped.
    pub lifetime_seconds: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_transactions: 20_000,
            max_bytes: 64 << 20,
            max_per_sender: 1_024,
            max_transaction_bytes: 128 << 10,
            price_bump_percent: 10,
            min_priority_fee: 0,
            lifetime_seconds: 3 * 60 * 60,
        }
    }
}

/// A transaction in the pool.
#[derive(Debug, Clone)]
struct Entry {
    tx: Arc<Transaction>,
    /// The most this can cost its sender: value, gas at the fee cap, and the L1 fee, wei.
    cost: U256,
    /// Arrival number: equal tips go first come, first served.
    arrival: u64,
    since: Instant,
    /// Whether it was in a block that is no longer canonical.
    returned: bool,
}

/// Transactions of one sender by nonce.
#[derive(Debug)]
struct Sender {
    /// keccak256 of the address, by which state changes are known.
    hashed: B256,
    /// The next nonce the chain expects.
    next_nonce: u64,
    entries: BTreeMap<u64, Entry>,
    /// What the entries may cost together, wei.
    cost: U256,
}

impl Sender {
    /// The entries that can run in order now.
    fn executable(&self) -> impl Iterator<Item = &Entry> {
        self.run_from(self.next_nonce)
    }

    /// The entries without a gap from `nonce` on.
    fn run_from(&self, nonce: u64) -> impl Iterator<Item = &Entry> {
        let run = (nonce..).zip(self.entries.range(nonce..));
        run.map_while(|(expected, (nonce, entry))| (expected == *nonce).then_some(entry))
    }
}

/// Arrivals whose senders are remembered.
const RECENT: usize = 4_096;

#[derive(Debug, Default)]
struct Inner {
    senders: HashMap<Address, Sender>,
    by_hash: HashMap<B256, (Address, u64)>,
    /// Encoded bytes in all.
    bytes: usize,
    /// Of these what was returned: how many, and their encoded bytes.
    returned: (usize, usize),
    arrivals: u64,
    /// Senders of the last arrivals, the latest last.
    recent: VecDeque<Address>,
    /// Counts the blocks that the pool has followed.
    epoch: u64,
    closed: bool,
}

/// How full the pool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Transactions that can run now.
    pub pending: usize,
    /// Transactions waiting for an earlier nonce.
    pub queued: usize,
    /// Encoded bytes of both.
    pub bytes: usize,
}

/// The mempool.
#[derive(Debug)]
pub struct Pool {
    config: PoolConfig,
    inner: Mutex<Inner>,
    arrived: Condvar,
    admitted: broadcast::Sender<B256>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(config: PoolConfig) -> Self {
        Self {
            config,
            inner: Mutex::default(),
            arrived: Condvar::new(),
            admitted: broadcast::channel(BACKLOG).0,
        }
    }

    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update leaves the maps consistent before it can panic, so a poisoned lock is usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the blocks that the pool has followed. Read it before the state that a transaction
    /// is checked against.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Adds a transaction. `now` is the arrival time. Answers `None` when the pool has followed a
    /// block since `admission.epoch`: the state is stale, and a sender's next nonce taken from it
    /// could strand its transactions. Check again against the new head.
    ///
    /// # Errors
    /// When it breaks a rule of the chain or a limit of the pool; texts are geth's.
    pub fn add(
        &self,
        tx: &Arc<Transaction>,
        admission: &Admission<'_>,
        now: Instant,
    ) -> Result<Option<B256>, PoolError> {
        let hash = tx.hash();
        if self.lock().by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        let account = admission.check(&self.config, tx)?;
        let entry = Entry {
            cost: account.cost,
            tx: Arc::clone(tx),
            arrival: 0,
            since: now,
            returned: false,
        };
        let mut inner = self.lock();
        if inner.epoch != admission.epoch {
            return Ok(None);
        }
        inner.insert(&self.config, entry, account.nonce, account.balance)?;
        drop(inner);
        self.arrived.notify_all();
        // No receiver is fine: nobody follows.
        let _ = self.admitted.send(hash);
        Ok(Some(hash))
    }

    /// The senders whose accounts a block changed.
    pub(crate) fn affected(&self, changed: impl Fn(&B256) -> bool) -> Vec<Address> {
        let inner = self.lock();
        inner
            .senders
            .iter()
            .filter(|(_, s)| changed(&s.hashed))
            .map(|(a, _)| *a)
            .collect()
    }

    /// Puts back a transaction of a block that is no longer canonical. What no longer fits, or
    /// made room for another with its nonce, is dropped: its sender can send it again.
    pub(crate) fn reinsert(&self, tx: &Arc<Transaction>, nonce: u64, balance: U256, now: Instant) {
        let entry = Entry {
            tx: Arc::clone(tx),
            cost: U256::ZERO,
            arrival: 0,
            since: now,
            returned: true,
        };
        if let Err(error) = self.lock().insert(&self.config, entry, nonce, balance) {
            tracing::warn!(hash = %tx.hash(), %error, "transaction of a reverted block dropped");
        }
    }

    /// Follows the hashes of what is admitted, from now on, executable or still waiting for an
    /// earlier nonce.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<B256> {
        self.admitted.subscribe()
    }

    /// A transaction by hash.
    #[must_use]
    pub fn get(&self, hash: B256) -> Option<Arc<Transaction>> {
        let inner = self.lock();
        let (sender, nonce) = inner.by_hash.get(&hash)?;
        Some(Arc::clone(
            &inner.senders.get(sender)?.entries.get(nonce)?.tx,
        ))
    }

    /// The nonce after the sender's executable transactions, if the pool holds any.
    #[must_use]
    pub fn pending_nonce(&self, sender: Address) -> Option<u64> {
        let inner = self.lock();
        let last = inner.senders.get(&sender)?.executable().last()?;
        Some(last.tx.envelope().nonce() + 1)
    }

    /// How full the pool is.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let inner = self.lock();
        let pending = inner.senders.values().map(|s| s.executable().count()).sum();
        PoolStatus {
            pending,
            queued: inner.by_hash.len() - pending,
            bytes: inner.bytes,
        }
    }

    /// The executable transactions by falling tip at `base_fee`, keeping each sender's order.
    #[must_use]
    pub fn best(self: &Arc<Self>, base_fee: u64) -> BestTransactions {
        let inner = self.lock();
        let runs = inner.senders.values().map(|sender| {
            sender
                .executable()
                .map(|e| (e.arrival, Arc::clone(&e.tx)))
                .collect::<Vec<_>>()
        });
        BestTransactions::new(Arc::clone(self), runs, base_fee)
    }

    /// As [`Pool::best`], of the senders of whom something arrived after the mark `seen`, which
    /// moves; each from the nonce that `next` names, and those without one not at all.
    pub(crate) fn best_since(
        self: &Arc<Self>,
        seen: &mut u64,
        base_fee: u64,
        next: impl Fn(&Address, u64) -> Option<u64>,
    ) -> BestTransactions {
        let inner = self.lock();
        let missed = usize::try_from(inner.arrivals - *seen).unwrap_or(usize::MAX);
        *seen = inner.arrivals;
        let senders: HashSet<&Address> = if missed <= inner.recent.len() {
            inner.recent.iter().rev().take(missed).collect()
        } else {
            inner.senders.keys().collect()
        };
        let runs = senders.into_iter().filter_map(|address| {
            let sender = inner.senders.get(address)?;
            let run = sender.run_from(next(address, sender.next_nonce)?);
            Some(run.map(|e| (e.arrival, Arc::clone(&e.tx))).collect())
        });
        BestTransactions::new(Arc::clone(self), runs, base_fee)
    }

    /// Whether a transaction could be included at `base_fee`.
    #[must_use]
    pub fn has_executable(&self, base_fee: u64) -> bool {
        let inner = self.lock();
        inner.senders.values().any(|s| {
            s.executable()
                .next()
                .is_some_and(|e| e.tx.envelope().max_fee_per_gas() >= u128::from(base_fee))
        })
    }

    /// How many transactions have arrived so far: a mark for [`Pool::wait`].
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.lock().arrivals
    }

    /// Blocks until a transaction arrives after the mark `seen`, [`Pool::close`] is called, or
    /// `timeout` passes.
    pub fn wait(&self, seen: u64, timeout: Duration) {
        let result = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, |i| i.arrivals == seen && !i.closed);
        drop(result.unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes everybody who waits, for good.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Drops a transaction that turned out to be invalid.
    pub(crate) fn remove(&self, tx: &Transaction) {
        let mut inner = self.lock();
        if let Some((sender, nonce)) = inner.by_hash.get(&tx.hash()).copied() {
            inner.take(sender, nonce);
        }
    }

    /// Follows the chain: the senders' next nonces after a block. Included and overtaken
    /// transactions go, old ones expire.
    pub(crate) fn advance(&self, nonces: impl IntoIterator<Item = (Address, u64)>, now: Instant) {
        let mut inner = self.lock();
        inner.epoch += 1;
        for (address, next) in nonces {
            let Some(sender) = inner.senders.get_mut(&address) else {
                continue;
            };
            sender.next_nonce = next;
            let done: Vec<_> = sender
                .entries
                .range(..next)
                .map(|(nonce, _)| *nonce)
                .collect();
            for nonce in done {
                inner.take(address, nonce);
            }
        }
        let lifetime = Duration::from_secs(self.config.lifetime_seconds);
        let expired: Vec<_> = inner
            .senders
            .iter()
            .flat_map(|(a, s)| s.entries.iter().map(move |(n, e)| (*a, *n, e.since)))
            .filter(|(_, _, since)| now.saturating_duration_since(*since) >= lifetime)
            .collect();
        for (address, nonce, _) in expired {
            inner.take(address, nonce);
        }
    }
}

impl Inner {
    fn take(&mut self, address: Address, nonce: u64) {
        let Some(sender) = self.senders.get_mut(&address) else {
            return;
        };
        if let Some(entry) = sender.entries.remove(&nonce) {
            sender.cost = sender.cost.saturating_sub(entry.cost);
            let size = entry.tx.encoded.len();
            self.bytes -= size;
            if entry.returned {
                self.returned.0 -= 1;
                self.returned.1 -= size;
            }
            self.by_hash.remove(&entry.tx.hash());
        }
        if sender.entries.is_empty() {
            self.senders.remove(&address);
        }
    }

    fn insert(
        &mut self,
        config: &PoolConfig,
        mut entry: Entry,
        next_nonce: u64,
        balance: U256,
    ) -> Result<(), PoolError> {
        let (hash, address) = (entry.tx.hash(), entry.tx.sender());
        let nonce = entry.tx.envelope().nonce();
        let size = entry.tx.encoded.len();
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        let replaced = self
            .senders
            .get(&address)
            .and_then(|s| s.entries.get(&nonce));
        if let Some(old) = replaced {
            check_replacement(config, old, &entry)?;
        }
        // What the sender's other transactions may cost is spoken for.
        let all = self.senders.get(&address).map_or(U256::ZERO, |s| s.cost);
        let others = all.saturating_sub(replaced.map_or(U256::ZERO, |old| old.cost));
        let needed = others.saturating_add(entry.cost);
        if needed > balance {
            return Err(PoolError::InsufficientFunds {
                address,
                have: balance,
                want: needed,
            });
        }
        if replaced.is_some() {
            self.take(address, nonce);
        } else if !entry.returned {
            let of_sender = self.senders.get(&address).map_or(0, |s| s.entries.len());
            if of_sender >= config.max_per_sender {
                return Err(PoolError::SenderLimit {
                    limit: config.max_per_sender,
                });
            }
        }
        if entry.returned {
            if self.returned.1 + size > config.max_bytes {
                return Err(PoolError::Full);
            }
            self.returned.0 += 1;
            self.returned.1 += size;
        } else {
            while self.by_hash.len() - self.returned.0 >= config.max_transactions
                || self.bytes - self.returned.1 + size > config.max_bytes
            {
                self.evict_for(&entry)?;
            }
        }
        entry.arrival = self.arrivals;
        self.arrivals += 1;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(address);
        self.bytes += size;
        self.by_hash.insert(hash, (address, nonce));
        let sender = self.senders.entry(address).or_insert_with(|| Sender {
            hashed: keccak256(address),
            next_nonce,
            entries: BTreeMap::new(),
            cost: U256::ZERO,
        });
        sender.next_nonce = next_nonce;
        sender.cost = needed;
        sender.entries.insert(nonce, entry);
        Ok(())
    }

    /// Makes room by dropping the cheapest of the senders' last transactions, if it pays less than
    /// the newcomer. Only last ones, so no other sender's chain is cut, and none that was returned,
    /// which would not make room.
    fn evict_for(&mut self, newcomer: &Entry) -> Result<(), PoolError> {
        let price = |e: &Entry| e.tx.envelope().max_fee_per_gas();
        let cheapest = self
            .senders
            .iter()
            .filter(|(address, _)| **address != newcomer.tx.sender())
            .filter_map(|(address, s)| {
                let (nonce, entry) = s.entries.last_key_value()?;
                if entry.returned {
                    return None;
                }
                Some((
                    price(entry),
                    std::cmp::Reverse(entry.arrival),
                    *address,
                    *nonce,
                ))
            })
            .min();
        match cheapest {
            Some((p, _, address, nonce)) if p < price(newcomer) => {
                self.take(address, nonce);
                Ok(())
            }
            _ => Err(PoolError::Full),
        }
    }
}

fn check_replacement(config: &PoolConfig, old: &Entry, new: &Entry) -> Result<(), PoolError> {
    let bumped =
        |fee: u128| fee.saturating_add(fee.saturating_mul(config.price_bump_percent) / 100);
    let (old, new) = (old.tx.envelope(), new.tx.envelope());
    let tip = |tx: &op_alloy_consensus::OpTxEnvelope| {
        tx.max_priority_fee_per_gas()
            .unwrap_or_else(|| tx.max_fee_per_gas())
    };
    let enough = new.max_fee_per_gas() > old.max_fee_per_gas()
        && new.max_fee_per_gas() >= bumped(old.max_fee_per_gas())
        && tip(new) >= bumped(tip(old));
    if enough {
        Ok(())
    } else {
        Err(PoolError::Underpriced)
    }
}
