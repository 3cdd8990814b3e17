"""Streams read: the same at every byte boundary, whole frames passed on, exactly one ending, blocks only when they are whole."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.call import Citation, Foreign, Reasoning, Text, ToolUse
from penstock.errors import UpstreamError, UpstreamGarbled, UpstreamOverloaded, UpstreamRateLimited
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    PartAdded,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)
from penstock.wire.anthropic_messages_stream import MessagesStreamReader
from penstock.wire.framing import MAX_FRAME_BYTES
from penstock.wire.signatures import carry

START = {
    "type": "message_start",
    "message": {"id": "m", "model": "c", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}


def frame(event: dict[str, Any] | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    return f"event: {event['type']}\n".encode() + b"data: " + encode(event) + b"\n\n"


def begin(index: int = 0, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(kind: str, index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def close(index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def feed(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """Feed the pieces and the end; give the events and what was passed on."""
    reader = MessagesStreamReader()
    events: list[Event] = []
    passed = b""
    for piece in pieces:
        events += reader.feed(piece)
        passed += reader.passed
        assert not passed or passed.endswith((b"\n", b"\r")), "never a part of a frame"
    events += reader.end()
    return events, passed + reader.passed


def read(*events: dict[str, Any] | bytes) -> list[Event]:
    return feed([b"".join(map(frame, events))])[0]


def choice(*events: dict[str, Any] | bytes) -> Choice:
    return fold(read(START, *events, END, STOP)).choices[0]


# -- the message --


def test_a_plain_stream() -> None:
    raw = b"".join(
        map(
            frame,
            [START, {"type": "ping"}, begin(type="text", text=""), more("text_delta", text="Hi"), close(), END, STOP],
        )
    )
    expected = [
        Started("m", "c"),
        UsageReported(Usage(5, 1)),
        TextDelta("Hi"),
        Finished("stop", "end_turn"),
        UsageReported(Usage(5, 7)),
        Ended(),
    ]
    assert feed([raw]) == (expected, raw)
    assert feed(raw[i : i + 1] for i in range(len(raw))) == (expected, raw)
    crlf = raw.replace(b"\n", b"\r\n")
    assert feed([crlf]) == (expected, crlf)
    assert feed(crlf[i : i + 1] for i in range(len(crlf))) == (expected, crlf)
    cr = raw.replace(b"\n", b"\r")
    assert feed(cr[i : i + 1] for i in range(len(cr))) == (expected, cr)


def test_nothing_passes_after_the_end_mark() -> None:
    raw = frame(START) + frame(STOP)
    events, passed = feed([raw + b"data: [DONE]\n\n", b"data: more\n\n", b""])
    assert (events[-1], passed) == (Ended(), raw)


def test_later_counts_replace_earlier_ones_and_leave_the_rest() -> None:
    head = {"usage": {"input_tokens": 5, "cache_read_input_tokens": 10, "service_tier": "standard", "speed": "fast"}}
    end = {**END, "usage": {"output_tokens": 9, "input_tokens": None, "server_tool_use": {"web_search_requests": 2}}}
    reply = fold(
        read({"type": "message_start", "message": head}, end, {**END, "usage": 5}, {**END, "usage": None}, STOP)
    )
    assert reply.usage == Usage(15, 9, 10)
    assert (reply.service_tier, dict(reply.extra)) == ("default", {"usage": b'{"speed":"fast"}'})
    assert reply.choices[0].foreign[0] == ForeignDelta(
        "messages", "usage", b'{"server_tool_use":{"web_search_requests":2}}'
    )


def test_half_a_count_is_none() -> None:
    assert read(END, STOP) == [Finished("stop", "end_turn"), Ended()]


def test_the_ending_is_told_once_and_with_all_that_was_said() -> None:
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END", "container": {"id": "c"}},
        "context_management": {"applied_edits": [1]},
    }
    events = read(START, START, end, END, {"type": "message_delta", "delta": None}, STOP)
    assert [event for event in events if isinstance(event, Finished)] == [Finished("stop", "stop_sequence")]
    assert [event for event in events if isinstance(event, Started)] == [Started("m", "c")]
    assert {event.name for event in events if isinstance(event, ForeignDelta)} == {
        "stop_sequence",
        "container",
        "context_management",
    }


def test_a_stream_that_says_little_is_read() -> None:
    assert read({"type": "message_start"}, STOP) == [Ended()]
    assert read({"type": "content_block_delta"}, close(3), STOP) == [Ended()]


# -- blocks --


def test_text_and_thoughts_come_as_they_come() -> None:
    assert read(
        begin(type="thinking", thinking="a", signature=""),
        more("thinking_delta", thinking="b"),
        more("thinking_delta", thinking=""),
        more("signature_delta", signature="s1"),
        more("signature_delta", signature="s2"),
        close(),
        begin(1, type="redacted_thinking", data="d"),
        close(1),
        begin(2, type="text", text="H"),
        more("text_delta", 2, text=""),
        more("text_delta", 2, text="i"),
        close(2),
        STOP,
    ) == [
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        ReasoningDelta("", "s2", signer="anthropic"),
        ReasoningDelta("", "d", redacted=True, signer="anthropic"),
        TextDelta("H"),
        TextDelta("i"),
        Ended(),
    ]


def test_thoughts_of_another_family_keep_their_signer() -> None:
    events = read(
        begin(type="thinking"), more("signature_delta", signature=carry("s", "openai", "anthropic")), close(), STOP
    )
    assert events[0] == ReasoningDelta("", "s", signer="openai")


def test_tool_calls_are_numbered_and_their_arguments_are_never_missing() -> None:
    events = read(
        begin(type="tool_use", id="a", name="f", input={}),
        more("input_json_delta", partial_json=""),
        more("input_json_delta", partial_json='{"x":'),
        more("input_json_delta", partial_json="1}"),
        close(),
        begin(1, type="tool_use", id="b", name="g", input={"y": 2}),
        close(1),
        begin(2, type="tool_use", id="c", name="h", caller={"type": "x"}),
        STOP,
    )
    assert events == [
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, '{"x":'),
        ToolUseDelta(0, "1}"),
        ToolUseStarted(1, "b", "g"),
        ToolUseDelta(1, '{"y":2}'),
        ForeignDelta("messages", "tool_use.2", b'{"caller":{"type":"x"}}'),
        ToolUseStarted(2, "c", "h"),
        ToolUseDelta(2, "{}"),
        Ended(),
    ]


def test_the_signature_of_a_tool_call_comes_back_to_it() -> None:
    mark = begin(type="redacted_thinking", data=carry("s", "google", "anthropic"))
    said = choice(mark, close(), begin(1, type="tool_use", id="a", name="f"), close(1))
    assert said.parts == (ToolUse("a", "f", "{}", signature="s", signer="google"),)


def test_citations_say_where_they_hold() -> None:
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0}
    said = choice(
        begin(type="text", text=""),
        more("text_delta", text="One. "),
        close(),
        begin(1, type="text", text="", citations=[citation]),
        more("citations_delta", 1, citation=citation),
        more("text_delta", 1, text="Two."),
        close(1),
    )
    native = encode(citation)
    cited = Citation(None, None, "x", 5, 9, 0, None, "messages", native)
    assert said.parts == (Text("One. Two.", (), (cited, cited)),)


def test_blocks_that_only_this_dialect_knows_wait_until_they_are_whole() -> None:
    events = read(
        begin(type="server_tool_use", id="s", name="web_search", input={}),
        more("input_json_delta", partial_json='{"query":'),
        more("input_json_delta", partial_json='"x"}'),
        close(),
        begin(1, type="web_search_tool_result", content=[1]),
        close(1),
        begin(2, type="compaction", content=None, n=1),
        more("compaction_delta", 2, content="a", n=2),
        more("compaction_delta", 2, content="b"),
        STOP,
    )
    assert events == [
        PartAdded(Foreign("messages", "server_tool_use", b'{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}}')),
        PartAdded(Foreign("messages", "web_search_tool_result", b'{"type":"web_search_tool_result","content":[1]}')),
        PartAdded(Foreign("messages", "compaction", b'{"type":"compaction","content":"ab","n":2}')),
        Ended(),
    ]  # fmt: skip


def test_a_block_that_was_never_opened_or_never_closed_is_read_all_the_same() -> None:
    assert read(more("text_delta", text="x"), more("thinking_delta", 1, thinking="t"), more("later", 2, x=1), STOP) == [
        TextDelta("x"),
        ReasoningDelta("t"),
        Ended(),
    ]
    said = choice(
        begin(type="text"), more("text_delta", text="x"), begin(type="thinking"), more("signature_delta", signature="s")
    )
    assert said.parts == (Text("x"), Reasoning("", "s", signer="anthropic"))


# -- failures --


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, UpstreamOverloaded),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}}, UpstreamRateLimited),
        (b'event: error\ndata: {"error":{"type":"overloaded_error"}}\n\n', UpstreamOverloaded),
        ({"type": "error"}, UpstreamError),
        (b"data: not json\n\n", UpstreamGarbled),
        (b"data: [1]\n\n", UpstreamGarbled),
        (b'data: {"type":"ping","x":"\xff"}\n\n', UpstreamGarbled),
        (begin(type="text", text=1), UpstreamGarbled),
        ({"type": "message_delta", "delta": 1}, UpstreamGarbled),
        ({"type": "message_delta", "delta": "xxxxx"}, UpstreamGarbled),
        (b"data: " + b"[" * 9_999 + b"\n\n", UpstreamGarbled),
    ],
)
def test_a_frame_that_fails_ends_the_stream_and_is_not_passed(event: Any, kind: type[UpstreamError]) -> None:
    before = frame(begin(type="text")) + frame(more("text_delta", text="Hel"))
    reader = MessagesStreamReader()
    events = reader.feed(before + frame(event) + frame(more("text_delta", text="lo")))
    assert events[0] == TextDelta("Hel")
    assert len(events) == 2
    assert isinstance(events[1], Failed)
    assert isinstance(events[1].error, kind)
    assert reader.passed == before
    assert (reader.feed(frame(STOP)), reader.passed, reader.end(), reader.passed) == ((), b"", (), b"")


def test_an_overload_in_the_stream_keeps_its_number() -> None:
    failed = read({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})[-1]
    assert isinstance(failed, Failed)
    assert failed.error.status == 529
    assert str(failed.error) == "The provider ended its reply with an error: Overloaded"


@pytest.mark.parametrize("tail", [b"", b"event: mess", frame(END)[:-1], b'data: {"type":', b"event: message_stop\n"])
def test_a_stream_without_its_end_mark_was_cut(tail: bytes) -> None:
    events, _ = feed([frame(START) + tail])
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamGarbled)
    assert "message_stop" in str(failed.error)
    assert sum(isinstance(event, Failed | Ended) for event in events) == 1


def test_an_end_mark_or_an_error_without_its_blank_line_is_one() -> None:
    assert feed([frame(STOP)[:-2]])[0] == [Ended()]
    failed = feed([frame({"type": "error", "error": {"type": "overloaded_error"}})[:-2]])[0][-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamOverloaded)


def test_memory_is_bounded() -> None:
    big = "x" * (MAX_FRAME_BYTES // 2)
    events = read(
        begin(type="later"), more("later_delta", a=big), more("later_delta", a=big), more("later_delta", a=big), STOP
    )
    assert isinstance(events[-1], Failed)
    assert "exceeds" in str(events[-1].error)
    reader = MessagesStreamReader()
    failed = reader.feed(b"data: " + b"x" * (MAX_FRAME_BYTES + 1))
    assert isinstance(failed[0], Failed)
    reader = MessagesStreamReader()
    failed = (*reader.feed(frame(START) + b"data: " + b"x" * (MAX_FRAME_BYTES + 1)), *reader.end())
    assert isinstance(failed[-1], Failed)
    assert sum(isinstance(event, Failed) for event in failed) == 1


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([frame(START), frame(begin(type="text")), frame(more("text_delta", text="h\u00e9\u2028")), frame(begin(1, type="tool_use", id="a", name="f")), frame(more("input_json_delta", 1, partial_json="{}")), frame(close()), frame(END), b": ping\n\n", b"\r\n"]), max_size=8), st.lists(st.integers(0, 900), max_size=5))  # fmt: skip
def test_any_order_of_events_is_read_the_same_however_it_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(frames) + frame(STOP)
    at = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    pieces = [raw[a:b] for a, b in pairwise(at)]
    assert feed(pieces) == feed([raw])
    assert feed([raw])[0][-1] == Ended()
