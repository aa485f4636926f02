//! What can go wrong, as facts.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model refused an example.
    #[error("row {row}: {source}")]
    Row {
        /// Position of the row.
        row: usize,
        /// What the model said.
        source: Box<openledger_model::Error>,
    },
    /// The model refused the query.
    #[error("query of {prompt} prompt and {output} output tokens: {source}")]
    Query {
        /// Prompt tokens.
        prompt: usize,
        /// Output tokens.
        output: usize,
        /// What the model said.
        source: Box<openledger_model::Error>,
    },
    /// The answer was not computed in the exact mode, so its scores could not be recomputed.
    #[error("the receipt names arithmetic mode {found}; only exact answers (0) are attributed")]
    NotExact {
        /// The mode in the receipt.
        found: u8,
    },
    /// Sketches were made for an adapter of another size.
    #[error("the sketches are for adapters of {expected} parameters, this one has {found}")]
    Parameters {
        /// Parameters that the sketches were fitted on.
        expected: usize,
        /// Parameters of the adapter given.
        found: usize,
    },
    /// Two sketches of different length.
    #[error("a sketch of {found} dimensions cannot be compared with rows of {expected}")]
    Dimensions {
        /// Dimensions of the rows.
        expected: usize,
        /// Dimensions of the query.
        found: usize,
    },
    /// The specification asks for something that cannot be.
    #[error("sketch specification: {0}")]
    Spec(&'static str),
    /// A list does not fit the output tokens.
    #[error("{found} surprisals for {expected} output tokens")]
    Surprisals {
        /// Output tokens.
        expected: usize,
        /// Surprisals given.
        found: usize,
    },
    /// The index and the sketches hold different rows.
    #[error("the index holds {index} rows, the sketches {sketches}; build both from the same rows")]
    RowCount {
        /// Documents in the index.
        index: usize,
        /// Rows in the sketches.
        sketches: usize,
    },
    /// A sketch file is damaged or has another version.
    #[error("{} is not a usable sketch file: {reason}; build it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] openledger_store::Error),
    /// Parameters that are out of range.
    #[error("protocol parameters: {0}")]
    Protocol(#[from] openledger_primitives::AmountError),
}
