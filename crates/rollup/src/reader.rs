//! Reading blocks, receipts and positions from a snapshot, and writing them.

use crate::{
    block::{Block, ExecutedBlock, Transaction},
    error::{Error, Result},
    kv::{Batch, Snapshot, Table},
    state::View,
};
use alloy_consensus::{Header, Sealed, TxReceipt as _};
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Decodable;
use op_alloy_consensus::{OpReceipt, OpReceiptEnvelope};
use std::sync::Arc;

/// Names in [`Table::Meta`].
mod meta {
    pub(super) const FORMAT: &[u8] = b"format";
    pub(super) const HEAD: &[u8] = b"head";
    pub(super) const SAFE: &[u8] = b"safe";
    pub(super) const FINALIZED: &[u8] = b"finalized";
    pub(super) const OLDEST_STATE: &[u8] = b"oldest state";
}

/// What the tables hold and how. Format 1 had the leaves of the tries among their nodes, format 2
/// all other nodes, blooms in receipts, and history of what was not there.
const FORMAT: u64 = 3;

/// Bits of a transaction's index in its position: a block of 16 million transactions would need 350
/// billion gas, and 40 bits are left for its number.
const INDEX_BITS: u32 = 24;

/// Sums over the chain from genesis up to and including a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transactions included.
    pub transactions: u64,
    /// Gas used.
    pub gas_used: u128,
}

/// Heads by what they promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Labels {
    /// Number of the latest block.
    pub head: u64,
    /// Number of the `safe` block.
    pub safe: u64,
    /// Number of the `finalized` block.
    pub finalized: u64,
}

/// Reads the chain as of one snapshot: everything it returns belongs together.
#[derive(Debug, Clone)]
pub struct ChainReader {
    snapshot: Arc<dyn Snapshot>,
}

impl ChainReader {
    /// A reader of `snapshot`.
    #[must_use]
    pub const fn new(snapshot: Arc<dyn Snapshot>) -> Self {
        Self { snapshot }
    }

    /// The snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<dyn Snapshot> {
        &self.snapshot
    }

    fn meta(&self, name: &[u8]) -> Result<Option<u64>> {
        self.snapshot
            .get(Table::Meta, name)?
            .map(|v| number(&v))
            .transpose()
    }

    /// Whether a genesis block was written.
    ///
    /// # Errors
    /// When the store cannot be read; [`Error::Format`] when it was, by another version.
    pub fn is_initialised(&self) -> Result<bool> {
        if self.meta(meta::HEAD)?.is_none() {
            return Ok(false);
        }
        match self.meta(meta::FORMAT)?.unwrap_or(1) {
            FORMAT => Ok(true),
            found => Err(Error::Format {
                found,
                expected: FORMAT,
            }),
        }
    }

    /// Latest, safe and finalized block numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn labels(&self) -> Result<Labels> {
        Ok(Labels {
            head: self.meta(meta::HEAD)?.unwrap_or_default(),
            safe: self.meta(meta::SAFE)?.unwrap_or_default(),
            finalized: self.meta(meta::FINALIZED)?.unwrap_or_default(),
        })
    }

    /// The head's header.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn head(&self) -> Result<Sealed<Header>> {
        let head = self.labels()?.head;
        self.header(head)?
            .ok_or_else(|| Error::corrupt("headers", format_args!("no head {head}")))
    }

    /// A header by number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn header(&self, number: u64) -> Result<Option<Sealed<Header>>> {
        let Some(bytes) = self.snapshot.get(Table::Headers, &number.to_be_bytes())? else {
            return Ok(None);
        };
        let bad = || Error::corrupt("header", number);
        let (hash, mut rlp) = bytes.split_first_chunk::<32>().ok_or_else(bad)?;
        let header = Header::decode(&mut rlp).map_err(|_| bad())?;
        Ok(Some(Sealed::new_unchecked(header, B256::from(hash))))
    }

    /// The number of the canonical block with this hash.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn number_of(&self, hash: B256) -> Result<Option<u64>> {
        self.snapshot
            .get(Table::Numbers, hash.as_slice())?
            .map(|v| number(&v))
            .transpose()
    }

    /// A block by number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn block(&self, number: u64) -> Result<Option<Block>> {
        let Some(header) = self.header(number)? else {
            return Ok(None);
        };
        let key = number.to_be_bytes();
        let bad = || Error::corrupt("body", number);
        let body = self.snapshot.get(Table::Bodies, &key)?.ok_or_else(bad)?;
        let encoded = Vec::<Bytes>::decode(&mut body.as_slice()).map_err(|_| bad())?;
        let senders = self.snapshot.get(Table::Senders, &key)?.ok_or_else(bad)?;
        if senders.len() != encoded.len() * 20 {
            return Err(bad());
        }
        let transactions = encoded
            .into_iter()
            .zip(senders.chunks_exact(20).map(Address::from_slice))
            .map(|(bytes, sender)| Transaction::decode_with_sender(bytes, sender).map(Arc::new))
            .collect::<Result<_>>()?;
        Ok(Some(Block {
            header,
            transactions,
        }))
    }

    /// The receipts of a block.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn receipts(&self, number: u64) -> Result<Option<Vec<OpReceiptEnvelope>>> {
        let Some(bytes) = self.snapshot.get(Table::Receipts, &number.to_be_bytes())? else {
            return Ok(None);
        };
        let receipts = Vec::<OpReceipt>::decode(&mut bytes.as_slice())
            .map_err(|e| Error::corrupt("receipts", format_args!("{number}: {e}")))?;
        let envelopes = receipts.into_iter().map(|r| r.into_with_bloom().into());
        Ok(Some(envelopes.collect()))
    }

    /// A block with its receipts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn executed(&self, number: u64) -> Result<Option<ExecutedBlock>> {
        let Some(block) = self.block(number)? else {
            return Ok(None);
        };
        let receipts = self
            .receipts(number)?
            .filter(|r| r.len() == block.transactions.len())
            .ok_or_else(|| Error::corrupt("receipts", number))?;
        Ok(Some(ExecutedBlock {
            block: Arc::new(block),
            receipts,
        }))
    }

    /// Where a transaction is: block number and index.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn position(&self, transaction: B256) -> Result<Option<(u64, usize)>> {
        let Some(bytes) = self
            .snapshot
            .get(Table::Transactions, transaction.as_slice())?
        else {
            return Ok(None);
        };
        let position = number(&bytes)?;
        let index = usize::try_from(position & ((1 << INDEX_BITS) - 1))
            .map_err(|_| Error::corrupt("transaction position", transaction))?;
        Ok(Some((position >> INDEX_BITS, index)))
    }

    /// Totals up to and including a block.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn totals(&self, number_: u64) -> Result<Totals> {
        let Some(bytes) = self.snapshot.get(Table::Totals, &number_.to_be_bytes())? else {
            return Ok(Totals::default());
        };
        let bad = || Error::corrupt("totals", number_);
        let (transactions, gas) = bytes.split_at_checked(8).ok_or_else(bad)?;
        let gas = <[u8; 16]>::try_from(gas).map_err(|_| bad())?;
        Ok(Totals {
            transactions: number(transactions)?,
            gas_used: u128::from_be_bytes(gas),
        })
    }

    /// The oldest block whose state can be read: above 0 where history was pruned.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_state(&self) -> Result<u64> {
        Ok(self.meta(meta::OLDEST_STATE)?.unwrap_or_default())
    }

    /// The state after block `number`.
    ///
    /// # Errors
    /// When the block is above the head; [`Error::StateUnavailable`] when its history was pruned.
    pub fn state(&self, number: u64) -> Result<View> {
        let head = self.labels()?.head;
        if number > head {
            return Err(Error::Unknown {
                what: "block",
                id: number.to_string(),
            });
        }
        let snapshot = Arc::clone(&self.snapshot);
        if number == head {
            return Ok(View::latest(snapshot));
        }
        let oldest = self.oldest_state()?;
        if number < oldest {
            return Err(Error::StateUnavailable { number, oldest });
        }
        Ok(View::at(snapshot, number))
    }
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Error::corrupt("number", format_args!("{bytes:?}")))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Writes which format the tables have.
pub(crate) fn put_format(batch: &mut Batch) {
    batch.put(Table::Meta, meta::FORMAT, FORMAT.to_be_bytes());
}

