#!/usr/bin/env python3
"""What transformers makes of conversations with the chat templates of seven families.

usage: golden_templates.py OUT.json

The templates are our own short ones that write what each family's template writes, with the
constructions that published templates use. For every conversation there is the text of the prompt
that asks for the next answer, its tokens, and the text without that; or what the template says when
it refuses. The tokenizers are tiny ones of the three kinds that the families have. The Rust tests
`crates/model/src/template/chat/tests.rs` read the file.
"""

import json
import pathlib
import sys
import tempfile

import transformers

LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Thoughts of earlier answers are left out, and the last answer gets empty ones.
QWEN3 = """{%- set ns = namespace(asked=messages|length - 1, open=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.open and message.role == "user" and message.content is string %}
        {%- set ns.open = false %}
        {%- set ns.asked = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thoughts = '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.asked and (loop.last or thoughts) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

GEMMA2 = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate user and assistant") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- else %}
        {% generation %}{{- " " + message["content"] + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}"""

PHI3 = """{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}\
{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}\
{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
CONVERSATIONS = [
    [(USER, "What is a Datanet?")],
    [(SYSTEM, " Be brief.\n"), (USER, "  Zwölf Boxkämpfer? 日本 \n\n"), (ASSISTANT, "Ja.")],
    [(USER, "One?"), (ASSISTANT, "<think>\nhm\n</think>\n\n1"), (USER, "Two?"), (ASSISTANT, "2")],
    [(USER, "a\n{{ b }} {% c %}\\n"), (ASSISTANT, "")],
    [(USER, "one"), (USER, "two")],
    [(ASSISTANT, "the first word")],
]


def token(text, number, **more):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": text, **flags, **more}


def byte_level(specials):
    """Bytes as characters, with a few merges, as in Llama 3 and Qwen."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in characters)
    characters.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    merges = ["Ġ t", "h e", "Ġt he", "Ċ Ċ", "u s", "us er", "e r", "a n", "Ġ a"]
    merges.sort(key=lambda merge: merge == "us er")
    vocab = [characters[byte] for byte in range(256)]
    vocab += [merge.replace(" ", "") for merge in merges]
    numbers = {text: number for number, text in enumerate(vocab)}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token(t, len(vocab) + i, **more) for i, (t, more) in enumerate(specials)],
        "normalizer": None,
        "pre_tokenizer": split,
        "post_processor": None,
        "decoder": split,
        "model": {"type": "BPE", "vocab": numbers, "merges": [merge.split(" ") for merge in merges]},
    }


def pieces(prepend, specials):
    """Characters with a low line for the space and bytes for the rest, as in Mistral and Gemma."""
    merges = [["▁", "a"], ["t", "h"], ["th", "e"], ["▁", "the"], ["\n", "\n"]]
    vocab = ["<unk>", *(text for text, _ in specials[:2])]
    vocab += [f"<0x{byte:02X}>" for byte in range(256)]
    vocab += ["▁", *map(chr, range(33, 127)), "\n", *("".join(merge) for merge in merges)]
    ends = [token("<unk>", 0)] + [token(t, 1 + i, **more) for i, (t, more) in enumerate(specials[:2])]
    more = [token(t, len(vocab) + i, **flags) for i, (t, flags) in enumerate(specials[2:])]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    first = [{"type": "Prepend", "prepend": "▁"}] if prepend else []
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prepend:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": ends + more,
        "normalizer": {"type": "Sequence", "normalizers": [*first, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {text: number for number, text in enumerate(vocab)},
            "merges": merges,
        },
    }


def plain(*texts):
    return [(text, {}) for text in texts]


STRIPPED = {"rstrip": True}
TOKENIZERS = {
    "bytes": byte_level(
        plain(
            "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
            "<|endoftext|>", "<|im_start|>", "<|im_end|>",
        )
        + [("<think>", {"special": False}), ("</think>", {"special": False})]
    ),
    "gemma": pieces(False, plain("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")),
    # Mistral's words are only text there; Phi-3's swallow the space after them.
    "prepending": pieces(
        True,
        plain("<s>", "</s>")
        + [(text, STRIPPED) for text in ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")],
    ),
}
FAMILIES = {
    "llama3": ("bytes", LLAMA3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    "qwen2": ("bytes", QWEN2, None, "<|im_end|>", "<|im_end|>"),
    "qwen3": ("bytes", QWEN3, None, "<|im_end|>", "<|im_end|>"),
    "gemma2": ("gemma", GEMMA2, "<bos>", "<eos>", "<end_of_turn>"),
    "gemma3": ("gemma", GEMMA3, "<bos>", "<eos>", "<end_of_turn>"),
    "mistral": ("prepending", MISTRAL, "<s>", "</s>", "</s>"),
    "phi3": ("prepending", PHI3, "<s>", "<|endoftext|>", "<|end|>"),
}


def rendered(tokenizer, conversation):
    messages = [{"role": role, "content": content} for role, content in conversation]
    ask = lambda **flags: tokenizer.apply_chat_template(messages, **flags)
    try:
        return {
            "prompt": ask(tokenize=False, add_generation_prompt=True),
            "prompt_tokens": ask(tokenize=True, add_generation_prompt=True, return_dict=False),
            "whole": ask(tokenize=False, add_generation_prompt=False),
        }
    except Exception as refusal:  # jinja2's own classes are several
        return {"refusal": str(refusal)}


def family(name):
    kind, template, bos, eos, end = FAMILIES[name]
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    config |= {"bos_token": bos, "eos_token": eos, "chat_template": template}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tokenizer.json").write_text(json.dumps(TOKENIZERS[kind]), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    cases = [{"turns": turns, **rendered(tokenizer, turns)} for turns in CONVERSATIONS]
    return {"tokenizer": kind, "config": config, "end": end, "cases": cases}


def main(out):
    result = {"tokenizers": TOKENIZERS, "families": {name: family(name) for name in FAMILIES}}
    text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
    pathlib.Path(out).write_text(text.replace('{"turns"', '\n{"turns"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
