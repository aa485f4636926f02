//! The pipeline: layer 1 in, payload attributes out.
//!
//! ```text
//! L1 block -> inbox -> frames -> channel -> batches -> one batch -> attributes
//! ```
//!
//! Each part pulls from the one before it. When nothing is left in an L1 block, the pipeline moves
//! on to the next. An error leaves everything in place, so that the same step can be tried again.
//!
//! Spec: derivation, "L2 chain derivation pipeline", with the rules of Holocene.

use crate::{
    attributes,
    batch::{
        Batch, SingularBatch,
        stage::{Stage, Upstream},
    },
    challenge::Challenges,
    channel::{Assembler, ChannelReader},
    config::RollupConfig,
    error::{Error, Next, Result, SourceError},
    frame::{self, Frame},
    inbox::{DataAvailability, Inbox},
    l1::{L1, L1Header, Reader},
    system::SystemConfig,
    types::{Attributes, BlockId, Checkpoint, L1Block, L2Head},
};
use alloc::{boxed::Box, collections::VecDeque, sync::Arc};
use alloy_primitives::Bytes;
use tracing::{info, warn};

/// A block of the layer 2 as derivation reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct L2Block {
    /// RLP of the header.
    pub header: Bytes,
    /// EIP-2718 bytes of the first transaction; only genesis has none.
    pub first_transaction: Option<Bytes>,
}

/// The layer 2 as derivation reads it: blocks at or below the safe head, for the start, for resets
/// and for span batches that begin below the safe head.
pub trait L2 {
    /// The block at a height.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; that the block is not there, too.
    fn block(&self, number: u64) -> Result<L2Block, SourceError>;
}

impl<T: L2 + ?Sized> L2 for Arc<T> {
    fn block(&self, number: u64) -> Result<L2Block, SourceError> {
        (**self).block(number)
    }
}

/// What a step led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The next block. Execute it, then call [`Pipeline::step`] with its head.
    Attributes(Box<Attributes>),
    /// The pipeline moved on to this L1 block.
    Advanced(L1Block),
    /// Everything on the layer 1 is derived: come back when it has a new block.
    Idle,
    /// The layer 1 was reorganized, or data that was derived from was not shown there when it was
    /// demanded. The pipeline stands at `safe` again, and so must the caller:
    /// go on with `step(safe)`. Blocks above it are not necessarily wrong; those that are derived
    /// again need not be executed again.
    Reset {
        /// The last block that is derived from what is still on the layer 1, and was shown.
        safe: Box<L2Head>,
        /// What was found.
        reason: Error,
    },
}

/// L1 blocks with the safe head after them, kept to find the way back after a reorg.
const HISTORY: usize = 4096;

/// Derives the layer 2 from the layer 1.
///
/// Synchronous and without a clock: each [`Pipeline::step`] asks its sources for what it needs.
#[derive(Debug)]
pub struct Pipeline<S, D, L> {
    config: RollupConfig,
    source: Source<S, D, L>,
    stage: Option<Stage>,
    /// A batch whose attributes could not be built yet.
    batch: Option<(SingularBatch, bool)>,
    /// The attributes that were given out last.
    pending: Option<Attributes>,
    /// The safe head that was given last.
    cursor: Option<L2Head>,
    /// The L1 block up to which everything was derived before the start.
    done: Option<BlockId>,
    /// The L1 block below which no frame is needed, if the next start knows it.
    read_from: Option<u64>,
    /// Where it stood last between two L1 blocks, and what came before that is settled.
    checkpoint: Option<Checkpoint>,
    /// Where it stood since, oldest first.
    unsettled: VecDeque<Checkpoint>,
    /// L1 block from which on it is known what was derived from where.
    recorded_from: u64,
    /// L1 blocks with the safe head after them.
    history: VecDeque<(BlockId, L2Head)>,
}

impl<S: L1, D: DataAvailability, L: L2> Pipeline<S, D, L> {
    /// A pipeline that starts at whatever head the first [`Pipeline::step`] is called with.
    pub fn new(config: RollupConfig, l1: S, da: D, l2: L) -> Self {
        Self {
            source: Source {
                l1: Reader::new(l1, config.clone()),
                da,
                l2,
                config: config.clone(),
                origin: None,
                system: config.genesis_system_config(),
                challenges: config.challenging().map(Challenges::new),
                inbox: None,
                read_from: 0,
                frames: VecDeque::new(),
                assembler: Assembler::default(),
                channel: None,
            },
            config,
            stage: None,
            batch: None,
            pending: None,
            cursor: None,
            done: None,
            read_from: None,
            checkpoint: None,
            unsettled: VecDeque::new(),
            recorded_from: 0,
            history: VecDeque::new(),
        }
    }

