"""Neutral messages become chat messages; what neither the API nor the asked model can be told is named."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import (
    Audio,
    Citation,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire.openai_chat_messages import MessageWriter, is_openai, merge, merged, raw_json
from penstock.wire.openai_chat_messages import given as kept
from penstock.wire.openai_chat_request import read_request
from wire.chat_cases import any_messages, body

SEEDS = st.integers(0, 2**64)


def turns(*messages: Message, own: bool = True, model: str = "m") -> tuple[list[Any], list[str]]:
    dropped: set[str] = set()
    written = MessageWriter(model, dropped, own=own).write(messages)
    return decode(encode(written)), sorted(dropped)


def one(role: Role, *parts: Part, own: bool = True, model: str = "m") -> tuple[Any, list[str]]:
    (turn,), dropped = turns(Message(role, parts), own=own, model=model)
    return turn, dropped


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_back_the_same(seed: int) -> None:
    messages = any_messages(Random(seed))
    written, dropped = turns(*messages)
    assert dropped == []
    assert read_request(body(messages=written)).content.messages == messages


def test_a_message_of_the_assistant_with_everything() -> None:
    parts = (
        Reasoning("hm", "s", signer="anthropic"),
        Text("a", (), (Citation("u", "t", start=0, end=1),), "5m"),
        Refusal("no"),
        Audio(id="audio_1", extra=(("x", b"1"),)),
        Image(data="aGk=", media_type="image/png"),
        ToolUse("c1", "f", "{}", signature="g", signer="google", cache="1h"),
        ToolUse("c2", "run", "ls", "custom"),
        ToolUse("function_call-0", "old", "{}"),
    )
    assert one("assistant", *parts) == (
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0}
            ],
            "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}, "index": 0}],
            "refusal": "no",
            "audio": {"id": "audio_1", "x": 1},
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "g"}},
                    "cache_control": {"type": "ephemeral", "ttl": "1h"},
                },
                {"id": "c2", "type": "custom", "custom": {"name": "run", "input": "ls"}},
            ],
            "function_call": {"name": "old", "arguments": "{}"},
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
            ],
            "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
        },
        [],
    )


def test_messages_without_content_are_whole_all_the_same() -> None:
    assert one("assistant")[0] == {"role": "assistant", "content": None}
    assert one("assistant", ToolUse("c", "f", "{}"))[0].keys() == {"role", "tool_calls"}
    assert one("tool", ToolResult("function_call-0", ()))[0] == {"role": "function", "name": "", "content": None}
    named = turns(Message("tool", (ToolResult("c", (Text("1"),), cache="5m"),), "f", (("x", b"1"),)))[0][0]
    assert named == {
        "role": "tool", "tool_call_id": "c", "content": "1", "name": "f", "cache_control": {"type": "ephemeral"}, "x": 1,
    }  # fmt: skip


def test_parts_of_a_user() -> None:
    parts = (
        Image("https://x", detail="low"),
        Audio("aGk="),
        File("a.pdf", "aGk=", "application/pdf"),
        File(file_id="f", media_type="application/pdf"),
        Refusal("no"),
        Foreign("chat", "video_url", b'{"type":"video_url"}'),
    )
    assert one("user", *parts)[0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "refusal", "refusal": "no"},
        {"type": "video_url"},
    ]


def test_what_another_dialect_says_is_written_or_named() -> None:
    said = Message(
        "assistant",
        (
            Reasoning("hm"),
            Text("a", (("x", b"1"),), (Citation("u"), Citation(title="t"))),
            Image("https://x"),
            ToolUse("c", "f", "{}", signature="g", signer="google", cache="5m"),
        ),
        extra=(("prefix", b"true"),),
    )
    written, dropped = turns(said, own=False)
    assert written == [
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    ]
    assert dropped == ["cache", "citations", "image", "prefix", "reasoning", "x"]
    file, dropped = one(
        "user", File("a.png", "aGk=", "image/png"), File(url="https://x"), Foreign("messages", "d", b"{}"), own=False
    )
    assert file["content"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]
    assert dropped == ["d", "file"]


@pytest.mark.parametrize(
    ("model", "takes"),
    [("anthropic/claude-x", "anthropic"), ("gemini-3", "google"), ("openai/gpt-5", "openai"), ("gpt-5", ""), ("m", "")],
)
def test_signed_thoughts_of_another_dialect_go_to_their_own_family(model: str, takes: str) -> None:
    for signer in ("anthropic", "google", "openai"):
        turn, dropped = one("assistant", Reasoning("a", "s", signer=signer), Text("x"), own=False, model=model)  # type: ignore[arg-type]
        assert ("reasoning_details" in turn) is (signer == takes)
        assert dropped == ([] if signer == takes else ["reasoning"])


def test_pictures_of_several_results_are_shown_after_the_last() -> None:
    def result(ident: str, *parts: Part) -> Message:
        return Message("tool", (ToolResult(ident, parts, is_error=ident == "b"),))

    written, dropped = turns(result("a", Image("https://x")), result("b", Text("1")), Message("user", (Text("so?"),)))
    assert [turn["role"] for turn in written] == ["tool", "tool", "user", "user"]
    assert written[2]["content"][1] == {"type": "image_url", "image_url": {"url": "https://x"}}
    assert dropped == ["tool_result.is_error"]
    assert [turn["role"] for turn in turns(result("a", Image("https://x")))[0]] == ["tool", "user"]
    together = Message("user", (ToolResult("a", (Text("1"),)), Text("so?")))
    assert [turn["role"] for turn in turns(together)[0]] == ["tool", "user"]


def test_members_of_a_result_that_only_its_own_dialect_knows_are_named() -> None:
    foreign = ToolResult("a", (Text("1"),), extra=(("scheduling", b'"SILENT"'),))
    written, dropped = turns(Message("tool", (foreign,)), own=False)
    assert written == [{"role": "tool", "tool_call_id": "a", "content": "1"}]
    assert dropped == ["scheduling"]


def test_members_are_kept_merged_or_named() -> None:
    assert kept(a=1, b=None) == {"a": 1}
    assert raw_json(None) is None
    assert raw_json(b"1") == Raw(b"1")
    out: dict[str, Any] = {"a": {"b": 1}, "c": 2}
    merge(out, (("a", b'{"b":9,"d":3}'), ("c", b"9"), ("e", b"4")))
    assert decode(encode(out)) == {"a": {"b": 1, "d": 3}, "c": 2, "e": 4}
    dropped: set[str] = set()
    assert merged({}, (("x", b"1"),), dropped, own=False) == {}
    assert dropped == {"x"}
    assert [name for name in ("gpt-4o", "openai/o3", "ft:gpt-4o:x", "gpt-oss-20b", "gemini") if is_openai(name)] == [
        *("gpt-4o", "openai/o3", "ft:gpt-4o:x"),
    ]
