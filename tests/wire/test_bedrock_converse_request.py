"""Requests are read and checked: what is wrong is named, and what only Bedrock can honour is found."""

from typing import Any

import pytest
from msgspec.json import encode

from penstock.call import Sampling
from penstock.errors import InvalidRequest
from penstock.wire.bedrock_converse_request import read_request
from penstock.wire.dialect import Asked

ASKED = Asked("anthropic.claude-sonnet-4-5", stream=False)
COUNT = Asked("anthropic.claude-sonnet-4-5", operation="count")
HI = [{"role": "user", "content": [{"text": "Hi"}]}]


def body(**members: Any) -> bytes:
    return encode({"messages": HI, **members})


def blocks(*content: Any) -> bytes:
    return body(messages=[{"role": "user", "content": content}])


def result(*content: Any, **members: Any) -> bytes:
    return blocks({"toolResult": {"toolUseId": "t", "content": content, **members}})


def tools(*definitions: Any, **members: Any) -> bytes:
    return body(toolConfig={"tools": definitions, **members})


def schema(text: str) -> bytes:
    return body(outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": text}}}})


SPEC = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}


def test_the_options_are_read_from_where_they_stand() -> None:
    call = read_request(
        body(
            inferenceConfig={"maxTokens": 9, "temperature": 0.5, "topP": 1, "stopSequences": ["a"]},
            additionalModelRequestFields={"top_k": 5, "reasoning_effort": "low", "seed": 99},
        ),
        Asked("m", stream=True),
    )
    assert call.sampling == Sampling(0.5, 1.0, 5, None, 9, ("a",), 99, reasoning_effort="low")
    assert (call.dialect, call.model, call.stream, call.stream_usage) == ("converse", "m", True, True)
    assert call.input_bound == len(call.raw)
    assert call.native == ()


def test_what_is_not_said_is_none() -> None:
    assert read_request(body(), ASKED).sampling == Sampling()
    assert read_request(body(inferenceConfig=None, system=None, toolConfig=None), ASKED).sampling == Sampling()
    assert read_request(body(additionalModelRequestFields={"top_k": 5}), ASKED).sampling == Sampling(top_k=5)
    effort = body(outputConfig={"effort": "max"}, additionalModelRequestFields={"reasoning_effort": "low"})
    assert read_request(effort, ASKED).sampling == Sampling(reasoning_effort="max")


def test_labels_say_who_pays() -> None:
    call = read_request(body(requestMetadata={"feature": "f", "session": "s", "user_id": "u"}), ASKED)
    assert (call.feature, call.session, call.user) == ("f", "s", "u")


