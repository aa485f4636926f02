//! One plain English sentence for every event.

use std::fmt;

use alloy_primitives::{Address, hex};
use alloy_sol_types::SolCall;
use openledger_primitives::Wei;

use crate::Role;
use crate::bindings::{CommonsVault, DatanetRegistry, InferenceSettlement, ProtocolParameters};
use crate::event::Event;

/// An amount for people: `1.5 OPEN`.
fn open(amount: u128) -> String {
    format!("{} OPEN", Wei::new(amount).open())
}

/// `1 row`, `2 rows`.
fn many(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

/// A fault of `ContributionAnchor.Fault`, in words.
const fn fault(code: u8) -> &'static str {
    match code {
        0 => "copies an earlier one",
        1 => "has a bad signature",
        2 => "names another chain, Datanet or commit block",
        3 => "is not what was committed to",
        _ => "is faulty",
    }
}

/// A `InferenceSettlement.DisableReason`, in words.
const fn disabled(code: u8) -> &'static str {
    match code {
        0 => "the guardian stopped it",
        1 => "it debits a payer beyond its deposit",
        2 => "a voucher was demanded and not shown",
        _ => "it is faulty",
    }
}

fn role(id: u64) -> String {
    match Role::ALL.into_iter().find(|role| role.id() == id) {
        Some(role) => role.label().to_owned(),
        None if id == 0 => "administrator".to_owned(),
        None => format!("role {id}"),
    }
}

