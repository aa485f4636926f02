//! The money story, told from the logs alone.
//!
//! ```text
//! settlement: deposited = taken back + claimed + claimable + waiting for finality + unspent
//! balance    = deposited - taken back - claimed + bonds + held
//! anchor:     balance = bonds of all accounts
//! ```

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use openledger_primitives::{AmountError, Wei};

use crate::event::{Event, Located};
use crate::{Error, Reader};

/// A posted epoch as the logs tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Digest of the settlement record.
    pub digest: B256,
    /// Root of cumulative credits.
    pub earner_root: B256,
    /// Who posted it.
    pub settler: Address,
    /// Answers in it.
    pub receipts: u64,
    /// Its fees.
    pub fees: Wei,
    /// Fees of all epochs up to it.
    pub cumulative_fees: Wei,
    /// Whether its window has passed.
    pub is_final: bool,
}

/// What one payer put in and took back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayerLine {
    /// Everything deposited for it.
    pub deposited: Wei,
    /// Everything it took back.
    pub withdrawn: Wei,
}

/// An anchored batch's bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchBond {
    submitter: Address,
    locked: Wei,
}

/// Where every deposited wei is. The parts sum to `deposited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Flow {
    /// Everything that payers deposited.
    pub deposited: Wei,
    /// Taken back by payers.
    pub withdrawn: Wei,
    /// Paid to earners.
    pub claimed: Wei,
    /// Final and not claimed yet.
    pub claimable: Wei,
    /// Posted, in the challenge window.
    pub pending: Wei,
    /// Not spent by any posted epoch.
    pub unspent: Wei,
}

/// The state of all money, rebuilt from events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By payer.
    pub payers: BTreeMap<Address, PayerLine>,
    /// Everything paid, by earner.
    pub claimed: BTreeMap<Address, Wei>,
    /// Live epochs; withdrawn ones are gone until posted anew.
    pub epochs: BTreeMap<u64, Epoch>,
    /// Waiting for `withdraw`, by account.
    pub held: BTreeMap<Address, Wei>,
    /// Settlers' bonds.
    pub settler_bonds: BTreeMap<Address, Wei>,
    /// Bonds of open demands.
    pub demand_bonds: Wei,
    /// Contribution bonds, by account, locked or free.
    pub contribution_bonds: BTreeMap<Address, Wei>,
    /// The part of them that batches lock.
    pub locked_bonds: BTreeMap<Address, Wei>,
    /// Burned in both contracts.
    pub burned: Wei,
    /// Fees for Datanets, paid to the treasury.
    pub datanet_fees: Wei,
    /// Fees for models, paid to the treasury.
    pub model_fees: Wei,
    /// Spent from the Datanets' commons, by vault.
    pub commons_spent: BTreeMap<Address, Wei>,
    batches: BTreeMap<u64, BatchBond>,
}

fn sum(error: AmountError) -> Error {
    Error::Ledger(error.to_string())
}

fn add(to: &mut Wei, amount: Wei) -> Result<(), Error> {
    *to = to.checked_add(amount).map_err(sum)?;
    Ok(())
}

fn take(from: &mut Wei, amount: Wei) -> Result<(), Error> {
    *from = from.checked_sub(amount).map_err(sum)?;
    Ok(())
}

/// Replays events in chain order.
///
/// # Errors
/// [`Error::Ledger`] if they contradict themselves, which means that logs are missing.
pub fn recompute<'a>(events: impl IntoIterator<Item = &'a Located>) -> Result<Ledger, Error> {
    let mut ledger = Ledger::default();
    for located in events {
        ledger.apply(&located.event).map_err(|error| match error {
            Error::Ledger(reason) => Error::Ledger(format!(
                "block {}, log {}: {reason}: {}",
                located.block, located.log_index, located.event
            )),
            other => other,
        })?;
    }
    ledger.check()?;
    Ok(ledger)
}

