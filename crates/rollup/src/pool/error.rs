//! Why a transaction is refused, in geth's words.

use alloy_primitives::{Address, U256};

/// Reasons to refuse a transaction. The texts are those of geth, which clients match on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The same transaction is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// Signed for another chain, or not replay-protected.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// Chain id of the transaction.
        have: u64,
        /// Chain id of this chain.
        want: u64,
    },
    /// Signed without a chain id (before EIP-155).
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    /// A type that users may not send here: deposits and blobs.
    #[error("transaction type not supported")]
    Type,
    /// The nonce was used.
    #[error("nonce too low: address {address}, tx: {tx} state: {state}")]
    NonceTooLow {
        /// Sender.
        address: Address,
        /// Nonce of the transaction.
        tx: u64,
        /// Next nonce of the account.
        state: u64,
    },
    /// The nonce is too far ahead of the account.
    #[error("nonce too high: address {address}, tx: {tx} state: {state}")]
    NonceTooHigh {
        /// Sender.
        address: Address,
        /// Nonce of the transaction.
        tx: u64,
        /// Next nonce of the account.
        state: u64,
    },
    /// The account cannot pay for it and for its other pending transactions.
    #[error(
        "insufficient funds for gas * price + value: address {address} have {have} want {want}"
    )]
    InsufficientFunds {
        /// Sender.
        address: Address,
        /// Balance, wei.
        have: U256,
        /// What this and the pending transactions may cost, wei.
        want: U256,
    },
    /// The gas limit does not cover the transaction's base cost.
    #[error("intrinsic gas too low: gas {have}, minimum needed {want}")]
    IntrinsicGas {
        /// Gas limit.
        have: u64,
        /// Gas needed before execution.
        want: u64,
    },
    /// The gas limit does not cover the calldata floor of EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {have}, minimum needed {want}")]
    FloorGas {
        /// Gas limit.
        have: u64,
        /// Gas needed.
        want: u64,
    },
    /// More gas than a block has.
    #[error("exceeds block gas limit")]
    GasLimit,
    /// More gas than a transaction may have (EIP-7825).
    #[error("transaction gas limit too high (cap: {cap}, tx: {have})")]
    GasCap {
        /// Gas limit of the transaction.
        have: u64,
        /// The most there may be.
        cap: u64,
    },
    /// Priority fee above the fee cap.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    /// Pays less than the pool or a replaced transaction asks for.
    #[error("replacement transaction underpriced")]
    Underpriced,
    /// Priority fee below the minimum.
    #[error("transaction underpriced: tip needed {want}, tip permitted {have}")]
    TipTooLow {
        /// Priority fee, wei per gas.
        have: u128,
        /// Minimum, wei per gas.
        want: u128,
    },
    /// Too large to keep.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized {
        /// Encoded size, bytes.
        size: usize,
        /// Limit, bytes.
        limit: usize,
    },
    /// Init code above EIP-3860's limit.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitCode {
        /// Size, bytes.
        size: usize,
        /// Limit, bytes.
        limit: usize,
    },
    /// EIP-7702 transaction without authorisations or as a creation.
    #[error("set code tx must have at least one authorization tuple")]
    EmptyAuthorizations,
    /// The sender has code (EIP-3607).
    #[error("sender not an eoa: address {0}")]
    SenderHasCode(Address),
    /// The sender has too many transactions in the pool.
    #[error("account limit exceeded: {limit} pending transactions")]
    SenderLimit {
        /// Limit.
        limit: usize,
    },
    /// The pool is full of better-paying transactions.
    #[error("txpool is full")]
    Full,
    /// The state could not be read.
    #[error("state not readable: {0}")]
    State(String),
}
