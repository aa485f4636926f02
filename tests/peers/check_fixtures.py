#!/usr/bin/env python3
"""The committed reference values are still what torch, transformers and PEFT compute.

Runs the scripts that made them, into a scratch folder, and compares number by number. Run by
`cargo xtask test --peers`.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT.parent / "shared" / "models" / "tinystories-656k"
FIXTURES = ROOT / "fixtures" / "model"
# Another processor rounds another way; a changed model or script is far outside.
RELATIVE, ABSOLUTE = 1e-3, 1e-4
# What the scripts say about themselves may change with their versions.
VERSIONS = {"torch", "transformers", "peft"}


def differences(committed, fresh, path=""):
    """Yields every place where two JSON values differ."""
    if isinstance(committed, dict) and isinstance(fresh, dict):
        for key in committed.keys() | fresh.keys():
            if key in VERSIONS:
                continue
            yield from differences(committed.get(key), fresh.get(key), f"{path}.{key}")
    elif isinstance(committed, list) and isinstance(fresh, list) and len(committed) == len(fresh):
        for index, pair in enumerate(zip(committed, fresh)):
            yield from differences(*pair, f"{path}[{index}]")
    elif isinstance(committed, float) and isinstance(fresh, (int, float)):
        if abs(committed - fresh) > ABSOLUTE + RELATIVE * abs(committed):
            yield f"{path}: committed {committed}, now {fresh}"
    elif committed != fresh:
        yield f"{path}: committed {committed!r}, now {fresh!r}"


def compare(name, committed, fresh):
    load = lambda path: json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    found = list(differences(load(committed), load(fresh)))
    assert not found, f"{name} differs in {len(found)} places, first: {found[:3]}"
    print(f"{name}: unchanged")


def script(name, *arguments):
    path = ROOT / "tests" / "peers" / name
    subprocess.run([sys.executable, path, *arguments], check=True, stdin=subprocess.DEVNULL)


def main():
    if not MODEL.is_dir():
        sys.exit(f"the model is not at {MODEL}: put tinystories-656k there (shared/ beside the checkout)")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        script("golden_model.py", MODEL, scratch / "model.json")
        compare("tinystories-656k.json", FIXTURES / "tinystories-656k.json", scratch / "model.json")
        script("golden_configs.py", scratch / "configs.json")
        compare("configs.json", FIXTURES / "configs.json", scratch / "configs.json")
        script("golden_templates.py", scratch / "templates.json")
        compare("templates.json", FIXTURES / "templates.json", scratch / "templates.json")
        copy = scratch / "architectures"
        shutil.copytree(FIXTURES / "architectures", copy)
        script("golden_architectures.py", copy)
        for folder in sorted(copy.iterdir()):
            committed = FIXTURES / "architectures" / folder.name / "reference.json"
            compare(folder.name, committed, folder / "reference.json")
        for adapter in ("adapter-ours", "adapter-peft", "adapter-dora"):
            copy = scratch / adapter
            shutil.copytree(FIXTURES / adapter, copy)
            (copy / "golden.json").unlink()
            script("peft_logits.py", MODEL, copy)
            compare(adapter, FIXTURES / adapter / "golden.json", copy / "golden.json")


if __name__ == "__main__":
    main()
