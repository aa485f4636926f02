//! Tracing answers: what an adapter needs to be attributable, and the worker that traces.
//!
//! The worker takes completions in the order of their receipts. What it has not traced when the
//! node stops is found again at the next start: a completion without an attribution.

use std::path::Path;
use std::sync::{Arc, mpsc};

use openledger_attribution::{
    Attribution, Attributor, Context, Evidence, RowSketches, SketchSpec, Source, verify,
};
use openledger_finetune::{ADAPTER_DIR, Dataset};
use openledger_model::{Adapter, Example};
use openledger_primitives::{B256, Bps, Record as _, Wei, records};
use openledger_settlement::{Split, pay_spans};
use openledger_suffix_index::Index;

use crate::state::{AttributionDoc, CompletionDoc, ModelDoc, RowDoc, collection};
use crate::view::{AttributionView, ScoredRowView, ShareView, SourceView, SpanView};
use crate::wallets::Role;
use crate::{Error, Node, Result};

/// Rows shown by score.
const TOP_ROWS: usize = 20;
/// Sources shown of a span.
const SPAN_SOURCES: usize = 5;
/// Characters shown of a source.
const EXCERPT: usize = 600;
/// Completions that may wait to be traced; what does not fit is found at the next start.
pub(crate) const QUEUE: usize = 65_536;

const SKETCHES: &str = "sketches.bin";
const INDEX: &str = "index.bin";

/// What traces an adapter's answers.
#[derive(Debug)]
pub(crate) struct Artefacts {
    adapter: Adapter,
    sketches: RowSketches,
    index: Index,
    /// Datanet row of each training row, in training order.
    train: Vec<u32>,
    /// Cluster of each training row; each its own, since duplicates are refused at the door.
    clusters: Vec<u32>,
    rows: Arc<Vec<RowDoc>>,
    datanet: u64,
}

/// Roots of freshly built artefacts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built {
    pub(crate) sketch_root: B256,
    pub(crate) index_root: B256,
    /// Blob: datanet row of each training row, as JSON.
    pub(crate) train_rows: B256,
}

impl Node {
    /// Sketches the gradients of every row and indexes the rows' tokens, once per adapter.
    pub(crate) fn build_artefacts(
        &self,
        run: &str,
        adapter: &Adapter,
        dataset: &Dataset,
    ) -> Result<Built> {
        let dir = self.run_dir(run);
        let train: Vec<u32> = dataset.train().map(|row| row.row).collect();
        let train_rows = self.put_json(&train)?;
        let sketches = dir.join(SKETCHES);
        let sketches = match RowSketches::open(&sketches) {
            Ok(built) if built.rows() == train.len() => built,
            _ => {
                let built = self.sketch(adapter, dataset)?;
                built.save(&sketches)?;
                built
            }
        };
        let docs: Vec<&[u32]> = dataset
            .train()
            .map(|row| row.example.tokens.as_slice())
            .collect();
        let vocab = u32::try_from(self.base().base.config.vocab).unwrap_or(u32::MAX);
        let index = Index::build(&docs, vocab)?;
        index.save(&dir.join(INDEX))?;
        Ok(Built {
            sketch_root: sketches.root(),
            index_root: index.root(),
            train_rows,
        })
    }

    fn sketch(&self, adapter: &Adapter, dataset: &Dataset) -> Result<RowSketches> {
        let rows: Vec<Example> = dataset.train().map(|row| row.example.clone()).collect();
        let decoys: Vec<Example> = dataset.eval().map(|row| row.example.clone()).collect();
        let progress = |done: usize, total: usize| {
            if done.is_multiple_of(64) || done == total {
                let message = format!("sketching gradients: {done} of {total}");
                self.stage("tuning", message, done as u64, total as u64);
            }
        };
        let spec = SketchSpec::default();
        Ok(RowSketches::build(
            &self.base().base,
            adapter,
            &rows,
            &decoys,
            &spec,
            &progress,
        )?)
    }

