"""Counts of tokens become usage: whole, inclusive, and never such that a price turns negative."""

import pytest
from msgspec import Raw
from msgspec.json import encode

from penstock.receipt import Usage
from penstock.wire.openai_chat_usage import is_said, read_usage, write_usage


@pytest.mark.parametrize(
    ("json", "usage"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, Usage(10, 5)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 3, "cache_write_tokens": 2},
                "completion_tokens_details": {
                    "reasoning_tokens": 1,
                    "audio_tokens": 2,
                    "accepted_prediction_tokens": 3,
                    "rejected_prediction_tokens": 4,
                },
            },
            Usage(10, 5, 4, 2, 0, 1, 3, 2, 3, 4),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            Usage(10, 5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 0, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2},
            Usage(10, 0, 8),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 0, "cached_tokens": 6}, Usage(10, 0, 6)),
        # pictures: OpenAI tells of those in the prompt, OpenRouter also of those in the answer
        (
            {
                "prompt_tokens": 300,
                "completion_tokens": 1300,
                "prompt_tokens_details": {"image_tokens": 258, "text_tokens": 42},
                "completion_tokens_details": {"image_tokens": 1290},
            },
            Usage(300, 1300, image_input_tokens=258, image_output_tokens=1290),
        ),
        ({"prompt_tokens": 10**12, "completion_tokens": 5}, None),
        # reasoning outside of completion_tokens (xAI, Gemini): the total tells
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            Usage(10, 105, reasoning_tokens=100),
        ),
        # nonsense does not turn a cost negative
        ({"prompt_tokens": -10, "completion_tokens": 5, "total_tokens": -1}, Usage(0, 5)),
        (
            {
                "prompt_tokens": 1,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 9},
                "completion_tokens_details": {"reasoning_tokens": 9},
            },
            Usage(1, 1, 1, reasoning_tokens=1),
        ),
        ({"completion_tokens": 5}, Usage(0, 5)),
        ({}, None),
        ({"total_tokens": 5}, None),
        ({"prompt_tokens": "ten"}, None),
        ("many", None),
        (None, None),
    ],
)
def test_usage_is_read_whole_and_inclusive(json: object, usage: Usage | None) -> None:
    assert read_usage(Raw(encode(json))) == usage
    if usage is not None:
        assert read_usage(Raw(encode(write_usage(usage)))) == usage


@pytest.mark.parametrize(
    "json", [b"7", b"null", b"{}", b'{"prompt_tokens":"x"}', b'{"prompt_tokens":1', b"\xff\xff\xff\xff\xff\xff\xff"]
)
def test_what_is_no_count_is_none(json: bytes) -> None:
    assert read_usage(Raw(json)) is None


@pytest.mark.parametrize(
    ("json", "said"), [(b"", False), (b"null", False), (b"[]", False), (b"0", True), (b"[1,2,3]", True)]
)
def test_an_empty_value_says_nothing(json: bytes, said: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_said(Raw(json)) is said
