"""The dialect as a whole: recorded replies of many servers against snapshots, errors in and out, the list of models.

A reply stands in `golden/chat` as the server sent it; beside it what is read (`.events`) and what a client of this dialect
is written of that (`.chat`). `GOLDEN=write pytest tests/wire/test_openai_chat.py` writes the snapshots anew: look at the diff.
"""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.errors import (
    InvalidRequest,
    UpstreamAuth,
    UpstreamError,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.reply import Ended, Event, Failed, fold
from penstock.wire.dialect import ModelRow
from penstock.wire.framing import SseReader
from penstock.wire.openai_chat import OpenAIChat
from penstock.wire.provider_error import MAX_SHOWN_BYTES
from wire.chat_cases import body

GOLDEN = Path(__file__).parent / "golden" / "chat"
REPLIES = sorted(GOLDEN.glob("*.json"))
STREAMS = sorted(GOLDEN.glob("*.sse"))
CHAT = OpenAIChat()
CALL = CHAT.read_request(body())


def lines(events: tuple[Event, ...]) -> str:
    shown = [
        f"Failed(error={type(e.error).__name__}({str(e.error)!r}))" if isinstance(e, Failed) else repr(e)
        for e in events
    ]
    return "\n".join(shown) + "\n"


def same(path: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(data)
    assert path.read_bytes() == data, f"{path.name} differs; if that is meant: GOLDEN=write"


def streamed(raw: bytes, cuts: list[int], *, strip_usage: bool) -> tuple[str, bytes]:
    reader = CHAT.stream_reader(strip_usage=strip_usage)
    events: tuple[Event, ...] = ()
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        events += reader.feed(raw[start:end])
        passed += reader.passed
    events += reader.end()
    return lines(events), passed + reader.passed


# -- recorded replies --


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_read_and_written(path: Path) -> None:
    events = CHAT.read_reply(path.read_bytes())
    same(path.with_suffix(".json.events"), lines(events))
    written = CHAT.write_reply(fold(events), CALL)
    same(path.with_suffix(".json.chat"), written + b"\n")
    ChatCompletion.model_validate(decode(written), strict=False)
    assert fold(CHAT.read_reply(written)).choices == fold(events).choices
    assert fold(CHAT.read_reply(written)).usage == fold(events).usage


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    reader = CHAT.stream_reader()
    events = (*reader.feed(raw), *reader.end())
    same(path.with_suffix(".sse.events"), lines(events))
    asking = CHAT.read_request(body(stream=True, stream_options={"include_usage": True}))
    written = CHAT.stream_writer(asking).send(events)
    same(path.with_suffix(".sse.chat"), written)
    for frame in SseReader().feed(written):
        if frame.data != b"[DONE]" and b'"error"' not in frame.data:
            ChatCompletionChunk.model_validate(decode(frame.data), strict=False)
    again = CHAT.stream_reader()
    reread = fold((*again.feed(written), *again.end()))
    assert (reread.choices, reread.usage, reread.id) == (fold(events).choices, fold(events).usage, fold(events).id)


@pytest.mark.parametrize("strip_usage", [False, True])
@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_the_same_at_every_byte_split(path: Path, strip_usage: bool) -> None:  # noqa: FBT001 - a parameter of the test
    raw = path.read_bytes()
    whole = streamed(raw, [], strip_usage=strip_usage)
    assert streamed(raw, list(range(1, len(raw))), strip_usage=strip_usage) == whole
    for cut in range(1, len(raw), 7 if strip_usage else 1):
        assert streamed(raw, [cut], strip_usage=strip_usage) == whole
    if "Failed" not in whole[0] and not strip_usage:
        assert whole[1] == raw


def test_streams_and_replies_of_the_same_answer_say_the_same() -> None:
    for name in ("text", "refusal", "logprobs", "audio", "length_n2", "function_call"):
        reader = CHAT.stream_reader()
        stream = fold((*reader.feed((GOLDEN / f"{name}.sse").read_bytes()), *reader.end()))
        whole = fold(CHAT.read_reply((GOLDEN / f"{name}.json").read_bytes()))
        assert [choice.text for choice in stream.choices] == [choice.text for choice in whole.choices]
        assert [choice.finish for choice in stream.choices] == [choice.finish for choice in whole.choices]


# -- the dialect's verbs --


def test_a_request_goes_through_the_dialect_both_ways() -> None:
    assert CHAT.name == "chat"
    raw = body(stream=True)
    call = CHAT.read_request(raw)
    assert b'"include_usage":true' in (CHAT.splice(call, "gpt-4o") or b"")
    written, dropped = CHAT.write_request(call, "gpt-4o")
    assert decode(written) == {**decode(raw), "model": "gpt-4o", "stream_options": {"include_usage": True}}
    assert dropped == ()
    silent = OpenAIChat(ask_usage=False)
    assert b"include_usage" not in silent.write_request(call, "x")[0] + (silent.splice(call, "x") or b"")


def test_a_reply_goes_through_the_dialect_both_ways() -> None:
    raw = (GOLDEN / "text.json").read_bytes()
    assert fold(CHAT.read_reply(CHAT.write_reply(fold(CHAT.read_reply(raw)), CALL))) == fold(CHAT.read_reply(raw))
    assert fold(CHAT.tap_reply(raw)).usage == fold(CHAT.read_reply(raw)).usage


def test_the_models_are_listed_as_openai_lists_them() -> None:
    listed = decode(CHAT.write_models([ModelRow("fast"), ModelRow("openai/gpt-4o", "openai", 17)]))
    assert listed == {
        "object": "list",
        "data": [
            {"id": "fast", "object": "model", "created": 0, "owned_by": "penstock"},
            {"id": "openai/gpt-4o", "object": "model", "created": 17, "owned_by": "openai"},
        ],
    }
    one = decode(CHAT.write_model(ModelRow("fast")))
    assert one == listed["data"][0]
    Model.model_validate(one, strict=False)


def test_this_api_counts_nothing_beforehand() -> None:
    assert CHAT.write_count_request(CALL, "m") is None
    assert CHAT.write_count(3) == b'{"object":"response.input_tokens","input_tokens":3}'
    assert CHAT.error_headers(InvalidRequest("no")) == ()
    with pytest.raises(UpstreamGarbled):
        CHAT.read_count(b"3")


# -- errors --

ERRORS = [
    # recorded from OpenAI, llama.cpp, vLLM and Azure
    (
        401,
        b'{"error":{"message":"Incorrect API key provided: sk-proj-abcd****wxyz.","type":"invalid_request_error","code":"invalid_api_key"}}',
        UpstreamAuth,
    ),
    (
        403,
        b'{"error":{"message":"Country, region, or territory not supported","code":"unsupported_country_region_territory"}}',
        UpstreamAuth,
    ),
    (
        429,
        b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}',
        UpstreamAuth,
    ),
    (
        429,
        b'{"error":{"message":"Rate limit reached for gpt-4o","type":"requests","param":null,"code":"rate_limit_exceeded"}}',
        UpstreamRateLimited,
    ),
    (
        404,
        b'{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}',
        UpstreamMissing,
    ),
    (
        404,
        b'{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}',
        UpstreamMissing,
    ),
    (
        400,
        b'{"error":{"code":400,"message":"request (5017 tokens) exceeds the available context size (1024 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":5017,"n_ctx":1024}}',
        UpstreamRejected,
    ),
    (
        400,
        b'{"object":"error","message":"This model\'s maximum context length is 4096 tokens.","type":"BadRequestError","code":400}',
        UpstreamRejected,
    ),
    (422, b'{"detail":[{"loc":["body","temperature"],"msg":"value is not a valid float"}]}', UpstreamRejected),
]


@pytest.mark.parametrize(("status", "raw", "kind"), ERRORS)
def test_a_recorded_error_is_classified(status: int, raw: bytes, kind: type[UpstreamError]) -> None:
    error = CHAT.read_error(status, raw)
    assert type(error) is kind
    assert "sk-proj-abcd" not in str(error)
    out = decode(CHAT.write_error(error))
    assert set(out["error"]) >= {"message", "type", "code"}
    if kind is not UpstreamRejected:
        assert (error.body, error.dialect) == (b"", "")


def test_what_a_provider_says_about_the_request_reaches_the_client_as_it_is() -> None:
    raw = b'{"error": {"message": "Unsupported parameter: \'max_tokens\'", "type": "invalid_request_error", "param": "max_tokens", "code": null}}'
    error = CHAT.read_error(400, raw)
    assert (error.body, error.dialect, error.status) == (raw, "chat", 400)
    assert CHAT.write_error(error) == raw
    error.dialect = "messages"
    assert decode(CHAT.write_error(error))["error"]["code"] == "upstream_rejected"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"not json",
        b'{"detail":"no"}',
        b'{"error":"text"}',
        b'{"error":{"code":1}}',
        b'{"error":{"message":"\xff"}}',
        b'{"error":{"message":"key sk-abcdefgh12345678 is bad"}}',
        b'{"error":{"message":"' + b"x " * MAX_SHOWN_BYTES + b'"}}',
        b'{"error":{"message":"x","deep":' + b"[" * 5_000,
        b"\x00" * 10_000_000,
    ],
)
def test_a_body_that_may_not_be_shown_is_replaced(raw: bytes) -> None:
    error = CHAT.read_error(400, raw)
    assert error.body == b""
    out = decode(CHAT.write_error(error))["error"]
    assert (out["type"], out["code"]) == ("invalid_request_error", "upstream_rejected")
    assert len(out["message"]) < 1_000
    assert "sk-abcdefgh" not in out["message"]


def test_the_gateways_own_errors_name_the_member_and_say_what_to_do() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.read_request(body(temperature=9))
    assert decode(CHAT.write_error(caught.value)) == {
        "error": {
            "message": "`temperature`: expected `float` <= 2.0. Send a number from 0 to 2.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "invalid_request",
        }
    }


@settings(max_examples=2_000, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=60), st.text('{}[]":,\\ud8errormsagcoti 012', max_size=60).map(str.encode)),
    status=st.integers(100, 599),
)
def test_any_bytes_give_only_the_declared_errors(data: bytes, status: int) -> None:
    for verb, declared in ((CHAT.read_request, InvalidRequest), (CHAT.read_reply, UpstreamGarbled)):
        with suppress(declared):
            verb(data)
    assert isinstance(CHAT.read_error(status, data), UpstreamError)
    reader = CHAT.stream_reader()
    events = (*reader.feed(data), *reader.end())
    assert isinstance(events[-1], Failed | Ended)
