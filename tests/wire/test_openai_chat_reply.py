"""Whole replies: every member of every provider that matters, and nothing lost on the way through."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode
from openai.types.chat import ChatCompletion

from penstock.call import Audio, Citation, Reasoning, Refusal, Text, ToolUse
from penstock.errors import (
    BudgetExhausted,
    ContextOverflow,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PenstockError,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    UpstreamGarbled,
    UpstreamRateLimited,
    UpstreamRejected,
)
from penstock.receipt import Usage
from penstock.reply import (
    Choice,
    Cited,
    Ended,
    Event,
    Failed,
    Finished,
    ForeignDelta,
    Logprob,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Reply,
    Started,
    TextDelta,
    ToolUseDelta,
    ToolUseStarted,
    UsageReported,
    fold,
)
from penstock.wire.openai_chat_reply import read_reply, write_error, write_reply
from wire.chat_cases import any_reply

SEEDS = st.integers(0, 2**64)
REQUIRED = {
    "": ("id", "choices", "created", "model", "object"),
    "choice": ("finish_reason", "index", "message", "logprobs"),
    "message": ("content", "refusal", "role"),
    "usage": ("prompt_tokens", "completion_tokens", "total_tokens"),
}
"""What the schema of OpenAI's API reference requires of a chat completion."""


def reply(**members: object) -> bytes:
    message = {"role": "assistant", "content": "Hi"}
    least: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
    }
    return encode(least | members)


def choice(finish: str | None = "stop", **message: object) -> bytes:
    return reply(
        choices=[{"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}]
    )


def said(body: bytes) -> tuple[Event, ...]:
    """The events between the start and the end."""
    events = read_reply(body)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    return events[1:-1]


def accepted(body: bytes) -> dict[str, object]:
    """Check a reply against the official SDK's types and the required members of the reference."""
    ChatCompletion.model_validate(decode(body), strict=False)
    out: dict[str, object] = decode(body)
    assert set(REQUIRED[""]) <= out.keys()
    for one in out["choices"]:  # type: ignore[attr-defined]
        assert set(REQUIRED["choice"]) <= one.keys()
        assert set(REQUIRED["message"]) <= one["message"].keys()
    if "usage" in out:
        assert set(REQUIRED["usage"]) <= out["usage"].keys()  # type: ignore[attr-defined]
    return out


def check(seed: int) -> None:
    whole = any_reply(Random(seed))
    body = write_reply(whole)
    accepted(body)
    assert fold(read_reply(body)) == whole


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_and_the_sdk_takes_it(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


def test_a_plain_reply() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    body = reply(usage=usage, system_fingerprint="fp", service_tier="default")
    assert read_reply(body) == (
        Started("chatcmpl-1", "gpt-4o", 1_760_000_000, "fp", "default"),
        TextDelta("Hi"),
        Finished("stop", "stop"),
        UsageReported(Usage(5, 2)),
        Ended(),
    )


def test_tools_of_every_kind() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "custom", "custom": {"name": "run", "input": "ls"}},
        {"type": "function", "function": {"name": "g", "arguments": {"y": [2]}}},
        {"id": "", "function": {"name": None}},
        {"id": "e"},
    ]
    assert said(choice("tool_calls", tool_calls=calls)) == (
        ToolUseStarted(0, "a", "f"),
        ToolUseDelta(0, '{"x":1}'),
        ToolUseStarted(1, "b", "run", "custom"),
        ToolUseDelta(1, "ls"),
        ToolUseStarted(2, "call_chatcmpl-1_0_2", "g"),
        ToolUseDelta(2, '{"y":[2]}'),
        ToolUseStarted(3, "call_chatcmpl-1_0_3", ""),
        ToolUseDelta(3, ""),
        ToolUseStarted(4, "e", ""),
        ToolUseDelta(4, ""),
        Finished("tool_calls", "tool_calls"),
    )


def test_a_deprecated_function_call_keeps_its_form() -> None:
    body = choice("function_call", function_call={"name": "f", "arguments": "{}"})
    assert said(body) == (
        ToolUseStarted(0, "function_call-0", "f"),
        ToolUseDelta(0, "{}"),
        Finished("tool_calls", "function_call"),
    )
    again = accepted(write_reply(fold(read_reply(body))))
    assert again["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}  # type: ignore[index]
    assert again["choices"][0]["finish_reason"] == "function_call"  # type: ignore[index]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_under_both_names_and_written_under_one(name: str) -> None:
    body = choice(content="42", **{name: "hm"})
    assert said(body)[:2] == (ReasoningDelta("hm"), TextDelta("42"))
    again = accepted(write_reply(fold(read_reply(body))))
    assert again["choices"][0]["message"]["reasoning_content"] == "hm"  # type: ignore[index]


def test_refusals_audio_and_lists_of_parts() -> None:
    assert said(choice(refusal="no"))[0] == RefusalDelta("no")
    audio = {"id": "audio_1", "data": "aGk=", "transcript": "hi", "expires_at": 17}
    assert fold(read_reply(choice(audio=audio))).choices[0].parts == (Audio("aGk=", None, "audio_1", "hi", 17),)
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert said(choice(content=parts))[0] == TextDelta("ab")
    assert said(choice(content=""))[0] == TextDelta("")
    assert said(choice(content=None)) == (Finished("stop", "stop"),)


def test_log_probabilities_of_text_and_refusal() -> None:
    tokens = [
        {
            "token": "Hi",
            "logprob": -0.5,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Yo", "logprob": None, "bytes": None}],
        }
    ]
    body = reply(
        choices=[
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "finish_reason": "stop",
                "logprobs": {"content": tokens, "refusal": [{"token": "No", "logprob": -1}]},
            }
        ]
    )
    assert said(body)[1:3] == (
        LogprobsDelta((Logprob("Hi", -0.5, (72, 105), (Logprob("Yo", -9999.0),)),)),
        LogprobsDelta((Logprob("No", -1.0),), refusal=True),
    )
    assert fold(read_reply(write_reply(fold(read_reply(body))))) == fold(read_reply(body))


def test_members_that_nobody_knows_ride_along() -> None:
    annotations = [
        {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    ]
    body = reply(
        choices=[
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "annotations": annotations,
                    "reasoning_details": [1],
                    "empty": [],
                },
                "finish_reason": "stop",
                "stop_reason": 7,
                "content_filter_results": {},
            }
        ],
        timings={"n": 1},
        prompt_filter_results=None,
    )
    events = read_reply(body)
    assert events[0] == Started("chatcmpl-1", "gpt-4o", 1_760_000_000, extra=(("timings", b'{"n":1}'),))
    assert events[1:5] == (
        ForeignDelta("chat", "reasoning_details", b"[1]"),
        TextDelta("Hi"),
        Cited(Citation("u", "t", None, 0, 1, dialect="chat", native=encode(annotations[0]))),
        ForeignDelta("chat", "choice.stop_reason", b"7"),
    )
    again = accepted(write_reply(fold(events)))
    assert again["timings"] == {"n": 1}
    assert again["choices"][0]["stop_reason"] == 7  # type: ignore[index]
    assert again["choices"][0]["message"]["annotations"] == annotations  # type: ignore[index]
    other = structs.replace(fold(events), choices=(Choice(foreign=(ForeignDelta("messages", "citations", b"[1]"),)),))
    assert b"citations" not in write_reply(other)


