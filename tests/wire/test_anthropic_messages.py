"""The dialect as a whole: recorded replies and requests against snapshots, errors in and out, counts, the list of models.

What stands in `golden/messages` and where it is from says the README there.
`GOLDEN=write pytest tests/wire/test_anthropic_messages.py` writes the snapshots anew: look at the diff.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import anthropic.types as sdk
import httpx2
import pytest
from anthropic.types import ErrorResponse, ModelInfo
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from pydantic import TypeAdapter

from penstock.call import Reasoning, Text, ToolResult, ToolUse
from penstock.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    PenstockError,
    PermissionDenied,
    RateLimited,
    TooLarge,
    Unauthenticated,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.receipt import Usage
from penstock.reply import Choice, Ended, Event, Failed, Reply, fold
from penstock.wire.anthropic_messages import AnthropicMessages
from penstock.wire.dialect import Asked, Dialect, ModelRow
from penstock.wire.framing import SseReader
from penstock.wire.provider_error import MAX_SHOWN_BYTES

GOLDEN = Path(__file__).parent / "golden" / "messages"
REQUESTS = sorted(GOLDEN.glob("*.request.json"))
REPLIES = [path for path in sorted(GOLDEN.glob("*.json")) if path not in REQUESTS]
STREAMS = sorted(GOLDEN.glob("*.sse"))
MESSAGES = AnthropicMessages()
BODY = b'{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"Hi"}]}'
CALL = MESSAGES.read_request(BODY)
EVENT: TypeAdapter[Any] = TypeAdapter(sdk.RawMessageStreamEvent)


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


def streamed(raw: bytes, cuts: list[int]) -> tuple[str, bytes]:
    reader = MESSAGES.stream_reader()
    events: tuple[Event, ...] = ()
    passed = b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        events += reader.feed(raw[start:end])
        passed += reader.passed
    events += reader.end()
    return lines(events), passed + reader.passed


def is_valid_message(json: bytes) -> None:
    """The SDK's own model takes it; blocks and members of its beta interface are left out, which that model does not know."""
    sdk.Message.model_validate(decode(json), strict=False)


# -- recordings --


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    events = MESSAGES.read_reply(raw)
    same(path.with_suffix(".json.events"), lines(events))
    if isinstance(events[0], Failed):
        return
    is_valid_message(raw)
    written = MESSAGES.write_reply(fold(events), CALL)
    same(path.with_suffix(".json.messages"), written + b"\n")
    is_valid_message(written)
    assert fold(MESSAGES.read_reply(written)) == fold(events)


@pytest.mark.parametrize(
    "name", [path.stem for path in REPLIES if path.stem not in {"error", "empty_text", "llamacpp", "llamacpp_server"}]
)
def test_what_is_written_to_a_client_of_the_same_dialect_is_what_came(name: str) -> None:
    """Not even a member is lost; what is null may be left out."""
    raw = decode((GOLDEN / f"{name}.json").read_bytes())
    written = decode(MESSAGES.write_reply(fold(MESSAGES.read_reply(encode(raw))), CALL))
    for block in raw["content"]:
        if block.get("caller") == {"type": "direct"}:
            del block["caller"]  # says nothing
    assert written == raw


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    reader = MESSAGES.stream_reader()
    events = (*reader.feed(raw), *reader.end())
    same(path.with_suffix(".sse.events"), lines(events))
    written = MESSAGES.stream_writer(CALL).send(events)
    same(path.with_suffix(".sse.messages"), written)
    for frame in SseReader().feed(written):
        event = decode(frame.data)
        assert event["type"] == frame.event
        if frame.event != "error" and "compaction" not in str(event):
            EVENT.validate_python(event, strict=False)
    again = MESSAGES.stream_reader()
    reread = fold((*again.feed(written), *again.end()))
    whole = fold(events)
    if whole.error is None:
        assert (reread.choices[0].text, reread.usage, reread.id) == (
            whole.choices[0].text,
            whole.usage or Usage(),
            whole.id,
        )
        assert [type(part) for part in reread.choices[0].parts] == [type(part) for part in whole.choices[0].parts]


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_recorded_stream_is_the_same_at_every_byte_split(path: Path) -> None:
    raw = path.read_bytes()
    whole = streamed(raw, [])
    assert streamed(raw, list(range(1, len(raw)))) == whole
    for cut in range(1, len(raw)):
        assert streamed(raw, [cut]) == whole
    if "Failed" not in whole[0]:
        assert whole[1] == raw


