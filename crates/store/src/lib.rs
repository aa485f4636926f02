//! Where the network keeps what it must not lose: blobs by content, and a catalogue of records.
//!
//! Two stores with one promise, *what a write acknowledged survives `kill -9`*:
//!
//! - [`Blobs`] holds bytes under their keccak256. A blob appears whole or not at all (write to a
//!   temporary file, sync, rename, sync the directory), and writing it twice is writing it once.
//! - [`Catalogue`] holds small things under names: documents, the eight records, and append-only
//!   logs. A [`Catalogue::write`] is one transaction: a stage of the loop that moves several
//!   things forward moves all of them or none, so restarting a stage is always safe.
//!
//! A full disk costs what was being written and nothing else: blobs are named last, and the database
//! is opened again after a failed write ([`Reopening`], also under the chain's tables).
//!
//! The one hard decision, argued in docs/decisions/0001-catalogue-on-redb.md: the catalogue is an
//! embedded key-value store (redb, the engine that also holds the chain state), not an SQL
//! database. Nothing here needs a query planner; everything here needs transactions.
//!
//! ```
//! use openledger_store::{Blobs, Catalogue};
//!
//! let dir = tempfile::tempdir()?;
//! let blobs = Blobs::open(dir.path().join("blobs"))?;
//! let digest = blobs.put(b"a row of text")?;
//! assert_eq!(blobs.get(&digest)?.as_deref(), Some(&b"a row of text"[..]));
//!
//! let catalogue = Catalogue::open(&dir.path().join("catalogue.redb"))?;
//! catalogue.write(|tx| {
//!     tx.put("stage", "ingest", &"done")?;
//!     tx.append("receipts", &7u32)?;
//!     Ok(())
//! })?;
//! assert_eq!(catalogue.get::<String>("stage", "ingest")?.as_deref(), Some("done"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blobs;
mod catalogue;
mod files;
mod reopening;

use std::path::PathBuf;

pub use blobs::Blobs;
pub use catalogue::{Catalogue, Transaction};
pub use files::{read, write_atomic, write_atomic_with};
pub use reopening::Reopening;

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was attempted: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A stored blob no longer has the content its name says.
    #[error("blob {path} is corrupt: its content has digest {found}; delete it and fetch it again")]
    CorruptBlob {
        /// The file.
        path: PathBuf,
        /// Digest of what it holds.
        found: openledger_primitives::B256,
    },
    /// Another process holds the catalogue.
    #[error("{path} is in use by another openledger process; stop it or choose another --data-dir")]
    InUse {
        /// The catalogue's file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("catalogue: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A stored value is not of the expected shape.
    #[error("catalogue entry {collection}/{key} cannot be read: {source}")]
    Shape {
        /// Collection or log.
        collection: String,
        /// Key, or sequence number in a log.
        key: String,
        /// The parser's reason.
        #[source]
        source: serde_json::Error,
    },
    /// A stored record does not decode.
    #[error("record {digest} cannot be decoded: {reason}")]
    Record {
        /// Its digest.
        digest: openledger_primitives::B256,
        /// The decoder's reason.
        reason: String,
    },
    /// The caller's own reason to give up a transaction.
    #[error("{0}")]
    Aborted(String),
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
