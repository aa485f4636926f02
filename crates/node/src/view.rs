//! What the pages and the JSON API show: plain read models, filled by [`crate::Node`].
//!
//! Pages and API render the same structs, so they cannot drift apart. Amounts are decimal strings
//! of wei in JSON, times are Unix seconds, hashes and addresses are `0x` hex.

use openledger_primitives::{Address, B256, Bytes, Wei};
use serde::{Deserialize, Serialize};

/// One page of a longer list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Position of the first item in the whole list.
    pub offset: usize,
    /// Length of the whole list.
    pub total: usize,
}

/// The network at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Chain state.
    pub chain: ChainView,
    /// Datanets, newest first.
    pub datanets: Vec<DatanetSummary>,
    /// Models: the base and its adapters.
    pub models: Vec<ModelSummary>,
    /// Completions answered so far.
    pub inferences: u64,
    /// Fees of all settled epochs.
    pub fees: Wei,
    /// Paid or payable to contributors in all settled epochs.
    pub contributors: Wei,
    /// Settled epochs, newest first.
    pub epochs: Vec<EpochView>,
    /// Best earning contributors, highest first, at most ten.
    pub top_earners: Vec<EarnerLine>,
    /// What the loop is doing now, if it is running.
    pub stage: Option<StageView>,
}

/// Progress of the stage that is running.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StageView {
    /// Name of the stage: `chain`, `contracts`, `datanet`, `tuning`, `serving`, `attribution`,
    /// `settlement`, `claims`.
    pub name: String,
    /// What it is doing, in words.
    pub message: String,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when unknown.
    pub total: u64,
}

/// The chain's head and totals.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChainView {
    /// Chain id.
    pub id: u64,
    /// Number of the newest block.
    pub head: u64,
    /// Hash of the newest block.
    pub head_hash: B256,
    /// Time of the newest block.
    pub timestamp: u64,
    /// Transactions since genesis.
    pub txs: u64,
    /// Gas used since genesis.
    pub gas_used: u64,
    /// URL of the JSON-RPC.
    pub rpc_url: String,
}

/// A Datanet in a list.
#[derive(Clone, Debug, Serialize)]
pub struct DatanetSummary {
    /// Id in the registry.
    pub id: u64,
    /// Name.
    pub name: String,
    /// SPDX licence id.
    pub licence: String,
    /// Number of the newest version.
    pub version: u64,
    /// Rows that count.
    pub accepted: u64,
    /// Rows that do not.
    pub rejected: u64,
    /// Distinct contributors with an accepted row.
    pub contributors: u64,
    /// Earned by its contributors in settled epochs.
    pub earned: Wei,
}

/// A Datanet's own page.
#[derive(Clone, Debug, Serialize)]
pub struct DatanetView {
    /// Headline figures.
    pub summary: DatanetSummary,
    /// Where the rows came from, such as a file's name.
    pub source: String,
    /// Rejected rows by reason code, most frequent first.
    pub by_reason: Vec<(String, u64)>,
    /// Accepted rows by field of knowledge, most frequent first; empty without labels.
    pub by_field: Vec<(String, u64)>,
    /// Contributors, most rows first.
    pub contributors: Vec<ContributorLine>,
    /// Versions, newest first.
    pub versions: Vec<VersionView>,
    /// Models tuned on it.
    pub models: Vec<ModelSummary>,
}

/// One version of a Datanet.
#[derive(Clone, Debug, Serialize)]
pub struct VersionView {
    /// Running number.
    pub number: u64,
    /// Digest of the `DatasetVersion` record.
    pub digest: B256,
    /// Root over its rows.
    pub rows_root: B256,
    /// Root over its clusters.
    pub clusters_root: B256,
    /// Digest of the policy.
    pub policy_hash: B256,
    /// Rows that count.
    pub accepted: u64,
    /// Transaction that anchored it.
    pub tx: Option<B256>,
}

/// A contributor in a Datanet's list.
#[derive(Clone, Debug, Serialize)]
pub struct ContributorLine {
    /// Name as contributed.
    pub name: String,
    /// Wallet.
    pub address: Address,
    /// Accepted rows.
    pub accepted: u64,
    /// Rejected rows.
    pub rejected: u64,
    /// Earned in settled epochs.
    pub earned: Wei,
}

