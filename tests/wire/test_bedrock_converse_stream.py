"""Streams are read the same at every byte boundary, whole frames are passed on, and every way to fail is one failure."""

import os
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import Foreign, Image, Text, ToolUse
from penstock.errors import UpstreamFailed, UpstreamGarbled, UpstreamRateLimited
from penstock.receipt import Usage
from penstock.reply import (
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
from penstock.wire.bedrock_converse_carried import write_redacted, write_tool_signature
from penstock.wire.bedrock_converse_reply import read_reply
from penstock.wire.bedrock_converse_stream import ConverseStreamReader
from penstock.wire.bedrock_converse_writer import ConverseStreamWriter
from penstock.wire.eventstream import EventStreamReader, event_frame, header_block

GOLDEN = Path(__file__).parent / "golden" / "converse"
STREAMS = sorted(GOLDEN.glob("*.jsonl"))
EXCEPTIONS = ("throttlingException", "modelStreamErrorException")


def frame(name: str, payload: bytes) -> bytes:
    kind = "exception" if name in EXCEPTIONS else "event"
    return event_frame(
        header_block({f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}), payload
    )


def framed(path: Path) -> bytes:
    """A recorded stream as the bytes that Bedrock would send."""
    lines = [decode(line, type=dict[str, Raw]) for line in path.read_text().split("\n") if line]
    return b"".join(frame(name, bytes(payload)) for line in lines for name, payload in line.items())


def unframed(raw: bytes) -> str:
    """A stream as one event a line."""
    lines = []
    for one in EventStreamReader().feed(raw):
        name = one.headers.get(":event-type") or one.headers[":exception-type"]
        lines.append(encode({str(name): Raw(one.payload)}).decode())
    return "".join(f"{line}\n" for line in lines)


def feed(pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    reader = ConverseStreamReader()
    events: list[Event] = []
    passed = b""
    for piece in pieces:
        events += reader.feed(piece)
        passed += reader.passed
    events += reader.end()
    return events, passed + reader.passed


def say(events: Iterable[Event]) -> list[str]:
    """Events in a form that can be compared: errors by type and text."""
    return [f"Failed({type(e.error).__name__}, {str(e.error)!r})" if isinstance(e, Failed) else repr(e) for e in events]


def stream(*events: tuple[str, Any], ended: bool = True) -> bytes:
    out = b"".join(frame(name, payload if isinstance(payload, bytes) else encode(payload)) for name, payload in events)
    end = frame("messageStop", b'{"stopReason":"end_turn"}') + frame(
        "metadata", b'{"usage":{"inputTokens":5,"outputTokens":2}}'
    )
    return frame("messageStart", b'{"role":"assistant"}') + out + (end if ended else b"")


def read(*events: tuple[str, Any], ended: bool = True) -> list[Event]:
    """What stands between the start and the end."""
    found, _ = feed([stream(*events, ended=ended)])
    assert found[0] == Started()
    if not ended:
        return found[1:]
    assert found[-3:] == [Finished("stop", "end_turn"), UsageReported(Usage(5, 2)), Ended()]
    return found[1:-3]


def delta(index: int, **said: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": said}


def start(index: int, **said: Any) -> tuple[str, Any]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": said}


def stop(index: int) -> tuple[str, Any]:
    return "contentBlockStop", {"contentBlockIndex": index}


# -- recordings --


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)
def test_recorded_streams_give_the_recorded_events_at_every_split(path: Path) -> None:
    raw = framed(path)
    events, passed = feed([raw])
    recorded = path.with_name(path.name + ".events")
    if os.environ.get("UPDATE"):
        recorded.write_text("".join(f"{line}\n" for line in say(events)))
    assert say(events) == recorded.read_text().splitlines()
    assert say(feed([raw[i : i + 1] for i in range(len(raw))])[0]) == say(events)
    for cut in range(1, len(raw)):
        again, same = feed([raw[:cut], raw[cut:]])
        assert say(again) == say(events)
        assert same == passed


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)
def test_a_recorded_stream_is_written_as_recorded(path: Path) -> None:
    events, _ = feed([framed(path)])
    written = ConverseStreamWriter(None).send(events)  # type: ignore[arg-type]  # the call is not looked at
    recorded = path.with_name(path.name + ".converse")
    if os.environ.get("UPDATE"):
        recorded.write_text(unframed(written))
    assert unframed(written) == recorded.read_text()
    assert say(feed([written])[0])[-1] == say(events)[-1] or isinstance(events[-1], Failed)


@pytest.mark.parametrize(
    "path", [path for path in STREAMS if (GOLDEN / f"{path.stem}.json").exists()], ids=lambda path: path.name
)
def test_a_stream_says_what_the_whole_reply_says(path: Path) -> None:
    streamed = fold(feed([framed(path)])[0])
    whole = fold(read_reply((GOLDEN / f"{path.stem}.json").read_bytes()))
    texts = [part for part in whole.choices[0].parts if part != Text("")]
    if path.stem == "parallel_tools":  # where the text of the arguments is another
        assert [type(part) for part in streamed.choices[0].parts] == [type(part) for part in texts]
    else:
        assert list(streamed.choices[0].parts) == texts
    assert streamed.choices[0].finish == whole.choices[0].finish
    assert streamed.usage == whole.usage


def test_the_frames_that_came_whole_are_passed_as_the_object_that_came() -> None:
    reader = ConverseStreamReader()
    for raw in (stream(ended=False), frame(*("contentBlockDelta", encode(delta(0, text="a")[1])))):
        reader.feed(raw)
        assert reader.passed is raw
    raw = stream()[len(stream(ended=False)) :]
    reader.feed(raw)
    assert reader.passed is raw
    assert reader.feed(raw) == ()
    assert reader.passed == b""
    assert reader.end() == ()


def test_nothing_is_passed_from_behind_the_end() -> None:
    raw = stream()
    reader = ConverseStreamReader()
    assert reader.feed(raw + raw)[-1] == Ended()
    assert reader.passed == raw


# -- blocks --


def test_a_signature_in_pieces_is_one() -> None:
    said = [
        delta(0, reasoningContent={"text": "h"}),
        delta(0, reasoningContent={"signature": "ab"}),
        delta(0, reasoningContent={"signature": "cd"}),
    ]
    events = [ReasoningDelta("h"), ReasoningDelta("", "abcd", signer="anthropic")]
    assert read(*said, stop(0)) == events
    assert read(*said) == events, "the end of the answer ends every block"
    assert read(*said, delta(1, text="x")) == [*events, TextDelta("x")]
    assert read(*said, start(1, toolUse={"toolUseId": "t", "name": "f"}))[:2] == events


def test_signatures_of_other_families_come_back_as_theirs() -> None:
    assert read(delta(0, reasoningContent={"signature": "penstock.openai.x"}), stop(0)) == [
        ReasoningDelta("", "x", signer="openai")
    ]
    blob = write_redacted("\u00e9", "google")
    assert read(delta(0, reasoningContent={"redactedContent": blob}), stop(0)) == [
        ReasoningDelta("", "\u00e9", redacted=True, signer="google")
    ]
    carried = delta(0, reasoningContent={"redactedContent": write_tool_signature("t", "s", "google")})
    assert read(carried, stop(0), start(1, toolUse={"toolUseId": "t", "name": "f"}), stop(1)) == [
        ToolUseStarted(0, "t", "f", signature="s", signer="google")
    ]


def test_tool_calls_are_counted_from_nought_and_told_apart_by_their_block() -> None:
    events = read(
        delta(0, text="x"),
        stop(0),
        start(1, toolUse={"toolUseId": "a", "name": "f"}),
        start(2, toolUse={"toolUseId": "b", "name": "g"}),
        delta(2, toolUse={"input": "{}"}),
        delta(1, toolUse={"input": '{"x":1}'}),
        delta(1, toolUse={"input": ""}),
    )
    assert events[1:] == [
        ToolUseStarted(0, "a", "f"),
        ToolUseStarted(1, "b", "g"),
        ToolUseDelta(1, "{}"),
        ToolUseDelta(0, '{"x":1}'),
    ]


def test_a_tool_call_that_never_began_or_has_no_id_is_given_one() -> None:
    first = read(delta(3, toolUse={"input": "{}"}))
    assert isinstance(first[0], ToolUseStarted)
    assert first[0].id.startswith("call_")
    assert first == read(delta(3, toolUse={"input": "{}"}))
    assert first[1] == ToolUseDelta(0, "{}")


def test_blocks_that_come_in_pieces_and_have_no_neutral_form_are_given_whole() -> None:
    use = {"toolUseId": "s", "name": "web", "type": "server_tool_use"}
    for text, input_ in (('{"q":', {"input": '{"q":'}), ('{"q":1}', {"q": 1}), ("", {})):
        (event,) = read(start(0, toolUse=use), delta(0, toolUse={"input": text}), stop(0))
        assert event == PartAdded(Foreign("converse", "toolUse", encode({"toolUse": {**use, "input": input_}})))
    result = {"toolUseId": "s", "type": "x"}
    (event,) = read(
        start(0, toolResult=result), delta(0, toolResult=[{"text": "a"}]), delta(0, toolResult=[{"json": 1}])
    )
    assert event == PartAdded(
        Foreign("converse", "toolResult", encode({"toolResult": {**result, "content": [{"text": "a"}, {"json": 1}]}}))
    )
    (event,) = read(
        start(0, image={"format": "png"}),
        delta(0, image={"source": {"bytes": "YQ=="}}),
        delta(0, image={"error": {}}),
        delta(0, image={"source": {}}),
        stop(0),
    )
    assert event == PartAdded(Image(data="YQ==", media_type="image/png"))


def test_what_is_not_known_yet_says_nothing() -> None:
    assert read(("newEvent", {}), start(0, newest={}), delta(0, newest={}), ("contentBlockStart", {}), stop(0)) == []


def test_sources_without_text_have_no_place() -> None:
    (event,) = read(delta(0, citation={"title": "T"}), stop(0))
    assert (event.citation.start, event.citation.end) == (None, None)  # type: ignore[union-attr]
    cited = read(
        delta(0, text="ab"), delta(0, citation={"title": "T"}), start(1, toolUse={"toolUseId": "t", "name": "f"})
    )
    assert (cited[1].citation.start, cited[1].citation.end) == (0, 2)  # type: ignore[union-attr]
    thought = read(
        delta(0, text="ab"),
        delta(0, citation={"title": "T"}),
        delta(1, reasoningContent={"text": "h"}),
        delta(2, text="c"),
        delta(2, citation={}),
    )
    assert (thought[-1].citation.start, thought[-1].citation.end) == (0, 1)  # type: ignore[union-attr]


def test_members_of_no_neutral_form_are_kept() -> None:
    raw = (
        frame("messageStart", b"{}")
        + frame("messageStop", b'{"stopReason":"max_tokens","additionalModelResponseFields":{"a":1}}')
        + frame("metadata", b'{"usage":{},"metrics":{"latencyMs":7},"trace":{"x":1},"p":"abc"}')
    )
    assert feed([raw])[0] == [
        Started(),
        ForeignDelta("converse", "additionalModelResponseFields", b'{"a":1}'),
        Finished("length", "max_tokens"),
        ForeignDelta("converse", "metrics", b'{"latencyMs":7}'),
        ForeignDelta("converse", "trace", b'{"x":1}'),
        Ended(),
    ]


# -- ends --


def test_a_stream_that_stops_after_its_answer_is_complete_without_a_count() -> None:
    raw = stream(delta(0, text="a"), ("messageStop", {}), ended=False)
    events, passed = feed([raw])
    assert events[-2:] == [Finished("other"), Ended()]
    assert passed == raw


def test_a_count_before_the_stop_does_not_end_the_stream() -> None:
    events, _ = feed([frame("metadata", b'{"usage":{"inputTokens":5}}') + stream(delta(0, text="a"))])
    assert events[0] == UsageReported(Usage(5, 0))
    assert TextDelta("a") in events
    assert events[-1] == Ended() or events[-2] == Ended()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "before the end of the answer"),
        (stream(delta(0, text="a"), ended=False), "before the end of the answer"),
        (stream(ended=False) + stream()[:20], "within a frame"),
        (stream(("messageStop", {}), ended=False) + b"\x00", "within a frame"),
        (b"<html>502 Bad Gateway</html>", "checksum"),
        (stream(("contentBlockDelta", b"{"), ended=False), "not one of Converse"),
        (stream(("contentBlockDelta", b"{}"), ended=False), "not one of Converse"),
        (stream(("contentBlockDelta", b'{"delta":{"text":"\xff"}}'), ended=False), "not one of Converse"),
        (stream(("contentBlockStart", b'{"start":7}'), ended=False), "not one of Converse"),
        (stream(("metadata", b"[" * 9999), ended=False), "not one of Converse"),
    ],
)
def test_what_is_cut_or_garbled_fails_once(raw: bytes, says: str) -> None:
    events, _ = feed([raw])
    assert sum(isinstance(event, Failed | Ended) for event in events) == 1
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamGarbled)
    assert says in str(events[-1].error)


