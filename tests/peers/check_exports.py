#!/usr/bin/env python3
"""What `openledger model export` writes computes the same elsewhere: an adapter in PEFT, a merged
model in transformers and, as GGUF, in llama.cpp, which also applies the adapter's own GGUF file.

Every architecture's fixture and the bundled base are exported in all four formats. Ours are the
logits of `crates/model/examples/logits.rs` for base and adapter; errors are relative to the
largest. Run by `cargo xtask test --peers`, which sets OPENLEDGER to the program.
"""

import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is on the hub

import llama_cpp
import numpy as np
import peft
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures" / "model" / "architectures"
NAMES = ["llama2", "llama3", "llama-linear", "llama-yarn", "mistral", "phi3", "qwen2", "qwen3"]
NAMES += ["gemma2", "gemma3"]
# On the same weights, f32 sums differ by their order only; llama.cpp also rounds the activations,
# to what the weights are stored as.
SAME = 1e-4
LLAMA = {"f32": SAME, "f16": 2e-2, "bf16": 2e-2, "q8_0": 8e-2}
# Its GELU is a table in half precision, and four norms a block pass rounded activations on: what
# it does to Gemma's random fixtures, whatever the weights are stored as.
GELU, GEMMA = 5e-3, 3e-2
# What rounding the weights themselves may cost these random models.
ROUNDING = {"f32": SAME, "f16": 1e-2, "bf16": 5e-2, "q8_0": 8e-2}
# llama.cpp has no windows in these: up to their window they see everything anyway.
WINDOWS = {"mistral": 9, "qwen2": 6, "phi3": 13}
# It reads no ramp of YaRN either; that of `llama-yarn`.
RAMP = (2.0, 0.5)


def export(base, form, out, *flags):
    command = [os.environ["OPENLEDGER"], "model", "export", "--json", "--base", base]
    command += ["--format", form, "--out", out, *flags]
    report = json.loads(subprocess.check_output(command, cwd=ROOT))
    assert all(pathlib.Path(file["path"]).stat().st_size == file["bytes"] for file in report["files"])
    return out


def ours(tokens, *paths):
    command = ["cargo", "run", "--quiet", "-p", "openledger-model", "--example", "logits", "--"]
    text = subprocess.check_output([*command, *paths], cwd=ROOT, input=json.dumps([tokens]).encode())
    return np.array(json.loads(text))


@torch.no_grad()
def logits(model, tokens):
    return model.eval()(torch.tensor([tokens]), use_cache=False).logits[0].double().numpy()


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )


# Kept for as long as llama.cpp may call it.
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


def llama(path, tokens, adapter=None):
    """Logits of all positions, in f32 wherever llama.cpp lets one choose."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # 0.3.36 dies in its rearranged Q8_0 products of small matrices
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, f"llama.cpp does not load {path}"
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 64, 64, 64
    params.n_threads = params.n_threads_batch = 1
    params.yarn_beta_fast, params.yarn_beta_slow = RAMP
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, f"llama.cpp makes no context for {path}"
    if adapter:
        lora = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
        assert lora, f"llama.cpp does not load {adapter}"
        one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
        assert llama_cpp.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1.0)) == 0
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, True
    assert llama_cpp.llama_decode(context, batch) == 0
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    flat = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(tokens), vocab))
    result = flat.astype(np.float64)
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return result


def compare(what, found, want, tolerance):
    assert found.shape == want.shape, (what, found.shape, want.shape)
    error = np.abs(found - want).max() / np.abs(want).max()
    print(f"  {what}: {error:.1e}")
    assert error < tolerance, f"{what}: {error:.2e}, allowed are {tolerance:.0e}"


def check(name, base, adapter, tokens, scratch):
    print(name)
    gemma = name.startswith("gemma")
    same = GELU if gemma else SAME
    # Those of a window stand for the whole sequence where there is none.
    short = tokens[: WINDOWS.get(name, len(tokens))]
    want, bare = ours(tokens, base, adapter), ours(tokens, base)
    assert np.abs(want - bare).max() > 1e-2 * np.abs(want).max(), "the adapter changes nothing"
    flag = ["--adapter", adapter]

    alone = export(base, "peft", scratch / "peft", *flag)
    theirs = peft.PeftModel.from_pretrained(load(base), alone)
    compare("adapter in PEFT", logits(theirs, tokens), want, SAME)

    for dtype in ("f32", "bf16"):
        folder = export(base, "safetensors", scratch / dtype, *flag, "--dtype", dtype)
        rounded = ours(tokens, folder)
        compare(f"merged {dtype}", rounded, want, ROUNDING[dtype])
        compare(f"merged {dtype} in transformers", logits(load(folder), tokens), rounded, SAME)

    want = want[: len(short)]
    for dtype in ("f32", "f16", "bf16", "q8_0"):
        file = export(base, "gguf", scratch / f"{dtype}.gguf", *flag, "--dtype", dtype)
        rounded = ours(short, file)
        compare(f"merged GGUF {dtype}", rounded, want, ROUNDING[dtype])
        allowed = same if dtype == "f32" else max(LLAMA[dtype], GEMMA if gemma else 0)
        compare(f"merged GGUF {dtype} in llama.cpp", llama(file, short), rounded, allowed)
    plain = export(base, "gguf", scratch / "plain.gguf")
    compare("base GGUF in llama.cpp", llama(plain, short), bare[: len(short)], same)
    alone = export(base, "gguf-adapter", scratch / "adapter.gguf", *flag)
    compare("adapter GGUF in llama.cpp", llama(plain, short, alone), want, same)


def text(base, scratch):
    """llama.cpp cuts text into our tokens."""
    file = export(base, "gguf", scratch / "text.gguf", "--dtype", "bf16")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"))
    model = llama_cpp.Llama(model_path=str(file), vocab_only=True, verbose=False)
    for line in ["Question: What is a Merkle tree?\nAnswer:", "don't  — 3\U0001F600\n\n x", "12345 + é"]:
        want = tokenizer.encode(line, add_special_tokens=False)
        found = model.tokenize(line.encode(), add_bos=False, special=False)
        assert found == want, (line, found, want)
    print("  tokens of llama.cpp are ours")


def main():
    torch.set_num_threads(1)
    names = sys.argv[1:] or [*NAMES, "bundled"]
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            scratch = pathlib.Path(directory)
            if name == "bundled":
                bundled(scratch)
                continue
            base = scratch / "base"
            shutil.copytree(FIXTURES / name, base)
            if name.startswith("gemma"):
                # llama.cpp scales Gemma's scores by the width of a head; the fixture does not.
                config = json.loads((base / "config.json").read_text(encoding="utf-8"))
                config["query_pre_attn_scalar"] = config["head_dim"]
                (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
            tokens = json.loads((base / "reference.json").read_text(encoding="utf-8"))["tokens"]
            check(name, base, base / "adapter", tokens, scratch)


def bundled(scratch):
    base = ROOT / "bundled" / "base"
    lora = peft.LoraConfig(
        r=6, lora_alpha=9, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]
    )
    torch.manual_seed(5)
    model = peft.get_peft_model(load(base), lora)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "lora_" in path:
                parameter.normal_(0, 0.05)
    model.save_pretrained(scratch / "adapter")
    tokens = np.random.default_rng(3).integers(2, 2048, 40).tolist()
    check("bundled, rank-stabilised", base, scratch / "adapter", tokens, scratch)
    text(base, scratch)


if __name__ == "__main__":
    sys.exit(main())
