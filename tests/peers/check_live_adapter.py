#!/usr/bin/env python3
"""The adapter of a live loop, loaded by PEFT on the bundled base loaded by transformers, gives the
log-probabilities that our node reports over its API; and so does the base alone.

Run by `cargo xtask test --peers`, which sets OPENLEDGER to the program.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import peft
import tokenizers
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASE = ROOT / "bundled" / "base"
TEXTS = [
    "Question: What is a Merkle tree?\nAnswer:",
    "A Merkle tree hashes data in pairs up to one root, so that a short proof shows that an entry "
    "belongs to it.",
    "Mercury is the planet closest to the Sun.",
]
# Ours sums a dot product in one chain, theirs in blocks: both in f32, so they differ by rounding.
TOLERANCE = 2e-4


def reported(url, key, model, text):
    """Tokens' log-probabilities as our API reports them for a given text."""
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request) as reply:
        answer = json.load(reply)
    values = answer["choices"][0]["logprobs"]["token_logprobs"]
    return values[: answer["usage"]["prompt_tokens"]]


def computed(model, tokens):
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    return [logprobs[i, token].item() for i, token in enumerate(tokens[1:])]


def compare(name, ours, theirs):
    # Whether a first token stands before the text is the template's business; align by the end.
    ours = [value for value in ours if value is not None]
    length = min(len(ours), len(theirs))
    assert length > 5, (name, len(ours), len(theirs))
    worst = max(abs(a - b) for a, b in zip(ours[-length:], theirs[-length:]))
    print(f"{name}: {length} tokens, largest difference {worst:.1e} nats")
    assert worst < TOLERANCE, (name, worst, ours, theirs)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        data = pathlib.Path(scratch) / "data"
        node = subprocess.Popen(
            [os.environ["OPENLEDGER"], "dev", "--json", "--rpc-port", "0", "--http-port", "0"]
            + ["--data-dir", data, "--datanet", "tests/clients/tiny.jsonl"]
            + ["--text", "question,answer", "--contributor", "contributor"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        try:
            summary = json.loads(node.stdout.readline())
            url, key = summary["urls"]["http"], summary["dev"]["api_key"]
            adapter = next(data.rglob("adapter_config.json")).parent
            tokenizer = tokenizers.Tokenizer.from_file(str(BASE / "tokenizer.json"))
            base = transformers.AutoModelForCausalLM.from_pretrained(
                BASE, dtype=torch.float32, attn_implementation="eager"
            ).eval()
            bos = [] if base.config.bos_token_id is None else [base.config.bos_token_id]
            ids = [bos + tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
            for text, tokens in zip(TEXTS, ids):
                ours = reported(url, key, summary["adapter"]["base"], text)
                compare("base", ours, computed(base, tokens))
            tuned = peft.PeftModel.from_pretrained(base, adapter).eval()
            for text, tokens in zip(TEXTS, ids):
                theirs = computed(tuned, tokens)
                compare("adapter", reported(url, key, summary["adapter"]["id"], text), theirs)
            with tuned.disable_adapter():
                change = abs(sum(computed(tuned, ids[1])) - sum(theirs))
            assert change > 1, "the adapter changes nothing, so this proves nothing"
        finally:
            node.terminate()
            node.wait()


if __name__ == "__main__":
    sys.exit(main())
