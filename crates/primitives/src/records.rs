//! The eight records, the objects that are signed beside them, and the governed parameters.
//!
//! Field by field meanings are normative here; docs/protocol/records.md shows the same with
//! worked digests. Lists of `u32` (tokens, surprisals) enter a record as the keccak256 of their
//! little-endian bytes: see [`digest_u32`].

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{Eip712Domain, SolValue, sol};

/// A record with a canonical encoding that the contracts share.
pub trait Record {
    /// `keccak256(abi.encode(record))`.
    fn digest(&self) -> B256
    where
        Self: Sized,
    {
        keccak256(self.encode())
    }

    /// The record with these canonical bytes.
    ///
    /// # Errors
    /// The ABI decoder's reason, if the bytes are not such a record.
    fn decode(bytes: &[u8]) -> alloy_sol_types::Result<Self>
    where
        Self: Sized;

    /// The canonical bytes: the ABI encoding.
    fn encode(&self) -> Vec<u8>;
}

sol! {
    /// One contributor's piece of text, before the network has judged it.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct Contribution {
        /// Record version.
        uint16 version;
        /// Chain that the contribution is anchored on.
        uint64 chainId;
        /// Datanet id.
        uint64 datanet;
        /// Wallet that signs and is paid.
        address contributor;
        /// Merkle root over 1 KiB chunks of the canonical text.
        bytes32 contentRoot;
        /// Bytes of the canonical text.
        uint64 size;
        /// SPDX licence id.
        string licence;
        /// Contributor's running number.
        uint64 nonce;
        /// Block in which the batch's commitment was recorded: the claim to priority.
        uint64 commitBlock;
    }

    /// How many rows a reason code turned away.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct ReasonCount {
        /// Reason code, such as `exact-duplicate`.
        string reason;
        /// Number of rows.
        uint64 count;
    }

    /// A sealed state of a Datanet: which rows count, and why others do not.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct DatasetVersion {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Datanet id.
        uint64 datanet;
        /// Running number, from 1.
        uint64 number;
        /// Digest of the version before, zero for the first.
        bytes32 parent;
        /// Merkle root; leaf = `abi.encode(contribution digest, row index)`.
        bytes32 rowsRoot;
        /// Merkle root; leaf = `abi.encode(row index, first-committed row of its cluster)`.
        bytes32 clustersRoot;
        /// Digest of the sanitising and deduplication policy.
        bytes32 policyHash;
        /// Rows that count.
        uint64 accepted;
        /// Rows that do not, by reason code, in code order.
        ReasonCount[] rejected;
    }

    /// Everything that one tuning run depended on.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct TrainingRun {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Weights root of the base model.
        bytes32 base;
        /// Content root of the tokenizer file.
        bytes32 tokenizer;
        /// Digests of the dataset versions.
        bytes32[] datasets;
        /// Digest of the recipe: all hyper-parameters, the seed and the order seed.
        bytes32 recipe;
        /// Version of the code that ran.
        string codeVersion;
        /// Content roots of the checkpoints, oldest first.
        bytes32[] checkpoints;
        /// Digest of the per-step metrics.
        bytes32 metrics;
        /// [`Mode`](crate::Mode) of the run's arithmetic: 0 = exact, 1 = fast.
        uint8 mode;
    }

    /// A tuned adapter as registered.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct Adapter {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Digest of its training run.
        bytes32 run;
        /// Content root of `adapter_model.safetensors`.
        bytes32 weights;
        /// Content root of `adapter_config.json`.
        bytes32 config;
        /// Merkle root over the rows' int8 gradient sketches.
        bytes32 sketchRoot;
        /// Root of the authenticated suffix array over its rows.
        bytes32 indexRoot;
        /// Evaluation loss of the base, micro-nats a token.
        uint64 evalLossBeforeMicro;
        /// Evaluation loss with the adapter, micro-nats a token.
        uint64 evalLossAfterMicro;
        /// [`Mode`](crate::Mode) in which weights and losses were computed, that of its run. The
        /// sketches are exact in every case.
        uint8 mode;
        /// Price of a prompt token, wei.
        uint128 priceIn;
        /// Price of an output token, wei.
        uint128 priceOut;
        /// Wallet of the model owner.
        address owner;
    }

    /// What one answer was: an operator's signed claim.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct InferenceReceipt {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Digest of the [`Adapter`] record, zero when the base alone answered.
        bytes32 adapter;
        /// Weights root of the base model.
        bytes32 base;
        /// Content root of the tokenizer file.
        bytes32 tokenizer;
        /// Digest of the sampling parameters.
        bytes32 sampler;
        /// Sampling seed.
        uint64 seed;
        /// Digest of the prompt's tokens.
        bytes32 promptDigest;
        /// Digest of the output's tokens.
        bytes32 outputDigest;
        /// Digest of the output tokens' surprisals, milli-bits.
        bytes32 surprisals;
        /// Prompt tokens charged.
        uint32 promptTokens;
        /// Output tokens charged.
        uint32 outputTokens;
        /// Fee, wei.
        uint128 fee;
        /// Wallet that pays.
        address payer;
        /// Digest of the voucher that covers the fee.
        bytes32 voucher;
        /// Wallet of the serving operator.
        address operator;
        /// [`Mode`](crate::Mode) of the answer's arithmetic: 0 = exact, 1 = fast.
        uint8 mode;
        /// Commitment to the final hidden states of the output positions.
        bytes32 activation;
        /// Operator's running number; never reused.
        uint64 sequence;
        /// Unix seconds.
        uint64 createdAt;
    }

    /// Whose data shaped one answer.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct AttributionReport {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Digest of the receipt.
        bytes32 receipt;
        /// Method ids, hashed.
        bytes32[] methods;
        /// Digest of the answer's int8 gradient sketch.
        bytes32 querySketch;
        /// Merkle root over the paid spans.
        bytes32 spansRoot;
        /// Merkle root over the rows' integer scores.
        bytes32 scoresRoot;
        /// Merkle root over the clusters' shares of the span channel.
        bytes32 sharesRoot;
        /// Digest of the [`Parameters`] used.
        bytes32 parameters;
        /// [`Mode`](crate::Mode) of the scores; reports are made in mode 0 only.
        uint8 mode;
    }

    /// One epoch's money, in constant size.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct EpochSettlement {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Epoch number, from 1.
        uint64 epoch;
        /// Merkle root over the receipts' digests.
        bytes32 receiptRoot;
        /// Merkle root over the reports' digests.
        bytes32 reportRoot;
        /// Merkle root over `(payer, cumulative debit)`.
        bytes32 payerCumRoot;
        /// Merkle root over `(earner, cumulative credit)`.
        bytes32 earnerCumRoot;
        /// Fees of the epoch, wei.
        uint128 fees;
        /// Receipts of the epoch.
        uint64 receipts;
        /// Digest of the [`Parameters`] in force.
        bytes32 parameters;
        /// Where the epoch's receipts and reports can be had: their content root.
        bytes32 daRef;
    }

    /// An earner's withdrawal.
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct Claim {
        /// Record version.
        uint16 version;
        /// Chain id.
        uint64 chainId;
        /// Wallet that is paid.
        address earner;
        /// Everything earned since the first epoch, wei.
        uint128 cumulative;
        /// Epoch whose root proves it.
        uint64 epoch;
    }

    /// A payer's promise: `settler` may take up to `maxCumulative` wei in all (EIP-712).
    #[derive(Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct Voucher {
        /// Wallet whose deposit pays.
        address payer;
        /// Settler that may use it.
        address settler;
        /// Ceiling of everything ever taken, wei; only grows.
        uint128 maxCumulative;
        /// Running number; a lower one than seen before is stale.
        uint64 nonce;
        /// Unix seconds after which it is void.
        uint64 deadline;
    }

    /// What governance sets. A change takes effect with the next epoch.
    #[derive(Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    struct Parameters {
        /// Contributors' share of a fee, basis points (at least 2,000).
        uint16 contributorsBps;
        /// Operator's share.
        uint16 operatorBps;
        /// Model owner's share.
        uint16 modelOwnerBps;
        /// Stakers' share.
        uint16 stakersBps;
        /// Treasury's share; rounding dust goes here too.
        uint16 treasuryBps;
        /// Part of the contributors' share that spans decide; gradients decide the rest.
        uint16 spanBps;
        /// Shortest span that is paid, tokens.
        uint16 minSpanTokens;
        /// Least unigram surprisal of a paid span, milli-bits.
        uint32 minSpanMillibits;
        /// Quantile of the decoys' scores that makes the noise floor, basis points.
        uint16 noiseQuantileBps;
        /// Unattributed mass in the gradient channel, score units of 2^-20.
        uint32 lambda;
        /// An owner's epoch earnings below this go to the commons, wei.
        uint128 dustFloor;
        /// Seconds before a posted root can be claimed from.
        uint64 challengeWindow;
        /// Bond for each contribution, wei.
        uint128 contributionBond;
        /// Fee for registering a model, wei.
        uint128 registrationFee;
        /// Fee for creating a Datanet, wei.
        uint128 datanetFee;
    }
}

