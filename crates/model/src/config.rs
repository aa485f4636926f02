//! The shape of a decoder, read from a Hugging Face `config.json` of the Llama architecture.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Rotary base of layers with a window, where it differs (Gemma 3).
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
    /// Positions that a query of `layer` sees, itself included; `None` means all before it.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }
}

impl Config {
    /// Reads `config.json` at `path`, or in the directory `path`.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a field, or asks for a feature outside the plain Llama
    /// architecture (biases, rope scaling, sliding windows, other activations); the error names
    /// the file, the field and the value.
    pub fn from_hf(path: &Path) -> Result<Self, Error> {
        let path = if path.is_dir() {
            path.join("config.json")
        } else {
            path.to_path_buf()
        };
        let json = crate::files::read_json(&path)?;
        Self::from_json(&json, path)
    }

    fn from_json(json: &Value, path: PathBuf) -> Result<Self, Error> {
        let file = File { json, path };
        file.only("model_type", "llama")?;
        if let Some(architectures) = file.present("architectures") {
            let known = architectures
                .as_array()
                .is_some_and(|list| list.iter().any(|a| a.as_str() == Some("LlamaForCausalLM")));
            if !known {
                return Err(file.unsupported("architectures", "LlamaForCausalLM"));
            }
        }
        file.only("hidden_act", "silu")?;
        for field in ["attention_bias", "mlp_bias"] {
            if file
                .present(field)
                .is_some_and(|v| v != &Value::Bool(false))
            {
                return Err(file.unsupported(field, "false"));
            }
        }
        for field in ["sliding_window", "quantization_config"] {
            if file.present(field).is_some() {
                return Err(file.unsupported(field, "null"));
            }
        }
        let rope_theta = file.rope_theta()?;

        let hidden = file.size("hidden_size")?;
        let heads = file.size("num_attention_heads")?;
        let config = Self {
            hidden,
            layers: file.size("num_hidden_layers")?,
            heads,
            kv_heads: file.size_or("num_key_value_heads", heads)?,
            head_dim: file.size_or("head_dim", hidden / heads)?,
            mlp: file.size("intermediate_size")?,
            vocab: file.size("vocab_size")?,
            context: file.size("max_position_embeddings")?,
            rope_theta,
            norm_eps: file.number("rms_norm_eps", 1e-6)?,
            tie_embeddings: match file.present("tie_word_embeddings") {
                None => false,
                Some(Value::Bool(tied)) => *tied,
                Some(_) => return Err(file.unsupported("tie_word_embeddings", "true or false")),
            },
            bos: file.tokens("bos_token_id")?.first().copied(),
            eos: file.tokens("eos_token_id")?,
            features: Features::default(),
        };
        config
            .check()
            .map_err(|(field, supported)| file.unsupported(field, supported))?;
        Ok(config)
    }

    /// The first field that breaks a rule, with the rule.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
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
        Ok(())
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

    /// The same shape as a Hugging Face `config.json`, naming `dtype` (`float32`, `bfloat16`).
    #[must_use]
    pub fn to_hf(&self, dtype: &str) -> Value {
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => (*one).into(),
            many => many.into(),
        };
        serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.mlp,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tie_embeddings,
            "bos_token_id": self.bos,
            "eos_token_id": eos,
            "hidden_act": "silu",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "mlp_bias": false,
            "initializer_range": 0.02,
            "use_cache": true,
            "torch_dtype": dtype,
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

/// A JSON object with the path that errors name.
struct File<'a> {
    json: &'a Value,
    path: PathBuf,
}

impl File<'_> {
    fn present(&self, field: &str) -> Option<&Value> {
        self.json.get(field).filter(|v| !v.is_null())
    }

    fn unsupported(&self, field: &str, supported: &str) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            field: field.to_owned(),
            value: self
                .json
                .get(field)
                .map_or_else(|| "missing".to_owned(), Value::to_string),
            supported: supported.to_owned(),
        }
    }

    fn missing(&self, field: &str) -> Error {
        Error::MissingField {
            path: self.path.clone(),
            field: field.to_owned(),
        }
    }

    fn only(&self, field: &str, value: &str) -> Result<(), Error> {
        match self.present(field) {
            None => Err(self.missing(field)),
            Some(found) if found.as_str() == Some(value) => Ok(()),
            Some(_) => Err(self.unsupported(field, &format!("\"{value}\""))),
        }
    }

    fn size(&self, field: &str) -> Result<usize, Error> {
        let value = self.present(field).ok_or_else(|| self.missing(field))?;
        value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| self.unsupported(field, "a whole number"))
    }

    fn size_or(&self, field: &str, default: usize) -> Result<usize, Error> {
        if self.present(field).is_some() {
            self.size(field)
        } else {
            Ok(default)
        }
    }

    fn number(&self, field: &str, default: f32) -> Result<f32, Error> {
        match self.present(field) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .map(|v| v as f32)
                .ok_or_else(|| self.unsupported(field, "a number")),
        }
    }

    /// Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters`.
    fn rope_theta(&self) -> Result<f32, Error> {
        for field in ["rope_scaling", "rope_parameters"] {
            let Some(rope) = self.present(field) else {
                continue;
            };
            let kind = rope.get("rope_type").or_else(|| rope.get("type"));
            if kind.and_then(Value::as_str) != Some("default") {
                return Err(self.unsupported(field, "null or type \"default\""));
            }
            if let Some(theta) = rope.get("rope_theta").and_then(Value::as_f64) {
                return Ok(theta as f32);
            }
        }
        self.number("rope_theta", 10_000.0)
    }

    fn tokens(&self, field: &str) -> Result<Vec<u32>, Error> {
        let Some(value) = self.present(field) else {
            return Ok(Vec::new());
        };
        let list = value
            .as_array()
            .map_or_else(|| vec![value], |list| list.iter().collect());
        list.into_iter()
            .map(|v| v.as_u64().and_then(|v| u32::try_from(v).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| self.unsupported(field, "a token or a list of tokens"))
    }
}