@pytest.mark.parametrize(
    ("native", "reason", "written"),
    [
        ("stop", "stop", "stop"),
        ("length", "length", "length"),
        ("tool_calls", "tool_calls", "tool_calls"),
        ("function_call", "tool_calls", "function_call"),
        ("content_filter", "content_filter", "content_filter"),
        ("eos", "stop", "stop"),
        ("end_turn", "stop", "stop"),
        ("max_tokens", "length", "length"),
        ("model_length", "length", "length"),
        ("refusal", "refusal", "content_filter"),
        ("error", "error", "stop"),
        ("something_new", "other", "stop"),
        (None, "other", "stop"),
    ],
)
def test_every_ending_has_a_neutral_and_a_written_form(native: str | None, reason: str, written: str) -> None:
    body = choice(native, content="x")
    assert said(body)[-1] == Finished(reason, native or "")  # type: ignore[arg-type]
    again = accepted(write_reply(fold(read_reply(body))))
    assert again["choices"][0]["finish_reason"] == written  # type: ignore[index]


def test_a_refusal_ends_as_one_though_openai_says_stop() -> None:
    body = choice("stop", content=None, refusal="No.")
    assert said(body)[:2] == (RefusalDelta("No."), Finished("refusal", "stop"))
    assert accepted(write_reply(fold(read_reply(body))))["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]


def test_another_apis_word_is_not_taken_for_openais() -> None:
    """Ollama says `stop` after calls of tools."""
    whole = Reply(id="r", model="m", choices=(Choice((ToolUse("a", "f", "{}"),), "tool_calls", "stop"),))
    assert accepted(write_reply(whole))["choices"][0]["finish_reason"] == "tool_calls"  # type: ignore[index]


def test_a_strange_usage_does_not_cost_the_answer() -> None:
    assert said(reply(usage={"prompt_tokens": {"deep": "x"}})) == (TextDelta("Hi"), Finished("stop", "stop"))


def test_missing_facts_are_empty() -> None:
    body = b'{"choices":[{"message":{"content":"Hi"}}]}'
    assert read_reply(body) == (Started(), TextDelta("Hi"), Finished("other"), Ended())
    assert read_reply(b'{"id":null,"created":17.9,"model":null,"choices":[]}') == (Started(created=17), Ended())
    out = accepted(write_reply(Reply(choices=(Choice((Text("Hi"),)),))))
    assert (out["id"], out["created"], out["model"]) == ("", 0, "")


def test_several_parts_of_a_kind_are_joined() -> None:
    parts = (Reasoning("a"), Reasoning("b"), Text("c"), Text("d"), Refusal("e"), ToolUse("i", "f", "{}"), Audio())
    message = accepted(write_reply(Reply(choices=(Choice(parts),))))["choices"][0]["message"]  # type: ignore[index]
    assert (message["reasoning_content"], message["content"], message["refusal"]) == ("ab", "cd", "e")
    assert message["audio"] == {"id": "", "data": "", "expires_at": 0, "transcript": ""}


NO_COMPLETIONS = (
    *(b"", b"<html>", b"[]", b"null", b"{}", b"\x00", b'{"choices":null}', b'{"choices":{}}', b'{"choices":[{}]}'),
    *(b'{"choices":[{"message":7}]}', b'{"choices":[{"message":{"content":"\xff"}}]}', b'{"error":null}', reply()[:-2]),
    b'{"x":' + b"[" * 100_000,
)


@pytest.mark.parametrize("body", NO_COMPLETIONS)
def test_what_is_no_completion_is_garbled(body: bytes) -> None:
    with pytest.raises(UpstreamGarbled) as caught:
        read_reply(body)
    assert caught.value.then == "next"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"message":"slow down","code":429}}', "upstream_rate_limited"),
        (b'{"error":"it broke"}', "upstream_failed"),
        (reply(error={"message": "x", "type": "invalid_request_error"}), "upstream_rejected"),
    ],
)
def test_an_error_that_came_with_status_200_is_a_failure(body: bytes, code: str) -> None:
    failed, ended = read_reply(body)
    assert isinstance(failed, Failed)
    assert failed.error.code == code
    assert ended == Ended()


