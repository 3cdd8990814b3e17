"""Streams for clients: one block after the other, tool calls in order, everything that the model requires, one ending."""

from itertools import pairwise
from random import Random
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode

from penstock.call import Audio, Citation, File, Foreign, Image, ToolUse
from penstock.errors import RateLimited
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
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
from penstock.wire.bedrock_converse_carried import read_tool_signature
from penstock.wire.bedrock_converse_stream import ConverseStreamReader
from penstock.wire.bedrock_converse_writer import ConverseStreamWriter
from penstock.wire.eventstream import EventStreamReader


def writer() -> ConverseStreamWriter:
    return ConverseStreamWriter(None)  # type: ignore[arg-type]  # the call is not looked at


def frames(raw: bytes) -> list[tuple[str, Any]]:
    reader = EventStreamReader()
    found = reader.feed(raw)
    reader.end()
    assert reader.fault is None
    return [(str(f.headers.get(":event-type") or f.headers[":exception-type"]), decode(f.payload)) for f in found]


def write(*events: Event) -> list[tuple[str, Any]]:
    """The frames of some events, sent one by one."""
    one = writer()
    return frames(b"".join(one.send((event,)) for event in events))


def said(written: list[tuple[str, Any]]) -> list[Any]:
    """What the frames say, in short: deltas with their block, starts and stops."""
    out: list[Any] = []
    for name, payload in written:
        index = payload.get("contentBlockIndex")
        match name:
            case "contentBlockDelta":
                out.append((index, payload["delta"]))
            case "contentBlockStart":
                out.append((index, payload["start"]))
            case "contentBlockStop":
                out.append(("stop", index))
            case _:
                out.append(name)
    return out


def arguments(index: int, text: str) -> tuple[int, Any]:
    return (index, {"toolUse": {"input": text}})


def begun(index: int, ident: str, name: str = "f") -> tuple[int, Any]:
    return (index, {"toolUse": {"toolUseId": ident, "name": name}})


def test_nothing_is_said_before_the_answer_begins() -> None:
    one = writer()
    assert one.content_type == b"application/vnd.amazon.eventstream"
    assert one.send((Started("id", "model"), UsageReported(Usage(1, 1)))) == b""
    assert said(frames(one.send((TextDelta("a"),)))) == ["messageStart", (0, {"text": "a"})]
    assert said(frames(one.send((TextDelta("b"), TextDelta(""))))) == [(0, {"text": "b"}), (0, {"text": ""})]


def test_an_answer_has_all_that_the_model_requires() -> None:
    written = write(Finished("stop", "stop"), UsageReported(Usage(7, 2, 3)), Ended())
    assert written == [
        ("messageStart", {"role": "assistant"}),
        ("messageStop", {"stopReason": "end_turn"}),
        (
            "metadata",
            {
                "usage": {"inputTokens": 4, "outputTokens": 2, "totalTokens": 9, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 0},
                "metrics": {"latencyMs": 0},
            },
        ),
    ]  # fmt: skip
    assert [name for name, _ in write(TextDelta("a"), Ended())] == [
        *("messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
    ]


def test_members_of_this_api_stand_where_they_belong() -> None:
    foreign = (
        ForeignDelta("converse", "additionalModelResponseFields", b'{"a":1}'),
        ForeignDelta("converse", "metrics", b'{"latencyMs":5}'),
        ForeignDelta("chat", "annotations", b"[]"),
    )
    written = dict(write(*foreign, Finished("stop"), Ended()))
    assert written["messageStop"] == {"stopReason": "end_turn", "additionalModelResponseFields": {"a": 1}}
    assert written["metadata"]["metrics"] == {"latencyMs": 5}
    assert "annotations" not in written["metadata"]


def test_each_kind_of_content_has_a_block_of_its_own() -> None:
    written = write(
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        ReasoningDelta("", "sig", signer="anthropic"),
        ReasoningDelta("x", "y", signer="google"),
        ReasoningDelta("", "YQ==", redacted=True, signer="anthropic"),
        TextDelta("a"),
        RefusalDelta("no"),
        AudioDelta(transcript="said"),
        AudioDelta("YQ=="),
        LogprobsDelta(()),
        Finished("stop"),
    )
    assert said(written)[1:-1] == [
        (0, {"reasoningContent": {"text": "h"}}),
        (0, {"reasoningContent": {"text": "m"}}),
        (0, {"reasoningContent": {"signature": "sig"}}),
        ("stop", 0),
        (1, {"reasoningContent": {"text": "x"}}),
        (1, {"reasoningContent": {"signature": "penstock.google.y"}}),
        ("stop", 1),
        (2, {"reasoningContent": {"redactedContent": "YQ=="}}),
        ("stop", 2),
        (3, {"text": "a"}),
        (3, {"text": "no"}),
        (3, {"text": "said"}),
        ("stop", 3),
    ]


def test_text_behind_a_source_begins_a_block() -> None:
    written = write(TextDelta("a"), Cited(Citation("u")), Cited(Citation("v")), TextDelta("b"), Finished("stop"))
    web = {"citation": {"location": {"web": {"url": "u"}}}}
    assert said(written)[1:-1] == [
        (0, {"text": "a"}),
        (0, web),
        (0, {"citation": {"location": {"web": {"url": "v"}}}}),
        ("stop", 0),
        (1, {"text": "b"}),
        ("stop", 1),
    ]
    assert said(write(Cited(Citation("u")))) == ["messageStart", (0, web)]


# -- tool calls --


def test_parallel_calls_follow_on_each_other() -> None:
    written = write(
        TextDelta("x"),
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, '{"x":'),
        ToolUseDelta(0, "1}"),
        ToolUseStarted(1, "b", "g"),
        ToolUseDelta(1, "{}"),
        Finished("tool_calls"),
    )
    assert said(written)[2:-1] == [
        ("stop", 0),
        begun(1, "a"),
        arguments(1, '{"x":'),
        arguments(1, "1}"),
        ("stop", 1),
        begun(2, "b", "g"),
        arguments(2, "{}"),
        ("stop", 2),
    ]
    assert written[-1] == ("messageStop", {"stopReason": "tool_use"})


