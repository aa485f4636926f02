//! The money: closing an epoch, posting it, and paying it out.
//!
//! An epoch moves through four states, each stored before the next begins: *closing* (which
//! completions it settles is fixed), *closed* (its lines are computed and stored), *posted* (its
//! roots are on the chain) and *active* (its window is over; the contract pays from it). Every
//! step asks the chain what it already holds, so a node that dies in between goes on where it
//! stopped and pays nobody twice.

use std::collections::{BTreeMap, BTreeSet};

use openledger_primitives::records::EpochSettlement;
use openledger_primitives::{Address, B256, Record as _, Wei, merkle};
use openledger_settlement::{
    Cumulative, EpochInput, Inference, Line, Model, Prices, Quality, Role, Row, Split, Threshold,
    close_epoch,
};
use serde::{Deserialize, Serialize};

use crate::state::{CompletionDoc, EpochDoc, EpochStatus, ModelDoc, collection};
use crate::view::{EarnerLine, EarningLine, EpochView};
use crate::wallets::Role as Wallet;
use crate::{Error, Node, Result};

/// `completion id -> epoch number`.
const SETTLED: &str = "settled";
/// Claims sent before their receipts are awaited.
const CLAIM_BATCH: usize = 64;

/// A settlement line with the completion that it came from, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredLine {
    pub(crate) line: Line,
    /// Datanet row behind the line's training row.
    pub(crate) row: Option<u32>,
    pub(crate) completion: Option<String>,
    pub(crate) model: String,
    pub(crate) datanet: Option<u64>,
}

impl Node {
    /// Closes the open epoch over every completion that is traced and not yet settled, and stores
    /// its lines. `None` if there is nothing to settle.
    pub(crate) async fn close_epoch(&self) -> Result<Option<u64>> {
        let _one_at_a_time = self.settling().lock().await;
        let node = self.clone();
        tokio::task::spawn_blocking(move || node.close_epoch_now()).await?
    }

    fn close_epoch_now(&self) -> Result<Option<u64>> {
        // One that was interrupted goes first: its completions are fixed already.
        let last = self.catalogue().list::<EpochDoc>(collection::EPOCHS)?.pop();
        let mut doc = match last {
            Some((_, doc)) if doc.status == EpochStatus::Closing => doc,
            last => {
                let completions = self.unsettled()?;
                if completions.is_empty() {
                    return Ok(None);
                }
                let number = last.as_ref().map_or(1, |(_, doc)| doc.epoch + 1);
                let doc = EpochDoc::closing(number, completions);
                self.catalogue().write(|tx| {
                    for id in &doc.completions {
                        tx.put(SETTLED, id, &number)?;
                        tx.remove(collection::TRACED, id)?;
                    }
                    tx.put(collection::EPOCHS, &epoch_key(number), &doc)
                })?;
                doc
            }
        };
        self.compute(&mut doc)?;
        Ok(Some(doc.epoch))
    }

    /// Completions with a finished attribution that no epoch has taken, oldest first.
    fn unsettled(&self) -> Result<Vec<String>> {
        let mut waiting = self.catalogue().list::<u64>(collection::TRACED)?;
        waiting.sort_by_key(|(_, sequence)| *sequence);
        Ok(waiting.into_iter().map(|(id, _)| id).collect())
    }

