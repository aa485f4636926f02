#!/usr/bin/env python3
"""Reference values of every architecture from transformers and PEFT.

usage: golden_architectures.py FOLDER [--make] [NAME]...

FOLDER is `fixtures/model/architectures` or a copy of it, with one folder for each name: a tiny
random model, an adapter, and `reference.json` with logits, a greedy continuation, a loss and
autograd gradients, all in f32 with eager attention. This script writes `reference.json`; with --make
the models and adapters too. The Rust test `crates/model/tests/architectures.rs` reads them.

Everything that a file can ask for is made to matter: windows and first contexts are shorter than
the sequence, soft-caps bite, biases and norm weights are far from what training starts with.
"""

import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is on the hub

import peft
import torch
import transformers

LENGTH, CONTINUE, LOSS_FROM = 40, 12, 7
# Positions whose logits are stored whole.
STORED = 8
# Models that are as good-natured as trained ones, in largest logits: the least lead of a greedy
# choice over the runner-up, and the most that logits move when operands are rounded to bf16.
LEAD, ROUNDING = 0.03, 0.017
# Found by trying; 0 where the first one was.
SEEDS = {"mistral": 1, "llama2": 1, "qwen2": 2}

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
GEMMA = {"query_pre_attn_scalar": 5, "head_dim": 12, "num_key_value_heads": 1}
FIRST = {"original_max_position_embeddings": 32}
# name: model_type, fields of config.json, how it is stored, largest shard.
MODELS = {
    "llama2": ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}, "float32", None),
    "llama-linear": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.5}, "rope_theta": 300.0},
        "float32",
        None,
    ),
    "llama3": (
        "llama",
        {
            "head_dim": 16,
            "intermediate_size": 24,
            "rope_theta": 50.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                **FIRST,
            },
            "tie_word_embeddings": True,
            "eos_token_id": [2, 3],
        },
        "float32",
        None,
    ),
    "llama-yarn": (
        "llama",
        {
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 50.0,
                "factor": 4.0,
                "beta_fast": 2.0,
                "beta_slow": 0.5,
                **FIRST,
            },
        },
        "bfloat16",
        None,
    ),
    "mistral": ("mistral", {"sliding_window": 9, "head_dim": 12}, "float32", "24KB"),
    "qwen2": (
        "qwen2",
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 2,
            "rope_theta": 1000.0,
        },
        "float16",
        None,
    ),
    "qwen3": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}, "bfloat16", None),
    "gemma2": (
        "gemma2",
        {
            **GEMMA,
            "num_hidden_layers": 3,
            "sliding_window": 7,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 2.0,
        },
        "bfloat16",
        None,
    ),
    "gemma3": (
        "gemma3_text",
        {
            **GEMMA,
            "query_pre_attn_scalar": 24,
            "num_hidden_layers": 4,
            "sliding_window": 11,
            "sliding_window_pattern": 3,
            "rope_theta": 700.0,
            "rope_local_base_freq": 30.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
        "bfloat16",
        None,
    ),
    "phi3": ("phi3", {"sliding_window": 13, **FIRST}, "float32", None),
}


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def linears(model):
    return sorted({n.rsplit(".", 1)[1] for n, m in model.model.named_modules() if "proj" in n})


