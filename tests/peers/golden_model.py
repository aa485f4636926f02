#!/usr/bin/env python3
"""Golden values of the decoder from torch and transformers.

usage: golden_model.py MODEL_DIR OUT.json

Writes tokens, logits, greedy continuations, the loss and autograd gradients of a Llama model in
the Hugging Face layout. The Rust test `crates/model/tests/golden.rs` reads the file; this script
is the only place where it comes from. Needs torch and transformers (see README.md).
"""

import json
import sys

import torch
import transformers

TEXTS = [
    "Once upon a time there was a little girl who had a red ball. ",
    "The dog and the cat went to the park",
    "Tom said, \"I want to play!\"\n",
]
CONTINUE = 48


def picked(tensor, count):
    """Evenly spaced entries of a tensor, as (index, value) pairs."""
    flat = tensor.detach().double().flatten()
    step = max(1, flat.numel() // count)
    return [[i, flat[i].item()] for i in range(0, flat.numel(), step)]


def main(directory, out):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{directory}/tokenizer.json")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    bos = model.config.bos_token_id
    cases = []
    for text in TEXTS:
        ids = [bos] + tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([ids])
        with torch.no_grad():
            logits = model(tokens).logits[0]
            longer = model.generate(
                tokens, max_new_tokens=CONTINUE, do_sample=False, eos_token_id=None, pad_token_id=0
            )[0].tolist()
        # Greedy choices where the runner-up is within rounding prove nothing; the test needs the
        # margin to tell a tie from a fault.
        with torch.no_grad():
            two = model(torch.tensor([longer])).logits[0].topk(2).values
        margin = (two[len(ids) - 1 : -1, 0] - two[len(ids) - 1 : -1, 1]).min().item()
        cases.append(
            {
                "text": text,
                "tokens": ids,
                "decoded": tokenizer.decode(ids[1:]),
                "last_logits": logits[-1].double().tolist(),
                "logits": picked(logits, 400),
                "greedy": longer[len(ids) :],
                "greedy_text": tokenizer.decode(longer[len(ids) :]),
                "greedy_margin": margin,
            }
        )

    ids = cases[0]["tokens"]
    labels = torch.tensor([[-100] * 5 + ids[5:]])
    loss = model(torch.tensor([ids]), labels=labels).loss
    loss.backward()
    gradients = {
        name: {"norm": p.grad.double().norm().item(), "values": picked(p.grad, 24)}
        for name, p in model.named_parameters()
    }
    result = {
        "made_by": "tests/peers/golden_model.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cases": cases,
        "training": {"loss_from": 5, "mean_loss": loss.item(), "gradients": gradients},
    }
    with open(out, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
