//! The shape of a decoder and what sets its architecture apart; [`hf`] reads and writes it as a
//! Hugging Face `config.json`.

mod hf;

pub(crate) use hf::attention_scale;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Shape and constants of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Width of the gated linear unit.
    pub mlp: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    /// Whether the output projection is the embedding table.
    pub tie_embeddings: bool,
    /// Token that starts a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// What sets the architecture apart from plain Llama.
    #[serde(default)]
    pub features: Features,
}

/// A family of models, by its Hugging Face `model_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Llama 2 and 3, and everything that shares their files (`SmolLM2`, `TinyLlama`).
    #[default]
    Llama,
    /// Mistral: a sliding window.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: norms on every query and key head.
    Qwen3,
    /// Gemma 2 text: soft-caps, alternating windows, four norms a block.
    Gemma2,
    /// Gemma 3 text: norms on queries and keys, two rotary bases.
    Gemma3,
    /// Phi-3: one fused matrix for queries, keys and values, one for gate and up.
    Phi3,
}

impl Architecture {
    /// All families.
    pub const ALL: [Self; 7] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
    ];

    /// `model_type` in the Hugging Face `config.json`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3_text",
            Self::Phi3 => "phi3",
        }
    }

    /// Name of the model class in the Hugging Face code.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Gemma2 => "Gemma2ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
            Self::Phi3 => "Phi3ForCausalLM",
        }
    }

    pub(crate) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }
}

/// Activation of the gated linear unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    #[default]
    Silu,
    /// The tanh approximation of the Gaussian error linear unit (Hendrycks and Gimpel 2016).
    GeluTanh,
}

impl From<Activation> for openledger_kernels::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Silu => Self::Silu,
            Activation::GeluTanh => Self::GeluTanh,
        }
    }
}

/// How rotary frequencies are stretched beyond the context they were trained for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions divided by a factor (Chen et al. 2023).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Wavelengths above `original_context / low` are divided.
        low: f32,
        /// Wavelengths below `original_context / high` are kept.
        high: f32,
        /// Context of the first training.
        original_context: usize,
    },
    /// `YaRN` (Peng et al. 2023): a ramp between dimensions, and hotter attention.
    Yarn {
        /// The divisor of low frequencies.
        factor: f32,
        /// Turns in the original context above which a dimension is kept.
        beta_fast: f32,
        /// Turns below which a dimension is divided.
        beta_slow: f32,
        /// Context of the first training.
        original_context: usize,
        /// Factor on cosine and sine; `None` means `0.1 ln(factor) + 1`.
        attention_factor: Option<f32>,
    },
}

/// Differences from plain Llama. The default is plain Llama.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// The family, which names tensors and files.
    pub architecture: Architecture,
    /// Stretching of the rotary frequencies of layers without a window.
    pub rope_scaling: RopeScaling,
    /// Rotary base of layers with a window, whose frequencies are not stretched; `Some` in Gemma 3
    /// only. `None`: they turn like the others.
    pub window_rope_theta: Option<f32>,
    /// Positions a query sees, itself included, by layer; empty means that no layer has a window.
    pub windows: Vec<Option<usize>>,
    /// Biases on queries, keys and values.
    pub qkv_bias: bool,
    /// A norm over each query head and each key head, before rotation.
    pub qk_norm: bool,
    /// Norms after attention and after the gated unit too, before their residual sums.
    pub post_norms: bool,
    /// Factor on embeddings; `None` is 1.
    pub embedding_scale: Option<f32>,
    /// Factor on attention scores; `None` is `1 / sqrt(head_dim)`.
    pub attention_scale: Option<f32>,
    /// `cap * tanh(x / cap)` on attention scores.
    pub attention_softcap: Option<f32>,
    /// `cap * tanh(x / cap)` on logits.
    pub logit_softcap: Option<f32>,
    /// Activation of the gated unit.
    pub activation: Activation,
}

impl Features {
    /// What every model of a family has, whatever its file says: `hidden` sets the embedding scale
    /// of Gemma.
    #[must_use]
    pub fn family(architecture: Architecture, hidden: usize) -> Self {
        let gemma = architecture.is_gemma();
        let gemma3 = architecture == Architecture::Gemma3;
        Self {
            architecture,
            qkv_bias: architecture == Architecture::Qwen2,
            qk_norm: gemma3 || architecture == Architecture::Qwen3,
            post_norms: gemma,
            embedding_scale: gemma.then(|| (hidden as f64).sqrt() as f32),
            attention_scale: gemma.then(|| hf::attention_scale(hf::QUERY_PRE_ATTENTION_SCALAR)),
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            window_rope_theta: gemma3.then_some(hf::WINDOW_THETA),
            ..Self::default()
        }
    }

    /// Positions that a query of `layer` sees, itself included; `None` means all before it.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }
}

impl Config {
    /// The first size that is out of range, with the range.
    pub(crate) fn check_sizes(&self) -> Result<(), (&'static str, &'static str)> {
        let sizes = [
            (self.hidden, "hidden_size"),
            (self.layers, "num_hidden_layers"),
            (self.heads, "num_attention_heads"),
            (self.kv_heads, "num_key_value_heads"),
            (self.head_dim, "head_dim"),
            (self.mlp, "intermediate_size"),
            (self.vocab, "vocab_size"),
            (self.context, "max_position_embeddings"),
        ];
        for (size, field) in sizes {
            if size == 0 || size > 1 << 24 {
                return Err((field, "1 to 16777216"));
            }
        }
        Ok(())
    }