    /// The artefacts of a model, from disk the first time.
    fn artefacts(&self, model: &ModelDoc) -> Result<Arc<Artefacts>> {
        self.artefact_cache().get_or_load(model.digest, || {
            let run = model.run.as_deref().unwrap_or_default();
            let dir = self.run_dir(run);
            let (datanet, version) = model
                .datanet
                .ok_or_else(|| Error::not_found("Datanet", &model.name))?;
            let train: Vec<u32> = match &model.train_rows {
                Some(digest) => self.blob_json(digest)?,
                None => return Err(Error::not_found("training rows", &model.name)),
            };
            Ok(Artefacts {
                adapter: Adapter::load_peft(&dir.join(ADAPTER_DIR), &self.base().base.config)?,
                sketches: RowSketches::open(&dir.join(SKETCHES))?,
                index: open_index(&dir.join(INDEX))?,
                clusters: (0..train.len() as u32).collect(),
                train,
                rows: self.version_rows(datanet, version)?,
                datanet,
            })
        })
    }

    /// Queues a completion to be traced.
    pub(crate) fn trace(&self, id: &str) {
        // A full queue loses nothing: the completion is found at the next start.
        if self.tracing_queue().try_send(id.to_owned()).is_err() {
            tracing::warn!(completion = id, "the attribution queue is full");
        }
    }

    /// Queues what an earlier process left untraced.
    pub(crate) fn retrace(&self) -> Result<()> {
        let mut open = Vec::new();
        for (id, doc) in self
            .catalogue()
            .list::<CompletionDoc>(collection::COMPLETIONS)?
        {
            if !self.is_traced(&id)? {
                open.push((doc.sequence, id));
            }
        }
        open.sort();
        for (_, id) in open {
            self.trace(&id);
        }
        Ok(())
    }

    /// The worker: traces completions one by one until the node stops.
    pub(crate) fn trace_forever(&self, jobs: &mpsc::Receiver<String>) {
        while let Ok(id) = jobs.recv() {
            if self.stopping() {
                return;
            }
            if let Err(error) = self.trace_one(&id) {
                tracing::error!(completion = id, %error, "attribution failed");
                let failed = serde_json::json!({"id": id, "error": error.to_string()});
                self.notices().publish(format!("attribution:{id}"), &failed);
            }
        }
    }

    fn trace_one(&self, id: &str) -> Result<()> {
        if self.is_traced(id)? {
            return Ok(());
        }
        let completion = self.completion_doc(id)?;
        let model: ModelDoc = self
            .catalogue()
            .get(collection::MODELS, &completion.model)?
            .ok_or_else(|| Error::UnknownModel {
                name: completion.model.clone(),
            })?;
        let signed = self.signed_receipt(id)?;
        let attribution = if model.parent.is_some() {
            let artefacts = self.artefacts(&model)?;
            self.attributor(&artefacts).attribute(
                &signed.receipt,
                &signed.prompt_tokens,
                &signed.output_tokens,
                &signed.surprisals,
            )?
        } else {
            Attribution::of_base(&signed.receipt, &signed.surprisals, self.parameters())?
        };
        let report = attribution.record(self.chain_id());
        let doc = AttributionDoc {
            report: report.digest(),
            attribution,
        };
        self.catalogue().write(|tx| {
            tx.put_record(&report)?;
            tx.put(collection::TRACED, id, &completion.sequence)?;
            tx.put(collection::ATTRIBUTIONS, id, &doc)
        })?;
        let ready = serde_json::json!({"id": id, "status": "ready"});
        self.notices().publish(format!("attribution:{id}"), &ready);
        Ok(())
    }

    fn attributor<'a>(&'a self, artefacts: &'a Artefacts) -> Attributor<'a> {
        Attributor {
            base: &self.base().base,
            adapter: &artefacts.adapter,
            sketches: &artefacts.sketches,
            index: &artefacts.index,
            clusters: &artefacts.clusters,
            parameters: self.parameters(),
        }
    }

