//! The layer 1 behind a JSON-RPC URL, read as bytes.
//!
//! Nothing read here is believed: headers, transactions and receipts come back as the bytes that
//! hash to what their parent says, and derivation checks that they do. So an endpoint that lies
//! gives an error, never another chain.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_consensus::ReceiptEnvelope;
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_rpc_types_eth::{Block, Header, Transaction, TransactionReceipt};
use openledger_derivation::{L1, L1Block, SourceError};
use openledger_primitives::{B256, Bytes};
use openledger_rollup::Clock;
use openledger_rollup::engine::EngineClient;
use openledger_rollup::rpc::JwtSecret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::blobs::Beacon;

/// Longest answer that is read: a block of 60 M gas with full calldata, as JSON, has room.
const MAX_ANSWER: u64 = 256 << 20;
/// Patience for one answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Blocks kept: derivation asks for the parts of a block one after the other.
const KEPT: usize = 64;

/// Why an L1 gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// It could not be reached, or answered no JSON-RPC. Asking again may help.
    #[error("{url}: {method}: {reason}")]
    Transport {
        /// The endpoint.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// It refused.
    #[error("{method} was refused: {message} (code {code})")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The endpoint's reason.
        message: String,
        /// JSON-RPC error code.
        code: i64,
    },
}

/// A block as L1 gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBlock {
    /// Its hash, as the endpoint says.
    pub hash: B256,
    /// Header, RLP.
    pub header: Bytes,
    /// Transactions, EIP-2718.
    pub transactions: Vec<Bytes>,
}

/// A blocking JSON-RPC client.
#[derive(Debug)]
pub struct Rpc {
    agent: ureq::Agent,
    url: String,
    next: AtomicU64,
    /// What a token is made with, for an Engine API.
    secret: Option<(JwtSecret, Clock)>,
    recent: Mutex<VecDeque<Arc<RawBlock>>>,
    beacon: Option<Beacon>,
}

/// An HTTP client that gives up after `patience`, and takes a refusal for an answer.
pub(super) fn agent(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .http_status_as_error(false)
        .build();
    config.into()
}

impl Rpc {
    /// A client of `url`. Nothing is sent yet.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            agent: agent(TIMEOUT),
            url: url.into(),
            next: AtomicU64::new(1),
            secret: None,
            recent: Mutex::default(),
            beacon: None,
        }
    }

    /// The same with the consensus layer's API at `beacon`, for blobs.
    #[must_use]
    pub fn with_beacon(self, beacon: Option<&str>) -> Self {
        Self {
            beacon: beacon.map(Beacon::new),
            ..self
        }
    }

    /// A client of the Engine API at `url`, which knows the same secret.
    #[must_use]
    pub fn engine(url: impl Into<String>, secret: JwtSecret, clock: Clock) -> Self {
        Self {
            secret: Some((secret, clock)),
            ..Self::new(url)
        }
    }

    /// The endpoint.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks `method`; an answer of `null` is `None`.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<Option<T>, RpcError> {
        let transport = |reason: String| RpcError::Transport {
            url: self.url.clone(),
            method,
            reason,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let body = body.to_string();
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some((secret, clock)) = &self.secret {
            let token = secret.token(clock.now().as_secs());
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send(&body).map_err(|e| transport(e.to_string()))?;
        let status = answer.status();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|e| transport(e.to_string()))?;
        let mut value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| transport(format!("HTTP {status}, no JSON: {e}")))?;
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            return Err(RpcError::Refused {
                method,
                message: error["message"].as_str().unwrap_or("no message").to_owned(),
                code: error["code"].as_i64().unwrap_or_default(),
            });
        }
        match value.get_mut("result").map(Value::take) {
            None => Err(transport("the answer has neither result nor error".into())),
            Some(Value::Null) => Ok(None),
            Some(result) => serde_json::from_value(result)
                .map(Some)
                .map_err(|e| transport(format!("unexpected answer: {e}"))),
        }
    }

    /// The block with this number or label (`latest`, `safe`, `finalized`), or none.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn block_by_number(
        &self,
        number: impl Into<BlockName>,
    ) -> Result<Option<Arc<RawBlock>>, RpcError> {
        let name = number.into().0;
        let block = self.ask("eth_getBlockByNumber", json!([name, true]))?;
        Ok(block.map(|block| self.remember(raw_block(block))))
    }

    /// The block with this hash, or none.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn block_by_hash(&self, hash: B256) -> Result<Option<Arc<RawBlock>>, RpcError> {
        let kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|block| block.hash == hash) {
            return Ok(Some(Arc::clone(found)));
        }
        drop(kept);
        let block = self.ask("eth_getBlockByHash", json!([hash, true]))?;
        Ok(block.map(|block| self.remember(raw_block(block))))
    }

    /// The header with this number or label, without transactions.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn header(&self, number: impl Into<BlockName>) -> Result<Option<Header>, RpcError> {
        let name = number.into().0;
        let block: Option<Block<B256>> = self.ask("eth_getBlockByNumber", json!([name, false]))?;
        Ok(block.map(|block| block.header))
    }

    fn remember(&self, block: RawBlock) -> Arc<RawBlock> {
        let block = Arc::new(block);
        let mut kept = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().all(|known| known.hash != block.hash) {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&block));
        }
        block
    }

    /// The receipts of a block, EIP-2718, or none when the block is not known.
    ///
    /// # Errors
    /// [`RpcError`].
    pub fn block_receipts(&self, hash: B256) -> Result<Option<Vec<Bytes>>, RpcError> {
        let receipts: Option<Vec<TransactionReceipt>> =
            self.ask("eth_getBlockReceipts", json!([hash]))?;
        let encoded = |receipt: TransactionReceipt| {
            let receipt: ReceiptEnvelope = receipt.into_primitives_receipt().inner;
            Bytes::from(receipt.encoded_2718())
        };
        Ok(receipts.map(|all| all.into_iter().map(encoded).collect()))
    }
}