    /// The first field that breaks a rule, with the rule.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        self.check_sizes()?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(("num_key_value_heads", "a divisor of num_attention_heads"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(("head_dim", "an even number"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(("rms_norm_eps", "a positive number"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(("rope_theta", "a number of at least 1"));
        }
        self.check_rope()?;
        self.check_family()
    }

    fn check_rope(&self) -> Result<(), (&'static str, &'static str)> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let (good, rule) = match self.features.rope_scaling {
            RopeScaling::None => (true, ""),
            RopeScaling::Linear { factor } => (positive(factor), "a positive `factor`"),
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original_context,
            } => (
                positive(factor)
                    && positive(low)
                    && high.is_finite()
                    && high > low
                    && original_context > 0,
                "positive numbers, `high_freq_factor` above `low_freq_factor`",
            ),
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context,
                attention_factor,
            } => (
                positive(factor)
                    && positive(beta_slow)
                    && beta_fast.is_finite()
                    && beta_fast >= beta_slow
                    && original_context > 0
                    && attention_factor.is_none_or(positive),
                "positive numbers, `beta_fast` not below `beta_slow`",
            ),
        };
        if good {
            Ok(())
        } else {
            Err(("rope_scaling", rule))
        }
    }

    /// Whether the features are some that the family has: its file could not say others.
    fn check_family(&self) -> Result<(), (&'static str, &'static str)> {
        let f = &self.features;
        let family = Features::family(f.architecture, self.hidden);
        let same = [
            ("qkv_bias", f.qkv_bias == family.qkv_bias),
            ("qk_norm", f.qk_norm == family.qk_norm),
            ("post_norms", f.post_norms == family.post_norms),
            (
                "embedding_scale",
                f.embedding_scale == family.embedding_scale,
            ),
            (
                "window_rope_theta",
                f.window_rope_theta.is_some() == family.window_rope_theta.is_some(),
            ),
        ];
        if let Some((field, _)) = same.iter().find(|(_, same)| !same) {
            return Err((field, "that of the family (`Features::family`)"));
        }
        if let Some(theta) = f.window_rope_theta
            && !(theta.is_finite() && theta >= 1.0)
        {
            return Err(("rope_local_base_freq", "a number of at least 1"));
        }
        let scale = f.attention_scale.map(hf::query_pre_attention_scalar);
        if scale.is_some() != family.attention_scale.is_some() || scale == Some(None) {
            return Err((
                "query_pre_attn_scalar",
                "1 / attention_scale^2, a whole number, in Gemma and nowhere else",
            ));
        }
        let cap = |cap: Option<f32>| cap.is_none_or(|cap| cap.is_finite() && cap > 0.0);
        if !cap(f.attention_softcap)
            || f.attention_softcap.is_some() && f.architecture != Architecture::Gemma2
        {
            return Err((
                "attn_logit_softcapping",
                "a positive number in Gemma 2, null elsewhere (transformers ignores it in Gemma 3)",
            ));
        }
        if !cap(f.logit_softcap) || f.logit_softcap.is_some() && !f.architecture.is_gemma() {
            return Err((
                "final_logit_softcapping",
                "a positive number in Gemma, null elsewhere",
            ));
        }
        if f.architecture == Architecture::Phi3 && f.rope_scaling != RopeScaling::None {
            return Err(("rope_scaling", "null in Phi-3"));
        }
        self.check_windows()
    }

    fn check_windows(&self) -> Result<(), (&'static str, &'static str)> {
        let windows = &self.features.windows;
        if windows.is_empty() {
            return Ok(());
        }
        if windows.len() != self.layers {
            return Err(("layer_types", "one entry for each layer"));
        }
        let mut sizes = windows.iter().flatten();
        let (Some(&size), rest) = (sizes.next(), sizes) else {
            return Err(("windows", "empty where no layer has a window"));
        };
        if size == 0 || !rest.clone().all(|other| *other == size) {
            return Err((
                "sliding_window",
                "one positive size for all layers that have one",
            ));
        }
        match self.features.architecture {
            Architecture::Llama => Err(("sliding_window", "null in Llama")),
            Architecture::Mistral | Architecture::Phi3 if windows.contains(&None) => Err((
                "layer_types",
                "the same kind in all layers of Mistral and Phi-3",
            )),
            _ => Ok(()),
        }
    }

    /// Checks a configuration made in code by the rules of [`Config::from_hf`].
    ///
    /// # Errors
    /// [`Error::Setting`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        self.check().map_err(|(field, expected)| Error::Setting {
            field,
            value: format!("{self:?}"),
            expected,
        })
    }

    /// Width of all query heads together.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads (or all value heads) together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Width of queries, keys and values side by side.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }

    /// Whether queries, keys and values are one linear, and gate and up another (Phi-3).
    #[must_use]
    pub fn is_fused(&self) -> bool {
        self.features.architecture == Architecture::Phi3
    }

    /// The sizes that two parts must agree on to work together, for error messages.
    #[must_use]
    pub fn shape(&self) -> String {
        format!(
            "{} layers, hidden {}, {} heads and {} key-value heads of {}, mlp {}, vocabulary {}",
            self.layers,
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.mlp,
            self.vocab
        )
    }
}
