//! Blocks and transactions as the chain holds them.

use crate::error::{Error, Result};
use alloc::{format, sync::Arc, vec::Vec};
use alloy_consensus::{
    Header, Sealable, Sealed,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{Decodable2718, Encodable2718, Typed2718};
use alloy_primitives::{Address, B256, Bytes};
use op_alloy_consensus::{DEPOSIT_TX_TYPE_ID, OpReceiptEnvelope, OpTxEnvelope};

/// Signatures from which on starting a thread is nothing beside recovering them.
#[cfg(feature = "std")]
const WORTH_A_THREAD: usize = 32;

/// A transaction with its sender and its encoding, each computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The decoded transaction and its sender.
    pub inner: Recovered<OpTxEnvelope>,
    /// EIP-2718 bytes, as they go into the transactions root and onto DA.
    pub encoded: Bytes,
}

impl Transaction {
    /// Decodes EIP-2718 bytes and recovers the sender (about 70 us, libsecp256k1).
    ///
    /// # Errors
    /// When the bytes are not one canonical transaction of a type this chain knows, or the
    /// signature gives no sender.
    pub fn decode(encoded: Bytes) -> Result<Self> {
        let tx = decode_envelope(&encoded)?;
        let inner = tx
            .try_into_recovered()
            .map_err(|_| Error::InvalidTransaction("invalid sender: bad signature".into()))?;
        Ok(Self { inner, encoded })
    }

    /// Decodes the transactions of a block, on all cores where there are many.
    ///
    /// # Errors
    /// As [`Transaction::decode`], for the first that has one.
    pub fn decode_all(encoded: &[Bytes]) -> Result<Vec<Arc<Self>>> {
        let decode = |part: &[Bytes]| -> Result<Vec<Arc<Self>>> {
            let decoded = part.iter().map(|bytes| Self::decode(bytes.clone()));
            decoded.map(|tx| tx.map(Arc::new)).collect()
        };
        #[cfg(feature = "std")]
        if encoded.len() >= WORTH_A_THREAD {
            let cores = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
            return std::thread::scope(|scope| {
                let parts: Vec<_> = encoded
                    .chunks(encoded.len().div_ceil(cores))
                    .map(|part| scope.spawn(move || decode(part)))
                    .collect();
                let mut all = Vec::with_capacity(encoded.len());
                for part in parts {
                    match part.join() {
                        Ok(part) => all.extend(part?),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                Ok(all)
            });
        }
        decode(encoded)
    }

    /// Decodes EIP-2718 bytes of a transaction whose sender was recovered before.
    ///
    /// # Errors
    /// When the bytes do not decode.
    pub fn decode_with_sender(encoded: Bytes, sender: Address) -> Result<Self> {
        let inner = Recovered::new_unchecked(decode_envelope(&encoded)?, sender);
        Ok(Self { inner, encoded })
    }

    /// The transaction hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.inner.inner().tx_hash()
    }

    /// The sender.
    #[must_use]
    pub const fn sender(&self) -> Address {
        self.inner.signer()
    }

    /// The transaction itself.
    #[must_use]
    pub const fn envelope(&self) -> &OpTxEnvelope {
        self.inner.inner()
    }

    /// Whether this is a deposit (type 0x7e), which only forced inclusion may bring.
    #[must_use]
    pub fn is_deposit(&self) -> bool {
        self.envelope().ty() == DEPOSIT_TX_TYPE_ID
    }
}

fn decode_envelope(encoded: &Bytes) -> Result<OpTxEnvelope> {
    let mut rest = encoded.as_ref();
    let tx = OpTxEnvelope::decode_2718(&mut rest)
        .map_err(|e| Error::InvalidTransaction(format!("malformed transaction: {e}")))?;
    if matches!(tx, OpTxEnvelope::PostExec(_)) {
        return Err(Error::InvalidTransaction(
            "transaction type not supported".into(),
        ));
    }
    // The hash is over the canonical encoding; other spellings of it must not get in.
    if !rest.is_empty() || tx.encoded_2718() != encoded.as_ref() {
        return Err(Error::InvalidTransaction(
            "malformed transaction: not canonical".into(),
        ));
    }
    Ok(tx)
}

/// A block: sealed header and transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Header with its hash.
    pub header: Sealed<Header>,
    /// Transactions in order.
    pub transactions: Vec<Arc<Transaction>>,
}

impl Block {
    /// The block hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// The block number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Size of the block's RLP in bytes, as `eth_getBlockByNumber` reports it.
    #[must_use]
    pub fn rlp_size(&self) -> usize {
        use alloy_rlp::Encodable;
        let transactions: usize = self
            .transactions
            .iter()
            .map(|tx| {
                // Typed transactions sit in the block as RLP strings, legacy ones as lists.
                if tx.envelope().is_legacy() {
                    tx.encoded.len()
                } else {
                    tx.encoded.length()
                }
            })
            .sum();
        let list = |payload: usize| alloy_rlp::length_of_length(payload) + payload;
        list(self.header.inner().length() + list(transactions) + 1 + 1)
    }
}

