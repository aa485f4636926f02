//! The batcher: blocks of the sequencer, squeezed, to where everybody can get them.
//!
//! It keeps nothing. What is safe is on the layer 1, so after a restart it waits until its own
//! transactions are mined and derived, and goes on behind the safe head: no gap, and nothing twice.
//! When the layer 1 takes a batch back, the safe head stays behind what was sent; then it is sent
//! again. A transaction that is too cheap for the layer 1 is replaced by one of the same nonce that
//! pays more; one that waits there from before a restart, so that nobody knows what it pays, by an
//! empty one. Either way one of the two is mined, and the safe head says which it was.

use std::time::{Duration, Instant};

use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use openledger_chain::layer1::Layer1;
use openledger_chain::{Call, Receipt, Replacement, Sender};
use openledger_da::{Commitment, DaError};
use openledger_derivation::{
    BlockData, ChannelError, ChannelLimits, ChannelOut, ClosedChannel, L2Head, MAX_BLOB_DATA,
    MAX_SHOWN_BYTES, RollupConfig, encode_blob, inbox_commitment, inbox_frames,
};
use openledger_primitives::{Address, B256, Bytes, Wei, keccak256};
use openledger_rollup::block::RawBlock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};

use super::availability::Availability;
use super::blobs::{MAX_BLOBS, sidecar};
use super::demands::Demands;
use super::rpc::Rpc;
use super::{Stop, more};
use crate::{Error, Result};

/// Pause between two looks at the sequencer.
const POLL: Duration = Duration::from_millis(250);
/// Pause after an error that time may heal.
const RETRY: Duration = Duration::from_secs(1);
/// Brotli quality while the sequencer is ahead: a tenth of the time, for 1.4 % more bytes.
const HURRIED: u8 = 9;
/// Bytes of a channel that may have to be shown in one transaction: [`MAX_SHOWN_BYTES`], less what the
/// estimate of a channel's size may be wrong by.
const SHOWN_TARGET: usize = 120_000;
/// L1 blocks after the inclusion of a batch in which it must have become safe.
const PATIENCE: u64 = 8;

/// How the batcher works.
#[derive(Clone, Copy, Debug)]
pub struct BatcherConfig {
    /// Size and effort of a channel.
    pub limits: ChannelLimits,
    /// The longest that a block waits for its channel to be sent.
    pub max_channel_duration: Duration,
    /// The longest that data availability may be out of order before data goes to the layer 1
    /// itself.
    pub fail_over_after: Duration,
    /// Whether data that goes to the layer 1 itself goes in blobs, and in calldata only if those are
    /// refused. Whoever derives the chain needs the layer 1's consensus layer then.
    pub blobs: bool,
    /// When a transaction that the layer 1 does not take is replaced by one that pays more, and how
    /// much that may be.
    pub replacement: Replacement,
}

impl Default for BatcherConfig {
    fn default() -> Self {
        Self {
            limits: ChannelLimits::default(),
            max_channel_duration: Duration::from_secs(10),
            fail_over_after: Duration::from_secs(60),
            blobs: false,
            replacement: Replacement::default(),
        }
    }
}

/// A batch that is on the layer 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// First block in it.
    pub first: u64,
    /// Last block in it.
    pub last: u64,
    /// Transactions in it, without deposits.
    pub transactions: usize,
    /// Its bytes, compressed.
    pub bytes: usize,
    /// Where it is: `da` behind a commitment, `blobs` or `calldata` on the layer 1 itself.
    pub target: &'static str,
    /// The commitment, or nothing.
    pub commitment: Option<Bytes>,
    /// Transactions of the layer 1 that carry it.
    pub l1_transactions: Vec<B256>,
    /// Block of the layer 1 with the last of them.
    pub l1_block: u64,
    /// What they cost, gas of the layer 1.
    pub l1_gas: u64,
    /// The same in the layer 1's coin, with blobs.
    pub l1_fee: Wei,
}

