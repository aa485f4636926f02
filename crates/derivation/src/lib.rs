//! Blocks to batches and back: the batcher's channels, and the pipeline that derives the layer 2
//! from the layer 1.
//!
//! ```text
//! blocks -> ChannelOut -> frames -> inbox of the layer 1, or behind a commitment in it
//!                                            |
//! Attributes <- Pipeline <- batches <- channels
//! ```
//!
//! The hard choice in here is to own the pipeline. It is synchronous: the sources ([`L1`],
//! [`DataAvailability`], [`L2`]) are plain traits, an error leaves every stage where it was, and the
//! same step can be tried again without losing a batch. It is for chains on which every fork up to
//! Isthmus is active from genesis on (and Jovian, if at all), so there is one set of rules, that
//! of Holocene, and one activation block, that of Karst, whose upgrade transactions are given
//! ([`RollupConfig::with_karst_upgrade`]). What the layer 1 and the batcher say is checked where it
//! comes in: headers, transactions and receipts by hash, and foreign bytes by parsers that reserve
//! no memory that the input does not back. The price is that nobody else runs this code; so the
//! tests let kona's pipeline read the same channels and compare every block.
//!
//! Sequencer and verifier build attributes by the same function ([`AttributesBuilder`],
//! [`Pipeline`]), which is why they agree.
//!
//! Nothing here does I/O, reads a clock, or draws at random, and all that is read can come from preimages
//! alone ([`oracle`]). Without the feature `std` there is all but
//! [`ChannelOut`], for a fault-proof machine; `cargo xtask test --only bare` compiles it for one.
//!
//! Deliberately absent: rules before Holocene, older activation blocks, forks after Karst (a chain
//! that reaches one stops with [`Error::UnknownFork`]), KZG proofs of blobs (see [`L1::blobs`]).
//!
//! # Example
//!
//! ```
//! use openledger_derivation::{
//!     BlockData, BlockId, ChannelLimits, ChannelOut, Commitments, Parameters, RollupConfig,
//! };
//!
//! let config = RollupConfig::new(&Parameters {
//!     l1_chain_id: 1,
//!     l2_chain_id: 10,
//!     l1_genesis: BlockId::default(),
//!     l2_genesis: BlockId::default(),
//!     l2_time: 0,
//!     system_config: Default::default(),
//!     block_time: 2,
//!     seq_window_size: 3600,
//!     batch_inbox: Default::default(),
//!     deposit_contract: Default::default(),
//!     system_config_contract: Default::default(),
//!     alt_da: Commitments::Generic,
//! })?;
//! let mut channel = ChannelOut::new(config, ChannelLimits::default(), [7; 16]);
//! channel.add_block(&BlockData {
//!     parent_hash: Default::default(),
//!     timestamp: 2,
//!     l1_origin: BlockId::default(),
//!     sequence_number: 1,
//!     transactions: &[],
//! })?;
//! let channel = channel.close()?;
//! assert_eq!((channel.frames.len(), channel.blocks), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(
    not(feature = "std"),
    allow(
        dead_code,
        reason = "the halves of the formats that only the batcher writes"
    )
)]

extern crate alloc;

mod attributes;
mod batch;
mod blob;
mod challenge;
mod channel;
#[cfg(feature = "std")]
mod channel_out;
mod config;
mod decompress;
mod deposit;
mod error;
mod frame;
mod inbox;
mod inspect;
mod l1;
mod l1_info;
pub mod oracle;
mod pipeline;
mod rlp;
mod system;
mod types;
mod upgrade;

pub use attributes::{AttributesBuilder, OriginChoice};
pub use blob::{MAX_BLOB_DATA, encode_blob};
pub use challenge::MAX_SHOWN_BYTES;
#[cfg(feature = "std")]
pub use channel_out::{
    BlockData, ChannelError, ChannelLimits, ChannelOut, ClosedChannel, inbox_commitment,
    inbox_frames,
};
pub use config::{
    AltDa, CHANNEL_TIMEOUT, Challenging, Commitments, MAX_RLP_BYTES_PER_CHANNEL,
    MAX_SEQUENCER_DRIFT, Parameters, RollupConfig,
};
pub use deposit::{DEPOSIT_TOPIC, DEPOSIT_TYPE};
pub use error::{DaError, Error, Next, Result, SourceError};
pub use frame::{ChannelId, FRAME_OVERHEAD, MAX_FRAME_DATA};
pub use inbox::{COMMITMENT_VERSION, DataAvailability, FRAMES_VERSION};
pub use inspect::{BatchedBlock, blocks_in_batch, blocks_in_frames};
pub use l1::L1;
pub use pipeline::{L2, L2Block, Pipeline, Step};
pub use system::{
    CONFIG_UPDATE_TOPIC, ConfigUpdate, DEFAULT_DA_FOOTPRINT_GAS_SCALAR, SystemConfig,
};
pub use types::{Attributes, BlockId, Checkpoint, FEE_RECIPIENT, L1Block, L2Head};