    /// Whether a completion is traced; does not read the whole attribution.
    pub(crate) fn is_traced(&self, id: &str) -> Result<bool> {
        let found = self
            .catalogue()
            .get::<serde::de::IgnoredAny>(collection::ATTRIBUTIONS, id)?;
        Ok(found.is_some())
    }

    pub(crate) fn attribution_doc(&self, id: &str) -> Result<Option<AttributionDoc>> {
        Ok(self.catalogue().get(collection::ATTRIBUTIONS, id)?)
    }

    /// Who taught an answer; pending while it is being traced. `None` for an unknown completion.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn attribution(&self, id: &str) -> Result<Option<AttributionView>> {
        let completion = match self.completion_doc(id) {
            Ok(completion) => completion,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut view = AttributionView {
            id: id.to_owned(),
            object: "attribution".into(),
            status: "pending".into(),
            model: completion.model.clone(),
            prompt: completion.prompt.clone(),
            output: completion.output.clone(),
            digest: None,
            receipt: self.receipt_view(id)?,
            spans: Vec::new(),
            rows: Vec::new(),
            rows_scored: 0,
            floor: 0,
            parameters: self.parameters().digest(),
            shares: Vec::new(),
            epoch: self.epoch_of(id)?,
            verify: format!("openledger attribution verify {id}"),
        };
        let Some(doc) = self.attribution_doc(id)? else {
            return Ok(Some(view));
        };
        "ready".clone_into(&mut view.status);
        view.digest = Some(doc.report);
        view.parameters = doc.attribution.parameters;
        let model: Option<ModelDoc> = self
            .catalogue()
            .get(collection::MODELS, &completion.model)?;
        if let Some(model) = model.filter(|model| model.parent.is_some()) {
            self.fill(&mut view, &doc.attribution, &*self.artefacts(&model)?)?;
        }
        Ok(Some(view))
    }

    fn fill(
        &self,
        view: &mut AttributionView,
        attribution: &Attribution,
        artefacts: &Artefacts,
    ) -> Result<()> {
        let signed = self.signed_receipt(&view.id)?;
        let nobody = |_| Source::default();
        let unknown = |_| None;
        let shown = attribution.view(
            &signed.output_tokens,
            &Context {
                id: &view.id,
                chain_id: self.chain_id(),
                parameters: self.parameters(),
                decoder: &self.base().tokenizer.decoder(),
                top: TOP_ROWS,
                source: &nobody,
                amount: &unknown,
            },
        );
        let decoded = self.base().tokenizer.decode(&signed.output_tokens);
        let output = view.output.clone();
        view.floor = attribution.noise_floor.into();
        view.rows_scored = attribution.rows as u64;
        view.spans = shown
            .spans
            .iter()
            .map(|span| {
                let tokens = span.tokens[0] as usize..span.tokens[1] as usize;
                let occurrences = artefacts
                    .index
                    .maximal_spans(&signed.output_tokens[tokens.clone()], tokens.len())
                    .first()
                    .map(|found| artefacts.index.occurrences(found, 64))
                    .unwrap_or_default();
                let mut rows: Vec<u32> = occurrences.iter().map(|place| place.doc).collect();
                rows.dedup();
                if rows.is_empty() {
                    rows.push(span.row);
                }
                let (start_index, end_index) = shown_range(&decoded, &output, span.chars);
                let length = end_index - start_index;
                SpanView {
                    start_index,
                    end_index,
                    token_start: span.tokens[0],
                    token_end: span.tokens[1],
                    text: output.chars().skip(start_index).take(length).collect(),
                    occurrences: span.occurrences.into(),
                    surprisal_millibits: span.millibits,
                    admissible: true,
                    sources: rows
                        .into_iter()
                        .take(SPAN_SOURCES)
                        .filter_map(|row| artefacts.source(row))
                        .collect(),
                }
            })
            .collect();
        let mut scored: Vec<ScoredRowView> = shown
            .helpful
            .iter()
            .chain(&shown.harmful)
            .filter_map(|row| {
                Some(ScoredRowView {
                    source: artefacts.source(row.row)?,
                    score: row.score.into(),
                    above_floor: row.above_noise,
                })
            })
            .collect();
        scored.sort_by_key(|row| (std::cmp::Reverse(row.score.abs()), row.source.row));
        scored.truncate(TOP_ROWS);
        view.rows = scored;
        view.shares = self.shares(attribution, artefacts, &signed)?;
        Ok(())
    }