/// What a batcher has done since it started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Batches {
    /// The newest batches, oldest first.
    pub recent: std::collections::VecDeque<Sent>,
    /// Batches sent.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their transactions.
    pub transactions: u64,
    /// What they cost, gas of the layer 1; with what was shown.
    pub l1_gas: u64,
    /// The same in the layer 1's coin, with blobs.
    pub l1_fee: Wei,
    /// Batches that went to the layer 1 because data availability was out of order.
    pub fail_overs: u64,
    /// Times that the layer 1 took batches back, or left them out.
    pub lost: u64,
    /// Batches whose data was demanded, and shown on the layer 1.
    pub shown: u64,
    /// Blocks of the sequencer that are not safe yet.
    pub backlog: u64,
    /// What keeps it from going on, if something does.
    pub trouble: Option<String>,
}

/// Batches kept for people to look at.
const KEPT: usize = 256;

/// The heads that the sequencer's node tells.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Told {
    unsafe_l2: Number,
    safe_l2: Number,
    current_l1: Number,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Number {
    number: u64,
    hash: B256,
}

/// The batcher.
#[derive(Debug)]
pub(crate) struct Batcher {
    pub(crate) rollup: RollupConfig,
    pub(crate) config: BatcherConfig,
    /// The sequencer's node.
    pub(crate) l2: Rpc,
    /// To the layer 1.
    pub(crate) sender: Sender,
    /// The layer 1, to read its blocks.
    pub(crate) l1: Rpc,
    pub(crate) layer1: Layer1,
    pub(crate) account: Address,
    pub(crate) da: Availability,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) done: Arc<Mutex<Batches>>,
}

/// A channel being filled.
struct Open {
    channel: ChannelOut,
    first: u64,
    since: Instant,
}

impl Batcher {
    /// Goes on until `stop`; then sends what is open.
    pub(crate) fn run(self, stop: &Stop) {
        let mut demands = Demands::default();
        while !stop.is_set() {
            if let Err(error) = self.session(stop, &mut demands) {
                tracing::warn!(%error, "batcher");
                self.note(|done| done.trouble = Some(error.to_string()));
                stop.wait(RETRY);
            }
        }
    }

