//! The epoch fold: receipts and reports in, lines, credits and two cumulative roots out.

use std::collections::{BTreeMap, BTreeSet};

use openledger_primitives::{
    Address, B256, Bps, RECORD_VERSION, Record, Wei,
    merkle::Tree,
    records::{EpochSettlement, digest_leaf},
};
use serde::{Deserialize, Serialize};

use crate::{
    Channel, Cumulative, EpochInput, Error, Inference, Line, Role, Unpaid,
    book::{Book, Pools, receipt_digest},
};

/// A closed epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochOutput {
    /// The record that is posted.
    pub settlement: EpochSettlement,
    /// Every payment with its evidence, sorted; the amounts sum to the epoch's fees.
    pub lines: Vec<Line>,
    /// The lines summed by wallet and role.
    pub credits: BTreeMap<(Address, Role), Wei>,
    /// What each payer is debited for this epoch.
    pub debits: BTreeMap<Address, Wei>,
    /// The lines summed by role.
    pub totals: Totals,
    /// Cumulative debits after this epoch.
    pub payers: Cumulative,
    /// Cumulative credits after this epoch.
    pub earners: Cumulative,
    /// Digests of the receipts and their reports in leaf order (ascending receipt digest).
    pub receipts: Vec<(B256, B256)>,
    /// What happened to each model that answered, by adapter.
    pub models: Vec<ModelOutcome>,
}

/// A model's epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOutcome {
    /// Digest of the adapter's record.
    pub adapter: B256,
    /// Answers given.
    pub inferences: u64,
    /// The gradient channel's pot, wei.
    pub pot: Wei,
    /// The noise floor that the decoys gave, units of 2^-20.
    pub noise_floor: u32,
    /// The floor applied: the larger of the noise floor and the governed one.
    pub floor: u32,
    /// Whether the scores decided; otherwise the pot was shared equally.
    pub by_score: bool,
    /// Net average score of each cluster (by its first row), units of 2^-20.
    pub scores: Vec<(u32, i64)>,
    /// Clusters that the gradient pot paid.
    pub paid_clusters: u64,
    /// The governed floor of the next epoch.
    pub next_floor: u32,
}

/// An epoch's money by role; the parts sum to `fees`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All fees, wei.
    pub fees: Wei,
    /// To contributors.
    pub contributors: Wei,
    /// To operators.
    pub operator: Wei,
    /// To model owners.
    pub model_owner: Wei,
    /// To the stakers.
    pub stakers: Wei,
    /// To the treasury.
    pub treasury: Wei,
    /// To the commons of the Datanets.
    pub commons: Wei,
}

impl EpochOutput {
    /// The tree over the receipts' digests, whose root is `settlement.receiptRoot`.
    pub fn receipt_tree(&self) -> Tree {
        Tree::from_data(
            self.receipts
                .iter()
                .map(|&(receipt, _)| digest_leaf(receipt)),
        )
    }

    /// The tree over the reports' digests; a report stands where its receipt does.
    pub fn report_tree(&self) -> Tree {
        Tree::from_data(self.receipts.iter().map(|&(_, report)| digest_leaf(report)))
    }
}

/// Closes an epoch: checks every receipt, splits every fee, nets the gradient channel, and adds
/// the result to the cumulative ledgers.
///
/// The order of `input.models` and `input.inferences` does not matter. Work is
/// O(inferences x rows) additions.
///
/// # Errors
/// The [`Error`] of the first receipt (by digest) that breaks a rule; then nothing is settled.
pub fn close_epoch(input: &EpochInput) -> Result<EpochOutput, Error> {
    check_balance(&input.payers, &input.earners)?;
    let inferences = in_order(input)?;
    let span_share = Bps::new(input.parameters.spanBps)?;
    let pools = Pools {
        stakers: input.stakers,
        treasury: input.treasury,
    };
    let mut books = open_books(input)?;
    let commons: BTreeMap<B256, Address> = books
        .iter()
        .map(|(&adapter, book)| (adapter, book.commons()))
        .collect();

    let mut lines = Vec::new();
    let mut debits = BTreeMap::<Address, Wei>::new();
    for (&receipt, inference) in &inferences {
        let adapter = inference.receipt.adapter;
        let book = books
            .get_mut(&adapter)
            .ok_or(Error::UnknownModel { receipt, adapter })?;
        book.enter(inference, receipt, span_share, pools, &mut lines)?;
        let debit = debits.entry(inference.receipt.payer).or_default();
        *debit = debit.checked_add(Wei::new(inference.receipt.fee))?;
    }
    let mut models = Vec::with_capacity(books.len());
    for book in books.into_values() {
        models.push(book.close(
            &input.parameters,
            &input.threshold,
            input.quality_floor_micro,
            &mut lines,
        )?);
    }
    sweep_dust(&mut lines, Wei::new(input.parameters.dustFloor), &commons)?;
    lines.sort_unstable();

    let payers = debit(&input.payers, &debits, &input.signed)?;
    let mut earners = input.earners.clone();
    let mut credits = BTreeMap::<(Address, Role), Wei>::new();
    for line in &lines {
        earners.add(line.earner, line.amount)?;
        let credit = credits
            .entry((line.earner, line.channel.role()))
            .or_default();
        *credit = credit.checked_add(line.amount)?;
    }
    check_balance(&payers, &earners)?;
    let totals = totals(&credits, Wei::total(debits.values().copied())?)?;

    let receipts: Vec<(B256, B256)> = inferences
        .iter()
        .map(|(&receipt, inference)| (receipt, inference.report))
        .collect();
    let mut output = EpochOutput {
        settlement: EpochSettlement {
            version: RECORD_VERSION,
            chainId: input.chain_id,
            epoch: input.epoch,
            payerCumRoot: payers.root(),
            earnerCumRoot: earners.root(),
            fees: totals.fees.get(),
            receipts: u64::try_from(receipts.len())
                .map_err(|_| Error::OutOfRange { what: "receipts" })?,
            parameters: input.parameters.digest(),
            daRef: input.da_ref,
            ..EpochSettlement::default()
        },
        lines,
        credits,
        debits,
        totals,
        payers,
        earners,
        receipts,
        models,
    };
    output.settlement.receiptRoot = output.receipt_tree().root();
    output.settlement.reportRoot = output.report_tree().root();
    Ok(output)
}

