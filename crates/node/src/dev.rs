//! The loop: from a contribution to a paid wallet, once, on the dev network.
//!
//! Eight stages, each of which first looks at what the catalogue and the chain already hold and
//! does only what is missing. So the loop can be killed anywhere and run again: nothing is redone,
//! nothing is paid twice. The same functions serve the pages, which run the same loop by hand.

use std::path::PathBuf;
use std::time::Instant;

use openledger_primitives::{Wei, keccak256};
use serde::{Deserialize, Serialize};

use crate::inference::{CompletionEvent, CompletionRequest, Payment, Prompt, Sampling};
use crate::state::{LoopDoc, RunStatus, collection};
use crate::summary::{
    AdapterSummary, AttributionSummary, ChainSummary, Contributions, DevAccess, PaidWei,
    SettlementSummary, Summary, Urls,
};
use crate::view::StageView;
use crate::{Error, Node, Result, RunRequest};

/// Questions asked in the loop.
const INFERENCES: usize = 24;
/// Most tokens of an answer in the loop.
const ANSWER_TOKENS: u32 = 64;
/// Words of a plain text's beginning that the model is asked to continue.
const OPENING_WORDS: usize = 8;

/// What the loop starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopSpec {
    /// The contributions; the bundled sample when missing.
    pub input: Option<LoopInput>,
}

/// A file of contributions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopInput {
    /// JSONL file; the bundled sample when missing.
    pub file: Option<PathBuf>,
    /// Columns that make the text.
    pub text: Vec<String>,
    /// Column with the contributor's name.
    pub contributor: String,
    /// Use the first rows only.
    pub limit: Option<usize>,
}

impl LoopInput {
    /// The bundled sample Datanet, or its first `limit` rows.
    pub fn bundled(limit: Option<usize>) -> Self {
        Self {
            file: None,
            text: vec!["question".into(), "answer".into()],
            contributor: "contributor".into(),
            limit,
        }
    }
}

impl Node {
    /// Runs the loop for `spec`, or finishes one that was interrupted, and returns its summary.
    ///
    /// # Errors
    /// Whatever the first failing stage reports; running again goes on there.
    pub async fn run_loop(&self, spec: &LoopSpec) -> Result<Summary> {
        let key = loop_key(spec, &self.base().name);
        let mut doc: LoopDoc = self
            .catalogue()
            .get(collection::LOOPS, &key)?
            .unwrap_or_default();
        if let Some(mut summary) = doc.summary.clone() {
            // Ports and the head may have moved since; what was earned has not.
            summary.urls = self.urls();
            summary.chain = self.chain_summary()?;
            return Ok(summary);
        }
        self.loop_datanet(spec, &key, &mut doc).await?;
        self.loop_tuning(&key, &mut doc).await?;
        self.loop_inference(&key, &mut doc).await?;
        self.loop_attribution(&key, &mut doc).await?;
        self.loop_settlement(&key, &mut doc).await?;
        let summary = self.summarise(&doc)?;
        doc.summary = Some(summary.clone());
        self.save(&key, &doc)?;
        Ok(summary)
    }

    fn save(&self, key: &str, doc: &LoopDoc) -> Result<()> {
        Ok(self
            .catalogue()
            .write(|tx| tx.put(collection::LOOPS, key, doc))?)
    }

    /// Tells whoever watches where the loop stands.
    pub(crate) fn stage(&self, name: &str, message: impl Into<String>, done: u64, total: u64) {
        let view = StageView {
            name: name.to_owned(),
            message: message.into(),
            done,
            total,
        };
        self.set_stage(view.clone());
        self.notices().publish("stage", &view);
    }

    /// Contributions in: judged, signed, anchored, published as a version.
    async fn loop_datanet(&self, spec: &LoopSpec, key: &str, doc: &mut LoopDoc) -> Result<()> {
        if doc.datanet.is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        self.stage("datanet", "reading and judging the rows", 0, 0);
        let id = self.ingest_for_loop(spec, key).await?;
        let view = self
            .datanet(id)?
            .ok_or_else(|| Error::not_found("Datanet", id))?;
        self.stage(
            "datanet",
            format!(
                "{} rows accepted, {} refused, from {} contributors",
                view.summary.accepted, view.summary.rejected, view.summary.contributors
            ),
            1,
            1,
        );
        doc.datanet = Some(id);
        doc.seconds
            .insert("datanet".into(), begun.elapsed().as_secs_f64());
        self.save(key, doc)
    }

