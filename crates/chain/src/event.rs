//! Every log of our contracts, typed. The sentences are in `sentence.rs`.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::Log;
use alloy_sol_types::SolEventInterface;

use crate::bindings::{
    AccessManager, CommonsVault, ContributionAnchor, DatanetRegistry, InferenceSettlement,
    ModelRegistry, ProtocolParameters,
};
use crate::{Deployment, Error};

/// What happened. The payloads are the contracts' events with all their fields; `Display` gives one
/// plain English sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Governance set the parameters of coming epochs.
    ParametersSet(Box<ProtocolParameters::ParametersSet>),
    /// A Datanet was created and its fee paid.
    DatanetCreated(DatanetRegistry::DatanetCreated),
    /// A Datanet's policy for future versions changed.
    PolicyChanged(DatanetRegistry::PolicyChanged),
    /// A dataset version was sealed.
    VersionPublished(DatanetRegistry::VersionPublished),
    /// Contributions to a Datanet were stopped or allowed.
    PausedChanged(DatanetRegistry::PausedChanged),
    /// A Datanet's vault spent coins.
    CommonsReleased {
        /// The vault.
        vault: Address,
        /// The log.
        event: CommonsVault::Released,
    },
    /// Priority for a batch was claimed.
    Committed(ContributionAnchor::Committed),
    /// A batch was anchored and its bond locked.
    Anchored(ContributionAnchor::Anchored),
    /// A contribution was proven faulty and its bond taken.
    ContributionSlashed(ContributionAnchor::ContributionSlashed),
    /// A batch's window passed and its bond came free.
    BatchFinalised(ContributionAnchor::BatchFinalised),
    /// Contribution bond came in.
    BondDeposited(ContributionAnchor::BondDeposited),
    /// Contribution bond went out.
    BondWithdrawn(ContributionAnchor::BondWithdrawn),
    /// A base model was registered and its fee paid.
    BaseRegistered(ModelRegistry::BaseRegistered),
    /// An adapter was registered with its lineage, and its fee paid.
    AdapterRegistered(Box<ModelRegistry::AdapterRegistered>),
    /// A model is no longer offered.
    ModelRetired(ModelRegistry::ModelRetired),
    /// A payer deposit came in.
    Deposited(InferenceSettlement::Deposited),
    /// An epoch was posted.
    EpochPosted(Box<InferenceSettlement::EpochPosted>),
    /// An epoch became final.
    EpochFinalised(InferenceSettlement::EpochFinalised),
    /// An epoch and all after it were withdrawn.
    EpochDisabled(InferenceSettlement::EpochDisabled),
    /// An earner was paid.
    Claimed(InferenceSettlement::Claimed),
    /// Coins wait for an account to take them out.
    PaymentHeld(InferenceSettlement::PaymentHeld),
    /// Held coins were taken out.
    Withdrawn(InferenceSettlement::Withdrawn),
    /// A payer asked for its deposit back.
    ExitRequested(InferenceSettlement::ExitRequested),
    /// A payer deposited again instead of leaving.
    ExitCancelled(InferenceSettlement::ExitCancelled),
    /// A payer took the unspent rest back.
    Exited(InferenceSettlement::Exited),
    /// A payer was shown to have debits.
    ExitContested(InferenceSettlement::ExitContested),
    /// A settler's bond changed.
    SettlerBonded(InferenceSettlement::SettlerBonded),
    /// A settler lost bond.
    SettlerSlashed(InferenceSettlement::SettlerSlashed),
    /// The voucher behind a debit was demanded.
    VoucherDemanded(InferenceSettlement::VoucherDemanded),
    /// A demanded voucher was shown.
    DemandAnswered(InferenceSettlement::DemandAnswered),
    /// A demand ended without an answer.
    DemandClosed(InferenceSettlement::DemandClosed),
    /// A Datanet or model token was created or changed hands.
    TokenMoved {
        /// `Datanet` or `model`.
        kind: &'static str,
        /// Token id.
        id: u64,
        /// Earlier owner; zero when created.
        from: Address,
        /// New owner.
        to: Address,
    },
    /// A role was given.
    RoleGranted(AccessManager::RoleGranted),
    /// A role was taken.
    RoleRevoked(AccessManager::RoleRevoked),
    /// A function was assigned to a role.
    FunctionAssigned(AccessManager::TargetFunctionRoleUpdated),
    /// A role got its name.
    RoleNamed(AccessManager::RoleLabel),
    /// A contract was put under an `AccessManager`.
    AuthoritySet {
        /// The contract's name.
        contract: &'static str,
        /// Its authority.
        authority: Address,
    },
    /// Another change of rights, or an approval of a token: the event's name.
    Other {
        /// Emitting contract's name.
        contract: &'static str,
        /// Event's name and fields.
        what: String,
    },
}