def test_pieces_of_several_calls_that_come_mixed_are_sorted() -> None:
    written = write(
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, '{"x":'),
        ToolUseStarted(1, "b", "f"),
        ToolUseStarted(2, "c", "f"),
        ToolUseDelta(2, '{"z":'),
        ToolUseDelta(1, '{"y":2}'),
        ToolUseDelta(0, "1}"),
        ToolUseDelta(2, "3}"),
        TextDelta("after"),
        ToolUseDelta(1, " "),
        Finished("tool_calls"),
    )
    assert said(written)[1:-1] == [
        *(begun(0, "a"), arguments(0, '{"x":'), arguments(0, "1}"), ("stop", 0)),
        *(begun(1, "b"), arguments(1, '{"y":2}'), ("stop", 1)),
        *(begun(2, "c"), arguments(2, '{"z":3}'), ("stop", 2)),
        (3, {"text": "after"}),
        arguments(1, " "),  # what comes too late still says where it belongs
        ("stop", 3),
    ]


def test_a_call_without_arguments_has_an_empty_object_and_free_text_is_put_into_one() -> None:
    assert said(write(ToolUseStarted(0, "a", "f"), ToolUseDelta(0, ""), Finished("stop")))[2] == arguments(0, "{}")
    custom = write(
        ToolUseStarted(0, "a", "f", "custom"),
        ToolUseDelta(0, 'say "'),
        ToolUseDelta(0, "\n\u2028"),
        ToolUseStarted(1, "b", "f"),
        Finished("stop"),
    )
    text = "".join(
        p["delta"]["toolUse"]["input"] for n, p in custom if n == "contentBlockDelta" and p["contentBlockIndex"] == 0
    )
    assert decode(text) == {"input": 'say "\n\u2028'}


def test_a_delta_without_a_start_begins_a_call_all_the_same() -> None:
    assert said(write(ToolUseDelta(3, "{}")))[1:] == [begun(0, "tool_3", ""), arguments(0, "{}")]


def test_the_signature_of_a_call_goes_before_it() -> None:
    written = said(write(ToolUseStarted(0, "a/b", "f", signature="s", signer="google")))
    (index, carried), (stopped, _), (block, start) = written[1:4]
    assert (index, stopped, block) == (0, "stop", 1)
    found = read_tool_signature(carried["reasoningContent"]["redactedContent"])
    assert found == (start["toolUse"]["toolUseId"], ("s", "google"))


@given(st.integers(0, 2**64))
@settings(max_examples=300, deadline=None)
def test_however_pieces_are_mixed_a_client_that_knows_only_the_last_call_gets_all(seed: int) -> None:
    rng = Random(seed)
    calls = {n: f'{{"call":{n},"text":"{"x" * rng.randrange(9)}"}}' for n in range(rng.randrange(1, 5))}
    left = dict(calls)
    events: list[Event] = []
    begun_calls: set[int] = set()
    while left:
        number = min(rng.choice(list(left)), len(begun_calls))
        if number not in begun_calls:
            begun_calls.add(number)
            events.append(ToolUseStarted(number, f"id{number}", "f"))
        if number in left:
            size = rng.randrange(1, 12)
            events.append(ToolUseDelta(number, left[number][:size]))
            left[number] = left[number][size:]
            if not left[number]:
                del left[number]
    got: list[str] = []
    for name, payload in write(*events, Finished("tool_calls"), Ended()):
        if name == "contentBlockStart":
            got.append("")
        elif name == "contentBlockDelta":
            got[-1] += payload["delta"]["toolUse"]["input"]
    assert got == list(calls.values())


