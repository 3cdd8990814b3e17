"""Whole replies: every item has its event, every ending its reason, and what is no Response is garbled."""

import pytest
from msgspec import Raw
from msgspec.json import encode

from penstock.call import Citation, Foreign, Image
from penstock.errors import UpstreamGarbled, UpstreamRateLimited
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
from penstock.wire.openai_responses_reply import Output, arguments_of, read_reply, read_usage, tap_reply
from penstock.wire.openai_responses_reply_types import OutputItem

HEAD = {"id": "resp_1", "object": "response", "created_at": 17.5, "model": "m", "status": "completed"}
STARTED = Started("resp_1", "m", 17)


def reply(*output: object, **members: object) -> bytes:
    return encode({**HEAD, "output": output, **members})


def said(*output: object, **members: object) -> tuple[Event, ...]:
    """The events between the start and the end mark."""
    events = read_reply(reply(*output, **members))
    assert (events[0], events[-1]) == (STARTED, Ended())
    return events[1:-1]


def message(*content: object) -> dict[str, object]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


def test_a_text_with_everything() -> None:
    source = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    logprobs = [{"token": "a", "bytes": [97], "logprob": -1, "top_logprobs": [{"token": "b", "logprob": -2}]}]
    text = {"type": "output_text", "text": "a", "annotations": [source], "logprobs": logprobs}
    assert said(message(text, {"type": "refusal", "refusal": "no"})) == (
        TextDelta("a"),
        LogprobsDelta((Logprob("a", -1.0, (97,), (Logprob("b", -2.0),)),)),
        Cited(Citation("u", "t", start=0, end=1, dialect="responses", native=encode(source))),
        RefusalDelta("no"),
        Finished("stop", "completed"),
    )


def test_tools_thoughts_and_the_rest() -> None:
    search = {"type": "web_search_call", "id": "ws"}
    events = said(
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "g",
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "penstock.google.tool:c1:sig"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "id": "fc_2", "name": "g", "arguments": {"a": 1}},
        {"type": "custom_tool_call", "call_id": "c3", "name": "h", "input": None},
        search,
        {"type": "image_generation_call", "id": "ig", "result": "aGk=", "output_format": "webp"},
        {"type": "image_generation_call", "id": "ig", "result": None},
        {"type": "message"},
        {"type": "reasoning", "id": "rs_3", "summary": []},
    )
    failed = {"type": "image_generation_call", "id": "ig", "result": None}
    assert events == (
        ReasoningDelta("hm", "rs_1:g", signer="openai"),
        ToolUseStarted(0, "c1", "f", "function", 0, "sig", "google"),
        ToolUseDelta(0, "{}"),
        ToolUseStarted(1, "fc_2", "g"),
        ToolUseDelta(1, '{"a":1}'),
        ToolUseStarted(2, "c3", "h", "custom"),
        PartAdded(Foreign("responses", "web_search_call", encode(search))),
        PartAdded(Image(data="aGk=", media_type="image/webp", extra=(("id", b'"ig"'), ("output_format", b'"webp"')))),
        PartAdded(Foreign("responses", "image_generation_call", encode(failed))),
        Finished("tool_calls", "completed"),
    )


@pytest.mark.parametrize(
    ("members", "finish"),
    [
        ({}, Finished("stop", "completed")),
        ({"status": None}, Finished("stop", "completed")),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            Finished("length", "max_output_tokens"),
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            Finished("content_filter", "content_filter"),
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, Finished("other", "steered")),
        ({"status": "incomplete"}, Finished("other", "incomplete")),
    ],
)
def test_every_ending_has_its_reason(members: dict[str, object], finish: Finished) -> None:
    assert said(message({"type": "output_text", "text": "a"}), **members)[-1] == finish


def test_a_refusal_alone_is_one() -> None:
    assert said(message({"type": "refusal", "refusal": "no"}))[-1] == Finished("refusal", "completed")


def test_a_failure_is_one() -> None:
    for verb in (read_reply, tap_reply):
        events = verb(reply(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}))
        assert isinstance(events[0], Failed)
        assert isinstance(events[0].error, UpstreamRateLimited)
        assert events[1:] == (Ended(),)
        cancelled = verb(reply(status="cancelled", usage={"input_tokens": 1}))
        assert [type(event) for event in cancelled] == [Started, UsageReported, Failed, Ended]


def test_members_that_nobody_knows_ride_along() -> None:
    events = read_reply(reply(moderation={"input": 1}, billing=None, instructions="x", conversation={"id": "c"}))
    assert fold(events).extra == (("moderation", b'{"input":1}'), ("conversation", b'{"id":"c"}'))


def test_the_meter_gets_what_it_needs() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}
    body = reply({"type": "function_call", "call_id": "c", "name": "f"}, message(), usage=usage)
    assert tap_reply(body) == (
        STARTED,
        UsageReported(Usage(3, 2, reasoning_tokens=1)),
        Finished("tool_calls", "completed"),
        Ended(),
    )
    unusual = reply(message({"type": "output_text", "text": "é"}))
    assert tap_reply(unusual) == read_reply(unusual)


@pytest.mark.parametrize(
    ("json", "usage"),
    [
        ("a text that is no count", None),
        (None, None),
        ({}, None),
        ("seven", None),
        ({"input_tokens": "x"}, None),
        ({"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}, Usage(5, 2)),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "output_tokens": 6,
                "output_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(9, 6, 4, 2, reasoning_tokens=5),
        ),
        ({"input_tokens": -1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 9}}, Usage(0, 1)),
    ],
)
def test_usage_is_held_to_the_whole(json: object, usage: Usage | None) -> None:
    assert read_usage(Raw(encode(json))) == usage


def test_arguments_of_any_shape_are_text() -> None:
    assert arguments_of(OutputItem(arguments=Raw(b'"x"'))) == "x"
    assert arguments_of(OutputItem()) == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"output":7}',
        b'{"output":[7]}',
        b'{"output":"\xff"}',
        b"[" * 9_999,
    ],
)
def test_what_is_no_response_is_garbled(body: bytes) -> None:
    for verb in (read_reply, tap_reply):
        with pytest.raises(UpstreamGarbled):
            verb(body)


def test_an_item_that_is_not_what_it_says_is_garbled() -> None:
    with pytest.raises(UpstreamGarbled):
        read_reply(b'{"output":[{"type":"message","content":[7]}]}')


def test_of_a_thought_that_was_told_only_the_signature_is_left() -> None:
    events: list[Event] = []
    Output().read_thought(OutputItem(id="rs_1", summary=Raw(b'[{"text":"hm"}]')), events, told=True)
    assert events == []
    Output().read_thought(OutputItem(id="rs_1", encrypted_content="g"), events, told=True)
    assert events == [ReasoningDelta("", "rs_1:g", signer="openai")]


def test_a_count_that_is_not_even_json_is_none() -> None:
    assert read_usage(Raw(b"{broken")) is None
    assert read_usage(Raw(b'{"total_tokens":7}')) is None
