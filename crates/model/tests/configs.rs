//! `config.json` of every architecture against what `transformers` reads from the same file
//! (`tests/peers/golden_configs.py`).
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use openledger_model::{Activation, Config, RopeScaling};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    file: Value,
    read: Read,
}

/// What `transformers` has.
#[derive(Deserialize)]
struct Read {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    mlp: usize,
    vocab: usize,
    context: usize,
    norm_eps: f64,
    tied: bool,
    bos: Option<u32>,
    eos: Vec<u32>,
    rope: Value,
    window_rope: Option<Value>,
    windows: Vec<Option<usize>>,
    qkv_bias: bool,
    qk_norm: bool,
    post_norms: bool,
    embedding_scale: f64,
    attention_scale: f64,
    attention_softcap: Option<f32>,
    logit_softcap: Option<f32>,
    activation: String,
}

fn cases() -> BTreeMap<String, Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/model/configs.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn read(json: &Value) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.json"), json.to_string()).unwrap();
    Config::from_hf(directory.path()).map_err(|error| {
        let error = error.to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    })
}

fn scaling(rope: &Value, context: usize) -> RopeScaling {
    let number = |key: &str| rope[key].as_f64().map(|x| x as f32);
    let original_context = rope["original_max_position_embeddings"]
        .as_u64()
        .unwrap_or(0) as usize;
    match rope["rope_type"].as_str().unwrap() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: number("factor").unwrap(),
        },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor").unwrap(),
            low: number("low_freq_factor").unwrap(),
            high: number("high_freq_factor").unwrap(),
            original_context,
        },
        "yarn" => RopeScaling::Yarn {
            factor: number("factor").unwrap_or(context as f32 / original_context as f32),
            beta_fast: number("beta_fast").unwrap_or(32.0),
            beta_slow: number("beta_slow").unwrap_or(1.0),
            original_context,
            attention_factor: number("mscale").map_or(number("attention_factor"), |mscale| {
                let factor = number("factor").unwrap();
                let scale = |m: f32| 0.1 * f64::from(m) * f64::from(factor).ln() + 1.0;
                Some((scale(mscale) / scale(number("mscale_all_dim").unwrap())) as f32)
            }),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn files_mean_what_they_mean_to_transformers() {
    for (name, Case { file, read: want }) in cases() {
        let c = read(&file).unwrap();
        let f = &c.features;
        let sizes = [c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim, c.mlp];
        let want_sizes = [
            want.hidden,
            want.layers,
            want.heads,
            want.kv_heads,
            want.head_dim,
            want.mlp,
        ];
        assert_eq!(sizes, want_sizes, "{name}");
        assert_eq!((c.vocab, c.context), (want.vocab, want.context), "{name}");
        assert_eq!(c.norm_eps, want.norm_eps as f32, "{name}");
        assert_eq!(c.tie_embeddings, want.tied, "{name}");
        assert_eq!((c.bos, &c.eos), (want.bos, &want.eos), "{name}");
        assert_eq!(f.rope_scaling, scaling(&want.rope, c.context), "{name}");
        let theta = |rope: &Value| rope["rope_theta"].as_f64().unwrap() as f32;
        assert_eq!(c.rope_theta, theta(&want.rope), "{name}");
        assert_eq!(
            f.window_rope_theta,
            want.window_rope.as_ref().map(theta),
            "{name}"
        );
        let windows: Vec<_> = (0..c.layers).map(|layer| f.window(layer)).collect();
        assert_eq!(windows, want.windows, "{name}");
        assert_eq!(
            (f.qkv_bias, f.qk_norm, f.post_norms),
            (want.qkv_bias, want.qk_norm, want.post_norms),
            "{name}"
        );
        assert_eq!(
            f.embedding_scale.unwrap_or(1.0),
            want.embedding_scale as f32,
            "{name}"
        );
        let scale = 1.0 / (c.head_dim as f64).sqrt();
        assert_eq!(
            f.attention_scale.unwrap_or(scale as f32),
            want.attention_scale as f32,
            "{name}"
        );
        assert_eq!(f.attention_softcap, want.attention_softcap, "{name}");
        assert_eq!(f.logit_softcap, want.logit_softcap, "{name}");
        let activation = match want.activation.as_str() {
            "silu" => Activation::Silu,
            "gelu_pytorch_tanh" => Activation::GeluTanh,
            other => panic!("{other}"),
        };
        assert_eq!(f.activation, activation, "{name}");
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    for (name, case) in cases() {
        let config = read(&case.file).unwrap();
        assert_eq!(read(&config.to_hf("float32")).unwrap(), config, "{name}");
    }
}

#[test]
fn what_is_not_done_is_refused_with_field_value_and_way_out() {
    let nested = json!({"full_attention": {"rope_type": "default"}, "sliding_attention": {}});
    let longrope = json!({"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]});
    let dynamic = json!({"type": "dynamic", "factor": 2.0});
    for (model, field, value, part) in [
        (
            "mixtral",
            "model_type",
            json!("mixtral"),
            "without experts or images: \"llama\", \"mist",
        ),
        ("gemma3", "model_type", json!("gemma3"), "\"gemma3_text\""),
        (
            "llama",
            "architectures",
            json!(["LlamaForSequenceClassification"]),
            "LlamaForCausalLM",
        ),
        ("llama", "attention_bias", json!(true), "false"),
        ("llama", "mlp_bias", json!(true), "false"),
        ("qwen3", "attention_bias", json!(true), "false"),
        (
            "gemma3_text",
            "use_bidirectional_attention",
            json!(true),
            "false",
        ),
        (
            "llama",
            "quantization_config",
            json!({"bits": 4}),
            "null: weights in F32, F16 or BF16",
        ),
        (
            "llama",
            "hidden_act",
            json!("gelu"),
            "\"silu\" or \"gelu_pytorch_tanh\"",
        ),
        (
            "gemma2",
            "hidden_activation",
            json!("relu"),
            "\"silu\" or \"gelu_pytorch_tanh\"",
        ),
        (
            "llama",
            "rope_scaling",
            dynamic,
            "\"default\", \"linear\", \"llama3\" or \"yarn\"",
        ),
        (
            "llama",
            "rope_scaling",
            longrope.clone(),
            "outgrows the first context",
        ),
        (
            "phi3",
            "rope_scaling",
            longrope,
            "in Phi-3; under \"longrope\" the keys",
        ),
        (
            "phi3",
            "rope_scaling",
            json!({"type": "su"}),
            "in Phi-3; under \"longrope\" the keys",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "llama3", "factor": 8.0}),
            "`low_freq_factor`",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "linear"}),
            "a number `factor`",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "linear", "factor": -1.0}),
            "positive `factor`",
        ),
        (
            "llama",
            "rope_scaling",
            json!("linear"),
            "null or an object",
        ),
        (
            "llama",
            "rope_scaling",
            json!({"type": "yarn", "factor": 2.0, "truncate": false}),
            "a `truncate` of true",
        ),
        (
            "qwen2",
            "rope_parameters",
            nested,
            "one setting for all layers",
        ),
        (
            "gemma3_text",
            "rope_parameters",
            json!({"rope_type": "default", "rope_theta": 1e4}),
            "an object for each of \"full_attention\" and \"sliding_attention\"",
        ),
        (
            "phi3",
            "partial_rotary_factor",
            json!(0.75),
            "a partial_rotary_factor of 1",
        ),
        (
            "llama",
            "rope_parameters",
            json!({"rope_type": "default", "partial_rotary_factor": 0.5}),
            "a partial_rotary_factor of 1",
        ),
        ("llama", "sliding_window", json!(8), "null in Llama"),
        ("mistral", "sliding_window", json!(0), "positive size"),
        (
            "mistral",
            "layer_types",
            json!(vec!["full_attention"; 26]),
            "all \"sliding_attention\" here",
        ),
        (
            "gemma2",
            "sliding_window",
            Value::Null,
            "a number where layers have a window",
        ),
        (
            "gemma2",
            "layer_types",
            json!(["full_attention"]),
            "one entry for each layer",
        ),
        (
            "gemma2",
            "layer_types",
            json!(vec!["chunked_attention"; 26]),
            "\"sliding_attention\"",
        ),
        (
            "gemma3_text",
            "attn_logit_softcapping",
            json!(50.0),
            "transformers ignores it",
        ),
        (
            "llama",
            "num_key_value_heads",
            json!(3),
            "a divisor of num_attention_heads",
        ),
        ("llama", "num_attention_heads", json!(0), "1 to 16777216"),
        (
            "llama",
            "num_hidden_layers",
            json!(1_u64 << 40),
            "1 to 16777216",
        ),
        ("llama", "hidden_size", json!(-1), "a whole number"),
        ("llama", "head_dim", json!(7), "an even number"),
        ("llama", "rms_norm_eps", json!(0.0), "a positive number"),
        ("llama", "rope_theta", json!("1e4"), "a number"),
        (
            "llama",
            "tie_word_embeddings",
            json!("yes"),
            "true or false",
        ),
        (
            "llama",
            "eos_token_id",
            json!([1, -2]),
            "a token or a list of tokens",
        ),
    ] {
        let mut file = json!({"model_type": model, "num_hidden_layers": 26});
        file[field] = value.clone();
        let error = read(&file).unwrap_err();
        let start =
            format!("DIR/config.json: field `{field}` is {value}, but this engine supports");
        assert!(error.starts_with(&start), "{error}");
        assert!(error[start.len()..].contains(part), "{error}");
    }
    assert_eq!(
        read(&json!({})).unwrap_err(),
        "DIR/config.json: field `model_type` is missing"
    );
}

#[test]
fn features_of_another_family_are_refused() {
    let llama = read(&json!({"model_type": "llama"})).unwrap();
    for change in [
        |c: &mut Config| c.features.qkv_bias = true,
        |c: &mut Config| c.features.qk_norm = true,
        |c: &mut Config| c.features.embedding_scale = Some(2.0),
        |c: &mut Config| c.features.attention_scale = Some(0.0625),
        |c: &mut Config| c.features.logit_softcap = Some(30.0),
        |c: &mut Config| c.features.window_rope_theta = Some(1e4),
        |c: &mut Config| c.features.windows = vec![None; c.layers],
        |c: &mut Config| c.features.windows = vec![Some(4); c.layers],
    ] {
        let mut config = llama.clone();
        change(&mut config);
        assert!(config.validate().is_err());
    }
}
