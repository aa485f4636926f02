//! Span batches: a run of blocks in columns.
//!
//! ```text
//! prefix  = time since genesis ++ number of the last L1 origin ++ parent check ++ origin check
//! payload = blocks ++ origin bits ++ transactions per block ++ columns
//! columns = creation bits ++ parity bits ++ signatures ++ receivers ++ data ++ nonces ++ gas
//!           ++ protection bits of the legacy ones
//! ```
//!
//! Counts and numbers are base-128 varints; bit lists are big-endian integers, bit 0 last.
//!
//! Spec: span batches, "Span batch format".

use super::{
    SPAN,
    tx::{Columns, Head, Kind, Rest},
};
use crate::config::RollupConfig;
use alloc::vec::Vec;
use alloy_primitives::Bytes;

/// Most blocks of a span, transactions of a block, and transactions of a span.
pub(crate) const MAX_ELEMENTS: u64 = 10_000_000;

/// Bytes of a hash that a span is checked with.
pub(crate) type Check = [u8; 20];

/// A decoded span batch. Blocks are made one after the other, by [`SpanBatch::blocks`].
#[derive(Debug)]
pub(crate) struct SpanBatch {
    pub(crate) parent_check: Check,
    pub(crate) origin_check: Check,
    pub(crate) first_timestamp: u64,
    pub(crate) last_timestamp: u64,
    pub(crate) first_epoch: u64,
    pub(crate) last_epoch: u64,
    block_time: u64,
    origin_bits: Bits,
    counts: Vec<u32>,
    /// All transactions, one after the other.
    transactions: Bytes,
    /// Where each of them ends.
    ends: Vec<u32>,
}

/// One block of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpanBlock {
    pub(crate) epoch: u64,
    pub(crate) timestamp: u64,
    pub(crate) transactions: Vec<Bytes>,
}

/// What is read of a byte string.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    /// A varint of at most 64 bits; longer forms of small numbers are numbers too.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn bits(&mut self, length: usize) -> Option<Bits> {
        let bytes = self.take(length.div_ceil(8))?;
        // Bits beyond the length must be zero.
        if let Some(first) = bytes.first()
            && !length.is_multiple_of(8)
            && first >> (length % 8) != 0
        {
            return None;
        }
        Some(Bits(bytes.to_vec()))
    }
}

/// A bit list.
#[derive(Debug, Default)]
struct Bits(Vec<u8>);

impl Bits {
    fn get(&self, index: usize) -> bool {
        let byte = self
            .0
            .len()
            .checked_sub(1 + index / 8)
            .map_or(0, |at| self.0[at]);
        byte >> (index % 8) & 1 == 1
    }

