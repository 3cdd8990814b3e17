"""Whole replies, both directions, and what they share with streams: endings, counts, times, log probabilities."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode
from ollama import ChatResponse, GenerateResponse

from penstock.call import Image, Reasoning, Refusal, Text, ToolUse
from penstock.errors import InvalidRequest, UpstreamFailed, UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    ForeignDelta,
    Logprob,
    PartAdded,
    ReasoningDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
    unfold,
)
from penstock.wire.ollama_reply import (
    NO_LOGPROB,
    finished,
    native_finish,
    read_in_band,
    read_reply,
    read_time,
    read_usage,
    tap_reply,
    write_error,
    write_reply,
    write_time,
)
from penstock.wire.ollama_request import read_request
from wire.ollama_cases import body, own_reply

CALL = read_request(body(), "chat")
GENERATE = read_request(b'{"model":"llama3.2","prompt":"x"}', "generate")
SEEDS = st.integers(0, 2**64)


def reply(**members: object) -> bytes:
    least = {"model": "m", "created_at": "2025-11-20T10:00:00Z", "message": {"role": "assistant", "content": "Hi"}}
    return encode(
        {
            name: Raw(value) if isinstance(value, bytes) else value
            for name, value in {**least, "done": True, **members}.items()
        }
    )


def check(seed: int) -> None:
    said = own_reply(Random(seed))
    data = write_reply(said, CALL)
    ChatResponse(**decode(data))
    again = fold(read_reply(data))
    expected = said.choices[0]
    if expected.parts != (Text(""),):
        expected = Choice(
            tuple(part for part in expected.parts if part != Text("")) or (Text(""),),
            *(expected.finish, expected.native_finish, expected.logprobs, (), expected.foreign),
        )
    assert again.choices[0] == expected
    assert (again.usage, again.created, again.model) == (said.usage, said.created, "llama3.2")
    assert fold(tap_reply(data)).usage == said.usage
    assert fold(tap_reply(data)).choices[0].finish == expected.finish


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


# -- reading --


def test_a_plain_reply_is_read() -> None:
    assert read_reply(reply(done_reason="stop", prompt_eval_count=3, eval_count=4, total_duration=9)) == (
        Started("", "m", 1_763_632_800),
        TextDelta("Hi"),
        ForeignDelta("ollama", "total_duration", b"9"),
        Finished("stop", "stop"),
        UsageReported(Usage(3, 4)),
        Ended(),
    )


def test_a_text_in_place_of_arguments_is_read_as_what_it_says() -> None:
    calls = b'[{"function":{"name":"f","arguments":"{\\"a\\":1}"}},{"function":{"name":"g","arguments":""}}]'
    events = read_reply(reply(message=b'{"tool_calls":%b}' % calls))
    assert [e.arguments for e in events if isinstance(e, ToolUseDelta)] == ['{"a":1}', "{}"]


def test_ids_are_made_of_the_reply_and_differ_from_call_to_call() -> None:
    message = {"tool_calls": [{"function": {"name": "f", "arguments": {}}}] * 2}

    def ids(**members: object) -> list[str]:
        return [e.id for e in read_reply(reply(message=message, **members)) if isinstance(e, ToolUseStarted)]

    assert ids() == ids()
    assert len({*ids(), *ids(created_at="2025-11-20T10:00:01Z")}) == 4


def test_tools_called_in_a_completion_are_read() -> None:
    raw = b'{"model":"m","response":"","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}],"done":true}'
    events = read_reply(raw)
    assert ToolUseStarted(0, "a", "f") in events
    assert Finished("tool_calls", "") in events


def test_signed_thoughts_are_read() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "penstock.anthropic.s"},
        {"type": "reasoning.encrypted", "data": "e"},
    ]
    events = read_reply(reply(message={"content": "x", "thinking": "Hm", "reasoning_details": details}))
    assert events[1:3] == (
        ReasoningDelta("Hm", "s", signer="anthropic"),
        ReasoningDelta("", "e", redacted=True),
    )


def test_thoughts_of_which_only_the_last_piece_comes_with_the_signature_are_not_said_twice() -> None:
    details = [{"type": "reasoning.text", "text": "Hm, well", "signature": "s"}]
    events = read_reply(reply(message={"content": "x", "thinking": "well", "reasoning_details": details}))
    assert events[1] == ReasoningDelta("well", "s")
    details = [{"type": "reasoning.encrypted", "data": "e"}]
    events = read_reply(reply(message={"content": "x", "thinking": "a", "reasoning_details": details}))
    assert events[1:3] == (ReasoningDelta("a"), ReasoningDelta("", "e", redacted=True))


def test_a_completion_is_read() -> None:
    events = read_reply(b'{"model":"m","response":"x","thinking":"t","done":true}')
    assert events[1:3] == (ReasoningDelta("t"), TextDelta("x"))


def test_pictures_are_read_wherever_they_stand() -> None:
    picture = PartAdded(Image(data="/9j/4AAQ", media_type="image/jpeg"))
    assert picture in read_reply(reply(message={"content": "", "images": ["/9j/4AAQ"]}))
    assert picture in read_reply(reply(images=["/9j/4AAQ"]))
    assert picture in read_reply(b'{"image":"/9j/4AAQ","done":true}')


def test_a_token_without_its_probability_has_the_least() -> None:
    (choice,) = fold(read_reply(reply(logprobs=[{"token": "a", "logprob": None}]))).choices
    assert choice.logprobs == (Logprob("a", NO_LOGPROB),)


def test_an_error_with_status_200_fails() -> None:
    failed, ended = read_reply(b'{"error":"out of memory"}')
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, UpstreamFailed)
    assert "out of memory" in str(failed.error)
    assert ended == Ended()


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"message":1}', b'{"message":{"content":"\xff"}}', b'{"x":"\xff"}', b'{"model":"m","done":true}', b'{"a":' * 99_999])  # fmt: skip
def test_what_is_no_reply_is_garbled(raw: bytes) -> None:
    for read in (read_reply, tap_reply):
        with pytest.raises(UpstreamGarbled):
            read(raw)


def test_an_error_that_cannot_be_read_is_garbled() -> None:
    assert isinstance(read_in_band(Raw(b'"\n"')), UpstreamGarbled)


@pytest.mark.parametrize(
    "members",
    [
        {"prompt_eval_count": -1, "done_reason": "stop"},
        {"prompt_eval_count": 1, "eval_count": -1, "done_reason": "stop"},
        {"prompt_eval_count": 1, "done_reason": "stop", "model": "é"},
        {"prompt_eval_count": 1, "done_reason": "stop", "error": None},
        {"done_reason": "stop"},
        {"prompt_eval_count": 1},
    ],
)
def test_the_tap_leaves_what_is_unusual_to_the_reader(members: dict[str, object]) -> None:
    assert tap_reply(reply(**members)) == read_reply(reply(**members))


def test_the_tap_reads_nothing_but_what_is_counted() -> None:
    raw = reply(done_reason="stop", prompt_eval_count=3, message={"content": "x", "tool_calls": [{"function": {}}]})
    assert tap_reply(raw) == (
        Started("", "m", 1_763_632_800),
        Finished("tool_calls", "stop"),
        UsageReported(Usage(3)),
        Ended(),
    )


# -- endings, counts, times --


@pytest.mark.parametrize(
    ("native", "called", "reason"),
    [
        ("stop", False, "stop"),
        ("stop", True, "tool_calls"),
        ("", False, "stop"),
        ("", True, "tool_calls"),
        ("length", False, "length"),
        ("length", True, "length"),
        ("load", False, "stop"),
        ("unload", False, "stop"),
        ("content_filter", False, "content_filter"),
        ("connection closed", False, "other"),
    ],
)
def test_why_an_answer_ended_is_read(native: str, called: bool, reason: Finish) -> None:  # noqa: FBT001 - a parameter of the test
    assert finished(native, called=called) == Finished(reason, native)


@pytest.mark.parametrize(
    ("reason", "native", "word"),
    [
        ("stop", "end_turn", "stop"),
        ("stop", "load", "load"),
        ("tool_calls", "tool_use", "stop"),
        ("tool_calls", "stop", "stop"),
        ("length", "max_tokens", "length"),
        ("content_filter", "SAFETY", "content_filter"),
        ("refusal", "refusal", "refusal"),
        ("refusal", "stop", "refusal"),
        ("pause", "pause_turn", "pause"),
        ("error", "", "error"),
        ("other", "strange", "stop"),
    ],
)
def test_why_an_answer_ended_is_written(reason: Finish, native: str, word: str) -> None:
    assert native_finish(reason, native) == word


@pytest.mark.parametrize(
    ("into", "out", "usage"),
    [(3, 4, Usage(3, 4)), (3, None, Usage(3)), (3, -1, Usage(3)), (None, 4, None), (-1, 4, None), (0, 0, Usage())],
)
def test_a_count_without_the_prompt_is_none(into: int | None, out: int | None, usage: Usage | None) -> None:
    assert read_usage(into, out) == usage


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-08-04T08:52:19.385406455-07:00", 1_691_164_339),
        ("2023-08-04T19:22:45.499127Z", 1_691_176_965),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_read(text: str | None, seconds: int | None) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (None, "1970-01-01T00:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        (10**30, "1970-01-01T00:00:00Z"),
        (10**12, "1970-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written(seconds: int | None, text: str) -> None:
    assert write_time(seconds) == text


# -- writing --


def test_a_reply_is_written_under_the_name_that_was_asked_for() -> None:
    parts = (
        *(Reasoning("Hm"), Reasoning("m.", "s", signer="anthropic")),
        *(Text("a"), Refusal("b"), Text("c")),
        ToolUse("t", "f", '{"x":1}', signature="g", signer="google"),
    )
    said = Reply(
        model="gpt-4o",
        created=1_700_000_000,
        choices=(Choice(parts, "tool_calls", "tool_calls"),),
        usage=Usage(3, 4, 2),
    )
    assert decode(write_reply(said, CALL)) == {
        "model": "llama3.2",
        "created_at": "2023-11-14T22:13:20Z",
        "message": {
            "role": "assistant",
            "content": "abc",
            "thinking": "Hmm.",
            "tool_calls": [
                {
                    "id": "t",
                    "function": {"name": "f", "arguments": {"x": 1}},
                    "extra_content": {"google": {"thought_signature": "penstock.google.g"}},
                }
            ],
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Hm", "signature": None, "index": 0},
                {"type": "reasoning.text", "text": "m.", "signature": "penstock.anthropic.s", "index": 1},
            ],
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 4,
    }  # fmt: skip


def test_a_completion_is_written_as_one() -> None:
    parts = (
        Reasoning("Hm"),
        Text("a"),
        Image(data="/9j/4AAQ"),
        Image(url="https://example.com"),
        ToolUse("t", "f", "{}"),
    )
    said = Reply(
        choices=(
            Choice(
                parts, "length", foreign=(ForeignDelta("ollama", "context", b"[1]"), ForeignDelta("chat", "x", b"1"))
            ),
        )
    )
    written = decode(write_reply(said, GENERATE))
    assert written == {
        "model": "llama3.2",
        "created_at": "1970-01-01T00:00:00Z",
        "response": "a",
        "thinking": "Hm",
        "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": {}}}],
        "image": "/9j/4AAQ",
        "done": True,
        "done_reason": "length",
        "context": [1],
    }
    assert GenerateResponse(**written).image == "/9j/4AAQ"


def test_what_the_provider_named_itself_does_not_replace_what_we_say() -> None:
    said = Reply(choices=(Choice(foreign=(ForeignDelta("ollama", "model", b'"secret"'),)),))
    assert decode(write_reply(said, CALL))["model"] == "llama3.2"


def test_a_reply_without_an_answer_is_an_empty_one() -> None:
    written = decode(write_reply(Reply(), CALL))
    assert (written["message"], written["done"]) == ({"role": "assistant", "content": ""}, True)


def test_a_second_answer_is_left_out() -> None:
    said = Reply(choices=(Choice((Text("a"),)), Choice((Text("b"),))))
    assert decode(write_reply(said, CALL))["message"]["content"] == "a"


def test_log_probabilities_are_written() -> None:
    top = (Logprob("a", -0.5, (97,)), Logprob("b", -1.5))
    said = Reply(choices=(Choice((Text("ac"),), logprobs=(Logprob("a", -0.5, (97,), top), Logprob("c", -2.0))),))
    assert decode(write_reply(said, CALL))["logprobs"] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b", "logprob": -1.5}],
        },
        {"token": "c", "logprob": -2.0},
    ]


def test_an_error_is_a_text() -> None:
    assert write_error(InvalidRequest("Bad.", hint="Mend it.")) == b'{"error":"Bad. Mend it."}'


def test_the_events_of_a_reply_are_those_of_what_is_written() -> None:
    said = Reply(choices=(Choice((Text("a"),), "stop", "stop"),), usage=Usage(1, 2), ended=True)
    again = read_reply(write_reply(said, CALL))
    assert unfold(said)[1:] == again[1:]