def test_from_a_failure_on_nothing_is_passed() -> None:
    before = stream(delta(0, text="a"), ended=False)
    for failure, kind in (
        (frame("throttlingException", b'{"message":"Slow down"}'), UpstreamRateLimited),
        (frame("modelStreamErrorException", b'{"message":"Out of memory"}'), UpstreamFailed),
        (event_frame(header_block({":message-type": "error", ":error-code": "InternalFailure"}), b""), UpstreamFailed),
        (event_frame(b"", b""), UpstreamFailed),
    ):
        reader = ConverseStreamReader()
        events = reader.feed(before + failure + stream())
        assert isinstance(events[-1], Failed)
        assert type(events[-1].error) is kind
        assert reader.passed == before
        assert reader.feed(stream()) == reader.end() == ()
        assert reader.passed == b""


@given(st.integers(0, 2**64))
@settings(max_examples=400, deadline=None)
def test_mutated_payloads_in_sound_frames_never_raise(seed: int) -> None:
    rng = Random(seed)
    path = rng.choice(STREAMS)
    raw = b""
    for one in EventStreamReader().feed(framed(path)):
        payload = bytearray(one.payload)
        if rng.random() < 0.5:
            place = rng.randrange(len(payload))
            payload[place : place + rng.randrange(4)] = rng.choice(
                (b"", b"null", b"{}", b"[]", b"7", b'""', b"\xff", b"-1")
            )
        raw += event_frame(header_block(dict(one.headers)), bytes(payload))
    events, _ = feed([raw])
    assert isinstance(events[-1], Failed | Ended)
    ConverseStreamWriter(None).send(events)  # type: ignore[arg-type]  # the call is not looked at
    assert all(
        isinstance(part, ToolUse | Text | Foreign | Image) or part for c in fold(events).choices for part in c.parts
    )


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"usage": {"inputTokens": 3, "outputTokens": 2}, "serviceTier": {"type": "flex"}}, [("flex", 3)]),
        ({"usage": {"inputTokens": 3, "outputTokens": 2}}, [(None, 3)]),
        ({"usage": {"inputTokens": 3, "outputTokens": 2}, "serviceTier": None}, [(None, 3)]),
        ({"usage": {"inputTokens": 3, "outputTokens": 2}, "serviceTier": "flex"}, [(None, 3)]),
        ({"usage": {"inputTokens": "many", "outputTokens": 2}, "serviceTier": {"type": "flex"}}, []),
        ({"usage": [3, 2]}, []),
        ({"usage": None}, []),
        ({}, []),
    ],
)
def test_the_end_tells_the_count_and_the_tier_and_a_strange_one_costs_no_answer(
    metadata: dict[str, object], told: list[tuple[str | None, int]]
) -> None:
    reader = ConverseStreamReader()
    raw = b"".join(
        frame(name, encode(payload))
        for name, payload in (
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"delta": {"text": "Hi"}, "contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", metadata),
        )
    )
    events = (*reader.feed(raw), *reader.end())
    assert [(one.service_tier, one.usage.input_tokens) for one in events if isinstance(one, UsageReported)] == told
    assert isinstance(events[-1], Ended)