/// A block's number or label as a JSON-RPC parameter.
#[derive(Clone, Debug)]
pub struct BlockName(String);

impl From<u64> for BlockName {
    fn from(number: u64) -> Self {
        Self(format!("{number:#x}"))
    }
}

impl From<&str> for BlockName {
    fn from(label: &str) -> Self {
        Self(label.to_owned())
    }
}

impl EngineClient for Rpc {
    fn ask(&self, method: &'static str, params: Value) -> openledger_rollup::Result<Value> {
        let answer = Self::ask::<Value>(self, method, params);
        let answer = answer.map_err(|e| openledger_rollup::Error::Execution(e.to_string()))?;
        Ok(answer.unwrap_or_default())
    }
}

fn raw_block(block: Block<Transaction>) -> RawBlock {
    let transactions = block.transactions.into_transactions();
    RawBlock {
        hash: block.header.hash,
        header: alloy_rlp::encode(&block.header.inner).into(),
        transactions: transactions
            .map(|tx| tx.inner.encoded_2718().into())
            .collect(),
    }
}

impl L1 for Rpc {
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError> {
        let block = self.block_by_number(number).map_err(unavailable)?;
        Ok(block.map(|block| block.header.clone()))
    }

    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError> {
        Ok(self.known(hash)?.header.clone())
    }

    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        Ok(self.known(block)?.transactions.clone())
    }

    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        let receipts = self.block_receipts(block).map_err(unavailable)?;
        receipts.ok_or(SourceError::NotFound)
    }

    fn blobs(&self, block: &L1Block, hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
        let beacon = self.beacon.as_ref().ok_or_else(|| {
            let text = "a batch is in blobs, and no consensus layer is given (--l1-beacon URL)";
            SourceError::Unavailable(text.into())
        })?;
        beacon.blobs(block, hashes)
    }
}

impl Rpc {
    fn known(&self, hash: B256) -> Result<Arc<RawBlock>, SourceError> {
        let block = self.block_by_hash(hash).map_err(unavailable)?;
        block.ok_or(SourceError::NotFound)
    }
}

fn unavailable(error: RpcError) -> SourceError {
    SourceError::Unavailable(error.to_string())
}
