"""Requests become calls, and whatever is wrong with one is named."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.call import Sampling
from penstock.errors import InvalidRequest
from penstock.wire.ollama_request import read_request
from wire.ollama_cases import body

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
USER = {"role": "user", "content": "Hi"}


def test_a_plain_chat_streams_and_tells_its_usage() -> None:
    raw = body()
    call = read_request(raw, "chat")
    assert (call.dialect, call.model, call.form, call.stream, call.stream_usage) == (
        *("ollama", "llama3.2", "chat"),
        *(True, True),
    )
    assert (call.raw, call.input_bound, call.sampling, call.native) == (raw, len(raw), Sampling(), ())
    assert (call.feature, call.session, call.user, call.operation) == (None, None, None, "generate")


@pytest.mark.parametrize(("said", "streams"), [(True, True), (False, False), (None, True)])
def test_only_false_stops_it_from_streaming(said: bool | None, streams: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert read_request(body(stream=said), "chat").stream is streams


@pytest.mark.parametrize(
    ("form", "raw", "is_read_as"),
    [
        ("", body(), "chat"),
        ("", b'{"model":"m","prompt":"x"}', "generate"),
        ("", b'{"model":"m"}', "chat"),
        ("", body(prompt="x"), "chat"),
        ("generate", b'{"model":"m","prompt":"x","messages":1}', "generate"),
    ],
)
def test_the_path_says_the_form_and_else_the_body(form: str, raw: bytes, is_read_as: str) -> None:
    assert read_request(raw, form).form == is_read_as


def test_every_option_with_a_neutral_form_is_read() -> None:
    options = {
        "temperature": 3, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "num_predict": 7, "stop": "x", "seed": -4,
        "presence_penalty": 2.5, "frequency_penalty": -1, "num_ctx": 9,
    }  # fmt: skip
    call = read_request(body(options=options, logprobs=True, top_logprobs=4, think="medium"), "chat")
    assert call.sampling == Sampling(
        temperature=3.0, top_p=0.9, top_k=-1, min_p=0.1, max_tokens=7, stop=("x",), seed=-4, presence_penalty=2.5,
        frequency_penalty=-1.0, logprobs=True, top_logprobs=4, reasoning_effort="medium",
    )  # fmt: skip


@pytest.mark.parametrize("limit", [0, -1, -2])
def test_no_limit_is_none(limit: int) -> None:
    assert read_request(body(options={"num_predict": limit}), "chat").sampling.max_tokens is None


def test_null_says_nothing() -> None:
    nulls = dict.fromkeys(("stream", "options", "format", "think", "logprobs", "top_logprobs", "tools", "keep_alive"))
    call = read_request(body(**nulls), "chat")
    assert (call.sampling, call.stream) == (Sampling(), True)
    assert call.content.output is None
    options = dict.fromkeys(("temperature", "num_predict", "stop", "seed"))
    assert read_request(body(options=options), "chat").sampling == Sampling()


@pytest.mark.parametrize(
    ("members", "native"),
    [
        ({"messages": []}, ("messages",)),
        ({"messages": None}, ("messages",)),
        ({"tools": [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}]}, ("tools.web_search",)),
    ],
)
def test_what_only_ollama_can_do_in_a_chat_is_named(members: dict[str, object], native: tuple[str, ...]) -> None:
    assert read_request(body(**members), "chat").native == native


@pytest.mark.parametrize(
    ("members", "native"),
    [
        ({}, ("prompt",)),
        ({"prompt": "x", "suffix": "", "template": "", "raw": False, "context": [], "width": None, "steps": 0}, ("steps",)),
        ({"prompt": "x", "suffix": "y", "context": [1], "raw": True}, ("suffix", "raw", "context")),
        ({"prompt": "x", "template": "{{ .Prompt }}", "height": 64}, ("template", "height")),
    ],
)  # fmt: skip
def test_what_only_ollama_can_do_in_a_completion_is_named(members: dict[str, object], native: tuple[str, ...]) -> None:
    assert read_request(encode({"model": "m", **members}), "generate").native == native


def test_pictures_make_the_length_no_bound() -> None:
    with_picture = {"role": "user", "content": "?", "images": [PIXEL]}
    assert read_request(body(messages=[with_picture, USER]), "chat").input_bound is None
    assert read_request(encode({"model": "m", "prompt": "x", "images": [PIXEL]}), "generate").input_bound is None


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ""}, "model"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "messages[0].content"),
        ({"messages": [{**USER, "images": ["https://example.com/cat.png"]}]}, "messages[0].images[0]"),
        ({"messages": [USER, {**USER, "images": [PIXEL, "cat.png"]}]}, "messages[1].images[1]"),
        ({"messages": [{**USER, "images": [f"data:image/png;base64,{PIXEL}"]}]}, "messages[0].images[0]"),
        ({"messages": [{**USER, "images": [""]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]}, "messages[0].tool_calls[0].function.name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"options": []}, "options"),
        ({"options": {"temperature": -1}}, "options.temperature"),
        ({"options": {"top_p": 1.1}}, "options.top_p"),
        ({"options": {"min_p": "x"}}, "options.min_p"),
        ({"options": {"num_predict": 1.5}}, "options.num_predict"),
        ({"options": {"stop": [1]}}, "options.stop[0]"),
        ({"options": b'{"seed":1,"seed":2}'}, "seed"),
        ({"format": "xml"}, "format"),
        ({"format": ["json"]}, "format"),
        ({"think": "hard"}, "think"),
        ({"think": 1}, "think"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_to_do(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body(**members), "chat")
    assert caught.value.param == param
    assert caught.value.hint


@pytest.mark.parametrize(
    ("members", "param"),
    [({"prompt": 1}, "prompt"), ({"context": ["x"]}, "context[0]"), ({"images": ["cat.png"]}, "images[0]")],
)
def test_what_is_wrong_with_a_completion_is_named(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(encode({"model": "m", **members}), "generate")
    assert (caught.value.param, bool(caught.value.hint)) == (param, True)


def test_a_missing_model_is_asked_for() -> None:
    with pytest.raises(InvalidRequest, match=r"`model` is missing.*GET /api/tags"):
        read_request(b'{"messages":[]}', "chat")


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'{"model":"\xff"}', b'{"model":"a","model":"b"}', b"{"])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_request(raw, "chat")


@pytest.mark.parametrize("where", ["keep_alive", "format", "tools", "messages"])
@pytest.mark.parametrize("depth", [65, 3_000, 100_000])
def test_nesting_is_bounded_wherever_it_is(where: str, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    if where == "tools":
        deep = b'[{"function":{"name":"f","parameters":%b}}]' % deep
    if where == "messages":
        deep = b'[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":%b}}]}]' % deep
    with pytest.raises(InvalidRequest, match="nested"):
        read_request(body(**{where: deep}), "chat")


def test_many_brackets_that_are_not_deep_are_fine() -> None:
    text = "[{" * 500
    assert read_request(body(messages=[{"role": "user", "content": text}] * 70), "chat").model == "llama3.2"


@settings(max_examples=2_000, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_damaged_request_is_read_or_refused(seed: int) -> None:
    rng = Random(seed)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    raw = bytearray(body(options={"seed": 1, "stop": ["x"]}, tools=tools, format={"a": 1}, think=True))
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(raw))
        raw[place : place + rng.randrange(3)] = rng.choice(
            (b"", b"null", b'"', b"[", b"}", b"1e999", b"\xff", b"\\ud800")
        )
    try:
        call = read_request(bytes(raw), rng.choice(("", "chat", "generate")))
    except InvalidRequest:
        return
    assert call.content.messages is not None