    /// What the span channel pays for one answer, by contributor; the rest is the commons'.
    fn shares(
        &self,
        attribution: &Attribution,
        artefacts: &Artefacts,
        signed: &openledger_serving::SignedReceipt,
    ) -> Result<Vec<ShareView>> {
        let parameters = self.parameters();
        let parts = Split::new(parameters)?.parts(Wei::new(signed.receipt.fee))?;
        let budget = Bps::new(parameters.spanBps)?.of(parts.contributors)?;
        let paid = pay_spans(budget, &signed.surprisals, &attribution.cover_rows())?;
        let bps = |amount: Wei| -> u16 {
            let share = amount
                .mul_div(10_000, budget.get().max(1))
                .unwrap_or_default();
            u16::try_from(share.get()).unwrap_or(10_000)
        };
        let mut by_owner = std::collections::BTreeMap::<_, (String, Wei)>::new();
        for (row, amount) in paid.paid {
            let Some(source) = artefacts.source(row) else {
                continue;
            };
            let entry = by_owner
                .entry(source.address)
                .or_insert_with(|| (source.contributor, Wei::ZERO));
            entry.1 = entry.1.checked_add(amount)?;
        }
        let mut shares: Vec<ShareView> = by_owner
            .into_iter()
            .map(|(address, (name, amount))| ShareView {
                name,
                address,
                amount,
                bps: bps(amount),
            })
            .collect();
        shares.sort_by(|a, b| b.amount.cmp(&a.amount).then(a.address.cmp(&b.address)));
        if !paid.uncovered.is_zero() {
            let doc = self.datanet_doc(artefacts.datanet)?;
            shares.push(ShareView {
                name: "commons".into(),
                address: doc.commons,
                amount: paid.uncovered,
                bps: bps(paid.uncovered),
            });
        }
        Ok(shares)
    }

    /// Recomputes everything about one answer from the base, the adapter, the rows and the
    /// receipt, and returns what was checked.
    ///
    /// # Errors
    /// The first thing that differs.
    pub async fn verify_attribution(&self, id: &str) -> Result<Vec<String>> {
        let (node, id) = (self.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || node.verify_now(&id)).await?
    }

