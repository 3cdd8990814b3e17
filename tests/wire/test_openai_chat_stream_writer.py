"""Events become a stream that the official SDK takes, and that is read back the same."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode
from openai.types.chat import ChatCompletionChunk

from penstock.call import Call, Citation
from penstock.errors import UpstreamRejected
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    Logprob,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)
from penstock.wire.framing import SseReader
from penstock.wire.openai_chat_request import read_request
from penstock.wire.openai_chat_stream import ChatStreamReader
from penstock.wire.openai_chat_stream_writer import ChatStreamWriter
from wire.chat_cases import any_reply, body

SEEDS = st.integers(0, 2**64)


def feed(pieces: Iterable[bytes], *, strip_usage: bool = False) -> tuple[list[Event], bytes]:
    """Feed the pieces and the end; give the events and what was passed on."""
    reader = ChatStreamReader(strip_usage=strip_usage)
    events: list[Event] = []
    passed = b""
    for piece in pieces:
        events += reader.feed(piece)
        passed += reader.passed
        assert not passed or passed.endswith((b"\n", b"\r")), "never a part of a frame"
    events += reader.end()
    return events, passed + reader.passed


def asking(*, usage: bool = True) -> Call:
    return read_request(body(stream=True, stream_options={"include_usage": usage}))


def chunks(written: bytes) -> list[dict[str, object]]:
    """The chunks of a written stream, checked against the official SDK's types and what the reference requires."""
    frames = [frame.data for frame in SseReader().feed(written)]
    out: list[dict[str, object]] = [decode(data) for data in frames if data != b"[DONE]"]
    for one in out:
        if "error" in one:
            continue
        ChatCompletionChunk.model_validate(one, strict=False)
        assert {"id", "object", "created", "model", "choices"} <= one.keys()
        for choice in one["choices"]:  # type: ignore[attr-defined]
            assert {"index", "delta", "finish_reason"} <= choice.keys()
    return out


def test_a_stream_is_written_as_openai_writes_it() -> None:
    writer = ChatStreamWriter(asking())
    assert writer.content_type == b"text/event-stream; charset=utf-8"
    assert writer.send([Started("c1", "m", 17, "fp", "default")]) == b""
    first = writer.send([TextDelta("Hi")])
    assert first == (
        b'data: {"id":"c1","object":"chat.completion.chunk","created":17,"model":"m","service_tier":"default","system_fingerprint":"fp",'
        b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
        b'data: {"id":"c1","object":"chat.completion.chunk","created":17,"model":"m","service_tier":"default","system_fingerprint":"fp",'
        b'"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
    )
    assert writer.send([UsageReported(Usage(1, 1)), UsageReported(Usage(5, 2))]) == b""
    rest = writer.send([Finished("stop", "stop"), Ended()])
    last, usage = chunks(rest)
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 7  # type: ignore[index]
    assert rest.endswith(b"data: [DONE]\n\n")


def test_usage_is_written_only_if_asked_for() -> None:
    events = (TextDelta("Hi"), Finished("stop", "stop"), UsageReported(Usage(5, 2)), Ended())
    for call in (asking(usage=False), read_request(body(stream=True))):
        written = ChatStreamWriter(call).send(events)
        assert b"usage" not in written
        assert chunks(written)[0]["model"] == "gpt-4o-mini", "until the provider says its own"
    assert b"usage" in ChatStreamWriter(asking()).send(events)
    assert chunks(ChatStreamWriter(asking()).send([Ended()])) == []
    assert chunks(ChatStreamWriter(asking()).send([UsageReported(Usage()), Ended()]))[0]["choices"] == []


def test_a_failure_is_one_error_event() -> None:
    writer = ChatStreamWriter(asking())
    begun = writer.send([TextDelta("Hi"), UsageReported(Usage(5, 2))])
    failed = writer.send([Failed(UpstreamRejected("No\nway.", status=400)), Ended()])
    frames = [frame.data for frame in SseReader().feed(begun + failed)][2:]
    assert decode(frames[0])["error"]["type"] == "invalid_request_error"
    assert frames[1:] == [b"[DONE]"]