/// An accepted row.
#[derive(Clone, Debug, Serialize)]
pub struct RowView {
    /// Row index in the Datanet.
    pub row: u32,
    /// Line in the source file, from 1.
    pub line: u64,
    /// Contributor's name.
    pub contributor: String,
    /// Contributor's wallet.
    pub address: Address,
    /// Field of knowledge, if labelled.
    pub field: Option<String>,
    /// Prompt, for prompt/answer rows.
    pub prompt: Option<String>,
    /// Text or answer.
    pub text: String,
    /// Digest of its Contribution record.
    pub contribution: B256,
    /// Earned by this row in settled epochs.
    pub earned: Wei,
}

/// A rejected row.
#[derive(Clone, Debug, Serialize)]
pub struct RejectionView {
    /// Line in the source file, from 1.
    pub line: u64,
    /// Contributor's name, if it could be read.
    pub contributor: Option<String>,
    /// Reason code.
    pub reason: String,
    /// The evidence, in words.
    pub evidence: String,
}

/// A model in a list.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSummary {
    /// Name used in the API's `model` field.
    pub id: String,
    /// `None` for a base model.
    pub parent: Option<String>,
    /// Owner's wallet.
    pub owner: Address,
    /// Id in the `ModelRegistry`.
    pub registry_id: Option<u64>,
    /// Parameters: of the base, or those that the adapter adds.
    pub parameters: u64,
    /// Completions answered.
    pub inferences: u64,
    /// Fees taken.
    pub fees: Wei,
}

/// A model's card.
#[derive(Clone, Debug, Serialize)]
pub struct ModelView {
    /// Headline figures.
    pub summary: ModelSummary,
    /// Digest of its Adapter record; for a base, its weights root.
    pub digest: B256,
    /// Content root of the weights.
    pub weights: B256,
    /// Shape and settings, as name and value.
    pub facts: Vec<(String, String)>,
    /// Datanets that it was tuned on: id, name, version.
    pub datanets: Vec<(u64, String, u64)>,
    /// The tuning run.
    pub run: Option<RunView>,
    /// Price of a prompt token.
    pub price_in: Wei,
    /// Price of an output token.
    pub price_out: Wei,
    /// Fee split: name and basis points.
    pub split: Vec<(String, u16)>,
    /// Transaction that registered it.
    pub tx: Option<B256>,
}

/// A tuning run.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// Job id.
    pub id: String,
    /// `queued`, `running`, `paused`, `succeeded`, `failed` or `cancelled`.
    pub status: String,
    /// What happened, in words; the error if it failed.
    pub message: String,
    /// Name of the model it makes.
    pub model: String,
    /// Base model.
    pub base: String,
    /// Datanet id.
    pub datanet: u64,
    /// Preset.
    pub preset: String,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Seconds left, estimated.
    pub eta_seconds: Option<f64>,
    /// One point a step.
    pub points: Vec<LossPoint>,
    /// Recipe: name and value.
    pub recipe: Vec<(String, String)>,
    /// Digest of the `TrainingRun` record, when it is done.
    pub digest: Option<B256>,
}

/// One step of a loss curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LossPoint {
    /// Step, from 1.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean training loss of the step, nats a token.
    pub loss: f64,
    /// Exponential moving average of the loss.
    pub smoothed: f64,
    /// Evaluation loss, where it was measured.
    pub eval: Option<f64>,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens processed so far.
    pub tokens: u64,
    /// Training tokens a second.
    pub tokens_per_second: f64,
    /// Bytes of memory that the node occupied after the step, where the system tells.
    pub memory_bytes: Option<u64>,
    /// Seconds left, estimated.
    pub eta_seconds: f64,
}

/// A choice of the tuning page.
#[derive(Clone, Debug, Serialize)]
pub struct PresetView {
    /// Name: `quick`, `standard`, `thorough`.
    pub name: String,
    /// What it is for, in words.
    pub about: String,
    /// Steps that it would take on the chosen Datanet.
    pub steps: u64,
    /// Estimated seconds.
    pub seconds: f64,
    /// Estimated memory, bytes.
    pub memory_bytes: u64,
    /// What this machine has free, bytes, if it tells.
    pub free_bytes: Option<u64>,
}

