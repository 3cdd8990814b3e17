"""Usage both ways: inclusive inside, what is cached beside it outside; what has no neutral form rides along."""

from typing import Any

import anthropic.types as sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import encode

from penstock.receipt import Usage
from penstock.wire.anthropic_messages_usage import (
    merge,
    neutral_usage,
    read_usage,
    strange_usage,
    tier_of,
    write_head_usage,
    write_usage,
)


def read(native: object) -> Usage | None:
    usage = read_usage(Raw(encode(native)))
    return None if usage is None else neutral_usage(usage)


@pytest.mark.parametrize(
    ("native", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 2)),
        (
            {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 4},
            Usage(19, 2, 10, 4),
        ),
        (
            {
                "input_tokens": 1,
                "output_tokens": 9,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
                "output_tokens_details": {"thinking_tokens": 7},
            },
            Usage(6, 9, 0, 2, 3, 7),
        ),
        ({"cache_creation": {"ephemeral_1h_input_tokens": 3}}, Usage(3, 0, 0, 0, 3)),
        (
            {"input_tokens": -5, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}},
            Usage(0, 2, reasoning_tokens=2),
        ),
        ({"input_tokens": None}, Usage()),
        (None, None),
        (1, None),
        ("x", None),
        ({"input_tokens": "many"}, None),
    ],
)
def test_usage_is_read_inclusively(native: object, usage: Usage | None) -> None:
    assert read(native) == usage


@settings(max_examples=300, deadline=None)
@given(*[st.integers(0, 999)] * 6)
def test_usage_is_written_as_it_is_read(plain: int, cached: int, short: int, hour: int, out: int, thought: int) -> None:
    usage = Usage(plain + cached + short + hour, out, cached, short, hour, min(thought, out))
    written = write_head_usage(usage, "default", ())
    assert written["input_tokens"] == plain
    assert sdk.Usage.model_validate(written, strict=False).service_tier == "standard"
    assert read(written) == usage
    sdk.MessageDeltaUsage.model_validate(write_usage(usage), strict=False)


def test_a_usage_whose_parts_exceed_it_is_never_negative() -> None:
    assert write_usage(Usage(5, 1, 9))["input_tokens"] == 0
    assert write_head_usage(None, None, ())["output_tokens"] == 0


@pytest.mark.parametrize(
    ("native", "neutral", "again"),
    [("standard", "default", "standard"), ("priority", "priority", "priority"), ("batch", "batch", "batch"), (None, None, None), ("later", "later", None)],
)  # fmt: skip
def test_tiers_are_told_in_openais_words(native: str | None, neutral: str | None, again: str | None) -> None:
    usage = read_usage(Raw(encode({"service_tier": native, "input_tokens": 1})))
    assert usage is not None
    assert tier_of(usage) == neutral
    assert write_head_usage(Usage(), neutral, ()).get("service_tier") == again


def test_what_has_no_neutral_form_rides_along() -> None:
    native = {"input_tokens": 1, "server_tool_use": {"web_search_requests": 2}, "inference_geo": None, "speed": "fast"}
    more = strange_usage(Raw(encode(native)))
    assert more == b'{"server_tool_use":{"web_search_requests":2},"speed":"fast"}'
    assert strange_usage(Raw(b'{"input_tokens":1}')) == b""
    written: dict[str, Any] = write_head_usage(Usage(1), None, (("usage", more), ("container", b"1")))
    assert written["speed"] == Raw(b'"fast"')
    assert "container" not in written


def test_merging_adds_what_is_not_there_and_takes_nothing_that_is_no_object() -> None:
    out: dict[str, Any] = {"a": 1}
    merge(out, b'{"a":2,"b":3}')
    merge(out, b"not json")
    assert out == {"a": 1, "b": Raw(b"3")}


def test_a_count_that_cannot_be_true_is_none() -> None:
    assert read({"input_tokens": 10**12, "output_tokens": 1}) is None
    assert read({"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": 2**70}) is None
    assert read({"input_tokens": 1, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 9}}) == Usage(
        1, 5, reasoning_tokens=5
    )
