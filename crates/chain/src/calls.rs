//! Every transaction that the system makes, as a [`Call`].
//!
//! The functions only encode; the contracts' rules are in `contracts/src/interfaces`.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::{SolCall, SolValue};
use openledger_primitives::records::{
    Adapter, Contribution, DatasetVersion, EpochSettlement, Parameters, TrainingRun, Voucher,
};
use openledger_primitives::{Wei, keccak256, merkle};

use crate::bindings::{
    CommonsVault, ContributionAnchor, DatanetRegistry, InferenceSettlement, ModelRegistry,
    ProtocolParameters, convert,
};
use crate::{Call, Deployment};

pub use ModelRegistry::{FeeSplit, VersionRef};

/// One leaf of an anchored batch, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Batch id.
    pub batch: u64,
    /// Position in the batch.
    pub index: u64,
    /// The contribution.
    pub contribution: Contribution,
    /// Its signature as anchored.
    pub signature: Bytes,
    /// Siblings from the leaf up to the batch's root.
    pub proof: Vec<B256>,
}

impl Evidence {
    /// The leaf data of a signed contribution: `abi.encode(contribution) ‖ signature`.
    pub fn leaf_data(contribution: &Contribution, signature: &[u8]) -> Vec<u8> {
        [contribution.abi_encode().as_slice(), signature].concat()
    }

    /// The leaf of a signed contribution in a batch's tree.
    pub fn leaf(contribution: &Contribution, signature: &[u8]) -> B256 {
        merkle::leaf(&Self::leaf_data(contribution, signature))
    }

    fn to_abi(&self) -> ContributionAnchor::Evidence {
        ContributionAnchor::Evidence {
            batch: self.batch,
            index: self.index,
            contribution: convert(&self.contribution),
            signature: self.signature.clone(),
            proof: self.proof.clone(),
        }
    }
}

impl FeeSplit {
    /// The split that the parameters name.
    pub const fn of(parameters: &Parameters) -> Self {
        Self {
            contributorsBps: parameters.contributorsBps,
            operatorBps: parameters.operatorBps,
            modelOwnerBps: parameters.modelOwnerBps,
            stakersBps: parameters.stakersBps,
            treasuryBps: parameters.treasuryBps,
        }
    }
}

/// One line of a batch of claims: earner, cumulative credit, position, proof.
pub type ClaimLine = (Address, u128, u64, Vec<B256>);

impl Deployment {
    // --- Datanets ---

    /// Creates a Datanet; `fee` is the parameters' `datanetFee`.
    pub fn create_datanet(
        &self,
        name: &str,
        licence: &str,
        policy: B256,
        schema: &str,
        fee: Wei,
    ) -> Call {
        let call = DatanetRegistry::createCall {
            name_: name.to_owned(),
            licence: licence.to_owned(),
            policyHash: policy,
            schema: schema.to_owned(),
        };
        Call::new(self.datanets, call.abi_encode()).with_value(fee)
    }

    /// Sets the policy of a Datanet's future versions. Its owner only.
    pub fn set_policy(&self, datanet: u64, policy: B256) -> Call {
        let call = DatanetRegistry::setPolicyCall {
            datanet,
            policyHash: policy,
        };
        Call::new(self.datanets, call.abi_encode())
    }

    /// Stops or allows contributions. Its owner or a guardian.
    pub fn set_paused(&self, datanet: u64, paused: bool) -> Call {
        let call = DatanetRegistry::setPausedCall { datanet, paused };
        Call::new(self.datanets, call.abi_encode())
    }

    /// Seals the next version of a Datanet. Its owner only.
    pub fn publish_version(&self, version: &DatasetVersion) -> Call {
        let call = DatanetRegistry::publishVersionCall {
            version: convert(version),
        };
        Call::new(self.datanets, call.abi_encode())
    }

    /// Spends from a Datanet's commons. [`Role::Commons`](crate::Role) only.
    pub fn release_commons(&self, vault: Address, to: Address, amount: Wei) -> Call {
        let call = CommonsVault::releaseCall {
            to,
            amount: amount.into(),
        };
        Call::new(vault, call.abi_encode())
    }

    // --- contributions ---

    /// The commitment of a batch: `keccak256(abi.encode(submitter, datanet, contentsRoot, salt))`.
    pub fn commitment(submitter: Address, datanet: u64, contents_root: B256, salt: B256) -> B256 {
        keccak256((submitter, datanet, contents_root, salt).abi_encode())
    }