    /// Goes on where an earlier pipeline stood: the head of the first step must be the checkpoint's.
    /// When the layer 1 has replaced its block, that step is a [`Step::Reset`].
    ///
    /// Without it a pipeline that starts again reads the layer 1 from a channel timeout below the
    /// head's origin; it takes batches that lay too early in the layer 1 the first time and were
    /// dropped then, as op-node does; and after a reorg it goes back by a whole sequencing window.
    pub const fn resume(&mut self, checkpoint: &Checkpoint) {
        self.done = Some(checkpoint.l1);
        self.read_from = Some(checkpoint.read_from);
    }

    /// Where the pipeline stood last between two L1 blocks, for [`Pipeline::resume`]. `None` before
    /// the first one, and after a start without a checkpoint until it is sure what was derived from
    /// where: for a sequencing window, unless that was at genesis. Where data can be demanded, it is
    /// the last such place before which nothing can be demanded or shown any more.
    pub const fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The L1 block being read, `None` before the first step.
    pub fn origin(&self) -> Option<L1Block> {
        self.source.origin.as_ref().map(|header| header.block)
    }

    /// The configuration.
    pub const fn config(&self) -> &RollupConfig {
        &self.config
    }

    /// The layer 1.
    pub const fn l1(&self) -> &S {
        &self.source.l1.source
    }

    /// Forgets everything; the next [`Pipeline::step`] starts at its head. For a caller that moved
    /// its safe head by itself.
    pub fn reset(&mut self) {
        self.stage = None;
        self.source.origin = None;
        self.batch = None;
        self.pending = None;
        self.cursor = None;
        self.done = None;
        self.read_from = None;
        self.checkpoint = None;
        self.unsettled.clear();
        self.source
            .challenges
            .iter_mut()
            .for_each(Challenges::clear);
        self.history.clear();
    }

    /// Leaves the channel of the attributes given out last, which the engine found invalid. The
    /// block to go on with is made of [`Attributes::deposits_only`].
    ///
    /// Spec: Holocene derivation, "Engine queue".
    pub fn flush_channel(&mut self) {
        if let Some(stage) = &mut self.stage {
            stage.flush(&mut self.source);
        }
    }

    /// Goes on by one block of the layer 2 or the layer 1.
    ///
    /// `safe` is the head that the caller derived so far: after [`Step::Attributes`] the block
    /// made of them (or still its parent, and the same attributes come again), otherwise the head
    /// of the step before. The first call starts the pipeline there.
    ///
    /// # Errors
    ///
    /// Sorted by [`Error::next`] into [`Next::Retry`] (nothing is lost, step again later) and
    /// [`Next::Stop`]. Reorgs are no errors here but [`Step::Reset`].
    pub fn step(&mut self, safe: &L2Head) -> Result<Step> {
        match self.try_step(safe) {
            Err(reason) if reason.next() == Next::Reset => {
                if self.may_lag(&reason)? {
                    let source = SourceError::Unavailable("behind what was read of it".into());
                    let what = "newest blocks";
                    return Err(Error::L1 { what, source });
                }
                let (done, target) = self.way_back(safe)?;
                warn!(%reason, safe = target.number, "pipeline reset");
                self.stage = None;
                self.source.origin = None;
                self.batch = None;
                self.pending = None;
                self.cursor = None;
                self.done = done;
                self.read_from = None;
                self.checkpoint = None;
                self.unsettled.clear();
                self.source
                    .challenges
                    .iter_mut()
                    .for_each(Challenges::clear);
                Ok(Step::Reset {
                    safe: Box::new(target),
                    reason,
                })
            }
            other => other,
        }
    }

    fn try_step(&mut self, safe: &L2Head) -> Result<Step> {
        self.check_cursor(safe)?;
        if let Some(challenges) = &self.source.challenges {
            challenges.check()?;
        }
        if let Some(pending) = &self.pending {
            return Ok(Step::Attributes(Box::new(pending.clone())));
        }
        let origin = match (&self.stage, &self.source.origin) {
            (Some(_), Some(origin)) => origin.block,
            _ => self.start(safe)?,
        };
        let Some(stage) = &mut self.stage else {
            return Ok(Step::Idle);
        };
        if self.batch.is_none() {
            self.batch = stage.next(safe, origin, &mut self.source)?;
        }
        let Some((batch, last)) = &self.batch else {
            return self.advance(origin, safe);
        };
        let mut attributes =
            attributes::build(&self.config, &mut self.source.l1, safe, batch.epoch)?;
        attributes
            .transactions
            .extend(batch.transactions.iter().cloned());
        attributes.is_last_in_span = *last;
        attributes.derived_from = origin.id();
        self.batch = None;
        self.pending = Some(attributes.clone());
        Ok(Step::Attributes(Box::new(attributes)))
    }

