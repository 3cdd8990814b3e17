"""Requests read on the fast path: what is taken, what is refused and how, what only Anthropic can do."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import encode

from penstock.call import Call
from penstock.errors import InvalidRequest
from penstock.wire.anthropic_messages_request import MAX_DEPTH, read_request
from penstock.wire.dialect import NOTHING_ASKED, Asked

HELLO: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def read(**members: Any) -> Call:
    return read_request(encode({**HELLO, **members}), NOTHING_ASKED)


def with_blocks(*blocks: dict[str, Any]) -> Call:
    return read(messages=[{"role": "user", "content": list(blocks)}])


def refused(**members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**members)
    return caught.value


# -- what is taken --


def test_everything_that_routing_and_admission_need_is_read_at_once() -> None:
    call = read(
        stream=True,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        stop_sequences=["a", "b"],
        output_config={"effort": "high"},
        metadata={"user_id": "u", "feature": "f", "session": "s"},
    )
    sampling = call.sampling
    assert (call.dialect, call.model, call.stream, call.stream_usage) == ("messages", "m", True, True)
    assert (call.user, call.feature, call.session) == ("u", "f", "s")
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.5, 0.9, 4, 9)
    assert (sampling.stop, sampling.reasoning_effort) == (("a", "b"), "high")
    assert (call.input_bound, call.native) == (len(call.raw), ())


def test_path_and_query_come_before_the_body() -> None:
    body = encode({"messages": HELLO["messages"]})
    call = read_request(body, Asked("claude-x", stream=True, operation="count", form="f"))
    assert (call.model, call.stream, call.operation, call.form) == ("claude-x", True, "count", "f")
    assert call.sampling.max_tokens is None


@pytest.mark.parametrize(
    ("members", "native", "bound"),
    [
        ({"container": "c"}, ("container",), False),
        ({"mcp_servers": []}, (), True),
        ({"mcp_servers": [{}], "container": None}, ("mcp_servers",), False),
        ({"context_management": {"edits": []}}, (), True),
        ({"max_tokens": 0}, ("max_tokens",), True),
        ({"tools": [{"name": "f", "input_schema": {}}]}, (), True),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, ("bash_20250124",), False),
        ({"system": [{"type": "text", "text": "S"}]}, (), True),
    ],
)
def test_what_only_anthropic_can_do_is_named(members: dict[str, Any], native: tuple[str, ...], bound: bool) -> None:  # noqa: FBT001 - a parameter of the test
    call = read(**members)
    assert (call.native, call.input_bound is not None) == (native, bound)


@pytest.mark.parametrize(
    ("block", "native", "bound"),
    [
        ({"type": "image", "source": {"type": "url", "url": "u"}}, (), False),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, ("file_id",), False),
        ({"type": "document", "source": {"type": "text", "data": "d"}}, (), True),
        ({"type": "document", "source": {"type": "content", "content": "d"}}, (), True),
        ({"type": "document", "source": {"type": "content"}}, (), True),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url", "url": "u"}}]}},
            (),
            False,
        ),
        ({"type": "tool_result", "tool_use_id": "t"}, (), True),
        ({"type": "tool_result", "tool_use_id": "t", "content": "x"}, (), True),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference"}]}, ("tool_reference",), False),
        ({"type": "server_tool_use", "input": {}}, ("server_tool_use",), False),
    ],
)  # fmt: skip
def test_blocks_say_what_only_anthropic_can_do(block: dict[str, Any], native: tuple[str, ...], bound: bool) -> None:  # noqa: FBT001 - a parameter of the test
    call = with_blocks(block, {"type": "text", "text": "x"})
    assert (call.native, call.input_bound is not None) == (native, bound)


# -- what is refused --


@pytest.mark.parametrize(
    ("members", "param", "hint"),
    [
        ({"model": None}, "model", "GET /v1/models"),
        ({"model": ""}, "model", "GET /v1/models"),
        ({"model": 1}, "model", "GET /v1/models"),
        ({"max_tokens": None}, "max_tokens", "from 1"),
        ({"max_tokens": -1}, "max_tokens", "from 1"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": None}, "messages", "at least one"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", "user or assistant"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "content blocks"),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages[0].content[0].type",
            "type of the block",
        ),
        ({"temperature": 1.1}, "temperature", "0 to 1"),
        ({"top_p": -0.1}, "top_p", "0 to 1"),
        ({"top_k": 0.5}, "top_k", "whole number"),
        ({"stop_sequences": "x"}, "stop_sequences", "list of strings"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type", ""),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "tool's name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "1024"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "JSON Schema"),
        ({"output_format": {"type": "json_schema", "schema": []}}, "output_format.schema", "JSON Schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "name"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "JSON Schema"),
        ({"tools": [{"type": "custom", "name": "f", "input_schema": None}]}, "tools[0].input_schema", "JSON Schema"),
        ({"service_tier": 1}, "service_tier", "reference"),
    ],
)
def test_a_bad_member_is_named(members: dict[str, Any], param: str, hint: str) -> None:
    error = refused(**members)
    assert error.param == param
    assert f"`{param}`" in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "text"}, "text"),
        ({"type": "thinking"}, "thinking"),
        ({"type": "redacted_thinking"}, "data"),
        ({"type": "tool_use", "name": "f", "input": {}}, "id"),
        ({"type": "tool_use", "id": "i", "input": {}}, "name"),
        ({"type": "tool_use", "id": "i", "name": "f"}, "input"),
        ({"type": "tool_use", "id": "i", "name": "f", "input": "{}"}, "input"),
        ({"type": "tool_result"}, "tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "t", "content": 1}, "content"),
        ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text"}]}, "content[0].text"),
        ({"type": "search_result", "title": "t"}, "source"),
        ({"type": "image"}, "source"),
        ({"type": "image", "source": "x"}, "source"),
        ({"type": "image", "source": {"type": "base64"}}, "source.data"),
        ({"type": "image", "source": {"type": "url"}}, "source.url"),
        ({"type": "document", "source": {"type": "file"}}, "source.file_id"),
        ({"type": "document", "source": {"type": "content", "content": 1}}, "source.content"),
    ],
)
def test_a_block_without_what_its_type_promises_is_refused(block: dict[str, Any], param: str) -> None:
    error = refused(messages=[{"role": "user", "content": [block]}])
    assert error.param == f"messages[0].content[0].{param}"
    assert error.hint
    assert refused(system=[{"type": "text"}]).param == "system[0].text"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "empty"),
        (b"[]", "not an object"),
        (b'{"model":"m","model":"n"}', "two members"),
        (b'{"model":"\xff"}', "UTF-8"),
        (b'{"messages":', "not valid JSON"),
        (b'{"model":"\\ud800"}', "surrogate"),
        (b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"metadata":{"a":1,"a":2}}', "two members"),
        (b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"x","y":"\xff"}]}]}', "UTF-8"),
        (encode(HELLO)[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        read_request(body, NOTHING_ASKED)


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth):
            value = [value]
        return {"deep": value}

    assert read(**nested(MAX_DEPTH - 1)).model == "m"
    assert "levels deep" in refused(**nested(MAX_DEPTH)).message
    assert read(messages=[{"role": "user", "content": "[{" * 99}] * 40).model == "m"


@settings(max_examples=1_000, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "source", "content", "name", "id", "input", "tool_use_id", "cache_control", "x"]), inner, max_size=4), max_leaves=8), st.sampled_from(["messages", "system", "tools", "tool_choice", "thinking", "metadata", "output_config"]))  # fmt: skip
def test_any_value_anywhere_is_read_or_refused(value: Any, name: str) -> None:
    with suppress(InvalidRequest):
        read(**{name: value})
    with suppress(InvalidRequest):
        call = with_blocks({"type": "text", "text": "x"}, value if isinstance(value, dict) else {"type": value})
        assert call.content.messages