def test_every_event_has_its_place_or_is_left_out() -> None:
    tokens = (Logprob("a", -1.0, (97,), (Logprob("b", -2.0),)),)
    events: list[Event] = [
        ReasoningDelta("hm"),
        ReasoningDelta(signature="s"),
        RefusalDelta("no"),
        LogprobsDelta(tokens, refusal=True),
        TextDelta("x", 1),
        LogprobsDelta(tokens),
        TextDelta("y"),
        LogprobsDelta(tokens),
        LogprobsDelta(tokens),
        AudioDelta("d", "t", "au"),
        AudioDelta(expires_at=9),
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, "{}"),
        ToolUseStarted(1, "b", "run", "custom"),
        ToolUseDelta(1, "ls"),
        ToolUseDelta(2, "lost"),
        ForeignDelta("chat", "annotations", b"[\n1]"),
        ForeignDelta("chat", "choice.stop_reason", b"1"),
        ForeignDelta("messages", "citations", b"1"),
        Finished("refusal", "refusal"),
    ]
    written = ChatStreamWriter(asking()).send(events)
    log = [
        {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0, "bytes": None}]}
    ]
    got = [
        (c["index"], c["delta"], c["logprobs"], c["finish_reason"]) for one in chunks(written) for c in one["choices"]
    ]  # type: ignore[attr-defined]
    content = {"content": log, "refusal": None}
    assert got == [
        (0, {"role": "assistant", "content": None}, None, None),
        (0, {"reasoning_content": "hm"}, None, None),
        (
            0,
            {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]},
            None,
            None,
        ),
        (0, {"refusal": "no"}, {"content": None, "refusal": log}, None),
        (1, {"role": "assistant", "content": ""}, None, None),
        (1, {"content": "x"}, None, None),
        (0, {}, content, None),
        (0, {"content": "y"}, content, None),
        (0, {}, content, None),
        (0, {"audio": {"id": "au", "data": "d", "transcript": "t"}}, None, None),
        (0, {"audio": {"expires_at": 9}}, None, None),
        (
            0,
            {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            None,
            None,
        ),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, None, None),
        (0, {"tool_calls": [{"index": 1, "id": "b", "custom": {"name": "run", "input": ""}}]}, None, None),
        (0, {"tool_calls": [{"index": 1, "custom": {"input": "ls"}}]}, None, None),
        (0, {"tool_calls": [{"index": 2, "function": {"arguments": "lost"}}]}, None, None),
        (0, {"annotations": [1]}, None, None),
        (0, {}, None, "content_filter"),
    ]


def check(seed: int) -> None:
    rng = Random(seed)
    whole = any_reply(rng, streamed=True)
    writer = ChatStreamWriter(asking())
    events = unfold(whole)
    size = rng.randrange(1, len(events) + 1)
    written = b"".join(writer.send(events[at : at + size]) for at in range(0, len(events), size))
    chunks(written)
    cuts = sorted(rng.randrange(len(written)) for _ in range(rng.randrange(9)))
    pieces = [written[a:b] for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)]
    read, passed = feed(pieces)
    assert passed == written
    assert fold(read) == whole


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_and_the_sdk_takes_it(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


def test_sources_are_numbered_so_that_the_sdk_can_join_them() -> None:
    writer = ChatStreamWriter(asking())
    written = writer.send([TextDelta("x"), *[Cited(Citation(f"https://x/{n}", "t")) for n in range(2)]])
    deltas = [one["choices"][0]["delta"] for one in chunks(written)]  # type: ignore[index]
    assert [note["index"] for delta in deltas for note in delta.get("annotations", ())] == [0, 1]


def test_a_late_start_is_taken_over() -> None:
    writer = ChatStreamWriter(asking(usage=False))
    written = writer.send([Started(), Started("c2", "m2", 18), TextDelta("x")])
    assert {(one["id"], one["model"], one["created"]) for one in chunks(written)} == {("c2", "m2", 18)}