/// An event and where it stands in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Block number.
    pub block: u64,
    /// Block's unix seconds, where the node gave them.
    pub timestamp: Option<u64>,
    /// Transaction.
    pub tx: B256,
    /// Position in the block.
    pub log_index: u64,
    /// Emitting contract.
    pub contract: Address,
    /// What happened.
    pub event: Event,
}

/// Decodes logs of one deployment. It learns the Datanets' vaults from the events that create them.
#[derive(Clone, Debug)]
pub struct Decoder {
    deployment: Deployment,
    vaults: BTreeSet<Address>,
}

impl Decoder {
    /// A decoder for the contracts of `deployment`.
    pub const fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            vaults: BTreeSet::new(),
        }
    }

    /// The contracts whose logs it understands, as known so far.
    pub fn addresses(&self) -> Vec<Address> {
        let contracts = self
            .deployment
            .contracts()
            .into_iter()
            .map(|(_, address)| address);
        contracts.chain(self.vaults.iter().copied()).collect()
    }

    /// The event of `log`; `None` if the log is another contract's.
    ///
    /// # Errors
    /// [`Error::UnknownLog`] for a log of ours that the ABI does not know, and [`Error::Node`] for
    /// a log without its place (a pending one).
    pub fn decode(&mut self, log: &Log) -> Result<Option<Located>, Error> {
        let address = log.address();
        let at = self.deployment;
        let unknown = || Error::UnknownLog {
            address,
            topic: log.topic0().copied(),
            tx: log.transaction_hash,
        };
        macro_rules! read {
            ($events:path) => {
                <$events>::decode_log(&log.inner)
                    .map_err(|_| unknown())?
                    .data
            };
        }
        let event = if address == at.settlement {
            settlement(read!(InferenceSettlement::InferenceSettlementEvents))
        } else if address == at.anchor {
            anchor(read!(ContributionAnchor::ContributionAnchorEvents))
        } else if address == at.datanets {
            let event = datanets(read!(DatanetRegistry::DatanetRegistryEvents));
            if let Event::DatanetCreated(created) = &event {
                self.vaults.insert(created.commons);
            }
            event
        } else if address == at.models {
            models(read!(ModelRegistry::ModelRegistryEvents))
        } else if address == at.parameters {
            parameters(read!(ProtocolParameters::ProtocolParametersEvents))
        } else if address == at.access_manager {
            access(read!(AccessManager::AccessManagerEvents))
        } else if self.vaults.contains(&address) {
            let CommonsVault::CommonsVaultEvents::Released(event) =
                read!(CommonsVault::CommonsVaultEvents);
            Event::CommonsReleased {
                vault: address,
                event,
            }
        } else {
            return Ok(None);
        };
        let place = |what: &str| Error::Node {
            method: "eth_getLogs",
            message: format!("a log without {what}"),
        };
        Ok(Some(Located {
            block: log.block_number.ok_or_else(|| place("block number"))?,
            timestamp: log.block_timestamp,
            tx: log
                .transaction_hash
                .ok_or_else(|| place("transaction hash"))?,
            log_index: log.log_index.ok_or_else(|| place("index"))?,
            contract: address,
            event,
        }))
    }
}

fn other(contract: &'static str, event: &impl std::fmt::Debug) -> Event {
    Event::Other {
        contract,
        what: format!("{event:?}"),
    }
}