# -- parts that come whole --


def test_a_picture_is_a_block() -> None:
    picture = Image(data="YQ==", media_type="image/png")
    assert said(write(TextDelta("a"), PartAdded(picture), TextDelta("b")))[2:] == [
        ("stop", 0),
        (1, {"image": {"format": "png"}}),
        (1, {"image": {"source": {"bytes": "YQ=="}}}),
        ("stop", 1),
        (2, {"text": "b"}),
    ]


@pytest.mark.parametrize(
    "part",
    [
        Image(url="https://example.com/a.png"),
        Image(data="YQ==", media_type="image/bmp"),
        File("n", "YQ==", "application/pdf"),
        Foreign("messages", "x", b"{}"),
        Foreign("converse", "searchResult", b'{"searchResult":{}}'),
    ],
)
def test_what_a_stream_cannot_say_is_left_out(part: Any) -> None:
    assert write(PartAdded(part)) == []


def test_the_use_of_a_tool_on_the_server_comes_as_it_was() -> None:
    use = Foreign(
        "converse", "toolUse", b'{"toolUse":{"toolUseId":"s","name":"w","type":"server_tool_use","input":{"q":1}}}'
    )
    result = Foreign("converse", "toolResult", b'{"toolResult":{"toolUseId":"s","type":"r"}}')
    written = write(PartAdded(use), PartAdded(result), Finished("stop"))
    assert said(written)[1:-1] == [
        (0, {"toolUse": {"toolUseId": "s", "name": "w", "type": "server_tool_use"}}),
        arguments(0, '{"q":1}'),
        ("stop", 0),
        (1, {"toolResult": {"toolUseId": "s", "type": "r"}}),
        (1, {"toolResult": []}),
        ("stop", 1),
    ]


# -- ends --


def test_of_several_answers_the_first_is_written() -> None:
    other = (TextDelta("x", 1), ToolUseStarted(0, "t", "f", choice=1), Finished("stop", choice=1))
    assert said(write(TextDelta("a"), *other, Finished("stop"))) == [
        "messageStart",
        (0, {"text": "a"}),
        ("stop", 0),
        "messageStop",
    ]


def test_a_failure_is_one_last_frame() -> None:
    written = write(TextDelta("a"), Failed(RateLimited("Slower.")))
    assert written[-1] == ("throttlingException", {"message": "Slower."})
    assert [name for name, _ in write(Failed(RateLimited("Slower.")))] == ["throttlingException"]


def any_event(rng: Random) -> Event:
    index, text = rng.randrange(3), rng.choice(("", "a", '{"x":', "1}", "{}"))
    return rng.choice(
        (
            TextDelta(text),
            ReasoningDelta(text),
            ReasoningDelta("", text, signer="google"),
            ReasoningDelta("", "YQ==", redacted=True, signer="anthropic"),
            ToolUseStarted(index, f"t{index}", "f", rng.choice(("function", "custom"))),  # type: ignore[arg-type]
            ToolUseDelta(index, text),
            Cited(Citation("u")),
            PartAdded(Image(data="YQ==", media_type="image/png")),
            Started(),
        )
    )


@given(st.integers(0, 2**64))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_blocks_never_overlap_and_the_reader_takes_it(seed: int) -> None:
    rng = Random(seed)
    events = [any_event(rng) for _ in range(rng.randrange(12))]
    one = writer()
    raw = one.send((*events, Finished("stop", "end_turn"), Ended()))
    stops = [payload["contentBlockIndex"] for name, payload in frames(raw) if name == "contentBlockStop"]
    assert all(b == a + 1 for a, b in pairwise(stops))
    reader = ConverseStreamReader()
    again = reader.feed(raw)
    assert again[-1] == Ended()
    texts = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert fold(again).choices[0].text == texts
    assert not any(isinstance(part, Audio) for part in fold(again).choices[0].parts)
    assert all(part.id for part in fold(again).choices[0].parts if isinstance(part, ToolUse))


def test_many_pieces_of_a_call_take_linear_time() -> None:
    def seconds(count: int) -> float:
        one = writer()
        begin = perf_counter()
        one.send((ToolUseStarted(0, "a", "f"), ToolUseDelta(0, '{"x":"')))
        one.send([ToolUseDelta(0, "y") for _ in range(count)])
        one.send([ToolUseStarted(n, f"t{n}", "f") for n in range(1, 200)])
        one.send((Finished("stop"),))
        return perf_counter() - begin

    assert seconds(40_000) < 40 * (seconds(4_000) + 0.02)