    /// Folds the epoch's receipts and reports into lines and roots, and stores them.
    fn compute(&self, doc: &mut EpochDoc) -> Result<()> {
        let number = doc.epoch;
        let before = match number {
            0 | 1 => None,
            _ => Some(
                self.epoch_doc(number - 1)?
                    .ok_or_else(|| Error::not_found("epoch", number - 1))?,
            ),
        };
        let models: Vec<(String, ModelDoc)> = self.catalogue().list(collection::MODELS)?;
        let mut used = BTreeSet::new();
        let mut by_receipt = BTreeMap::new();
        let mut inferences = Vec::with_capacity(doc.completions.len());
        let mut references = Vec::new();
        for id in &doc.completions {
            let completion: CompletionDoc = self.completion_doc(id)?;
            let doc = self
                .attribution_doc(id)?
                .ok_or_else(|| Error::not_found("attribution", id))?;
            let attribution = doc.attribution;
            let signed = self.signed_receipt(id)?;
            used.insert(completion.model.clone());
            by_receipt.insert(completion.receipt, (id.clone(), completion.model.clone()));
            references.extend_from_slice(completion.receipt.as_slice());
            references.extend_from_slice(doc.report.as_slice());
            inferences.push(Inference {
                receipt: signed.receipt,
                report: doc.report,
                surprisals: signed.surprisals,
                cover: attribution.cover_rows(),
                scores: attribution.row_scores().to_vec(),
                decoys: attribution.decoy_scores().to_vec(),
            });
        }
        let floors = before
            .as_ref()
            .map(|doc| doc.floors.clone())
            .unwrap_or_default();
        let threshold = Threshold::default();
        let mut settled_models = Vec::new();
        let mut trained: BTreeMap<String, (u64, Vec<u32>)> = BTreeMap::new();
        for (name, model) in models.into_iter().filter(|(name, _)| used.contains(name)) {
            let adapter = model.receipt_digest();
            // Receipts of any base alone carry the zero digest, so two bases share one book.
            if settled_models
                .iter()
                .any(|model: &Model| model.adapter == adapter)
            {
                continue;
            }
            let (rows, commons) = match (model.datanet, &model.train_rows) {
                (Some((datanet, version)), Some(blob)) => {
                    let train: Vec<u32> = self.blob_json(blob)?;
                    let all = self.version_rows(datanet, version)?;
                    // Duplicates were refused at the door, so each row heads its own cluster.
                    let rows = (0u32..)
                        .zip(&train)
                        .map(|(position, &row)| Row {
                            owner: all[row as usize].address,
                            cluster: position,
                        })
                        .collect();
                    trained.insert(name.clone(), (datanet, train));
                    (rows, self.datanet_doc(datanet)?.commons)
                }
                _ => (Vec::new(), self.wallets().address(Wallet::Commons)),
            };
            settled_models.push(Model {
                adapter,
                split: Split::new(self.parameters())?,
                owner: model.owner,
                commons,
                prices: Prices {
                    prompt: model.price_in,
                    output: model.price_out,
                },
                rows,
                floor: floors.get(&adapter).copied().unwrap_or(threshold.min),
                quality: Quality::Unaudited,
            });
        }
        let input = EpochInput {
            chain_id: self.chain_id(),
            epoch: number,
            parameters: self.parameters().clone(),
            threshold,
            quality_floor_micro: 0,
            stakers: self.wallets().address(Wallet::Stakers),
            treasury: self.wallets().address(Wallet::Treasury),
            da_ref: merkle::chunk_root(&references),
            models: settled_models,
            inferences,
            signed: self.signed_vouchers()?,
            payers: ledger(before.as_ref().map(|doc| doc.payers.as_slice()))?,
            earners: ledger(before.as_ref().map(|doc| doc.earners.as_slice()))?,
        };
        let output = close_epoch(&input)?;

        let lines: Vec<StoredLine> = output
            .lines
            .iter()
            .map(|line| {
                let from = line.receipt.and_then(|receipt| by_receipt.get(&receipt));
                let model = match from {
                    Some((_, model)) => model.clone(),
                    None => self.model_name(line.adapter).unwrap_or_default(),
                };
                let from_rows = trained.get(&model);
                StoredLine {
                    completion: from.map(|(id, _)| id.clone()),
                    datanet: from_rows.map(|(datanet, _)| *datanet),
                    row: line
                        .row
                        .and_then(|row| from_rows?.1.get(row as usize).copied()),
                    model,
                    line: line.clone(),
                }
            })
            .collect();
        let clusters: BTreeSet<(B256, u32)> = output
            .lines
            .iter()
            .filter(|line| line.channel.role() == Role::Contributor)
            .filter_map(|line| Some((line.adapter, line.row?)))
            .collect();
        let bytes = serde_json::to_vec(&lines)
            .map_err(|error| Error::Task(format!("lines have no JSON form: {error}")))?;
        doc.lines = self.blobs().put(&bytes)?;
        self.blobs().put(&references)?;
        doc.totals = output.totals;
        doc.clusters_paid = clusters.len() as u64;
        doc.earners = output.earners.iter().collect();
        doc.payers = output.payers.iter().collect();
        doc.floors = floors;
        doc.floors.extend(
            output
                .models
                .iter()
                .map(|model| (model.adapter, model.next_floor)),
        );
        doc.digest = output.settlement.digest();
        doc.status = EpochStatus::Closed;
        self.catalogue().write(|tx| {
            tx.put_record(&output.settlement)?;
            tx.put(collection::EPOCHS, &epoch_key(number), &*doc)
        })?;
        self.notices().publish(
            "epoch",
            &serde_json::json!({"epoch": number, "status": "closed"}),
        );
        Ok(())
    }