    fn ones(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

impl SpanBatch {
    /// Reads what follows the version byte. Bytes behind the last column are ignored.
    pub(crate) fn decode(body: &[u8], config: &RollupConfig) -> Option<Self> {
        let mut input = Cursor(body);
        let first_timestamp = config.l2_genesis_time().checked_add(input.varint()?)?;
        let last_epoch = input.varint()?;
        let parent_check = *input.fixed()?;
        let origin_check = *input.fixed()?;

        let blocks = input.varint()?;
        if blocks == 0 || blocks > MAX_ELEMENTS {
            return None;
        }
        let last_timestamp =
            first_timestamp.checked_add(config.block_time().checked_mul(blocks - 1)?)?;
        let blocks = usize::try_from(blocks).ok()?;
        let origin_bits = input.bits(blocks)?;
        // Each count takes a byte, so nothing is reserved that the input does not back.
        if blocks > input.0.len() {
            return None;
        }
        let mut counts = Vec::with_capacity(blocks);
        let mut total = 0u64;
        for _ in 0..blocks {
            let count = input.varint()?;
            total = total
                .checked_add(count)
                .filter(|total| *total <= MAX_ELEMENTS)?;
            counts.push(u32::try_from(count).ok()?);
        }
        let advances = origin_bits.ones() - usize::from(origin_bits.get(0));
        let first_epoch = last_epoch.checked_sub(u64::try_from(advances).ok()?)?;
        let (transactions, ends) = columns(
            &mut input,
            usize::try_from(total).ok()?,
            config.l2_chain_id(),
        )?;
        Some(Self {
            parent_check,
            origin_check,
            first_timestamp,
            last_timestamp,
            first_epoch,
            last_epoch,
            block_time: config.block_time(),
            origin_bits,
            counts,
            transactions,
            ends,
        })
    }

    /// The blocks, in order.
    pub(crate) fn blocks(self) -> Blocks {
        Blocks {
            epoch: self.first_epoch,
            span: self,
            block: 0,
            transaction: 0,
        }
    }
}

/// The columns of `total` transactions, joined: bytes of all, and where each ends.
fn columns(input: &mut Cursor<'_>, total: usize, chain_id: u64) -> Option<(Bytes, Vec<u32>)> {
    let creations = input.bits(total)?;
    let parities = input.bits(total)?;
    let (signatures, _) = input.take(total.checked_mul(64)?)?.as_chunks::<32>();
    let receivers = total - creations.ones();
    let (receivers, _) = input.take(receivers.checked_mul(20)?)?.as_chunks::<20>();

    let data_start = input.0;
    let mut rests = Vec::with_capacity(total);
    for _ in 0..total {
        rests.push(Rest::parse(&mut input.0)?);
    }
    let data_length = data_start.len() - input.0.len();
    let mut nonces = Vec::with_capacity(total);
    for _ in 0..total {
        nonces.push(input.varint()?);
    }
    let mut gases = Vec::with_capacity(total);
    for _ in 0..total {
        gases.push(input.varint()?);
    }
    let legacy = rests
        .iter()
        .filter(|rest| rest.kind == Kind::Legacy)
        .count();
    let protections = input.bits(legacy)?;

    let mut out = Vec::with_capacity(data_length + total * 128);
    let mut ends = Vec::with_capacity(total);
    let (mut receivers, mut legacy) = (receivers.iter(), 0);
    for (i, rest) in rests.iter().enumerate() {
        let protected = rest.kind != Kind::Legacy || {
            legacy += 1;
            protections.get(legacy - 1)
        };
        let head = Head {
            nonce: nonces[i],
            gas: gases[i],
            to: if creations.get(i) {
                None
            } else {
                Some(receivers.next()?)
            },
            y_parity: parities.get(i),
            r: &signatures[2 * i],
            s: &signatures[2 * i + 1],
            protected,
        };
        head.join(rest, chain_id, &mut out)?;
        ends.push(u32::try_from(out.len()).ok()?);
    }
    Some((out.into(), ends))
}

/// Iterates over the blocks of a span.
#[derive(Debug)]
pub(crate) struct Blocks {
    span: SpanBatch,
    block: usize,
    transaction: usize,
    epoch: u64,
}

impl Blocks {
    /// Blocks to come.
    pub(crate) fn left(&self) -> usize {
        self.span.counts.len() - self.block
    }
}

impl Iterator for Blocks {
    type Item = SpanBlock;

    fn next(&mut self) -> Option<SpanBlock> {
        let span = &self.span;
        let count = *span.counts.get(self.block)? as usize;
        if self.block > 0 && span.origin_bits.get(self.block) {
            self.epoch += 1;
        }
        let from = self.transaction;
        let transactions = (from..from + count)
            .map(|i| {
                let start = i.checked_sub(1).map_or(0, |before| span.ends[before]);
                span.transactions
                    .slice(start as usize..span.ends[i] as usize)
            })
            .collect();
        let block = SpanBlock {
            epoch: self.epoch,
            timestamp: span.first_timestamp + span.block_time * self.block as u64,
            transactions,
        };
        self.block += 1;
        self.transaction += count;
        Some(block)
    }
}

/// Bits being written, bit 0 first.
#[derive(Debug, Default, Clone)]
struct BitWriter {
    /// Byte 0 holds bits 0 to 7, so the list is these bytes backwards.
    bytes: Vec<u8>,
    length: usize,
}

impl BitWriter {
    fn push(&mut self, bit: bool) {
        if self.length.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.length % 8);
        }
        self.length += 1;
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.bytes.iter().rev());
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A span batch being written.
#[derive(Debug, Default, Clone)]
pub(crate) struct SpanWriter {
    parent_check: Check,
    origin_check: Check,
    first_timestamp: u64,
    last_timestamp: u64,
    last_epoch: u64,
    blocks: u64,
    transactions: u64,
    origin_bits: BitWriter,
    counts: Vec<u8>,
    creations: BitWriter,
    parities: BitWriter,
    signatures: Vec<u8>,
    receivers: Vec<u8>,
    data: Vec<u8>,
    nonces: Vec<u8>,
    gases: Vec<u8>,
    protections: BitWriter,
}

/// What a span takes of a block beside its transactions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockFacts<'a> {
    pub(crate) parent_hash: &'a [u8; 32],
    pub(crate) timestamp: u64,
    pub(crate) epoch: u64,
    pub(crate) epoch_hash: &'a [u8; 32],
    /// Whether it is the first of its epoch.
    pub(crate) advances: bool,
}

