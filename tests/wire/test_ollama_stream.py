"""Streams, both directions: splits, ends, errors, what is passed on untouched, and the order in which lines come."""

import time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode, encode
from msgspec.structs import replace

from penstock.call import Image, Reasoning, Text, ToolUse
from penstock.errors import BudgetExhausted, UpstreamFailed, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    AudioDelta,
    Choice,
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
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)
from penstock.wire.framing import MAX_FRAME_BYTES
from penstock.wire.ollama_request import read_request
from penstock.wire.ollama_stream import OllamaStreamReader, OllamaStreamWriter
from wire.ollama_cases import body, own_reply

CALL = read_request(body(), "chat")
GENERATE = read_request(b'{"model":"llama3.2","prompt":"x"}', "generate")
SEEDS = st.integers(0, 2**64)
TOKEN = b'{"model":"m","created_at":"2025-11-20T10:00:00Z","message":{"role":"assistant","content":"a"},"done":false}\n'
DONE = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":2}\n'


def read(*pieces: bytes) -> tuple[Event, ...]:
    reader = OllamaStreamReader()
    events: tuple[Event, ...] = ()
    for piece in pieces:
        events += reader.feed(piece)
    return events + reader.end()


def lines(data: bytes) -> list[dict[str, Any]]:
    return [decode(line) for line in data.splitlines()]


def said(data: bytes) -> list[dict[str, Any]]:
    return [line["message"] for line in lines(data)]


def plain(choice: Choice) -> Choice:
    """The same, but for escapes in arguments: a line separator has to have one here."""
    parts = [
        replace(part, arguments=encode(decode(part.arguments)).decode()) if isinstance(part, ToolUse) else part
        for part in choice.parts
    ]
    return replace(choice, parts=tuple(parts))


def check(seed: int) -> None:
    rng = Random(seed)
    reply = own_reply(rng, streamed=True)
    events = unfold(reply)
    whole = OllamaStreamWriter(CALL).send(events)
    writer = OllamaStreamWriter(CALL)
    apart = b"".join(writer.send((event,)) for event in events)
    assert fold(read(whole)) == fold(read(apart))
    again = fold(read(*(whole[at : at + 7] for at in range(0, len(whole), 7))))
    assert plain(again.choices[0]) == plain(reply.choices[0])
    assert (again.usage, again.created, again.model, again.ended) == (reply.usage, reply.created, "llama3.2", True)


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


# -- reading --


def test_lines_become_events_and_go_on_as_the_very_bytes() -> None:
    reader = OllamaStreamReader()
    assert reader.feed(TOKEN) == (Started("", "m", 1_763_632_800), TextDelta("a"))
    assert reader.passed is TOKEN
    assert reader.feed(TOKEN[:20]) == ()
    assert reader.passed == b""
    assert reader.feed(TOKEN[20:]) == (TextDelta("a"),)
    assert reader.passed == TOKEN
    assert reader.feed(DONE) == (Finished("stop", "stop"), UsageReported(Usage(1, 2)), Ended())
    assert reader.passed is DONE
    assert (reader.end(), reader.passed) == ((), b"")


def test_what_follows_on_the_last_line_is_nothing() -> None:
    reader = OllamaStreamReader()
    assert reader.feed(TOKEN + DONE + TOKEN + b"garbage\n")[-1] == Ended()
    assert reader.passed == TOKEN + DONE
    assert (reader.feed(TOKEN), reader.passed) == ((), b"")


def test_a_last_line_without_a_line_feed_is_one() -> None:
    reader = OllamaStreamReader()
    reader.feed(TOKEN + DONE[:-1])
    assert reader.end()[-1] == Ended()
    assert reader.passed == DONE


@pytest.mark.parametrize("raw", [b"", b"\n", TOKEN, TOKEN + DONE[:-2], TOKEN[:-9]])
def test_a_stream_that_was_cut_says_so(raw: bytes) -> None:
    last = read(raw)[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, UpstreamGarbled)
    assert "stopped before its last line" in str(last.error)


def test_an_error_in_the_stream_ends_it_before_its_line() -> None:
    reader = OllamaStreamReader()
    events = reader.feed(TOKEN + b'{"error":"unexpected EOF"}\n' + DONE)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamFailed)
    assert reader.passed == TOKEN
    assert (reader.feed(DONE), reader.passed, reader.end()) == ((), b"", ())


def test_an_error_without_a_line_feed_is_one() -> None:
    events = read(TOKEN, b'{"error":"unexpected EOF"}')
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamFailed)


@pytest.mark.parametrize(
    "line", [b"garbage", b"[]", b'{"message":1}', b'{"message":{"content":"\xff"}}', b'{"a":"\xff"}', b"[" * 99_999]
)
def test_what_cannot_be_read_ends_it_before_its_line(line: bytes) -> None:
    reader = OllamaStreamReader()
    events = reader.feed(TOKEN + line + b"\n")
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, UpstreamGarbled)
    assert reader.passed == TOKEN