    fn verify_now(&self, id: &str) -> Result<Vec<String>> {
        let completion = self.completion_doc(id)?;
        let doc = self
            .attribution_doc(id)?
            .ok_or_else(|| Error::not_found("attribution", id))?;
        let model: ModelDoc = self
            .catalogue()
            .get(collection::MODELS, &completion.model)?
            .ok_or_else(|| Error::UnknownModel {
                name: completion.model.clone(),
            })?;
        let signed = self.signed_receipt(id)?;
        let mut checked = Vec::new();
        let signer = self
            .contracts()
            .receipt_signer(&signed.receipt, &signed.signature)?;
        if signer != self.wallets().address(Role::Operator) {
            return Err(Error::Conflict(format!(
                "the receipt is signed by {signer}"
            )));
        }
        checked.push(format!(
            "receipt {} is signed by its operator {signer}",
            signed.digest
        ));
        let record: records::AttributionReport = self
            .catalogue()
            .record(&doc.report)?
            .ok_or_else(|| Error::not_found("report", doc.report))?;
        let Some(run) = model.run.as_deref() else {
            checked.push("the base alone answered: nobody's rows took part".into());
            return Ok(checked);
        };
        let run = self
            .run_doc(run)?
            .ok_or_else(|| Error::not_found("run", run))?;
        let dataset = self.dataset_of(&run)?;
        let artefacts = self.artefacts(&model)?;
        // The verifier's own sketches and index, from the rows: not the node's files.
        let sketches = self.sketch(&artefacts.adapter, &dataset)?;
        let docs: Vec<&[u32]> = dataset
            .train()
            .map(|row| row.example.tokens.as_slice())
            .collect();
        let vocab = u32::try_from(self.base().base.config.vocab).unwrap_or(u32::MAX);
        let index = Index::build(&docs, vocab)?;
        let adapter: records::Adapter = self
            .catalogue()
            .record(&model.digest)?
            .ok_or_else(|| Error::not_found("adapter record", model.digest))?;
        if index.root() != adapter.indexRoot {
            return Err(Error::Conflict(format!(
                "the rows give index root {}, the adapter's record says {}",
                index.root(),
                adapter.indexRoot
            )));
        }
        checked.push(format!("the rows give index root {}", adapter.indexRoot));
        let attributor = Attributor {
            sketches: &sketches,
            index: &index,
            ..self.attributor(&artefacts)
        };
        let evidence = Evidence {
            receipt: &signed.receipt,
            prompt: &signed.prompt_tokens,
            output: &signed.output_tokens,
            surprisals: &signed.surprisals,
            sketch_root: adapter.sketchRoot,
        };
        verify(&attributor, &evidence, &doc.attribution, &record)
            .map_err(|mismatch| Error::Conflict(mismatch.to_string()))?;
        checked.push(format!("{} surprisals recomputed", signed.surprisals.len()));
        checked.push(format!(
            "{} row sketches give root {}",
            sketches.rows(),
            adapter.sketchRoot
        ));
        checked.push(format!(
            "{} scores recomputed",
            doc.attribution.scores.len()
        ));
        checked.push(format!("{} spans recomputed", doc.attribution.spans.len()));
        checked.push(format!("the report has digest {}", doc.report));
        Ok(checked)
    }
}

impl Artefacts {
    /// The datanet row behind a training row.
    fn source(&self, training_row: u32) -> Option<SourceView> {
        let row = *self.train.get(training_row as usize)?;
        let doc = self.rows.get(row as usize)?;
        let text = match &doc.prompt {
            Some(prompt) => format!("{prompt}\n{}", doc.text),
            None => doc.text.clone(),
        };
        Some(SourceView {
            datanet: self.datanet,
            row,
            contributor: doc.contributor.clone(),
            address: doc.address,
            text: text.chars().take(EXCERPT).collect(),
        })
    }
}

/// Where characters of the decoded tokens stand in the answer as it is shown: without the chat
/// template's lead and what a stop string cut off, but after an echoed prompt.
fn shown_range(decoded: &str, shown: &str, [start, end]: [usize; 2]) -> (usize, usize) {
    let characters = shown.chars().count();
    let (hidden, before) = match (decoded.find(shown), shown.find(decoded)) {
        (Some(at), _) => (decoded[..at].chars().count(), 0),
        (None, Some(at)) => (0, shown[..at].chars().count()),
        (None, None) => (0, 0),
    };
    let place = |position: usize| (position.saturating_sub(hidden) + before).min(characters);
    (place(start), place(end))
}

fn open_index(path: &Path) -> Result<Index> {
    Ok(Index::open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_point_into_the_answer_as_it_is_shown() {
        // The template's leading space is not shown.
        assert_eq!(shown_range(" Él dijo sí.", "Él dijo sí.", [0, 12]), (0, 11));
        assert_eq!(shown_range(" Él dijo sí.", "Él dijo sí.", [4, 8]), (3, 7));
        // A stop string cut the end off.
        assert_eq!(shown_range(" one two three", "one ", [1, 14]), (0, 4));
        // An echoed prompt stands before.
        assert_eq!(shown_range(" four", "Three and four", [1, 5]), (10, 14));
        assert_eq!(shown_range("", "", [0, 0]), (0, 0));
    }
}
