//! Answering: who pays, what it may cost, the answer, its receipt.
//!
//! A request is admitted in the order that keeps mistakes cheap: the model must exist, the payer
//! must be able to cover the most that the answer can cost, and only then does it enter the
//! engine's queue. When the answer is complete its receipt, its text and the payer's account are
//! written in one transaction, and only after that is the answer acknowledged. Attribution and
//! settlement follow later; nothing here waits for them or for the chain.

use std::time::Duration;

use openledger_model::template;
use openledger_primitives::records::Voucher;
use openledger_primitives::{Address, B256, Wei, keccak256};
use openledger_serving::{FinishReason, Pricing, Request, SignedReceipt, Terms};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::answer::Answer;
use crate::state::{CompletionDoc, ModelDoc, collection};
use crate::view::{AttributionView, CompletionSummary, ReceiptView};
use crate::wallets::Role;
use crate::{Error, Node, Result, clock};

/// Events that wait for a slow reader.
const EVENTS: usize = 256;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: template::Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A user's message.
    pub fn user(content: &str) -> Self {
        Self {
            role: template::Role::User,
            content: content.to_owned(),
        }
    }
}

/// What to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation.
    Chat(Vec<Message>),
    /// Plain text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// How tokens are chosen and when to stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Most answer tokens.
    pub max_tokens: Option<u32>,
    /// Answer tokens before the end may come.
    pub min_tokens: u32,
    /// Never stop at the end-of-text token.
    pub ignore_eos: bool,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Nucleus, (0, 1].
    pub top_p: f32,
    /// Keeps this many tokens; 0 keeps all.
    pub top_k: u32,
    /// Seed; drawn from the completion's id when missing.
    pub seed: Option<u64>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Added to the logits of single tokens, -100 to 100.
    pub logit_bias: std::collections::BTreeMap<u32, f32>,
    /// Report log-probabilities with this many alternatives.
    pub logprobs: Option<u32>,
    /// Repeat the prompt before the answer.
    pub echo: bool,
}

impl Sampling {
    /// The likeliest token at every step.
    pub fn greedy() -> Self {
        Self {
            top_p: 1.0,
            ..Self::default()
        }
    }
}

/// Who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payment {
    /// A key bound to a payer whose vouchers this node signs.
    ApiKey(String),
    /// A voucher with its signature.
    Voucher(Voucher, Vec<u8>),
}

/// A request, as the API understands it.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRequest {
    /// Base or adapter by name.
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// How.
    pub sampling: Sampling,
    /// Who pays.
    pub payment: Payment,
    /// The caller's own name for this request. Asking again under the same name, even after a
    /// crash, gives the same answer and charges nothing more.
    pub idempotency: Option<String>,
}

/// An answer in the making. Dropping it cancels the request; an answer that is not finished costs
/// nothing.
#[derive(Debug)]
pub struct CompletionStream {
    /// Completion id, minted before the first token.
    pub id: String,
    /// Model that answers.
    pub model: String,
    /// Unix seconds.
    pub created: u64,
    /// Identifies weights and code.
    pub fingerprint: String,
    /// What happens, ending with `Done` or `Failed`.
    pub events: mpsc::Receiver<CompletionEvent>,
}

/// What a stream carries.
#[derive(Debug)]
pub enum CompletionEvent {
    /// Text that can be shown now, and the token behind it if log-probabilities were asked for.
    Token {
        /// May be empty while a character is incomplete.
        text: String,
        /// The token.
        logprob: Option<TokenLogprob>,
    },
    /// The answer is complete and its receipt is durable.
    Done(Completion),
    /// The request failed; nothing is charged.
    Failed(Error),
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The whole answer, with the prompt before it if `echo` was asked for.
    pub text: String,
    /// `stop` or `length`.
    pub finish_reason: &'static str,
    /// Prompt tokens charged.
    pub prompt_tokens: u32,
    /// Answer tokens charged.
    pub output_tokens: u32,
}

/// A token with its log-probability.
#[derive(Clone, Debug)]
pub struct TokenLogprob {
    /// The token as text.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural log-probability.
    pub logprob: f32,
    /// Whether it has one: the first token of an echoed prompt has none.
    pub known: bool,
    /// The likeliest tokens at its place: text, log-probability, bytes.
    pub top: Vec<(String, f32, Vec<u8>)>,
}