fn settlement(event: InferenceSettlement::InferenceSettlementEvents) -> Event {
    use InferenceSettlement::InferenceSettlementEvents as E;
    match event {
        E::Deposited(e) => Event::Deposited(e),
        E::EpochPosted(e) => Event::EpochPosted(Box::new(e)),
        E::EpochFinalised(e) => Event::EpochFinalised(e),
        E::EpochDisabled(e) => Event::EpochDisabled(e),
        E::Claimed(e) => Event::Claimed(e),
        E::PaymentHeld(e) => Event::PaymentHeld(e),
        E::Withdrawn(e) => Event::Withdrawn(e),
        E::ExitRequested(e) => Event::ExitRequested(e),
        E::ExitCancelled(e) => Event::ExitCancelled(e),
        E::Exited(e) => Event::Exited(e),
        E::ExitContested(e) => Event::ExitContested(e),
        E::SettlerBonded(e) => Event::SettlerBonded(e),
        E::SettlerSlashed(e) => Event::SettlerSlashed(e),
        E::VoucherDemanded(e) => Event::VoucherDemanded(e),
        E::DemandAnswered(e) => Event::DemandAnswered(e),
        E::DemandClosed(e) => Event::DemandClosed(e),
        E::AuthorityUpdated(e) => Event::AuthoritySet {
            contract: "InferenceSettlement",
            authority: e.authority,
        },
        E::EIP712DomainChanged(e) => other("InferenceSettlement", &e),
    }
}

fn anchor(event: ContributionAnchor::ContributionAnchorEvents) -> Event {
    use ContributionAnchor::ContributionAnchorEvents as E;
    match event {
        E::Committed(e) => Event::Committed(e),
        E::Anchored(e) => Event::Anchored(e),
        E::ContributionSlashed(e) => Event::ContributionSlashed(e),
        E::BatchFinalised(e) => Event::BatchFinalised(e),
        E::BondDeposited(e) => Event::BondDeposited(e),
        E::BondWithdrawn(e) => Event::BondWithdrawn(e),
        E::EIP712DomainChanged(e) => other("ContributionAnchor", &e),
    }
}

/// Ids are counted in 64 bits; the token standard only has wider words for them.
fn token(kind: &'static str, from: Address, to: Address, id: alloy_primitives::U256) -> Event {
    Event::TokenMoved {
        kind,
        id: id.saturating_to(),
        from,
        to,
    }
}

fn datanets(event: DatanetRegistry::DatanetRegistryEvents) -> Event {
    use DatanetRegistry::DatanetRegistryEvents as E;
    match event {
        E::DatanetCreated(e) => Event::DatanetCreated(e),
        E::PolicyChanged(e) => Event::PolicyChanged(e),
        E::VersionPublished(e) => Event::VersionPublished(e),
        E::PausedChanged(e) => Event::PausedChanged(e),
        E::Transfer(e) => token("Datanet", e.from, e.to, e.tokenId),
        E::Approval(e) => other("DatanetRegistry", &e),
        E::ApprovalForAll(e) => other("DatanetRegistry", &e),
        E::AuthorityUpdated(e) => Event::AuthoritySet {
            contract: "DatanetRegistry",
            authority: e.authority,
        },
    }
}

fn models(event: ModelRegistry::ModelRegistryEvents) -> Event {
    use ModelRegistry::ModelRegistryEvents as E;
    match event {
        E::BaseRegistered(e) => Event::BaseRegistered(e),
        E::AdapterRegistered(e) => Event::AdapterRegistered(Box::new(e)),
        E::ModelRetired(e) => Event::ModelRetired(e),
        E::Transfer(e) => token("model", e.from, e.to, e.tokenId),
        E::Approval(e) => other("ModelRegistry", &e),
        E::ApprovalForAll(e) => other("ModelRegistry", &e),
    }
}

fn parameters(event: ProtocolParameters::ProtocolParametersEvents) -> Event {
    use ProtocolParameters::ProtocolParametersEvents as E;
    match event {
        E::ParametersSet(e) => Event::ParametersSet(Box::new(e)),
        E::AuthorityUpdated(e) => Event::AuthoritySet {
            contract: "ProtocolParameters",
            authority: e.authority,
        },
    }
}

fn access(event: AccessManager::AccessManagerEvents) -> Event {
    use AccessManager::AccessManagerEvents as E;
    match event {
        E::RoleGranted(e) => Event::RoleGranted(e),
        E::RoleRevoked(e) => Event::RoleRevoked(e),
        E::TargetFunctionRoleUpdated(e) => Event::FunctionAssigned(e),
        E::RoleLabel(e) => Event::RoleNamed(e),
        e => other("AccessManager", &e),
    }
}
