//! Requests, and what comes back.

use std::collections::BTreeMap;

use openledger_model::template::Role;
use openledger_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most stop strings of a request.
pub const MAX_STOPS: usize = 4;
/// Most alternatives reported per token.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Most answers to one request.
pub const MAX_CHOICES: u32 = 16;

/// What to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Plain text; the begin-of-text token is put before it where the model has one.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<u32>),
    /// A conversation, rendered with the model's template.
    Chat(Vec<(Role, String)>),
}

/// How tokens are chosen and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits, 0 to 2; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the likeliest tokens that together have this probability, (0, 1].
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Added to the logits of single tokens before sampling, -100 to 100.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Most answer tokens; `None` = up to the engine's default and the context.
    pub max_tokens: Option<u32>,
    /// Answer tokens before the end-of-text token may come.
    pub min_tokens: u32,
    /// Never stop at the end-of-text token.
    pub ignore_eos: bool,
    /// Strings that end the answer; they are not part of it. At most four.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            logit_bias: BTreeMap::new(),
            max_tokens: None,
            min_tokens: 0,
            ignore_eos: false,
            stop: Vec::new(),
        }
    }
}

impl Sampling {
    /// The likeliest token at every step.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming the parameter as the API does.
    pub fn validate(&self, vocab: usize) -> Result<(), Error> {
        if !(0.0..=2.0).contains(&self.temperature) {
            let expected = "must be between 0 and 2";
            return Err(Error::parameter("temperature", self.temperature, expected));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let expected = "must be above 0 and at most 1";
            return Err(Error::parameter("top_p", self.top_p, expected));
        }
        if self.max_tokens == Some(0) {
            return Err(Error::parameter("max_tokens", 0, "must be 1 or more"));
        }
        if self.stop.len() > MAX_STOPS {
            let expected = format!("at most {MAX_STOPS} strings");
            return Err(Error::parameter("stop", self.stop.len(), expected));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::parameter("stop", "\"\"", "must not be empty"));
        }
        for (&token, &bias) in &self.logit_bias {
            if token as usize >= vocab {
                let expected = format!("token ids are below {vocab}");
                return Err(Error::parameter("logit_bias", token, expected));
            }
            if !(-100.0..=100.0).contains(&bias) {
                let expected = "must be between -100 and 100";
                return Err(Error::parameter("logit_bias", bias, expected));
            }
        }
        Ok(())
    }

    /// Digest that a receipt names: `keccak256("openledger sampler 1\n" ‖ JSON)`, the JSON being
    /// the fields in order of declaration, no spaces, numbers in their shortest form that reads
    /// back to the same value.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn digest(&self) -> B256 {
        let mut bytes = b"openledger sampler 1\n".to_vec();
        serde_json::to_writer(&mut bytes, self).expect("validated numbers are finite");
        keccak256(bytes)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Adapter by name; `None` = the base alone.
    pub model: Option<String>,
    /// What to continue.
    pub prompt: Prompt,
    /// How.
    pub sampling: Sampling,
    /// Seed of the first choice; choice `i` uses `seed + i`.
    pub seed: u64,
    /// Number of answers, each an inference of its own with its own receipt.
    pub n: u32,
    /// Report the log-probability of each token, and this many alternatives (0 to 20).
    pub logprobs: Option<u8>,
    /// Report the prompt's tokens (with log-probabilities if `logprobs`) before the answer.
    pub echo: bool,
}

impl Request {
    /// A request with default sampling.
    pub fn new(model: Option<&str>, prompt: Prompt) -> Self {
        Self {
            model: model.map(str::to_owned),
            prompt,
            sampling: Sampling::default(),
            seed: 0,
            n: 1,
            logprobs: None,
            echo: false,
        }
    }
}

/// A token, as it is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenReport {
    /// Token id.
    pub id: u32,
    /// The token's own bytes as text (broken characters replaced).
    pub token: String,
    /// Natural log-probability under the model at temperature 1; `None` for the first prompt
    /// token and where not asked for.
    pub logprob: Option<f64>,
    /// The likeliest tokens at its place with their log-probabilities, best first.
    pub top: Vec<(u32, f64)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// End-of-text token or a stop string.
    Stop,
    /// `max_tokens` was reached.
    Length,
}

/// One whole answer: everything a receipt and an attribution need.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Name of the adapter, `None` for the base.
    pub model: Option<String>,
    /// Content root of the adapter's weights file.
    pub adapter: Option<B256>,
    /// Prompt tokens, begin-of-text included.
    pub prompt_tokens: Vec<u32>,
    /// Answer tokens. The end-of-text token is not one of them; tokens that complete a stop
    /// string are.
    pub output_tokens: Vec<u32>,
    /// Surprisal of each answer token, milli-bits: `round(-1000 log2 p)` under the model at
    /// temperature 1, before logit bias.
    pub surprisals: Vec<u32>,
    /// keccak256 over the final-norm hidden states from which the answer tokens were chosen:
    /// for each answer token in order, the `hidden` f32 values as little-endian bytes of the
    /// position *before* it (the last prompt token for the first one).
    pub activation: B256,
    /// Digest of the sampling parameters.
    pub sampler: B256,
    /// Seed of this choice.
    pub seed: u64,
    /// The answer, without a stop string.
    pub text: String,
    /// Byte offset in `text` at which each answer token begins (clamped to its length).
    pub offsets: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// What a stream of answers carries, in order: at most one `Prompt` per choice, its `Token`s, its
/// `Done`; choices interleave. A failure ends the stream.
#[derive(Debug)]
pub enum Event {
    /// The prompt, when asked for.
    Prompt {
        /// Number of the answer.
        choice: u32,
        /// All prompt tokens.
        tokens: Vec<TokenReport>,
    },
    /// One answer token.
    Token {
        /// Number of the answer.
        choice: u32,
        /// The token.
        report: TokenReport,
        /// Text that can be shown now. Empty while it might begin a stop string or a character
        /// is incomplete.
        text: String,
    },
    /// The answer is complete.
    Done {
        /// Number of the answer.
        choice: u32,
        /// Text held back until now.
        tail: String,
        /// Everything.
        completion: Box<Completion>,
    },
    /// The engine gave the request up.
    Failed(Error),
}