/// An earner's wallet.
#[derive(Clone, Debug, Serialize)]
pub struct WalletView {
    /// Name, if it is known here.
    pub name: Option<String>,
    /// Role: `contributor`, `operator`, `payer`, ...
    pub role: Option<String>,
    /// Address.
    pub address: Address,
    /// Balance on the chain.
    pub balance: Wei,
    /// Everything earned in settled epochs.
    pub earned: Wei,
    /// Claimed so far.
    pub claimed: Wei,
    /// Claimable now.
    pub claimable: Wei,
    /// What was earned for what, newest first.
    pub lines: Vec<EarningLine>,
    /// Claim transactions: epoch, amount, transaction.
    pub claims: Vec<(u64, Wei, B256)>,
}

/// One line of someone's earnings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EarningLine {
    /// Epoch.
    pub epoch: u64,
    /// Channel: `span`, `gradient`, `operator`, `model-owner`, `stakers`, `treasury`, `commons`.
    pub channel: String,
    /// Datanet row that earned it, for contributors.
    pub row: Option<u32>,
    /// Completion that paid, for the span channel.
    pub completion: Option<String>,
    /// Amount.
    pub amount: Wei,
}

/// An earner in a ranking.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EarnerLine {
    /// Name, if it is known here.
    pub name: Option<String>,
    /// Role or `contributor`.
    pub role: String,
    /// Wallet.
    pub address: Address,
    /// Earned in settled epochs.
    pub earned: Wei,
    /// Claimed so far.
    pub claimed: Wei,
    /// Best earning rows, at most three, highest first.
    pub rows: Vec<u32>,
}

/// A settled epoch.
#[derive(Clone, Debug, Serialize)]
pub struct EpochView {
    /// Number, from 1.
    pub epoch: u64,
    /// `posted`, `active` or `disabled`.
    pub status: String,
    /// Digest of the `EpochSettlement` record.
    pub digest: B256,
    /// Fees.
    pub fees: Wei,
    /// Receipts settled.
    pub receipts: u64,
    /// Paid by role: contributors, operator, `model_owner`, stakers, treasury, commons.
    pub paid: Vec<(String, Wei)>,
    /// Clusters that earned something.
    pub clusters_paid: u64,
    /// Transaction that posted it.
    pub tx: Option<B256>,
    /// Whether fees in = credits out, recomputed.
    pub conserved: bool,
}

/// A block in the explorer.
#[derive(Clone, Debug, Serialize)]
pub struct BlockView {
    /// Number.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Parent's hash.
    pub parent: B256,
    /// State root.
    pub state_root: B256,
    /// Unix seconds.
    pub timestamp: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Base fee, wei.
    pub base_fee: u64,
    /// Its transactions.
    pub transactions: Vec<TransactionView>,
}

impl BlockView {
    /// Whether nobody did anything in it: it only moved the clock and took note of the layer 1.
    pub fn is_quiet(&self) -> bool {
        self.transactions.iter().all(|tx| tx.system)
    }

    /// What people did in it.
    pub fn deeds(&self) -> impl Iterator<Item = &TransactionView> {
        self.transactions.iter().filter(|tx| !tx.system)
    }
}

/// The rollup: both layers, what goes from one to the other, and whether it is where it should be.
#[derive(Clone, Debug, Serialize)]
pub struct RollupView {
    /// Newest block that the sequencer made.
    pub head: u64,
    /// Newest block that is derived from the layer 1.
    pub safe: u64,
    /// Newest block that the layer 1 will not take back.
    pub finalized: u64,
    /// The layer 1.
    pub l1: Layer1View,
    /// URL of the data availability server.
    pub da_url: String,
    /// Times that the layer 1 took back what was derived from.
    pub resets: u64,
    /// What the batcher has done since the node started.
    pub batches: crate::rollup::batching::Batches,
    /// What the proposer has done since the node started.
    pub proposer: crate::rollup::claims::Claims,
    /// What the challenger has done since the node started.
    pub challenger: crate::rollup::claims::Claims,
    /// OPEN that came from the layer 1, newest first, at most twenty.
    pub deposits: Vec<DepositView>,
    /// OPEN on its way to the layer 1, newest first, at most twenty.
    pub withdrawals: Vec<WithdrawalView>,
    /// What keeps derivation from going on, if something does.
    pub trouble: Option<String>,
}

/// The layer 1 as this node sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Layer1View {
    /// URL of its JSON-RPC.
    pub url: String,
    /// Newest block.
    pub head: u64,
    /// Newest block that will not be taken back.
    pub finalized: u64,
    /// The block up to which everything is derived.
    pub derived: u64,
    /// The rollup's contracts there.
    pub contracts: openledger_chain::layer1::Layer1,
}

