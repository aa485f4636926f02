//! From batches to the one batch that comes next.
//!
//! Spec: Holocene derivation, "Span batches" and "Batch queue"; derivation, "Batch queue".

use super::{
    Batch, SingularBatch,
    span::{Blocks, SpanBatch},
};
use crate::{
    config::RollupConfig,
    deposit::DEPOSIT_TYPE,
    error::{Error, Result},
    types::{BlockId, L1Block, L2Head},
};
use alloc::{collections::VecDeque, vec::Vec};
use tracing::{info, warn};

/// Where batches come from, and the layer 2 blocks that a span batch may overlap.
pub(crate) trait Upstream {
    /// The next batch out of the current L1 block; `None` when there are no more.
    fn next_batch(&mut self) -> Result<Option<Batch>>;

    /// Leaves the channel that is being read.
    fn flush(&mut self);

    /// A layer 2 block at or below the safe head.
    fn l2_head(&mut self, number: u64) -> Result<L2Head>;
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    /// Holds nothing new: leave it, go on with the channel.
    Past,
    /// Breaks a rule: leave it and its channel.
    Drop(&'static str),
}

/// The last stage: orders, checks, and fills what the sequencing window left empty.
#[derive(Debug)]
pub(crate) struct Stage {
    config: RollupConfig,
    origin: L1Block,
    /// The L1 block up to which every batch was seen before the start.
    done: Option<u64>,
    /// L1 blocks from the epoch of the safe head to the origin.
    epochs: VecDeque<L1Block>,
    /// The rest of an accepted span batch.
    span: Option<Blocks>,
    /// A span batch whose check waits for the layer 2.
    held: Option<SpanBatch>,
}

impl Stage {
    pub(crate) fn new(config: RollupConfig, origin: L1Block, done: Option<u64>) -> Self {
        Self {
            config,
            origin,
            done,
            epochs: VecDeque::from([origin]),
            span: None,
            held: None,
        }
    }

    /// Leaves the span batch and its channel.
    pub(crate) fn flush(&mut self, upstream: &mut impl Upstream) {
        self.span = None;
        self.held = None;
        upstream.flush();
    }

    /// The next batch on `parent`, and whether it is the last of its span; `None` when the current
    /// L1 block `origin` has no more.
    pub(crate) fn next(
        &mut self,
        parent: &L2Head,
        origin: L1Block,
        upstream: &mut impl Upstream,
    ) -> Result<Option<(SingularBatch, bool)>> {
        self.update_epochs(parent, origin);
        if origin.number <= parent.l1_origin.number || self.done >= Some(origin.number) {
            // What lies in the parent's origin or below can only be about the past, and what was
            // seen before the start is.
            while upstream.next_batch()?.is_some() {}
            return Ok(None);
        }
        let Some(epoch) = self.epochs.front().filter(|_| self.epochs.len() > 1) else {
            return Err(Error::Reorged {
                origin: parent.l1_origin,
                canonical: None,
            });
        };
        if parent.l1_origin != epoch.id() && parent.l1_origin.number + 1 != epoch.number {
            return Err(Error::Reorged {
                origin: parent.l1_origin,
                canonical: Some(epoch.hash),
            });
        }
        loop {
            let Some(batch) = self.candidate(parent, upstream)? else {
                return Ok(self.empty(parent).map(|batch| (batch, true)));
            };
            match self.check(&batch, parent) {
                Verdict::Accept => {
                    let last = self.span.as_ref().is_none_or(|blocks| blocks.left() == 0);
                    return Ok(Some((batch, last)));
                }
                Verdict::Past => {}
                Verdict::Drop(reason) => {
                    warn!(
                        timestamp = batch.timestamp,
                        reason, "batch dropped, with its channel"
                    );
                    self.flush(upstream);
                }
            }
        }
    }

    fn update_epochs(&mut self, parent: &L2Head, origin: L1Block) {
        if self.origin != origin {
            self.origin = origin;
            if origin.number < parent.l1_origin.number {
                self.epochs.clear();
            } else {
                self.epochs.push_back(origin);
            }
        }
        if let Some(at) = self
            .epochs
            .iter()
            .position(|b| b.number == parent.l1_origin.number)
        {
            self.epochs.drain(..at);
        }
    }

