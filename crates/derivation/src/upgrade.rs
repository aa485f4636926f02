//! Upgrade transactions: what the first block of a fork has besides the L1 attributes and the
//! deposits of users.
//!
//! Spec: "Karst: Derivation", "Activation Block Rules". The transactions are no part of the rules
//! but of a bundle, a JSON file: Optimism's replaces the predeploys that it made by newer ones, and
//! a chain with predeploys of its own has its own bundle, which may be empty.

use crate::{
    deposit::{Deposit, Source},
    error::{Error, Result},
};
use alloc::{format, string::String, string::ToString, vec::Vec};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::Deserialize;

/// The transactions of a bundle and their gas, which the block gets in addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade {
    /// EIP-2718 bytes.
    pub(crate) transactions: Vec<Bytes>,
    pub(crate) gas: u64,
}

#[derive(Deserialize)]
struct Bundle {
    transactions: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    intent: String,
    from: Address,
    /// Null creates a contract.
    to: Option<Address>,
    data: Bytes,
    gas_limit: u64,
}

impl Upgrade {
    /// Reads the bundle of a fork. A transaction is known by what it is for ("upgrade-deposited"
    /// source hashes), so no two are the same.
    pub(crate) fn from_json(fork: &str, json: &str) -> Result<Self> {
        let bad =
            |reason: String| Error::Config(format!("upgrade transactions of {fork}: {reason}"));
        let bundle: Bundle = serde_json::from_str(json).map_err(|e| bad(e.to_string()))?;
        let mut transactions = Vec::with_capacity(bundle.transactions.len());
        let mut gas = 0u64;
        for (index, entry) in bundle.transactions.into_iter().enumerate() {
            if entry.intent.is_empty() {
                return Err(bad(format!(
                    "transaction {index} does not say what it is for"
                )));
            }
            gas = gas
                .checked_add(entry.gas_limit)
                .ok_or_else(|| bad("more gas than can be counted".into()))?;
            let intent = format!("{fork} {index}: {}", entry.intent);
            let deposit = Deposit {
                source_hash: Source::Upgrade(&intent).hash(B256::ZERO),
                from: entry.from,
                to: entry.to,
                mint: U256::ZERO,
                value: U256::ZERO,
                gas: entry.gas_limit,
                data: entry.data,
            };
            transactions.push(deposit.encode());
        }
        Ok(Self { transactions, gas })
    }
}
