//! Which training row did these words come from, and who wrote it first?
//!
//! An [`Index`] is a suffix array over the *tokens* of a Datanet's rows. It answers, for a
//! generated text, all **maximal spans**: the runs of tokens that also stand in some row and that
//! cannot be made longer on either side. Each span comes with how often it occurs and with the
//! **earliest** row that holds it, which is what Proof of Attribution pays for.
//!
//! Choices, and what they cost:
//!
//! - *Tokens, not bytes.* The unit that the model emits is the unit that is matched. It makes the
//!   array about 3.3 times smaller and faster to build than over bytes; the price is that the
//!   tokenizer is part of the claim, so an adapter's record names its digest.
//! - *Own 16-bit alphabet.* The ids that occur are renumbered in ascending order into `1..=65,535`
//!   (0 separates documents), so a vocabulary of any size fits 2 bytes a token as long as one
//!   index uses at most 65,535 different ids. Renumbering keeps the order, so the array is the
//!   same one that the ids themselves would give.
//! - *Documents in commit order.* Positions then order occurrences by priority, and "earliest
//!   owner" is the minimum of a slice of the suffix array: a small range-minimum table answers it.
//! - *Memory.* The index is read whole into memory: 2 + 4 bytes a token plus 0.1 for the minima.
//!
//! The array is built by `libsais` (induced sorting, linear time) in its generalised mode: each
//! separator is unique and smaller than every token, so a suffix ends with its document and equal
//! suffixes stand in document order.
//!
//! The [`proof`] module commits to text and array with one root and proves occurrences and absences
//! against it. Source: Liu et al., *Infini-gram* (2024) and `OLMoTrace` (2025) for suffix arrays
//! over training tokens; Papadopoulos et al., *Practical authenticated pattern matching* (VLDB
//! 2015) for the sandwich proof.
//!
//! ```
//! use openledger_suffix_index::Index;
//!
//! let rows: [&[u32]; 2] = [&[7, 8, 9, 10, 11], &[1, 8, 9, 10, 2]];
//! let index = Index::build(&rows, 32)?;
//! let spans = index.maximal_spans(&[5, 8, 9, 10, 11, 3], 3);
//! assert_eq!((spans[0].start, spans[0].len, spans[0].first_doc), (1, 4, 0));
//! assert_eq!(index.count(&[8, 9, 10]), 2);
//! # Ok::<(), openledger_suffix_index::Error>(())
//! ```

mod disk;
mod index;
mod minimum;
pub mod proof;
mod surprisal;

pub use index::{Index, Occurrence, Span};
pub use surprisal::log2_fixed;

use std::path::PathBuf;

/// What can go wrong when an index is built, saved, opened or proved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document holds an id that the vocabulary does not have.
    #[error(
        "document {document} holds token {token} at position {position}, but the vocabulary has {vocab} ids"
    )]
    TokenOutOfRange {
        /// Document number.
        document: usize,
        /// Position in the document.
        position: usize,
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab: u32,
    },
    /// More different ids than 16-bit codes.
    #[error(
        "{distinct} different tokens occur, an index holds at most 65535; split the rows over two indexes"
    )]
    AlphabetTooLarge {
        /// Different ids in the documents.
        distinct: usize,
    },
    /// More tokens than 31-bit positions.
    #[error(
        "{tokens} tokens and separators, an index holds at most 2147483647; split the rows over two indexes"
    )]
    TooLarge {
        /// Tokens and separators.
        tokens: usize,
    },
    /// The suffix sorter gave up.
    #[error("suffix sorting failed: {0}")]
    Sort(String),
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A file is not an index, is damaged, or has another version.
    #[error("{} is not a usable suffix index: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A proof was asked for something that is not so.
    #[error("cannot prove: {0}")]
    Unprovable(&'static str),
}
