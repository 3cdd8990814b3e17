"""Streams: the same at every byte boundary, whole frames passed on, exactly one ending, and nothing the SDK would not take."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.call import Citation, Image
from penstock.errors import UpstreamGarbled
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
from penstock.wire.openai_chat_stream import ChatStreamReader

SEEDS = st.integers(0, 2**64)
HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 17, "model": "m"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
STARTED = Started("c1", "m", 17)
DONE = b"data: [DONE]\n\n"


def chunk(*choices: dict[str, object], **members: object) -> bytes:
    return b"data: " + encode({**HEAD, "choices": choices, **members}) + b"\n\n"


def delta(index: int = 0, finish: str | None = None, **members: object) -> dict[str, object]:
    return {"index": index, "delta": members, "logprobs": None, "finish_reason": finish}


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


def say(events: Iterable[Event]) -> list[object]:
    """Events in a form that can be compared: errors by type and text."""
    return [(type(e.error), str(e.error)) if isinstance(e, Failed) else e for e in events]


def at_every_split(raw: bytes, *, strip_usage: bool = False) -> tuple[list[Event], bytes]:
    """Feed the stream whole, byte by byte and cut once at every place; give what all of them gave."""
    events, passed = feed([raw], strip_usage=strip_usage)
    cuts = [[raw[:cut], raw[cut:]] for cut in range(1, len(raw), max(1, len(raw) // 600))]
    for pieces in ([raw[i : i + 1] for i in range(len(raw))], *cuts):
        again, same = feed(pieces, strip_usage=strip_usage)
        assert say(again) == say(events)
        assert same == passed
    return events, passed


# -- reading --


def test_a_plain_stream() -> None:
    raw = (
        chunk(delta(role="assistant", content="", refusal=None), usage=None)
        + chunk(delta(content="Hel"), usage=None, obfuscation="x7Hq")
        + b": keep-alive\n\n"
        + chunk(delta(content="lo"), usage=None)
        + chunk(delta(finish="stop"), usage=None)
        + chunk(usage=USAGE)
        + DONE
    )
    events, passed = at_every_split(raw)
    assert events == [
        STARTED,
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished("stop", "stop"),
        UsageReported(Usage(5, 2)),
        Ended(),
    ]
    assert passed == raw


def test_whole_frames_are_passed_as_the_object_that_came() -> None:
    reader = ChatStreamReader(strip_usage=False)
    for data in (chunk(delta(content="a")), chunk(delta(content="b")) + chunk(delta(content="c")), DONE):
        reader.feed(data)
        assert reader.passed is data


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_the_usage_that_we_asked_for_is_cut_out(line_end: bytes) -> None:
    before = chunk(delta(content="a"), usage=None) + b": ping\n\n" + chunk(delta(finish="stop"), usage=None)
    raw, kept = (part.replace(b"\n", line_end) for part in (before + chunk(usage=USAGE) + DONE, before + DONE))
    events, passed = at_every_split(raw, strip_usage=True)
    assert passed == kept
    assert UsageReported(Usage(5, 2)) in events
    assert at_every_split(raw)[1] == raw


def test_usage_that_rides_in_a_content_chunk_stays() -> None:
    raw = chunk(delta(content="a", finish="stop"), usage=USAGE) + chunk(usage={"prompt_tokens": "?"}) + DONE
    events, passed = at_every_split(raw, strip_usage=True)
    assert passed == chunk(delta(content="a", finish="stop"), usage=USAGE) + DONE
    assert events.count(UsageReported(Usage(5, 2))) == 1


def test_two_usage_frames_are_both_cut_out() -> None:
    raw = chunk(usage=USAGE) + chunk(delta(content="a")) + chunk(usage=USAGE) + DONE
    assert at_every_split(raw, strip_usage=True)[1] == chunk(delta(content="a")) + DONE


def test_azures_filter_results_come_before_the_start() -> None:
    first = b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
    events, _ = at_every_split(first + chunk(delta(content="a"), system_fingerprint="fp") + DONE)
    assert events == [Started("c1", "m", 17, "fp"), TextDelta("a"), Ended()]


def test_a_server_that_names_itself_late_or_never_has_started_all_the_same() -> None:
    unnamed = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    assert at_every_split(unnamed + unnamed + DONE)[0] == [Started(), TextDelta("a"), TextDelta("a"), Ended()]
    events, _ = at_every_split(unnamed + chunk(delta(content="b")) + DONE)
    assert events == [Started(), TextDelta("a"), STARTED, TextDelta("b"), Ended()]
    assert fold(events).id == "c1"


def test_several_choices_and_reasoning_under_both_names() -> None:
    raw = (
        chunk(delta(0, reasoning_content="hm"), delta(1, reasoning="ah"))
        + chunk(delta(1, content="b"), delta(0, content=[{"type": "text", "text": "a"}]))
        + chunk(delta(0, "stop"), {"index": 1, "finish_reason": "length"}, {"index": 1})
        + DONE
    )
    events, _ = at_every_split(raw)
    assert events[1:] == [
        ReasoningDelta("hm"),
        ReasoningDelta("ah", choice=1),
        TextDelta("b", 1),
        TextDelta("a"),
        Finished("stop", "stop"),
        Finished("length", "length", 1),
        Ended(),
    ]


def tool(
    index: int | None, ident: str | None = None, name: str | None = None, arguments: str | None = None
) -> dict[str, object]:
    call: dict[str, object] = {"function": {"name": name, "arguments": arguments}}
    return (
        call
        | ({} if index is None else {"index": index})
        | ({} if ident is None else {"id": ident, "type": "function"})
    )


def test_parallel_tool_calls_by_index() -> None:
    raw = b"".join(
        chunk(delta(tool_calls=[call]))
        for call in (
            tool(0, "a", "f", ""),
            tool(0, None, None, '{"x"'),
            tool(1, "b", "g", ""),
            tool(0, None, None, ":1}"),
            tool(1, "b", "g", "{}"),
        )
    )
    events, _ = at_every_split(raw + chunk(delta(finish="tool_calls")) + DONE)
    assert events[1:-2] == [
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, '{"x"'),
        ToolUseStarted(1, "b", "g"),
        ToolUseDelta(0, ":1}"),
        ToolUseDelta(1, "{}"),
    ]


@pytest.mark.parametrize(
    ("calls", "events"),
    [
        # one index for all (Gemini's compatible endpoint): a new id begins a new call
        (
            [tool(0, "a", "f", "{}"), tool(0, "b", "g", "[]")],
            [ToolUseStarted(0, "a", "f"), ToolUseDelta(0, "{}"), ToolUseStarted(1, "b", "g"), ToolUseDelta(1, "[]")],
        ),
        # no index at all
        (
            [tool(None, "a", "f", ""), tool(None, None, None, "{}"), tool(None, "b", "g", "[]")],
            [ToolUseStarted(0, "a", "f"), ToolUseDelta(0, "{}"), ToolUseStarted(1, "b", "g"), ToolUseDelta(1, "[]")],
        ),
        # no id either
        ([tool(0, None, "f", "{}")], [ToolUseStarted(0, "call_c1_0_0", "f"), ToolUseDelta(0, "{}")]),
        ([tool(None, "", "f", "{}")], [ToolUseStarted(0, "call_c1_0_0", "f"), ToolUseDelta(0, "{}")]),
        # arguments as an object
        (
            [{"index": 3, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}],
            [ToolUseStarted(0, "a", "f"), ToolUseDelta(0, '{"x":1}')],
        ),
        # a custom tool
        (
            [{"index": 0, "id": "a", "custom": {"name": "run", "input": ""}}, {"index": 0, "custom": {"input": "ls"}}],
            [ToolUseStarted(0, "a", "run", "custom"), ToolUseDelta(0, "ls")],
        ),
    ],
)
def test_tool_calls_as_servers_send_them(calls: list[dict[str, object]], events: list[Event]) -> None:
    raw = b"".join(chunk(delta(tool_calls=[call])) for call in calls)
    assert at_every_split(raw + DONE)[0][1:-1] == events


def test_a_deprecated_function_call_streams_too() -> None:
    raw = (
        chunk(delta(function_call={"name": "f", "arguments": ""}))
        + chunk(delta(function_call={"arguments": "{}"}))
        + DONE
    )
    assert at_every_split(raw)[0][1:-1] == [ToolUseStarted(0, "function_call-0", "f"), ToolUseDelta(0, "{}")]


def test_refusals_audio_annotations_and_log_probabilities() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": []}], "refusal": None}
    raw = (
        chunk({**delta(content="a"), "logprobs": logprobs}, {"index": 1, "logprobs": logprobs})
        + chunk(delta(refusal="no", tool_calls=None))
        + chunk(delta(audio={"id": "au", "data": "aGk="}), delta(audio={"transcript": "hi", "expires_at": 9}))
        + chunk(delta(annotations=[{"type": "url_citation"}]), delta(annotations=[]))
        + DONE
    )
    tokens = (Logprob("a", -1.5, (97,)),)
    assert at_every_split(raw)[0][1:-1] == [
        TextDelta("a"),
        LogprobsDelta(tokens),
        LogprobsDelta(tokens, choice=1),
        RefusalDelta("no"),
        AudioDelta("aGk=", "", "au"),
        AudioDelta("", "hi", None, 9),
        Cited(Citation(dialect="chat", native=b'{"type":"url_citation"}')),
    ]


def test_an_ending_that_is_said_twice_counts_once() -> None:
    raw = chunk(delta(finish="stop")) + chunk(delta(finish="stop"), usage=USAGE) + DONE
    assert at_every_split(raw)[0] == [STARTED, Finished("stop", "stop"), UsageReported(Usage(5, 2)), Ended()]


# -- endings --


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b'data: {"error":{"message":"slow down","code":429}}\n\n', "upstream_rate_limited"),
        (b'data: {"error":"broken"}\n\n', "upstream_failed"),
        (b'event: error\ndata: {"message":"bad","type":"invalid_request_error"}\n\n', "upstream_rejected"),
        (
            b'event: error\ndata: {"error":{"message":"key sk-abcdefgh12345678 is bad","type":"authentication_error"}}\n\n',
            "upstream_auth",
        ),
        (chunk(delta(finish="error"), error={"code": 502, "message": "x"}), "upstream_failed"),
        (b"data: {garbage\n\n", "upstream_garbled"),
        (b"data: \n\n", "upstream_garbled"),
        (b"data: []\n\n", "upstream_garbled"),
        (b'data: {"choices":[{"delta":{"content":7}}]}\n\n', "upstream_garbled"),
        (b'data: {"choices":"\xff"}\n\n', "upstream_garbled"),
        (b'data: {"x":"\xff"}\n\n', "upstream_garbled"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "upstream_garbled"),
        (b'data: {"choices":[],"error":' + b"[" * 2_000 + b"]" * 2_000 + b"}\n\n", "upstream_garbled"),
    ],
)
def test_a_frame_that_fails_ends_the_stream_and_is_not_passed_on(frame: bytes, code: str) -> None:
    good = chunk(delta(content="a"))
    raw = good + frame + chunk(delta(content="b")) + DONE
    events, passed = at_every_split(raw) if len(raw) < 2_000 else feed([raw])
    assert events[:-1] == [STARTED, TextDelta("a")]
    assert isinstance(events[-1], Failed)
    assert events[-1].error.code == code
    assert "sk-abcdefgh" not in str(events[-1].error)
    assert passed == good


def test_a_named_event_that_is_no_error_is_read_like_any_other() -> None:
    raw = b"event: message\n" + chunk(delta(content="a")) + DONE
    assert at_every_split(raw)[0] == [STARTED, TextDelta("a"), Ended()]


@pytest.mark.parametrize(
    "tail", [b"", b'data: {"id":"c1","cho', b": ping", b"data: [DON", chunk(delta(content="b"))[:-2]]
)
def test_a_stream_without_its_end_mark_was_cut(tail: bytes) -> None:
    good = chunk(delta(content="a"))
    events, passed = at_every_split(good + tail)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamGarbled)
    assert "stopped before its end mark" in str(events[-1].error)
    assert sum(isinstance(event, Failed) for event in events) == 1
    whole = tail == chunk(delta(content="b"))[:-2]
    assert passed == good + (tail + b"\n\n" if whole else b""), "only whole frames"
    assert events[:-1] == [STARTED, TextDelta("a"), *([TextDelta("b")] if whole else [])]


def test_an_error_without_a_blank_line_behind_it_is_still_that_error() -> None:
    events, passed = at_every_split(chunk(delta(content="a")) + b'data: {"error":{"message":"x","code":503}}')
    assert isinstance(events[-1], Failed)
    assert events[-1].error.status == 503
    assert passed == chunk(delta(content="a"))


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r\n", b"\n\n", b"\n\n\n"])
def test_the_end_mark_needs_no_blank_line(tail: bytes) -> None:
    good = chunk(delta(content="a"))
    events, passed = at_every_split(good + b"data: [DONE]" + tail)
    assert events == [STARTED, TextDelta("a"), Ended()]
    assert passed.startswith(good + b"data: [DONE]")


def test_after_the_end_nothing_is_read_or_passed() -> None:
    reader = ChatStreamReader(strip_usage=False)
    reader.feed(DONE + chunk(delta(content="late")))
    assert reader.passed == DONE
    assert reader.feed(chunk(delta(content="later"))) == ()
    assert reader.passed == b""
    assert reader.end() == ()


def test_a_frame_without_end_is_a_failure() -> None:
    reader = ChatStreamReader(strip_usage=False)
    reader.feed(chunk(delta(content="a")))
    events: tuple[Event, ...] = ()
    for _ in range(MAX_FRAME_BYTES // 1_000_000 + 2):
        events += reader.feed(b"data: " + b"x" * 1_000_000)
        assert reader.passed == b""
    assert [type(event) for event in events] == [Failed]
    assert reader.end() == ()


def test_a_frame_without_end_fails_at_the_end_at_the_latest() -> None:
    reader = ChatStreamReader(strip_usage=False)
    events = reader.feed(DONE.replace(b"[DONE]", b'{"choices":[{}]}') + b"x" * (MAX_FRAME_BYTES + 1))
    assert [type(event) for event in events] == [Started]
    assert [type(event) for event in reader.end()] == [Failed]
    assert reader.passed == b""


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_any_bytes_give_events_and_never_raise(seed: int) -> None:
    rng = Random(seed)
    good = chunk(delta(content="a")) + chunk(delta(tool_calls=[tool(0, "a", "f", "{}")])) + chunk(usage=USAGE) + DONE
    data = bytearray(good)
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(data))
        data[at : at + rng.randrange(20)] = rng.choice(
            (b"\n\n", b"\r", b"data: ", b"{", b"null", b"\xff", b"[", b"event: error\n", b"7")
        )
    raw = bytes(data) if rng.random() < 0.9 else rng.randbytes(50)
    strip = rng.random() < 0.5
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
    events, passed = feed([raw], strip_usage=strip)
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    again, same = feed(pieces, strip_usage=strip)
    assert (say(again), same) == (say(events), passed)
    endings = [event for event in events if isinstance(event, Failed | Ended)]
    assert len(endings) == 1
    assert events[-1] is endings[0]


def test_thoughts_with_their_signatures_and_those_that_nobody_knows() -> None:
    def details(*entries: dict[str, object]) -> bytes:
        return chunk(delta(reasoning_details=list(entries)))

    known = {"type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1"}
    raw = (
        chunk(delta(reasoning_content="a"))
        + chunk(delta(reasoning="b"))
        + details({**known, "text": "ab"})
        + details({"type": "reasoning.new"})
        + chunk(delta(images=[{"image_url": {"url": "https://x"}}]), delta(images=[7]))
        + chunk(delta(content=[{"type": "text", "text": "c"}]))
        + DONE
    )
    assert at_every_split(raw)[0] == [
        STARTED,
        ReasoningDelta("a"),
        ReasoningDelta("b"),
        ReasoningDelta("", "s", signer="anthropic"),
        ForeignDelta("chat", "reasoning_details", b'[{"type":"reasoning.new"}]'),
        PartAdded(Image("https://x")),
        ForeignDelta("chat", "images", b"[7]"),
        TextDelta("c"),
        Ended(),
    ]


def test_a_tier_that_only_the_last_chunk_tells_is_told_with_the_count() -> None:
    counted = chunk(service_tier="flex", usage={"prompt_tokens": 3, "completion_tokens": 2})
    events, _ = feed([chunk(delta(content="Hi", finish="stop")), counted, DONE])
    assert UsageReported(Usage(3, 2), "flex") in events
    assert fold(events).service_tier == "flex"