    /// Claims priority for a batch.
    pub fn commit(&self, commitment: B256) -> Call {
        let call = ContributionAnchor::commitCall { commitment };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Anchors a committed batch of `count` contributions with `size` bytes of text.
    #[allow(
        clippy::too_many_arguments,
        reason = "the contract's own parameter list"
    )]
    pub fn anchor(
        &self,
        datanet: u64,
        root: B256,
        contents_root: B256,
        count: u64,
        size: u64,
        da_ref: B256,
        salt: B256,
    ) -> Call {
        let call = ContributionAnchor::anchorCall {
            datanet,
            root,
            contentsRoot: contents_root,
            count,
            size,
            daRef: da_ref,
            salt,
        };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Frees a batch's bond after its challenge window.
    pub fn finalise_batch(&self, batch: u64) -> Call {
        let call = ContributionAnchor::finaliseCall { id: batch };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Adds to the sender's pool of contribution bonds.
    pub fn deposit_contribution_bond(&self, amount: Wei) -> Call {
        let call = ContributionAnchor::depositBondCall {};
        Call::new(self.anchor, call.abi_encode()).with_value(amount)
    }

    /// Takes free contribution bond out.
    pub fn withdraw_contribution_bond(&self, to: Address, amount: Wei) -> Call {
        let call = ContributionAnchor::withdrawBondCall {
            to,
            amount: amount.get(),
        };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Proves that `later` copies `earlier`. `contents_proof` opens the earlier content root in the
    /// contents root that its submitter committed to.
    pub fn challenge_duplicate(
        &self,
        earlier: &Evidence,
        contents_proof: Vec<B256>,
        later: &Evidence,
    ) -> Call {
        let call = ContributionAnchor::challengeDuplicateCall {
            earlier: earlier.to_abi(),
            contentsProof: contents_proof,
            later: later.to_abi(),
        };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Proves a bad signature, or a leaf of another chain, Datanet or commit block.
    pub fn challenge_signature(&self, evidence: &Evidence) -> Call {
        let call = ContributionAnchor::challengeSignatureCall {
            evidence: evidence.to_abi(),
        };
        Call::new(self.anchor, call.abi_encode())
    }

    /// Proves that another leaf was committed at this position.
    pub fn challenge_commitment(
        &self,
        evidence: &Evidence,
        committed_leaf: B256,
        contents_proof: Vec<B256>,
    ) -> Call {
        let call = ContributionAnchor::challengeCommitmentCall {
            evidence: evidence.to_abi(),
            committedLeaf: committed_leaf,
            contentsProof: contents_proof,
        };
        Call::new(self.anchor, call.abi_encode())
    }

    // --- models ---

    /// Registers a base model; `fee` is the parameters' `registrationFee`.
    pub fn register_base(&self, weights_root: B256, tokenizer: B256, uri: &str, fee: Wei) -> Call {
        let call = ModelRegistry::registerBaseCall {
            weightsRoot: weights_root,
            tokenizer,
            uri: uri.to_owned(),
        };
        Call::new(self.models, call.abi_encode()).with_value(fee)
    }

    /// Registers an adapter of base model `base`, sent by `adapter.owner`. `datasets` name the
    /// versions in `run.datasets`, in order.
    pub fn register_adapter(
        &self,
        base: u64,
        adapter: &Adapter,
        run: &TrainingRun,
        datasets: &[VersionRef],
        split: &FeeSplit,
        fee: Wei,
    ) -> Call {
        let call = ModelRegistry::registerAdapterCall {
            base,
            adapter: convert(adapter),
            run: convert(run),
            datasets: datasets.to_vec(),
            split: split.clone(),
        };
        Call::new(self.models, call.abi_encode()).with_value(fee)
    }

    /// Marks a model as no longer offered. Its owner only.
    pub fn retire_model(&self, id: u64) -> Call {
        Call::new(self.models, ModelRegistry::retireCall { id }.abi_encode())
    }

    // --- settlement ---

    /// Adds to the sender's deposit.
    pub fn deposit(&self, amount: Wei) -> Call {
        let call = InferenceSettlement::depositCall {};
        Call::new(self.settlement, call.abi_encode()).with_value(amount)
    }

    /// Adds to another payer's deposit.
    pub fn deposit_for(&self, payer: Address, amount: Wei) -> Call {
        let call = InferenceSettlement::depositForCall { payer };
        Call::new(self.settlement, call.abi_encode()).with_value(amount)
    }

    /// Starts to leave with what is unspent.
    pub fn request_exit(&self) -> Call {
        Call::new(
            self.settlement,
            InferenceSettlement::requestExitCall {}.abi_encode(),
        )
    }

    /// Takes the unspent rest out, with the sender's line in the final payer root.
    pub fn exit(&self, cumulative: u128, index: u64, proof: &[B256]) -> Call {
        let call = InferenceSettlement::exitCall {
            cumulative,
            index,
            proof: proof.to_vec(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Takes everything out, for a sender who never spent.
    pub fn exit_unspent(&self) -> Call {
        Call::new(
            self.settlement,
            InferenceSettlement::exitUnspentCall {}.abi_encode(),
        )
    }

    /// Shows that a payer has debits.
    pub fn contest_exit(
        &self,
        payer: Address,
        cumulative: u128,
        index: u64,
        proof: &[B256],
    ) -> Call {
        let call = InferenceSettlement::contestExitCall {
            payer,
            cumulative,
            index,
            proof: proof.to_vec(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Adds to the sender's settler bond.
    pub fn bond(&self, amount: Wei) -> Call {
        Call::new(
            self.settlement,
            InferenceSettlement::bondCall {}.abi_encode(),
        )
        .with_value(amount)
    }

    /// Takes settler bond out.
    pub fn unbond(&self, amount: Wei) -> Call {
        let call = InferenceSettlement::unbondCall {
            amount: amount.get(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Posts the open epoch. [`Role::Settler`](crate::Role) only, with a bond.
    pub fn post(&self, settlement: &EpochSettlement) -> Call {
        let call = InferenceSettlement::postCall {
            settlement: convert(settlement),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Makes the oldest pending epoch final after its window.
    pub fn finalise_epoch(&self) -> Call {
        Call::new(
            self.settlement,
            InferenceSettlement::finaliseCall {}.abi_encode(),
        )
    }

    /// Withdraws a pending epoch. [`Role::Guardian`](crate::Role) only.
    pub fn disable_epoch(&self, epoch: u64) -> Call {
        let call = InferenceSettlement::disableCall { epoch };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Proves that a pending epoch debits a payer beyond its balance.
    pub fn challenge_overdraft(
        &self,
        epoch: u64,
        payer: Address,
        cumulative: u128,
        index: u64,
        proof: &[B256],
    ) -> Call {
        let call = InferenceSettlement::challengeOverdraftCall {
            epoch,
            payer,
            cumulative,
            index,
            proof: proof.to_vec(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Demands the voucher behind a pending debit; `bond` is the contract's `demandBond`.
    pub fn demand_voucher(
        &self,
        epoch: u64,
        payer: Address,
        cumulative: u128,
        index: u64,
        proof: &[B256],
        bond: Wei,
    ) -> Call {
        let call = InferenceSettlement::demandVoucherCall {
            epoch,
            payer,
            cumulative,
            index,
            proof: proof.to_vec(),
        };
        Call::new(self.settlement, call.abi_encode()).with_value(bond)
    }

    /// Answers a demand.
    pub fn answer_demand(&self, epoch: u64, voucher: &Voucher, signature: &[u8]) -> Call {
        let call = InferenceSettlement::answerDemandCall {
            epoch,
            voucher: convert(voucher),
            signature: signature.to_vec().into(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Closes a demand that nobody answered.
    pub fn close_demand(&self, sequence: u32, epoch: u64, payer: Address) -> Call {
        let call = InferenceSettlement::closeDemandCall {
            sequence,
            epoch,
            payer,
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Pays an earner what the newest final root owes. Anybody may send it.
    pub fn claim(&self, earner: Address, cumulative: u128, index: u64, proof: &[B256]) -> Call {
        let call = InferenceSettlement::claimCall {
            earner,
            cumulative,
            index,
            proof: proof.to_vec(),
        };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Pays many earners at once; lines that were claimed meanwhile are skipped.
    pub fn claim_many(&self, lines: &[ClaimLine]) -> Call {
        let items = lines
            .iter()
            .map(
                |(earner, cumulative, index, proof)| InferenceSettlement::ClaimItem {
                    earner: *earner,
                    cumulative: *cumulative,
                    index: *index,
                    proof: proof.clone(),
                },
            )
            .collect();
        let call = InferenceSettlement::claimManyCall { items };
        Call::new(self.settlement, call.abi_encode())
    }

    /// Takes out coins that are held for the sender.
    pub fn withdraw(&self, to: Address) -> Call {
        Call::new(
            self.settlement,
            InferenceSettlement::withdrawCall { to }.abi_encode(),
        )
    }

    // --- governance ---

    /// Sets the parameters from the epoch after the open one. [`Role::Governor`](crate::Role) only.
    pub fn set_parameters(&self, parameters: &Parameters) -> Call {
        let call = ProtocolParameters::setCall {
            parameters: convert(parameters),
        };
        Call::new(self.parameters, call.abi_encode())
    }
}