/// The inferences by receipt digest: the canonical order.
fn in_order(input: &EpochInput) -> Result<BTreeMap<B256, &Inference>, Error> {
    let mut ordered = BTreeMap::new();
    let mut sequences = BTreeSet::new();
    for inference in &input.inferences {
        let receipt = receipt_digest(inference, input.chain_id)?;
        if ordered.insert(receipt, inference).is_some() {
            return Err(Error::DuplicateReceipt(receipt));
        }
        let (operator, sequence) = (inference.receipt.operator, inference.receipt.sequence);
        if !sequences.insert((operator, sequence)) {
            return Err(Error::Equivocation { operator, sequence });
        }
    }
    Ok(ordered)
}

fn open_books(input: &EpochInput) -> Result<BTreeMap<B256, Book<'_>>, Error> {
    let mut books = BTreeMap::new();
    for model in &input.models {
        if books.insert(model.adapter, Book::new(model)?).is_some() {
            return Err(Error::DuplicateModel(model.adapter));
        }
    }
    Ok(books)
}

/// Sends the contributor lines of owners who earned less than `floor` in the epoch to the commons.
fn sweep_dust(
    lines: &mut [Line],
    floor: Wei,
    commons: &BTreeMap<B256, Address>,
) -> Result<(), Error> {
    let mut earned = BTreeMap::<Address, Wei>::new();
    for line in lines
        .iter()
        .filter(|line| line.channel.role() == Role::Contributor)
    {
        let sum = earned.entry(line.earner).or_default();
        *sum = sum.checked_add(line.amount)?;
    }
    for line in lines
        .iter_mut()
        .filter(|line| line.channel.role() == Role::Contributor)
    {
        if earned.get(&line.earner).is_some_and(|&sum| sum < floor) {
            let role = Role::Commons.code();
            let adapter = line.adapter;
            line.channel = Channel::Commons(Unpaid::BelowDustFloor);
            line.earner = commons
                .get(&adapter)
                .copied()
                .filter(|&wallet| wallet != Address::ZERO)
                .ok_or(Error::NoWallet { role, adapter })?;
        }
    }
    Ok(())
}

/// Adds the debits to the payers' ledger, none beyond what its payer signed for.
fn debit(
    before: &Cumulative,
    debits: &BTreeMap<Address, Wei>,
    signed: &BTreeMap<Address, Wei>,
) -> Result<Cumulative, Error> {
    let mut payers = before.clone();
    for (&payer, &amount) in debits {
        payers.add(payer, amount)?;
        let debited = payers.get(payer);
        let signed = signed.get(&payer).copied().unwrap_or_default();
        if debited > signed {
            return Err(Error::BeyondVoucher {
                payer,
                signed,
                debited,
            });
        }
    }
    Ok(payers)
}

fn check_balance(payers: &Cumulative, earners: &Cumulative) -> Result<(), Error> {
    let (debits, credits) = (payers.total()?, earners.total()?);
    if debits == credits {
        Ok(())
    } else {
        Err(Error::Unbalanced { debits, credits })
    }
}

fn totals(credits: &BTreeMap<(Address, Role), Wei>, fees: Wei) -> Result<Totals, Error> {
    let mut totals = Totals {
        fees,
        ..Totals::default()
    };
    for (&(_, role), &amount) in credits {
        let part = match role {
            Role::Contributor => &mut totals.contributors,
            Role::Operator => &mut totals.operator,
            Role::ModelOwner => &mut totals.model_owner,
            Role::Stakers => &mut totals.stakers,
            Role::Treasury => &mut totals.treasury,
            Role::Commons => &mut totals.commons,
        };
        *part = part.checked_add(amount)?;
    }
    Ok(totals)
}
