"""The tap says of a reply what the full reader says, but for its text."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import UpstreamGarbled
from penstock.receipt import Usage
from penstock.reply import Ended, Finished, Started, TextDelta, UsageReported
from penstock.wire.openai_chat_reply import read_reply
from penstock.wire.openai_chat_tap import tap_reply, tell

KEPT = (Started, Finished, UsageReported, Ended)


def reply(**changes):
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    usage |= {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    whole = {
        "id": "1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": usage,
        "system_fingerprint": "fp",
        "service_tier": "default",
    }
    return msgspec.json.encode(whole | changes)


def agrees(body):
    return [event for event in tap_reply(body) if isinstance(event, KEPT)] == [
        event for event in read_reply(body) if isinstance(event, KEPT)
    ]


def test_text_is_left_out_of_a_usual_reply():
    events = tap_reply(reply())
    assert [type(event) for event in events] == [Started, Finished, UsageReported, Ended]
    assert agrees(reply())


def test_what_is_told_of_a_usual_reply_is_what_is_tapped():
    told = tell(reply())
    assert told.raw == reply()
    assert (told.finish, told.input_tokens, told.output_tokens) == ("stop", 9, 5)
    assert told.usage == Usage(9, 5, 4, reasoning_tokens=2)
    assert told.events == tap_reply(reply())


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", "content_filter", "eos", "function_call", ""])
@pytest.mark.parametrize("refusal", [None, "", "no"])
def test_only_what_needs_no_reading_is_told(finish, refusal):
    choice = {"index": 0, "message": {"content": "x", "refusal": refusal}, "finish_reason": finish}
    assert agrees(reply(choices=[choice]))
    is_usual = not refusal and finish in {"stop", "length", "tool_calls", "content_filter"}
    assert (tell(reply(choices=[choice])) is not None) is is_usual
    for others in ([], [choice, choice], [choice | {"index": 1}]):
        assert tell(reply(choices=others)) is None


def test_several_choices_end_each():
    choices = [
        {"index": number, "message": {"role": "assistant", "content": "x"}, "finish_reason": "length"}
        for number in (0, 1)
    ]
    assert agrees(reply(choices=choices))
    assert sum(isinstance(event, Finished) for event in tap_reply(reply(choices=choices))) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": None},
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 20}},
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "cached_tokens": "3"}},
        {"usage": {"prompt_tokens": -9, "completion_tokens": 5, "total_tokens": -4}},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": None}]},
        {"choices": []},
        {"error": {"message": "no"}},
    ],
)
def test_what_is_unusual_is_read_in_full(changes):
    body = reply(**changes)
    assert [repr(event) for event in tap_reply(body)] == [repr(event) for event in read_reply(body)]
    assert tell(body) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}},
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "cached_tokens": 3}},
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "prompt_cache_hit_tokens": 3}},
        {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "prompt_cache_hit_tokens": 99}},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "zoë"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 1, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"refusal": "no"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "eos"}]},
        {"error": None},
        {"created": 0},
        {"created": None, "system_fingerprint": None, "service_tier": None},
    ],
)
def test_what_is_usual_is_left_out_whatever_its_counts(changes):
    body = reply(**changes)
    assert agrees(body)
    assert {type(event) for event in tap_reply(body)} == set(KEPT)


def test_an_unusual_reply_keeps_its_text():
    assert TextDelta("hello") in tap_reply(reply(usage=None))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"<html>", b"\xff", reply()[:-3], reply().replace(b"hello", b"h\xff")]
)
def test_what_is_no_reply_is_garbled(body):
    with pytest.raises(UpstreamGarbled):
        tap_reply(body)
    assert tell(body) is None


counts = st.integers(-3, 12)


@given(counts, counts, st.none() | counts, counts, counts, counts, counts, counts, counts, counts)
def test_the_usage_is_the_full_readers(into, out, total, cached, written, heard, thought, wrong, seen, drawn):
    usage = {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out if total is None else total,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": written,
            "audio_tokens": heard,
            "image_tokens": seen,
        },
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "rejected_prediction_tokens": wrong,
            "image_tokens": drawn,
        },
    }
    assert agrees(reply(usage=usage))


def test_pictures_are_counted_and_absurd_counts_are_the_full_readers():
    usage = {"prompt_tokens": 300, "completion_tokens": 1300, "total_tokens": 1600}
    pictures = {"prompt_tokens_details": {"image_tokens": 258}, "completion_tokens_details": {"image_tokens": 1290}}
    assert agrees(reply(usage=usage | pictures))
    tapped = tap_reply(reply(usage=usage | pictures))
    assert tapped[-2] == UsageReported(Usage(300, 1300, image_input_tokens=258, image_output_tokens=1290))
    assert agrees(reply(usage={"prompt_tokens": 10**12, "completion_tokens": 0, "total_tokens": 10**12}))
    assert agrees(reply(usage=usage | {"completion_tokens_details": {"accepted_prediction_tokens": 10**12}}))


@given(
    st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens"]), st.sampled_from([0, None, 1])) | st.none(),
    st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens"]), st.sampled_from([0, None, 1])) | st.none(),
)
def test_parts_that_are_nothing_are_as_none(given_parts, made_parts):
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    parts = {"prompt_tokens_details": given_parts, "completion_tokens_details": made_parts}
    assert agrees(reply(usage=usage | parts))
    if not any([*(given_parts or {}).values(), *(made_parts or {}).values()]):
        assert tap_reply(reply(usage=usage | parts))[-2] == UsageReported(Usage(9, 5))