impl Ledger {
    /// Applies the next event.
    ///
    /// # Errors
    /// [`Error::Ledger`] if it cannot follow the ones before.
    pub fn apply(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Deposited(e) => {
                let payer = self.payers.entry(e.payer).or_default();
                add(&mut payer.deposited, Wei::new(e.amount))
            }
            Event::Exited(e) => {
                let payer = self.payers.entry(e.payer).or_default();
                add(&mut payer.withdrawn, Wei::new(e.amount))
            }
            Event::EpochPosted(e) => self.post(e),
            Event::EpochFinalised(e) => match self.epochs.get_mut(&e.epoch) {
                Some(epoch) if epoch.earner_root == e.earnerCumRoot => {
                    epoch.is_final = true;
                    Ok(())
                }
                _ => Err(Error::Ledger(format!(
                    "epoch {} was never posted so",
                    e.epoch
                ))),
            },
            Event::EpochDisabled(e) => {
                let gone = self.epochs.split_off(&e.epoch);
                if gone.values().any(|epoch| epoch.is_final) {
                    return Err(Error::Ledger("a final epoch was withdrawn".to_owned()));
                }
                Ok(())
            }
            Event::Claimed(e) => {
                let paid = self.claimed.entry(e.earner).or_default();
                add(paid, Wei::new(e.amount))?;
                if *paid == Wei::new(e.cumulative) {
                    Ok(())
                } else {
                    Err(Error::Ledger(format!("{paid} wei claimed so far")))
                }
            }
            Event::PaymentHeld(e) => {
                add(self.held.entry(e.account).or_default(), Wei::new(e.amount))
            }
            Event::Withdrawn(e) => {
                take(self.held.entry(e.account).or_default(), Wei::new(e.amount))
            }
            Event::SettlerBonded(e) => {
                self.settler_bonds.insert(e.settler, Wei::new(e.amount));
                Ok(())
            }
            // What the challenger gets is told by a PaymentHeld of its own.
            Event::SettlerSlashed(e) => {
                let burned = Wei::new(e.burned);
                let lost = Wei::new(e.toChallenger).checked_add(burned).map_err(sum)?;
                take(self.settler_bonds.entry(e.settler).or_default(), lost)?;
                add(&mut self.burned, burned)
            }
            Event::VoucherDemanded(e) => add(&mut self.demand_bonds, Wei::new(e.bond)),
            Event::DemandAnswered(e) => {
                let burned = Wei::new(e.burned);
                let bond = Wei::new(e.toResponder).checked_add(burned).map_err(sum)?;
                take(&mut self.demand_bonds, bond)?;
                add(&mut self.burned, burned)
            }
            Event::DemandClosed(e) => take(&mut self.demand_bonds, Wei::new(e.returned)),
            Event::DatanetCreated(e) => {
                add(&mut self.datanet_fees, Wei::try_from(e.fee).map_err(sum)?)
            }
            Event::BaseRegistered(e) => {
                add(&mut self.model_fees, Wei::try_from(e.fee).map_err(sum)?)
            }
            Event::AdapterRegistered(e) => {
                add(&mut self.model_fees, Wei::try_from(e.fee).map_err(sum)?)
            }
            Event::CommonsReleased { vault, event } => add(
                self.commons_spent.entry(*vault).or_default(),
                Wei::try_from(event.amount).map_err(sum)?,
            ),
            Event::BondDeposited(e) => self.pool(e.account, e.amount, e.total, add),
            Event::BondWithdrawn(e) => self.pool(e.account, e.amount, e.total, take),
            Event::Anchored(e) => {
                let locked = Wei::new(e.bond);
                self.batches.insert(
                    e.batch,
                    BatchBond {
                        submitter: e.submitter,
                        locked,
                    },
                );
                add(self.locked_bonds.entry(e.submitter).or_default(), locked)
            }
            Event::BatchFinalised(e) => {
                let batch = self.batch(e.batch)?;
                if batch.locked != Wei::new(e.unlocked) {
                    return Err(Error::Ledger(format!("{} wei were locked", batch.locked)));
                }
                take(
                    self.locked_bonds.entry(batch.submitter).or_default(),
                    batch.locked,
                )
            }
            Event::ContributionSlashed(e) => {
                let (reward, burned) = (Wei::new(e.toChallenger), Wei::new(e.burned));
                let lost = reward.checked_add(burned).map_err(sum)?;
                let submitter = self.batch(e.batch)?.submitter;
                if let Some(batch) = self.batches.get_mut(&e.batch) {
                    take(&mut batch.locked, lost)?;
                }
                take(self.locked_bonds.entry(submitter).or_default(), lost)?;
                take(self.contribution_bonds.entry(submitter).or_default(), lost)?;
                add(
                    self.contribution_bonds.entry(e.challenger).or_default(),
                    reward,
                )?;
                add(&mut self.burned, burned)
            }
            // These move no coins.
            Event::ParametersSet(_)
            | Event::PolicyChanged(_)
            | Event::VersionPublished(_)
            | Event::PausedChanged(_)
            | Event::Committed(_)
            | Event::ModelRetired(_)
            | Event::ExitRequested(_)
            | Event::ExitCancelled(_)
            | Event::ExitContested(_)
            | Event::TokenMoved { .. }
            | Event::RoleGranted(_)
            | Event::RoleRevoked(_)
            | Event::FunctionAssigned(_)
            | Event::RoleNamed(_)
            | Event::AuthoritySet { .. }
            | Event::Other { .. } => Ok(()),
        }
    }

    fn post(&mut self, e: &crate::bindings::InferenceSettlement::EpochPosted) -> Result<(), Error> {
        let fees = Wei::new(e.settlement.fees);
        let before = self.cumulative_fees();
        let cumulative_fees = before.checked_add(fees).map_err(sum)?;
        let expected = self
            .epochs
            .keys()
            .next_back()
            .map_or(1, |last| last.saturating_add(1));
        if e.epoch != expected || cumulative_fees != Wei::new(e.cumulativeFees) {
            return Err(Error::Ledger(format!(
                "epoch {expected} with cumulative fees of {cumulative_fees} wei comes next"
            )));
        }
        let epoch = Epoch {
            digest: e.digest,
            earner_root: e.settlement.earnerCumRoot,
            settler: e.settler,
            receipts: e.settlement.receipts,
            fees,
            cumulative_fees,
            is_final: false,
        };
        self.epochs.insert(e.epoch, epoch);
        Ok(())
    }

    fn pool(
        &mut self,
        account: Address,
        amount: u128,
        total: u128,
        change: fn(&mut Wei, Wei) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let bond = self.contribution_bonds.entry(account).or_default();
        change(bond, Wei::new(amount))?;
        if *bond == Wei::new(total) {
            Ok(())
        } else {
            Err(Error::Ledger(format!(
                "the account had bonds of {bond} wei after this"
            )))
        }
    }

    fn batch(&self, batch: u64) -> Result<BatchBond, Error> {
        self.batches
            .get(&batch)
            .copied()
            .ok_or_else(|| Error::Ledger(format!("batch {batch} was never anchored")))
    }

    /// Fees of all live epochs.
    pub fn cumulative_fees(&self) -> Wei {
        self.epochs
            .values()
            .next_back()
            .map_or(Wei::ZERO, |epoch| epoch.cumulative_fees)
    }

    /// Fees of all final epochs.
    pub fn final_fees(&self) -> Wei {
        self.epochs
            .values()
            .rfind(|epoch| epoch.is_final)
            .map_or(Wei::ZERO, |epoch| epoch.cumulative_fees)
    }

    /// Where every deposited wei is.
    ///
    /// # Errors
    /// [`Error::Ledger`] if more went out than came in.
    pub fn flow(&self) -> Result<Flow, Error> {
        let deposited = Wei::total(self.payers.values().map(|p| p.deposited)).map_err(sum)?;
        let withdrawn = Wei::total(self.payers.values().map(|p| p.withdrawn)).map_err(sum)?;
        let claimed = Wei::total(self.claimed.values().copied()).map_err(sum)?;
        let (posted, settled) = (self.cumulative_fees(), self.final_fees());
        Ok(Flow {
            deposited,
            withdrawn,
            claimed,
            claimable: settled.checked_sub(claimed).map_err(sum)?,
            pending: posted.checked_sub(settled).map_err(sum)?,
            unspent: deposited
                .checked_sub(withdrawn)
                .and_then(|rest| rest.checked_sub(posted))
                .map_err(sum)?,
        })
    }

    /// Coins that `InferenceSettlement` must hold.
    ///
    /// # Errors
    /// [`Error::Ledger`] if the sums do not fit.
    pub fn settlement_balance(&self) -> Result<Wei, Error> {
        let flow = self.flow()?;
        Wei::total(
            [
                flow.claimable,
                flow.pending,
                flow.unspent,
                self.demand_bonds,
            ]
            .into_iter()
            .chain(self.settler_bonds.values().copied())
            .chain(self.held.values().copied()),
        )
        .map_err(sum)
    }

    /// Coins that `ContributionAnchor` must hold.
    ///
    /// # Errors
    /// [`Error::Ledger`] if the sum does not fit.
    pub fn anchor_balance(&self) -> Result<Wei, Error> {
        Wei::total(self.contribution_bonds.values().copied()).map_err(sum)
    }

    /// Checks that the ledger is possible: nothing went out that had not come in, and no bond is
    /// locked that is not there.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn check(&self) -> Result<(), Error> {
        self.flow()?;
        for (account, locked) in &self.locked_bonds {
            let bond = self
                .contribution_bonds
                .get(account)
                .copied()
                .unwrap_or_default();
            if *locked > bond {
                return Err(Error::Ledger(format!(
                    "{account} has {locked} wei locked of {bond} wei of bonds"
                )));
            }
        }
        Ok(())
    }

    /// Compares with the coins that the contracts hold after `block`, the last one whose events were
    /// applied.
    ///
    /// # Errors
    /// [`Error::Imbalance`], or the node's.
    pub async fn verify(&self, reader: &Reader, block: u64) -> Result<(), Error> {
        let at = reader.deployment;
        for (contract, address, expected) in [
            (
                "InferenceSettlement",
                at.settlement,
                self.settlement_balance()?,
            ),
            ("ContributionAnchor", at.anchor, self.anchor_balance()?),
        ] {
            let actual = reader.node().balance(address, Some(block)).await?;
            // Coins can be forced on a contract; they belong to nobody and hurt nobody.
            if actual < expected {
                return Err(Error::Imbalance {
                    contract,
                    expected,
                    actual,
                });
            }
        }
        Ok(())
    }
}
