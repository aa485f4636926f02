//! `config.json` of Hugging Face models, read as `transformers` 5 reads it: older and newer names of
//! the rotary settings, and the defaults of each `model_type` where a field is absent.

use std::path::{Path, PathBuf};

use openledger_kernels::math::ln;
use serde_json::{Map, Value, json};

use super::{Activation, Architecture, Config, Features, RopeScaling};
use crate::Error;

/// Gemma's `query_pre_attn_scalar` where the file does not say.
pub(super) const QUERY_PRE_ATTENTION_SCALAR: u64 = 256;
/// Gemma 3's rotary base of layers with a window where the file does not say.
pub(super) const WINDOW_THETA: f32 = 10_000.0;
/// Layers of Gemma 3 up to and including one without a window, where the file does not say.
const WINDOW_PATTERN: usize = 6;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The factor on attention scores that Gemma's `query_pre_attn_scalar` stands for.
pub(crate) fn attention_scale(scalar: u64) -> f32 {
    (1.0 / (scalar as f64).sqrt()) as f32
}

/// The whole number whose [`attention_scale`] is `scale`.
pub(super) fn query_pre_attention_scalar(scale: f32) -> Option<u64> {
    let scalar = (1.0 / f64::from(scale).powi(2)).round() as u64;
    (attention_scale(scalar).to_bits() == scale.to_bits()).then_some(scalar)
}

/// What a family's file leaves out, as its `configuration_*.py` fills it in.
struct Defaults {
    vocab: usize,
    hidden: usize,
    mlp: usize,
    layers: usize,
    heads: usize,
    /// `None`: as many as `heads`.
    kv_heads: Option<usize>,
    /// `None`: `hidden / heads`.
    head_dim: Option<usize>,
    context: usize,
    norm_eps: f32,
    theta: f32,
    tie_embeddings: bool,
    bos: Option<u32>,
    eos: Option<u32>,
    window: Option<usize>,
}

impl Architecture {
    fn defaults(self) -> Defaults {
        let llama = Defaults {
            vocab: 32_000,
            hidden: 4096,
            mlp: 11_008,
            layers: 32,
            heads: 32,
            kv_heads: None,
            head_dim: None,
            context: 2048,
            norm_eps: 1e-6,
            theta: 10_000.0,
            tie_embeddings: false,
            bos: Some(1),
            eos: Some(2),
            window: None,
        };
        let qwen = Defaults {
            vocab: 151_936,
            mlp: 22_016,
            kv_heads: Some(32),
            context: 32_768,
            bos: None,
            eos: None,
            window: Some(4096),
            ..llama
        };
        let gemma = Defaults {
            vocab: 256_000,
            hidden: 2304,
            mlp: 9216,
            layers: 26,
            heads: 8,
            kv_heads: Some(4),
            head_dim: Some(256),
            context: 8192,
            tie_embeddings: true,
            bos: Some(2),
            eos: Some(1),
            window: Some(4096),
            ..llama
        };
        match self {
            Self::Llama => llama,
            Self::Mistral => Defaults {
                mlp: 14_336,
                kv_heads: Some(8),
                context: 131_072,
                window: Some(4096),
                ..llama
            },
            Self::Qwen2 => qwen,
            Self::Qwen3 => Defaults {
                head_dim: Some(128),
                ..qwen
            },
            Self::Gemma2 => gemma,
            Self::Gemma3 => Defaults {
                vocab: 262_208,
                context: 131_072,
                theta: 1_000_000.0,
                ..gemma
            },
            Self::Phi3 => Defaults {
                vocab: 32_064,
                hidden: 3072,
                mlp: 8192,
                context: 4096,
                norm_eps: 1e-5,
                eos: Some(32_000),
                ..llama
            },
        }
    }
}

impl Config {
    /// Reads `config.json` at `path`, or in the directory `path`.
    ///
    /// A field that is absent has the value that `transformers` gives it for this `model_type`.
    ///
    /// # Errors
    /// When the file cannot be read or asks for what this engine does not do: another
    /// `model_type`, a mixture of experts, other activations, rope types or layer types,
    /// quantised weights; the error names the file, the field, its value and what is supported.
    pub fn from_hf(path: &Path) -> Result<Self, Error> {
        let path = if path.is_dir() {
            path.join("config.json")
        } else {
            path.to_path_buf()
        };
        let json = crate::files::read_json(&path)?;
        Self::from_json(&json, path)
    }

