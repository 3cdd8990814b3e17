"""Thoughts with their signatures, in one piece and in many, from every family and back."""

import pytest
from msgspec import Raw
from msgspec.json import encode

from penstock.call import Reasoning
from penstock.reply import Event, ReasoningDelta, fold
from penstock.wire.openai_chat_reply_types import Delta
from penstock.wire.openai_chat_thoughts import (
    are_signed,
    read_blocks,
    read_details,
    read_pieces,
    read_signature,
    read_whole,
    write_details,
    write_signature,
)

BLOCKS = (
    Reasoning("a", "s", signer="anthropic"),
    Reasoning("", "r", redacted=True, signer="anthropic"),
    Reasoning("b"),
    Reasoning("c", "g", signer="google"),
    Reasoning("d", "rs_1:gAAA", signer="openai"),
    Reasoning("", "gAAA", signer="openai"),
    Reasoning("e", "x"),
)


def blocks(*entries: dict[str, object]) -> list[Reasoning] | None:
    details = read_details(encode(entries))
    return None if details is None else read_blocks(details)


def test_blocks_are_written_as_openrouter_has_them() -> None:
    assert write_details(BLOCKS[:5], 2) == [
        {"type": "reasoning.text", "text": "a", "signature": "s", "format": "anthropic-claude-v1", "index": 2},
        {"type": "reasoning.encrypted", "data": "r", "format": "anthropic-claude-v1", "index": 3},
        {"type": "reasoning.text", "text": "b", "index": 4},
        {"type": "reasoning.text", "text": "c", "signature": "g", "format": "google-gemini-v1", "index": 5},
        {"type": "reasoning.summary", "summary": "d", "format": "openai-responses-v1", "index": 6},
        {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1", "index": 7},
    ]


def test_what_is_written_is_read_back_the_same() -> None:
    assert blocks(*write_details(BLOCKS)) == list(BLOCKS)
    assert are_signed(BLOCKS)
    assert not are_signed((Reasoning("a"),))
    assert not are_signed(())


def test_pieces_that_a_client_kept_apart_are_joined() -> None:
    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    assert blocks({**text, "text": "a"}, {**text, "text": "b"}, {**text, "signature": "s"}, {**text, "text": "c"}) == [
        Reasoning("ab", "s", signer="anthropic"),
        Reasoning("c"),
    ]
    loose = {"type": "reasoning.text", "text": "a"}
    assert blocks(loose, loose, {"type": "reasoning.summary"}) == [Reasoning("a"), Reasoning("a")]
    doubled = {**text, "format": "anthropic-claude-v1anthropic-claude-v1", "text": "a", "signature": "s"}
    assert blocks(doubled) == [Reasoning("a", "s", signer="anthropic")], "as a client that joins all texts sends it"


@pytest.mark.parametrize(
    ("form", "signer"),
    [
        ("anthropic-claude-v1", "anthropic"),
        ("google-gemini-v1", "google"),
        ("azure-openai-responses-v1", "openai"),
        (None, ""),
        ("unknown", ""),
    ],
)
def test_the_format_names_the_family(form: str | None, signer: str) -> None:
    (block,) = blocks({"type": "reasoning.encrypted", "data": "x", "format": form}) or []
    assert (block.signer, block.redacted) == (signer, signer != "openai")


@pytest.mark.parametrize(
    "json",
    [b"7", b"[7]", b'[{"type":"reasoning.new"}]', b'[{"type":"reasoning.text","format":"xai-responses-v1"}]', b"["],
)
def test_what_has_no_neutral_form_is_kept_whole_by_the_reader(json: bytes) -> None:
    assert read_details(json) is None
    events: list[Event] = []
    assert not read_whole(Delta(reasoning_details=Raw(json)), 0, events)
    assert not read_pieces(Delta(reasoning_details=Raw(json)), [], 0, events)
    assert events == []


def test_entries_say_all_that_the_plain_text_does() -> None:
    events: list[Event] = []
    message = Delta(reasoning="ab", reasoning_content="ab", reasoning_details=Raw(encode(write_details(BLOCKS[:2]))))
    assert read_whole(message, 1, events)
    assert events == [
        ReasoningDelta("a", "s", choice=1, signer="anthropic"),
        ReasoningDelta("", "r", redacted=True, choice=1, signer="anthropic"),
    ]
    assert (message.reasoning, message.reasoning_content) == (None, None)
    silent = Delta(reasoning="ab", reasoning_details=Raw(b"[]"))
    assert read_whole(silent, 0, events)
    assert silent.reasoning == "ab"


def test_a_streams_entries_are_read_piece_by_piece() -> None:
    events: list[Event] = []
    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    for entries in (
        [{**text, "text": "a"}],
        [{**text, "text": "b"}],
        [{**text, "signature": "s"}],
        [{**text, "text": ""}],
    ):
        read_pieces(Delta(reasoning="seen already", reasoning_details=Raw(encode(entries))), ["b"], 0, events)
    assert fold(events).choices[0].parts == (Reasoning("ab", "s", signer="anthropic"),)


def test_an_entry_that_repeats_the_thinking_brings_only_its_signature() -> None:
    for block in BLOCKS[:1] + BLOCKS[3:6]:
        events: list[Event] = [ReasoningDelta(block.text)] if block.text else []
        told = list(block.text)
        read_pieces(Delta(reasoning_details=Raw(encode(write_details((block,))))), told, 0, events)
        assert fold(events).choices[0].parts == (block,)


def test_a_tool_calls_signature_stands_where_google_has_it() -> None:
    assert write_signature("s", "google") == {"extra_content": {"google": {"thought_signature": "s"}}}
    assert write_signature(None, "") == {}
    for signer in ("google", "anthropic"):
        written = write_signature("s", signer)["extra_content"]  # type: ignore[arg-type]  # one of the literals
        assert read_signature(encode(written)) == ("s", signer)
    for raw in (b"{}", b"7", b'{"google":{"thought_signature":"s","more":1}}', b'{"google":{"thought_signature":""}}'):
        assert read_signature(raw) == (None, "")