impl SpanWriter {
    /// Whether a block can follow those that are in.
    pub(crate) const fn fits(&self, block: &BlockFacts<'_>, txs: usize, block_time: u64) -> bool {
        if self.blocks == 0 {
            return true;
        }
        let epoch = if block.advances {
            self.last_epoch + 1
        } else {
            self.last_epoch
        };
        block.epoch == epoch
            && block.timestamp == self.last_timestamp + block_time
            && self.blocks < MAX_ELEMENTS
            && self.transactions + txs as u64 <= MAX_ELEMENTS
    }

    /// Adds a block that fits.
    pub(crate) fn push(&mut self, block: &BlockFacts<'_>, transactions: &[Columns]) {
        let check = |hash: &[u8; 32]| {
            let mut check = [0; 20];
            check.copy_from_slice(&hash[..20]);
            check
        };
        if self.blocks == 0 {
            self.parent_check = check(block.parent_hash);
            self.first_timestamp = block.timestamp;
        }
        self.origin_check = check(block.epoch_hash);
        self.last_timestamp = block.timestamp;
        self.last_epoch = block.epoch;
        self.blocks += 1;
        self.transactions += transactions.len() as u64;
        self.origin_bits.push(block.advances);
        put_varint(transactions.len() as u64, &mut self.counts);
        for tx in transactions {
            self.creations.push(tx.to.is_none());
            self.parities.push(tx.y_parity);
            self.signatures.extend_from_slice(&tx.r);
            self.signatures.extend_from_slice(&tx.s);
            self.receivers.extend(tx.to.iter().flatten());
            self.data.extend_from_slice(&tx.data);
            put_varint(tx.nonce, &mut self.nonces);
            put_varint(tx.gas, &mut self.gases);
            if tx.kind == Kind::Legacy {
                self.protections.push(tx.protected);
            }
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Bytes that [`SpanWriter::encode`] gives, or a few more.
    pub(crate) fn size(&self) -> usize {
        let bits = [
            &self.origin_bits,
            &self.creations,
            &self.parities,
            &self.protections,
        ];
        let bytes = [
            &self.counts,
            &self.signatures,
            &self.receivers,
            &self.data,
            &self.nonces,
            &self.gases,
        ];
        71 + bits.iter().map(|b| b.bytes.len()).sum::<usize>()
            + bytes.iter().map(|b| b.len()).sum::<usize>()
    }

    /// Version byte and body.
    pub(crate) fn encode(&self, genesis_time: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        out.push(SPAN);
        put_varint(self.first_timestamp.saturating_sub(genesis_time), &mut out);
        put_varint(self.last_epoch, &mut out);
        out.extend_from_slice(&self.parent_check);
        out.extend_from_slice(&self.origin_check);
        put_varint(self.blocks, &mut out);
        self.origin_bits.write(&mut out);
        out.extend_from_slice(&self.counts);
        self.creations.write(&mut out);
        self.parities.write(&mut out);
        out.extend_from_slice(&self.signatures);
        out.extend_from_slice(&self.receivers);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(&self.nonces);
        out.extend_from_slice(&self.gases);
        self.protections.write(&mut out);
        out
    }
}
