"""openai-python, unchanged, against the live node: answers, streams, errors, attribution."""

import json
import os
import sys
import time
import traceback
import urllib.request

import openai
from openai import OpenAI

with open(os.environ["OPENLEDGER_SUMMARY"], encoding="utf-8") as file:
    SUMMARY = json.load(file)
URL = os.environ["OPENLEDGER_HTTP"]
KEY = SUMMARY["dev"]["api_key"]
ADAPTER = SUMMARY["adapter"]["id"]
BASE = SUMMARY["adapter"]["base"]
QUESTION = [{"role": "user", "content": "Which planet is closest to the Sun?"}]

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)


def attribution(completion, seconds=120):
    """The report of a completion, once it is ready. The API says when to come back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{URL}/v1/attributions/{completion}") as reply:
            report = json.load(reply)
            if reply.status == 200:
                return report
            assert reply.status == 202, reply.status
            assert int(reply.headers["retry-after"]) >= 1
            time.sleep(0.2)
    raise AssertionError(f"the attribution of {completion} was not ready within {seconds} s")


def expect(error, code, call):
    """The call must fail with this class and this machine-readable code."""
    try:
        call()
    except error as raised:
        assert raised.code == code, f"expected code {code}, got {raised.code}: {raised}"
        assert raised.body and raised.body["message"], raised.body
        return raised
    raise AssertionError(f"no {error.__name__} was raised")


def test_models_lists_base_and_adapter():
    models = {model.id: model for model in client.models.list().data}
    assert BASE in models and ADAPTER in models, sorted(models)
    assert models[ADAPTER].parent == BASE
    assert client.models.retrieve(ADAPTER).id == ADAPTER


def test_chat_completion_has_usage_and_an_attribution():
    raw = client.chat.completions.with_raw_response.create(
        model=ADAPTER, messages=QUESTION, max_tokens=24, temperature=0
    )
    reply = raw.parse()
    assert raw.headers["x-openledger-attribution"] == reply.id
    assert reply.object == "chat.completion" and reply.model == ADAPTER
    choice = reply.choices[0]
    assert choice.message.role == "assistant" and isinstance(choice.message.content, str)
    assert choice.finish_reason in ("stop", "length")
    assert 0 < reply.usage.completion_tokens <= 24
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.attribution["id"] == reply.id and reply.attribution["url"].endswith(reply.id)
    report = attribution(reply.id)
    assert report["output"] == choice.message.content
    assert report["rows_scored"] > 0 and report["rows"]
    for row in report["rows"]:
        assert row["source"]["contributor"] and row["source"]["address"].startswith("0x")
        assert isinstance(row["score"], int)
    for span in report["spans"]:
        assert report["output"][span["start_index"] : span["end_index"]] == span["text"]
        assert span["sources"]
    price = sum(int(share["amount"]) for share in report["shares"])
    assert price <= int(report["receipt"]["fee"])


def test_greedy_answers_repeat_alone_and_in_a_batch():
    """The exact mode: the same bits whoever shares the batch."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(question):
        return client.chat.completions.create(
            model=ADAPTER,
            messages=[{"role": "user", "content": question}],
            max_tokens=24,
            temperature=0,
            logprobs=True,
        )

    alone = ask(QUESTION[0]["content"])
    others = ["What is an atom?", "What is a rollup?", "What is a cell?", "What is a token?"]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(ask, [QUESTION[0]["content"], *others]))[0]
    assert together.choices[0].message.content == alone.choices[0].message.content
    bits = lambda reply: [token.logprob for token in reply.choices[0].logprobs.content]
    assert bits(together) == bits(alone)


def test_a_seed_repeats_a_sampled_answer():
    ask = lambda seed: client.chat.completions.create(
        model=ADAPTER, messages=QUESTION, max_tokens=24, temperature=1.0, seed=seed
    ).choices[0].message.content
    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(1, 6)}) > 1


def test_adapter_and_base_answer_differently():
    ask = lambda model: client.completions.create(
        model=model, prompt="What is a Datanet?", max_tokens=24, temperature=0
    ).choices[0].text
    assert ask(ADAPTER) != ask(BASE)


