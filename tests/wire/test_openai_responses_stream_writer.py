"""Events become a stream that the official SDK takes and puts together, and that is read back the same."""

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from penstock.call import Audio, Call, Citation, Foreign, Image
from penstock.errors import UpstreamRejected
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
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
    unfold,
)
from penstock.wire.framing import SseReader
from penstock.wire.openai_responses_request import read_request
from penstock.wire.openai_responses_stream import ResponsesStreamReader
from penstock.wire.openai_responses_stream_writer import ResponsesStreamWriter
from wire.responses_cases import body, fitting_reply

SEEDS = st.integers(0, 2**64)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def asking() -> Call:
    return read_request(body(stream=True, instructions="x"), "generate")


def events_of(written: bytes) -> list[dict[str, Any]]:
    """The events of a written stream, checked against the official SDK's types, in their order."""
    assert not any(mark in written for mark in (b"\xe2\x80\xa8", b"\xe2\x80\xa9", b"\xc2\x85")), (
        "no line may seem to end"
    )
    out = []
    for number, frame in enumerate(SseReader().feed(written)):
        event = decode(frame.data)
        EVENT.validate_python(event, strict=False)
        assert (event["type"], event["sequence_number"]) == (frame.event, number)
        out.append(event)
    return out


def write(events: Iterable[Event]) -> list[dict[str, Any]]:
    return events_of(ResponsesStreamWriter(asking()).send(events))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def check(seed: int) -> None:
    rng = Random(seed)
    whole = fitting_reply(rng, streamed=True)
    writer = ResponsesStreamWriter(asking())
    events = unfold(whole)
    size = (
        rng.choice((len(events), rng.randrange(1, len(events) + 1))) if not whole.choices[0].logprobs else len(events)
    )
    written = b"".join(writer.send(events[at : at + size]) for at in range(0, len(events), size))
    said = events_of(written)
    final = said[-1]["response"]
    Response.model_validate(final, strict=False)
    done = [event for event in said if event["type"] == "response.output_item.done"]
    assert [event["item"] for event in sorted(done, key=lambda event: event["output_index"])] == final["output"]
    added = {
        event["output_index"]: event["item"]["id"] for event in said if event["type"] == "response.output_item.added"
    }
    assert added == {event["output_index"]: event["item"]["id"] for event in done}, "an item keeps its id"
    reader = ResponsesStreamReader()
    read = (*reader.feed(written), *reader.end())
    assert fold(read) == whole


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_and_the_sdk_takes_it(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


def test_a_text_is_opened_and_closed() -> None:
    writer = ResponsesStreamWriter(asking())
    assert writer.content_type == b"text/event-stream; charset=utf-8"
    assert writer.send([Started("", "m0"), Started("resp_1", "m", 17)]) == b""
    first = events_of(writer.send([TextDelta("Hi\u2028")]))
    assert kinds(first) == ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert first[0]["response"]["id"] == "resp_1"
    assert (first[0]["response"]["status"], first[0]["response"]["instructions"]) == ("in_progress", "x")
    more = writer.send([TextDelta(" you"), UsageReported(Usage(3, 2)), Finished("length"), Ended()])
    last = [decode(frame.data) for frame in SseReader().feed(more)]
    assert kinds(last) == [
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert last[1]["text"] == "Hi\u2028 you"
    final = last[-1]["response"]
    assert (final["status"], final["usage"]["total_tokens"]) == ("incomplete", 5)
    assert final["output"][0]["status"] == "incomplete"


def test_every_event_has_its_place_or_is_left_out() -> None:
    tokens = (Logprob("a", -1.0, (97,)),)
    said = write(
        [
            ReasoningDelta("hm"),
            ReasoningDelta("", "sig", signer="anthropic"),
            ReasoningDelta("", "red", redacted=True, signer="anthropic"),
            ReasoningDelta("plain"),
            TextDelta("a"),
            LogprobsDelta(tokens),
            Cited(Citation("u", "t")),
            Cited(Citation(title="of the request", document=0)),
            RefusalDelta("no"),
            Cited(Citation("late")),
            TextDelta("second", 1),
            AudioDelta("d"),
            PartAdded(Image(data="aGk=")),
            PartAdded(Image(url="https://x")),
            PartAdded(
                Foreign(
                    "responses",
                    "web_search_call",
                    b'{\n"type":"web_search_call","id":"ws","status":"completed","action":{"type":"search","query":"q"}}',
                )
            ),
            ToolUseStarted(0, "c1", "f", signature="g", signer="google"),
            ToolUseStarted(1, "c2", "run", "custom"),
            ToolUseDelta(0, "{"),
            ToolUseDelta(1, "ls"),
            ToolUseDelta(0, "}"),
            ToolUseDelta(7, ""),
            Ended(),
        ]
    )
    output = said[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        *("reasoning", "reasoning", "reasoning", "message", "image_generation_call", "web_search_call", "reasoning"),
        *("function_call", "custom_tool_call", "function_call"),
    ]
    assert [item.get("encrypted_content") for item in output[:3]] == [
        *("penstock.anthropic.sig", "penstock.anthropic.redacted:red", None),
    ]
    assert [part["type"] for part in output[3]["content"]] == ["output_text", "refusal"]
    assert [note["url"] for note in output[3]["content"][0]["annotations"]] == ["u"]
    assert output[3]["content"][0]["logprobs"][0]["token"] == "a"
    assert (output[7]["arguments"], output[8]["input"]) == ("{}", "ls")
    assert Audio not in {type(item) for item in output}


def test_log_probabilities_go_with_a_text_of_their_moment() -> None:
    tokens = (Logprob("a", -1.0, (97,)),)
    writer = ResponsesStreamWriter(asking())
    out = writer.send([LogprobsDelta(tokens)]) + writer.send([TextDelta("a")]) + writer.send([LogprobsDelta(tokens)])
    out += writer.send(
        [TextDelta("b"), LogprobsDelta(tokens, refusal=True), Finished("stop"), LogprobsDelta(tokens), Ended()]
    )
    deltas = [event for event in events_of(out) if event["type"] == "response.output_text.delta"]
    assert [(event["delta"], len(event["logprobs"])) for event in deltas] == [("a", 0), ("", 1), ("b", 1)]


def test_a_failure_is_one_error_event_and_the_last() -> None:
    writer = ResponsesStreamWriter(asking())
    out = writer.send([TextDelta("a"), Failed(UpstreamRejected("No\nway.", status=400)), Ended()])
    said = events_of(out)
    assert kinds(said)[-1] == "error"
    assert kinds(said).count("error") == 1
    assert said[-1]["message"] == said[-1]["error"]["message"] == "No\nway."
    assert said[-1]["error"]["type"] == "invalid_request_error"
    assert kinds(write([Failed(UpstreamRejected("No."))])) == ["error"]  # what came before may be the provider's own


def test_an_empty_reply_is_complete() -> None:
    assert kinds(write([Ended()])) == ["created", "in_progress", "completed"]


def test_an_item_keeps_its_id_though_a_late_signature_has_another() -> None:
    late = write([ReasoningDelta("hm"), ReasoningDelta("", "rs_1:g", signer="openai"), Ended()])
    ids = [event["item"]["id"] for event in late if "item" in event]
    assert len(set(ids)) == 1
    assert late[-1]["response"]["output"][0]["encrypted_content"] == "g"
    known = write([ReasoningDelta("hm", "rs_1:g", signer="openai"), Ended()])
    assert {event["item"]["id"] for event in known if "item" in event} == {"rs_1"}
