"""Whole replies both ways: round trips, blocks, usage, endings, errors that came with status 200."""

from random import Random
from typing import Any

import anthropic.types as sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace

from penstock.call import Audio, Citation, File, Foreign, Image, Part, Reasoning, Refusal, Text, ToolUse
from penstock.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamGarbled,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.reply import (
    Choice,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    ForeignDelta,
    Reply,
    Started,
    ToolUseStarted,
    fold,
)
from penstock.wire.anthropic_messages_reply import read_reply, write_reply
from penstock.wire.anthropic_messages_usage import merge
from wire.generated import Can, any_reply

SEEDS = st.integers(0, 2**64)
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
    foreign_deltas=(("stop_sequence", b'"x"'),),
    interleaved=True,
    endings=(("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("pause", "pause_turn"), ("refusal", "refusal"), ("length", "model_context_window_exceeded")),
    logprobs=False,
    refusal_logprobs=False,
    usage=frozenset({"input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens"}),
)  # fmt: skip


def as_read(reply: Reply) -> Reply:
    """The reply as this API can say it: what was refused stands at the end, sources say where they hold."""
    choice = reply.choices[0]
    parts = [placed(part) for part in choice.parts if not isinstance(part, Refusal)]
    parts += [part for part in choice.parts if isinstance(part, Refusal)]
    return replace(reply, choices=(replace(choice, parts=tuple(parts)),))


def placed(part: Part) -> Part:
    if not isinstance(part, Text):
        return part
    return replace(part, citations=tuple(replace(c, start=0, end=len(part.text)) for c in part.citations))


def read(*blocks: Any, **members: Any) -> list[Event]:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    return list(read_reply(encode({**head, "content": list(blocks), **members})))


def parts(*blocks: Any) -> tuple[Part, ...]:
    return fold(read(*blocks)).choices[0].parts


def write(*said: Part, finish: Finish = "stop", native: str = "", **members: Any) -> dict[str, Any]:
    choice = Choice(said, finish, native, foreign=members.pop("foreign", ()))
    written = write_reply(Reply("r", "m", choices=(choice,), **members))
    sdk.Message.model_validate(decode(written), strict=False)
    message: dict[str, Any] = decode(written)
    return message


# -- round trips --


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_reply_is_written_and_read_again_as_it_was(seed: int) -> None:
    rng = Random(seed)
    for _ in range(100):
        reply = any_reply(rng, CAN)
        written = write_reply(reply)
        assert fold(read_reply(written)) == as_read(reply)


@settings(max_examples=1_000, deadline=None)
@given(SEEDS)
def test_the_sdk_takes_every_reply_of_any_dialect(seed: int) -> None:
    reply = any_reply(Random(seed), Can(dialect="chat", reply_images=("url", "data"), interleaved=True))
    message = sdk.Message.model_validate(decode(write_reply(reply)), strict=False)
    assert all(block.type != "text" or block.text for block in message.content)
    uses = [part for part in reply.choices[0].parts if isinstance(part, ToolUse)]
    assert [block.id for block in message.content if block.type == "tool_use"] == [use.id for use in uses]


# -- blocks --


def test_empty_texts_are_left_out_both_ways() -> None:
    assert parts({"type": "text", "text": ""}) == ()
    assert write(Text(""))["content"] == []
    assert decode(write_reply(Reply()))["content"] == []


def test_arguments_that_are_no_object_are_wrapped() -> None:
    written = write(
        ToolUse("a", "f", ""), ToolUse("b", "f", "oops"), ToolUse("c", "f", "x", "custom"), ToolUse("d", "f", "{} ")
    )
    assert [block["input"] for block in written["content"]] == [{}, {"input": "oops"}, {"input": "x"}, {}]
    assert [use.arguments for use in parts({"type": "tool_use", "id": "a", "name": "f", "input": None}) if isinstance(use, ToolUse)] == ["{}"]  # fmt: skip


def test_what_an_answer_cannot_hold_becomes_text_or_nothing() -> None:
    written = write(
        Image(url="https://example.com/a.png"), File(url="u"), Image(data="AA=="), Audio(transcript="hi"), Audio()
    )
    assert [block["text"] for block in written["content"]] == ["https://example.com/a.png", "u", "hi"]
    assert write(Foreign("chat", "x", b"{}"))["content"] == []


def test_signatures_of_other_families_are_carried_and_come_back() -> None:
    said = (Reasoning("t", "s", signer="google"), ToolUse("a", "f", "{}", signature="g", signer="google"))
    written = write(*said)
    assert written["content"][0]["signature"] == "penstock.google.s"
    assert written["content"][1] == {"type": "redacted_thinking", "data": "penstock.google.g"}
    assert parts(*written["content"]) == said
    assert write(ToolUse("a", "f", "{}", signature="g"))["content"][0]["type"] == "tool_use"


def test_members_of_a_tool_call_that_nobody_knows_come_before_it() -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}, "caller": {"type": "x"}, "toolset_name": None}
    events = read({"type": "text", "text": "x"}, block)
    at = next(index for index, event in enumerate(events) if isinstance(event, ToolUseStarted))
    assert events[at - 1] == ForeignDelta("messages", "tool_use.0", b'{"caller":{"type":"x"}}')
    message = decode(write_reply(fold(events)))
    assert message["content"][1]["caller"] == {"type": "x"}