macro_rules! record {
    ($($name:ident)*) => {$(
        impl Record for $name {
            fn decode(bytes: &[u8]) -> alloy_sol_types::Result<Self> {
                <Self as SolValue>::abi_decode(bytes)
            }

            fn encode(&self) -> Vec<u8> {
                self.abi_encode()
            }
        }
    )*};
}
record! {
    Contribution DatasetVersion TrainingRun Adapter InferenceReceipt AttributionReport
    EpochSettlement Claim Voucher Parameters
}

impl Default for Parameters {
    /// The parameters of the genesis epoch (docs/protocol/rewards.md), with the dev network's
    /// short challenge window.
    fn default() -> Self {
        Self {
            contributorsBps: 4_000,
            operatorBps: 3_000,
            modelOwnerBps: 1_800,
            stakersBps: 600,
            treasuryBps: 600,
            spanBps: 5_000,
            minSpanTokens: 6,
            minSpanMillibits: 40_000,
            noiseQuantileBps: 9_500,
            lambda: 20_000,
            dustFloor: 0,
            challengeWindow: 3,
            contributionBond: 1_000_000_000_000_000,
            registrationFee: 1_000_000_000_000_000_000,
            datanetFee: 1_000_000_000_000_000_000,
        }
    }
}

/// The EIP-712 domain of everything signed for one contract: name `OpenLedger`, version `1`.
pub fn domain(chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some("OpenLedger".into()),
        Some("1".into()),
        Some(alloy_primitives::U256::from(chain_id)),
        Some(verifying_contract),
        None,
    )
}