/// A batch on the layer 1.
#[derive(Clone, Debug, Serialize)]
pub struct BatchView {
    /// What was sent.
    #[serde(flatten)]
    pub sent: crate::rollup::batching::Sent,
    /// Whether all its blocks are derived from the layer 1.
    pub safe: bool,
    /// What the commitment says, if there is one.
    pub data: Option<DataView>,
    /// Where the payload can be had then.
    pub payload_url: Option<String>,
}

/// What a commitment in the inbox says about a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataView {
    /// Its keccak256.
    Digest {
        /// The digest.
        digest: B256,
    },
    /// A certificate by the operators of our own servers.
    Certificate {
        /// The KZG commitment to the encoded payload: a point of BN254, x and y.
        kzg_commitment: Bytes,
        /// The payload's keccak256.
        payload_digest: B256,
        /// The payload's length, bytes.
        payload_bytes: u32,
        /// The block of the layer 1 as of which it was signed.
        reference_block: u64,
        /// Digest of the committee.
        committee: B256,
        /// The operators of the committee that signed, counted from zero.
        signers: Vec<u32>,
    },
    /// What is none of ours, such as a certificate of EigenDA, which only its proxy can read.
    Foreign,
}

/// OPEN that came from the layer 1.
#[derive(Clone, Debug, Serialize)]
pub struct DepositView {
    /// Who sent it there.
    pub from: Address,
    /// Who has it here.
    pub to: Address,
    /// How much.
    pub amount: Wei,
    /// Block that it arrived in.
    pub block: u64,
    /// Transaction that it arrived with.
    pub tx: B256,
}

/// OPEN on its way to the layer 1.
#[derive(Clone, Debug, Serialize)]
pub struct WithdrawalView {
    /// Names it on the layer 1.
    pub hash: B256,
    /// Who gets it there.
    pub to: Address,
    /// How much.
    pub amount: Wei,
    /// Block that it left in.
    pub block: u64,
    /// Transaction that it left with.
    pub tx: B256,
    /// `waiting` for a claim about its block, `provable`, `proven`, or `finalized`.
    pub status: &'static str,
    /// When it can be finalized at the earliest, once it is proven; Unix seconds of the layer 1.
    pub ready_at: Option<u64>,
}

/// A transaction in the explorer.
#[derive(Clone, Debug, Serialize)]
pub struct TransactionView {
    /// Hash.
    pub hash: B256,
    /// Block.
    pub block: u64,
    /// Sender.
    pub from: Address,
    /// Receiver; `None` creates a contract.
    pub to: Option<Address>,
    /// Sender's name, if it is known here.
    pub from_name: Option<String>,
    /// Receiver's name: a contract or a wallet known here.
    pub to_name: Option<String>,
    /// OPEN moved.
    pub value: Wei,
    /// Gas used.
    pub gas_used: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// Whether it is the note about the layer 1 that every block begins with.
    pub system: bool,
    /// What it called, in words: `InferenceSettlement.claim`.
    pub action: String,
    /// What happened: one sentence an event of ours; raw topics for foreign ones.
    pub events: Vec<EventView>,
    /// Calldata.
    pub input: String,
}

/// An event in the explorer.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    /// Emitting contract.
    pub address: Address,
    /// Its name, if it is ours.
    pub contract: Option<String>,
    /// The event, in a sentence.
    pub sentence: String,
    /// Raw topics.
    pub topics: Vec<B256>,
    /// Raw data, hex.
    pub data: String,
}

/// A completion in a list.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionSummary {
    /// Completion id.
    pub id: String,
    /// Model.
    pub model: String,
    /// Prompt's beginning.
    pub prompt: String,
    /// Answer's beginning.
    pub answer: String,
    /// Fee.
    pub fee: Wei,
    /// Unix seconds.
    pub created: u64,
    /// `pending` or `ready`.
    pub attribution: String,
}

