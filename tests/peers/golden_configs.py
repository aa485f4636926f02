#!/usr/bin/env python3
"""How transformers reads `config.json` files.

usage: golden_configs.py OUT.json

For files as they are published (older and newer names of fields, fields left out, null) writes what
transformers makes of them: the shape, and the window, scale, bias and rotary setting of every
layer as its modules have it. The Rust test `crates/model/tests/configs.rs` reads the same files.
"""

import json
import pathlib
import sys
import tempfile

import torch
import transformers

LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}


def small(model_type, **fields):
    return {"model_type": model_type, **SMALL, **fields}


# In the form of the published files that the names tell, or made to have one odd field.
CONFIGS = {
    "llama-2-7b": {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": 32000,
    },
    "llama-3.2-1b": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_scaling": LLAMA3,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "vocab_size": 128256,
    },
    "llama-new-names": small(
        "llama", dtype="bfloat16", rope_parameters={**LLAMA3, "rope_theta": 500000.0}
    ),
    "llama-both-names": small(
        "llama",
        rope_theta=7000.0,
        rope_scaling={"type": "linear", "factor": 2},
        rope_parameters={"rope_type": "default", "rope_theta": 9000.0},
    ),
    "llama-linear": small("llama", rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=1e6),
    "llama-yarn": small(
        "llama",
        max_position_embeddings=4096,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 512,
            "beta_fast": 16,
        },
    ),
    "llama-yarn-mscale": small(
        "llama",
        rope_scaling={
            "type": "yarn",
            "factor": 40,
            "mscale": 0.707,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 2048,
        },
    ),
    "llama-yarn-attention-factor": small(
        "llama", rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25}
    ),
    "llama-yarn-no-factor": small(
        "llama",
        max_position_embeddings=1024,
        rope_scaling={
            "rope_type": "yarn",
            "factor": None,
            "original_max_position_embeddings": 256,
        },
    ),
    "llama-bare": {"model_type": "llama"},
    "llama-nulls": small(
        "llama", num_key_value_heads=None, head_dim=None, bos_token_id=None, eos_token_id=None
    ),
    "mistral-7b-v0.1": {
        "architectures": ["MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "mistral-no-window": small("mistral", sliding_window=None, rope_theta=1e6),
    "mistral-bare": {"model_type": "mistral"},
    "qwen2.5-0.5b": {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151643,
        "hidden_act": "silu",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "max_window_layers": 24,
        "model_type": "qwen2",
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "qwen2-window": small("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1),
    "qwen2-window-late": small("qwen2", use_sliding_window=True),
    "qwen2-yarn": small(
        "qwen2",
        rope_scaling={
            "factor": 4.0,
            "original_max_position_embeddings": 32768,
            "type": "yarn",
        },
    ),
    "qwen2-bare": {"model_type": "qwen2"},
    "qwen3-0.6b": {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "qwen3-layer-types": small(
        "qwen3",
        use_sliding_window=True,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "qwen3-bare": {"model_type": "qwen3"},
    "gemma-2-2b": {
        "architectures": ["Gemma2ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 107],
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_attention_heads": 8,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 256000,
    },
    "gemma2-no-caps": small(
        "gemma2",
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        query_pre_attn_scalar=144,
        hidden_activation="silu",
    ),
    "gemma2-bare": {"model_type": "gemma2"},
    "gemma-3-1b": {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 106],
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    # The text part of a model with images leaves most fields out.
    "gemma-3-4b-text": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "gemma3-new-names": small(
        "gemma3_text",
        layer_types=["sliding_attention", "full_attention"] * 2,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
    ),
    "gemma3-bare": {"model_type": "gemma3_text"},
    "phi-3-mini-4k": {
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "embd_pdrop": 0.0,
        "eos_token_id": 32000,
        "hidden_act": "silu",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "model_type": "phi3",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "original_max_position_embeddings": 4096,
        "pad_token_id": 32000,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": 2047,
        "tie_word_embeddings": False,
        "vocab_size": 32064,
    },
    "phi3-gqa": small("phi3", pad_token_id=None, head_dim=24, partial_rotary_factor=1.0),
    "phi3-bare": {"model_type": "phi3"},
}


def windows(config, attention):
    """Positions a query of each layer sees, itself included."""
    if config.model_type in ("mistral", "phi3"):  # these ask the configuration in every layer
        return [config.sliding_window] * config.num_hidden_layers
    return [getattr(layer, "sliding_window", None) for layer in attention]


def read(raw):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.json"
        path.write_text(json.dumps(raw), encoding="utf-8")
        config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    attention = [layer.self_attn for layer in model.model.layers]
    first = attention[0]
    eos = config.eos_token_id
    rope = config.rope_parameters
    nested = "full_attention" in rope
    return {
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_dim": first.head_dim,
        "mlp": config.intermediate_size,
        "vocab": config.vocab_size,
        "context": config.max_position_embeddings,
        "norm_eps": model.model.norm.variance_epsilon
        if hasattr(model.model.norm, "variance_epsilon")
        else model.model.norm.eps,
        "tied": config.tie_word_embeddings,
        "bos": config.bos_token_id,
        "eos": [] if eos is None else eos if isinstance(eos, list) else [eos],
        "rope": rope["full_attention"] if nested else rope,
        "window_rope": rope["sliding_attention"] if nested else None,
        "windows": windows(config, attention),
        "qkv_bias": getattr(first, "q_proj", first.o_proj).bias is not None,
        "qk_norm": hasattr(first, "q_norm"),
        "post_norms": hasattr(model.model.layers[0], "post_feedforward_layernorm"),
        "embedding_scale": getattr(model.model.embed_tokens, "scalar_embed_scale", 1.0),
        "attention_scale": first.scaling,
        "attention_softcap": getattr(first, "attn_logit_softcapping", None),
        "logit_softcap": getattr(config, "final_logit_softcapping", None),
        "activation": getattr(config, "hidden_activation", None) or config.hidden_act,
        # A tied table counts once.
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def main(out):
    result = {name: {"file": raw, "read": read(raw)} for name, raw in CONFIGS.items()}
    with open(out, "w", encoding="utf-8") as file:
        lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in result.items())
        file.write(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
