#!/usr/bin/env python3
"""Golden values of an adapter from the PEFT library.

usage: peft_logits.py MODEL_DIR ADAPTER_DIR [--make | --make-dora]

Loads ADAPTER_DIR (which our code wrote) into PEFT and writes ADAPTER_DIR/golden.json: logits, the
loss and autograd gradients of the adapter. With --make it first lets PEFT create and save a
rank-stabilised adapter there (with --make-dora, a DoRA one), so that our code must read what PEFT writes. The Rust test
`crates/model/tests/peft.rs` reads both. Needs torch, transformers and peft (see README.md).
"""

import json
import os
import sys

import peft
import torch
import transformers

TOKENS = [1, 80, 147, 201, 282, 81, 286, 451, 600, 356, 1714, 84, 223, 409, 242, 646, 444, 610]
LOSS_FROM = 7


def base(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )


def make(directory, out, dora):
    config = peft.LoraConfig(
        r=2,
        lora_alpha=6,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj", "down_proj"],
        use_rslora=not dora,
        use_dora=dora,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(5)
    model = peft.get_peft_model(base(directory), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
    model.peft_config["default"].base_model_name_or_path = "tinystories-656k"
    model.save_pretrained(out)
    os.remove(f"{out}/README.md")  # a model card's empty form


def picked(tensor, count):
    """Evenly spaced entries of a tensor, as (index, value) pairs."""
    flat = tensor.detach().double().flatten()
    step = max(1, flat.numel() // count)
    return [[i, flat[i].item()] for i in range(0, flat.numel(), step)]


def main(directory, adapter, *flags):
    torch.set_num_threads(1)
    if flags in (("--make",), ("--make-dora",)):
        make(directory, adapter, dora=flags == ("--make-dora",))
    model = peft.PeftModel.from_pretrained(base(directory), adapter, is_trainable=True).eval()
    tokens = torch.tensor([TOKENS])
    labels = torch.tensor([[-100] * LOSS_FROM + TOKENS[LOSS_FROM:]])
    result = model(tokens, labels=labels)
    result.loss.backward()
    with model.disable_adapter():
        bare = model(tokens).logits
    golden = {
        "made_by": "tests/peers/peft_logits.py",
        "torch": torch.__version__,
        "peft": peft.__version__,
        "tokens": TOKENS,
        "loss_from": LOSS_FROM,
        "mean_loss": result.loss.item(),
        "largest_change": (result.logits - bare).abs().max().item(),
        "logits": picked(result.logits, 500),
        "gradients": {
            # The name in the file has no adapter name in it.
            name.replace(".default.", ".").replace("_vector.weight", "_vector"): {
                "norm": p.grad.double().norm().item(),
                "values": picked(p.grad, 12),
            }
            for name, p in model.named_parameters()
            if p.requires_grad
        },
    }
    with open(f"{adapter}/golden.json", "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