    pub(super) fn note(&self, f: impl FnOnce(&mut Batches)) {
        f(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// From the safe head on, until something goes wrong or `stop`.
    fn session(&self, stop: &Stop, demands: &mut Demands) -> Result<()> {
        let Some(mut cursor) = self.settled(stop, demands)? else {
            return Ok(());
        };
        let mut open: Option<Open> = None;
        let mut last_sent: Option<Sent> = None;
        let mut safe = cursor.number;
        loop {
            let told = self.told()?;
            self.note(|done| {
                done.trouble = None;
                done.backlog = told.unsafe_l2.number.saturating_sub(told.safe_l2.number);
            });
            self.show_demanded(demands);
            if told.safe_l2.number < safe {
                self.note(|done| done.lost += 1);
                return Err(Error::Conflict(format!(
                    "the layer 1 took batches back: the safe head went from {safe} to {}",
                    told.safe_l2.number
                )));
            }
            safe = told.safe_l2.number;
            if told.safe_l2.number > cursor.number && open.is_none() {
                cursor = told.safe_l2;
            }
            if let Some(sent) = &last_sent {
                let late = told.current_l1.number > sent.l1_block + PATIENCE;
                if told.safe_l2.number >= sent.last {
                    last_sent = None;
                } else if late {
                    self.note(|done| done.lost += 1);
                    return Err(Error::Conflict(format!(
                        "blocks up to {} were sent and are not safe: sending again from {}",
                        sent.last, told.safe_l2.number
                    )));
                }
            }
            if open.is_none() && self.block(cursor.number)?.1.hash != cursor.hash {
                return Err(Error::Conflict(format!(
                    "block {} was replaced",
                    cursor.number
                )));
            }
            let mut full = false;
            while cursor.number < told.unsafe_l2.number && !full && !stop.is_set() {
                let (block, head) = self.block(cursor.number + 1)?;
                if head.parent_hash != cursor.hash {
                    return Err(Error::Conflict(format!(
                        "block {} was replaced",
                        cursor.number
                    )));
                }
                let opened = match &mut open {
                    Some(open) => open,
                    none => none.insert(self.open(head.number)?),
                };
                match add(&mut opened.channel, &block, &head) {
                    Ok(()) => cursor = number(&head),
                    Err(ChannelError::Full) => full = true,
                    Err(error) => return Err(Error::Conflict(error.to_string())),
                }
            }
            let due = open
                .as_ref()
                .is_some_and(|open| open.since.elapsed() >= self.config.max_channel_duration);
            if (full || due || stop.is_set())
                && let Some(Open {
                    mut channel, first, ..
                }) = open.take()
            {
                if full {
                    // More is waiting than a channel holds.
                    channel.set_quality(self.config.limits.quality.min(HURRIED));
                }
                let closed = channel.close();
                let closed = closed.map_err(|error| Error::Conflict(error.to_string()))?;
                let sent = self.send(&closed, first, cursor.number, stop)?;
                let Some(sent) = sent else { return Ok(()) };
                tracing::info!(
                    first,
                    last = sent.last,
                    bytes = sent.bytes,
                    target = sent.target,
                    l1 = sent.l1_block,
                    "batch"
                );
                self.record(&sent);
                last_sent = Some(sent);
            }
            if stop.is_set() {
                return Ok(());
            }
            if !full {
                stop.wait(POLL);
            }
        }
    }

    fn record(&self, sent: &Sent) {
        self.note(|done| {
            done.count += 1;
            done.bytes += u64::try_from(sent.bytes).unwrap_or(u64::MAX);
            done.transactions += u64::try_from(sent.transactions).unwrap_or(u64::MAX);
            done.l1_gas += sent.l1_gas;
            done.l1_fee = more(done.l1_fee, sent.l1_fee);
            if done.recent.len() == KEPT {
                done.recent.pop_front();
            }
            done.recent.push_back(sent.clone());
        });
    }

    /// Waits until all transactions of the account are mined and derived; then the safe head is
    /// where to go on. What is not mined in time is got out of the way. `None` when stopped
    /// meanwhile.
    fn settled(&self, stop: &Stop, demands: &mut Demands) -> Result<Option<Number>> {
        let mut stuck: Option<(u64, Instant)> = None;
        while !stop.is_set() {
            let node = self.sender.node();
            let (mined, sent, head) = self.runtime.block_on(async {
                let mined = node.nonce(self.account, false).await?;
                let sent = node.nonce(self.account, true).await?;
                Ok::<_, openledger_chain::Error>((mined, sent, node.head().await?))
            })?;
            let told = self.told()?;
            if mined == sent {
                // Transactions that the layer 1 took back have given their nonces back.
                self.runtime
                    .block_on(self.sender.forget_nonce(self.account))?;
                if told.current_l1.number >= head.number {
                    return Ok(Some(told.safe_l2));
                }
                // What keeps derivation from the end may be data that can still be shown.
                self.show_demanded(demands);
            }
            match stuck {
                Some((nonce, since)) if mined < sent && nonce == mined => {
                    if since.elapsed() >= self.config.replacement.after {
                        let blobs = self.config.blobs.then(empty_blob).transpose()?;
                        self.runtime
                            .block_on(self.sender.free_nonce(self.account, blobs))?;
                    }
                }
                _ => stuck = Some((mined, Instant::now())),
            }
            stop.wait(POLL);
        }
        Ok(None)
    }

    fn told(&self) -> Result<Told> {
        let told = self.l2.ask("optimism_syncStatus", json!([]))?;
        told.ok_or_else(|| Error::not_found("sync status at", self.l2.url()))
    }

    fn block(&self, number: u64) -> Result<(RawBlock, L2Head)> {
        let name = format!("{number:#x}");
        let raw: Option<Bytes> = self.l2.ask("debug_getRawBlock", json!([name]))?;
        let raw = raw.ok_or_else(|| Error::not_found("block", number))?;
        let block = RawBlock::decode(&raw)?;
        let first = block.transactions.first().map(AsRef::as_ref);
        let head = self.rollup.head_of(&block.header, first)?;
        Ok((block, head))
    }

    fn open(&self, first: u64) -> Result<Open> {
        // Two channels must never share an id, or their frames mix. A channel that has a frame on
        // the layer 1 has used a nonce there, so the nonce tells it from those after it.
        let node = self.sender.node();
        let nonce = self.runtime.block_on(node.nonce(self.account, true))?;
        let seed = [
            self.account.as_slice(),
            &nonce.to_be_bytes(),
            &first.to_be_bytes(),
        ]
        .concat();
        let mut id = [0; 16];
        id.copy_from_slice(&keccak256(seed)[..16]);
        Ok(Open {
            channel: ChannelOut::new(self.rollup.clone(), self.limits(), id),
            first,
            since: Instant::now(),
        })
    }

    /// Size and effort of a channel; behind a hash there is less room.
    fn limits(&self) -> ChannelLimits {
        let mut limits = self.config.limits;
        if self.rollup.challenging().is_some() {
            limits.target_bytes = limits.target_bytes.min(SHOWN_TARGET);
            limits.max_frame_bytes = limits.max_frame_bytes.min(SHOWN_TARGET);
        }
        limits
    }

    /// Sends a channel; `None` when stopped before it was.
    fn send(
        &self,
        closed: &ClosedChannel,
        first: u64,
        last: u64,
        stop: &Stop,
    ) -> Result<Option<Sent>> {
        let payload = inbox_frames(&closed.frames);
        let begun = Instant::now();
        let hashes = self.rollup.challenging().is_some();
        let commitment = loop {
            // What is too long to be shown does not count behind a hash.
            if hashes && payload.len() > MAX_SHOWN_BYTES {
                break None;
            }
            match self.da.put(&payload).map(|put| self.counts(put?)) {
                None => break None,
                Some(Ok(commitment)) => break Some(commitment.encode()),
                Some(Err(error)) => {
                    let waited = begun.elapsed() >= self.config.fail_over_after;
                    if matches!(error, DaError::FailOver { .. } | DaError::Rejected { .. })
                        || waited
                    {
                        tracing::warn!(%error, "data goes to the layer 1 itself");
                        self.note(|done| done.fail_overs += 1);
                        break None;
                    }
                    tracing::warn!(%error, "data availability");
                    self.note(|done| done.trouble = Some(error.to_string()));
                    let pause = match error {
                        DaError::RateLimited { retry_after } => retry_after.unwrap_or(RETRY),
                        _ => RETRY,
                    };
                    if stop.wait(pause) {
                        return Ok(None);
                    }
                }
            }
        };
        let (target, receipts) = match &commitment {
            Some(commitment) => ("da", self.post(&[self.call(inbox_commitment(commitment))])?),
            None => self.send_to_layer1(closed)?,
        };
        Ok(Some(Sent {
            first,
            last,
            transactions: closed.transactions,
            bytes: closed.compressed_bytes,
            target,
            commitment,
            l1_block: receipts.iter().map(|r| r.block).max().unwrap_or_default(),
            l1_gas: receipts.iter().map(|r| r.gas_used).sum(),
            l1_fee: receipts.iter().map(|r| r.fee).fold(Wei::ZERO, more),
            l1_transactions: receipts.iter().map(|r| r.tx).collect(),
        }))
    }
}

impl Batcher {
    /// The commitment, if derivation takes one of its type.
    fn counts(&self, commitment: Commitment) -> std::result::Result<Commitment, DaError> {
        let hash = matches!(commitment, Commitment::Keccak(_));
        if self.rollup.challenging().is_some() && !hash {
            return Err(DaError::Rejected {
                status: None,
                message: "the server certifies, and in this network only hashes count".into(),
            });
        }
        Ok(commitment)
    }
}

/// Gas of a transaction that does nothing but carry blobs.
const BLOBS_GAS: u64 = 21_000;

impl Batcher {
    fn call(&self, data: Bytes) -> Call {
        Call::new(self.rollup.batch_inbox(), data)
    }

    /// Frames in blobs, or in calldata where blobs are not wanted or not taken.
    fn send_to_layer1(&self, closed: &ClosedChannel) -> Result<(&'static str, Vec<Receipt>)> {
        let data: Vec<Bytes> = closed
            .frames
            .iter()
            .map(|frame| inbox_frames([frame]))
            .collect();
        if self.config.blobs {
            match self.in_blobs(&data).and_then(|calls| self.post(&calls)) {
                Ok(receipts) => return Ok(("blobs", receipts)),
                // What was refused is on no way to the layer 1; all else may still arrive.
                Err(Error::Chain(error @ openledger_chain::Error::Refused { .. })) => {
                    tracing::warn!(%error, "no blobs; data goes into calldata");
                }
                Err(error) => return Err(error),
            }
        }
        let calls: Vec<Call> = data.into_iter().map(|data| self.call(data)).collect();
        Ok(("calldata", self.post(&calls)?))
    }

    /// Calls without calldata, with a blob around each piece of `data`.
    fn in_blobs(&self, data: &[Bytes]) -> Result<Vec<Call>> {
        let blobs = data.iter().map(|data| {
            let room = MAX_BLOB_DATA;
            encode_blob(data)
                .ok_or_else(|| Error::Conflict(format!("a frame of more than {room} bytes")))
        });
        let blobs = blobs.collect::<Result<Vec<_>>>()?;
        let carried = blobs.chunks(MAX_BLOBS).map(|blobs| {
            Ok(Call {
                blobs: Some(Arc::new(sidecar(blobs)?)),
                ..self.call(Bytes::new()).with_gas(BLOBS_GAS)
            })
        });
        carried.collect()
    }

    /// Sends calls to the inbox and waits until all are mined.
    fn post(&self, calls: &[Call]) -> Result<Vec<Receipt>> {
        let sending = calls.iter().map(|call| {
            let key = format!("batch/{}", content(call));
            async move { self.sender.send_once(&key, self.account, call).await }
        });
        // Frames of one channel may be mined in one block; they count in any order within it.
        Ok(self
            .runtime
            .block_on(futures::future::try_join_all(sending))?)
    }
}

/// A blob with nothing in it.
fn empty_blob() -> Result<Arc<BlobTransactionSidecarEip7594>> {
    let blob = encode_blob(&[]);
    let blob = blob.ok_or_else(|| Error::Conflict("nothing does not fit into a blob".into()))?;
    Ok(Arc::new(sidecar(&[blob])?))
}

/// A hash of what a call carries.
fn content(call: &Call) -> B256 {
    let commitments = call.blobs.iter().flat_map(|blobs| &blobs.commitments);
    let mut bytes = call.data.to_vec();
    commitments.for_each(|commitment| bytes.extend_from_slice(commitment.as_slice()));
    keccak256(bytes)
}

fn add(
    channel: &mut ChannelOut,
    block: &RawBlock,
    head: &L2Head,
) -> std::result::Result<(), ChannelError> {
    channel.add_block(&BlockData {
        parent_hash: head.parent_hash,
        timestamp: head.timestamp,
        l1_origin: head.l1_origin,
        sequence_number: head.sequence_number,
        transactions: &block.transactions,
    })
}

const fn number(head: &L2Head) -> Number {
    Number {
        number: head.number,
        hash: head.hash,
    }
}
