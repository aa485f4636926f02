//! The execution engine behind the shape of the Engine API.
//!
//! Whoever drives the chain (the sequencer, derivation) speaks only this trait. Behind it is the
//! engine in this process, or that one together with another client over the Engine API.

mod embedded;
mod external;
pub mod payload;

pub use embedded::EmbeddedEngine;
pub use external::{EngineClient, ExternalEngine};
pub use payload::new_payload_request;

use crate::{
    block::{Block, ExecutedBlock},
    error::Result,
    exec::{BlockInputs, Candidates},
    spec::ChainSpec,
};
use alloy_primitives::{Address, B64, B256, Bytes, keccak256};
use std::{fmt, sync::Arc};

/// What a new block is built from (`OpPayloadAttributes`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadAttributes {
    /// Seconds since the epoch, above the parent's.
    pub timestamp: u64,
    /// The PREVRANDAO value.
    pub prev_randao: B256,
    /// Receiver of priority fees.
    pub suggested_fee_recipient: Address,
    /// EIP-4788 root.
    pub parent_beacon_block_root: Option<B256>,
    /// Encoded transactions that must come first: deposits derived from L1.
    pub transactions: Vec<Bytes>,
    /// Whether nothing from the mempool may follow.
    pub no_tx_pool: bool,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// Denominator and elasticity as 2 x u32 (Holocene); zero stands for the chain's own.
    pub eip_1559_params: Option<B64>,
    /// Minimum base fee, wei per gas (Jovian).
    pub min_base_fee: Option<u64>,
}

impl PayloadAttributes {
    /// What a block with these attributes is given besides its transactions.
    ///
    /// # Errors
    /// When they lack what the fork requires.
    pub fn inputs(&self, spec: &ChainSpec) -> Result<BlockInputs> {
        Ok(BlockInputs {
            timestamp: self.timestamp,
            beneficiary: self.suggested_fee_recipient,
            prev_randao: self.prev_randao,
            gas_limit: self.gas_limit,
            parent_beacon_block_root: self.parent_beacon_block_root,
            extra_data: spec.extra_data(self.timestamp, self.eip_1559_params, self.min_base_fee)?,
        })
    }
}

/// Names a payload being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadId(pub [u8; 8]);

impl fmt::Display for PayloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

impl PayloadId {
    /// The id of a payload: equal inputs, equal id.
    #[must_use]
    pub fn of(parent: B256, attributes: &PayloadAttributes) -> Self {
        let bytes = [parent.as_slice(), format!("{attributes:?}").as_bytes()].concat();
        let mut id = [0; 8];
        id.copy_from_slice(&keccak256(bytes)[..8]);
        // The first byte is the payload version, as in the Engine API.
        id[0] = 4;
        Self(id)
    }
}

/// The heads that the driver asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkChoice {
    /// The block to become the head.
    pub head: B256,
    /// The block derived from L1; zero leaves it as it is.
    pub safe: B256,
    /// The block that L1 has finalized; zero leaves it as it is.
    pub finalized: B256,
}

impl ForkChoice {
    /// Only the head; the other labels stay.
    #[must_use]
    pub const fn head_only(head: B256) -> Self {
        Self {
            head,
            safe: B256::ZERO,
            finalized: B256::ZERO,
        }
    }
}

/// What the engine thinks of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadStatus {
    /// Executed; the header is right.
    Valid,
    /// Breaks a rule.
    Invalid {
        /// Which one.
        reason: String,
    },
    /// An ancestor is missing.
    Syncing,
    /// Kept, but not executed, as it does not extend the head.
    Accepted,
}

/// Answer to a fork choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkChoiceOutcome {
    /// What became of the head asked for.
    pub status: PayloadStatus,
    /// The payload being built, when attributes were given and the head is valid.
    pub payload: Option<PayloadId>,
}

/// A change of the canonical chain.
#[derive(Debug, Clone)]
pub enum ChainEvent {
    /// A block became the head.
    Committed(Arc<ExecutedBlock>),
    /// The head was taken back.
    Reverted(Arc<ExecutedBlock>),
}

/// An execution engine.
pub trait Engine: fmt::Debug + Send + Sync {
    /// Makes a known block the head (`engine_forkchoiceUpdated`) and, with attributes, starts
    /// building on it.
    ///
    /// # Errors
    /// When the store fails, or the attributes or the labels are invalid.
    fn fork_choice_updated(
        &self,
        state: ForkChoice,
        attributes: Option<PayloadAttributes>,
    ) -> Result<ForkChoiceOutcome>;

    /// The payload built so far (`engine_getPayload`).
    ///
    /// # Errors
    /// When the id is unknown or a forced transaction is invalid.
    fn get_payload(&self, id: PayloadId) -> Result<Arc<Block>>;

    /// Builds a block on the head with the caller's candidates instead of the pool's, which may take
    /// as long as they do; others use the engine meanwhile. The block is as known afterwards as
    /// one from [`Engine::get_payload`].
    ///
    /// # Errors
    /// When `parent` is not the head, a forced transaction is invalid, or the store fails.
    fn build(
        &self,
        parent: B256,
        attributes: &PayloadAttributes,
        candidates: &mut dyn Candidates,
    ) -> Result<Arc<Block>>;

    /// Executes a block (`engine_newPayload`).
    ///
    /// # Errors
    /// When the store fails; a bad block is a status, not an error.
    fn new_payload(&self, block: Arc<Block>) -> Result<PayloadStatus>;
}