    /// The hash of an L1 block between the safe head's epoch and the origin.
    fn epoch(&self, number: u64) -> Option<&L1Block> {
        let first = self.epochs.front()?.number;
        self.epochs
            .get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The next batch that is not checked yet.
    fn candidate(
        &mut self,
        parent: &L2Head,
        upstream: &mut impl Upstream,
    ) -> Result<Option<SingularBatch>> {
        loop {
            if let Some(blocks) = &mut self.span {
                let Some(block) = blocks.find(|block| block.timestamp > parent.timestamp) else {
                    self.span = None;
                    continue;
                };
                let Some(epoch) = self.epoch(block.epoch).map(L1Block::id) else {
                    warn!(epoch = block.epoch, "span batch leaves the window, dropped");
                    self.flush(upstream);
                    continue;
                };
                return Ok(Some(SingularBatch {
                    parent_hash: parent.hash,
                    epoch,
                    timestamp: block.timestamp,
                    transactions: block.transactions,
                }));
            }
            let span = match self.held.take() {
                Some(span) => span,
                None => match upstream.next_batch()? {
                    None => return Ok(None),
                    Some(Batch::Singular(batch)) => return Ok(Some(batch)),
                    Some(Batch::Span(span)) => span,
                },
            };
            let verdict = match self.check_span(&span, parent, upstream) {
                Ok(verdict) => verdict,
                Err(error) => {
                    self.held = Some(span);
                    return Err(error);
                }
            };
            match verdict {
                Verdict::Accept => self.span = Some(span.blocks()),
                Verdict::Past => info!("span batch without new blocks"),
                Verdict::Drop(reason) => {
                    warn!(reason, "span batch dropped, with its channel");
                    self.flush(upstream);
                }
            }
        }
    }

    /// Spec: Holocene derivation, "Partial span batch validity": what a span can be refused for
    /// as a whole.
    fn check_span(
        &self,
        span: &SpanBatch,
        safe: &L2Head,
        upstream: &mut impl Upstream,
    ) -> Result<Verdict> {
        let block_time = self.config.block_time();
        let next = safe.timestamp + block_time;
        if span.first_timestamp > next {
            return Ok(Verdict::Drop("leaves a gap"));
        }
        if span.last_timestamp < next {
            return Ok(Verdict::Past);
        }
        let overlap = next - span.first_timestamp;
        if !overlap.is_multiple_of(block_time) {
            return Ok(Verdict::Drop("not on the grid of block times"));
        }
        let parent = match overlap / block_time {
            0 => *safe,
            blocks => match safe.number.checked_sub(blocks) {
                Some(number) if number >= self.config.l2_genesis().number => {
                    upstream.l2_head(number)?
                }
                _ => return Ok(Verdict::Drop("begins before genesis")),
            },
        };
        if span.parent_check != parent.hash[..20] {
            return Ok(Verdict::Drop("on another parent"));
        }
        if span
            .first_epoch
            .saturating_add(self.config.seq_window_size())
            < self.origin.number
        {
            return Ok(Verdict::Drop("too late for its epoch"));
        }
        if span.first_epoch > parent.l1_origin.number + 1 {
            return Ok(Verdict::Drop("skips an epoch"));
        }
        match self.epoch(span.last_epoch) {
            Some(epoch) if span.origin_check == epoch.hash[..20] => {}
            Some(_) => return Ok(Verdict::Drop("on another layer 1")),
            // An origin at or above the block that the batch is in, or below the window.
            None => return Ok(Verdict::Past),
        }
        if span.first_epoch < parent.l1_origin.number {
            return Ok(Verdict::Drop("goes back to an earlier epoch"));
        }
        Ok(Verdict::Accept)
    }

    /// Spec: derivation, "Batch queue", with the verdicts of Holocene.
    fn check(&self, batch: &SingularBatch, safe: &L2Head) -> Verdict {
        let (Some(epoch), Some(after)) = (self.epochs.front(), self.epochs.get(1)) else {
            return Verdict::Past;
        };
        let next = safe.timestamp + self.config.block_time();
        if batch.timestamp > next {
            return Verdict::Drop("leaves a gap");
        }
        if batch.timestamp < next {
            return Verdict::Past;
        }
        if batch.parent_hash != safe.hash {
            return Verdict::Drop("on another parent");
        }
        if batch
            .epoch
            .number
            .saturating_add(self.config.seq_window_size())
            < self.origin.number
        {
            return Verdict::Drop("too late for its epoch");
        }
        let origin = if batch.epoch.number == epoch.number {
            epoch
        } else if batch.epoch.number == after.number {
            after
        } else {
            return Verdict::Drop("neither the epoch nor the next one");
        };
        if batch.epoch.hash != origin.hash {
            return Verdict::Drop("on another layer 1");
        }
        if batch.timestamp < origin.timestamp {
            return Verdict::Drop("earlier than its origin");
        }
        let drift = origin
            .timestamp
            .saturating_add(self.config.max_sequencer_drift());
        if batch.timestamp > drift {
            if !batch.transactions.is_empty() {
                return Verdict::Drop("transactions too far ahead of the origin");
            }
            if origin.number == epoch.number && batch.timestamp >= after.timestamp {
                return Verdict::Drop("too far ahead of an origin that has a successor");
            }
        }
        if self.config.is_first_in_karst(batch.timestamp) && !batch.transactions.is_empty() {
            return Verdict::Drop("transactions in the first block of a fork");
        }
        for transaction in &batch.transactions {
            match transaction.first() {
                None => return Verdict::Drop("empty transaction"),
                Some(&DEPOSIT_TYPE) => return Verdict::Drop("deposit in a batch"),
                Some(_) => {}
            }
        }
        Verdict::Accept
    }

    /// An empty batch, if the window of the epoch has passed.
    ///
    /// Spec: derivation, "Batch queue": there is at least one block per epoch, and L2 time never
    /// falls behind that of its origin.
    fn empty(&mut self, parent: &L2Head) -> Option<SingularBatch> {
        let (epoch, after) = (*self.epochs.front()?, *self.epochs.get(1)?);
        if epoch.number.saturating_add(self.config.seq_window_size()) > self.origin.number {
            return None;
        }
        let timestamp = parent.timestamp + self.config.block_time();
        if timestamp < after.timestamp || epoch.number == parent.l1_origin.number + 1 {
            info!(
                epoch = epoch.number,
                timestamp, "empty block for an epoch without batches"
            );
            let epoch = BlockId {
                number: epoch.number,
                hash: epoch.hash,
            };
            return Some(SingularBatch {
                parent_hash: parent.hash,
                epoch,
                timestamp,
                transactions: Vec::new(),
            });
        }
        self.epochs.pop_front();
        None
    }
}
