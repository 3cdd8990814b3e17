"""Streams: the same at every byte boundary, whole frames passed on, exactly one ending."""

from collections.abc import Iterable

import pytest
from msgspec.json import encode

from penstock.call import Call, Citation, Content, Foreign, Sampling
from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    Logprob,
    LogprobsDelta,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)
from penstock.wire.framing import MAX_FRAME_BYTES
from penstock.wire.openai_responses_stream import ResponsesStreamReader
from penstock.wire.openai_responses_stream_writer import ResponsesStreamWriter

HEAD = {"id": "resp_1", "object": "response", "created_at": 17, "model": "m"}
STARTED = Started("resp_1", "m", 17)


def event(kind: str, *, named: bool = True, **members: object) -> bytes:
    data = encode({"type": kind, "sequence_number": 0, **members})
    return (b"event: " + kind.encode() + b"\n" if named else b"") + b"data: " + data + b"\n\n"


CREATED = event("response.created", response={**HEAD, "status": "in_progress"})


def done(**members: object) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 2}
    return event("response.completed", response={**HEAD, "status": "completed", "usage": usage, **members})


END = (UsageReported(Usage(3, 2)), Finished("stop", "completed"), Ended())


def feed(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    reader = ResponsesStreamReader()
    events: list[Event] = []
    passed = b""
    for piece in pieces:
        events += reader.feed(piece)
        passed += reader.passed
    events += reader.end()
    return events, passed + reader.passed


def say(events: Iterable[Event]) -> list[object]:
    return [(type(e.error), str(e.error)) if isinstance(e, Failed) else e for e in events]


def at_every_split(raw: bytes) -> tuple[list[Event], bytes]:
    events, passed = feed([raw])
    for pieces in ([raw[i : i + 1] for i in range(len(raw))], *([raw[:c], raw[c:]] for c in range(1, len(raw), 9))):
        again, same = feed(pieces)
        assert (say(again), same) == (say(events), passed)
    return events, passed


@pytest.mark.parametrize("named", [True, False])
def test_a_plain_stream(named: bool) -> None:  # noqa: FBT001 - a parameter of the test
    raw = (
        CREATED
        + event("response.output_item.added", output_index=0, item={"type": "message", "content": []})
        + event("response.content_part.added", output_index=0, part={"type": "output_text"})
        + event("response.output_text.delta", named=named, output_index=0, delta="Hé", logprobs=[])
        + b": keep-alive\n\n"
        + event("response.output_text.delta", named=named, output_index=0, delta="", logprobs=[])
        + event("response.output_text.delta", output_index=0, delta="y", logprobs=[{"token": "y", "logprob": -1}])
        + event("response.output_text.annotation.added", annotation={"type": "url_citation", "url": "u"})
        + event("response.output_item.done", output_index=0, item={"type": "message", "content": [{"text": "Héy"}]})
        + event("response.something.new", delta={"any": "shape"}, item=7)
        + done()
    )
    events, passed = at_every_split(raw)
    assert events == [
        STARTED,
        TextDelta("Hé"),
        TextDelta("y"),
        LogprobsDelta((Logprob("y", -1.0),)),
        Cited(Citation("u", dialect="responses", native=b'{"type":"url_citation","url":"u"}')),
        *END,
    ]
    assert passed == raw


def test_thoughts_and_tools() -> None:
    summary = "response.reasoning_summary_text.delta"
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"text": "ab"}, {"text": "c"}], "encrypted_content": "g"}
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""}
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "ls"}
    search = {"type": "web_search_call", "id": "ws"}
    raw = (
        CREATED
        + event(summary, output_index=0, summary_index=0, delta="a")
        + event(summary, output_index=0, summary_index=0, delta="b")
        + event("response.reasoning_text.delta", output_index=0, content_index=0, delta="the same in full")
        + event(summary, output_index=0, summary_index=1, delta="c")
        + event("response.output_item.done", output_index=0, item=item)
        + event("response.output_item.added", output_index=1, item=call)
        + event("response.function_call_arguments.delta", output_index=1, delta="{")
        + event("response.function_call_arguments.delta", output_index=1, delta="}")
        + event("response.function_call_arguments.delta", output_index=9, delta="lost")
        + event("response.output_item.done", output_index=1, item={**call, "arguments": "{}"})
        + event("response.output_item.done", output_index=2, item=custom)
        + event("response.output_item.done", output_index=3, item=search)
        + event("response.output_item.done", output_index=4, item={"type": "reasoning", "summary": []})
        + done()
    )
    assert at_every_split(raw)[0] == [
        STARTED,
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        ReasoningDelta("\n\nc"),
        ReasoningDelta("", "rs_1:g", signer="openai"),
        ToolUseStarted(0, "c1", "f"),
        ToolUseDelta(0, "{"),
        ToolUseDelta(0, "}"),
        ToolUseStarted(1, "c2", "g", "custom"),
        ToolUseDelta(1, "ls"),
        PartAdded(Foreign("responses", "web_search_call", encode(search))),
        UsageReported(Usage(3, 2)),
        Finished("tool_calls", "completed"),
        Ended(),
    ]


