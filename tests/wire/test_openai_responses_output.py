"""What a client gets: items and the Response around them, which the official SDK takes and which is read back the same."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode
from openai.types.responses import Response

from penstock.call import Audio, Call, Citation, Content, Foreign, Image, Reasoning, Refusal, Text, ToolUse
from penstock.errors import Internal, RateLimited
from penstock.receipt import Usage
from penstock.reply import Choice, Logprob, Reply, fold
from penstock.wire.openai_responses_output import write_reply
from penstock.wire.openai_responses_reply import read_reply
from penstock.wire.openai_responses_request import read_request
from wire.responses_cases import body, fitting_reply

SEEDS = st.integers(0, 2**64)
CALL = read_request(body(), "generate")
REQUIRED = {
    *("id", "object", "created_at", "status", "error", "incomplete_details", "instructions", "metadata", "model"),
    *("output", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "usage", "background", "text"),
    *("reasoning", "max_output_tokens", "previous_response_id", "service_tier", "store", "truncation", "top_logprobs"),
}


def accepted(data: bytes) -> dict[str, Any]:
    out: dict[str, Any] = decode(data)
    Response.model_validate(out, strict=False)
    assert out.keys() >= REQUIRED
    return out


def check(seed: int) -> None:
    reply = fitting_reply(Random(seed))
    data = write_reply(reply, CALL)
    accepted(data)
    assert fold(read_reply(data)) == reply


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_and_the_sdk_takes_it(seed: int) -> None:
    check(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same_in_many_cases(seed: int) -> None:
    check(seed)


def test_a_response_says_again_what_was_asked() -> None:
    said = {
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "function", "name": "f"},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 99,
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low"},
        "truncation": "auto",
        "user": "u",
    }
    call = read_request(body(**said, text={"verbosity": "low"}, max_tool_calls=None), "generate")
    out = accepted(write_reply(Reply("resp_1", "m"), call))
    assert {name: out[name] for name in said} == said
    assert out["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (out["store"], out["status"], out["usage"], out["output"]) == (False, "completed", None, [])


def test_a_call_without_bytes_gets_the_usual() -> None:
    out = accepted(write_reply(Reply(), Call("responses", "m", CALL.sampling, lambda: Content(()))))
    assert (out["model"], out["temperature"], out["tools"], out["service_tier"]) == ("m", 1.0, [], "default")
    assert out["id"].startswith("resp_")
    bare = structs.replace(CALL, read=lambda: Content(()))
    assert accepted(write_reply(Reply(service_tier="flex"), bare))["service_tier"] == "flex"


def test_the_end_decides_the_status() -> None:
    def ended(**fields: Any) -> dict[str, Any]:
        choice = Choice((Text("a"),), **fields)
        return accepted(write_reply(Reply("r", "m", choices=(choice,)), CALL))

    for finish, reason in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        out = ended(finish=finish)
        assert (out["status"], out["incomplete_details"]) == ("incomplete", {"reason": reason})
        assert out["output"][0]["status"] == "incomplete"
    assert ended(finish="other", native_finish="steered")["incomplete_details"] == {"reason": "steered"}
    assert ended(finish="pause")["status"] == "completed"
    assert ended(finish="error")["error"]["code"] == "server_error"
    for error, code in ((Internal("no"), "server_error"), (RateLimited("no"), "rate_limit_exceeded")):
        out = accepted(write_reply(Reply("r", "m", error=error), CALL))
        assert (out["status"], out["error"]) == ("failed", {"code": code, "message": "no"})


def test_a_refusal_without_a_part_of_its_own_is_a_content_filters() -> None:
    """Anthropic's models stop in the middle of a text; the text stays a text."""
    told = accepted(write_reply(Reply("r", "m", 7, choices=(Choice((Text("I"),), "refusal", "refusal"),)), CALL))
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    told = accepted(write_reply(Reply("r", "m", 7, choices=(Choice((Refusal("No."),), "refusal"),)), CALL))
    assert told["status"] == "completed"


def test_other_dialects_answers_have_their_place_or_none() -> None:
    parts = (
        Reasoning("hm", "s", signer="anthropic"),
        Text("a", citations=(Citation("u", "t", start=0, end=1), Citation(title="document", document=0))),
        Image(data="aGk=", media_type="image/jpeg", extra=(("revised_prompt", b'"A cat."'),)),
        Image(url="https://x"),
        Foreign("messages", "server_tool_use", b"{}"),
        Audio("aGk="),
        ToolUse("c", "f", "{}", signature="g", signer="google"),
    )
    choice = Choice(parts, "tool_calls", logprobs=(Logprob("a", -1.0),))
    out = accepted(write_reply(Reply("r", "m", choices=(choice, Choice((Text("second"),)))), CALL))["output"]
    assert [item["type"] for item in out] == [
        "reasoning",
        "message",
        "image_generation_call",
        "reasoning",
        "function_call",
    ]
    assert out[0]["encrypted_content"] == "penstock.anthropic.s"
    assert out[1]["content"][0]["annotations"] == [
        {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    ]
    assert out[1]["content"][0]["logprobs"][0]["bytes"] == [97]
    assert (out[2]["result"], out[2]["output_format"], out[2]["revised_prompt"]) == ("aGk=", "jpeg", "A cat.")
    assert len({item["id"] for item in out}) == len(out)


def test_usage_has_its_details() -> None:
    usage = Usage(9, 4, 3, 2, 1, 2)
    out = accepted(write_reply(Reply("r", "m", usage=usage, extra=(("moderation_of_mine", b"1"),)), CALL))
    assert out["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 3},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 13,
    }
    assert out["moderation_of_mine"] == 1
