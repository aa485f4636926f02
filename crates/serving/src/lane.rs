//! One answer in the making: its cache, its tokens, its text and what its receipt will say.

use std::sync::Arc;

use alloy_primitives::Keccak256;
use openledger_model::{
    Config, Decoder, KvCache, Lane, LaneOutput, Sampler, SamplingConfig, Tokenizer,
    log_probability, surprisal_millibits, top,
};
use openledger_primitives::B256;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::Error;
use crate::registry::Resident;
use crate::request::{Completion, Event, FinishReason, Sampling, TokenReport};
use crate::stop::StopFilter;

/// Low enough that a token with this logit is never drawn, and finite as the sampler demands.
const NEVER: f32 = -1e30;

/// An admitted request for one answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) choice: u32,
    pub(crate) adapter: Option<Arc<Resident>>,
    pub(crate) prompt: Arc<Vec<u32>>,
    pub(crate) sampling: Arc<Sampling>,
    pub(crate) sampler_digest: B256,
    pub(crate) max_tokens: usize,
    pub(crate) seed: u64,
    pub(crate) logprobs: Option<u8>,
    pub(crate) echo: bool,
    /// Text the template puts before an answer; not shown.
    pub(crate) lead: String,
    pub(crate) events: Sender<Event>,
}

impl Job {
    /// Tokens its cache must hold.
    pub(crate) fn capacity(&self) -> usize {
        self.prompt.len() + self.max_tokens
    }

    /// The scheduler's tenant.
    pub(crate) fn tenant(&self) -> Option<B256> {
        self.adapter.as_ref().map(|adapter| adapter.weights)
    }

    /// Whether anybody still listens.
    pub(crate) fn wanted(&self) -> bool {
        !self.events.is_closed()
    }
}

/// A [`Job`] that is being computed.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) job: Job,
    cache: KvCache,
    /// Prompt tokens already in the cache.
    fed: usize,
    output: Vec<u32>,
    surprisals: Vec<u32>,
    offsets: Vec<u32>,
    sampler: Sampler,
    decoder: Decoder,
    filter: StopFilter,
    lead: String,
    activation: Keccak256,
    echoed: Vec<TokenReport>,
}

/// What a step did to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    Finished,
}

impl Active {
    pub(crate) fn new(job: Job, config: &Config, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let sampler = Sampler::new(SamplingConfig {
            temperature: job.sampling.temperature,
            top_p: job.sampling.top_p,
            top_k: job.sampling.top_k as usize,
            seed: job.seed,
        })?;
        Ok(Self {
            cache: KvCache::new(config, job.capacity()),
            fed: 0,
            output: Vec::new(),
            surprisals: Vec::new(),
            offsets: Vec::new(),
            sampler,
            decoder: tokenizer.continuation_decoder(),
            filter: StopFilter::new(job.sampling.stop.clone()),
            lead: job.lead.clone(),
            activation: Keccak256::new(),
            echoed: Vec::new(),
            job,
        })
    }

    /// Whether the prompt is not yet wholly in the cache.
    pub(crate) fn prefilling(&self) -> bool {
        self.output.is_empty()
    }

    /// Prompt tokens still to be fed.
    pub(crate) fn remaining_prompt(&self) -> usize {
        self.job.prompt.len() - self.fed
    }

