//! What the node remembers: the documents in its catalogue.
//!
//! Each document is written in the same transaction as whatever it acknowledges, so a restart
//! finds a stage either not begun, or begun with everything it needs to go on. Large things
//! (rows, lines of an epoch) are blobs that a document names by digest.

use std::collections::BTreeMap;

use openledger_primitives::{Address, B256, Wei};
use serde::{Deserialize, Serialize};

/// Collections of the catalogue.
pub(crate) mod collection {
    /// `datanet id -> DatanetDoc`.
    pub(crate) const DATANETS: &str = "datanets";
    /// `model name -> ModelDoc`.
    pub(crate) const MODELS: &str = "models";
    /// `run id -> RunDoc`.
    pub(crate) const RUNS: &str = "runs";
    /// `completion id -> CompletionDoc`.
    pub(crate) const COMPLETIONS: &str = "completions";
    /// `completion id -> AttributionDoc`.
    pub(crate) const ATTRIBUTIONS: &str = "attributions";
    /// `completion id -> receipt's number`: traced, and waiting for an epoch.
    pub(crate) const TRACED: &str = "traced";
    /// `epoch number, zero-padded -> EpochDoc`.
    pub(crate) const EPOCHS: &str = "epochs";
    /// `address -> NameDoc`.
    pub(crate) const NAMES: &str = "names";
    /// `loop key -> LoopDoc`.
    pub(crate) const LOOPS: &str = "loops";
    /// `ticket -> TicketDoc`.
    pub(crate) const TICKETS: &str = "tickets";
    /// Single documents: the deployment and the like.
    pub(crate) const NODE: &str = "node";
}

/// A Datanet as this node curates it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DatanetDoc {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) licence: String,
    /// File or page that the first rows came from.
    pub(crate) source: String,
    /// Columns that make a row's text, and the labelled field, if any.
    pub(crate) text: Vec<String>,
    pub(crate) contributor: String,
    pub(crate) commons: Address,
    /// Oldest first.
    pub(crate) versions: Vec<VersionDoc>,
}

/// One published version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionDoc {
    pub(crate) number: u64,
    pub(crate) digest: B256,
    /// Blob: `Vec<RowDoc>` as JSON, all accepted rows up to this version.
    pub(crate) rows: B256,
    /// Blob: `Vec<RejectionDoc>` as JSON, all rejected rows up to this version.
    pub(crate) rejections: B256,
    pub(crate) rows_root: B256,
    pub(crate) clusters_root: B256,
    pub(crate) policy_hash: B256,
    pub(crate) accepted: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) batch: u64,
    /// Blob: the batch's signed contributions as JSON; its content root is the batch's `daRef`.
    pub(crate) batch_blob: B256,
    pub(crate) anchor_tx: B256,
    pub(crate) publish_tx: B256,
}

/// An accepted row; its position in the list is its row index.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RowDoc {
    pub(crate) line: u64,
    pub(crate) contributor: String,
    pub(crate) address: Address,
    pub(crate) field: Option<String>,
    pub(crate) prompt: Option<String>,
    pub(crate) text: String,
    /// Digest of its Contribution record.
    pub(crate) contribution: B256,
    /// First-committed row of its cluster.
    pub(crate) cluster: u32,
}

/// A rejected row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RejectionDoc {
    pub(crate) line: u64,
    pub(crate) contributor: Option<String>,
    pub(crate) reason: String,
    pub(crate) evidence: String,
}

/// A model: a base, or an adapter tuned here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ModelDoc {
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) owner: Address,
    pub(crate) registry_id: Option<u64>,
    /// Digest of the Adapter record, or the base's weights root.
    pub(crate) digest: B256,
    pub(crate) weights: B256,
    pub(crate) parameters: u64,
    /// Shape and settings, as shown.
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) price_in: Wei,
    pub(crate) price_out: Wei,
    pub(crate) run: Option<String>,
    pub(crate) datanet: Option<(u64, u64)>,
    /// Blob: datanet row of each training row, in training order, as JSON.
    pub(crate) train_rows: Option<B256>,
    pub(crate) tx: Option<B256>,
}

/// A tuning run. Its metrics are in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunDoc {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) base: String,
    pub(crate) datanet: u64,
    pub(crate) version: u64,
    pub(crate) preset: String,
    /// What was asked for over the preset, as an object of recipe settings.
    #[serde(default)]
    pub(crate) settings: serde_json::Value,
    pub(crate) status: RunStatus,
    pub(crate) message: String,
    pub(crate) step: u64,
    pub(crate) steps: u64,
    pub(crate) recipe: serde_json::Value,
    pub(crate) loss_first: f64,
    pub(crate) loss_last: f64,
    pub(crate) eval_before: f64,
    pub(crate) eval_after: f64,
    pub(crate) digest: Option<B256>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunStatus {
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

impl RunStatus {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An answered request, written with its receipt before the answer is acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CompletionDoc {
    pub(crate) id: String,
    pub(crate) model: String,
    /// What was asked, as people would say it.
    pub(crate) question: String,
    /// What the model read.
    pub(crate) prompt: String,
    pub(crate) output: String,
    /// Byte offset in `output` at which each answer token begins.
    pub(crate) offsets: Vec<u32>,
    /// Digest of the `InferenceReceipt` record.
    pub(crate) receipt: B256,
    pub(crate) sequence: u64,
    pub(crate) fee: Wei,
    pub(crate) finish: openledger_serving::FinishReason,
    pub(crate) created: u64,
}

/// What attribution found for a completion.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttributionDoc {
    /// Digest of the `AttributionReport` record.
    pub(crate) report: B256,
    /// Everything that its settlement and its page need.
    pub(crate) attribution: openledger_attribution::Attribution,
}

/// An epoch: frozen when it is closed, then posted, then final.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EpochDoc {
    pub(crate) epoch: u64,
    /// The completions that it settles, fixed before anything is computed.
    pub(crate) completions: Vec<String>,
    pub(crate) status: EpochStatus,
    pub(crate) digest: B256,
    /// Blob: the settlement's lines as JSON.
    pub(crate) lines: B256,
    pub(crate) totals: openledger_settlement::Totals,
    pub(crate) clusters_paid: u64,
    /// Cumulative credits after the epoch.
    pub(crate) earners: Vec<(Address, Wei)>,
    /// Cumulative debits after the epoch.
    pub(crate) payers: Vec<(Address, Wei)>,
    /// Governed floors for the next epoch, by adapter.
    pub(crate) floors: BTreeMap<B256, u32>,
    pub(crate) tx: Option<B256>,
    pub(crate) claims: BTreeMap<Address, (Wei, B256)>,
    /// Whether lines, ledgers and the chain's own account agreed when it was paid out.
    pub(crate) balanced: bool,
}

/// Where an epoch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EpochStatus {
    /// Its completions are fixed.
    Closing,
    /// Its lines are computed and stored.
    Closed,
    /// Its roots are on the chain.
    Posted,
    /// Its challenge window is over and the chain pays from it.
    Active,
}

/// Whose address it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NameDoc {
    pub(crate) name: String,
    pub(crate) role: String,
}

/// How far a loop has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoopDoc {
    pub(crate) datanet: Option<u64>,
    pub(crate) run: Option<String>,
    /// Completion ids, one a prompt, `None` until it is answered.
    pub(crate) completions: Vec<Option<String>>,
    pub(crate) epoch: Option<u64>,
    pub(crate) seconds: BTreeMap<String, f64>,
    pub(crate) summary: Option<crate::summary::Summary>,
}