def make(folder, name, seed):
    """A random model in `folder`, and a random adapter on all its linears in `folder/adapter`."""
    model_type, fields, dtype, shard = MODELS[name]
    torch.manual_seed(seed)
    raw = {"model_type": model_type, **SHAPE, "rms_norm_eps": 1e-6, **fields, "torch_dtype": dtype}
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.*"):  # also the last reference
        old.unlink()
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config)
    # Weights of norms stand for themselves, or for their distance from one.
    center = 0.0 if "gemma" in model_type else 1.0
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "norm" in path:
                parameter.normal_(center, 0.3)
            elif path.endswith("bias"):
                parameter.normal_(0, 0.5)
            elif "embed" in path and "gemma" in model_type:
                # Gemma scales it up; a larger one would drown the blocks and echo the last token.
                parameter.normal_(0, 0.12)
            else:
                parameter.normal_(0, 0.9 / parameter.shape[1] ** 0.5)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard or "1GB")
    raw["architectures"] = [type(model).__name__]
    text = json.dumps(raw, indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    model = load(folder)
    lora = peft.LoraConfig(
        r=2, lora_alpha=7, target_modules=linears(model), task_type="CAUSAL_LM"
    )
    adapted = peft.get_peft_model(model, lora)
    with torch.no_grad():
        for path, parameter in adapted.named_parameters():
            if "lora_" in path:
                parameter.normal_(0, 0.1)
    adapted.peft_config["default"].base_model_name_or_path = name
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink()  # a model card's empty form
    path = folder / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"].sort()  # PEFT keeps them as a set
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


@torch.no_grad()
def prompt(model):
    """A sequence, its greedy continuation, and the least lead of a choice over the runner-up.

    Of many random sequences the one with the largest lead that does not repeat itself.
    """
    generator = torch.Generator().manual_seed(1)
    start = torch.randint(3, SHAPE["vocab_size"], (200, LENGTH), generator=generator)
    tokens, lead = start, torch.full((len(start),), torch.inf)
    for _ in range(CONTINUE):
        logits = model(tokens, use_cache=False).logits[:, -1]
        two = logits.topk(2).values
        lead = torch.minimum(lead, (two[:, 0] - two[:, 1]) / logits.abs().amax(1))
        tokens = torch.cat([tokens, logits.argmax(1, keepdim=True)], 1)
    for row, sequence in enumerate(tokens[:, LENGTH:].tolist()):
        if len(set(sequence)) < CONTINUE // 2:
            lead[row] = 0
    best = lead.argmax()
    sequence = tokens[best].tolist()
    return sequence[:LENGTH], sequence[LENGTH:], lead[best].item()


@torch.no_grad()
def rounding(folder):
    """How far logits move, bare or adapted, when the operands of all linears are rounded to bf16."""
    tokens = json.loads((folder / "reference.json").read_text(encoding="utf-8"))["tokens"]
    ids, moved, largest = torch.tensor([tokens]), 0.0, 0.0
    for adapted in (False, True):
        model = load(folder)
        if adapted:
            model = peft.PeftModel.from_pretrained(model, folder / "adapter").eval()
        exact = model(ids, use_cache=False).logits
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(module.weight.bfloat16().float())
                module.register_forward_pre_hook(lambda _, x: (x[0].bfloat16().float(),))
        rounded = model(ids, use_cache=False).logits
        moved = max(moved, (exact - rounded).abs().max().item())
        largest = largest or exact.abs().max().item()
    return moved / largest


def short(x):
    """More digits than f32 rounding leaves to agree on."""
    return float(f"{x:.8g}")


def picked(tensor, count):
    """Evenly spaced entries of a tensor, as (index, value) pairs."""
    flat = tensor.detach().double().flatten()
    step = max(1, flat.numel() // count)
    return [[i, short(flat[i].item())] for i in range(0, flat.numel(), step)]


def gradients(model, tokens):
    labels = torch.tensor([[-100] * LOSS_FROM + tokens[LOSS_FROM:]])
    result = model(torch.tensor([tokens]), labels=labels, use_cache=False)
    result.loss.backward()
    return {
        "logits": picked(result.logits, 200),
        "mean_loss": short(result.loss.item()),
        "gradients": {
            name.replace(".default.", "."): {
                "norm": short(p.grad.double().norm().item()),
                "values": picked(p.grad, 6),
            }
            for name, p in model.named_parameters()
            if p.requires_grad
        },
    }


def reference(folder):
    model = load(folder)
    old = folder / "reference.json"
    if old.exists():
        # The sequence is part of the fixture: what is asked is what follows from it.
        tokens = json.loads(old.read_text(encoding="utf-8"))["tokens"]
        ids = torch.tensor([tokens])
        greedy = model.generate(
            ids, max_new_tokens=CONTINUE, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0].tolist()[LENGTH:]
        whole = torch.tensor([tokens + greedy])
        with torch.no_grad():
            logits = model(whole, use_cache=False).logits[0, LENGTH - 1 : -1]
        two = logits.topk(2).values
        lead = ((two[:, 0] - two[:, 1]) / logits.abs().amax(1)).min().item()
    else:
        tokens, greedy, lead = prompt(model)
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -STORED:]
    full = gradients(model, tokens)
    adapted = peft.PeftModel.from_pretrained(load(folder), folder / "adapter", is_trainable=True)
    result = {
        "made_by": "tests/peers/golden_architectures.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "tokens": tokens,
        "logits": [[short(x) for x in row] for row in logits.double().tolist()],
        "greedy": greedy,
        # The least lead of a greedy choice over the runner-up, in largest logits.
        "greedy_margin": short(lead),
        "loss_from": LOSS_FROM,
        "full": full,
        "lora": gradients(adapted.eval(), tokens),
    }
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in result.items())
    old.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return lead


def main(folder, *arguments):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    names = [a for a in arguments if not a.startswith("-")] or list(MODELS)
    for name in names:
        path = pathlib.Path(folder) / name
        if "--make" not in arguments:
            reference(path)
            continue
        make(path, name, SEEDS.get(name, 0))
        lead, moved = reference(path), rounding(path)
        assert lead > LEAD and moved < ROUNDING, f"{name}: {lead=}, {moved=}: try another seed"
        size = sum(f.stat().st_size for f in path.rglob("*.safetensors"))
        print(f"{name}: lead {lead:.3f}, rounding {moved:.3f}, {size} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