impl Block {
    /// The block's RLP: header, transactions, no uncles, no withdrawals (Yellow paper, appendix B;
    /// EIP-4895).
    #[must_use]
    pub fn encode_rlp(&self) -> Bytes {
        use alloy_rlp::Encodable;
        let mut body = Vec::new();
        for tx in &self.transactions {
            if tx.envelope().is_legacy() {
                body.extend_from_slice(&tx.encoded);
            } else {
                tx.encoded.encode(&mut body);
            }
        }
        let list = |payload_length| alloy_rlp::Header {
            list: true,
            payload_length,
        };
        let transactions = list(body.len());
        let inner = self.header.inner();
        let payload = inner.length() + transactions.length_with_payload() + 2;
        let mut out = Vec::with_capacity(list(payload).length_with_payload());
        list(payload).encode(&mut out);
        inner.encode(&mut out);
        transactions.encode(&mut out);
        out.extend_from_slice(&body);
        out.extend_from_slice(&[alloy_rlp::EMPTY_LIST_CODE; 2]);
        out.into()
    }

    /// Decodes what [`Block::encode_rlp`] writes and recovers the senders.
    ///
    /// # Errors
    /// [`Error::InvalidBlock`] where the bytes are not one block, or hold uncles or withdrawals;
    /// [`Error::InvalidTransaction`] for a transaction that is none.
    pub fn decode_rlp(bytes: &[u8]) -> Result<Self> {
        use alloy_rlp::Decodable;
        let raw = RawBlock::decode(bytes)?;
        let header = Header::decode(&mut raw.header.as_ref()).map_err(|e| malformed(&e))?;
        Ok(Self {
            header: header.seal_slow(),
            transactions: Transaction::decode_all(&raw.transactions)?,
        })
    }
}

/// A block cut into its parts, none of which is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// RLP of the header.
    pub header: Bytes,
    /// Transactions, EIP-2718.
    pub transactions: Vec<Bytes>,
}

impl RawBlock {
    /// Cuts what [`Block::encode_rlp`] writes.
    ///
    /// # Errors
    /// [`Error::InvalidBlock`] where the bytes are not one block, or hold uncles or withdrawals.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        use alloy_rlp::{EMPTY_LIST_CODE, Header as Item};
        let mut rest = bytes;
        let mut body = Item::decode_bytes(&mut rest, true).map_err(|e| malformed(&e))?;
        if !rest.is_empty() {
            return Err(malformed(&"bytes follow the block"));
        }
        let whole = body;
        let fields = Item::decode(&mut body).map_err(|e| malformed(&e))?;
        let prefix = whole.len() - body.len();
        let header = whole.get(..prefix + fields.payload_length);
        let header = header.ok_or_else(|| malformed(&"the header ends early"))?;
        body = &whole[header.len()..];
        let mut items = Item::decode_bytes(&mut body, true).map_err(|e| malformed(&e))?;
        let mut transactions = Vec::new();
        while !items.is_empty() {
            let whole = items;
            let item = Item::decode(&mut items).map_err(|e| malformed(&e))?;
            let payload = items
                .get(..item.payload_length)
                .ok_or_else(|| malformed(&"a transaction ends early"))?;
            items = &items[item.payload_length..];
            let encoded = if item.list {
                &whole[..whole.len() - items.len()]
            } else {
                payload
            };
            transactions.push(Bytes::copy_from_slice(encoded));
        }
        if body != [EMPTY_LIST_CODE; 2] {
            return Err(malformed(&"neither uncles nor withdrawals are expected"));
        }
        Ok(Self {
            header: Bytes::copy_from_slice(header),
            transactions,
        })
    }
}

fn malformed(reason: &dyn core::fmt::Display) -> Error {
    Error::InvalidBlock(format!("block RLP: {reason}"))
}

/// The output root of a block, version 0: what a proposer claims on L1 and withdrawals are proven
/// against (specs, "L2 output root proposals"). `None` before Isthmus, whose headers lack the
/// storage root of the message passer.
#[must_use]
pub fn output_root(header: &Sealed<Header>) -> Option<B256> {
    let passer = header.withdrawals_root?;
    let parts = [B256::ZERO, header.state_root, passer, header.hash()];
    Some(alloy_primitives::keccak256(
        parts.map(|part| part.0).concat(),
    ))
}

/// A block with what executing it gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// One receipt per transaction.
    pub receipts: Vec<OpReceiptEnvelope>,
}