    /// Takes a closed epoch to the end: posted, its window over, everyone paid.
    pub(crate) async fn finish_epoch(&self, number: u64) -> Result<()> {
        let _one_at_a_time = self.settling().lock().await;
        let mut doc = self
            .epoch_doc(number)?
            .ok_or_else(|| Error::not_found("epoch", number))?;
        let operator = self.wallets().role(Wallet::Operator);
        let settlement: EpochSettlement = self
            .catalogue()
            .record(&doc.digest)?
            .ok_or_else(|| Error::not_found("settlement record", doc.digest))?;
        if doc.status == EpochStatus::Closed {
            self.stage("settlement", format!("posting epoch {number}"), 1, 3);
            let tx = self.contracts().post(&operator, &settlement).await?;
            doc.tx = Some(tx);
            doc.status = EpochStatus::Posted;
            self.save_epoch(&doc)?;
        }
        if doc.status == EpochStatus::Posted {
            self.stage("settlement", "waiting for the challenge window", 2, 3);
            self.contracts().finalise(&operator, number).await?;
            doc.status = EpochStatus::Active;
            self.save_epoch(&doc)?;
        }
        self.pay_out(&mut doc).await?;
        let batches: Vec<u64> = self
            .datanet_docs()?
            .iter()
            .flat_map(|doc| doc.versions.iter().map(|version| version.batch))
            .collect();
        self.contracts()
            .release_bonds(&self.wallets().role(Wallet::Curator), &batches)
            .await?;
        doc.balanced = self.adds_up(&doc)? && self.contracts().audit().await?.balanced;
        self.save_epoch(&doc)?;
        self.stage("settlement", format!("epoch {number} is paid"), 3, 3);
        Ok(())
    }

    /// Lets every wallet that is owed something claim it with its own key. On the dev network the
    /// faucet first lends the gas.
    async fn pay_out(&self, doc: &mut EpochDoc) -> Result<()> {
        let earners = ledger(Some(&doc.earners))?;
        let mut due = Vec::new();
        for proof in earners.proofs() {
            if doc.claims.contains_key(&proof.account) || proof.cumulative.is_zero() {
                continue;
            }
            if self.contracts().claimed_of(proof.account).await? < proof.cumulative {
                due.push(proof);
            }
        }
        let total = (doc.claims.len() + due.len()) as u64;
        for batch in due.chunks(CLAIM_BATCH) {
            let signers = batch
                .iter()
                .map(|proof| self.signer_of(proof.account))
                .collect::<Result<Vec<_>>>()?;
            let paid = self
                .contracts()
                .claim_all(self.wallets(), batch, &signers)
                .await?;
            for (account, amount, tx) in paid {
                doc.claims.insert(account, (amount, tx));
            }
            self.save_epoch(doc)?;
            let done = doc.claims.len() as u64;
            self.stage(
                "claims",
                format!("{done} of {total} wallets paid"),
                done,
                total,
            );
        }
        Ok(())
    }

    /// Closes, posts and pays out whatever is waiting. `None` if nothing is.
    ///
    /// # Errors
    /// As the chain and the settlement rules report.
    pub async fn settle_now(&self) -> Result<Option<u64>> {
        let Some(number) = self.close_epoch().await? else {
            return Ok(None);
        };
        self.finish_epoch(number).await?;
        Ok(Some(number))
    }

