//! Following the layer 1: what it says becomes the safe head, and what it will not take back the
//! finalized one.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openledger_derivation::{
    Attributes, BlockId, Checkpoint, L1Block, L2, L2Block, L2Head, Pipeline, RollupConfig,
    SourceError, Step,
};
use openledger_primitives::B256;
use openledger_rollup::block::Block;
use openledger_rollup::derived::Derived;
use openledger_rollup::engine::PayloadAttributes;
use openledger_rollup::rpc::{RollupStatus, reference};
use openledger_rollup::{AttributesSource, ChainHandle};
use serde_json::{Value, json};

use super::Stop;
use super::availability::Availability;
use super::progress::Progress;
use super::rpc::Rpc;
use crate::{Error, Result};

/// Pause between two looks at the layer 1 when everything on it is derived.
const POLL: Duration = Duration::from_millis(500);
/// Pause after an error that time may heal.
const RETRY: Duration = Duration::from_secs(1);
/// L1 blocks between two looks at its labels while there is more to derive.
const LOOK_EVERY: u64 = 64;
/// Places that wait to be final; a layer 1 that finalizes nothing has no more.
const MAX_PLACES: usize = 1 << 14;

/// The heads of both layers as this node knows them.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Newest block of the layer 1.
    pub l1_head: L1Block,
    /// Newest block that the layer 1 will not take back.
    pub l1_finalized: L1Block,
    /// The block of the layer 1 up to which everything is derived.
    pub derived_from: L1Block,
    /// Newest block derived from the layer 1.
    pub safe: L2Head,
    /// Times that the layer 1 took back what was derived from, or it was not shown.
    pub resets: u64,
    /// What keeps derivation from going on, if something does.
    pub trouble: Option<String>,
}

/// The heads, shared with whoever shows them.
#[derive(Clone, Debug)]
pub struct Status {
    config: RollupConfig,
    chain: ChainHandle,
    heads: Arc<Mutex<Heads>>,
}

impl Status {
    /// The heads now.
    #[must_use]
    pub fn heads(&self) -> Heads {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of L2 with its origin.
    pub(crate) fn head_of(&self, block: &Block) -> Result<L2Head> {
        head_of(&self.config, block)
    }
}

pub(crate) fn head_of(config: &RollupConfig, block: &Block) -> Result<L2Head> {
    let header = alloy_rlp::encode(block.header.inner());
    let first = block.transactions.first().map(|tx| tx.encoded.as_ref());
    Ok(config.head_of(&header, first)?)
}

fn numbered(chain: &ChainHandle, number: u64) -> Result<Block> {
    let block = chain.reader()?.block(number)?;
    block.ok_or_else(|| Error::not_found("block", number))
}

fn l1_reference(block: &L1Block) -> Value {
    json!({
        "hash": block.hash, "number": block.number,
        "parentHash": block.parent_hash, "timestamp": block.timestamp,
    })
}

impl RollupStatus for Status {
    fn rollup_config(&self) -> Value {
        serde_json::from_str(&self.config.to_json()).unwrap_or_default()
    }

    fn sync_status(&self) -> openledger_rollup::Result<Value> {
        let heads = self.heads();
        let labels = self.chain.labels()?;
        let at = |number| {
            let block = self.chain.reader()?.block(number)?;
            block.map_or(Ok(Value::Null), |block| self.block_ref(&block))
        };
        let safe = at(labels.safe)?;
        Ok(json!({
            "current_l1": l1_reference(&heads.derived_from),
            "head_l1": l1_reference(&heads.l1_head),
            "safe_l1": l1_reference(&heads.l1_finalized),
            "finalized_l1": l1_reference(&heads.l1_finalized),
            "unsafe_l2": at(labels.head)?,
            "safe_l2": safe,
            "local_safe_l2": safe,
            "finalized_l2": at(labels.finalized)?,
        }))
    }