/// Who taught one answer: `GET /v1/attributions/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttributionView {
    /// Completion id.
    pub id: String,
    /// Always `attribution`.
    pub object: String,
    /// `pending` or `ready`.
    pub status: String,
    /// Model that answered.
    pub model: String,
    /// Prompt as the model read it.
    pub prompt: String,
    /// The answer.
    pub output: String,
    /// Digest of the `AttributionReport` record.
    pub digest: Option<B256>,
    /// The receipt.
    pub receipt: ReceiptView,
    /// Maximal spans of the answer found in the training rows, in order.
    pub spans: Vec<SpanView>,
    /// Rows by gradient score, highest magnitude first, at most twenty.
    pub rows: Vec<ScoredRowView>,
    /// Rows scored.
    pub rows_scored: u64,
    /// Scores at or below this are noise (units of 2^-20): the decoys' quantile.
    pub floor: i64,
    /// Parameters in force.
    pub parameters: B256,
    /// Who was paid for this answer through spans, highest first; gradients are netted over the
    /// epoch and appear on the wallets' pages.
    pub shares: Vec<ShareView>,
    /// Epoch that settled it, once it did.
    pub epoch: Option<u64>,
    /// Command that recomputes every number here.
    pub verify: String,
}

/// A receipt as shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReceiptView {
    /// Digest of the `InferenceReceipt` record.
    pub digest: B256,
    /// Operator's signature, hex.
    pub signature: String,
    /// Operator.
    pub operator: Address,
    /// Payer.
    pub payer: Address,
    /// Fee.
    pub fee: Wei,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Output tokens.
    pub output_tokens: u32,
    /// Digest of the prompt's tokens.
    pub prompt_digest: B256,
    /// Digest of the output's tokens.
    pub output_digest: B256,
    /// Commitment to the activations.
    pub activation: B256,
    /// Unix seconds.
    pub created: u64,
}

/// A span of an answer that stands in training rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpanView {
    /// First character of the span in the answer.
    pub start_index: usize,
    /// One past its last character.
    pub end_index: usize,
    /// First output token.
    pub token_start: u32,
    /// One past the last output token.
    pub token_end: u32,
    /// The text.
    pub text: String,
    /// Occurrences in the training rows.
    pub occurrences: u64,
    /// Unigram surprisal, milli-bits.
    pub surprisal_millibits: u64,
    /// Whether it is long and rare enough to be paid.
    pub admissible: bool,
    /// Rows that hold it, earliest first, at most five. The first one is paid.
    pub sources: Vec<SourceView>,
}

/// A training row as a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceView {
    /// Datanet.
    pub datanet: u64,
    /// Row.
    pub row: u32,
    /// Contributor's name.
    pub contributor: String,
    /// Contributor's wallet.
    pub address: Address,
    /// The row's text, cut to 600 characters.
    pub text: String,
}

/// A training row with its influence on an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoredRowView {
    /// The row.
    pub source: SourceView,
    /// Signed score, units of 2^-20 of a cosine.
    pub score: i64,
    /// Whether the score is above the noise floor.
    pub above_floor: bool,
}

/// What one contributor gets for one answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShareView {
    /// Contributor's name; `commons` for what is not attributed.
    pub name: String,
    /// Wallet.
    pub address: Address,
    /// Amount.
    pub amount: Wei,
    /// Share of the span pot, basis points.
    pub bps: u16,
}

/// Verdicts on a file that somebody is about to contribute.
#[derive(Clone, Debug, Serialize)]
pub struct JudgeView {
    /// Ticket to commit exactly these rows.
    pub ticket: String,
    /// Columns found in the file.
    pub columns: Vec<String>,
    /// Columns used as text.
    pub text: Vec<String>,
    /// Column used as contributor; `None` when the page's name is used.
    pub contributor: Option<String>,
    /// One verdict a row, in file order, at most 500.
    pub verdicts: Vec<VerdictView>,
    /// Rows that would be accepted.
    pub accepted: u64,
    /// Rows that would be rejected.
    pub rejected: u64,
    /// Bond that will be locked.
    pub bond: Wei,
}

/// The verdict on one row.
#[derive(Clone, Debug, Serialize)]
pub struct VerdictView {
    /// Line in the file, from 1.
    pub line: u64,
    /// Beginning of the row's text.
    pub text: String,
    /// `None` if accepted, else the reason code.
    pub reason: Option<String>,
    /// Evidence for the reason.
    pub evidence: String,
}

/// What a contributor takes away.
#[derive(Clone, Debug, Serialize)]
pub struct ContributionReceipt {
    /// Datanet.
    pub datanet: u64,
    /// New version's number.
    pub version: u64,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Contributors' wallets: name and address.
    pub wallets: Vec<(String, Address)>,
    /// Root of the anchored batch.
    pub root: B256,
    /// Transactions: what and hash.
    pub txs: Vec<(String, B256)>,
}