@settings(max_examples=2_000, deadline=None)
@given(seed=SEEDS, noise=st.binary(max_size=30))
def test_any_bytes_are_read_or_garbled(seed: int, noise: bytes) -> None:
    rng = Random(seed)
    body = bytearray(write_reply(any_reply(rng)))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(body))
        body[at : at + rng.randrange(9)] = rng.choice((b"null", b'"', b"{", b"[]", b"7", b"\xff", b"\\ud800"))
    for raw in (noise, bytes(body)):
        with suppress(UpstreamGarbled):
            assert isinstance(read_reply(raw)[-1], Ended)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (InvalidRequest("m", param="model"), "invalid_request_error", "invalid_request"),
        (ContextOverflow("m"), "invalid_request_error", "context_length_exceeded"),
        (Unauthenticated("m"), "authentication_error", "invalid_api_key"),
        (BudgetExhausted("m"), "insufficient_quota", "budget_exhausted"),
        (PermissionDenied("m"), "permission_error", "permission_denied"),
        (NotFound("m"), "not_found_error", "not_found"),
        (RateLimited("m"), "rate_limit_error", "rate_limit_exceeded"),
        (UpstreamRateLimited("m"), "rate_limit_error", "upstream_rate_limited"),
        (UpstreamRejected("m", status=422), "invalid_request_error", "upstream_rejected"),
        (Overloaded("m"), "server_error", "overloaded"),
        (DeadlineExceeded("m"), "server_error", "deadline_exceeded"),
        (PenstockError("m"), "server_error", "internal"),
    ],
)
def test_each_error_has_openais_type(error: PenstockError, kind: str, code: str) -> None:
    error.hint = "Do this."
    assert decode(write_error(error)) == {
        "error": {"message": "m Do this.", "type": kind, "param": error.param, "code": code}
    }