@pytest.mark.parametrize(
    "name", ["text", "parallel_tools", "thinking", "citations", "web_search", "refusal", "length", "cached", "empty"]
)
def test_streams_and_replies_of_the_same_answer_say_the_same(name: str) -> None:
    reader = MESSAGES.stream_reader()
    stream = fold((*reader.feed((GOLDEN / f"{name}.sse").read_bytes()), *reader.end()))
    whole = fold(MESSAGES.read_reply((GOLDEN / f"{name}.json").read_bytes()))
    assert stream.choices[0].parts == whole.choices[0].parts
    assert stream.choices[0].finish == whole.choices[0].finish
    assert stream.usage == whole.usage


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_request_is_read_and_written(path: Path) -> None:
    raw = path.read_bytes()
    call = MESSAGES.read_request(raw)
    shown = "\n".join(map(repr, (call.sampling, call.native, call.user, *call.content.messages)))
    rest = "\n".join(f"{name}={getattr(call.content, name)!r}" for name in call.content.__struct_fields__[1:])
    same(path.with_suffix(".content"), f"{shown}\n{rest}\n")
    written, dropped = MESSAGES.write_request(call, call.model)
    same(path.with_suffix(".messages"), written + repr(dropped).encode() + b"\n")
    assert MESSAGES.read_request(written).content == call.content or dropped


# -- the dialect's verbs --


def test_it_is_a_dialect() -> None:
    checked: Dialect = MESSAGES
    assert (checked.name, checked.stream_type) == ("messages", b"text/event-stream")


def test_a_request_goes_through_the_dialect_both_ways() -> None:
    assert decode(MESSAGES.splice(CALL, "claude-opus-4-8") or b"") == {**decode(BODY), "model": "claude-opus-4-8"}
    written, dropped = MESSAGES.write_request(CALL, "claude-sonnet-4-5")
    assert decode(written) == decode(BODY)
    assert dropped == ()


def test_a_whole_reply_is_tapped_for_its_usage() -> None:
    raw = (GOLDEN / "cached.json").read_bytes()
    assert fold(MESSAGES.tap_reply(raw)).usage == fold(MESSAGES.read_reply(raw)).usage


def test_tokens_are_counted_both_ways() -> None:
    asked = MESSAGES.read_request(
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}', Asked(operation="count")
    )
    assert asked.operation == "count"
    question = decode(MESSAGES.write_count_request(asked, "claude-opus-4-8") or b"")
    assert question == {"model": "claude-opus-4-8", "messages": [{"role": "user", "content": "Hi"}]}
    assert sdk.MessageTokensCount.model_validate(decode(MESSAGES.write_count(7))).input_tokens == 7
    assert MESSAGES.read_count(b'{"input_tokens":12,"context_management":null}') == 12
    for bad in (b"", b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"x"}', b"\xff", b"[" * 5_000):
        with pytest.raises(UpstreamGarbled):
            MESSAGES.read_count(bad)


def test_the_models_are_listed_as_anthropic_lists_them() -> None:
    rows = [ModelRow("fast"), ModelRow("anthropic/claude-opus-4-8", "anthropic", 1_780_000_000, 200_000, 64_000)]
    listed = decode(MESSAGES.write_models(rows))
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("fast", "anthropic/claude-opus-4-8", False)
    assert [ModelInfo.model_validate(row, strict=False).type for row in listed["data"]] == ["model", "model"]
    assert [row["created_at"] for row in listed["data"]] == ["1970-01-01T00:00:00Z", "2026-05-28T20:26:40Z"]
    assert listed["data"][1]["max_input_tokens"] == 200_000
    assert decode(MESSAGES.write_model(ModelRow("x", created=10**18)))["created_at"] == "9999-12-31T23:59:59Z"
    assert decode(MESSAGES.write_models([])) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


# -- the official client --


