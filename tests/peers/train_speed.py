#!/usr/bin/env python3
"""Speed of the same work in torch with PEFT: the peer of the example `throughput`.

usage: train_speed.py

A random Llama of the shape that `cargo run --release -p openledger-model --example throughput`
measures, on one thread.
"""

import time

import peft
import torch
import transformers

torch.set_num_threads(1)


def rate(tokens, run, seconds=2):
    """Tokens per second of this thread's own processor time."""
    run()
    start, runs = time.thread_time(), 0
    while time.thread_time() - start < seconds:
        run()
        runs += 1
    return f"{tokens * runs / (time.thread_time() - start):.0f}"


def main():
    config = transformers.LlamaConfig(
        hidden_size=128, num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=384, vocab_size=2048, max_position_embeddings=512,
        rms_norm_eps=1e-6, tie_word_embeddings=True,
    )
    base = transformers.LlamaForCausalLM(config)
    lora = peft.LoraConfig(
        r=16, lora_alpha=32, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )

    def gradients(model, batch, length):
        tokens = torch.randint(0, 2048, (batch, length + 1))

        def run():
            model.zero_grad(set_to_none=True)
            logits = model(tokens[:, :-1]).logits.reshape(-1, 2048)
            torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1)).backward()

        return rate(batch * length, run)

    full = [(b, n, gradients(base, b, n)) for b, n in [(1, 128), (8, 128), (1, 256)]]
    prompt = {n: torch.randint(0, 2048, (n, 128)) for n in (1, 8, 32)}

    def decode(model, lanes):
        with torch.no_grad():
            cache = model(prompt[lanes], use_cache=True).past_key_values
            token = torch.full((lanes, 1), 7)

            def run():
                model(token, past_key_values=cache, use_cache=True)
                cache.crop(-1)

            return rate(lanes, run)

    steps = [(n, decode(base, n)) for n in (1, 8, 32)]
    model = peft.get_peft_model(base, lora)
    adapted = [(b, n, gradients(model, b, n)) for b, n in [(1, 128), (8, 128), (1, 256)]]
    print(f"torch {torch.__version__}, one thread, f32, tokens per second of processor time")
    for (b, n, x), (_, _, y) in zip(full, adapted):
        print(f"{b} x {n} tokens: full gradients {x}, LoRA gradients (summed over the batch) {y}")
    for n, x in steps:
        print(f"{n} lanes, base only: decode at 128 {x}")


if __name__ == "__main__":
    main()
