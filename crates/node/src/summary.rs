//! What one run of the loop came to: the object that `openledger dev --json` prints.

use std::collections::BTreeMap;

use openledger_primitives::{B256, Wei};
use serde::{Deserialize, Serialize, Serializer};

/// The whole summary. Its field names are a contract with whoever parses it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Rows in, judged.
    pub contributions: Contributions,
    /// Distinct contributors with an accepted row.
    pub contributors: u64,
    /// What was tuned.
    pub adapter: AdapterSummary,
    /// Completions answered in the loop.
    pub inferences: u64,
    /// Whose data shaped them.
    pub attribution: AttributionSummary,
    /// The epoch's money.
    pub settlement: SettlementSummary,
    /// The chain when the loop ended.
    pub chain: ChainSummary,
    /// Wall seconds by stage; a resumed stage keeps the time it took when it ran.
    pub seconds: BTreeMap<String, f64>,
    /// Where the node listens.
    pub urls: Urls,
    /// What only the dev network offers.
    pub dev: DevAccess,
}

/// Rows in, judged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Contributions {
    /// Rows that count.
    pub accepted: u64,
    /// Rows that do not.
    pub rejected: u64,
    /// Rejected rows by reason code.
    pub by_reason: BTreeMap<String, u64>,
}

/// What was tuned.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AdapterSummary {
    /// Model name in the API.
    pub id: String,
    /// Base model's name.
    pub base: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean training loss of the first step, nats a token.
    pub loss_first: f64,
    /// Smoothed training loss after the last step, nats a token.
    pub loss_last: f64,
    /// Evaluation loss before tuning, nats a token.
    pub eval_before: f64,
    /// Evaluation loss after tuning, nats a token.
    pub eval_after: f64,
    /// Digest of the Adapter record.
    pub digest: B256,
}

/// Whose data shaped the answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AttributionSummary {
    /// Admissible spans found.
    pub spans: u64,
    /// Gradient scores computed: rows times completions.
    pub rows_scored: u64,
    /// Clusters that earned something.
    pub clusters_paid: u64,
}

/// The epoch's money.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SettlementSummary {
    /// Epoch number.
    pub epoch: u64,
    /// Fees taken from payers.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub fees_wei: Wei,
    /// Where they went; the parts sum to `fees_wei`.
    pub paid_wei: PaidWei,
    /// Claims paid by the contract.
    pub claims: u64,
    /// Whether the chain's own numbers balance: deposits = fees + free, fees = claimed + held.
    pub conserved: bool,
}

/// Fees by receiver, in wei as JSON numbers. On the dev network's prices they stay below 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidWei {
    /// Contributors, through spans and gradients.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub contributors: Wei,
    /// Operator that served.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub operator: Wei,
    /// Owner of the adapter.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub model_owner: Wei,
    /// Stakers.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub stakers: Wei,
    /// Treasury, with the rounding dust.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub treasury: Wei,
    /// The Datanet's commons: what is not attributed.
    #[serde(serialize_with = "number", deserialize_with = "from_number")]
    pub commons: Wei,
}

/// The chain when the loop ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChainSummary {
    /// Chain id.
    pub id: u64,
    /// Head block.
    pub head: u64,
    /// Transactions since genesis.
    pub txs: u64,
    /// Gas used since genesis.
    pub gas_used: u64,
}

/// Where the node listens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Urls {
    /// Ethereum JSON-RPC.
    pub rpc: String,
    /// JSON-RPC of the layer 1.
    #[serde(default)]
    pub l1: String,
    /// Data availability server.
    #[serde(default)]
    pub da: String,
    /// API and pages.
    pub http: String,
}

/// What only the dev network offers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DevAccess {
    /// API key bound to a funded dev payer.
    pub api_key: String,
}

fn number<S: Serializer>(wei: &Wei, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(wei.get())
}

fn from_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Wei, D::Error> {
    u128::deserialize(deserializer).map(Wei::new)
}