def test_streaming_gives_the_same_text_and_usage():
    whole = client.chat.completions.create(
        model=ADAPTER, messages=QUESTION, max_tokens=24, temperature=0
    )
    stream = client.chat.completions.create(
        model=ADAPTER,
        messages=QUESTION,
        max_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    finished = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert finished == [whole.choices[0].finish_reason]
    last = chunks[-1]
    assert last.choices == [] and last.usage.total_tokens == whole.usage.total_tokens
    assert last.attribution["id"] == last.id
    assert len({c.id for c in chunks}) == 1


def test_inline_attribution_comes_with_the_answer():
    reply = client.chat.completions.create(
        model=ADAPTER,
        messages=QUESTION,
        max_tokens=16,
        temperature=0,
        extra_body={"attribution": {"mode": "inline", "top_k": 3}},
    )
    assert reply.attribution["status"] == "ready"
    assert 0 < len(reply.attribution["rows"]) <= 3


def test_several_choices_are_billed_and_traced_one_by_one():
    # A question that no row answers, so that the choices differ.
    unheard = [{"role": "user", "content": "Tell me about quartz, tides and umbrellas."}]
    reply = client.chat.completions.create(
        model=ADAPTER, messages=unheard, max_tokens=12, temperature=2.0, seed=3, n=3
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) > 1
    assert reply.usage.completion_tokens > 12 or all(
        choice.finish_reason == "stop" for choice in reply.choices
    )


def test_the_same_request_again_is_answered_once():
    ask = lambda name: client.chat.completions.create(
        model=ADAPTER,
        messages=QUESTION,
        max_tokens=12,
        temperature=1.0,
        extra_headers={"idempotency-key": name},
    )
    first, again, other = ask("client-test-1"), ask("client-test-1"), ask("client-test-2")
    assert again.id == first.id and again.choices[0].message == first.choices[0].message
    assert other.id != first.id


def test_a_stop_string_is_never_shown():
    free = client.chat.completions.create(
        model=ADAPTER, messages=QUESTION, max_tokens=24, temperature=0
    ).choices[0].message.content
    words = free.split()
    assert len(words) >= 3, f"too short an answer to test with: {free!r}"
    cut = client.chat.completions.create(
        model=ADAPTER, messages=QUESTION, max_tokens=24, temperature=0, stop=[words[1]]
    )
    assert words[1] not in cut.choices[0].message.content
    assert cut.choices[0].finish_reason == "stop"
    assert free.startswith(cut.choices[0].message.content)


def test_logprobs_are_logarithms_of_probabilities():
    reply = client.chat.completions.create(
        model=ADAPTER, messages=QUESTION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == reply.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        best = max(alternative.logprob for alternative in token.top_logprobs)
        assert abs(best - token.logprob) < 1e-5, "greedy takes the likeliest token"


def test_completions_echo_the_prompt_with_logprobs():
    """What evaluation harnesses do: score a given text."""
    prompt = "Mercury is the planet closest to the Sun."
    reply = client.completions.create(
        model=ADAPTER, prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=1
    )
    choice = reply.choices[0]
    assert choice.text.startswith(prompt), choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert len(choice.logprobs.tokens) == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_errors_have_the_sdk_s_classes():
    chat = client.chat.completions.create
    unknown = expect(
        openai.NotFoundError, "model_not_found", lambda: chat(model="no-such", messages=QUESTION)
    )
    assert unknown.param == "model"
    stranger = OpenAI(base_url=f"{URL}/v1", api_key="sk-wrong", max_retries=0)
    expect(
        openai.AuthenticationError,
        "invalid_api_key",
        lambda: stranger.chat.completions.create(model=ADAPTER, messages=QUESTION),
    )
    for field, value in {
        "temperature": 9,
        "top_p": -1,
        "n": 0,
        "max_tokens": 0,
        "stop": ["a", "b", "c", "d", "e"],
    }.items():
        arguments = {"model": ADAPTER, "messages": QUESTION, field: value}
        refused = expect(openai.BadRequestError, "invalid_value", lambda: chat(**arguments))
        assert refused.param == field, (field, refused.param)
    expect(openai.BadRequestError, "invalid_value", lambda: chat(model=ADAPTER, messages=[]))
    long = [{"role": "user", "content": "planet " * 20000}]
    expect(
        openai.BadRequestError,
        "context_length_exceeded",
        lambda: chat(model=ADAPTER, messages=long),
    )
    huge = [{"role": "user", "content": "x" * (4 << 20)}]
    try:
        chat(model=ADAPTER, messages=huge)
        raise AssertionError("a request of 4 MiB was accepted")
    except openai.APIStatusError as raised:
        assert raised.status_code == 413, raised.status_code
        assert raised.code == "request_too_large", raised.body


def test_unknown_fields_are_ignored():
    reply = client.chat.completions.create(
        model=ADAPTER,
        messages=QUESTION,
        max_tokens=4,
        temperature=0,
        user="somebody",
        extra_body={"field_of_tomorrow": {"a": 1}},
    )
    assert reply.choices


def main():
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    failed = 0
    for name, test in tests:
        started = time.monotonic()
        try:
            test()
            print(f"ok     {name} ({(time.monotonic() - started) * 1000:.0f} ms)")
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(tests) - failed} passed; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
