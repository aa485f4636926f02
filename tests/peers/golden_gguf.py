#!/usr/bin/env python3
"""A tiny GGUF model with a tensor of every format that we read, and its values by ggml's reference.

usage: golden_gguf.py FOLDER

FOLDER is `fixtures/model/gguf`. Writes `formats.gguf` with the Python package `gguf`, and
`formats.json` with what that package's `dequantize` makes of each tensor: the first values, and a
digest (FNV-1a) of the bits of all, under the names and in the order of Hugging Face files. The Rust
test `crates/model/tests/gguf.rs` reads both.
"""

import json
import pathlib
import sys

import gguf
import numpy as np

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, CONTEXT = 256, 2, 1, 16, 32, 64
T = gguf.GGMLQuantizationType
# Llama 3's divisors for theta 50 and an original context of 32.
FACTOR, HIGH, ORIGINAL, THETA = 8.0, 4.0, 32, 50.0

# Byte-level BPE: two control tokens, one more end, the letters, and merges to "low" and " lower".
LETTERS = "low"
TOKENS = ["<s>", "</s>", "<|im_end|>", "l", "o", "w", "low", "\u0120lower", "lo", "\u0120", "e", "r"]
TOKENS += ["er", "\u0120low", "[PAD14]", "[PAD15]"]
MERGES = ["l o", "lo w", "e r", "\u0120 low", "\u0120low er"]
NORMAL, CONTROL, UNUSED = 1, 3, 5
KINDS = [CONTROL] * 3 + [NORMAL] * 11 + [UNUSED] * 2

SHAPES = {  # name there: (name of Hugging Face, shape, format)
    "token_embd.weight": ("model.embed_tokens.weight", (len(TOKENS), HIDDEN), T.Q6_K),
    "blk.0.attn_norm.weight": ("model.layers.0.input_layernorm.weight", (HIDDEN,), T.F32),
    "blk.0.attn_q.weight": (
        "model.layers.0.self_attn.q_proj.weight", (HEADS * HEAD_DIM, HIDDEN), T.Q4_K,
    ),
    "blk.0.attn_k.weight": (
        "model.layers.0.self_attn.k_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.Q6_K,
    ),
    "blk.0.attn_v.weight": (
        "model.layers.0.self_attn.v_proj.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.BF16,
    ),
    "blk.0.attn_output.weight": (
        "model.layers.0.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM), T.Q8_0,
    ),
    "blk.0.ffn_norm.weight": (
        "model.layers.0.post_attention_layernorm.weight", (HIDDEN,), T.F32,
    ),
    "blk.0.ffn_gate.weight": ("model.layers.0.mlp.gate_proj.weight", (MLP, HIDDEN), T.Q4_K),
    "blk.0.ffn_up.weight": ("model.layers.0.mlp.up_proj.weight", (MLP, HIDDEN), T.F16),
    "blk.0.ffn_down.weight": ("model.layers.0.mlp.down_proj.weight", (HIDDEN, MLP), T.Q8_0),
    "output_norm.weight": ("model.norm.weight", (HIDDEN,), T.F32),
}


def blocks(random, kind, shape):
    """Random blocks of a format for which `gguf` has no quantiser: all bits free but the scales."""
    size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (*shape[:-1], shape[-1] // size, bytes_), dtype=np.uint8)
    half = random.normal(0, 1e-3, data.shape[:-1] + (2,)).astype(np.float16)
    if kind == T.Q4_K:  # scale and minimum come first
        data[..., :4] = half.view(np.uint8)
    else:  # the scale comes last
        data[..., -2:] = half[..., :1].copy().view(np.uint8)
    return data.reshape(*shape[:-1], -1)


def digest(values):
    hash_ = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(values, dtype="<f4").tobytes():
        hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    return f"{hash_:016x}"


def divisors():
    frequencies = 1.0 / (THETA ** (np.arange(0, HEAD_DIM, 2, dtype=np.float32) / HEAD_DIM))
    result = []
    for frequency in frequencies:
        wave = 2 * np.pi / frequency
        smooth = np.clip((ORIGINAL / wave - 1.0) / (HIGH - 1.0), 0, 1)
        result.append(1 / ((1 - smooth) / FACTOR + smooth))
    return np.array(result, dtype=np.float32)


def ours(name, values):
    """llama.cpp has the halves of a rotated pair beside each other; Hugging Face apart."""
    if "attn_q" in name or "attn_k" in name:
        heads = values.reshape(-1, HEAD_DIM // 2, 2, HIDDEN)
        values = heads.swapaxes(1, 2).reshape(values.shape)
    return values


def main(folder):
    folder = pathlib.Path(folder)
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(folder / "formats.gguf", "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(THETA)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages[0].content }}")
    expected = {}
    for name, (theirs, shape, kind) in SHAPES.items():
        if kind in (T.Q4_K, T.Q6_K):
            data = blocks(random, kind, shape)
        else:
            data = gguf.quantize(random.normal(0, 0.1, shape).astype(np.float32), kind)
        if kind in (T.F32, T.F16):
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, data, raw_dtype=kind)
        values = ours(name, gguf.dequantize(data, kind).astype(np.float32))
        assert values.shape == shape, (name, values.shape)
        assert np.isfinite(values).all(), name
        expected[theirs] = {
            "type": kind.name,
            "first": [int(x) for x in values.flatten()[:8].view(np.uint32)],
            "digest": digest(values),
        }
    writer.add_tensor("rope_freqs.weight", divisors())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items())
    (folder / "formats.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
