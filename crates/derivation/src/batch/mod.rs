//! Batches: layer 2 blocks without what the layer 1 says about them anyway.
//!
//! A singular batch is one block, a span batch a run of them in columns. Both are decoded into
//! bytes of transactions without decoding the transactions.
//!
//! Spec: derivation, "Batch format"; span batches.

pub(crate) mod span;
pub(crate) mod stage;
pub(crate) mod tx;

use crate::{config::RollupConfig, rlp, types::BlockId};
use alloc::vec::Vec;
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Encodable;
use span::SpanBatch;

/// Version byte of a singular batch.
pub(crate) const SINGULAR: u8 = 0;

/// Version byte of a span batch.
pub(crate) const SPAN: u8 = 1;

/// A batch out of a channel.
#[derive(Debug)]
pub(crate) enum Batch {
    Singular(SingularBatch),
    Span(SpanBatch),
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SingularBatch {
    pub(crate) parent_hash: B256,
    pub(crate) epoch: BlockId,
    pub(crate) timestamp: u64,
    pub(crate) transactions: Vec<Bytes>,
}

impl Batch {
    /// Reads a batch, version byte first.
    pub(crate) fn decode(data: &[u8], config: &RollupConfig) -> Option<Self> {
        let (&version, body) = data.split_first()?;
        match version {
            SINGULAR => SingularBatch::decode(body).map(Self::Singular),
            SPAN => SpanBatch::decode(body, config).map(Self::Span),
            _ => None,
        }
    }
}

impl SingularBatch {
    fn decode(body: &[u8]) -> Option<Self> {
        let [parent, number, hash, timestamp, transactions] =
            <[rlp::Item<'_>; 5]>::try_from(rlp::list(body)?).ok()?;
        Some(Self {
            parent_hash: parent.fixed()?.into(),
            epoch: BlockId {
                number: number.u64()?,
                hash: hash.fixed()?.into(),
            },
            timestamp: timestamp.u64()?,
            transactions: transactions
                .items()?
                .iter()
                .map(|item| item.bytes().map(Bytes::copy_from_slice))
                .collect::<Option<_>>()?,
        })
    }

    /// Version byte and body.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = self.parent_hash.length()
            + self.epoch.number.length()
            + self.epoch.hash.length()
            + self.timestamp.length()
            + self.transactions.length();
        let mut out = Vec::with_capacity(body + 6);
        out.push(SINGULAR);
        rlp::list_header(body, &mut out);
        self.parent_hash.encode(&mut out);
        self.epoch.number.encode(&mut out);
        self.epoch.hash.encode(&mut out);
        self.timestamp.encode(&mut out);
        self.transactions.encode(&mut out);
        out
    }
}
