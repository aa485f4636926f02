//! Typed reads of the contracts' state.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;
use openledger_primitives::Wei;
use openledger_primitives::records::Parameters;

use crate::bindings::{
    ContributionAnchor, DatanetRegistry, InferenceSettlement, ModelRegistry, ProtocolParameters,
    convert,
};
use crate::node::{Call, Node};
use crate::{Deployment, Error};

/// A payer's account on chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayerInfo {
    /// Everything deposited.
    pub deposited: Wei,
    /// Everything taken back.
    pub withdrawn: Wei,
    /// Unix seconds of the request to leave; zero if none. Serve no new requests then.
    pub exit_requested_at: u64,
}

impl PayerInfo {
    /// What cumulative debits may reach: deposits minus what was taken back.
    pub const fn balance(&self) -> Wei {
        Wei::new(self.deposited.get().saturating_sub(self.withdrawn.get()))
    }
}

/// A posted epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingInfo {
    /// Epoch.
    pub epoch: u64,
    /// Root of cumulative debits.
    pub payer_root: B256,
    /// Root of cumulative credits.
    pub earner_root: B256,
    /// Fees of all epochs up to this one.
    pub cumulative_fees: Wei,
    /// Last unix second in which it can be challenged.
    pub challenge_until: u64,
    /// Who posted it.
    pub settler: Address,
    /// Number of the posting; a re-posted epoch has another one.
    pub sequence: u32,
    /// Unanswered demands for vouchers.
    pub open_demands: u16,
}

/// The settlement's whole ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Everything deposited by payers.
    pub deposits: Wei,
    /// Everything taken back by payers.
    pub exits: Wei,
    /// Everything paid to earners.
    pub claims: Wei,
    /// Fees of all final epochs.
    pub final_fees: Wei,
    /// Bonds of settlers and demands.
    pub bonds: Wei,
    /// Waiting to be withdrawn.
    pub held: Wei,
}

/// An anchored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// Root over the signed contributions.
    pub root: B256,
    /// Root over the content roots.
    pub contents_root: B256,
    /// Who anchored it.
    pub submitter: Address,
    /// Datanet.
    pub datanet: u64,
    /// Whether its bond is free again.
    pub finalised: bool,
    /// Block of its commitment.
    pub commit_block: u64,
    /// Contributions in it.
    pub count: u64,
    /// Contributions proven faulty.
    pub slashed: u64,
    /// Last unix second in which it can be challenged.
    pub challenge_until: u64,
    /// Bond of each contribution.
    pub bond_per_leaf: Wei,
}

/// Reads the contracts of one deployment.
#[derive(Clone)]
pub struct Reader {
    node: Arc<dyn Node>,
    /// Where the contracts are.
    pub deployment: Deployment,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}

/// Every method fails with the node's errors, or [`Error::Answer`] if a contract answers something
/// else than its ABI says.
#[allow(
    clippy::missing_errors_doc,
    reason = "the same for all, said once above"
)]
impl Reader {
    /// A reader of `deployment`.
    pub fn new(node: Arc<dyn Node>, deployment: Deployment) -> Self {
        Self { node, deployment }
    }

    /// The node that is asked.
    pub fn node(&self) -> &Arc<dyn Node> {
        &self.node
    }

    /// Asks `to` for `call`, decoded by the ABI.
    pub async fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, Error> {
        let answer = self
            .node
            .call(None, &Call::new(to, call.abi_encode()))
            .await?;
        C::abi_decode_returns(&answer).map_err(|e| Error::Answer {
            contract: self.deployment.name_of(to).unwrap_or("contract"),
            function: C::SIGNATURE,
            reason: e.to_string(),
        })
    }

    // --- parameters ---

    /// The parameters of the open epoch.
    pub async fn parameters(&self) -> Result<Parameters, Error> {
        let call = ProtocolParameters::currentCall {};
        self.ask(self.deployment.parameters, &call)
            .await
            .map(|p| convert(&p))
    }

    /// The parameters of `epoch`.
    pub async fn parameters_at(&self, epoch: u64) -> Result<Parameters, Error> {
        let call = ProtocolParameters::parametersAtCall { epoch };
        self.ask(self.deployment.parameters, &call)
            .await
            .map(|p| convert(&p))
    }

    /// Where registration fees go.
    pub async fn treasury(&self) -> Result<Address, Error> {
        self.ask(
            self.deployment.parameters,
            &ProtocolParameters::treasuryCall {},
        )
        .await
    }

    // --- Datanets and contributions ---

    /// Number of Datanets; ids run from 1.
    pub async fn datanets(&self) -> Result<u64, Error> {
        self.ask(self.deployment.datanets, &DatanetRegistry::countCall {})
            .await
    }

    /// A Datanet's policy, number of its newest version, whether it is paused, and its owner.
    pub async fn datanet(&self, datanet: u64) -> Result<(B256, u64, bool, Address), Error> {
        let call = DatanetRegistry::infoCall { datanet };
        let info = self.ask(self.deployment.datanets, &call).await?;
        Ok((info.policyHash, info.latest, info.paused, info.owner))
    }

    /// The vault of a Datanet: an earner like any other.
    pub async fn commons(&self, datanet: u64) -> Result<Address, Error> {
        self.ask(
            self.deployment.datanets,
            &DatanetRegistry::commonsCall { datanet },
        )
        .await
    }

    /// Digest of a sealed version; zero if there is none.
    pub async fn version_digest(&self, datanet: u64, number: u64) -> Result<B256, Error> {
        let call = DatanetRegistry::versionDigestCall { datanet, number };
        self.ask(self.deployment.datanets, &call).await
    }