    pub(crate) fn from_json(json: &Value, path: PathBuf) -> Result<Self, Error> {
        let file = File { json, path };
        let architecture = file.architecture()?;
        let d = architecture.defaults();
        file.refuse(architecture)?;

        let hidden = file.size("hidden_size", d.hidden)?;
        let heads = file.size("num_attention_heads", d.heads)?;
        let layers = file.size("num_hidden_layers", d.layers)?;
        let context = file.size("max_position_embeddings", d.context)?;
        // Null asks for the general rule where it is absent for the family's.
        let kv_heads = match file.json.get("num_key_value_heads") {
            Some(Value::Null) => heads,
            _ => file.size("num_key_value_heads", d.kv_heads.unwrap_or(heads))?,
        };
        let head_dim = d.head_dim.or(hidden.checked_div(heads)).unwrap_or(0);
        let (rope_theta, rope_scaling) = file.rope(architecture, d.theta, context)?;
        let refuse = |(field, supported)| file.unsupported(field, supported);
        let mut config = Self {
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim: file.size("head_dim", head_dim)?,
            mlp: file.size("intermediate_size", d.mlp)?,
            vocab: file.size("vocab_size", d.vocab)?,
            context,
            rope_theta,
            norm_eps: file.number("rms_norm_eps", d.norm_eps)?,
            tie_embeddings: file.flag("tie_word_embeddings", d.tie_embeddings)?,
            bos: file.tokens("bos_token_id", d.bos)?.first().copied(),
            eos: file.tokens("eos_token_id", d.eos)?,
            features: file.gemma(architecture, hidden)?,
        };
        // Before anything is made that is as long as the model is deep.
        config.check_sizes().map_err(refuse)?;
        config.features.rope_scaling = rope_scaling;
        config.features.window_rope_theta = file.window_theta(architecture)?;
        config.features.windows = file.windows(architecture, layers, d.window)?;
        config.features.activation = file.activation(architecture)?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// The same shape as a Hugging Face `config.json`, naming `dtype` (`float32`, `bfloat16`).
    #[must_use]
    pub fn to_hf(&self, dtype: &str) -> Value {
        let f = &self.features;
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => (*one).into(),
            many => many.into(),
        };
        let mut json = json!({
            "architectures": [f.architecture.class()],
            "model_type": f.architecture.model_type(),
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.mlp,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rope_theta": decimal(self.rope_theta),
            "rms_norm_eps": decimal(self.norm_eps),
            "tie_word_embeddings": self.tie_embeddings,
            "bos_token_id": self.bos,
            "eos_token_id": eos,
            "hidden_act": activation_name(f.activation),
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": true,
            "torch_dtype": dtype,
        });
        let mut put = |field: &str, value: Value| json[field] = value;
        if let Some(scaling) = scaling_json(&f.rope_scaling) {
            put("rope_scaling", scaling);
        }
        let window = f.windows.iter().flatten().next().copied();
        let types: Vec<&str> = (0..self.layers)
            .map(|layer| f.window(layer).map_or(FULL, |_| SLIDING))
            .collect();
        match f.architecture {
            Architecture::Llama => {
                put("attention_bias", false.into());
                put("mlp_bias", false.into());
            }
            Architecture::Mistral => put("sliding_window", window.into()),
            Architecture::Phi3 => {
                put("sliding_window", window.into());
                put("original_max_position_embeddings", self.context.into());
                put("pad_token_id", Value::Null);
            }
            Architecture::Qwen2 | Architecture::Qwen3 => {
                let first = types.iter().position(|kind| *kind == SLIDING);
                put("use_sliding_window", window.is_some().into());
                put("sliding_window", window.into());
                put("max_window_layers", first.unwrap_or(self.layers).into());
                put("layer_types", types.into());
                if f.architecture == Architecture::Qwen3 {
                    put("attention_bias", false.into());
                }
            }
            Architecture::Gemma2 | Architecture::Gemma3 => {
                put("sliding_window", window.into());
                put("layer_types", types.into());
                put("hidden_activation", activation_name(f.activation).into());
                let scalar = f.attention_scale.and_then(query_pre_attention_scalar);
                put("query_pre_attn_scalar", scalar.into());
                put(
                    "attn_logit_softcapping",
                    f.attention_softcap.map_or(Value::Null, decimal),
                );
                put(
                    "final_logit_softcapping",
                    f.logit_softcap.map_or(Value::Null, decimal),
                );
                put("attention_bias", false.into());
                if let Some(theta) = f.window_rope_theta {
                    put("rope_local_base_freq", decimal(theta));
                }
            }
        }
        json
    }
}

fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    }
}

/// A number as the shortest decimal that reads back as the same `f32`.
fn decimal(x: f32) -> Value {
    let short = x.to_string().parse::<f64>().ok();
    let same = short.filter(|short| (*short as f32).to_bits() == x.to_bits());
    same.unwrap_or_else(|| f64::from(x)).into()
}

fn scaling_json(scaling: &RopeScaling) -> Option<Value> {
    match *scaling {
        RopeScaling::None => None,
        RopeScaling::Linear { factor } => {
            Some(json!({"rope_type": "linear", "factor": decimal(factor)}))
        }
        RopeScaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => Some(json!({
            "rope_type": "llama3",
            "factor": decimal(factor),
            "low_freq_factor": decimal(low),
            "high_freq_factor": decimal(high),
            "original_max_position_embeddings": original_context,
        })),
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context,
            attention_factor,
        } => {
            let mut json = json!({
                "rope_type": "yarn",
                "factor": decimal(factor),
                "beta_fast": decimal(beta_fast),
                "beta_slow": decimal(beta_slow),
                "original_max_position_embeddings": original_context,
            });
            if let Some(factor) = attention_factor {
                json["attention_factor"] = decimal(factor);
            }
            Some(json)
        }
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

    fn architecture(&self) -> Result<Architecture, Error> {
        let Some(found) = self.present("model_type") else {
            return Err(Error::MissingField {
                path: self.path.clone(),
                field: "model_type".to_owned(),
            });
        };
        let known = Architecture::ALL
            .into_iter()
            .find(|a| found.as_str() == Some(a.model_type()));
        let Some(architecture) = known else {
            let names: Vec<String> = Architecture::ALL
                .iter()
                .map(|a| format!("\"{}\"", a.model_type()))
                .collect();
            return Err(self.unsupported(
                "model_type",
                &format!(
                    "decoders of text without experts or images: {}",
                    names.join(", ")
                ),
            ));
        };
        let class = architecture.class();
        if let Some(classes) = self.present("architectures") {
            let known = classes
                .as_array()
                .is_some_and(|list| list.iter().any(|a| a.as_str() == Some(class)));
            if !known {
                return Err(self.unsupported("architectures", class));
            }
        }
        Ok(architecture)
    }

    /// Refuses what would change the result and is not done here.
    fn refuse(&self, architecture: Architecture) -> Result<(), Error> {
        if self.present("quantization_config").is_some() {
            return Err(self.unsupported(
                "quantization_config",
                "null: weights in F32, F16 or BF16, which it quantises itself while loading",
            ));
        }
        let flags: &[&str] = match architecture {
            Architecture::Llama => &["attention_bias", "mlp_bias"],
            Architecture::Qwen3 => &["attention_bias"],
            Architecture::Gemma2 | Architecture::Gemma3 => {
                &["attention_bias", "use_bidirectional_attention"]
            }
            // Their code does not read such fields.
            Architecture::Mistral | Architecture::Qwen2 | Architecture::Phi3 => &[],
        };
        for field in flags {
            if self.flag(field, false)? {
                return Err(self.unsupported(field, "false"));
            }
        }
        for field in ["partial_rotary_factor", "rope_parameters", "rope_scaling"] {
            if self.present(field).is_some_and(rotates_a_part) {
                return Err(self.unsupported(field, "a partial_rotary_factor of 1"));
            }
        }
        Ok(())
    }

    fn size(&self, field: &str, default: usize) -> Result<usize, Error> {
        let Some(value) = self.present(field) else {
            return Ok(default);
        };
        value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| self.unsupported(field, "a whole number"))
    }

    fn number(&self, field: &str, default: f32) -> Result<f32, Error> {
        Ok(self.some_number(field)?.unwrap_or(default))
    }

    fn some_number(&self, field: &str) -> Result<Option<f32>, Error> {
        self.present(field)
            .map(|v| {
                v.as_f64()
                    .map(|v| v as f32)
                    .ok_or_else(|| self.unsupported(field, "a number"))
            })
            .transpose()
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, Error> {
        match self.present(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.unsupported(field, "true or false")),
        }
    }

    fn tokens(&self, field: &str, default: Option<u32>) -> Result<Vec<u32>, Error> {
        let value = match self.json.get(field) {
            None => return Ok(default.into_iter().collect()),
            Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => value,
        };
        let list = value
            .as_array()
            .map_or_else(|| vec![value], |list| list.iter().collect());
        list.into_iter()
            .map(|v| v.as_u64().and_then(|v| u32::try_from(v).ok()))
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| self.unsupported(field, "a token or a list of tokens"))
    }

    fn activation(&self, architecture: Architecture) -> Result<Activation, Error> {
        let (field, default) = if architecture.is_gemma() {
            ("hidden_activation", Activation::GeluTanh)
        } else {
            ("hidden_act", Activation::Silu)
        };
        let Some(found) = self.present(field) else {
            return Ok(default);
        };
        [Activation::Silu, Activation::GeluTanh]
            .into_iter()
            .find(|a| found.as_str() == Some(activation_name(*a)))
            .ok_or_else(|| self.unsupported(field, "\"silu\" or \"gelu_pytorch_tanh\""))
    }

    /// The family's features with Gemma's own settings.
    fn gemma(&self, architecture: Architecture, hidden: usize) -> Result<Features, Error> {
        let mut features = Features::family(architecture, hidden);
        if architecture.is_gemma() {
            let default = QUERY_PRE_ATTENTION_SCALAR as usize;
            let scalar = self.size("query_pre_attn_scalar", default)?;
            features.attention_scale = Some(attention_scale(scalar as u64));
            // Gemma 2 has caps where its file is silent; null turns them off.
            let gemma2 = architecture == Architecture::Gemma2;
            let cap = |field, default| match self.json.get(field) {
                None => Ok(gemma2.then_some(default)),
                Some(_) => self.some_number(field),
            };
            features.attention_softcap = cap("attn_logit_softcapping", 50.0)?;
            features.logit_softcap = cap("final_logit_softcapping", 30.0)?;
        }
        Ok(features)
    }

    /// The window of every layer, or nothing where no layer has one.
    fn windows(
        &self,
        architecture: Architecture,
        layers: usize,
        default: Option<usize>,
    ) -> Result<Vec<Option<usize>>, Error> {
        let mut size = match self.json.get("sliding_window") {
            None => default,
            Some(Value::Null) => None,
            Some(_) => Some(self.size("sliding_window", 0)?),
        };
        if matches!(architecture, Architecture::Qwen2 | Architecture::Qwen3)
            && !self.flag("use_sliding_window", false)?
        {
            size = None;
        }
        let by_default = |layer: usize| -> Result<bool, Error> {
            Ok(match architecture {
                Architecture::Llama | Architecture::Mistral | Architecture::Phi3 => size.is_some(),
                Architecture::Qwen2 | Architecture::Qwen3 => {
                    size.is_some() && layer >= self.size("max_window_layers", 28)?
                }
                Architecture::Gemma2 => layer.is_multiple_of(2),
                Architecture::Gemma3 => {
                    let pattern = self.size("sliding_window_pattern", WINDOW_PATTERN)?;
                    !(layer + 1).is_multiple_of(pattern)
                }
            })
        };
        let types = self.layer_types(layers)?;
        let mut windows = Vec::with_capacity(layers);
        for layer in 0..layers {
            let sliding = types
                .as_ref()
                .map_or_else(|| by_default(layer), |types| Ok(types[layer]))?;
            if sliding && size.is_none() {
                return Err(self.unsupported(
                    "sliding_window",
                    "a number where layers have a window (in Qwen with use_sliding_window)",
                ));
            }
            windows.push(size.filter(|_| sliding));
        }
        if windows.iter().all(Option::is_none) {
            windows.clear();
        }
        // Mistral and Phi-3 do not read their layer types.
        let uniform = matches!(architecture, Architecture::Mistral | Architecture::Phi3);
        if uniform && windows.is_empty() && size.is_some() {
            return Err(self.unsupported("layer_types", "all \"sliding_attention\" here"));
        }
        Ok(windows)
    }

    /// Whether each layer has a window, if the file says so.
    fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        const FIELD: &str = "layer_types";
        let Some(found) = self.present(FIELD) else {
            return Ok(None);
        };
        let types = found.as_array().filter(|list| list.len() == layers);
        let types = types.ok_or_else(|| self.unsupported(FIELD, "one entry for each layer"))?;
        let types = types.iter().map(|kind| match kind.as_str() {
            Some(SLIDING) => Some(true),
            Some(FULL) => Some(false),
            _ => None,
        });
        let types = types.collect::<Option<Vec<bool>>>();
        types
            .map(Some)
            .ok_or_else(|| self.unsupported(FIELD, "\"full_attention\" and \"sliding_attention\""))
    }

    /// A rotary setting of Gemma 3 by layer type, with its older stand-in.
    fn nested_rope(&self, kind: &str) -> Result<Map<String, Value>, Error> {
        const FIELD: &str = "rope_parameters";
        let Some(found) = self.present(FIELD) else {
            return Ok(Map::new());
        };
        match found.get(kind) {
            Some(Value::Object(map)) => Ok(map.clone()),
            _ => Err(self.unsupported(
                FIELD,
                "an object for each of \"full_attention\" and \"sliding_attention\" in Gemma 3",
            )),
        }
    }

    /// Rotary base of Gemma 3's layers with a window.
    fn window_theta(&self, architecture: Architecture) -> Result<Option<f32>, Error> {
        if architecture != Architecture::Gemma3 {
            return Ok(None);
        }
        let map = self.nested_rope(SLIDING)?;
        if rope_type(&map) != Some("default") {
            return Err(self.unsupported(
                "rope_parameters",
                "type \"default\" in layers with a window",
            ));
        }
        match map.get("rope_theta").and_then(Value::as_f64) {
            Some(theta) => Ok(Some(theta as f32)),
            None => self.number("rope_local_base_freq", WINDOW_THETA).map(Some),
        }
    }

    /// Rotary base and stretching. Older files have `rope_theta` and `rope_scaling`, newer ones
    /// `rope_parameters`, which Gemma 3 has for each layer type.
    fn rope(
        &self,
        architecture: Architecture,
        theta: f32,
        context: usize,
    ) -> Result<(f32, RopeScaling), Error> {
        let (mut field, mut map) = ("rope_parameters", Map::new());
        if architecture == Architecture::Gemma3 {
            map = self.nested_rope(FULL)?;
            if let Some(Value::Object(old)) = self.present("rope_scaling") {
                field = "rope_scaling";
                map.extend(old.clone());
            }
        } else {
            for name in ["rope_scaling", "rope_parameters"] {
                match self.present(name) {
                    None => {}
                    Some(Value::Object(found)) if found.is_empty() => {}
                    Some(Value::Object(found)) => {
                        (field, map) = (name, found.clone());
                        break;
                    }
                    Some(_) => return Err(self.unsupported(name, "null or an object")),
                }
            }
            if map.contains_key(FULL) || map.contains_key(SLIDING) {
                return Err(self.unsupported(field, "one setting for all layers of this model"));
            }
        }
        let theta = match map.get("rope_theta") {
            None | Some(Value::Null) => self.number("rope_theta", theta)?,
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.unsupported(field, "a number `rope_theta`"))?
                as f32,
        };
        Ok((theta, self.scaling(field, &map, architecture, context)?))
    }

    fn scaling(
        &self,
        field: &str,
        map: &Map<String, Value>,
        architecture: Architecture,
        context: usize,
    ) -> Result<RopeScaling, Error> {
        let number = |key: &str| -> Result<Option<f32>, Error> {
            match map.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => value
                    .as_f64()
                    .map(|x| Some(x as f32))
                    .ok_or_else(|| self.unsupported(field, &format!("a number `{key}`"))),
            }
        };
        let need = |key: &str| {
            number(key)?.ok_or_else(|| self.unsupported(field, &format!("a number `{key}`")))
        };
        let original = || {
            let key = "original_max_position_embeddings";
            match map.get(key).filter(|_| self.present(key).is_none()) {
                // A field beside the object wins over the one inside.
                None | Some(Value::Null) => self.size(key, context),
                Some(value) => value
                    .as_u64()
                    .map(|v| v as usize)
                    .ok_or_else(|| self.unsupported(field, &format!("a whole number `{key}`"))),
            }
        };
        let kind = rope_type(map);
        if architecture == Architecture::Phi3 && kind != Some("default") {
            // Phi-3 calls its own kind "su" or "yarn" in older files.
            return Err(self.unsupported(field, LONGROPE_PHI3));
        }
        match kind {
            Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear {
                factor: need("factor")?,
            }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low: need("low_freq_factor")?,
                high: need("high_freq_factor")?,
                original_context: original()?,
            }),
            Some("yarn") => {
                if map.get("truncate").is_some_and(|v| v != &Value::Bool(true)) {
                    return Err(self.unsupported(field, "a `truncate` of true"));
                }
                let original_context = original()?;
                let factor = match number("factor")? {
                    Some(factor) => factor,
                    None => (context as f64 / original_context as f64) as f32,
                };
                let attention_factor = match number("attention_factor")? {
                    None => attention_factor(
                        factor,
                        number("mscale")?.unwrap_or(0.0),
                        number("mscale_all_dim")?.unwrap_or(0.0),
                    ),
                    given => given,
                };
                // Zero stands for absent there.
                let beta = |key, default| {
                    Ok::<_, Error>(number(key)?.filter(|x| *x != 0.0).unwrap_or(default))
                };
                Ok(RopeScaling::Yarn {
                    factor,
                    beta_fast: beta("beta_fast", 32.0)?,
                    beta_slow: beta("beta_slow", 1.0)?,
                    original_context,
                    attention_factor,
                })
            }
            Some("longrope") => Err(self.unsupported(field, LONGROPE)),
            _ => Err(self.unsupported(
                field,
                "null or `rope_type` \"default\", \"linear\", \"llama3\" or \"yarn\"",
            )),
        }
    }
}

