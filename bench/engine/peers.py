#!/usr/bin/env python3
"""The peers' side of `cargo xtask bench engine`: torch with PEFT, and llama.cpp.

usage: peers.py < LINES

Reads the lines that the example `engine` of crates/finetune reads, with a `dtype=`, and replies as
it does: one JSON object with `wall` and `cpu` seconds, `tokens`, and `check`. Whatever a line needs
is made when it first comes, so the first reply is the warm-up; `forget` drops it all.
"""

import json
import sys
import time


def main():
    works = {}
    for line in sys.stdin:
        verb, *words = line.split()
        settings = dict(word.split("=", 1) for word in words)
        if verb == "forget":
            works.clear()
            reply = {}
        elif verb == "versions":
            reply = versions()
        elif verb == "memory":
            reply = torch_side().memory(settings)
        elif verb == "gguf":
            import llama_side

            llama_side.write(settings["dir"], settings["to"], settings["type"])
            reply = {}
        else:
            if line not in works:
                works[line] = prepare(verb, settings)
            reply = timed(*works[line])
        print(json.dumps(reply), flush=True)


def versions():
    from importlib.metadata import version

    names = ["torch", "transformers", "peft", "llama-cpp-python"]
    return {name: version(name) for name in names}


def torch_side():
    # Neither library is loaded before it is asked for: two pools of threads would be in the way.
    import torch_side

    return torch_side


def prepare(verb, settings):
    """The work, and the tokens that it processes."""
    if verb.startswith("llama_"):
        import llama_side as side
    else:
        side = torch_side()
    return getattr(side, verb)(settings)


def timed(work, tokens):
    start, before = time.perf_counter(), time.process_time()
    check = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - before
    return {"wall": wall, "cpu": cpu, "tokens": tokens, "check": check}


def token(vocab, row, position):
    """The token that every side has at this place."""
    return (row * 7919 + position * 104_729 + 17) % vocab


if __name__ == "__main__":
    main()