impl Node {
    /// Admits a request and starts answering it.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Unauthorized`], [`Error::BadVoucher`],
    /// [`Error::PaymentRequired`], [`Error::ContextLength`], [`Error::Busy`], or
    /// [`Error::Invalid`] naming the field.
    pub async fn complete(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let model: ModelDoc = self
            .catalogue()
            .get(collection::MODELS, &request.model)?
            .ok_or_else(|| Error::UnknownModel {
                name: request.model.clone(),
            })?;
        let payer = self.payer(&request.payment).await?;
        let prompt_text = self.render(&request.prompt)?;
        let question = match &request.prompt {
            Prompt::Chat(messages) => messages
                .last()
                .map(|message| message.content.clone())
                .unwrap_or_default(),
            Prompt::Text(_) | Prompt::Tokens(_) => prompt_text.clone(),
        };
        let id = match &request.idempotency {
            None => self.mint_completion_id()?,
            Some(key) => {
                let id = self.completion_id_for(payer, key);
                if let Ok(doc) = self.completion_doc(&id) {
                    return self.answered(doc);
                }
                id
            }
        };
        let created = clock::unix_seconds();
        let seed = request.sampling.seed.unwrap_or_else(|| seed_from(&id));
        let served = Request {
            model: model.parent.is_some().then(|| model.name.clone()),
            prompt: served_prompt(&request.prompt),
            sampling: openledger_serving::Sampling {
                temperature: request.sampling.temperature,
                top_p: request.sampling.top_p,
                top_k: request.sampling.top_k,
                max_tokens: request.sampling.max_tokens,
                min_tokens: request.sampling.min_tokens,
                ignore_eos: request.sampling.ignore_eos,
                stop: request.sampling.stop.clone(),
                logit_bias: request.sampling.logit_bias.clone(),
            },
            seed,
            n: 1,
            logprobs: request
                .sampling
                .logprobs
                .map(|top| u8::try_from(top).unwrap_or(u8::MAX)),
            echo: request.sampling.echo,
        };
        let (prompt_tokens, most) = self.engine().measure(&served)?;
        let pricing = Pricing {
            input: model.price_in,
            output: model.price_out,
        };
        let highest = pricing.fee(
            u32::try_from(prompt_tokens).unwrap_or(u32::MAX),
            u32::try_from(most).unwrap_or(u32::MAX),
        )?;
        let reservation = self.reserve(payer, highest).await?;
        let events = match self.engine().submit(served) {
            Ok(answers) => answers.events,
            Err(error) => {
                self.credit().release(&reservation);
                return Err(error.into());
            }
        };
        let (send, receive) = mpsc::channel(EVENTS);
        let answer = Answer {
            node: self.clone(),
            terms: Terms {
                chain_id: self.chain_id(),
                adapter: model.receipt_digest(),
                base: self.base().weights_root,
                tokenizer: self.base().tokenizer_root,
                pricing,
                payer,
                voucher: reservation.voucher,
                operator: self.wallets().address(Role::Operator),
                created_at: created,
            },
            id: id.clone(),
            model: model.name.clone(),
            question,
            prompt: prompt_text,
            echo: request.sampling.echo,
            logprobs: request.sampling.logprobs.is_some(),
            reservation: Some(reservation),
        };
        tokio::spawn(answer.forward(events, send));
        let fingerprint = fingerprint(model.weights);
        Ok(CompletionStream {
            id,
            model: model.name,
            created,
            fingerprint,
            events: receive,
        })
    }

    fn render(&self, prompt: &Prompt) -> Result<String> {
        match prompt {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::Tokens(tokens) => Ok(self.base().tokenizer.decode(tokens)),
            Prompt::Chat(messages) => {
                let turns: Vec<_> = messages
                    .iter()
                    .map(|m| (m.role, m.content.as_str()))
                    .collect();
                let text = self.base().template.text(&turns);
                text.map_err(|error| match error {
                    openledger_model::Error::ChatTemplate { message, .. } => {
                        Error::invalid("messages", format!("the model's chat template {message}"))
                    }
                    other => other.into(),
                })
            }
        }
    }

    pub(crate) fn completion_doc(&self, id: &str) -> Result<CompletionDoc> {
        self.catalogue()
            .get(collection::COMPLETIONS, id)?
            .ok_or_else(|| Error::not_found("completion", id))
    }

    pub(crate) fn signed_receipt(&self, id: &str) -> Result<SignedReceipt> {
        self.receipts()
            .by_completion(id)?
            .ok_or_else(|| Error::not_found("receipt", id))
    }

