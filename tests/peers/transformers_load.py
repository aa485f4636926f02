#!/usr/bin/env python3
"""Checks that transformers loads a model directory which our code saved.

usage: transformers_load.py MODEL_DIR

MODEL_DIR is what `cargo run -p openledger-model --example save_model -- MODEL_DIR` writes: a
random model, a trained tokenizer, and `expected.json` with a text, its tokens and our logits.
Exits with an error when transformers sees other tokens or other logits.
"""

import json
import sys

import torch
import transformers


def main(directory):
    with open(f"{directory}/expected.json") as file:
        expected = json.load(file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    tokens = tokenizer(expected["text"], add_special_tokens=False)["input_ids"]
    assert tokens == expected["tokens"], (tokens, expected["tokens"])
    assert tokenizer.decode(tokens) == expected["text"]
    assert tokenizer.bos_token_id == expected["bos"] and tokenizer.eos_token_id == expected["eos"]
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, -1].double()
    worst = (logits - torch.tensor(expected["logits"]).double()).abs().max() / logits.abs().max()
    assert worst < 1e-4, f"logits differ by {worst:.1e} of the largest"
    print(f"transformers {transformers.__version__}: same tokens, logits within {worst:.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
