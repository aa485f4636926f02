//! The shape of a model, from the metadata of a GGUF file.

mod describe;

pub(crate) use describe::describe;

use openledger_kernels::rope::{Yarn, frequencies, scale_llama3};

use super::metadata::{Metadata, Value};
use super::names;
use crate::config::{Architecture, Config, Features, RopeScaling, attention_scale};
use crate::{Error, Gguf};

/// The tensor that holds the divisors of rotary frequencies.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";
/// The table of embeddings, whose rows are the vocabulary.
const EMBEDDING: &str = "token_embd.weight";
/// The output projection, where it is not the embedding.
const HEAD: &str = "output.weight";
/// Control tokens that end a turn in the chat formats of these families, by their text; files
/// name one end token and leave the others to this convention.
const ENDS: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"];

const BOS: &str = "tokenizer.ggml.bos_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
/// Keys of end tokens, in the order in which a model names them.
const EOS: [&str; 3] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
];

/// Entries of the largest table of rotations, which is made when a model is loaded.
const ROTATIONS: usize = 1 << 27;
/// Tolerance on a rotary divisor, relative: what two ways of rounding in `f32` differ by.
const DIVISOR_TOLERANCE: f64 = 2e-5;

impl Gguf {
    /// The shape of the model.
    ///
    /// # Errors
    /// When the file holds no model, or one that is not supported; the error names the key, its
    /// value and what is supported.
    pub fn config(&self) -> Result<Config, Error> {
        let metadata = self.metadata();
        let architecture = architecture(metadata)?;
        let name = names::architecture(architecture);
        let keys = Keys { metadata, name };
        let hidden = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let head_dim = hidden.checked_div(heads).unwrap_or(0);
        let head_dim = keys.some_size("attention.key_length")?.unwrap_or(head_dim);
        for key in ["attention.value_length", "rope.dimension_count"] {
            if keys.some_size(key)?.is_some_and(|size| size != head_dim) {
                return Err(keys.unsupported(key, format!("{head_dim}, as wide as a key")));
            }
        }
        if keys.some_size("expert_count")?.unwrap_or(0) > 0 {
            return Err(keys.unsupported("expert_count", "0: models without experts"));
        }
        let embedding = self.shape(EMBEDDING);
        let vocab = embedding.and_then(|shape| shape.first().copied());
        let mut config = Config {
            hidden,
            layers: keys.size("block_count")?,
            heads,
            kv_heads: keys.some_size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            mlp: keys.size("feed_forward_length")?,
            vocab: vocab.ok_or_else(|| Error::MissingTensor {
                path: metadata.path.clone(),
                tensor: EMBEDDING.to_owned(),
                expected: vec![0, hidden],
            })?,
            context: keys.size("context_length")?,
            rope_theta: keys.number("rope.freq_base")?.unwrap_or(10_000.0),
            norm_eps: keys
                .number("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| metadata.missing(&keys.key("attention.layer_norm_rms_epsilon")))?,
            tie_embeddings: self.shape(HEAD).is_none(),
            bos: None,
            eos: Vec::new(),
            features: Features::family(architecture, hidden),
        };
        let refuse = |(field, rule): (&str, &str)| Error::Gguf {
            path: metadata.path.clone(),
            message: format!("the model's {field} is out of range: {rule}"),
        };
        // Before anything is made that is as long as the model is deep.
        config.check_sizes().map_err(refuse)?;
        if config.layers > self.tensors() {
            return Err(keys.unsupported("block_count", "no more blocks than there are tensors"));
        }
        if config.context.saturating_mul(head_dim) > ROTATIONS {
            let most = format!("{} with heads of {head_dim}", ROTATIONS / head_dim.max(1));
            return Err(keys.unsupported("context_length", format!("up to {most}")));
        }
        keys.ends(&mut config)?;
        keys.gemma(&mut config)?;
        keys.windows(&mut config)?;
        config.features.rope_scaling = self.scaling(&keys, &config)?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    fn scaling(&self, keys: &Keys<'_>, config: &Config) -> Result<RopeScaling, Error> {
        const TYPE: &str = "rope.scaling.type";
        let factor = keys.number("rope.scaling.factor")?;
        let kind = keys.metadata.text(&keys.key(TYPE))?;
        let scaling = match kind {
            Some("none") => RopeScaling::None,
            None | Some("linear") => match factor {
                Some(factor) if factor != 0.0 && factor.to_bits() != 1.0_f32.to_bits() => {
                    RopeScaling::Linear { factor }
                }
                _ => RopeScaling::None,
            },
            Some("yarn") => keys.yarn(factor, config)?,
            Some(_) => return Err(keys.unsupported(TYPE, "\"none\", \"linear\" and \"yarn\"")),
        };
        let Some(shape) = self.shape(ROPE_FACTORS) else {
            return Ok(scaling);
        };
        let path = keys.metadata.path.clone();
        let expected = vec![config.head_dim / 2];
        if shape != expected {
            return Err(Error::Shape {
                path,
                tensor: ROPE_FACTORS.to_owned(),
                found: shape.to_vec(),
                expected,
            });
        }
        let mut divisors = vec![0.0; config.head_dim / 2];
        self.read(ROPE_FACTORS, &mut divisors)?;
        let found = llama3(config.rope_theta, config.head_dim, &divisors);
        match (found, scaling) {
            (Some(found), RopeScaling::None) => Ok(found),
            _ => Err(Error::Gguf {
                path,
                message: format!("`{ROPE_FACTORS}` is no scaling of Llama 3's kind"),
            }),
        }
    }
}

fn architecture(metadata: &Metadata) -> Result<Architecture, Error> {
    const KEY: &str = "general.architecture";
    if metadata.text("general.type")?.unwrap_or("model") != "model" {
        return Err(metadata.unsupported("general.type", "\"model\" as a base"));
    }
    if metadata.size("split.count")?.unwrap_or(1) > 1 {
        return Err(metadata.unsupported(
            "split.count",
            "1: join the parts with `llama-gguf-split --merge`",
        ));
    }
    let found = metadata.text(KEY)?.ok_or_else(|| metadata.missing(KEY))?;
    let known = names::ARCHITECTURES
        .into_iter()
        .find(|a| names::architecture(*a) == found);
    known.ok_or_else(|| {
        let names = names::ARCHITECTURES.map(names::architecture).join(", ");
        metadata.unsupported(KEY, names)
    })
}

/// Keys that start with the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'static str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn unsupported(&self, key: &str, supported: impl Into<String>) -> Error {
        self.metadata.unsupported(&self.key(key), supported)
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        self.metadata.needed_size(&self.key(key))
    }