def test_a_block_of_a_type_that_nobody_knows_is_kept_whatever_it_holds() -> None:
    block = {"type": "later", "text": {"deep": 1}}
    assert parts(block) == (Foreign("messages", "later", encode(block)),)
    with pytest.raises(UpstreamGarbled):
        read({"type": "text", "text": 1})
    with pytest.raises(UpstreamGarbled):
        read({"type": 1})
    with pytest.raises(UpstreamGarbled):
        read("text")


# -- endings --


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("later", "other"),
        (None, "other"),
    ],
)
def test_endings_are_read(native: str | None, reason: Finish) -> None:
    content = [{"type": "text", "text": "Hi"}]
    assert Finished(reason, native or "") in read(stop_reason=native, content=content)


@pytest.mark.parametrize(
    ("reason", "native", "said", "word"),
    [
        ("stop", "stop", (), "end_turn"),
        ("stop", "stop", (ToolUse("a", "f", "{}"),), "tool_use"),
        ("stop", "end_turn", (ToolUse("a", "f", "{}"),), "end_turn"),
        ("length", "length", (ToolUse("a", "f", "{}"),), "max_tokens"),
        ("content_filter", "SAFETY", (), "refusal"),
        ("stop", "stop", (Refusal("No."),), "refusal"),
        ("pause", "", (), "pause_turn"),
        ("error", "error", (), "end_turn"),
        ("other", "later", (), "end_turn"),
    ],
)
def test_endings_are_written(reason: Finish, native: str, said: tuple[Part, ...], word: str) -> None:
    assert write(*said, finish=reason, native=native)["stop_reason"] == word


def test_a_refusal_is_explained() -> None:
    written = write(Refusal("I cannot."), finish="refusal", native="refusal")
    assert written["stop_details"] == {"type": "refusal", "category": None, "explanation": "I cannot."}
    events = read(stop_reason="refusal", stop_details=written["stop_details"])
    assert fold(events).choices[0].parts == (Refusal("I cannot."),)
    named = {"type": "refusal", "category": "bio", "explanation": None}
    assert ForeignDelta("messages", "stop_details", encode(named)) in read(stop_details=named)
    assert ForeignDelta("messages", "stop_details", b"[1]") in read(stop_details=[1])


def test_members_that_only_this_dialect_knows_come_back() -> None:
    foreign = (
        ForeignDelta("messages", "stop_sequence", b'"END"'),
        ForeignDelta("messages", "usage", b'{"server_tool_use":{"web_search_requests":1,"web_fetch_requests":0}}'),
        ForeignDelta("chat", "annotations", b"[]"),
    )
    written = write(Text("x"), foreign=foreign, extra=(("container", b"null"), ("usage", b'{"speed":"fast"}')))
    assert (written["stop_sequence"], written["usage"]["speed"]) == ("END", "fast")
    assert written["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert "annotations" not in written
    out: dict[str, Any] = {}
    merge(out, b"not json")
    assert out == {}


# -- errors and what is no reply --


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        ("overloaded_error", UpstreamOverloaded, 529),
        ("rate_limit_error", UpstreamRateLimited, 429),
        ("invalid_request_error", UpstreamRejected, 400),
        ("request_too_large", UpstreamRejected, 413),
        ("authentication_error", UpstreamAuth, 502),
        ("billing_error", UpstreamAuth, 502),
        ("not_found_error", UpstreamMissing, 502),
        ("api_error", UpstreamFailed, 502),
        ("later", UpstreamFailed, 502),
    ],
)
def test_an_error_with_status_200_is_what_it_would_have_been(
    kind: str, error: type[UpstreamError], status: int
) -> None:
    events = read_reply(encode({"type": "error", "error": {"type": kind, "message": "Sorry"}}))
    assert isinstance(events[0], Failed)
    assert (type(events[0].error), events[0].error.status) == (error, status)
    assert "answered 529" not in str(events[0].error)


def test_an_error_without_words_is_a_failure() -> None:
    failed = read_reply(b'{"type":"error"}')[0]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamFailed)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"<html>", b'{"content":[],"id":"\xff"}', b'{"content":{}}', b'{"content":' + b"[" * 9_999],
)
def test_what_is_no_message_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled):
        read_reply(body)


def test_the_least_reply_is_read() -> None:
    body = b'{"content":[],"stop_reason":"end_turn"}'
    assert read_reply(body) == (Started(), Finished("stop", "end_turn"), Ended())


def test_an_empty_reply_that_is_not_at_its_end_is_none() -> None:
    with pytest.raises(UpstreamGarbled, match="not at its end"):
        read_reply(b'{"content":[]}')


def test_who_answers_is_told_with_the_members_that_only_this_dialect_knows() -> None:
    usage = {"input_tokens": 1, "service_tier": "priority", "speed": "fast"}
    assert read(usage=usage, container={"id": "c"}, stop_details=None)[0] == Started(
        "msg_1", "claude", service_tier="priority", extra=(("container", b'{"id":"c"}'), ("usage", b'{"speed":"fast"}'))
    )
