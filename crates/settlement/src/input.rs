//! What an epoch is closed from.

use std::collections::BTreeMap;

use openledger_primitives::{
    Address, B256, Wei,
    records::{InferenceReceipt, Parameters},
};

use crate::{Cumulative, Error, Prices, Split, Threshold};

/// Everything that an epoch's settlement depends on.
#[derive(Clone, Debug)]
pub struct EpochInput {
    /// Chain that is settled.
    pub chain_id: u64,
    /// Epoch number, from 1.
    pub epoch: u64,
    /// Parameters in force.
    pub parameters: Parameters,
    /// How the models' floors move.
    pub threshold: Threshold,
    /// Lowest quality (LDS, millionths) at which a model's scores decide money.
    pub quality_floor_micro: i64,
    /// Wallet of the stakers' pool.
    pub stakers: Address,
    /// Wallet of the treasury.
    pub treasury: Address,
    /// Content root of the epoch's receipts and reports in the data-availability layer.
    pub da_ref: B256,
    /// The models that answered.
    pub models: Vec<Model>,
    /// The epoch's inferences, in any order.
    pub inferences: Vec<Inference>,
    /// Highest `maxCumulative` that each payer has signed for.
    pub signed: BTreeMap<Address, Wei>,
    /// Cumulative debits after the previous epoch.
    pub payers: Cumulative,
    /// Cumulative credits after the previous epoch.
    pub earners: Cumulative,
}

/// A model that answered: an adapter, or the base alone under the zero digest.
#[derive(Clone, Debug)]
pub struct Model {
    /// Digest of the adapter's record.
    pub adapter: B256,
    /// Wallet of the model owner.
    pub owner: Address,
    /// Wallet of the commons of its Datanet.
    pub commons: Address,
    /// Prices frozen with the adapter.
    pub prices: Prices,
    /// Split of its fees, frozen with the adapter.
    pub split: Split,
    /// The rows that it was tuned on, in training order; empty for the base alone.
    pub rows: Vec<Row>,
    /// The governed floor of its scores, units of 2^-20.
    pub floor: u32,
    /// What is known of the quality of its attribution.
    pub quality: Quality,
}

/// A training row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Wallet of the contributor.
    pub owner: Address,
    /// First-committed row of its near-duplicate cluster: itself, or an earlier row. Only that
    /// row's score counts and only its owner is paid.
    pub cluster: u32,
}

/// What the audit of a model's attribution has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Not audited yet: scores count until an audit says otherwise.
    Unaudited,
    /// Linear datamodeling score, millionths: correlation of predicted and retrained losses.
    Lds(i64),
}

/// One answer with what attribution found for it.
#[derive(Clone, Debug)]
pub struct Inference {
    /// The operator's receipt.
    pub receipt: InferenceReceipt,
    /// Digest of the attribution report.
    pub report: B256,
    /// Surprisal of each output token, milli-bits.
    pub surprisals: Vec<u32>,
    /// For each output token, the row of the earliest occurrence of the longest admissible span
    /// over it.
    pub cover: Vec<Option<u32>>,
    /// Score of each of the model's rows, units of 2^-20.
    pub scores: Vec<i32>,
    /// Scores of the model's decoy rows, units of 2^-20: the same rows in every inference.
    pub decoys: Vec<i32>,
}

impl Model {
    /// The rows that head a cluster, in order.
    ///
    /// # Errors
    /// [`Error::BadCluster`] if a row's cluster is not an earlier row that heads itself.
    pub(crate) fn heads(&self) -> Result<Vec<u32>, Error> {
        let mut heads = Vec::new();
        for (row, &Row { cluster, .. }) in self.rows.iter().enumerate() {
            let bad = Error::BadCluster {
                adapter: self.adapter,
                row,
                cluster,
            };
            let head = usize::try_from(cluster).map_err(|_| bad.clone())?;
            if head == row {
                heads.push(cluster);
            } else if head > row || self.rows.get(head).is_none_or(|r| r.cluster != cluster) {
                return Err(bad);
            }
        }
        Ok(heads)
    }
}
