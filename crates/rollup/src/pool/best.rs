//! The order in which a block takes transactions.

use super::Pool;
use crate::{
    block::Transaction,
    exec::{Candidates, Skip},
};
use alloy_consensus::Transaction as _;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
};

/// Executable transactions: highest effective tip first, then first come, first served; a sender's
/// own in nonce order.
#[derive(Debug)]
pub struct BestTransactions {
    pool: Arc<Pool>,
    base_fee: u64,
    /// What remains of each sender's run; the heap points at their fronts.
    runs: Vec<VecDeque<(u64, Arc<Transaction>)>>,
    heap: BinaryHeap<(u128, Reverse<u64>, usize)>,
    last: Option<usize>,
}

impl BestTransactions {
    pub(super) fn new(
        pool: Arc<Pool>,
        runs: impl Iterator<Item = Vec<(u64, Arc<Transaction>)>>,
        base_fee: u64,
    ) -> Self {
        let runs = runs.map(VecDeque::from).collect::<Vec<_>>();
        let mut best = Self {
            pool,
            base_fee,
            runs,
            heap: BinaryHeap::new(),
            last: None,
        };
        for sender in 0..best.runs.len() {
            best.offer(sender);
        }
        best
    }

    /// Puts the front of a sender's run into the heap, if it pays the base fee.
    fn offer(&mut self, sender: usize) {
        let Some((arrival, tx)) = self.runs[sender].front() else {
            return;
        };
        if let Some(tip) = tx.envelope().effective_tip_per_gas(self.base_fee) {
            self.heap.push((tip, Reverse(*arrival), sender));
        }
    }
}

impl Candidates for BestTransactions {
    fn next(&mut self) -> Option<Arc<Transaction>> {
        if let Some(sender) = self.last.take() {
            self.offer(sender);
        }
        let (_, _, sender) = self.heap.pop()?;
        let (_, tx) = self.runs[sender].pop_front()?;
        self.last = Some(sender);
        Some(tx)
    }

    fn skipped(&mut self, transaction: &Transaction, reason: Skip) {
        // Later nonces of this sender cannot run either.
        self.last = None;
        if let Skip::Invalid(reason) = reason {
            tracing::debug!(hash = %transaction.hash(), reason, "transaction dropped");
            self.pool.remove(transaction);
        }
    }
}
