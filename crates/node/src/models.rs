//! Wallets, models and the overview: what people look at first.

use openledger_primitives::{Address, U256, Wei};

use crate::rollup::watch::Metric;
use crate::state::{CompletionDoc, EpochStatus, ModelDoc, collection};
use crate::view::{ModelSummary, ModelView, Overview, WalletView};
use crate::{Error, Node, Result};

/// Earners on the overview.
const TOP: usize = 10;

impl Node {
    /// The network at a glance.
    ///
    /// # Errors
    /// If the stores cannot be read.
    pub fn overview(&self) -> Result<Overview> {
        let epochs = self.epochs()?;
        let to_contributors = epochs
            .iter()
            .flat_map(|epoch| &epoch.paid)
            .filter(|(who, _)| who == "contributors");
        let contributors = Wei::total(to_contributors.map(|(_, wei)| *wei))?;
        Ok(Overview {
            chain: self.chain_view()?,
            datanets: self.datanets()?,
            models: self.models()?,
            inferences: self.receipts().len()?,
            fees: Wei::total(epochs.iter().map(|epoch| epoch.fees))?,
            contributors,
            top_earners: self
                .earners(0, usize::MAX)?
                .items
                .into_iter()
                .filter(|earner| earner.role == "contributor")
                .take(TOP)
                .collect(),
            epochs,
            stage: self.current_stage(),
        })
    }

    /// The base and its adapters.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn models(&self) -> Result<Vec<ModelSummary>> {
        let mut models = self.catalogue().list::<ModelDoc>(collection::MODELS)?;
        models.sort_by_key(|(name, model)| (model.parent.is_some(), name.clone()));
        models
            .iter()
            .map(|(_, model)| self.model_summary(model))
            .collect()
    }

    pub(crate) fn model_summary(&self, model: &ModelDoc) -> Result<ModelSummary> {
        let answered: Vec<CompletionDoc> = self
            .catalogue()
            .list::<CompletionDoc>(collection::COMPLETIONS)?
            .into_iter()
            .map(|(_, doc)| doc)
            .filter(|doc| doc.model == model.name)
            .collect();
        Ok(ModelSummary {
            id: model.name.clone(),
            parent: model.parent.clone(),
            owner: model.owner,
            registry_id: model.registry_id,
            parameters: model.parameters,
            inferences: answered.len() as u64,
            fees: Wei::total(answered.iter().map(|doc| doc.fee))?,
        })
    }

    /// A model's card.
    ///
    /// # Errors
    /// If the stores cannot be read.
    pub fn model(&self, id: &str) -> Result<Option<ModelView>> {
        let Some(model) = self.catalogue().get::<ModelDoc>(collection::MODELS, id)? else {
            return Ok(None);
        };
        let datanets = match model.datanet {
            Some((datanet, version)) => {
                vec![(datanet, self.datanet_doc(datanet)?.name, version)]
            }
            None => Vec::new(),
        };
        let p = self.parameters();
        Ok(Some(ModelView {
            summary: self.model_summary(&model)?,
            digest: model.digest,
            weights: model.weights,
            facts: model.facts.clone(),
            datanets,
            run: model
                .run
                .as_deref()
                .map(|run| self.run(run))
                .transpose()?
                .flatten(),
            price_in: model.price_in,
            price_out: model.price_out,
            split: [
                ("contributors", p.contributorsBps),
                ("operator", p.operatorBps),
                ("model owner", p.modelOwnerBps),
                ("stakers", p.stakersBps),
                ("treasury", p.treasuryBps),
            ]
            .map(|(name, bps)| (name.to_owned(), bps))
            .to_vec(),
            tx: model.tx,
        }))
    }

    /// Name of the model with this receipt digest.
    pub(crate) fn model_name(&self, adapter: openledger_primitives::B256) -> Result<String> {
        let models = self.catalogue().list::<ModelDoc>(collection::MODELS)?;
        let found = models
            .into_iter()
            .find(|(_, model)| model.receipt_digest() == adapter);
        found
            .map(|(name, _)| name)
            .ok_or_else(|| Error::not_found("model", adapter))
    }

    /// A wallet by address or by the name of a contributor or role.
    ///
    /// # Errors
    /// If the stores cannot be read.
    pub fn wallet(&self, name_or_address: &str) -> Result<Option<WalletView>> {
        let address = match name_or_address.parse::<Address>() {
            Ok(address) => address,
            Err(_) => {
                let names = self
                    .catalogue()
                    .list::<crate::state::NameDoc>(collection::NAMES)?;
                let found = names
                    .into_iter()
                    .find(|(_, doc)| doc.name == name_or_address);
                match found.and_then(|(key, _)| key.parse().ok()) {
                    Some(address) => address,
                    None => return Ok(None),
                }
            }
        };
        let name = self.name_of(address)?;
        let epochs = self.closed_epochs()?;
        let earned = epochs
            .last()
            .and_then(|doc| doc.earners.iter().find(|(earner, _)| *earner == address))
            .map_or(Wei::ZERO, |(_, wei)| *wei);
        // What can be claimed is what the newest active root says.
        let active = epochs
            .iter()
            .rfind(|doc| doc.status == EpochStatus::Active)
            .and_then(|doc| doc.earners.iter().find(|(earner, _)| *earner == address))
            .map_or(Wei::ZERO, |(_, wei)| *wei);
        let claims: Vec<_> = epochs
            .iter()
            .rev()
            .filter_map(|doc| {
                doc.claims
                    .get(&address)
                    .map(|(wei, tx)| (doc.epoch, *wei, *tx))
            })
            .collect();
        let claimed = Wei::total(claims.iter().map(|(_, wei, _)| *wei))?;
        let balance: U256 = self.chain().balance(address)?;
        Ok(Some(WalletView {
            role: name.as_ref().map(|doc| doc.role.clone()),
            name: name.map(|doc| doc.name),
            address,
            balance: Wei::try_from(balance)?,
            earned,
            claimed,
            claimable: active.checked_sub(claimed).unwrap_or_default(),
            lines: self.earning_lines(address)?,
            claims,
        }))
    }

    /// Counters in Prometheus' text format.
    ///
    /// # Errors
    /// If the stores cannot be read.
    pub fn metrics(&self) -> Result<String> {
        let chain = self.chain_view()?;
        let engine = self.engine().stats();
        let pool = self.chain().pool_status();
        let counters = [
            Metric::new(
                "openledger_chain_head",
                "Number of the newest block",
                chain.head,
            ),
            Metric::new(
                "openledger_chain_transactions_total",
                "Transactions since genesis",
                chain.txs,
            ),
            Metric::new(
                "openledger_chain_gas_total",
                "Gas used since genesis",
                chain.gas_used,
            ),
            Metric::new(
                "openledger_pool_pending",
                "Transactions that can run",
                pool.pending as u64,
            ),
            Metric::new(
                "openledger_receipts_total",
                "Signed receipts",
                self.receipts().len()?,
            ),
            Metric::new(
                "openledger_requests_waiting",
                "Answers waiting",
                engine.queued as u64,
            ),
            Metric::new(
                "openledger_requests_running",
                "Answers being computed",
                engine.running as u64,
            ),
            Metric::new("openledger_tokens_total", "Tokens processed", engine.tokens),
            Metric::new(
                "openledger_adapters_resident",
                "Adapters in memory",
                engine.adapters.resident as u64,
            ),
        ];
        Ok(counters
            .into_iter()
            .chain(self.layer_metrics()?)
            .map(|metric| metric.text())
            .collect())
    }
}
