//! Another execution client, such as op-reth, over the Engine API.
//!
//! It executes, and is held to the embedded engine: that one chooses transactions from the pool and
//! keeps the tables that this program reads, and every block is made and checked by both. Where they
//! disagree the chain stops with an error, since one of them is wrong; no block comes out of it.

use super::{
    Engine, ForkChoice, ForkChoiceOutcome, PayloadAttributes, PayloadId, PayloadStatus,
    payload::{Attributes, ExecutionPayload, new_payload_request},
};
use crate::{
    block::Block,
    error::{Error, Result},
    exec::Candidates,
    kv::Store,
    reader::ChainReader,
    spec::ChainSpec,
};
use alloy_consensus::Header;
use alloy_primitives::{B64, B256, U64};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// A connection to the Engine API of another client, its authentication included.
pub trait EngineClient: fmt::Debug + Send + Sync {
    /// The result of a method.
    ///
    /// # Errors
    /// [`Error::Execution`] when the client cannot be reached or refuses.
    fn ask(&self, method: &'static str, params: Value) -> Result<Value>;
}

/// The embedded engine together with another client.
#[derive(Debug)]
pub struct ExternalEngine {
    own: Arc<dyn Engine>,
    client: Arc<dyn EngineClient>,
    spec: Arc<ChainSpec>,
    store: Arc<dyn Store>,
}

/// `PayloadStatusV1`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    status: String,
    validation_error: Option<String>,
}

impl Status {
    fn read(self) -> Result<PayloadStatus> {
        Ok(match self.status.as_str() {
            "VALID" => PayloadStatus::Valid,
            "INVALID" => PayloadStatus::Invalid {
                reason: self.validation_error.unwrap_or_default(),
            },
            "SYNCING" => PayloadStatus::Syncing,
            "ACCEPTED" => PayloadStatus::Accepted,
            other => return Err(Error::Execution(format!("payload status `{other}`"))),
        })
    }
}

/// Answer to `engine_forkchoiceUpdatedV3`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    payload_status: Status,
    payload_id: Option<B64>,
}

/// Answer to `engine_getPayloadV4`, and to later versions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Built {
    execution_payload: ExecutionPayload,
}

/// What of `eth_getBlockByNumber` is looked at.
#[derive(Deserialize)]
struct Place {
    number: U64,
    hash: B256,
}

fn parsed<T: serde::de::DeserializeOwned>(method: &str, answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|e| Error::Execution(format!("{method}: {e}")))
}