    /// Block of a commitment (`None`: not committed) and its batch (`None`: not anchored).
    pub async fn commitment(&self, commitment: B256) -> Result<(Option<u64>, Option<u64>), Error> {
        let call = ContributionAnchor::commitmentOfCall { commitment };
        let entry = self.ask(self.deployment.anchor, &call).await?;
        let some = |n: u64| (n != 0).then_some(n);
        Ok((some(entry.blockNumber), some(entry.batch)))
    }

    /// An anchored batch.
    pub async fn batch(&self, batch: u64) -> Result<BatchInfo, Error> {
        let call = ContributionAnchor::batchOfCall { id: batch };
        let b = self.ask(self.deployment.anchor, &call).await?;
        Ok(BatchInfo {
            root: b.root,
            contents_root: b.contentsRoot,
            submitter: b.submitter,
            datanet: b.datanet,
            finalised: b.finalised,
            commit_block: b.commitBlock,
            count: b.count,
            slashed: b.slashed,
            challenge_until: b.challengeUntil,
            bond_per_leaf: Wei::new(b.bondPerLeaf),
        })
    }

    /// Whether a contribution was slashed.
    pub async fn is_slashed(&self, batch: u64, index: u64) -> Result<bool, Error> {
        self.ask(
            self.deployment.anchor,
            &ContributionAnchor::isSlashedCall { id: batch, index },
        )
        .await
    }

    /// An account's pool of contribution bonds: everything in it, and what is locked.
    pub async fn contribution_bond(&self, account: Address) -> Result<(Wei, Wei), Error> {
        let call = ContributionAnchor::bondOfCall { account };
        let pool = self.ask(self.deployment.anchor, &call).await?;
        Ok((Wei::new(pool.total), Wei::new(pool.locked)))
    }

    // --- models ---

    /// Id of the base with these weights or the adapter with this digest.
    pub async fn model_id(&self, weights_root_or_digest: B256) -> Result<Option<u64>, Error> {
        let call = ModelRegistry::idOfCall {
            weightsRootOrDigest: weights_root_or_digest,
        };
        let id = self.ask(self.deployment.models, &call).await?;
        Ok((id != 0).then_some(id))
    }

    /// A base model.
    pub async fn base(&self, id: u64) -> Result<ModelRegistry::BaseModel, Error> {
        self.ask(self.deployment.models, &ModelRegistry::baseOfCall { id })
            .await
    }

    /// An adapter.
    pub async fn adapter(&self, id: u64) -> Result<ModelRegistry::AdapterModel, Error> {
        self.ask(self.deployment.models, &ModelRegistry::adapterOfCall { id })
            .await
    }

    // --- settlement ---

    /// The epoch that collects receipts now.
    pub async fn open_epoch(&self) -> Result<u64, Error> {
        self.ask(
            self.deployment.settlement,
            &InferenceSettlement::openEpochCall {},
        )
        .await
    }

    /// The newest final epoch; zero before the first.
    pub async fn final_epoch(&self) -> Result<u64, Error> {
        self.ask(
            self.deployment.settlement,
            &InferenceSettlement::finalEpochCall {},
        )
        .await
    }

    /// A posted epoch, among the newest 256.
    pub async fn posting(&self, epoch: u64) -> Result<PostingInfo, Error> {
        let call = InferenceSettlement::postingOfCall { epoch };
        let p = self.ask(self.deployment.settlement, &call).await?;
        Ok(PostingInfo {
            epoch: p.epoch,
            payer_root: p.payerCumRoot,
            earner_root: p.earnerCumRoot,
            cumulative_fees: Wei::new(p.cumulativeFees),
            challenge_until: p.challengeUntil,
            settler: p.settler,
            sequence: p.sequence,
            open_demands: p.openDemands,
        })
    }

    /// A payer's account.
    pub async fn payer(&self, payer: Address) -> Result<PayerInfo, Error> {
        let call = InferenceSettlement::payerOfCall { payer };
        let p = self.ask(self.deployment.settlement, &call).await?;
        Ok(PayerInfo {
            deposited: Wei::new(p.deposited),
            withdrawn: Wei::new(p.withdrawn),
            exit_requested_at: p.exitRequestedAt,
        })
    }

    /// A settler's bond.
    pub async fn settler_bond(&self, settler: Address) -> Result<Wei, Error> {
        let call = InferenceSettlement::bondOfCall { settler };
        self.ask(self.deployment.settlement, &call)
            .await
            .map(|b| Wei::new(b.amount))
    }

    /// Everything ever paid to an earner.
    pub async fn claimed(&self, earner: Address) -> Result<Wei, Error> {
        let call = InferenceSettlement::claimedOfCall { earner };
        self.ask(self.deployment.settlement, &call)
            .await
            .map(Wei::new)
    }

    /// What an account can `withdraw`.
    pub async fn held(&self, account: Address) -> Result<Wei, Error> {
        let call = InferenceSettlement::heldOfCall { account };
        self.ask(self.deployment.settlement, &call)
            .await
            .map(Wei::new)
    }

    /// The settlement's ledger.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let t = self
            .ask(
                self.deployment.settlement,
                &InferenceSettlement::totalsCall {},
            )
            .await?;
        Ok(Totals {
            deposits: Wei::new(t.deposits),
            exits: Wei::new(t.exits),
            claims: Wei::new(t.claims),
            final_fees: Wei::new(t.finalFees),
            bonds: Wei::new(t.bonds),
            held: Wei::new(t.held),
        })
    }
}
