//! Blocks as derivation names them.

use crate::system::SystemConfig;
use alloc::vec::Vec;
use alloy_primitives::{Address, B64, B256, Bytes, address};
use serde::{Deserialize, Serialize};

/// Receiver of priority fees on every block (`SequencerFeeVault` predeploy).
pub const FEE_RECIPIENT: Address = address!("0x4200000000000000000000000000000000000011");

/// Number and hash of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// Height.
    pub number: u64,
    /// Hash of the header.
    pub hash: B256,
}

/// A layer 1 block by what derivation compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct L1Block {
    /// Height.
    pub number: u64,
    /// Hash of the header.
    pub hash: B256,
    /// Hash of the block below.
    pub parent_hash: B256,
    /// Seconds since the epoch.
    pub timestamp: u64,
}

impl L1Block {
    /// Its number and hash.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        BlockId {
            number: self.number,
            hash: self.hash,
        }
    }
}

/// Where a pipeline stands between two L1 blocks: what a caller keeps, so that a later pipeline goes
/// on there. See [`crate::Pipeline::checkpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The L1 block up to and with which everything is derived.
    pub l1: BlockId,
    /// The head after it: all that comes out of the layer 1 up to there.
    pub safe: BlockId,
    /// The L1 block with the first frame of the channel that was not complete at the end of `l1`;
    /// the one after `l1` if there was none. What lies below is not needed again.
    pub read_from: u64,
}

/// A layer 2 block with all of it that its children depend on, the system config included.
///
/// Made by [`crate::RollupConfig::head_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2Head {
    /// Height.
    pub number: u64,
    /// Hash of the header.
    pub hash: B256,
    /// Hash of the block below.
    pub parent_hash: B256,
    /// Seconds since the epoch.
    pub timestamp: u64,
    /// The layer 1 block whose values and deposits it carries (its epoch).
    pub l1_origin: BlockId,
    /// Distance to the first block of the epoch.
    pub sequence_number: u64,
    /// The system config in force at the block.
    pub system_config: SystemConfig,
}

impl L2Head {
    /// Its number and hash.
    #[must_use]
    pub const fn id(&self) -> BlockId {
        BlockId {
            number: self.number,
            hash: self.hash,
        }
    }
}

/// What one layer 2 block is made of: the payload attributes that
/// `engine_forkchoiceUpdatedV3` takes, and where they come from.
///
/// Spec: derivation, "Building individual payload attributes".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// The block to build on.
    pub parent: L2Head,
    /// Parent's time and one block time.
    pub timestamp: u64,
    /// The L1 origin's.
    pub prev_randao: B256,
    /// [`FEE_RECIPIENT`].
    pub fee_recipient: Address,
    /// The L1 origin's (EIP-4788); zero when it has none.
    pub parent_beacon_block_root: B256,
    /// EIP-2718 bytes: the L1 attributes deposit, user deposits at the start of an epoch, then the
    /// transactions of the batch.
    pub transactions: Vec<Bytes>,
    /// Whether nothing else may go into the block.
    pub no_tx_pool: bool,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// Denominator and elasticity as 2 x u32 (Holocene); zero stands for the chain's own.
    pub eip_1559_params: B64,
    /// Minimum base fee in wei per gas, from Jovian on.
    pub min_base_fee: Option<u64>,
    /// The epoch.
    pub l1_origin: BlockId,
    /// Place in the epoch.
    pub sequence_number: u64,
    /// The layer 1 block whose data completed the batch; the origin itself when a sequencer asks.
    pub derived_from: BlockId,
    /// Whether no block of the same span batch follows.
    pub is_last_in_span: bool,
}

impl Attributes {
    /// The same block without the transactions of the batch, for when the engine finds the
    /// block invalid.
    ///
    /// Spec: Holocene derivation, "Engine queue": after it, [`crate::Pipeline::flush_channel`].
    #[must_use]
    pub fn deposits_only(&self) -> Self {
        let mut copy = self.clone();
        copy.transactions
            .retain(|tx| tx.first() == Some(&crate::deposit::DEPOSIT_TYPE));
        copy.no_tx_pool = true;
        copy.is_last_in_span = true;
        copy
    }
}
