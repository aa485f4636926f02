//! The crate's error type.

use alloc::string::{String, ToString};
use alloy_primitives::B256;
#[cfg(feature = "std")]
use std::path::PathBuf;

/// Everything that can go wrong inside the rollup, classified by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key-value store failed (disk full, I/O error, lock held by another process).
    #[error("database: {0}")]
    Database(String),
    /// The data directory cannot be created or opened.
    #[cfg(feature = "std")]
    #[error("data directory {path}: {source}")]
    DataDir {
        /// The directory that was asked for.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Stored bytes do not decode or do not hash to what their parent says.
    #[error("corrupt {what}: {detail}")]
    Corrupt {
        /// Kind of the stored object.
        what: &'static str,
        /// Key or reason.
        detail: String,
    },
    /// The data directory belongs to another chain.
    #[error(
        "data directory holds chain with genesis {found}, the configuration gives {expected}: \
         use another data directory or the genesis it was created with"
    )]
    GenesisMismatch {
        /// Genesis hash found on disk.
        found: B256,
        /// Genesis hash of the configuration.
        expected: B256,
    },
    /// The tables were written by another version of this program.
    #[error(
        "data directory holds tables of format {found}, this program reads format {expected}: \
         use another data directory, and derive the chain anew from its layer 1"
    )]
    Format {
        /// Format found on disk.
        found: u64,
        /// Format of this program.
        expected: u64,
    },
    /// The genesis description cannot be turned into a block.
    #[error("genesis: {0}")]
    Genesis(String),
    /// The block breaks a consensus rule.
    #[error("invalid block: {0}")]
    InvalidBlock(String),
    /// Payload attributes that no block can be built from.
    #[error("invalid payload attributes: {0}")]
    InvalidAttributes(String),
    /// A block, payload or state that is not known here.
    #[error("unknown {what} {id}")]
    Unknown {
        /// Kind of the object.
        what: &'static str,
        /// Hash, number or id.
        id: String,
    },
    /// State of that block is not kept.
    #[error("state of block {number} is not available, oldest is {oldest}")]
    StateUnavailable {
        /// The block asked for.
        number: u64,
        /// The oldest block whose state can be read.
        oldest: u64,
    },
    /// The EVM refused to run: the transaction is invalid at this state.
    #[error("{0}")]
    InvalidTransaction(String),
    /// A transaction was not admitted to the mempool.
    #[cfg(feature = "std")]
    #[error(transparent)]
    Pool(#[from] crate::pool::PoolError),
    /// The JSON-RPC server could not start.
    #[cfg(feature = "std")]
    #[error("json-rpc address {addr}: {reason}; choose another one or stop what listens there")]
    Bind {
        /// The address asked for.
        addr: std::net::SocketAddr,
        /// What the operating system said.
        reason: String,
    },
    /// The other execution client cannot be reached, refuses, or disagrees with this one.
    #[error("execution client: {0}")]
    Execution(String),
    /// L1 cannot be read now; what needed it is tried again.
    #[error("layer 1: {0}")]
    Layer1(String),
    /// The component was shut down.
    #[error("the chain is shutting down")]
    Closed,
}

impl revm::database_interface::DBErrorMarker for Error {}

impl Error {
    pub(crate) fn corrupt(what: &'static str, detail: impl core::fmt::Display) -> Self {
        Self::Corrupt {
            what,
            detail: detail.to_string(),
        }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;