/// Writes the labels.
pub(crate) fn put_labels(batch: &mut Batch, labels: Labels) {
    batch.put(Table::Meta, meta::HEAD, labels.head.to_be_bytes());
    batch.put(Table::Meta, meta::SAFE, labels.safe.to_be_bytes());
    batch.put(Table::Meta, meta::FINALIZED, labels.finalized.to_be_bytes());
}

/// Writes the oldest block whose state can be read.
pub(crate) fn put_oldest_state(batch: &mut Batch, number: u64) {
    batch.put(Table::Meta, meta::OLDEST_STATE, number.to_be_bytes());
}

/// Writes a block and its receipts; `before` are the parent's totals.
pub(crate) fn put_block(batch: &mut Batch, executed: &ExecutedBlock, before: Totals) {
    let block = &executed.block;
    let key = block.number().to_be_bytes();
    let mut header = block.hash().to_vec();
    alloy_rlp::Encodable::encode(block.header.inner(), &mut header);
    batch.put(Table::Headers, key, header);
    batch.put(Table::Numbers, block.hash().as_slice(), key);
    let bodies: Vec<Bytes> = block
        .transactions
        .iter()
        .map(|tx| tx.encoded.clone())
        .collect();
    batch.put(Table::Bodies, key, alloy_rlp::encode(&bodies));
    let senders: Vec<u8> = block
        .transactions
        .iter()
        .flat_map(|tx| tx.sender().0.0)
        .collect();
    batch.put(Table::Senders, key, senders);
    let receipts = executed.receipts.iter().cloned().map(OpReceipt::from);
    let receipts: Vec<OpReceipt> = receipts.collect();
    batch.put(Table::Receipts, key, alloy_rlp::encode(&receipts));
    for (index, tx) in (0u64..).zip(&block.transactions) {
        let position = (block.number() << INDEX_BITS) | index;
        let key = tx.hash();
        batch.put(Table::Transactions, key.as_slice(), position.to_be_bytes());
    }
    let included = u64::try_from(block.transactions.len()).expect("a block fits in memory");
    let transactions = before.transactions + included;
    let gas = before.gas_used + u128::from(block.header.gas_used);
    let totals = [&transactions.to_be_bytes()[..], &gas.to_be_bytes()].concat();
    batch.put(Table::Totals, key, totals);
}

/// Removes a block.
pub(crate) fn delete_block(batch: &mut Batch, block: &Block) {
    let key = block.number().to_be_bytes();
    for table in [
        Table::Headers,
        Table::Bodies,
        Table::Senders,
        Table::Receipts,
        Table::Totals,
    ] {
        batch.delete(table, key);
    }
    batch.delete(Table::Numbers, block.hash().as_slice());
    for tx in &block.transactions {
        batch.delete(Table::Transactions, tx.hash().as_slice());
    }
}
