//! From logits to tokens: greedy and seeded sampling, log-probabilities and surprisals.
//!
//! Everything here is computed in `f64` with the fixed functions of the kernels, so a receipt's
//! seed replays to the same tokens on any machine.

use std::path::Path;

use openledger_kernels::Isa;
use openledger_kernels::math::exp64;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, files, random};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Keeps the fewest tokens whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
        }
    }
}

impl SamplingConfig {
    /// What the model in `directory` is best drawn with: `temperature`, `top_p` and `top_k` of its
    /// `generation_config.json`. Without the file or a field nothing is changed about the model's
    /// probabilities (temperature 1); with `do_sample` false the most probable token is taken.
    ///
    /// # Errors
    /// When the file is not JSON or a field has another kind of value or is out of range.
    pub fn of_model(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("generation_config.json");
        let mut config = Self {
            temperature: 1.0,
            ..Self::default()
        };
        if !path.exists() {
            return Ok(config);
        }
        let json = files::read_json(&path)?;
        let number = |field: &str, most: f64, supported: &str| match &json[field] {
            Value::Null => Ok(None),
            value => value
                .as_f64()
                .filter(|x| (0.0..=most).contains(x))
                .map(Some)
                .ok_or_else(|| Error::Unsupported {
                    path: path.clone(),
                    field: field.to_owned(),
                    value: value.to_string(),
                    supported: supported.to_owned(),
                }),
        };
        if let Some(temperature) = number("temperature", 2.0, "0 to 2")? {
            config.temperature = temperature as f32;
        }
        if let Some(top_p) = number("top_p", 1.0, "0 to 1")? {
            config.top_p = top_p as f32;
        }
        let most = f64::from(u32::MAX);
        if let Some(top_k) = number("top_k", most, "a number of tokens")? {
            config.top_k = top_k as usize;
        }
        if json["do_sample"] == false {
            config.temperature = 0.0;
        }
        Sampler::new(config).map(|_| config)
    }
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Its natural log-probability under the model itself (no temperature, nothing cut off).
    pub log_probability: f64,
    /// The same as surprisal in thousandths of a bit.
    pub surprisal_millibits: u32,
}

/// Draws tokens; one uniform number per token, whatever the settings.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplingConfig,
    rng: ChaCha12Rng,
}

impl Sampler {
    /// A sampler at its first draw.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(config: SamplingConfig) -> Result<Self, Error> {
        Self::resume(config, 0)
    }

    /// A sampler that has already drawn `drawn` tokens.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn resume(config: SamplingConfig, drawn: u64) -> Result<Self, Error> {
        let fail = |field, value: f32, expected| {
            Err(Error::Setting {
                field,
                value: value.to_string(),
                expected,
            })
        };
        if !(0.0..=100.0).contains(&config.temperature) {
            return fail("temperature", config.temperature, "0 to 100");
        }
        if !(config.top_p > 0.0 && config.top_p <= 1.0) {
            return fail("top_p", config.top_p, "above 0 and at most 1");
        }
        let mut rng = random::stream(config.seed, 2);
        rng.set_word_pos(u128::from(drawn) * 2);
        Ok(Self { config, rng })
    }

    /// Draws a token from one row of logits.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a logit is NaN or infinite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Choice, Error> {
        if logits.is_empty() || logits.iter().any(|x| !x.is_finite()) {
            return Err(Error::Diverged { what: "a logit" });
        }
        let uniform = random::uniform(&mut self.rng);
        let token = if self.config.temperature > 0.0 {
            self.draw(logits, uniform)
        } else {
            best(logits)
        };
        let log_probability = log_probability(logits, token);
        let surprisal_millibits = millibits(log_probability);
        Ok(Choice {
            token,
            log_probability,
            surprisal_millibits,
        })
    }

    fn draw(&self, logits: &[f32], uniform: f64) -> u32 {
        let keep = match self.config.top_k {
            0 => logits.len(),
            k => k.min(logits.len()),
        };
        let order = ranked(logits, keep);
        let highest = f64::from(logits[order[0] as usize]);
        let temperature = f64::from(self.config.temperature);
        let mut sums = Vec::with_capacity(order.len());
        let mut sum = 0.0;
        for token in &order {
            let below = (f64::from(logits[*token as usize]) - highest) / temperature;
            sum += exp64(below.max(-700.0));
            sums.push(sum);
        }
        let enough = f64::from(self.config.top_p) * sum;
        let kept = sums
            .iter()
            .position(|s| *s >= enough)
            .map_or(order.len(), |i| i + 1);
        let point = uniform * sums[kept - 1];
        let index = sums[..kept]
            .iter()
            .position(|s| *s > point)
            .unwrap_or(kept - 1);
        order[index]
    }
}

/// The `keep` highest logits' tokens, highest first, equal logits by token.
fn ranked(logits: &[f32], keep: usize) -> Vec<u32> {
    let by = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then_with(|| a.cmp(b))
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    if keep < order.len() {
        if keep > 0 {
            order.select_nth_unstable_by(keep - 1, by);
        }
        order.truncate(keep);
    }
    order.sort_unstable_by(by);
    order
}

fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

fn millibits(log_probability: f64) -> u32 {
    let millibits = (-log_probability / std::f64::consts::LN_2 * 1000.0).round();
    millibits.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Natural log-probability of `token` under a row of logits.
///
/// # Panics
/// When `token` is not below the row's length.
#[must_use]
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let all = Isa::best().log_sum_exp(logits, &mut Vec::new());
    f64::from(logits[token as usize]) - all
}

/// Surprisal of `token` in thousandths of a bit: `-log2 p(token) * 1000`, rounded.
///
/// # Panics
/// When `token` is not below the row's length.
#[must_use]
pub fn surprisal_millibits(logits: &[f32], token: u32) -> u32 {
    millibits(log_probability(logits, token))
}

/// The `count` most probable tokens with their natural log-probabilities, highest first.
#[must_use]
pub fn top(logits: &[f32], count: usize) -> Vec<(u32, f64)> {
    let all = Isa::best().log_sum_exp(logits, &mut Vec::new());
    ranked(logits, count)
        .into_iter()
        .map(|token| (token, f64::from(logits[token as usize]) - all))
        .collect()
}