    /// This lane's part of a step: the last answer token, or up to `chunk` prompt tokens.
    pub(crate) fn lane(&mut self, chunk: usize) -> Lane<'_> {
        let all_logits = self.job.echo && self.job.logprobs.is_some() && self.output.is_empty();
        let tokens = match self.output.last() {
            Some(last) => std::slice::from_ref(last),
            None => {
                let end = self.job.prompt.len().min(self.fed + chunk);
                &self.job.prompt[self.fed..end]
            }
        };
        Lane {
            tokens,
            cache: &mut self.cache,
            adapter: self.job.adapter.as_ref().map(|resident| &resident.adapter),
            all_logits,
        }
    }

    /// Takes in what a step computed for `fed` new tokens.
    pub(crate) fn advance(
        &mut self,
        fed: usize,
        output: &LaneOutput,
        config: &Config,
        tokenizer: &Tokenizer,
    ) -> Result<Progress, Error> {
        let vocab = config.vocab;
        if self.output.is_empty() {
            let start = self.fed;
            self.fed += fed;
            if self.job.echo {
                self.echo(start, fed, output, vocab, tokenizer);
            }
            if self.fed < self.job.prompt.len() {
                return Ok(Progress::Running);
            }
            if self.job.echo {
                let tokens = std::mem::take(&mut self.echoed);
                self.send(Event::Prompt {
                    choice: self.job.choice,
                    tokens,
                });
            }
        }
        let logits = &output.logits[output.logits.len() - vocab..];
        let token = self.choose(logits, config)?;
        let ends = config.eos.contains(&token) && !self.job.sampling.ignore_eos;
        if ends {
            return Ok(self.finish(FinishReason::Stop));
        }
        for value in &output.hidden {
            self.activation.update(value.to_le_bytes());
        }
        self.surprisals.push(surprisal_millibits(logits, token));
        self.output.push(token);
        let piece = self.decoder.push(token);
        let text = self.show(&piece);
        let report = self.report(token, Some(logits), tokenizer);
        self.send(Event::Token {
            choice: self.job.choice,
            report,
            text,
        });
        if self.filter.stopped() {
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.output.len() == self.job.max_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        Ok(Progress::Running)
    }

    /// Adds decoded text, records where the token began, returns what can be shown.
    fn show(&mut self, piece: &str) -> String {
        let mut piece = piece;
        if !self.lead.is_empty() && !piece.is_empty() {
            piece = piece.strip_prefix(self.lead.as_str()).unwrap_or(piece);
            self.lead.clear();
        }
        self.offsets.push(self.filter.len() as u32);
        self.filter.push(piece)
    }

    /// Draws the next token. Where end-of-text may not come yet its logit is put out of reach.
    fn choose(&mut self, logits: &[f32], config: &Config) -> Result<u32, Error> {
        let sampling = &self.job.sampling;
        let early = self.output.len() < sampling.min_tokens as usize;
        if !early && sampling.logit_bias.is_empty() {
            return Ok(self.sampler.sample(logits)?.token);
        }
        let mut logits = logits.to_vec();
        for (&token, &bias) in &sampling.logit_bias {
            // -100 bans a token in this API's convention.
            let value = &mut logits[token as usize];
            *value = if bias <= -100.0 { NEVER } else { *value + bias };
        }
        if early {
            for &token in &config.eos {
                logits[token as usize] = NEVER;
            }
        }
        Ok(self.sampler.sample(&logits)?.token)
    }

    /// Reports of the prompt tokens `start..start + fed`; the logits of a position speak of the
    /// token after it.
    fn echo(
        &mut self,
        start: usize,
        fed: usize,
        output: &LaneOutput,
        vocab: usize,
        tokenizer: &Tokenizer,
    ) {
        if start == 0 {
            let first = self.job.prompt[0];
            self.echoed.push(self.report(first, None, tokenizer));
        }
        for offset in 0..fed {
            let Some(&token) = self.job.prompt.get(start + offset + 1) else {
                return;
            };
            let logits = self
                .job
                .logprobs
                .map(|_| &output.logits[offset * vocab..(offset + 1) * vocab]);
            self.echoed.push(self.report(token, logits, tokenizer));
        }
    }

    fn report(&self, token: u32, logits: Option<&[f32]>, tokenizer: &Tokenizer) -> TokenReport {
        let wanted = self.job.logprobs.zip(logits);
        TokenReport {
            id: token,
            token: String::from_utf8_lossy(tokenizer.token_bytes(token)).into_owned(),
            logprob: wanted.map(|(_, logits)| log_probability(logits, token)),
            top: wanted.map_or_else(Vec::new, |(count, logits)| top(logits, usize::from(count))),
        }
    }

    fn finish(&mut self, finish: FinishReason) -> Progress {
        let end = self.decoder.finish();
        let mut tail = self.filter.push(&end);
        tail.push_str(&self.filter.tail());
        let text = self.filter.take_text();
        let length = text.len() as u32;
        let completion = Completion {
            model: self
                .job
                .adapter
                .as_ref()
                .map(|adapter| adapter.name.clone()),
            adapter: self.job.tenant(),
            prompt_tokens: self.job.prompt.to_vec(),
            output_tokens: std::mem::take(&mut self.output),
            surprisals: std::mem::take(&mut self.surprisals),
            activation: std::mem::take(&mut self.activation).finalize(),
            sampler: self.job.sampler_digest,
            seed: self.job.seed,
            offsets: self.offsets.iter().map(|&at| at.min(length)).collect(),
            text,
            finish,
        };
        self.send(Event::Done {
            choice: self.job.choice,
            tail,
            completion: Box::new(completion),
        });
        Progress::Finished
    }

    /// Hands an event out. The channel was made large enough for all of them, so the engine never
    /// waits for a slow reader; a reader that is gone is noticed before the next step.
    fn send(&self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.job.events.try_send(event) {
            tracing::error!("an event channel was smaller than its answer");
        }
    }

    pub(crate) fn fail(&self, error: Error) {
        self.send(Event::Failed(error));
    }
}