def sent_by_the_sdk(ask: Callable[[anthropic.Anthropic], object], answer: bytes) -> httpx2.Request:
    """The request that an unchanged client sends, which gets that answer."""
    seen: list[httpx2.Request] = []

    def take(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        kind = "text/event-stream" if answer.startswith(b"event:") else "application/json"
        return httpx2.Response(200, headers={"content-type": kind}, content=answer)

    with (
        httpx2.Client(transport=httpx2.MockTransport(take)) as http,
        anthropic.Anthropic(api_key="x", http_client=http, max_retries=0) as client,
    ):
        ask(client)
    return seen[0]


TOOLS: Any = [
    {"name": "get_weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}, "cache_control": {"type": "ephemeral"}},
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
]  # fmt: skip
HISTORY: Any = [
    {"role": "user", "content": [{"type": "text", "text": "Look", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18"}]},
]  # fmt: skip


def test_what_the_sdk_sends_is_read_without_loss() -> None:
    request = sent_by_the_sdk(
        lambda client: client.messages.create(
            model="claude-opus-4-8",
            max_tokens=2_048,
            messages=HISTORY,
            system=[{"type": "text", "text": "S"}],
            tools=TOOLS,
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            thinking={"type": "adaptive", "display": "summarized"},
            output_config={"effort": "high"},
            stop_sequences=["END"],
            metadata={"user_id": "u"},
            service_tier="auto",
        ),
        (GOLDEN / "text.json").read_bytes(),
    )
    body = request.read()
    call = MESSAGES.read_request(body)
    assert request.url.path == "/v1/messages"
    assert MESSAGES.splice(call, "claude-opus-4-8") is body
    written, dropped = MESSAGES.write_request(call, "claude-opus-4-8")
    sent, again = decode(body), decode(written)
    sent["system"] = "S"
    assert (again, dropped) == (sent, ())


def test_what_the_sdk_streams_and_counts_is_read() -> None:
    def stream(client: anthropic.Anthropic) -> None:
        with client.messages.stream(model="m", max_tokens=9, messages=HISTORY) as stream:
            assert stream.get_final_text().startswith("H")

    request = sent_by_the_sdk(stream, (GOLDEN / "text.sse").read_bytes())
    assert MESSAGES.read_request(request.read()).stream
    counted = sent_by_the_sdk(
        lambda client: client.messages.count_tokens(model="m", messages=HISTORY, system="S", tools=TOOLS[:1]),
        MESSAGES.write_count(3),
    )
    assert counted.url.path == "/v1/messages/count_tokens"
    call = MESSAGES.read_request(counted.read(), Asked(operation="count"))
    assert decode(MESSAGES.write_count_request(call, "m") or b"") == decode(counted.read())
    listed = sent_by_the_sdk(lambda client: list(client.models.list()), MESSAGES.write_models([ModelRow("m")]))
    assert listed.url.path == "/v1/models"


def test_the_sdk_puts_a_recorded_stream_together_as_the_recorded_reply() -> None:
    for name in ("parallel_tools", "thinking", "citations", "web_search"):
        reader = MESSAGES.stream_reader()
        events = (*reader.feed((GOLDEN / f"{name}.sse").read_bytes()), *reader.end())
        got: list[sdk.Message] = []

        def stream(client: anthropic.Anthropic, got: list[sdk.Message] = got) -> None:
            with client.messages.stream(model="m", max_tokens=9, messages=HISTORY) as stream:
                got.append(stream.get_final_message())

        sent_by_the_sdk(stream, MESSAGES.stream_writer(CALL).send(events))
        whole = sdk.Message.model_validate(decode((GOLDEN / f"{name}.json").read_bytes()), strict=False)
        texts = [
            "".join(block.text for block in message.content if block.type == "text") for message in (got[0], whole)
        ]
        assert texts[0] == texts[1]
        others = [[block.model_dump(exclude={"caller"}) for block in message.content if block.type != "text"] for message in (got[0], whole)]  # fmt: skip
        assert others[0] == others[1]
        assert (got[0].stop_reason, got[0].usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


# -- tool loops --


def test_a_tool_loop_of_ten_turns_survives_a_client_of_another_dialect_and_back() -> None:
    """Signed by Google, answered to a client of this dialect, sent back by it: nothing is lost on the way."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Begin"}]
    made: list[tuple[Any, ...]] = []
    for turn in range(10):
        parts = (
            Reasoning(f"thought {turn}", f"r{turn}", signer="google"),
            Text(f"turn {turn}"),
            ToolUse(f"call_{turn}_a", "f", f'{{"n":{turn}}}', signature=f"g{turn}", signer="google"),
            ToolUse(f"call_{turn}_b", "g", "{}"),
        )
        made.append(parts)
        reply = Reply("r", "gemini", choices=(Choice(parts, "tool_calls", "STOP"),))
        message = decode(MESSAGES.write_reply(reply, CALL))
        assert message["stop_reason"] == "tool_use"
        results = [
            {"type": "tool_result", "tool_use_id": f"call_{turn}_{which}", "content": f"{turn}{which}"}
            for which in "ab"
        ]
        messages += [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": results}]
    call = MESSAGES.read_request(encode({"model": "m", "max_tokens": 9, "messages": messages}))
    assert [message.parts for message in call.content.messages if message.role == "assistant"] == made
    got = [part for message in call.content.messages for part in message.parts if isinstance(part, ToolResult)]
    assert [result.id for result in got] == [f"call_{turn}_{which}" for turn in range(10) for which in "ab"]
    assert MESSAGES.splice(call, "claude-opus-4-8") is None
    written, dropped = MESSAGES.write_request(call, "claude-opus-4-8")
    assert dropped == ("reasoning",)
    assert written.count(b'"tool_use"') == written.count(b'"tool_result"') == 20
    assert b"penstock." not in written


# -- errors --

ERRORS: list[tuple[int, dict[str, str], type[UpstreamError], int]] = [
    (400, {"type": "invalid_request_error", "message": "max_tokens: Field required"}, UpstreamRejected, 400),
    (
        400,
        {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."},
        UpstreamAuth,
        502,
    ),
    (401, {"type": "authentication_error", "message": "invalid x-api-key"}, UpstreamAuth, 502),
    (402, {"type": "billing_error", "message": "no money"}, UpstreamAuth, 502),
    (403, {"type": "permission_error", "message": "not allowed"}, UpstreamAuth, 502),
    (404, {"type": "not_found_error", "message": "model: claude-x"}, UpstreamMissing, 502),
    (413, {"type": "request_too_large", "message": "Request exceeds the maximum size"}, UpstreamRejected, 413),
    (429, {"type": "rate_limit_error", "message": "Number of request tokens has exceeded"}, UpstreamRateLimited, 429),
    (500, {"type": "api_error", "message": "Internal server error"}, UpstreamFailed, 502),
    (504, {"type": "timeout_error", "message": "Timed out"}, UpstreamFailed, 502),
    (529, {"type": "overloaded_error", "message": "Overloaded"}, UpstreamOverloaded, 529),
]


@pytest.mark.parametrize(("status", "said", "kind", "seen"), ERRORS)
def test_an_error_is_classified(status: int, said: dict[str, str], kind: type[UpstreamError], seen: int) -> None:
    raw = encode({"type": "error", "error": said, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"})
    error = MESSAGES.read_error(status, raw)
    assert (type(error), error.status) == (kind, seen)
    out = decode(MESSAGES.write_error(error))
    ErrorResponse.model_validate(out, strict=False) if out["error"]["type"] != "request_too_large" else None
    if kind is UpstreamRejected:
        assert (error.body, error.dialect, out["error"]) == (raw, "messages", said)
    else:
        assert error.body == b""


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 16000 > 200000, decrease input length",
    ],
)
def test_an_overflow_is_known_by_its_words(message: str) -> None:
    raw = encode({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    assert "context window" in str(MESSAGES.read_error(400, raw))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (Unauthenticated("x"), "authentication_error"),
        (BudgetExhausted("x"), "billing_error"),
        (PermissionDenied("x"), "permission_error"),
        (NotFound("x"), "not_found_error"),
        (TooLarge("x"), "request_too_large"),
        (RateLimited("x"), "rate_limit_error"),
        (Internal("x"), "api_error"),
        (UpstreamFailed("x"), "api_error"),
        (DeadlineExceeded("x"), "timeout_error"),
        (Overloaded("x"), "overloaded_error"),
        (UpstreamOverloaded("x", status=529), "overloaded_error"),
        (UpstreamRejected("x", status=422), "invalid_request_error"),
        (PenstockError("x", status=507), "api_error"),
    ],
)
def test_an_error_has_the_type_that_the_sdk_knows_for_its_status(error: PenstockError, kind: str) -> None:
    error.hint, error.call_id = "Do that.", "0199-call"
    assert decode(MESSAGES.write_error(error)) == {
        "type": "error",
        "error": {"type": kind, "message": "x Do that."},
        "request_id": "0199-call",
    }
    assert MESSAGES.error_headers(error) == ((b"request-id", b"0199-call"),)
    error.call_id = ""
    assert MESSAGES.error_headers(error) == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b'{"detail":"no"}',
        b'{"error":"text"}',
        b'{"error":{"type":"x","message":"not of this dialect"}}',
        b'{"type":"error","error":{"type":"x","message":1}}',
        b'{"type":"error","error":{"type":"x","message":"\xff"}}',
        b'{"type":"error","error":{"type":"x","message":"key sk-ant-abcdefgh12345678 is bad"}}',
        b'{"type":"error","error":{"type":"x","message":"' + b"x " * MAX_SHOWN_BYTES + b'"}}',
        b'{"type":"error","error":{"type":"x","message":"x","deep":' + b"[" * 5_000,
    ],
)
def test_a_body_that_may_not_be_shown_is_replaced(raw: bytes) -> None:
    error = MESSAGES.read_error(400, raw)
    assert error.body == b""
    out = decode(MESSAGES.write_error(error))["error"]
    assert out["type"] == "invalid_request_error"
    assert len(out["message"]) < 1_000
    assert "sk-ant-abcdefgh" not in out["message"]


def test_an_overflow_of_llamacpp_becomes_an_error_of_this_dialect() -> None:
    raw = b'{"error":{"code":400,"message":"request (36017 tokens) exceeds the available context size (1024 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":36017,"n_ctx":1024}}'
    error = MESSAGES.read_error(400, raw)
    assert "context window" in str(error)
    assert decode(MESSAGES.write_error(error))["type"] == "error"


@settings(max_examples=2_000, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=60), st.text('{}[]":,\\ud8errormsagcoti 012', max_size=60).map(str.encode)),
    status=st.integers(100, 599),
)
def test_any_bytes_give_only_the_declared_errors(data: bytes, status: int) -> None:
    verbs = (
        (MESSAGES.read_request, InvalidRequest),
        (MESSAGES.read_reply, UpstreamGarbled),
        (MESSAGES.tap_reply, UpstreamGarbled),
        (MESSAGES.read_count, UpstreamGarbled),
    )
    for verb, declared in verbs:
        with suppress(declared):
            verb(data)  # type: ignore[operator]  # each takes bytes
    assert isinstance(MESSAGES.read_error(status, data), UpstreamError)
    reader = MESSAGES.stream_reader()
    events = (*reader.feed(data), *reader.end())
    assert isinstance(events[-1], Failed | Ended)


@settings(max_examples=1_500, deadline=None)
@given(st.data())
def test_a_damaged_recording_gives_only_the_declared_errors(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*REQUESTS, *REPLIES, *STREAMS]))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(st.sampled_from([b"", b"null", b"[]", b"{}", b"1", b'"', b"}", b"\xff", b'"x"', b"\\"]))
        raw[at : at + data.draw(st.integers(0, 9))] = piece
    if path in REQUESTS:
        with suppress(InvalidRequest):
            call = MESSAGES.read_request(bytes(raw))
            MESSAGES.write_request(call, "claude-sonnet-4-5")
            MESSAGES.splice(call, "m")
    elif path in REPLIES:
        with suppress(UpstreamGarbled):
            MESSAGES.write_reply(fold(MESSAGES.read_reply(bytes(raw))), CALL)
        with suppress(UpstreamGarbled):
            MESSAGES.tap_reply(bytes(raw))
    else:
        reader = MESSAGES.stream_reader()
        events = (*reader.feed(bytes(raw)), *reader.end())
        assert isinstance(events[-1], Failed | Ended)
        assert sum(isinstance(event, Failed | Ended) for event in events) == 1
        MESSAGES.stream_writer(CALL).send(events)