impl ExternalEngine {
    /// Connects to a client and gives it the blocks that it does not have.
    ///
    /// # Errors
    /// [`Error::Execution`] when it does not answer, is of another chain, or finds a block invalid.
    pub fn connect(
        own: Arc<dyn Engine>,
        client: Arc<dyn EngineClient>,
        spec: Arc<ChainSpec>,
        store: Arc<dyn Store>,
    ) -> Result<Self> {
        let engine = Self {
            own,
            client,
            spec,
            store,
        };
        let head = ChainReader::new(engine.store.snapshot()?).head()?;
        engine.catch_up(head.number)?;
        Ok(engine)
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T> {
        parsed(method, self.client.ask(method, params)?)
    }

    fn place(&self, tag: &str) -> Result<Option<Place>> {
        self.ask("eth_getBlockByNumber", json!([tag, false]))
    }

    fn give(&self, block: &Block) -> Result<PayloadStatus> {
        let mut request = new_payload_request(0, block);
        let params = request["params"].take();
        let status: Status = self.ask("engine_newPayloadV4", params)?;
        status.read()
    }

    fn update(&self, state: ForkChoice, attributes: Option<Attributes>) -> Result<Option<B64>> {
        let state = json!({
            "headBlockHash": state.head,
            "safeBlockHash": state.safe,
            "finalizedBlockHash": state.finalized,
        });
        let params = json!([state, attributes]);
        let updated: Updated = self.ask("engine_forkchoiceUpdatedV3", params)?;
        match updated.payload_status.read()? {
            PayloadStatus::Valid => Ok(updated.payload_id),
            status => Err(Error::Execution(format!(
                "{status:?} is its answer to a head that is valid here"
            ))),
        }
    }

    /// Gives the client our blocks up to `number`, from the last one that it shares with us on.
    fn catch_up(&self, number: u64) -> Result<()> {
        let reader = ChainReader::new(self.store.snapshot()?);
        let missing = |n: u64| Error::corrupt("blocks", format_args!("block {n} is missing"));
        let theirs = self.place("latest")?;
        let mut shared = theirs.map_or(0, |place| place.number.to::<u64>().min(number));
        loop {
            let ours = reader.header(shared)?.ok_or_else(|| missing(shared))?;
            let theirs = self.place(&format!("0x{shared:x}"))?;
            if theirs.is_some_and(|place| place.hash == ours.hash()) {
                break;
            }
            shared = shared.checked_sub(1).ok_or_else(|| {
                Error::Execution(format!("it is of another chain than {}", ours.hash()))
            })?;
        }
        for next in shared + 1..=number {
            let block = reader.block(next)?.ok_or_else(|| missing(next))?;
            let status = self.give(&block)?;
            if status != PayloadStatus::Valid {
                return Err(Error::Execution(format!(
                    "{status:?} is its answer to block {next}, which is valid here"
                )));
            }
            self.update(ForkChoice::head_only(block.hash()), None)?;
        }
        Ok(())
    }

    /// Lets the client make the block, too.
    fn made_by_both(&self, block: Arc<Block>) -> Result<Arc<Block>> {
        let header = block.header.inner();
        let attributes = attributes_of(&self.spec, &block)?;
        let parent = ForkChoice::head_only(header.parent_hash);
        let id = self
            .update(parent, Some(attributes))?
            .ok_or_else(|| Error::Execution("no payload id for attributes".into()))?;
        let method = match self.spec.is_karst(header.timestamp) {
            true => "engine_getPayloadV5",
            false => "engine_getPayloadV4",
        };
        let built: Built = self.ask(method, json!([id]))?;
        let theirs = built.execution_payload.block_hash;
        if theirs != block.hash() {
            return Err(Error::Execution(format!(
                "block {} is {} here and {theirs} there",
                header.number,
                block.hash()
            )));
        }
        Ok(block)
    }
}

/// The attributes from which exactly this block is made.
fn attributes_of(spec: &ChainSpec, block: &Block) -> Result<Attributes> {
    let header: &Header = block.header.inner();
    let (elasticity, denominator, floor) = spec.fee_parameters(header)?;
    let params = u64::from(denominator) << 32 | u64::from(elasticity);
    Ok(Attributes {
        timestamp: U64::from(header.timestamp),
        prev_randao: header.mix_hash,
        suggested_fee_recipient: header.beneficiary,
        withdrawals: Vec::new(),
        parent_beacon_block_root: header.parent_beacon_block_root,
        transactions: block
            .transactions
            .iter()
            .map(|tx| tx.encoded.clone())
            .collect(),
        no_tx_pool: true,
        gas_limit: Some(U64::from(header.gas_limit)),
        eip_1559_params: Some(B64::from(params)),
        min_base_fee: spec.is_jovian(header.timestamp).then_some(floor),
    })
}

impl Engine for ExternalEngine {
    fn fork_choice_updated(
        &self,
        state: ForkChoice,
        attributes: Option<PayloadAttributes>,
    ) -> Result<ForkChoiceOutcome> {
        let outcome = self.own.fork_choice_updated(state, attributes)?;
        if outcome.status == PayloadStatus::Valid {
            self.update(state, None)?;
        }
        Ok(outcome)
    }

    fn get_payload(&self, id: PayloadId) -> Result<Arc<Block>> {
        self.made_by_both(self.own.get_payload(id)?)
    }

    fn build(
        &self,
        parent: B256,
        attributes: &PayloadAttributes,
        candidates: &mut dyn Candidates,
    ) -> Result<Arc<Block>> {
        self.made_by_both(self.own.build(parent, attributes, candidates)?)
    }

    fn new_payload(&self, block: Arc<Block>) -> Result<PayloadStatus> {
        let ours = self.own.new_payload(Arc::clone(&block))?;
        let mut theirs = self.give(&block)?;
        if theirs == PayloadStatus::Syncing && ours == PayloadStatus::Valid {
            self.catch_up(block.number().saturating_sub(1))?;
            theirs = self.give(&block)?;
        }
        match (&ours, &theirs) {
            (PayloadStatus::Valid, PayloadStatus::Invalid { reason })
            | (PayloadStatus::Invalid { reason }, PayloadStatus::Valid) => {
                Err(Error::Execution(format!(
                    "block {} is {ours:?} here and {theirs:?} there: {reason}",
                    block.hash()
                )))
            }
            _ => Ok(ours),
        }
    }
}