/// Digest of a list of numbers (tokens, surprisals): keccak256 of their little-endian bytes.
pub fn digest_u32(values: &[u32]) -> B256 {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    keccak256(bytes)
}

/// Leaf data of a payer's or earner's line in a cumulative tree: `abi.encode(address, uint128)`.
pub fn cumulative_leaf(account: Address, cumulative: u128) -> Vec<u8> {
    (account, cumulative).abi_encode()
}

/// Leaf data of a row in [`DatasetVersion::rowsRoot`]: `abi.encode(bytes32, uint64)`.
pub fn row_leaf(contribution: B256, row: u64) -> Vec<u8> {
    (contribution, row).abi_encode()
}

/// Leaf data of a record's digest in a root over records: `abi.encode(bytes32)`.
pub fn digest_leaf(digest: B256) -> Vec<u8> {
    digest.abi_encode()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use alloy_sol_types::SolStruct;

    #[test]
    fn parameters_split_the_whole() {
        let p = Parameters::default();
        let sum =
            p.contributorsBps + p.operatorBps + p.modelOwnerBps + p.stakersBps + p.treasuryBps;
        assert_eq!(sum, 10_000);
    }

    #[test]
    fn every_field_changes_the_digest() {
        let claim = Claim {
            version: 1,
            chainId: 2,
            epoch: 3,
            ..Default::default()
        };
        let digests: std::collections::BTreeSet<B256> = [
            claim.clone(),
            Claim {
                version: 2,
                ..claim.clone()
            },
            Claim {
                chainId: 3,
                ..claim.clone()
            },
            Claim {
                earner: Address::repeat_byte(1),
                ..claim.clone()
            },
            Claim {
                cumulative: 1,
                ..claim.clone()
            },
            Claim { epoch: 4, ..claim },
        ]
        .iter()
        .map(Record::digest)
        .collect();
        assert_eq!(digests.len(), 6);
    }

    #[test]
    fn canonical_bytes_are_the_abi_encoding() {
        let claim = Claim {
            version: 1,
            cumulative: 7,
            ..Default::default()
        };
        let bytes = claim.abi_encode();
        assert_eq!(bytes.len(), 5 * 32);
        assert_eq!(bytes[31], 1);
        assert_eq!(bytes[4 * 32 - 1], 7);
        assert_eq!(Claim::abi_decode(&bytes).unwrap(), claim);
    }

    #[test]
    fn signing_hash_depends_on_chain_and_contract() {
        let voucher = Voucher {
            nonce: 1,
            ..Default::default()
        };
        let a = voucher.eip712_signing_hash(&domain(1, Address::ZERO));
        assert_ne!(a, voucher.eip712_signing_hash(&domain(2, Address::ZERO)));
        assert_ne!(
            a,
            voucher.eip712_signing_hash(&domain(1, Address::repeat_byte(1)))
        );
    }
}