    /// Settles whatever is waiting, again and again, until the node stops. A failure is logged and
    /// tried again at the next turn: the epoch goes on where it stopped.
    pub async fn settle_every(&self, period: std::time::Duration) {
        let mut turns = tokio::time::interval(period);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        turns.tick().await;
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = self.stopped() => return,
            }
            match self.settle_waiting().await {
                Ok(None) => {}
                Ok(Some(epoch)) => tracing::info!(epoch, "settled"),
                Err(error) => tracing::error!(%error, "settlement failed; it will be tried again"),
            }
        }
    }

    /// Finishes an epoch that was interrupted, or settles what is waiting.
    async fn settle_waiting(&self) -> Result<Option<u64>> {
        let last = self.catalogue().list::<EpochDoc>(collection::EPOCHS)?.pop();
        match last {
            Some((_, doc)) if matches!(doc.status, EpochStatus::Closed | EpochStatus::Posted) => {
                self.finish_epoch(doc.epoch).await?;
                Ok(Some(doc.epoch))
            }
            _ => self.settle_now().await,
        }
    }

    fn save_epoch(&self, doc: &EpochDoc) -> Result<()> {
        self.catalogue()
            .write(|tx| tx.put(collection::EPOCHS, &epoch_key(doc.epoch), doc))?;
        let status = serde_json::json!({"epoch": doc.epoch, "status": doc.status});
        self.notices().publish("epoch", &status);
        Ok(())
    }

    pub(crate) fn epoch_doc(&self, number: u64) -> Result<Option<EpochDoc>> {
        Ok(self
            .catalogue()
            .get(collection::EPOCHS, &epoch_key(number))?)
    }

    /// The epoch that settles a completion, if one does.
    pub(crate) fn epoch_of(&self, completion: &str) -> Result<Option<u64>> {
        Ok(self.catalogue().get(SETTLED, completion)?)
    }

    /// Epochs whose lines are computed, oldest first.
    pub(crate) fn closed_epochs(&self) -> Result<Vec<EpochDoc>> {
        let epochs = self.catalogue().list::<EpochDoc>(collection::EPOCHS)?;
        Ok(epochs
            .into_iter()
            .map(|(_, doc)| doc)
            .filter(|doc| doc.status != EpochStatus::Closing)
            .collect())
    }

    /// The lines of an epoch.
    pub(crate) fn lines(&self, doc: &EpochDoc) -> Result<Vec<StoredLine>> {
        let bytes = self
            .blobs()
            .get(&doc.lines)?
            .ok_or_else(|| Error::not_found("blob", doc.lines))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Task(format!("lines of epoch {}: {error}", doc.epoch)))
    }

    /// Whether the lines, the totals and both ledgers of an epoch agree.
    fn adds_up(&self, doc: &EpochDoc) -> Result<bool> {
        let lines = self.lines(doc)?;
        let sum = Wei::total(lines.iter().map(|line| line.line.amount))?;
        let debits = Wei::total(doc.payers.iter().map(|&(_, wei)| wei))?;
        let credits = Wei::total(doc.earners.iter().map(|&(_, wei)| wei))?;
        Ok(sum == doc.totals.fees && debits == credits)
    }

    /// Settled epochs, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn epochs(&self) -> Result<Vec<EpochView>> {
        Ok(self.closed_epochs()?.iter().rev().map(epoch_view).collect())
    }

    /// Everyone who earned something, highest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn earners(&self, offset: usize, limit: usize) -> Result<crate::view::Page<EarnerLine>> {
        let mut all = self.earner_lines()?;
        all.sort_by(|a, b| b.earned.cmp(&a.earned).then(a.address.cmp(&b.address)));
        let total = all.len();
        let items = all.into_iter().skip(offset).take(limit).collect();
        Ok(crate::view::Page {
            items,
            offset,
            total,
        })
    }

    fn earner_lines(&self) -> Result<Vec<EarnerLine>> {
        let epochs = self.closed_epochs()?;
        let Some(last) = epochs.last() else {
            return Ok(Vec::new());
        };
        let mut rows: BTreeMap<Address, BTreeMap<u32, Wei>> = BTreeMap::new();
        for doc in &epochs {
            for StoredLine { line, row, .. } in self.lines(doc)? {
                if let (Role::Contributor, Some(row)) = (line.channel.role(), row) {
                    let sum = rows.entry(line.earner).or_default().entry(row).or_default();
                    *sum = sum.checked_add(line.amount)?;
                }
            }
        }
        let mut claimed: BTreeMap<Address, Wei> = BTreeMap::new();
        for (account, (amount, _)) in epochs.iter().flat_map(|doc| &doc.claims) {
            let sum = claimed.entry(*account).or_default();
            *sum = sum.checked_add(*amount)?;
        }
        last.earners
            .iter()
            .map(|&(address, earned)| {
                let mut best: Vec<(Wei, u32)> = rows
                    .get(&address)
                    .map(|rows| rows.iter().map(|(row, wei)| (*wei, *row)).collect())
                    .unwrap_or_default();
                best.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
                let name = self.name_of(address)?;
                Ok(EarnerLine {
                    role: name
                        .as_ref()
                        .map_or("contributor", |n| n.role.as_str())
                        .to_owned(),
                    name: name.map(|n| n.name),
                    address,
                    earned,
                    claimed: claimed.get(&address).copied().unwrap_or_default(),
                    rows: best.into_iter().take(3).map(|(_, row)| row).collect(),
                })
            })
            .collect()
    }

    /// What one wallet earned for what, newest epoch first.
    pub(crate) fn earning_lines(&self, address: Address) -> Result<Vec<EarningLine>> {
        let mut found = Vec::new();
        for doc in self.closed_epochs()?.iter().rev() {
            for StoredLine {
                line,
                row,
                completion,
                ..
            } in self.lines(doc)?
            {
                if line.earner == address {
                    found.push(EarningLine {
                        epoch: doc.epoch,
                        channel: line.channel.code().to_owned(),
                        row,
                        completion,
                        amount: line.amount,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Earned by each row of a Datanet in settled epochs.
    pub(crate) fn row_earnings(&self, datanet: u64) -> Result<BTreeMap<u32, Wei>> {
        let mut earned: BTreeMap<u32, Wei> = BTreeMap::new();
        for doc in self.closed_epochs()? {
            for stored in self.lines(&doc)? {
                if stored.datanet != Some(datanet) {
                    continue;
                }
                if let (Role::Contributor, Some(row)) = (stored.line.channel.role(), stored.row) {
                    let sum = earned.entry(row).or_default();
                    *sum = sum.checked_add(stored.line.amount)?;
                }
            }
        }
        Ok(earned)
    }
}

impl EpochDoc {
    fn closing(epoch: u64, completions: Vec<String>) -> Self {
        Self {
            epoch,
            completions,
            status: EpochStatus::Closing,
            digest: B256::ZERO,
            lines: B256::ZERO,
            totals: openledger_settlement::Totals::default(),
            clusters_paid: 0,
            earners: Vec::new(),
            payers: Vec::new(),
            floors: BTreeMap::new(),
            tx: None,
            claims: BTreeMap::new(),
            balanced: false,
        }
    }
}

fn epoch_view(doc: &EpochDoc) -> EpochView {
    let totals = &doc.totals;
    EpochView {
        epoch: doc.epoch,
        status: match doc.status {
            EpochStatus::Closing => "closing",
            EpochStatus::Closed => "closed",
            EpochStatus::Posted => "posted",
            EpochStatus::Active => "active",
        }
        .into(),
        digest: doc.digest,
        fees: totals.fees,
        receipts: doc.completions.len() as u64,
        paid: [
            ("contributors", totals.contributors),
            ("operator", totals.operator),
            ("model_owner", totals.model_owner),
            ("stakers", totals.stakers),
            ("treasury", totals.treasury),
            ("commons", totals.commons),
        ]
        .map(|(name, wei)| (name.to_owned(), wei))
        .to_vec(),
        clusters_paid: doc.clusters_paid,
        tx: doc.tx,
        conserved: doc.balanced,
    }
}

/// Keys sort like the numbers they hold.
fn epoch_key(number: u64) -> String {
    format!("{number:020}")
}

fn ledger(amounts: Option<&[(Address, Wei)]>) -> Result<Cumulative> {
    Ok(Cumulative::new(
        amounts.unwrap_or_default().iter().copied(),
    )?)
}