def test_blank_lines_are_passed_and_mean_nothing() -> None:
    reader = OllamaStreamReader()
    raw = b"\n \r\n" + TOKEN.replace(b"\n", b"\r\n") + b"\n"
    assert reader.feed(raw) == (Started("", "m", 1_763_632_800), TextDelta("a"))
    assert reader.passed is raw


def test_a_line_that_is_too_long_ends_the_stream() -> None:
    reader = OllamaStreamReader()
    events = reader.feed(b"x" * (MAX_FRAME_BYTES + 1))
    assert isinstance(events[0], Failed)
    assert reader.passed == b""
    reader = OllamaStreamReader()
    assert reader.feed(TOKEN + b"x" * (MAX_FRAME_BYTES + 1))[-1] == TextDelta("a")
    assert reader.passed == TOKEN
    assert isinstance(reader.end()[0], Failed)


def test_tool_calls_are_counted_over_lines() -> None:
    call = b'{"message":{"tool_calls":[{"function":{"name":"%b","arguments":{"a":1}}}]},"done":false}\n'
    events = read(call % b"f", call % b"g", DONE)
    assert [(e.index, e.name) for e in events if isinstance(e, ToolUseStarted)] == [(0, "f"), (1, "g")]
    assert Finished("tool_calls", "stop") in events


def test_progress_without_text_says_nothing() -> None:
    assert read(b'{"model":"m","completed":1,"total":4,"done":false}\n', DONE)[1:2] == (Finished("stop", "stop"),)


def test_signed_thoughts_are_said_once() -> None:
    writer = OllamaStreamWriter(CALL)
    events = (
        Started(),
        ReasoningDelta("Let "),
        ReasoningDelta("me", "s1", signer="anthropic"),
        ReasoningDelta("", "enc", redacted=True, signer="anthropic"),
        ReasoningDelta("more"),
        ReasoningDelta("", "s2", signer="google"),
        TextDelta("x"),
        Finished("stop", "stop"),
        Ended(),
    )
    assert fold(read(b"".join(writer.send((event,)) for event in events))).choices[0].parts == (
        Reasoning("Let me", "s1", signer="anthropic"),
        Reasoning("", "enc", redacted=True, signer="anthropic"),
        Reasoning("more", "s2", signer="google"),
        Text("x"),
    )


def test_a_client_that_keeps_all_members_can_put_the_signed_thoughts_together() -> None:
    events = (
        ReasoningDelta("Let "),
        ReasoningDelta("me", "s1", signer="anthropic"),
        ReasoningDelta("plain"),
        ReasoningDelta("", "enc", redacted=True, signer="anthropic"),
        ReasoningDelta("tail"),
    )
    told = said(OllamaStreamWriter(CALL).send((*events, Ended())))
    details = [detail for message in told for detail in message.get("reasoning_details", ())]
    assert details == [
        {"type": "reasoning.text", "text": "Let me", "signature": "penstock.anthropic.s1", "index": 0},
        {"type": "reasoning.text", "text": "plain", "signature": None, "index": 0},
        {"type": "reasoning.encrypted", "data": "penstock.anthropic.enc", "index": 1},
    ]
    back = {"role": "assistant", "content": "", "thinking": "Let meplaintail", "reasoning_details": details}
    call = read_request(encode({"model": "m", "messages": [back]}), "chat")
    assert call.content.messages[0].parts == (
        Reasoning("Let me", "s1", signer="anthropic"),
        Reasoning("plain"),
        Reasoning("", "enc", redacted=True, signer="anthropic"),
        Reasoning("tail"),
    )
    again = fold(read(OllamaStreamWriter(CALL).send((*events, Ended()))))
    assert again.choices[0].parts == call.content.messages[0].parts


def test_a_thought_that_comes_with_a_redacted_one_is_its_own() -> None:
    raw = b'{"message":{"thinking":"a","reasoning_details":[{"type":"reasoning.encrypted","data":"e"}]}}\n'
    assert fold(read(raw, DONE)).choices[0].parts == (Reasoning("a"), Reasoning("", "e", redacted=True))


# -- writing --


def test_text_goes_out_at_once_under_the_name_that_was_asked_for() -> None:
    writer = OllamaStreamWriter(CALL)
    assert writer.send((Started("id", "gpt-4o", 1_700_000_000),)) == b""
    head = b'{"model":"llama3.2","created_at":"2023-11-14T22:13:20Z",'
    assert writer.send((TextDelta("é\u2028"),)) == (
        head + '"message":{"role":"assistant","content":"é\\u2028"},"done":false}\n'.encode()
    )
    assert writer.send((Finished("stop", "end_turn"),)) == b""
    assert writer.send((UsageReported(Usage(3, 4)),)) == b""
    assert writer.send((Ended(),)) == (
        head + b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
        b'"prompt_eval_count":3,"eval_count":4}\n'
    )