/// The functions that roles may call.
fn function(selector: [u8; 4]) -> String {
    match selector {
        InferenceSettlement::postCall::SELECTOR => "post".to_owned(),
        InferenceSettlement::disableCall::SELECTOR => "disable".to_owned(),
        DatanetRegistry::setPausedCall::SELECTOR => "setPaused".to_owned(),
        ProtocolParameters::setCall::SELECTOR => "set".to_owned(),
        CommonsVault::releaseCall::SELECTOR => "release".to_owned(),
        other => format!("function 0x{}", hex::encode(other)),
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParametersSet(e) => write!(
                f,
                "New protocol parameters take effect with epoch {}: contributors get {}, operators \
                 {}, model owners {}, stakers {} and the treasury {} basis points of each fee",
                e.fromEpoch,
                e.parameters.contributorsBps,
                e.parameters.operatorBps,
                e.parameters.modelOwnerBps,
                e.parameters.stakersBps,
                e.parameters.treasuryBps
            ),
            Self::DatanetCreated(e) => write!(
                f,
                "{} created Datanet {} \"{}\" under licence {} for a fee of {}",
                e.owner,
                e.datanet,
                e.name,
                e.licence,
                open(e.fee.saturating_to())
            ),
            Self::PolicyChanged(e) => {
                write!(
                    f,
                    "Datanet {} changed its policy for future versions",
                    e.datanet
                )
            }
            Self::VersionPublished(e) => write!(
                f,
                "Datanet {} sealed version {} with {} accepted and {} rejected",
                e.datanet,
                e.number,
                many(e.accepted, "row"),
                e.rejected
            ),
            Self::PausedChanged(e) if e.paused => {
                write!(f, "{} stopped contributions to Datanet {}", e.by, e.datanet)
            }
            Self::PausedChanged(e) => {
                write!(
                    f,
                    "{} allowed contributions to Datanet {} again",
                    e.by, e.datanet
                )
            }
            Self::CommonsReleased { vault, event } => write!(
                f,
                "The commons {vault} spent {} to {}",
                open(event.amount.saturating_to()),
                event.to
            ),
            Self::Committed(e) => {
                write!(
                    f,
                    "{} claimed priority for a batch in block {}",
                    e.by, e.blockNumber
                )
            }
            Self::Anchored(e) => write!(
                f,
                "{} anchored batch {} with {} ({} bytes) in Datanet {}, bonded with {}",
                e.submitter,
                e.batch,
                many(e.count, "contribution"),
                e.size,
                e.datanet,
                open(e.bond)
            ),
            Self::ContributionSlashed(e) => write!(
                f,
                "{} proved that contribution {} of batch {} by {} {}; {} went to the challenger and \
                 {} were burned",
                e.challenger,
                e.index,
                e.batch,
                e.contributor,
                fault(e.fault),
                open(e.toChallenger),
                open(e.burned)
            ),
            Self::BatchFinalised(e) => write!(
                f,
                "Batch {} can no longer be challenged; {} of bond are free again",
                e.batch,
                open(e.unlocked)
            ),
            Self::BondDeposited(e) => write!(
                f,
                "{} added {} to its contribution bonds, now {}",
                e.account,
                open(e.amount),
                open(e.total)
            ),
            Self::BondWithdrawn(e) => write!(
                f,
                "{} took {} out of its contribution bonds, now {}",
                e.account,
                open(e.amount),
                open(e.total)
            ),
            Self::BaseRegistered(e) => write!(
                f,
                "{} registered base model {} ({}) for a fee of {}",
                e.owner,
                e.id,
                e.uri,
                open(e.fee.saturating_to())
            ),
            Self::AdapterRegistered(e) => write!(
                f,
                "{} registered adapter {} of base model {}, tuned on {}, at {} wei a prompt token \
                 and {} wei an output token",
                e.adapter.owner,
                e.id,
                e.base,
                many(e.datasets.len() as u64, "Datanet version"),
                e.adapter.priceIn,
                e.adapter.priceOut
            ),
            Self::ModelRetired(e) => write!(f, "Model {} is no longer offered", e.id),
            Self::Deposited(e) if e.from == e.payer => write!(
                f,
                "{} deposited {} for inference, balance {}",
                e.payer,
                open(e.amount),
                open(e.balance)
            ),
            Self::Deposited(e) => write!(
                f,
                "{} deposited {} for {}, balance {}",
                e.from,
                open(e.amount),
                e.payer,
                open(e.balance)
            ),
            Self::EpochPosted(e) => write!(
                f,
                "{} posted epoch {} with {} and fees of {}",
                e.settler,
                e.epoch,
                many(e.settlement.receipts, "answer"),
                open(e.settlement.fees)
            ),
            Self::EpochFinalised(e) => write!(
                f,
                "Epoch {} is final; {} of fees can be claimed in all since the first epoch",
                e.epoch,
                open(e.cumulativeFees)
            ),
            Self::EpochDisabled(e) => write!(
                f,
                "Epoch {} and all after it were withdrawn because {}",
                e.epoch,
                disabled(e.reason)
            ),
            Self::Claimed(e) => write!(
                f,
                "{} was paid {} from epoch {}, {} in all",
                e.earner,
                open(e.amount),
                e.epoch,
                open(e.cumulative)
            ),
            Self::PaymentHeld(e) => write!(f, "{} are held for {}", open(e.amount), e.account),
            Self::Withdrawn(e) => {
                write!(f, "{} took out {} held for it", e.account, open(e.amount))
            }
            Self::ExitRequested(e) => write!(f, "{} asked for its deposit back", e.payer),
            Self::ExitCancelled(e) => write!(f, "{} deposited again and stays", e.payer),
            Self::Exited(e) => write!(
                f,
                "{} took back {} of its deposit, having spent {}",
                e.payer,
                open(e.amount),
                open(e.spent)
            ),
            Self::ExitContested(e) => write!(
                f,
                "Somebody showed that {} spent {} by epoch {}",
                e.payer,
                open(e.cumulative),
                e.epoch
            ),
            Self::SettlerBonded(e) => {
                write!(
                    f,
                    "The bond of settler {} is now {}",
                    e.settler,
                    open(e.amount)
                )
            }
            Self::SettlerSlashed(e) => write!(
                f,
                "Settler {} lost bond: {} went to {} and {} were burned",
                e.settler,
                open(e.toChallenger),
                e.challenger,
                open(e.burned)
            ),
            Self::VoucherDemanded(e) => write!(
                f,
                "{} demands the voucher behind {}'s debit of {} in epoch {}",
                e.challenger,
                e.payer,
                open(e.cumulative),
                e.epoch
            ),
            Self::DemandAnswered(e) => write!(
                f,
                "{} showed the voucher of {} for epoch {}, up to {}",
                e.by,
                e.payer,
                e.epoch,
                open(e.maxCumulative)
            ),
            Self::DemandClosed(e) if e.disabled => write!(
                f,
                "Nobody showed the voucher of {} for epoch {}, so the epoch is withdrawn",
                e.payer, e.epoch
            ),
            Self::DemandClosed(e) => write!(
                f,
                "The demand for the voucher of {} lapsed with epoch {}",
                e.payer, e.epoch
            ),
            Self::TokenMoved { kind, id, from, to } if *from == Address::ZERO => {
                write!(f, "{to} became the owner of {kind} {id}")
            }
            Self::TokenMoved { kind, id, from, to } => {
                write!(f, "{from} gave {kind} {id} to {to}")
            }
            Self::RoleGranted(e) => write!(f, "{} became {}", e.account, role(e.roleId)),
            Self::RoleRevoked(e) => write!(f, "{} is no longer {}", e.account, role(e.roleId)),
            Self::FunctionAssigned(e) => write!(
                f,
                "Who is {} may call {} of {}",
                role(e.roleId),
                function(e.selector.into()),
                e.target
            ),
            Self::RoleNamed(e) => write!(f, "Role {} is called {}", e.roleId, e.label),
            Self::AuthoritySet {
                contract,
                authority,
            } => {
                write!(f, "{contract} takes its rules of access from {authority}")
            }
            Self::Other { contract, what } => write!(f, "{contract}: {what}"),
        }
    }
}