@pytest.mark.parametrize(
    ("data", "param", "says"),
    [
        (b"", None, "empty"),
        (b"[]", None, "not an object"),
        (b'{"messages":[', None, "not valid JSON"),
        (b'{"messages":[],"messages":[]}', "messages", "two members"),
        (b'{"messages":[]}', "messages", "missing or empty"),
        (b"{}", "messages", "missing or empty"),
        (b'{"messages":7}', "messages", "expected"),
        (b'{"messages":[{"content":[{"text":"x"}]}]}', "messages[0].role", "missing"),
        (body(messages=[{"role": "tool", "content": [{"text": "x"}]}]), "messages[0].role", "invalid enum value"),
        (body(messages=[{"role": "user", "content": []}]), "messages[0].content", "is empty"),
        (blocks({}), "messages[0].content[0]", "0 members"),
        (blocks({"text": "a"}, {"new": 1, "newer": 2}), "messages[0].content[1]", "2 members"),
        (blocks({"text": "a", "cachePoint": {"type": "default"}}), "messages[0].content[0]", "several members"),
        (blocks({"image": {"format": "png", "source": {}}}), "messages[0].content[0].image.source", "none of the members"),
        (blocks({"toolUse": {"toolUseId": "", "name": "f", "input": {}}}), "messages[0].content[0].toolUse.toolUseId", "length"),
        (blocks({"toolUse": {"toolUseId": "t", "name": "f"}}), "messages[0].content[0].toolUse.input", "missing"),
        (blocks({"reasoningContent": {}}), "messages[0].content[0].reasoningContent", "none"),
        (blocks({"guardContent": {}}), "messages[0].content[0].guardContent", "none"),
        (blocks({"cachePoint": {"type": "other"}}), "messages[0].content[0].cachePoint.type", "enum"),
        (result({"text": "a", "json": 1}), "messages[0].content[0].toolResult.content[0]", "several"),
        (result({"image": {"format": "png", "source": {}}}), "messages[0].content[0].toolResult.content[0].image.source", "none"),
        (body(system=[{"text": ""}]), "system[0].text", "empty"),
        (body(system=[{}]), "system[0]", "none"),
        (body(system=[{"guardContent": {}}]), "system[0].guardContent", "none"),
        (body(inferenceConfig={"temperature": 1.5}), "inferenceConfig.temperature", "<= 1"),
        (body(inferenceConfig={"maxTokens": 0}), "inferenceConfig.maxTokens", ">= 1"),
        (body(inferenceConfig={"stopSequences": [""]}), "inferenceConfig.stopSequences[0]", "length"),
        (b'{"messages":[],"inferenceConfig":{"topP":1,"topP":0}}', "topP", "two members"),
        (body(additionalModelRequestFields=[1]), "additionalModelRequestFields", "no object"),
        (body(additionalModelRequestFields={"top_k": -7}), "additionalModelRequestFields.top_k", "-7"),
        (body(additionalModelRequestFields={"presence_penalty": 7}), "additionalModelRequestFields.presence_penalty", "7"),
        (body(toolConfig={"tools": []}), "toolConfig.tools", "empty"),
        (tools({}), "toolConfig.tools[0]", "none"),
        (tools({"toolSpec": {"name": "f", "inputSchema": {"json": []}}}), "toolConfig.tools[0].toolSpec.inputSchema.json", "not an object"),
        (tools(SPEC, toolChoice={}), "toolConfig.toolChoice", "none"),
        (tools(SPEC, toolChoice={"auto": {}, "any": {}}), "toolConfig.toolChoice", "several"),
        (schema("[]"), "outputConfig.textFormat.structure.jsonSchema.schema", "not the text of a JSON object"),
        (schema("{"), "outputConfig.textFormat.structure.jsonSchema.schema", "not the text of a JSON object"),
        (body(requestMetadata={"a": 1}), "requestMetadata", "expected"),
        (blocks({"toolUse": {"toolUseId": "t", "name": "f", "input": 0}}).replace(b"0", b'{"a":' * 70 + b"0" + b"}" * 70), None, "levels"),
        (b"[" * 100_000, None, "JSON"),
        (b'{"messages":' + b'{"a":' * 5_000, None, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(data: bytes, param: str | None, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(data, ASKED)
    assert caught.value.param == param
    assert says in caught.value.message
    assert caught.value.hint


def test_a_path_without_a_model_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="names no model"):
        read_request(body(), Asked())


@pytest.mark.parametrize(
    ("data", "native"),
    [
        (body(guardrailConfig={}), ("guardrailConfig",)),
        (blocks({"searchResult": {}}), ("searchResult",)),
        (blocks({"text": "a"}, {"new": 1}), ("new",)),
        (blocks({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://a/b"}}}}), ("s3Location",)),
        (blocks({"toolUse": {"toolUseId": "t", "name": "f", "input": {}, "type": "server_tool_use"}}), ("toolUse",)),
        (result(type="x"), ("toolResult",)),
        (result({"searchResult": {}}), ("searchResult",)),
        (tools({"systemTool": {"name": "x"}}), ("systemTool",)),
        (b'{"promptVariables":{"a":{"text":"b"}}}', ("promptVariables",)),
    ],
)
def test_what_only_bedrock_can_honour_is_found(data: bytes, native: tuple[str, ...]) -> None:
    assert read_request(data, ASKED).native == native


def test_a_prompt_that_is_kept_at_bedrock_needs_no_messages() -> None:
    arn = Asked("arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1")
    assert read_request(b"{}", arn).content.messages == ()


@pytest.mark.parametrize(
    ("data", "bounded"),
    [
        (blocks({"text": "a"}, {"cachePoint": {"type": "default"}}), True),
        (blocks({"guardContent": {"text": {"text": "a"}}}), True),
        (blocks({"reasoningContent": {"redactedContent": "YQ=="}}), True),
        (blocks({"citationsContent": {"content": [{"text": "a"}]}}), True),
        (result({"text": "a"}, {"json": {}}), True),
        (body(system=[{"text": "a"}, {"guardContent": {"text": {"text": "a"}}}]), True),
        (tools(SPEC, {"cachePoint": {"type": "default"}}, toolChoice={"any": {}}), True),
        (schema('{"type":"object"}'), True),
        (blocks({"image": {"format": "png", "source": {"bytes": "YQ=="}}}), False),
        (blocks({"document": {"name": "n", "source": {"text": "a"}}}), False),
        (blocks({"audio": {"format": "wav", "source": {"bytes": "YQ=="}}}), False),
        (blocks({"guardContent": {"image": {"format": "png", "source": {"bytes": "YQ=="}}}}), False),
        (result({"image": {"format": "png", "source": {"bytes": "YQ=="}}}), False),
        (body(system=[{"guardContent": {"image": {"format": "png", "source": {"bytes": "YQ=="}}}}]), False),
        (tools({"systemTool": {"name": "x"}}), False),
        (blocks({"new": 1}), False),
    ],
)
def test_the_length_bounds_the_tokens_where_all_is_text(data: bytes, *, bounded: bool) -> None:
    assert read_request(data, ASKED).input_bound == (len(data) if bounded else None)


# -- counts --


def test_a_count_is_of_a_prompt_in_either_form() -> None:
    inner = {"messages": HI, "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}}}
    call = read_request(encode({"input": {"converse": inner}}), COUNT)
    assert call.operation == "count"
    assert call.content.thinking is not None
    assert call.input_bound == len(call.raw)
    pictured = [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "YQ=="}}}]}]
    assert read_request(encode({"input": {"converse": {"messages": pictured}}}), COUNT).input_bound is None
    call = read_request(b'{"input":{"invokeModel":{"body":"e30="}}}', COUNT)
    assert call.native == ("invokeModel",)
    assert len(call.content.messages) == 1


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"{}", "input"),
        (b'{"input":{}}', "input"),
        (b'{"input":{"converse":null}}', "input"),
        (b'{"input":{"converse":{},"invokeModel":{"body":"x"}}}', "input"),
        (b'{"input":{"converse":{"messages":7}}}', "messages"),
        (b'{"input":{"converse":7}}', None),
    ],
)
def test_a_count_of_nothing_is_refused(data: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(data, COUNT)
    assert caught.value.param == param
