"""What only the same provider can honour is named; what is said about thinking is read in both spellings."""

import pytest
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import Thinking
from penstock.wire.openai_chat_native import read_reasoning, read_thinking, write_thinking
from penstock.wire.openai_chat_request import read_request
from wire.chat_cases import body

SPOKEN = {"role": "assistant", "audio": {"id": "audio_1"}}
FILE = {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}, {"type": "text", "text": "x"}]}


@pytest.mark.parametrize(
    ("members", "native"),
    [
        ({}, ()),
        ({"store": False, "audio": None, "metadata": {"a": "b"}}, ()),
        ({"store": True}, ("store",)),
        (
            {"web_search_options": {}, "prediction": {}, "audio": {"voice": "x"}},
            ("web_search_options", "prediction", "audio"),
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom"}]}, ()),
        ({"tools": [{"type": "web_search"}, {"type": "web_search"}]}, ("web_search",)),
        ({"messages": [SPOKEN, SPOKEN]}, ("audio",)),
        ({"messages": [FILE, SPOKEN, FILE]}, ("file_id", "audio")),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]}, ()),
    ],
)
def test_what_only_the_same_provider_can_honour_is_named(members: dict[str, object], native: tuple[str, ...]) -> None:
    assert read_request(body(**members)).native == native


@pytest.mark.parametrize(
    ("reasoning", "thinking", "read"),
    [
        (None, None, None),
        ({"effort": "low"}, None, None),
        ({"max_tokens": 9}, None, Thinking(9)),
        ({"effort": "high", "exclude": True, "summary": "auto"}, None, Thinking(visible=False, summary="auto")),
        ({"exclude": False}, None, Thinking(visible=True)),
        ({"enabled": True}, None, Thinking(adaptive=True)),
        ({"enabled": False}, None, Thinking(0)),
        ("much", None, None),
        (None, {"type": "enabled", "budget_tokens": 9}, Thinking(9)),
        (None, {"type": "disabled"}, Thinking(0)),
        (None, {"type": "enabled"}, Thinking(adaptive=True)),
        (None, {"type": "unheard of"}, None),
        (None, 7, None),
        ({"max_tokens": 5}, {"type": "disabled"}, Thinking(5)),
    ],
)
def test_how_much_to_think_is_read_in_both_spellings(
    reasoning: object, thinking: object, read: Thinking | None
) -> None:
    raws = [Raw(b"" if json is None else encode(json)) for json in (reasoning, thinking)]
    assert read_thinking(*raws) == read


def test_an_effort_in_either_place_is_one() -> None:
    assert read_request(body(reasoning={"effort": "low"})).sampling.reasoning_effort == "low"
    assert read_request(body(reasoning={"effort": "low"}, reasoning_effort="high")).sampling.reasoning_effort == "high"
    assert read_reasoning(Raw(b"")).effort is None


@pytest.mark.parametrize(
    "thinking",
    [
        Thinking(9),
        Thinking(0),
        Thinking(visible=False),
        Thinking(3, visible=True, summary="auto"),
        Thinking(adaptive=True),
    ],
)
def test_what_is_written_is_read_back_the_same(thinking: Thinking) -> None:
    written = encode(write_thinking(thinking))
    assert decode(written)
    assert read_thinking(Raw(written), Raw(b"")) == thinking
