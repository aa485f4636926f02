//! Why an epoch cannot be closed: always a fact about the input.

use openledger_primitives::{Address, AmountError, B256, Wei};

/// Why the rules refuse an input. Nothing is ever paid from an input that breaks one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An amount left the range that 128 bits hold.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// A count or weighted sum left its range.
    #[error("{what} is out of range")]
    OutOfRange {
        /// What was computed.
        what: &'static str,
    },
    /// The parameters do not share out exactly the whole fee.
    #[error("fee shares sum to {0} basis points, not to 10,000")]
    SharesNotWhole(u32),
    /// A receipt was made for another chain.
    #[error("receipt {receipt} is for chain {found}, this epoch settles chain {expected}")]
    WrongChain {
        /// Digest of the receipt.
        receipt: B256,
        /// The chain that this epoch settles.
        expected: u64,
        /// The chain in the receipt.
        found: u64,
    },
    /// A receipt's answer was not computed in the exact mode, so nobody could check its price.
    #[error("receipt {receipt} names arithmetic mode {found}; only exact answers (0) are settled")]
    NotExact {
        /// Digest of the receipt.
        receipt: B256,
        /// The mode in the receipt.
        found: u8,
    },
    /// A receipt stands twice in the epoch.
    #[error("receipt {0} stands twice in the epoch")]
    DuplicateReceipt(B256),
    /// Two receipts of one operator share a sequence number.
    #[error("operator {operator} signed two receipts with sequence number {sequence}")]
    Equivocation {
        /// The operator.
        operator: Address,
        /// The number used twice.
        sequence: u64,
    },
    /// A model stands twice in the input.
    #[error("adapter {0} stands twice in the epoch's models")]
    DuplicateModel(B256),
    /// A receipt names an adapter whose rows and prices are not in the input.
    #[error("receipt {receipt} names adapter {adapter}, which is not among the epoch's models")]
    UnknownModel {
        /// Digest of the receipt.
        receipt: B256,
        /// The adapter that it names.
        adapter: B256,
    },
    /// A receipt charges another fee than its tokens and the frozen prices give.
    #[error("receipt {receipt} charges {charged} wei, its tokens cost {due} wei")]
    WrongFee {
        /// Digest of the receipt.
        receipt: B256,
        /// Fee in the receipt.
        charged: Wei,
        /// Fee by the prices.
        due: Wei,
    },
    /// A list beside a receipt has another length than the receipt or the model says.
    #[error("receipt {receipt}: {found} {what}, expected {expected}")]
    Length {
        /// Digest of the receipt.
        receipt: B256,
        /// Which list.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// The surprisals are not those that the receipt commits to.
    #[error("receipt {receipt} commits to surprisals {expected}, the ones given hash to {found}")]
    WrongSurprisals {
        /// Digest of the receipt.
        receipt: B256,
        /// Digest in the receipt.
        expected: B256,
        /// Digest of the surprisals given.
        found: B256,
    },
    /// A cover names a row that the model does not have.
    #[error("receipt {receipt} is covered by row {row}, adapter {adapter} has {rows} rows")]
    UnknownRow {
        /// Digest of the receipt.
        receipt: B256,
        /// The adapter.
        adapter: B256,
        /// The row named.
        row: u32,
        /// Rows of the adapter.
        rows: usize,
    },
    /// A row's cluster is not headed by an earlier row that heads itself.
    #[error("adapter {adapter}: row {row} names cluster {cluster}, which is not an earlier head")]
    BadCluster {
        /// The adapter.
        adapter: B256,
        /// The row.
        row: usize,
        /// Its cluster.
        cluster: u32,
    },
    /// Somebody who earns has no wallet.
    #[error("{role} of adapter {adapter} would be paid to the zero address")]
    NoWallet {
        /// The role paid.
        role: &'static str,
        /// The adapter.
        adapter: B256,
    },
    /// A payer would be debited more than was signed for.
    #[error("payer {payer} signed for {signed} wei in all, the epoch would bring it to {debited}")]
    BeyondVoucher {
        /// The payer.
        payer: Address,
        /// Highest `maxCumulative` that the payer signed.
        signed: Wei,
        /// Cumulative debit after the epoch.
        debited: Wei,
    },
    /// The previous epoch's two sides differ, so this one cannot be built on it.
    #[error("cumulative debits of {debits} wei do not equal cumulative credits of {credits} wei")]
    Unbalanced {
        /// Sum over the payers.
        debits: Wei,
        /// Sum over the earners.
        credits: Wei,
    },
}
