"""Requests read whole: every block, tool and option in its neutral form, and what rides along."""

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from msgspec.json import decode, encode

from penstock.call import (
    Content,
    File,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.anthropic_messages import AnthropicMessages
from penstock.wire.signatures import carry

GOLDEN = Path(__file__).parent / "golden" / "messages"
MESSAGES = AnthropicMessages()


def read(*blocks: dict[str, Any], **members: Any) -> Content:
    messages = [{"role": "user", "content": list(blocks) or "Hi"}]
    return MESSAGES.read_request(encode({"model": "m", "max_tokens": 9, "messages": messages, **members})).content


def part(block: dict[str, Any]) -> Part:
    parts = read(block).messages[0].parts
    assert len(parts) == 1
    return parts[0]


MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "text", "text": "x", **MARK}, Text("x", cache="1h")),
        ({"type": "text", "text": "x", "citations": None, "cache_control": None}, Text("x")),
        ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "y": 1}, Text("x", (("y", b"1"),), cache="5m")),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}, Image(data="AA==", media_type="image/png")),
        ({"type": "image", "source": {"type": "url", "url": "u"}, **MARK}, Image(url="u", cache="1h")),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, Image(file_id="f")),
        ({"type": "image", "source": {"type": "s3"}}, Foreign("messages", "image", b'{"type":"image","source":{"type":"s3"}}')),
        ({"type": "document", "source": {"type": "base64", "data": "AA=="}, "title": "t"}, File("t", "AA==", "application/pdf")),
        ({"type": "document", "source": {"type": "text", "data": "hi"}, "context": "c"}, File(None, "aGk=", "text/plain", extra=(("context", b'"c"'),))),
        ({"type": "document", "source": {"type": "url", "url": "u"}}, File(url="u", media_type="application/pdf")),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}, **MARK}, File(file_id="f", cache="1h")),
        ({"type": "document", "source": {"type": "s3"}}, Foreign("messages", "document", b'{"type":"document","source":{"type":"s3"}}')),
        ({"type": "thinking", "thinking": "t", "signature": "s"}, Reasoning("t", "s", signer="anthropic")),
        ({"type": "thinking", "thinking": "t", "signature": ""}, Reasoning("t")),
        ({"type": "thinking", "thinking": "", "signature": carry("s", "openai", "anthropic"), "y": 1}, Reasoning("", "s", False, (("y", b"1"),), "openai")),
        ({"type": "redacted_thinking", "data": "d"}, Reasoning("", "d", redacted=True, signer="anthropic")),
        ({"type": "redacted_thinking", "data": carry("d", "google", "anthropic")}, Reasoning("", "d", redacted=True, signer="google")),
        ({"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}, **MARK}, ToolUse("i", "f", '{"a":1}', cache="1h")),
        ({"type": "tool_use", "id": "i", "name": "f", "input": {}, "caller": {"type": "x"}}, ToolUse("i", "f", "{}", extra=(("caller", b'{"type":"x"}'),))),
        ({"type": "tool_result", "tool_use_id": "i"}, ToolResult("i", ())),
        ({"type": "tool_result", "tool_use_id": "i", "content": None}, ToolResult("i", ())),
        ({"type": "tool_result", "tool_use_id": "i", "content": "x", "is_error": True, **MARK}, ToolResult("i", (Text("x"),), True, cache="1h")),
        ({"type": "tool_result", "tool_use_id": "i", "content": [{"type": "text", "text": "x"}]}, ToolResult("i", (Text("x"),))),
        ({"type": "container_upload", "file_id": "f"}, Foreign("messages", "container_upload", b'{"type":"container_upload","file_id":"f"}')),
    ],
)  # fmt: skip
def test_blocks(block: dict[str, Any], expected: Part) -> None:
    assert part(block) == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [("hi", "hi"), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"), (None, "")],
)
def test_a_document_of_text_blocks_is_a_text_for_others_and_keeps_its_form(content: object, text: str) -> None:
    source = {"type": "content", "content": content}
    read_part = part({"type": "document", "source": source if content is not None else {"type": "content"}})
    assert isinstance(read_part, File)
    assert b64decode(read_part.data or "").decode() == text
    assert read_part.extra[0][0] == "source"
    picture = {"type": "image", "source": {"type": "url", "url": "u"}}
    assert isinstance(part({"type": "document", "source": {"type": "content", "content": [picture]}}), Foreign)


