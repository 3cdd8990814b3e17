"""Streams written: blocks one after the other, arguments that are always an object, and nothing that the SDK would not take."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import anthropic
import anthropic.types as sdk
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode
from msgspec.structs import replace
from pydantic import TypeAdapter

from penstock.call import Audio, Citation, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import UpstreamFailed
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
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)
from penstock.wire.anthropic_messages import AnthropicMessages
from penstock.wire.anthropic_messages_stream import MessagesStreamReader
from penstock.wire.anthropic_messages_writer import MessagesStreamWriter, safe
from penstock.wire.framing import SseReader
from wire.generated import Can, any_reply

SEEDS = st.integers(0, 2**64)
CALL = AnthropicMessages().read_request(
    b'{"model":"asked","max_tokens":64,"messages":[{"role":"user","content":"Hi"}],"stream":true}'
)
EVENT: TypeAdapter[Any] = TypeAdapter(sdk.RawMessageStreamEvent)
NATIVE = Citation("https://example.com", "A", "x", None, None, None, None, "messages", b'{"type":"web_search_result_location","url":"https://example.com","title":"A","cited_text":"x","encrypted_index":"e"}')  # fmt: skip
CAN = Can(
    dialect="messages",
    empty_text=False,
    custom_tools=False,
    raw_arguments=False,
    signers=("anthropic", "openai"),
    signature_only=True,
    tool_signers=("google",),
    citations=(NATIVE,),
    service_tiers=("default", "priority"),
    created=False,
    fingerprint=False,
    choices=False,
    reply_audio=False,
    reply_custom_tools=False,
    foreign_reply=(Foreign("messages", "container_upload", b'{"type":"container_upload","file_id":"f"}'),),
    foreign_deltas=(("stop_sequence", b'"x"'), ("context_management", b'{"applied_edits":[]}')),
    interleaved=True,
    endings=(("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("pause", "pause_turn"), ("refusal", "refusal")),
    logprobs=False,
    refusal_logprobs=False,
    usage=frozenset({"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cache_write_tokens"}),
)  # fmt: skip


def as_read(reply: Reply) -> Reply:
    """The reply as a stream of this API can say it: what was refused stands at the end, sources say where they hold."""
    choice = reply.choices[0]
    parts = [placed(part) for part in choice.parts if not isinstance(part, Refusal)]
    parts += [part for part in choice.parts if isinstance(part, Refusal)]
    foreign = tuple(sorted(choice.foreign, key=str))
    return replace(reply, choices=(replace(choice, parts=tuple(parts), foreign=foreign),))


def placed(part: Part) -> Part:
    if not isinstance(part, Text):
        return part
    return replace(part, citations=tuple(replace(c, start=0, end=len(part.text)) for c in part.citations))


def shuffled(events: Sequence[Event], rng: Random) -> list[Event]:
    """The same answer in smaller pieces."""
    out: list[Event] = []
    for event in events:
        if isinstance(event, TextDelta | ToolUseDelta) and rng.random() < 0.5:
            text = event.text if isinstance(event, TextDelta) else event.arguments
            cut = rng.randrange(len(text) + 1)
            pieces = [piece for piece in (text[:cut], text[cut:]) if piece]
            out += [
                TextDelta(piece, event.choice)
                if isinstance(event, TextDelta)
                else ToolUseDelta(event.index, piece, event.choice)
                for piece in pieces
            ]
        else:
            out.append(event)
    return out


def write(events: Iterable[Event]) -> bytes:
    writer = MessagesStreamWriter(CALL)
    return b"".join(writer.send((event,)) for event in events)


def said(*events: Event) -> list[dict[str, Any]]:
    """What is written between message_start and message_delta."""
    written = is_valid(write([Started("m", "c"), *events, Finished("stop"), Ended()]))
    return written[1:-2]


def is_valid(raw: bytes) -> list[dict[str, Any]]:
    """The SDK's own types take every event, names agree with types, and blocks stand one after the other."""
    events: list[dict[str, Any]] = []
    open_block, blocks = False, 0
    for frame in SseReader().feed(raw):
        event = decode(frame.data)
        assert frame.event == event["type"]
        EVENT.validate_python(event, strict=False)
        if frame.event == "content_block_start":
            assert (event["index"], open_block) == (blocks, False)
            open_block = True
        elif frame.event == "content_block_delta":
            assert (event["index"], open_block) == (blocks, True)
        elif frame.event == "content_block_stop":
            assert (event["index"], open_block) == (blocks, True)
            open_block, blocks = False, blocks + 1
        events.append(event)
    assert not open_block
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[0]["type"] == "message_start"
    return events


