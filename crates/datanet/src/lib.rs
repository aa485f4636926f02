//! Datanets: people's rows in, judged rows and Merkle roots out.
//!
//! [`ingest`] reads JSON lines and gives every line exactly one verdict: it becomes an accepted
//! [`Row`], or a [`Rejection`] with a machine-checkable [`Reason`] and the evidence for it. One bad
//! line never stops the rest.
//!
//! ```text
//! line -> JSON -> canonical text -> sensitive data -> quality -> earlier rows -> accepted
//!  |       |          |                 |               |            |
//!  too-long malformed control, bidi ..  e-mail, key ..  spam ..      exact, near, contained copy
//! ```
//!
//! Two rules shape everything here:
//!
//! - **The earliest wins.** Rows are judged in commit order against the rows accepted before
//!   them, so a copy can never displace its original. Published tools keep whichever copy their
//!   clustering happens to name (design notes: datatrove keeps the later one in a third of exact
//!   copies); where money follows, that is theft.
//! - **A verdict can be recomputed.** Integer thresholds, fixed seeds, no clock, no model: the same
//!   lines under the same [`Policy`] give the same verdicts for any number of threads. The policy's
//!   hash is part of the dataset version that goes on chain.
//!
//! Accepted rows become signed `Contribution` records, batches and dataset versions in
//! [`records`]. This crate holds no keys and sends no transactions: signing is the caller's
//! ([`records::Signer`]).
//!
//! ```
//! use openledger_datanet::{Mapping, Policy, ingest};
//!
//! let lines = br#"{"who": "ada-notes", "q": "What does a rollup post?", "a": "Batches of its transactions."}
//! {"who": "copy-cat", "q": "What does a rollup post?", "a": "batches of its  transactions."}
//! "#;
//! let mapping = Mapping::new(["q", "a"], "who");
//! let ingest = ingest(&lines[..], &mapping, &Policy::default(), &mut |_| {})?;
//! assert_eq!(ingest.accepted.len(), 1);
//! assert_eq!(ingest.rejected[0].reason.code(), "exact-duplicate");
//! # Ok::<(), openledger_datanet::Error>(())
//! ```

mod canonical;
mod duplicate;
mod features;
mod ingest;
pub mod keys;
mod letters;
mod policy;
mod quality;
mod reader;
mod reason;
pub mod records;
mod sensitive;

pub use canonical::{Flaw, canonical};
pub use ingest::{Ingest, Ledger, Progress, Row, ingest, ingest_file};
pub use policy::Policy;
pub use reader::Mapping;
pub use reason::{Evidence, Reason, Rejection};

use std::path::PathBuf;

/// What stops a whole ingest or a record; a bad line is a [`Rejection`] instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Reading failed part-way.
    #[error("cannot read beyond line {line}")]
    Read {
        /// Lines read before.
        line: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A column mapping that cannot work.
    #[error("column mapping: {0}")]
    Mapping(&'static str),
    /// A Datanet holds at most 2^32 - 1 rows.
    #[error("more than 4294967295 rows")]
    TooManyRows,
    /// Verdicts that were made against another state of the ledger.
    #[error(
        "these verdicts were made when the datanet had {expected} rows, it has {found} now; judge the lines again"
    )]
    Stale {
        /// Rows that the verdicts assume.
        expected: u32,
        /// Rows in the ledger.
        found: u32,
    },
    /// A dev key was asked for on a network with value.
    #[error("dev keys exist on the dev chain ({dev}) only, not on chain {chain}")]
    NotDevChain {
        /// The dev chain's id.
        dev: u64,
        /// The chain asked for.
        chain: u64,
    },
    /// The caller's signer failed.
    #[error("cannot sign for contributor {contributor}")]
    Sign {
        /// Contributor name.
        contributor: String,
        /// The signer's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two leaves that are no duplicate of each other on chain.
    #[error("no duplicate to challenge: {0}")]
    NoDuplicate(&'static str),
    /// A cluster or leaf index that does not fit its dataset.
    #[error("{what} {index} is outside the {len} there are")]
    OutOfRange {
        /// What the index names.
        what: &'static str,
        /// The index.
        index: u64,
        /// How many there are.
        len: u64,
    },
}
