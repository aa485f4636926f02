//! An answer on its way from the engine to the reader, and onto the record.

use openledger_primitives::{Bytes, Wei};
use openledger_serving::{Completion as Served, Event, Reservation, Terms, TokenReport};
use tokio::sync::mpsc;

use crate::inference::{Completion, CompletionEvent, TokenLogprob, finish_reason};
use crate::payment::ACCOUNTS;
use crate::state::{CompletionDoc, collection};
use crate::wallets::Role;
use crate::{Error, Node, Result};

/// One request on its way through the engine.
pub(crate) struct Answer {
    pub(crate) node: Node,
    pub(crate) terms: Terms,
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) question: String,
    pub(crate) prompt: String,
    pub(crate) echo: bool,
    pub(crate) logprobs: bool,
    pub(crate) reservation: Option<Reservation>,
}

impl Answer {
    /// Passes the engine's events on until the answer is complete and recorded, or the reader is
    /// gone. Dropping the engine's stream cancels the request there.
    pub(crate) async fn forward(
        mut self,
        mut events: mpsc::Receiver<Event>,
        send: mpsc::Sender<CompletionEvent>,
    ) {
        while let Some(event) = events.recv().await {
            let out = match event {
                Event::Prompt { tokens, .. } => {
                    for (index, report) in tokens.iter().enumerate() {
                        let logprob = self.logprobs.then(|| self.logprob(report, index > 0));
                        let text = if self.echo {
                            report.token.clone()
                        } else {
                            String::new()
                        };
                        let token = CompletionEvent::Token { text, logprob };
                        if send.send(token).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Event::Token { report, text, .. } => CompletionEvent::Token {
                    text,
                    logprob: self.logprobs.then(|| self.logprob(&report, true)),
                },
                Event::Done {
                    tail, completion, ..
                } => {
                    if !tail.is_empty() {
                        let rest = CompletionEvent::Token {
                            text: tail,
                            logprob: None,
                        };
                        if send.send(rest).await.is_err() {
                            return;
                        }
                    }
                    let done = match self.record(*completion).await {
                        Ok(done) => CompletionEvent::Done(done),
                        Err(error) => CompletionEvent::Failed(error),
                    };
                    // The receipt stands whether or not the reader still listens.
                    let _ = send.send(done).await;
                    return;
                }
                Event::Failed(error) => CompletionEvent::Failed(error.into()),
            };
            let failed = matches!(out, CompletionEvent::Failed(_));
            if send.send(out).await.is_err() || failed {
                return;
            }
        }
        let _ = send
            .send(CompletionEvent::Failed(Error::ShuttingDown))
            .await;
    }

    /// Writes receipt, text and account in one transaction; then the attribution can begin.
    async fn record(&mut self, completion: Served) -> Result<Completion> {
        let reservation = self
            .reservation
            .take()
            .ok_or_else(|| Error::Task("an answer was completed twice".into()))?;
        let node = self.node.clone();
        let (id, model, prompt) = (self.id.clone(), self.model.clone(), self.prompt.clone());
        let question = self.question.clone();
        let (terms, echo) = (self.terms.clone(), self.echo);
        let written = tokio::task::spawn_blocking(move || -> Result<(Completion, String)> {
            let mut credit = node.credit();
            let fee = terms.pricing.fee(
                completion.prompt_tokens.len() as u32,
                completion.output_tokens.len() as u32,
            )?;
            credit.settle(&reservation, fee)?;
            let account = credit
                .account(reservation.payer)
                .cloned()
                .unwrap_or_default();
            let key = crate::datanets::address_key(reservation.payer);
            let signer = node.wallets().role(Role::Operator);
            let contracts = node.contracts();
            node.receipts().write(
                &id,
                &completion,
                &terms,
                |receipt, _| {
                    contracts
                        .sign_receipt(&signer, receipt)
                        .map(Bytes::from)
                        .map_err(|error| error.to_string())
                },
                |tx, signed| {
                    tx.put(ACCOUNTS, &key, &account)?;
                    let doc = CompletionDoc {
                        id: id.clone(),
                        model: model.clone(),
                        question: question.clone(),
                        prompt: prompt.clone(),
                        output: completion.text.clone(),
                        offsets: completion.offsets.clone(),
                        receipt: signed.digest,
                        sequence: signed.receipt.sequence,
                        fee: Wei::new(signed.receipt.fee),
                        finish: completion.finish,
                        created: signed.receipt.createdAt,
                    };
                    tx.put(collection::COMPLETIONS, &id, &doc)
                },
            )?;
            let text = if echo {
                format!("{prompt}{}", completion.text)
            } else {
                completion.text.clone()
            };
            let done = Completion {
                text,
                finish_reason: finish_reason(completion.finish),
                prompt_tokens: completion.prompt_tokens.len() as u32,
                output_tokens: completion.output_tokens.len() as u32,
            };
            Ok((done, id))
        })
        .await?;
        let (done, id) = written?;
        self.node.trace(&id);
        Ok(done)
    }

    fn logprob(&self, report: &TokenReport, known: bool) -> TokenLogprob {
        let tokenizer = &self.node.base().tokenizer;
        TokenLogprob {
            text: report.token.clone(),
            bytes: tokenizer.token_bytes(report.id).to_vec(),
            logprob: report.logprob.unwrap_or_default() as f32,
            known: known && report.logprob.is_some(),
            top: report
                .top
                .iter()
                .map(|&(id, logprob)| {
                    let bytes = tokenizer.token_bytes(id).to_vec();
                    (
                        String::from_utf8_lossy(&bytes).into_owned(),
                        logprob as f32,
                        bytes,
                    )
                })
                .collect(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.node.credit().release(&reservation);
        }
    }
}