def reread(raw: bytes) -> Reply:
    reader = MessagesStreamReader()
    return fold((*reader.feed(raw), *reader.end()))


def by_the_sdk(raw: bytes) -> sdk.Message:
    """What an unchanged client makes of a stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="x", http_client=http, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        return stream.get_final_message()


# -- properties --


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_stream_is_written_and_read_again_as_it_was(seed: int) -> None:
    rng = Random(seed)
    for _ in range(100):
        reply = any_reply(rng, CAN, streamed=True)
        again = reread(write(shuffled(unfold(reply), rng)))
        choice = again.choices[0]
        again = replace(again, choices=(replace(choice, foreign=tuple(sorted(choice.foreign, key=str))),))
        assert again == as_read(reply)


@settings(max_examples=1_000, deadline=None)
@given(SEEDS)
def test_the_sdks_types_take_every_stream_of_any_dialect(seed: int) -> None:
    rng = Random(seed)
    reply = any_reply(rng, Can(dialect="chat", interleaved=True, reply_images=("url",)), streamed=True)
    is_valid(write(shuffled(unfold(reply), rng)))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_sdk_puts_the_answer_together(seed: int) -> None:
    rng = Random(seed)
    reply = any_reply(rng, Can(dialect="chat", choices=False, refusal=False), streamed=True)
    message = by_the_sdk(write(shuffled(unfold(reply), rng)))
    choice = reply.choices[0]
    assert "".join(block.text for block in message.content if block.type == "text") == choice.text + "".join(
        part.transcript or "" for part in choice.parts if isinstance(part, Audio)
    )
    uses = [part for part in choice.parts if isinstance(part, ToolUse)]
    assert [(block.id, block.name) for block in message.content if block.type == "tool_use"] == [
        (use.id, use.name) for use in uses
    ]
    thoughts = [part.text for part in choice.parts if isinstance(part, Reasoning) and not part.redacted]
    assert [block.thinking for block in message.content if block.type == "thinking"] == thoughts
    assert reply.usage is not None
    assert message.usage.output_tokens == reply.usage.output_tokens
    if uses and choice.finish == "stop":
        assert message.stop_reason == "tool_use"


def test_a_line_separator_does_not_cost_the_sdk_its_text() -> None:
    text = "a\u2028b\u2029c\x85d\x0be"
    raw = write(
        [Started("m", "c"), TextDelta(text), ToolUseStarted(0, "t", "f"), ToolUseDelta(0, '{"a":"\u2028"}'), Ended()]
    )
    assert not {"\u2028", "\u2029", "\x85"} & set(raw.decode())
    message = by_the_sdk(raw)
    assert message.content[0].type == "text"
    assert message.content[0].text == text
    assert message.content[1].type == "tool_use"
    assert message.content[1].input == {"a": "\u2028"}
    assert safe(b"plain") == b"plain"


def test_an_error_is_one_event_that_the_sdk_raises_on() -> None:
    error = UpstreamFailed("It broke.", hint="Try again.")
    raw = write([Started("m", "c"), TextDelta("Hel"), Failed(error)])
    assert raw.count(b"event: error\n") == 1
    assert b"message_stop" not in raw
    with pytest.raises(anthropic.APIStatusError, match="It broke"):
        by_the_sdk(raw)
    assert write([Failed(error)]).startswith(b"event: error\n")


# -- the message --


def test_a_stream_begins_with_its_first_content_and_ends_with_usage() -> None:
    writer = MessagesStreamWriter(CALL)
    assert (
        writer.send(
            [Started("m", "c", service_tier="default", extra=(("container", b"null"), ("usage", b'{"speed":"fast"}')))]
        )
        == b""
    )
    assert writer.send([UsageReported(Usage(5, 1))]) == b""
    begun = writer.send([TextDelta("Hi")])
    assert begun.startswith(b"event: message_start\n")
    assert b'"input_tokens":5' in begun
    assert b'"speed":"fast"' in begun
    assert b'"service_tier":"standard"' in begun
    assert writer.send([Started("other")]) == b""
    more = (ForeignDelta("messages", "usage", b'{"server_tool_use":{"web_search_requests":1,"web_fetch_requests":0}}'),)
    ended = writer.send([*more, Finished("stop"), UsageReported(Usage(5, 7)), Ended()])
    events = is_valid(begun + ended)
    assert events[-2]["usage"]["output_tokens"] == 7
    assert events[-2]["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert (events[0]["message"]["id"], events[0]["message"]["model"]) == ("m", "c")
    assert writer.content_type.startswith(b"text/event-stream")


def test_an_answer_without_a_start_has_the_model_that_was_asked_for() -> None:
    events = is_valid(write([Ended()]))
    assert events[0]["message"]["model"] == "asked"
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_a_refusal_is_explained_at_the_end() -> None:
    events = is_valid(write([RefusalDelta("I "), RefusalDelta("cannot."), Finished("stop", "stop"), Ended()]))
    assert events[-2]["delta"]["stop_reason"] == "refusal"
    assert events[-2]["delta"]["stop_details"]["explanation"] == "I cannot."


def test_what_has_no_place_is_left_out() -> None:
    events = said(
        TextDelta("other", choice=1),
        Finished("length", choice=1),
        LogprobsDelta(()),
        ForeignDelta("chat", "x", b"1"),
        PartAdded(Image(data="AA==")),
        TextDelta(""),
        AudioDelta("AA=="),
    )
    assert events == []


# -- blocks --


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]


def test_text_that_follows_sources_is_another_block() -> None:
    events = said(
        TextDelta("a"), Cited(NATIVE), Cited(NATIVE), TextDelta(""), TextDelta("b"), ReasoningDelta("t"), Cited(NATIVE)
    )
    kinds = [event.get("delta", event.get("content_block", {})).get("type") for event in events]
    assert kinds == [
        *("text", "text_delta", "citations_delta", "citations_delta", None),
        *("text", "text_delta", None),
        *("thinking", "thinking_delta", None),
        *("text", "citations_delta", None),
    ]


def test_links_and_transcripts_are_text() -> None:
    assert texts(said(PartAdded(File(url="u")), AudioDelta(transcript="hi"))) == ["u", "hi"]


def test_thoughts_are_closed_by_their_signature() -> None:
    events = said(
        ReasoningDelta("a"), ReasoningDelta("", "s"), ReasoningDelta("b"), ReasoningDelta("", "d", redacted=True)
    )
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == [
        "thinking",
        "thinking",
        "redacted_thinking",
    ]
    assert events[2]["delta"] == {"type": "signature_delta", "signature": "s"}


# -- tools --


def inputs(events: list[dict[str, Any]]) -> list[str]:
    """The arguments of each call, as a client puts them together."""
    out: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            out[event["index"]] = ""
        elif event["type"] == "content_block_delta" and event["index"] in out:
            out[event["index"]] += event["delta"]["partial_json"]
    return list(out.values())


def call(index: int, *arguments: str) -> list[Event]:
    return [ToolUseStarted(index, f"t{index}", "f"), *(ToolUseDelta(index, piece) for piece in arguments)]


def test_arguments_pass_as_they_come_once_they_begin_an_object() -> None:
    events = said(*call(0, "", " ", '{"a"', ":1}"), *call(1))
    assert [event["delta"]["partial_json"] for event in events if "delta" in event] == [' {"a"', ":1}"]
    assert inputs(events) == [' {"a":1}', ""]


def test_arguments_that_are_no_object_are_wrapped_when_they_are_whole() -> None:
    custom = [ToolUseStarted(1, "c", "f", "custom"), ToolUseDelta(1, "print("), ToolUseDelta(1, "1)")]
    assert [decode(text) for text in inputs(said(*call(0, "oo", "ps"), *custom, *call(2, "[1]")))] == [
        {"input": "oops"},
        {"input": "print(1)"},
        {"input": "[1]"},
    ]


def test_calls_that_come_interleaved_are_written_one_after_the_other() -> None:
    starts = [ToolUseStarted(0, "a", "f"), ToolUseStarted(1, "b", "f"), ToolUseStarted(2, "c", "f")]
    deltas = [ToolUseDelta(0, '{"x":'), ToolUseDelta(1, '{"y":'), ToolUseDelta(0, "1}"), ToolUseDelta(1, "2}")]
    assert inputs(said(*starts, *deltas, ToolUseDelta(2, "{}"))) == ['{"x":1}', '{"y":2}', "{}"]
    ordered = [*starts[:2], ToolUseDelta(0, "{}"), ToolUseDelta(1, '{"y":'), ToolUseDelta(1, "2}")]
    events = said(*ordered)
    assert inputs(events) == ["{}", '{"y":2}']
    assert sum("delta" in event for event in events) == 3, "the second passes as it comes once the first is complete"


def test_text_behind_calls_lets_them_go_first() -> None:
    events = said(*call(0, '{"a":'), *call(1, "{}"), TextDelta("x"))
    assert [event["content_block"]["type"] for event in events if "content_block" in event] == [
        "tool_use",
        "tool_use",
        "text",
    ]


def test_arguments_that_come_late_are_not_lost() -> None:
    raw = write([*call(0, '{"a":'), TextDelta("x"), ToolUseDelta(0, "1}"), ToolUseDelta(0, ""), Ended()])
    message = by_the_sdk(raw)
    assert message.content[0].type == "tool_use"
    assert message.content[0].input == {"a": 1}


def test_arguments_without_a_call_begin_one() -> None:
    assert inputs(said(ToolUseDelta(0, "{}"))) == ["{}"]


def test_a_call_that_is_nested_too_deeply_to_look_at_is_complete_at_the_end() -> None:
    assert inputs(said(*call(0, '{"a":' + "[" * 5_000), *call(1, "{}")))[1] == "{}"


def test_signatures_and_unknown_members_of_calls_are_written() -> None:
    signed = ToolUseStarted(0, "a", "f", signature="s", signer="google")
    events = said(
        ForeignDelta("messages", "tool_use.0", b'{"caller":{"type":"direct"}}'), signed, ToolUseDelta(0, "{}")
    )
    assert events[0]["content_block"] == {"type": "redacted_thinking", "data": "penstock.google.s"}
    assert events[2]["content_block"]["caller"] == {"type": "direct"}


def test_a_long_stream_takes_time_in_proportion() -> None:
    writer = MessagesStreamWriter(CALL)
    deltas = [ToolUseStarted(0, "t", "f"), *[ToolUseDelta(0, '{"a":"' if not n else "x") for n in range(100_000)]]
    raw = writer.send([*deltas, ToolUseDelta(0, '"}'), Ended()])
    reader = MessagesStreamReader()
    assert len(fold(reader.feed(raw)).choices[0].parts[0].arguments) == 100_007  # type: ignore[union-attr]  # the tool call