    /// The signed receipt of a completion as JSON, with what it commits to.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn receipt(&self, id: &str) -> Result<Option<serde_json::Value>> {
        let Some(signed) = self.receipts().by_completion(id)? else {
            return Ok(None);
        };
        serde_json::to_value(signed)
            .map(Some)
            .map_err(|error| Error::Task(error.to_string()))
    }

    pub(crate) fn receipt_view(&self, id: &str) -> Result<ReceiptView> {
        let signed = self.signed_receipt(id)?;
        let receipt = &signed.receipt;
        Ok(ReceiptView {
            digest: signed.digest,
            signature: signed.signature.to_string(),
            operator: receipt.operator,
            payer: receipt.payer,
            fee: Wei::new(receipt.fee),
            prompt_tokens: receipt.promptTokens,
            output_tokens: receipt.outputTokens,
            prompt_digest: receipt.promptDigest,
            output_digest: receipt.outputDigest,
            activation: receipt.activation,
            created: receipt.createdAt,
        })
    }

    /// The newest completions first, at most `limit`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn completions(&self, limit: usize) -> Result<Vec<CompletionSummary>> {
        let mut all = self
            .catalogue()
            .list::<CompletionDoc>(collection::COMPLETIONS)?;
        all.sort_by_key(|(_, doc)| std::cmp::Reverse(doc.sequence));
        all.into_iter()
            .take(limit)
            .map(|(id, doc)| {
                let ready = self.is_traced(&id)?;
                Ok(CompletionSummary {
                    id,
                    model: doc.model,
                    prompt: beginning(&doc.question),
                    answer: beginning(&doc.output),
                    fee: doc.fee,
                    created: doc.created,
                    attribution: if ready { "ready" } else { "pending" }.to_owned(),
                })
            })
            .collect()
    }

    /// The attribution of a completion once it is ready, or what there is after `patience`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn wait_for_attribution(
        &self,
        id: &str,
        patience: Duration,
    ) -> Result<Option<AttributionView>> {
        let topic = format!("attribution:{id}");
        let mut live = self.notices().follow();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let view = self.attribution(id)?;
            if view.as_ref().is_none_or(|view| view.status == "ready") {
                return Ok(view);
            }
            loop {
                match tokio::time::timeout_at(deadline, live.recv()).await {
                    Err(_) => return Ok(view),
                    Ok(Ok(notice)) if notice.topic == topic => break,
                    Ok(Ok(_)) => {}
                    Ok(Err(tokio::sync::broadcast::error::RecvError::Lagged(_))) => break,
                    Ok(Err(_)) => return Err(Error::ShuttingDown),
                }
            }
        }
    }

    /// The stream of an answer that was given before.
    fn answered(&self, doc: CompletionDoc) -> Result<CompletionStream> {
        let receipt = self.signed_receipt(&doc.id)?.receipt;
        let model: Option<ModelDoc> = self.catalogue().get(collection::MODELS, &doc.model)?;
        let fingerprint = fingerprint(model.map(|model| model.weights).unwrap_or_default());
        let (send, receive) = mpsc::channel(2);
        let done = Completion {
            text: doc.output.clone(),
            finish_reason: finish_reason(doc.finish),
            prompt_tokens: receipt.promptTokens,
            output_tokens: receipt.outputTokens,
        };
        let text = CompletionEvent::Token {
            text: doc.output,
            logprob: None,
        };
        // The channel has room for both.
        let _ = send.try_send(text);
        let _ = send.try_send(CompletionEvent::Done(done));
        Ok(CompletionStream {
            id: doc.id,
            model: doc.model,
            created: doc.created,
            fingerprint,
            events: receive,
        })
    }

    fn completion_id_for(&self, payer: Address, key: &str) -> String {
        let name = [
            self.id_secret().as_slice(),
            payer.as_slice(),
            key.as_bytes(),
        ]
        .concat();
        completion_id(keccak256(name))
    }

    /// A fresh id. It cannot be guessed, since it opens the prompt and the answer to whoever
    /// knows it.
    fn mint_completion_id(&self) -> Result<String> {
        let number = self.next_id()?.to_be_bytes();
        Ok(completion_id(keccak256(
            [self.id_secret().as_slice(), &number].concat(),
        )))
    }
}

impl ModelDoc {
    /// What receipts name it by: the Adapter record's digest, zero for a base.
    pub(crate) fn receipt_digest(&self) -> B256 {
        if self.parent.is_some() {
            self.digest
        } else {
            B256::ZERO
        }
    }
}

fn served_prompt(prompt: &Prompt) -> openledger_serving::Prompt {
    match prompt {
        Prompt::Text(text) => openledger_serving::Prompt::Text(text.clone()),
        Prompt::Tokens(tokens) => openledger_serving::Prompt::Tokens(tokens.clone()),
        Prompt::Chat(messages) => openledger_serving::Prompt::Chat(
            messages
                .iter()
                .map(|m| (m.role, m.content.clone()))
                .collect(),
        ),
    }
}

fn completion_id(digest: B256) -> String {
    format!("cmpl-{}", &format!("{digest:x}")[..24])
}

fn fingerprint(weights: B256) -> String {
    format!("{weights:x}")[..12].to_owned()
}

pub(crate) const fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn seed_from(id: &str) -> u64 {
    let digest = keccak256(id);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

fn beginning(text: &str) -> String {
    let mut short: String = text.chars().take(160).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