    /// Whether the layer 1 may only be behind what it said before. Where commitments are hashes, going
    /// back takes long, and what contradicts what was read will show.
    fn may_lag(&mut self, reason: &Error) -> Result<bool> {
        if self.config.challenging().is_none() {
            return Ok(false);
        }
        Ok(match (reason, &self.source.origin) {
            (Error::Reorged { canonical, .. }, _) => canonical.is_none(),
            (Error::L1 { .. }, Some(origin)) => {
                let id = origin.block.id();
                self.source.is_canonical(id)?
            }
            _ => false,
        })
    }

    /// Holds the caller to the head that the pipeline led to.
    fn check_cursor(&mut self, safe: &L2Head) -> Result<()> {
        let Some(cursor) = self.cursor else {
            self.cursor = Some(*safe);
            return Ok(());
        };
        if cursor.hash == safe.hash {
            return Ok(());
        }
        if self.pending.is_some()
            && safe.parent_hash == cursor.hash
            && safe.number == cursor.number + 1
        {
            self.pending = None;
            self.cursor = Some(*safe);
            return Ok(());
        }
        Err(Error::UnexpectedHead {
            expected: Box::new(cursor),
            got: Box::new(*safe),
        })
    }

    /// Puts the pipeline at an L1 block from which on every channel that may hold the next batch
    /// can be read.
    ///
    /// Spec: derivation, "Resetting the pipeline".
    fn start(&mut self, safe: &L2Head) -> Result<L1Block> {
        self.source.l1.check_canonical(safe.l1_origin)?;
        if safe.number == self.config.l2_genesis().number {
            self.done = Some(self.config.l1_genesis());
        }
        if let Some(done) = self.done {
            self.source.l1.check_canonical(done)?;
        }
        let done = self.done.map(|done| done.number);
        let window = self.config.seq_window_size();
        self.recorded_from = done.unwrap_or(safe.l1_origin.number.saturating_add(window));
        let timeout = self.config.channel_timeout();
        let mut head = *safe;
        let starts_above = |origin: u64| match self.read_from {
            Some(first) => origin > first,
            None => origin.saturating_add(timeout) > safe.l1_origin.number,
        };
        while head.number > self.config.l2_genesis().number && starts_above(head.l1_origin.number) {
            head = self.source.epoch_before(&head)?;
        }
        let origin = self.source.l1.by_hash(head.l1_origin.hash)?;
        let block = origin.block;
        info!(l1 = block.number, l2 = safe.number, "derivation starts");
        if let Some(challenges) = &mut self.source.challenges {
            challenges.start(&mut self.source.l1, &origin)?;
        }
        self.source.reset(origin, head.system_config);
        self.source.read_from = self.read_from.take().unwrap_or_default();
        self.stage = Some(Stage::new(self.config.clone(), block, done));
        Ok(block)
    }

    fn advance(&mut self, origin: L1Block, safe: &L2Head) -> Result<Step> {
        let source = &mut self.source;
        if origin.number >= self.recorded_from {
            let checkpoint = Checkpoint {
                l1: origin.id(),
                safe: safe.id(),
                read_from: source.assembler.opened_at().unwrap_or(origin.number + 1),
            };
            if self.unsettled.back() != Some(&checkpoint) {
                self.unsettled.push_back(checkpoint);
            }
            let rules = source.config.challenging();
            let settled = |l1: u64| rules.map_or(l1, |rules| rules.settled(l1));
            while let Some(oldest) = self.unsettled.front()
                && settled(oldest.l1.number) <= origin.number
            {
                self.checkpoint = self.unsettled.pop_front();
            }
        }
        let Some(next) = source.l1.by_number(origin.number + 1)? else {
            source.l1.check_canonical(origin.id())?;
            return Ok(Step::Idle);
        };
        if next.block.parent_hash != origin.hash {
            return Err(Error::Reorged {
                origin: origin.id(),
                canonical: Some(next.block.parent_hash),
            });
        }
        let events = source.l1.events(&next)?;
        if let Some(challenges) = &mut source.challenges {
            challenges.advance(&mut source.l1, &next)?;
        }
        for update in &events.updates {
            info!(l1 = next.block.number, ?update, "system config");
            source.system.apply(update);
        }
        let block = next.block;
        source.origin = Some(next);
        source.inbox = None;
        if origin.number >= self.recorded_from {
            self.history.push_back((origin.id(), *safe));
        }
        let ahead = usize::try_from(self.ahead()).unwrap_or(usize::MAX);
        if self.history.len() > HISTORY.saturating_add(ahead) {
            self.history.pop_front();
        }
        Ok(Step::Advanced(block))
    }