    fn some_size(&self, key: &str) -> Result<Option<usize>, Error> {
        self.metadata.size(&self.key(key))
    }

    fn number(&self, key: &str) -> Result<Option<f32>, Error> {
        self.metadata.number(&self.key(key))
    }

    /// Start and end tokens, which stand with the tokenizer.
    fn ends(&self, config: &mut Config) -> Result<(), Error> {
        let m = self.metadata;
        // What older files leave out, as llama.cpp fills it in.
        let (sentence_piece, starts) = super::tokenizer::conventions(m)?;
        let default = |token| sentence_piece.then_some(token);
        if m.flag(ADD_BOS)?.unwrap_or(starts) {
            config.bos = m.token(BOS)?.or(default(1));
        }
        config.eos.extend(m.token(EOS[0])?.or(default(2)));
        for key in &EOS[1..] {
            config.eos.extend(m.token(key)?);
        }
        let tokens = m.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
        let kinds = m.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
        for (token, (text, kind)) in (0..).zip(tokens.iter().zip(kinds)) {
            if *kind == super::tokenizer::CONTROL && ENDS.contains(&text.as_str()) {
                config.eos.push(token);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        let vocab = config.vocab;
        config
            .eos
            .retain(|token| (*token as usize) < vocab && seen.insert(*token));
        config.bos = config.bos.filter(|token| (*token as usize) < vocab);
        Ok(())
    }

    /// What llama.cpp knows of Gemma beyond its file.
    fn gemma(&self, config: &mut Config) -> Result<(), Error> {
        let architecture = config.features.architecture;
        if !architecture.is_gemma() {
            return Ok(());
        }
        let scalar = attention_scalar(config);
        let cap = |key, default: Option<f32>| -> Result<Option<f32>, Error> {
            Ok(self.number(key)?.or(default).filter(|cap| *cap != 0.0))
        };
        let gemma2 = architecture == Architecture::Gemma2;
        let f = &mut config.features;
        f.attention_scale = Some(attention_scale(scalar as u64));
        if gemma2 {
            f.attention_softcap = cap("attn_logit_softcapping", Some(50.0))?;
        }
        f.logit_softcap = cap("final_logit_softcapping", gemma2.then_some(30.0))?;
        if let Some(theta) = &mut f.window_rope_theta {
            *theta = self.number("rope.freq_base_swa")?.unwrap_or(*theta);
        }
        Ok(())
    }

    /// Windows: the same in all layers of Mistral and Phi-3, by a pattern elsewhere.
    fn windows(&self, config: &mut Config) -> Result<(), Error> {
        const WINDOW: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let mut architecture = config.features.architecture;
        let default = (architecture == Architecture::Gemma2).then_some(4096);
        let size = self.some_size(WINDOW)?.or(default).filter(|size| *size > 0);
        let Some(size) = size else {
            return Ok(());
        };
        if architecture == Architecture::Llama {
            architecture = Architecture::Mistral;
            config.features.architecture = architecture;
        }
        let every = match architecture {
            Architecture::Gemma2 => 2,
            Architecture::Gemma3 => 6,
            _ => 0,
        };
        let sliding: Vec<bool> = match self.metadata.get(&self.key(PATTERN)) {
            Some(Value::Flags(flags)) => flags.clone(),
            Some(Value::Integers(list)) => list.iter().map(|x| *x != 0).collect(),
            _ => {
                // The last layer of every so many sees everything; zero: none does.
                let every = self.some_size(PATTERN)?.unwrap_or(every);
                let full = |layer: usize| every > 0 && layer % every == every - 1;
                (0..config.layers).map(|layer| !full(layer)).collect()
            }
        };
        if sliding.len() < config.layers {
            return Err(self.unsupported(PATTERN, "one entry for each layer"));
        }
        let windows = sliding[..config.layers].iter();
        let windows: Vec<_> = windows.map(|sliding| sliding.then_some(size)).collect();
        if windows.iter().any(Option::is_some) {
            config.features.windows = windows;
        }
        Ok(())
    }

    fn yarn(&self, factor: Option<f32>, config: &Config) -> Result<RopeScaling, Error> {
        let number = |key: &str| self.number(&format!("rope.scaling.{key}"));
        if number("yarn_log_multiplier")?.is_some_and(|x| x != 0.0) {
            return Err(self.unsupported("rope.scaling.yarn_log_multiplier", "0"));
        }
        if number("yarn_ext_factor")?.is_some_and(|x| x.to_bits() != 1.0_f32.to_bits()) {
            return Err(self.unsupported("rope.scaling.yarn_ext_factor", "1"));
        }
        let key = "rope.scaling.original_context_length";
        let mut yarn = Yarn {
            factor: factor.ok_or_else(|| self.unsupported("rope.scaling.factor", "a number"))?,
            beta_fast: number("yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: number("yarn_beta_slow")?.unwrap_or(1.0),
            original_context: self.some_size(key)?.unwrap_or(config.context),
        };
        // Zero stands for absent there.
        if yarn.beta_fast == 0.0 {
            yarn.beta_fast = 32.0;
        }
        // One key is the whole factor, the other is on top of what follows from `factor`.
        let whole = number("yarn_attn_factor")?;
        let extra = number("attn_factor")?;
        Ok(RopeScaling::Yarn {
            factor: yarn.factor,
            beta_fast: yarn.beta_fast,
            beta_slow: yarn.beta_slow,
            original_context: yarn.original_context,
            attention_factor: extra.map(|extra| extra * yarn.attention_factor()).or(whole),
        })
    }
}

/// The number whose inverse root scales attention scores in llama.cpp's Gemma: that of a head,
/// and in the 27B models, which it knows by their depth, that of an equal share of the width.
fn attention_scalar(config: &Config) -> usize {
    match (config.features.architecture, config.layers) {
        (Architecture::Gemma2, 46) | (Architecture::Gemma3, 62) => config.hidden / config.heads,
        _ => config.head_dim,
    }
}

/// The settings of Llama 3's scaling that give these divisors of the frequencies. Only two ratios
/// of its three settings matter, so that `low_freq_factor` is taken to be 1, as in all models.
fn llama3(theta: f32, head_dim: usize, divisors: &[f32]) -> Option<RopeScaling> {
    let plain = frequencies(head_dim, theta);
    let largest = divisors.iter().copied().fold(1.0_f32, f32::max);
    // Quotients of rounded frequencies are off by their last bits.
    let short = (largest * 1000.0).round() / 1000.0;
    let near = (short - largest).abs() <= 1e-6 * largest;
    let factor = if near { short } else { largest };
    if !factor.is_finite() || divisors.iter().any(|d| d.is_nan() || *d < 1.0) {
        return None;
    }
    if factor.to_bits() == 1.0_f32.to_bits() {
        return Some(RopeScaling::None);
    }
    // Between the two ends the kept share is linear in the frequency: `(a f - low) / (high - low)`.
    let share = |d: f32| {
        let (d, factor) = (f64::from(d), f64::from(factor));
        (1.0 / d - 1.0 / factor) / (1.0 - 1.0 / factor)
    };
    let between: Vec<(f64, f64)> = plain
        .iter()
        .zip(divisors)
        .filter(|(_, d)| **d > 1.0 + 1e-5 && **d < factor * (1.0 - 1e-5))
        .map(|(f, d)| (f64::from(*f) / std::f64::consts::TAU, share(*d)))
        .collect();
    let (mut high, mut context) = (4.0, 8192.0);
    if let [(x0, s0), .., (x1, s1)] = between.as_slice() {
        let slope = (s1 - s0) / (x1 - x0);
        let below = slope * x0 - s0;
        high = ((1.0 + 1.0 / below) * 100.0).round() / 100.0;
        context = (slope * (high - 1.0)).round();
    }
    if !(high > 1.0 && high < 1e6 && (1.0..1e9).contains(&context)) {
        return None;
    }
    let mut scaled = plain.clone();
    scale_llama3(&mut scaled, factor, 1.0, high as f32, context as usize);
    let same = plain.iter().zip(&scaled).zip(divisors).all(|((f, s), d)| {
        let want = f64::from(*f) / f64::from(*d);
        (f64::from(*s) - want).abs() <= DIVISOR_TOLERANCE * want
    });
    same.then_some(RopeScaling::Llama3 {
        factor,
        low: 1.0,
        high: high as f32,
        original_context: context as usize,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn llama3_settings_are_found_from_the_divisors() {
        for (theta, dim, factor, high, original_context) in [
            (500_000.0, 128, 8.0, 4.0, 8192),
            (500_000.0, 64, 32.0, 4.0, 8192),
            (50.0, 16, 8.0, 4.0, 32),
            (10_000.0, 64, 3.5, 2.5, 1000),
        ] {
            let plain = frequencies(dim, theta);
            let mut scaled = plain.clone();
            scale_llama3(&mut scaled, factor, 1.0, high, original_context);
            let divisors: Vec<f32> = plain.iter().zip(&scaled).map(|(f, s)| f / s).collect();
            let want = RopeScaling::Llama3 {
                factor,
                low: 1.0,
                high,
                original_context,
            };
            assert_eq!(llama3(theta, dim, &divisors), Some(want));
        }
        let others: Vec<f32> = (0..32).map(|i| 1.0 + i as f32).collect();
        assert_eq!(llama3(10_000.0, 64, &others), None);
        assert_eq!(llama3(10_000.0, 64, &[1.0; 32]), Some(RopeScaling::None));
        assert_eq!(llama3(10_000.0, 64, &[f32::NAN; 32]), None);
    }
}
