//! The vocabulary of OpenLedger: amounts of OPEN, shares in basis points, Merkle trees and the
//! eight records that carry the system's whole data flow.
//!
//! ```text
//! Contribution -> DatasetVersion -> TrainingRun -> Adapter
//!     -> InferenceReceipt -> AttributionReport -> EpochSettlement -> Claim
//! ```
//!
//! The one hard decision here: **a record is defined once, as a Solidity struct** (the
//! [`records`] module, through `alloy`'s `sol!`). Its canonical bytes are its ABI encoding and its
//! digest is `keccak256` of them, so a contract can recompute every digest with one `abi.encode`,
//! and the EIP-712 hash that a wallet signs comes from the same definition. The price is that
//! field types are limited to what the ABI knows; nothing here needs more.
//!
//! This crate does no I/O, reads no clock, uses no float and holds no randomness: same input, same
//! bytes, on every machine.
//!
//! ```
//! use openledger_primitives::{Wei, Bps, merkle};
//!
//! let fee = Wei::new(1_000_003);
//! let contributors = Bps::new(4_000)?.of(fee)?;
//! assert_eq!(contributors, Wei::new(400_001));
//!
//! let tree = merkle::Tree::from_leaves(vec![merkle::leaf(b"a"), merkle::leaf(b"b")]);
//! assert!(merkle::verify(tree.root(), merkle::leaf(b"b"), 1, &tree.proof(1).unwrap()));
//! # Ok::<(), openledger_primitives::AmountError>(())
//! ```
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::as_conversions
)]

mod amount;
pub mod merkle;
mod mode;
pub mod records;

pub use alloy_primitives::{Address, B256, Bytes, Signature, U256, keccak256};
pub use amount::{AmountError, Bps, Wei};
pub use mode::{Mode, UnknownMode};
pub use records::Record;

/// Chain id of the dev network that `openledger dev` starts. Dev keys work on no other chain.
pub const DEV_CHAIN_ID: u64 = 901_337;

/// Version number written into every record; raised when a record's fields change meaning.
///
/// 2: `TrainingRun`, `Adapter` and `AttributionReport` name their arithmetic mode.
pub const RECORD_VERSION: u16 = 2;