def test_a_completion_streams_as_one() -> None:
    events = (Started(), ReasoningDelta("t"), TextDelta("a"), PartAdded(Image(data="/9j/")), Finished("stop"), Ended())
    assert [
        {name: value for name, value in line.items() if name not in {"model", "created_at"}}
        for line in lines(OllamaStreamWriter(GENERATE).send(events))
    ] == [
        {"response": "", "thinking": "t", "done": False},
        {"response": "a", "done": False},
        {"response": "", "image": "/9j/", "done": False},
        {"response": "", "done": True, "done_reason": "stop"},
    ]


def test_signatures_have_no_place_in_a_completion() -> None:
    written = OllamaStreamWriter(GENERATE).send((ReasoningDelta("t"), ReasoningDelta("", "s", signer="anthropic")))
    assert len(lines(written)) == 1


def test_tool_calls_go_out_whole_when_the_answer_ends() -> None:
    writer = OllamaStreamWriter(CALL)
    events = (
        ToolUseStarted(0, "a", "f"),
        ToolUseStarted(1, "b", "g", signature="s", signer="google"),
        ToolUseDelta(0, '{"x"'),
        ToolUseDelta(1, ""),
        ToolUseDelta(0, ":1}"),
        ToolUseDelta(7, "lost"),
    )
    assert writer.send(events) == b""
    (line,) = said(writer.send((Finished("tool_calls"),)))
    assert line == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
            {
                "id": "b",
                "function": {"name": "g", "arguments": {}},
                "extra_content": {"google": {"thought_signature": "penstock.google.s"}},
            },
        ],
    }
    assert [line["done_reason"] for line in lines(writer.send((Ended(),)))] == ["stop"]


def test_tool_calls_of_an_answer_that_does_not_say_why_it_ended_are_not_lost() -> None:
    written = OllamaStreamWriter(CALL).send((ToolUseStarted(0, "a", "f"), Ended()))
    assert [line["done"] for line in lines(written)] == [False, True]


def test_log_probabilities_go_along_with_their_text() -> None:
    told = LogprobsDelta((Logprob("a", -0.5),))
    for call, text in ((CALL, "message"), (GENERATE, "response")):
        first, alone = lines(OllamaStreamWriter(call).send((TextDelta("a"), told, told)))
        assert first["logprobs"] == alone["logprobs"] == [{"token": "a", "logprob": -0.5}]
        assert first[text] in ("a", {"role": "assistant", "content": "a"})
        assert alone[text] in ("", {"role": "assistant", "content": ""})
    refused = OllamaStreamWriter(CALL).send((RefusalDelta("No."), LogprobsDelta((Logprob("a", -0.5),), refusal=True)))
    assert [line["message"] for line in lines(refused)] == [{"role": "assistant", "content": "No."}]


def test_what_only_this_dialect_knows_stands_in_the_last_line() -> None:
    events = (ForeignDelta("ollama", "context", b"[1]"), ForeignDelta("chat", "annotations", b"[]"), Ended())
    (line,) = lines(OllamaStreamWriter(CALL).send(events))
    assert line["context"] == [1]
    assert "annotations" not in line


def test_a_failure_is_one_line_and_no_last_one() -> None:
    writer = OllamaStreamWriter(CALL)
    error = BudgetExhausted("No money.\u2028", hint="Ask.")
    written = writer.send((TextDelta("a"), ToolUseStarted(0, "a", "f"), Failed(error)))
    assert lines(written)[1:] == [{"error": "No money.\u2028 Ask."}]
    assert len(written.decode().splitlines()) == 2


def test_what_has_no_place_is_left_out() -> None:
    events = (
        TextDelta("b", 1), RefusalDelta("c", 1), ReasoningDelta("d", choice=1), ToolUseStarted(0, "a", "f", choice=1),
        ToolUseDelta(0, "{}", 1), Finished("stop", choice=1), LogprobsDelta((), choice=1), AudioDelta("aGk="),
        PartAdded(Image(url="https://example.com")), ReasoningDelta(""),
    )  # fmt: skip
    assert OllamaStreamWriter(CALL).send(events) == b""


def test_an_empty_answer_is_one_line() -> None:
    (line,) = lines(OllamaStreamWriter(CALL).send(unfold(Reply(choices=(Choice((), "length"),), ended=True))))
    assert (line["done"], line["done_reason"]) == (True, "length")


def test_a_call_and_its_pieces_are_one_whatever_way_they_come() -> None:
    reply = Reply(choices=(Choice((ToolUse("a", "f", encode({"x": 1}).decode()),), "tool_calls"),), ended=True)
    assert fold(read(OllamaStreamWriter(CALL).send(unfold(reply)))).choices[0].parts == reply.choices[0].parts


# -- bounds --


def test_a_megabyte_in_one_line_and_many_tiny_lines_take_linear_time() -> None:
    def taking(count: int) -> float:
        reader, raw = OllamaStreamReader(), TOKEN * count
        start = time.process_time()
        for at in range(0, len(raw), 1_000):
            reader.feed(raw[at : at + 1_000])
        reader.feed(TOKEN.replace(b'"a"', b'"%b"' % (b"a" * 16 * count)))
        return time.process_time() - start

    taking(500)
    assert taking(20_000) < 10 * max(taking(5_000), 0.005), "four times the lines must not take sixteen times as long"