    /// How many L1 blocks after its own what is made of a block may follow from.
    fn ahead(&self) -> u64 {
        let rules = self.config.challenging();
        rules.map_or(0, |rules| rules.settled(0))
    }

    /// The last head whose blocks all follow from L1 blocks that are still canonical, and the last L1
    /// block that they come from if it is known.
    fn way_back(&mut self, safe: &L2Head) -> Result<(Option<BlockId>, L2Head)> {
        let ahead = self.ahead();
        let mut canonical = None;
        while let Some((l1, head)) = self.history.back().copied() {
            if canonical.is_none() && self.source.is_canonical(l1)? {
                canonical = Some(l1.number);
            }
            if canonical.is_some_and(|last| l1.number.saturating_add(ahead) <= last) {
                return Ok((Some(l1), head));
            }
            self.history.pop_back();
        }
        // Without a memory of what was derived from where: a block's batch is at most one
        // sequencing window above its origin.
        let genesis = self.config.l2_genesis().number;
        let mut head = *safe;
        while head.number > genesis && !self.source.is_canonical(head.l1_origin)? {
            head = self.source.epoch_before(&head)?;
        }
        let last = head.l1_origin.number.saturating_sub(ahead);
        let window = self.config.seq_window_size();
        while head.number > genesis && head.l1_origin.number.saturating_add(window) > last {
            head = self.source.epoch_before(&head)?;
        }
        Ok((None, head))
    }
}

/// Everything before the batch stage, and the sources.
#[derive(Debug)]
struct Source<S, D, L> {
    l1: Reader<S>,
    da: D,
    l2: L,
    config: RollupConfig,
    origin: Option<Arc<L1Header>>,
    /// As of `origin`: its batcher is whose data counts.
    system: SystemConfig,
    /// Where commitments are hashes.
    challenges: Option<Challenges>,
    inbox: Option<Inbox>,
    /// L1 blocks below this one hold no frame that is needed.
    read_from: u64,
    frames: VecDeque<Frame>,
    assembler: Assembler,
    channel: Option<ChannelReader>,
}

impl<S: L1, D: DataAvailability, L: L2> Source<S, D, L> {
    fn reset(&mut self, origin: Arc<L1Header>, system: SystemConfig) {
        self.origin = Some(origin);
        self.system = system;
        self.inbox = None;
        self.frames.clear();
        self.assembler.clear();
        self.channel = None;
    }

    /// The last block of the epoch before that of `head`.
    fn epoch_before(&mut self, head: &L2Head) -> Result<L2Head> {
        let genesis = self.config.l2_genesis().number;
        let number = head
            .number
            .saturating_sub(head.sequence_number + 1)
            .max(genesis);
        self.l2_head(number)
    }

    fn is_canonical(&mut self, id: BlockId) -> Result<bool> {
        Ok(self
            .l1
            .by_number(id.number)?
            .is_some_and(|header| header.block.hash == id.hash))
    }
}

impl<S: L1, D: DataAvailability, L: L2> Upstream for Source<S, D, L> {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        let Some(origin) = self.origin.clone() else {
            return Ok(None);
        };
        let number = origin.block.number;
        if number < self.read_from {
            return Ok(None);
        }
        loop {
            if let Some(channel) = &mut self.channel {
                match channel.next(&self.config) {
                    Some(batch) => return Ok(Some(batch)),
                    None => self.channel = None,
                }
            }
            self.assembler.expire(&self.config, number);
            if let Some(frame) = self.frames.pop_front() {
                let channel = self.assembler.add(&frame, number);
                self.channel = channel.map(|data| ChannelReader::new(&data));
                continue;
            }
            let inbox = match &mut self.inbox {
                Some(inbox) => inbox,
                none => none.insert(Inbox::open(
                    &self.l1,
                    &self.config,
                    &origin,
                    self.system.batcher,
                )?),
            };
            match inbox.next(&self.config, &mut self.l1, &self.da, &mut self.challenges)? {
                None => return Ok(None),
                Some(data) => match frame::parse(&data) {
                    Some(frames) => self.frames = frame::prune(frames),
                    None => warn!(l1 = number, "inbox data holds something else than frames"),
                },
            }
        }
    }

    fn flush(&mut self) {
        self.channel = None;
    }

    fn l2_head(&mut self, number: u64) -> Result<L2Head> {
        let block = self
            .l2
            .block(number)
            .map_err(|source| Error::L2 { number, source })?;
        let head = self.config.head_of(
            &block.header,
            block.first_transaction.as_deref().map(AsRef::as_ref),
        )?;
        if head.number != number {
            return Err(Error::BadL2Block {
                number,
                reason: "block of another number",
            });
        }
        Ok(head)
    }
}