    /// An adapter tuned on the Datanet, registered and loaded.
    async fn loop_tuning(&self, key: &str, doc: &mut LoopDoc) -> Result<()> {
        let datanet = doc
            .datanet
            .ok_or_else(|| Error::not_found("Datanet", "of this loop"))?;
        let begun = Instant::now();
        let id = match &doc.run {
            Some(id) => id.clone(),
            None => {
                let id = self.start_run(&RunRequest {
                    datanet,
                    preset: "standard".into(),
                    name: format!("{}-{datanet}", self.datanet_slug(datanet)?),
                    // The adapter is attributed in exact arithmetic whatever found it.
                    settings: serde_json::json!({"arithmetic": "fast"}),
                })?;
                doc.run = Some(id.clone());
                self.save(key, doc)?;
                id
            }
        };
        self.wait_for_run(&id).await?;
        let took = doc.seconds.entry("tuning".into()).or_default();
        *took += begun.elapsed().as_secs_f64();
        self.save(key, doc)
    }

    /// Questions asked over the same path that the API takes, paid by the dev payer.
    async fn loop_inference(&self, key: &str, doc: &mut LoopDoc) -> Result<()> {
        let run = self.loop_run(doc)?;
        let prompts = self.loop_prompts(run.datanet)?;
        if doc.completions.len() != prompts.len() {
            doc.completions = vec![None; prompts.len()];
            self.save(key, doc)?;
        }
        let begun = Instant::now();
        let total = prompts.len() as u64;
        let open: Vec<usize> = (0..prompts.len())
            .filter(|&index| doc.completions[index].is_none())
            .collect();
        let mut done = total - open.len() as u64;
        // Asked together, so that the engine batches them; answered in order, so that a restart
        // knows which are missing.
        let mut asked = Vec::new();
        for &index in &open {
            let request = CompletionRequest {
                model: run.model.clone(),
                prompt: prompts[index].clone(),
                sampling: Sampling {
                    max_tokens: Some(ANSWER_TOKENS),
                    seed: Some(index as u64),
                    ..Sampling::greedy()
                },
                payment: Payment::ApiKey(self.dev_api_key().unwrap_or_default()),
                idempotency: Some(format!("loop/{key}/{index}")),
            };
            asked.push((index, self.complete(request).await?));
        }
        for (index, mut stream) in asked {
            loop {
                match stream.events.recv().await {
                    Some(CompletionEvent::Done(_)) => break,
                    Some(CompletionEvent::Token { .. }) => {}
                    Some(CompletionEvent::Failed(error)) => return Err(error),
                    None => return Err(Error::ShuttingDown),
                }
            }
            doc.completions[index] = Some(stream.id);
            self.save(key, doc)?;
            done += 1;
            self.stage(
                "serving",
                format!("{done} of {total} questions answered"),
                done,
                total,
            );
        }
        let took = doc.seconds.entry("serving".into()).or_default();
        *took += begun.elapsed().as_secs_f64();
        self.save(key, doc)
    }

    /// Every answer traced to rows.
    async fn loop_attribution(&self, key: &str, doc: &mut LoopDoc) -> Result<()> {
        let begun = Instant::now();
        let ids: Vec<String> = doc.completions.iter().flatten().cloned().collect();
        let total = ids.len() as u64;
        for (index, id) in ids.iter().enumerate() {
            let done = index as u64;
            self.stage(
                "attribution",
                format!("tracing answer {} of {total}", done + 1),
                done,
                total,
            );
            self.wait_for_attribution(id, std::time::Duration::from_secs(600))
                .await?
                .filter(|view| view.status == "ready")
                .ok_or_else(|| Error::Task(format!("attribution of {id} did not finish")))?;
        }
        self.stage(
            "attribution",
            format!("{total} answers traced"),
            total,
            total,
        );
        let took = doc.seconds.entry("attribution".into()).or_default();
        *took += begun.elapsed().as_secs_f64();
        self.save(key, doc)
    }

    /// The epoch closed, posted, and paid out to every wallet.
    async fn loop_settlement(&self, key: &str, doc: &mut LoopDoc) -> Result<()> {
        let begun = Instant::now();
        if doc.epoch.is_none() {
            self.stage("settlement", "closing the epoch", 0, 3);
            let first = doc
                .completions
                .iter()
                .flatten()
                .next()
                .cloned()
                .unwrap_or_default();
            let epoch = match self.epoch_of(&first)? {
                Some(epoch) => epoch,
                None => self.close_epoch().await?.ok_or_else(|| {
                    Error::Conflict("there is nothing to settle in this loop".into())
                })?,
            };
            doc.epoch = Some(epoch);
            self.save(key, doc)?;
        }
        let epoch = doc.epoch.unwrap_or_default();
        self.finish_epoch(epoch).await?;
        let took = doc.seconds.entry("settlement".into()).or_default();
        *took += begun.elapsed().as_secs_f64();
        self.save(key, doc)
    }