@pytest.mark.parametrize(
    ("content", "text"),
    [("c", "c"), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"), (None, "")],
)
def test_a_search_result_is_a_text_for_others(content: object, text: str) -> None:
    block = {"type": "search_result", "title": "T", "source": "S", "content": content}
    if content is None:
        del block["content"]
    found = part(block)
    assert isinstance(found, Text)
    assert found.text == f"T\nS\n\n{text}".rstrip("\n") + ("\n" if not text else "") or not text
    assert decode(dict(found.extra)["search_result"]) == block
    assert isinstance(part({"type": "search_result", "title": "T", "source": {"type": "x"}}), Text)


def test_the_signature_of_a_tool_call_comes_back_to_it() -> None:
    def signed(*blocks: dict[str, Any]) -> tuple[Part, ...]:
        return read(*blocks).messages[0].parts

    mark = {"type": "redacted_thinking", "data": carry("sig", "google", "anthropic")}
    use = {"type": "tool_use", "id": "i", "name": "f", "input": {}}
    expected = ToolUse("i", "f", "{}", signature="sig", signer="google")
    assert signed(mark, use, use) == (expected, ToolUse("i", "f", "{}"))
    assert signed({"type": "redacted_thinking", "data": "x"}, use)[0] == Reasoning(
        "", "x", redacted=True, signer="anthropic"
    )
    assert signed(mark, {"type": "text", "text": "x"})[0] == Reasoning("", "sig", redacted=True, signer="google")


def test_system_text_stands_first_and_in_between() -> None:
    messages = [
        {"role": "user", "content": "a", "weight": 1},
        {"role": "system", "content": [{"type": "text", "text": "T"}]},
    ]
    assert read(system="S", messages=messages).messages == (
        Message("system", (Text("S"),)),
        Message("user", (Text("a"),), None, (("weight", b"1"),)),
        Message("system", (Text("T"),)),
    )
    assert read(system=[{"type": "text", "text": "S", **MARK}]).messages[0] == Message(
        "system", (Text("S", cache="1h"),)
    )


def test_tools_and_choices() -> None:
    tools = [
        {
            "name": "f",
            "description": "d",
            "input_schema": {"type": "object"},
            "strict": True,
            "defer_loading": True,
            **MARK,
        },
        {"type": "custom", "name": "g", "input_schema": {}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    content = read(tools=tools, tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True})
    assert content.tools == (
        Tool("f", "d", b'{"type":"object"}', True, (("defer_loading", b"true"),), "1h"),
        Tool("g", None, b"{}"),
        Foreign("messages", "web_search_20250305", encode(tools[2])),
    )
    assert (content.tool_choice, content.parallel_tools) == (ToolChoice("named", "f"), False)
    for word, mode in (("auto", "auto"), ("any", "required"), ("none", "none")):
        choice = read(tool_choice={"type": word}).tool_choice
        assert choice is not None
        assert choice.mode == mode


@pytest.mark.parametrize(
    ("config", "expected", "rides"),
    [
        ({"type": "enabled", "budget_tokens": 2_000}, Thinking(2_000), False),
        ({"type": "enabled", "budget_tokens": 2_000, "display": "omitted"}, Thinking(2_000, visible=False), False),
        ({"type": "disabled"}, Thinking(0), False),
        ({"type": "adaptive", "display": "summarized"}, Thinking(visible=True, adaptive=True), False),
        ({"type": "between_tools"}, Thinking(adaptive=True), True),
    ],
)
def test_thinking(config: dict[str, Any], expected: Thinking, rides: bool) -> None:  # noqa: FBT001 - a parameter of the test
    content = read(thinking=config)
    assert content.thinking == expected
    assert ("thinking" in dict(content.extra)) == rides


def test_the_form_of_the_answer() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    expected = OutputFormat("json_schema", schema=b'{"type":"object"}')
    assert read(output_config={"format": schema}).output == expected
    assert read(output_format=schema).output == expected
    content = read(output_config={"effort": "low", "format": schema, "task_budget": 3})
    assert content.extra == (("output_config", b'{"task_budget":3}'),)
    strange = {"type": "regex", "pattern": "x"}
    assert read(output_config={"format": strange}).extra == (("output_config", encode({"format": strange})),)
    assert read(output_format=strange).extra == (("output_format", encode(strange)),)
    assert read(output_config={"effort": "low"}).output is None


def test_tiers_and_labels() -> None:
    assert read(service_tier="standard_only").service_tier == "default"
    assert read(service_tier="auto").service_tier == "auto"
    content = read(metadata={"user_id": "u", "feature": "f", "job": "n", "nothing": None, "deep": {"a": 1}})
    assert content.metadata == (("feature", "f"), ("job", "n"))
    assert content.extra == (("metadata", b'{"deep":{"a":1}}'),)
    assert read(metadata=None).metadata == ()


def test_unknown_members_ride_along() -> None:
    content = read(container="c", context_management={"edits": []}, inference_geo=None)
    assert content.extra == (("container", b'"c"'), ("context_management", b'{"edits":[]}'), ("inference_geo", b"null"))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.request.json")), ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_request_loses_nothing(path: Path) -> None:
    """What is written of what was read says what was sent, member by member, where nothing had to give way."""
    raw = decode(path.read_bytes())
    written, dropped = MESSAGES.write_request(MESSAGES.read_request(path.read_bytes()), raw["model"])
    again = decode(written)
    for block in [block for turn in raw["messages"] for block in turn["content"] if isinstance(block, dict)]:
        if block.get("caller") == {"type": "direct"}:
            del block["caller"]
    assert again["messages"] == [
        {**turn, "content": turn["content"][0]["text"]}
        if isinstance(turn["content"], list)
        and turn["content"][0].keys() == {"type", "text"}
        and len(turn["content"]) == 1
        else turn
        for turn in raw["messages"]
    ]
    left_out = {"thinking"} if "reasoning" in dropped else set()
    assert raw.keys() - again.keys() <= left_out | set(dropped) | {"stream"}
