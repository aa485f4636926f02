//! Blocks and attributes in the words of the Engine API (Prague; OP Stack since Isthmus).

use super::PayloadAttributes;
use crate::{
    block::{Block, Transaction},
    error::{Error, Result},
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Sealable};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U64, U256};
use alloy_trie::root::ordered_trie_root_encoded;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `ExecutionPayloadV4` of the OP Stack: `ExecutionPayloadV3` with `withdrawalsRoot` (specs,
/// "Isthmus execution engine").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the names of the Engine API, each a field of the header"
)]
pub struct ExecutionPayload {
    pub parent_hash: B256,
    pub fee_recipient: Address,
    pub state_root: B256,
    pub receipts_root: B256,
    pub logs_bloom: Bloom,
    pub prev_randao: B256,
    pub block_number: U64,
    pub gas_limit: U64,
    pub gas_used: U64,
    pub timestamp: U64,
    pub extra_data: Bytes,
    pub base_fee_per_gas: U256,
    pub block_hash: B256,
    pub transactions: Vec<Bytes>,
    pub withdrawals: Vec<Value>,
    pub blob_gas_used: U64,
    pub excess_blob_gas: U64,
    pub withdrawals_root: B256,
}

impl ExecutionPayload {
    /// A block as a payload.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        let header = block.header.inner();
        Self {
            parent_hash: header.parent_hash,
            fee_recipient: header.beneficiary,
            state_root: header.state_root,
            receipts_root: header.receipts_root,
            logs_bloom: header.logs_bloom,
            prev_randao: header.mix_hash,
            block_number: U64::from(header.number),
            gas_limit: U64::from(header.gas_limit),
            gas_used: U64::from(header.gas_used),
            timestamp: U64::from(header.timestamp),
            extra_data: header.extra_data.clone(),
            base_fee_per_gas: U256::from(header.base_fee_per_gas.unwrap_or_default()),
            block_hash: block.hash(),
            transactions: block
                .transactions
                .iter()
                .map(|tx| tx.encoded.clone())
                .collect(),
            withdrawals: Vec::new(),
            blob_gas_used: U64::from(header.blob_gas_used.unwrap_or_default()),
            excess_blob_gas: U64::from(header.excess_blob_gas.unwrap_or_default()),
            withdrawals_root: header.withdrawals_root.unwrap_or_default(),
        }
    }

    /// The block that the payload describes, with the parent beacon block root that comes beside
    /// it. Nothing is executed.
    ///
    /// # Errors
    /// [`Error::InvalidBlock`] when the parts do not hash to `blockHash`,
    /// [`Error::InvalidTransaction`] for a transaction that is none.
    pub fn into_block(self, parent_beacon_block_root: B256) -> Result<Block> {
        if !self.withdrawals.is_empty() {
            return Err(Error::InvalidBlock("withdrawals on a layer 2".into()));
        }
        let base_fee = u64::try_from(self.base_fee_per_gas)
            .map_err(|_| Error::InvalidBlock("the base fee exceeds 64 bits".into()))?;
        let header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: self.fee_recipient,
            state_root: self.state_root,
            transactions_root: ordered_trie_root_encoded(&self.transactions),
            receipts_root: self.receipts_root,
            logs_bloom: self.logs_bloom,
            number: self.block_number.to(),
            gas_limit: self.gas_limit.to(),
            gas_used: self.gas_used.to(),
            timestamp: self.timestamp.to(),
            extra_data: self.extra_data,
            mix_hash: self.prev_randao,
            base_fee_per_gas: Some(base_fee),
            withdrawals_root: Some(self.withdrawals_root),
            blob_gas_used: Some(self.blob_gas_used.to()),
            excess_blob_gas: Some(self.excess_blob_gas.to()),
            parent_beacon_block_root: Some(parent_beacon_block_root),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Default::default()
        }
        .seal_slow();
        if header.hash() != self.block_hash {
            return Err(Error::InvalidBlock(format!(
                "blockhash mismatch: the payload says {}, its parts hash to {}",
                self.block_hash,
                header.hash()
            )));
        }
        Ok(Block {
            header,
            transactions: Transaction::decode_all(&self.transactions)?,
        })
    }
}

/// `PayloadAttributesV3` with the fields of the OP Stack up to Jovian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the names of the Engine API; see PayloadAttributes"
)]
pub struct Attributes {
    pub timestamp: U64,
    pub prev_randao: B256,
    pub suggested_fee_recipient: Address,
    #[serde(default)]
    pub withdrawals: Vec<Value>,
    pub parent_beacon_block_root: Option<B256>,
    #[serde(default)]
    pub transactions: Vec<Bytes>,
    #[serde(default)]
    pub no_tx_pool: bool,
    pub gas_limit: Option<U64>,
    pub eip_1559_params: Option<B64>,
    pub min_base_fee: Option<u64>,
}

impl TryFrom<Attributes> for PayloadAttributes {
    type Error = Error;

    fn try_from(from: Attributes) -> Result<Self> {
        let invalid = |reason: &str| Error::InvalidAttributes(reason.into());
        if !from.withdrawals.is_empty() {
            return Err(invalid("withdrawals on a layer 2"));
        }
        Ok(Self {
            timestamp: from.timestamp.to(),
            prev_randao: from.prev_randao,
            suggested_fee_recipient: from.suggested_fee_recipient,
            parent_beacon_block_root: from.parent_beacon_block_root,
            transactions: from.transactions,
            no_tx_pool: from.no_tx_pool,
            gas_limit: from
                .gas_limit
                .ok_or_else(|| invalid("gasLimit is required"))?
                .to(),
            eip_1559_params: from.eip_1559_params,
            min_base_fee: from.min_base_fee,
        })
    }
}

/// A block as the `engine_newPayloadV4` request, numbered `id`.
#[must_use]
pub fn new_payload_request(id: u64, block: &Block) -> Value {
    // No blobs, and no requests of the execution layer: an OP Stack block has neither.
    let none: [B256; 0] = [];
    let params = json!([
        ExecutionPayload::of(block),
        none,
        block.header.parent_beacon_block_root,
        none
    ]);
    json!({ "jsonrpc": "2.0", "id": id, "method": "engine_newPayloadV4", "params": params })
}