    fn loop_run(&self, doc: &LoopDoc) -> Result<crate::state::RunDoc> {
        let id = doc.run.as_deref().unwrap_or_default();
        let run = self
            .run_doc(id)?
            .ok_or_else(|| Error::not_found("run", id))?;
        if run.status != RunStatus::Succeeded {
            return Err(Error::Conflict(format!(
                "the loop's tuning run {id} is {}; resume it on the runs page or use a fresh \
                 --data-dir",
                run.status.name()
            )));
        }
        Ok(run)
    }

    /// Prompts spread evenly over the Datanet's accepted rows: their questions, or the beginnings
    /// of their texts.
    fn loop_prompts(&self, datanet: u64) -> Result<Vec<Prompt>> {
        let rows = self.datanet_rows(datanet)?;
        let wanted = INFERENCES.min(rows.len());
        Ok((0..wanted)
            .map(|n| &rows[n * rows.len() / wanted])
            .map(|row| match &row.prompt {
                Some(question) => Prompt::Chat(vec![crate::inference::Message::user(question)]),
                None => {
                    let opening: Vec<&str> =
                        row.text.split_whitespace().take(OPENING_WORDS).collect();
                    Prompt::Text(opening.join(" ") + " ")
                }
            })
            .collect())
    }

    fn summarise(&self, doc: &LoopDoc) -> Result<Summary> {
        let datanet = doc.datanet.unwrap_or_default();
        let datanet = self
            .datanet(datanet)?
            .ok_or_else(|| Error::not_found("Datanet", datanet))?;
        let run = self.loop_run(doc)?;
        let model = self
            .model(&run.model)?
            .ok_or_else(|| Error::not_found("model", &run.model))?;
        let number = doc.epoch.unwrap_or_default();
        let epoch = self
            .epoch_doc(number)?
            .ok_or_else(|| Error::not_found("epoch", number))?;
        let mut attribution = AttributionSummary {
            clusters_paid: epoch.clusters_paid,
            ..Default::default()
        };
        for id in doc.completions.iter().flatten() {
            if let Some(view) = self.attribution(id)? {
                attribution.spans +=
                    view.spans.iter().filter(|span| span.admissible).count() as u64;
                attribution.rows_scored += view.rows_scored;
            }
        }
        let totals = &epoch.totals;
        let mut seconds = self.boot_seconds();
        seconds.extend(doc.seconds.clone());
        seconds.insert("total".into(), seconds.values().sum());
        Ok(Summary {
            contributions: Contributions {
                accepted: datanet.summary.accepted,
                rejected: datanet.summary.rejected,
                by_reason: datanet.by_reason.iter().cloned().collect(),
            },
            contributors: datanet.summary.contributors,
            adapter: AdapterSummary {
                id: run.model.clone(),
                base: run.base.clone(),
                steps: run.steps,
                loss_first: run.loss_first,
                loss_last: run.loss_last,
                eval_before: run.eval_before,
                eval_after: run.eval_after,
                digest: model.digest,
            },
            inferences: doc.completions.iter().flatten().count() as u64,
            attribution,
            settlement: SettlementSummary {
                epoch: number,
                fees_wei: totals.fees,
                paid_wei: PaidWei {
                    contributors: totals.contributors,
                    operator: totals.operator,
                    model_owner: totals.model_owner,
                    stakers: totals.stakers,
                    treasury: totals.treasury,
                    commons: totals.commons,
                },
                claims: epoch.claims.len() as u64,
                conserved: epoch.balanced,
            },
            chain: self.chain_summary()?,
            seconds,
            urls: self.urls(),
            dev: DevAccess {
                api_key: self.dev_api_key().unwrap_or_default(),
            },
        })
    }

    fn chain_summary(&self) -> Result<ChainSummary> {
        let chain = self.chain_view()?;
        Ok(ChainSummary {
            id: chain.id,
            head: chain.head,
            txs: chain.txs,
            gas_used: chain.gas_used,
        })
    }

    fn urls(&self) -> Urls {
        Urls {
            rpc: self.rpc_url(),
            l1: self.l1_url(),
            da: self.da_url(),
            http: self.http_url(),
        }
    }
}

/// Identifies a loop: the same input on the same base is the same loop.
fn loop_key(spec: &LoopSpec, base: &str) -> String {
    let spec = serde_json::to_string(spec).expect("paths and strings always serialise");
    let digest = keccak256(format!("{spec}\n{base}"));
    format!("{digest:x}")[..16].to_owned()
}

/// The parts of a summary add up; used by the command line before it prints the line that says so.
pub fn parts_sum_to_fees(summary: &Summary) -> bool {
    let p = &summary.settlement.paid_wei;
    let parts = [
        p.contributors,
        p.operator,
        p.model_owner,
        p.stakers,
        p.treasury,
        p.commons,
    ];
    Wei::total(parts).is_ok_and(|sum| sum == summary.settlement.fees_wei)
}