/// Whether a rotary setting, or one by layer type, has a `partial_rotary_factor` other than 1.
fn rotates_a_part(setting: &Value) -> bool {
    match setting {
        Value::Object(map) => map
            .iter()
            .filter(|(key, value)| *key == "partial_rotary_factor" || value.is_object())
            .any(|(_, value)| rotates_a_part(value)),
        other => other
            .as_f64()
            .is_some_and(|x| x.to_bits() != 1.0_f64.to_bits()),
    }
}

const LONGROPE: &str = "null or `rope_type` \"default\", \"linear\", \"llama3\" or \"yarn\"; under \
    \"longrope\" the keys of a cache would change once a sequence outgrows the first context";
const LONGROPE_PHI3: &str = "null or `rope_type` \"default\" in Phi-3; under \"longrope\" the keys \
    of a cache would change once a sequence outgrows the first context";

fn rope_type(map: &Map<String, Value>) -> Option<&str> {
    match map.get("rope_type").or_else(|| map.get("type")) {
        None => Some("default"),
        Some(kind) => kind.as_str(),
    }
}

/// `YaRN`'s factor on cosine and sine from `mscale` and `mscale_all_dim`, if both are set.
fn attention_factor(factor: f32, mscale: f32, all: f32) -> Option<f32> {
    let scale = |mscale: f32| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * f64::from(mscale) * ln(f64::from(factor)) + 1.0
        }
    };
    (mscale != 0.0 && all != 0.0).then(|| (scale(mscale) / scale(all)) as f32)
}
