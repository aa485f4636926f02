//! What can go wrong, sorted by what to do next.

use crate::types::{BlockId, L2Head};
use alloc::{boxed::Box, string::String};
use alloy_primitives::{B256, Bytes};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a source (layer 1, layer 2) gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No answer now; the same question later may have one.
    #[error("source unavailable: {0}")]
    Unavailable(String),
    /// The source answered that it does not know this hash. After a reorg of the layer 1 that is
    /// what it says about a block that was replaced.
    #[error("not found")]
    NotFound,
}

/// Why the data behind a commitment was not returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DaError {
    /// Not there now. Derivation waits, since going on without it could be a different chain.
    #[error("data unavailable: {0}")]
    Unavailable(String),
    /// The commitment is no valid one and never becomes it (an invalid or stale certificate, an
    /// undecodable blob): derivation goes on as if the transaction were not there.
    #[error("invalid commitment: {0}")]
    Invalid(String),
}

/// What the caller does about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Call again later: nothing was lost, the pipeline stands where it stood.
    Retry,
    /// The layer 1 is not, or does not say, what the layer 2 was built on:
    /// [`crate::Pipeline::reset`].
    Reset,
    /// Stop. No repetition changes it; a person or a newer program must.
    Stop,
}

/// An error of derivation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The layer 1 gave no answer.
    #[error("layer 1, {what}: {source}")]
    L1 {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        #[source]
        source: SourceError,
    },
    /// The layer 2 gave no answer.
    #[error("layer 2 block {number}: {source}")]
    L2 {
        /// The block asked for.
        number: u64,
        /// Its answer.
        #[source]
        source: SourceError,
    },
    /// The layer 1 endpoint answered with something else than what the hash stands for.
    #[error("layer 1 lied about {what}: asked for {asked}, got {got}")]
    Forged {
        /// Header, transactions, receipts or blob.
        what: &'static str,
        /// The hash or root that was asked for.
        asked: B256,
        /// That of the answer.
        got: B256,
    },
    /// The layer 1 endpoint answered with bytes that have no meaning.
    #[error("layer 1 sent a malformed {what}")]
    Malformed {
        /// Header or receipt.
        what: &'static str,
    },
    /// Data behind a commitment is missing: the chain stalls until it is there.
    #[error("data behind commitment {commitment} in layer 1 block {}: {reason}", block.number)]
    DataUnavailable {
        /// The layer 1 block that holds the commitment.
        block: BlockId,
        /// The commitment, its type byte included.
        commitment: Bytes,
        /// What the data availability layer said.
        reason: String,
    },
    /// An L1 origin is not on the layer 1 as it is now.
    #[error("origin {}:{} is not on the layer 1 ({:?} is)", origin.number, origin.hash, canonical)]
    Reorged {
        /// What was built on.
        origin: BlockId,
        /// What has its number now.
        canonical: Option<B256>,
    },
    /// Data that was derived from was demanded on the layer 1 and not shown there in time, so that no
    /// node may derive from it.
    #[error("data of {hash} in layer 1 block {block} was demanded and not shown in time")]
    NotShown {
        /// The layer 1 block with the commitment.
        block: u64,
        /// The commitment.
        hash: B256,
    },
    /// The origin asked for cannot follow the parent.
    #[error("origin {} after {} at L2 time {timestamp} (origin's {origin_timestamp})", origin.number, parent.number)]
    BadOrigin {
        /// Origin of the parent.
        parent: BlockId,
        /// Origin asked for.
        origin: BlockId,
        /// Time of the block to be built.
        timestamp: u64,
        /// Time of the origin.
        origin_timestamp: u64,
    },
    /// A log of the deposit contract that is no deposit. Deposits are never skipped.
    #[error("malformed deposit at log {index} of layer 1 block {block}: {reason}")]
    BadDeposit {
        /// The layer 1 block.
        block: B256,
        /// Index of the log in the block.
        index: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A log of the system config contract that cannot be read.
    #[error("malformed config update at log {index} of layer 1 block {block}: {reason}")]
    BadConfigUpdate {
        /// The layer 1 block.
        block: B256,
        /// Index of the log in the block.
        index: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A block that is no block of this layer 2.
    #[error("layer 2 block {number}: {reason}")]
    BadL2Block {
        /// Its number.
        number: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A safe head was given that the pipeline did not lead to.
    #[error("safe head is block {}, expected a child of {}", got.number, expected.number)]
    UnexpectedHead {
        /// The parent of the attributes given out last.
        expected: Box<L2Head>,
        /// What came instead.
        got: Box<L2Head>,
    },
    /// A block in a fork that this program does not know.
    #[error("L2 time {timestamp} is in fork `{fork}`, which this program does not know")]
    UnknownFork {
        /// The key in `rollup.json`.
        fork: String,
        /// Time of the block.
        timestamp: u64,
    },
    /// The first block of a fork, whose upgrade transactions were not given.
    #[error(
        "L2 time {timestamp} is that of the first block of {fork}: its upgrade transactions are \
         not known, see RollupConfig::with_karst_upgrade"
    )]
    UnknownUpgrade {
        /// The fork.
        fork: &'static str,
        /// Time of the block.
        timestamp: u64,
    },
    /// `rollup.json` cannot be read, or asks for what this program does not do.
    #[error("rollup config: {0}")]
    Config(String),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub const fn next(&self) -> Next {
        match self {
            Self::L1 {
                source: SourceError::NotFound,
                ..
            }
            | Self::Reorged { .. }
            | Self::NotShown { .. }
            | Self::BadOrigin { .. } => Next::Reset,
            Self::L1 { .. }
            | Self::L2 { .. }
            | Self::Forged { .. }
            | Self::Malformed { .. }
            | Self::DataUnavailable { .. } => Next::Retry,
            Self::BadDeposit { .. }
            | Self::BadConfigUpdate { .. }
            | Self::BadL2Block { .. }
            | Self::UnexpectedHead { .. }
            | Self::UnknownFork { .. }
            | Self::UnknownUpgrade { .. }
            | Self::Config(_) => Next::Stop,
        }
    }
}