    fn block_ref(&self, block: &Block) -> openledger_rollup::Result<Value> {
        let head = self
            .head_of(block)
            .map_err(|e| openledger_rollup::Error::InvalidBlock(e.to_string()))?;
        let mut value = reference(block);
        value["l1origin"] = json!(head.l1_origin);
        value["sequenceNumber"] = json!(head.sequence_number);
        Ok(value)
    }
}

/// The chain as derivation reads it.
#[derive(Debug)]
struct Blocks(ChainHandle);

impl L2 for Blocks {
    fn block(&self, number: u64) -> std::result::Result<L2Block, SourceError> {
        let block = numbered(&self.0, number);
        let block = block.map_err(|e| SourceError::Unavailable(e.to_string()))?;
        Ok(L2Block {
            header: alloy_rlp::encode(block.header.inner()).into(),
            first_transaction: block.transactions.first().map(|tx| tx.encoded.clone()),
        })
    }
}

/// Derives the chain from the layer 1.
#[derive(Debug)]
pub(crate) struct Deriver {
    chain: ChainHandle,
    config: RollupConfig,
    l1: Arc<Rpc>,
    pipeline: Pipeline<Arc<Rpc>, Availability, Blocks>,
    status: Status,
    safe: L2Head,
    /// Safe blocks with the L1 block that each was derived from, oldest first.
    waiting: VecDeque<(BlockId, B256)>,
    progress: Progress,
    /// Whether derivation has its place; before, it goes on where it stood at the last stop.
    placed: bool,
    /// Where to go back to before anything else.
    back: Option<L2Head>,
    /// Whether what is safe may not be: then the place is looked for below.
    doubt: bool,
    /// Places to go on from, once what they follow from is final.
    places: VecDeque<Checkpoint>,
}

impl Deriver {
    /// Starts at the chain's safe head, or where the progress kept in `dir` says. Nothing is read
    /// from the layer 1 yet.
    pub(crate) fn new(
        dir: &Path,
        chain: ChainHandle,
        config: RollupConfig,
        l1: Arc<Rpc>,
        da: Availability,
    ) -> Result<Self> {
        let safe = head_of(&config, &numbered(&chain, chain.labels()?.safe)?)?;
        let heads = Heads {
            l1_head: L1Block::default(),
            l1_finalized: L1Block::default(),
            derived_from: L1Block::default(),
            safe,
            resets: 0,
            trouble: None,
        };
        let status = Status {
            config: config.clone(),
            chain: chain.clone(),
            heads: Arc::new(Mutex::new(heads)),
        };
        let blocks = Blocks(chain.clone());
        let pipeline = Pipeline::new(config.clone(), Arc::clone(&l1), da, blocks);
        Ok(Self {
            chain,
            config,
            l1,
            pipeline,
            status,
            safe,
            waiting: VecDeque::new(),
            progress: Progress::open(dir),
            placed: false,
            back: None,
            doubt: false,
            places: VecDeque::new(),
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.status.clone()
    }

    /// Goes on until `stop`.
    pub(crate) fn run(mut self, stop: &Stop) {
        while !stop.is_set() {
            let pause = match self.step() {
                Ok(pause) => {
                    self.status.lock().trouble = None;
                    pause
                }
                Err(error) => {
                    tracing::warn!(%error, "derivation");
                    self.status.lock().trouble = Some(error.to_string());
                    Some(RETRY)
                }
            };
            if let Some(pause) = pause {
                stop.wait(pause);
            }
        }
        self.progress.save();
    }

    /// Goes back to the newest checkpoint that both layers still have, if there is one. The blocks
    /// above it are derived again, not executed again; those of the sequencer whose origin was
    /// replaced meanwhile are taken back.
    fn find_place(&mut self) -> Result<()> {
        let labels = self.chain.labels()?;
        let (chain, l1) = (&self.chain, Arc::clone(&self.l1));
        let found = self.progress.newest(|checkpoint| {
            let safe = checkpoint.safe;
            if safe.number > labels.safe || safe.number < labels.finalized {
                return Ok(false);
            }
            let block = chain.reader()?.block(safe.number)?;
            Ok(block.is_some_and(|block| block.hash() == safe.hash)
                && hash_at(&l1, checkpoint.l1.number)? == Some(checkpoint.l1.hash))
        })?;
        // Without a place, what may still be left out must be read again.
        let last = match self.doubt || self.config.challenging().is_some() {
            true => labels.finalized,
            false => labels.safe,
        };
        let number = found.map_or(last, |checkpoint| checkpoint.safe.number);
        let safe = head_of(&self.config, &numbered(&self.chain, number)?)?;
        self.stand_at(safe, |origin| match hash_at(&l1, origin.number)? {
            Some(hash) => Ok(hash == origin.hash),
            // An endpoint that lags is no reason to take blocks back.
            None => Err(Error::not_found("layer 1 block", origin.number)),
        })?;
        if let Some(checkpoint) = found {
            self.waiting.push_back((checkpoint.l1, safe.hash));
            self.pipeline.resume(&checkpoint);
            tracing::info!(
                l1 = checkpoint.l1.number,
                safe = number,
                "derivation goes on where it stood"
            );
        }
        self.placed = true;
        self.doubt = false;
        Ok(())
    }

    /// One step; how long to wait before the next.
    fn step(&mut self) -> Result<Option<Duration>> {
        if let Some(safe) = self.back {
            // Without a memory of what came from where, the pipeline goes back further than it must.
            if safe.number < self.chain.labels()?.finalized {
                self.start_over();
            } else {
                self.go_back(safe)?;
            }
            self.back = None;
        }
        if !self.placed {
            self.find_place()?;
        }
        let reading = self.pipeline.origin();
        match self.pipeline.step(&self.safe)? {
            Step::Attributes(attributes) => {
                self.apply(&attributes)?;
                Ok(None)
            }
            Step::Advanced(block) => {
                self.keep_place();
                let mut heads = self.status.lock();
                // What the pipeline has moved on to is not read yet.
                heads.derived_from = reading.unwrap_or(heads.derived_from);
                if block.number > heads.l1_head.number {
                    heads.l1_head = block;
                }
                drop(heads);
                // A long way to the end of the layer 1: what is final by now is so before.
                if block.number.is_multiple_of(LOOK_EVERY) {
                    self.look_at_l1()?;
                }
                Ok(None)
            }
            Step::Idle => {
                self.keep_place();
                if let Some(origin) = self.pipeline.origin() {
                    self.status.lock().derived_from = origin;
                }
                self.look_at_head()?;
                self.look_at_l1()?;
                Ok(Some(POLL))
            }
            Step::Reset { safe, reason } => {
                tracing::warn!(%reason, safe = safe.number, "derivation goes back");
                if self.config.challenging().is_none() {
                    self.back = Some(*safe);
                    return Ok(None);
                }
                self.start_over();
                Ok(Some(RETRY))
            }
        }
    }

    fn apply(&mut self, attributes: &Attributes) -> Result<()> {
        let parent = attributes.parent.hash;
        let block = match self.chain.derive(parent, &payload(attributes))? {
            Derived::Agreed(block) => block,
            Derived::Built { block, replaced } => {
                if replaced > 0 {
                    tracing::warn!(
                        number = block.number(),
                        replaced,
                        "blocks of the sequencer are not what the layer 1 says"
                    );
                }
                block
            }
            Derived::Invalid { reason } => {
                tracing::warn!(
                    reason,
                    after = attributes.parent.number,
                    "a batch makes no valid block; deposits alone"
                );
                self.pipeline.flush_channel();
                let alone = payload(&attributes.deposits_only());
                match self.chain.derive(parent, &alone)? {
                    Derived::Agreed(block) | Derived::Built { block, .. } => block,
                    Derived::Invalid { reason } => {
                        return Err(Error::Conflict(format!(
                            "no block can be made after {}, not even of deposits alone: {reason}",
                            attributes.parent.number
                        )));
                    }
                }
            }
        };
        self.safe = head_of(&self.config, &block)?;
        self.status.lock().safe = self.safe;
        self.waiting
            .push_back((attributes.derived_from, block.hash()));
        Ok(())
    }

    fn keep_place(&mut self) {
        let Some(checkpoint) = self.pipeline.checkpoint() else {
            return;
        };
        let Some(rules) = self.config.challenging() else {
            self.progress.note(checkpoint);
            return;
        };
        // What a place follows from lies above it; nobody asks for that again, so it must be final.
        if self.places.back() != Some(checkpoint) && self.places.len() < MAX_PLACES {
            self.places.push_back(*checkpoint);
        }
        let finalized = self.status.lock().l1_finalized.number;
        while let Some(place) = self.places.front()
            && rules.settled(place.l1.number) <= finalized
        {
            self.progress.note(place);
            self.places.pop_front();
        }
    }

    /// Goes on from the newest place that is final. Where data can be demanded, what was derived from
    /// an L1 block follows from many after it, and a reorg or data that was not shown may change any
    /// of that.
    fn start_over(&mut self) {
        self.pipeline.reset();
        self.waiting.clear();
        self.places.clear();
        self.placed = false;
        self.doubt = true;
        self.went_back();
    }

    /// Tells that nothing is derived yet from where it stands.
    fn went_back(&self) {
        let mut heads = self.status.lock();
        heads.resets += 1;
        heads.derived_from = L1Block::default();
    }

    /// Takes back blocks of the sequencer whose origin was replaced. It may have made them while the
    /// layer 1 was being reorganised, and no batch with them would count.
    fn look_at_head(&mut self) -> Result<()> {
        let number = self.chain.head()?.number;
        if number <= self.safe.number {
            return Ok(());
        }
        let head = head_of(&self.config, &numbered(&self.chain, number)?)?;
        let l1 = Arc::clone(&self.l1);
        // An endpoint that lags is no reason to take blocks back.
        let holds = |origin: BlockId| {
            let hash = hash_at(&l1, origin.number)?;
            Ok(hash.is_none_or(|hash| hash == origin.hash))
        };
        if holds(head.l1_origin)? {
            return Ok(());
        }
        tracing::warn!(number, "blocks are taken back, their origin was replaced");
        self.stand_at(self.safe, holds)
    }

    /// Reads the labels of the layer 1, and finalizes what was derived from its finalized blocks and
    /// can no longer be left out.
    fn look_at_l1(&mut self) -> Result<()> {
        let block = |header: alloy_rpc_types_eth::Header| L1Block {
            number: header.number,
            hash: header.hash,
            parent_hash: header.parent_hash,
            timestamp: header.timestamp,
        };
        let head = self.l1.header("latest")?.map(block);
        let finalized = self.l1.header("finalized")?.map(block);
        let mut heads = self.status.lock();
        heads.l1_head = head.unwrap_or(heads.l1_head);
        heads.l1_finalized = finalized.unwrap_or(heads.l1_finalized);
        // An endpoint may know more than was read.
        let limit = heads.l1_finalized.number.min(heads.derived_from.number);
        drop(heads);
        // First, so that there is a place to go on from that is not below what is final.
        self.keep_place();
        self.progress.save();
        let mut last = None;
        // What may still be demanded may still be left out.
        let rules = self.config.challenging();
        let settled = |l1: u64| rules.map_or(l1, |rules| rules.settled(l1)) <= limit;
        while let Some((_, hash)) = self.waiting.front().filter(|(l1, _)| settled(l1.number)) {
            last = Some(*hash);
            self.waiting.pop_front();
        }
        if let Some(hash) = last {
            self.chain.finalize(hash)?;
        }
        Ok(())
    }

    fn go_back(&mut self, safe: L2Head) -> Result<()> {
        let l1 = Arc::clone(&self.l1);
        self.stand_at(safe, |origin| {
            Ok(hash_at(&l1, origin.number)? == Some(origin.hash))
        })?;
        self.waiting.clear();
        self.went_back();
        Ok(())
    }

    /// Back to `safe`, and the head to the newest block above it whose origin holds.
    fn stand_at(&mut self, safe: L2Head, holds: impl Fn(BlockId) -> Result<bool>) -> Result<()> {
        let head = self.chain.head()?.number;
        let mut head = head_of(&self.config, &numbered(&self.chain, head)?)?;
        while head.number > safe.number && !holds(head.l1_origin)? {
            head = head_of(&self.config, &numbered(&self.chain, head.number - 1)?)?;
        }
        self.chain.go_back(head.hash, safe.hash)?;
        self.safe = safe;
        self.status.lock().safe = safe;
        Ok(())
    }
}

/// The hash of the layer 1's block at a height, if it reaches that.
fn hash_at(l1: &Rpc, number: u64) -> Result<Option<B256>> {
    Ok(l1.header(number)?.map(|header| header.hash))
}

fn payload(attributes: &Attributes) -> PayloadAttributes {
    PayloadAttributes {
        timestamp: attributes.timestamp,
        prev_randao: attributes.prev_randao,
        suggested_fee_recipient: attributes.fee_recipient,
        parent_beacon_block_root: Some(attributes.parent_beacon_block_root),
        transactions: attributes.transactions.clone(),
        no_tx_pool: attributes.no_tx_pool,
        gas_limit: attributes.gas_limit,
        eip_1559_params: Some(attributes.eip_1559_params),
        min_base_fee: attributes.min_base_fee,
    }
}

/// What the sequencer begins its blocks with: the same that a verifier derives.
#[derive(Debug)]
pub(crate) struct Sequencing {
    config: RollupConfig,
    builder: Mutex<openledger_derivation::AttributesBuilder<Arc<Rpc>>>,
    /// L1 blocks on top of an origin before it is used: fewer reorgs for a later origin.
    confirmations: u64,
}

impl Sequencing {
    pub(crate) fn new(config: RollupConfig, l1: Arc<Rpc>, confirmations: u64) -> Self {
        let builder = openledger_derivation::AttributesBuilder::new(config.clone(), l1);
        Self {
            config,
            builder: Mutex::new(builder),
            confirmations,
        }
    }
}

impl AttributesSource for Sequencing {
    fn next(&self, head: &Block) -> openledger_rollup::Result<PayloadAttributes> {
        use openledger_derivation::OriginChoice;
        let failed = |e: &dyn std::fmt::Display| openledger_rollup::Error::Layer1(e.to_string());
        let parent = head_of(&self.config, head).map_err(|e| failed(&e))?;
        let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
        let choice = builder.next_origin(&parent, self.confirmations);
        let OriginChoice::Build { origin, no_tx_pool } = choice.map_err(|e| failed(&e))? else {
            return Err(failed(&"it is too far behind to build another block on"));
        };
        let attributes = builder.next_attributes(&parent, origin);
        let mut attributes = attributes.map_err(|e| failed(&e))?;
        attributes.no_tx_pool |= no_tx_pool;
        Ok(payload(&attributes))
    }
}
