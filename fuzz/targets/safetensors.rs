//! Weights in the safetensors format, beside a description that is sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_model::{Base, inspect};

const CONFIG: &str = r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 5, "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
    "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}"#;

fuzz_target!(|bytes: &[u8]| {
    openledger_fuzz::file("config.json", CONFIG.as_bytes());
    openledger_fuzz::file("model.safetensors", bytes);
    let _ = inspect::inspect(openledger_fuzz::folder());
    let _ = Base::load(openledger_fuzz::folder());
});