def test_an_item_whose_pieces_never_came_is_read_when_it_is_done() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"text": "hm"}]}
    text = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    raw = b"".join(
        event("response.output_item.done", output_index=at, item=item) for at, item in enumerate((thought, text))
    )
    assert at_every_split(raw + done())[0] == [ReasoningDelta("hm"), TextDelta("Hi"), STARTED, *END]


def test_a_refusal_is_one() -> None:
    raw = CREATED + event("response.refusal.delta", output_index=0, delta="no") + done()
    assert at_every_split(raw)[0][1:4:2] == [RefusalDelta("no"), Finished("refusal", "completed")]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (event("error", code="rate_limit_exceeded", message="x", param=None), "upstream_rate_limited"),
        (event("error", error={"type": "invalid_request_error", "message": "x"}), "upstream_rejected"),
        (
            event("response.failed", response={**HEAD, "error": {"code": "server_error", "message": "x"}}),
            "upstream_failed",
        ),
        (event("response.failed", response={**HEAD, "status": "failed"}), "upstream_failed"),
        (b'event: error\ndata: {"message":"x"}\n\n', "upstream_failed"),
        (b'data: {"error":{"message":"x","code":503}}\n\n', "upstream_overloaded"),
        (b"data: {garbage\n\n", "upstream_garbled"),
        (b"data: []\n\n", "upstream_garbled"),
        (b'data: {"type":"response.output_text.delta","delta":7}\n\n', "upstream_garbled"),
        (b'data: {"type":"response.output_item.done","item":7}\n\n', "upstream_garbled"),
        (b'data: {"x":"\xff"}\n\n', "upstream_garbled"),
        (b"data: " + b"[" * 9_999 + b"\n\n", "upstream_garbled"),
    ],
)
def test_a_frame_that_fails_ends_the_stream_and_is_not_passed_on(frame: bytes, code: str) -> None:
    good = CREATED + event("response.output_text.delta", delta="a")
    raw = good + frame + event("response.output_text.delta", delta="b") + done()
    events, passed = at_every_split(raw) if len(raw) < 2_000 else feed([raw])
    assert events[:2] == [STARTED, TextDelta("a")]
    assert isinstance(events[-1], Failed)
    assert events[-1].error.code == code
    assert passed == good


def test_a_stream_without_its_last_event_was_cut() -> None:
    events, passed = at_every_split(CREATED + event("response.output_text.delta", delta="a")[:-1])
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamGarbled)
    assert "stopped before" in str(events[-1].error)
    assert events[:-1] == [STARTED, TextDelta("a")]
    assert passed.startswith(CREATED)


def test_after_the_end_nothing_is_read_or_passed() -> None:
    reader = ResponsesStreamReader()
    raw = CREATED + done()
    events = reader.feed(raw + event("response.output_text.delta", delta="late"))
    assert (events, reader.passed) == ((STARTED, *END), raw)
    assert (reader.feed(b"data: [DONE]\n\n"), reader.passed) == ((), b"")
    assert reader.end() == ()
    whole = ResponsesStreamReader()
    assert whole.feed(raw[:-1]) == (STARTED,)
    assert whole.end() == END


def test_a_frame_without_end_is_a_failure() -> None:
    reader = ResponsesStreamReader()
    events: tuple[Event, ...] = ()
    for _ in range(MAX_FRAME_BYTES // 1_000_000 + 2):
        events += reader.feed(b"data: " + b"x" * 1_000_000)
    assert [type(e) for e in events] == [Failed]
    late = ResponsesStreamReader()
    assert late.feed(CREATED + b"x" * (MAX_FRAME_BYTES + 1)) == (STARTED,)
    assert [type(e) for e in late.end()] == [Failed]


@pytest.mark.parametrize(
    ("asked", "served", "said"),
    [("auto", "priority", "priority"), ("priority", "default", "default"), ("flex", None, None)],
)
def test_the_tier_that_served_a_call_is_told_at_its_end(asked: str, served: str | None, said: str | None) -> None:
    begun = event("response.created", response={**HEAD, "status": "in_progress", "service_tier": asked})
    events, _ = feed([begun, done(service_tier=served)])
    assert (events[0].service_tier, events[1]) == (asked, UsageReported(Usage(3, 2), said))  # type: ignore[union-attr]
    assert fold(events).service_tier == (said or asked)
    call = Call("responses", "m", Sampling(), lambda: Content(()), stream=True)
    again, _ = feed([ResponsesStreamWriter(call).send(events)])
    assert UsageReported(Usage(3, 2), said or asked) in again
