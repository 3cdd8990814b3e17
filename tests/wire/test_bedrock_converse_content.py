"""Blocks become parts: what all APIs have in a form for all, what only Bedrock has kept whole."""

from base64 import b64encode
from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import decode, encode

from penstock.call import (
    Audio,
    Citation,
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
from penstock.wire.bedrock_converse_carried import write_redacted, write_tool_signature
from penstock.wire.bedrock_converse_content import CountReading, Reading, read_parts
from penstock.wire.bedrock_converse_fields import read_fields
from penstock.wire.splice import Outline

OWNED = {"s3Location": {"uri": "s3://b/k", "bucketOwner": "123456789012"}}


def parts(*content: Any) -> tuple[Part, ...]:
    return read_parts(decode(encode(content), type=list[dict[str, Raw]]))


def read(**members: Any) -> Content:
    outline = Outline(encode(members))
    rest = read_fields(outline.members.get("additionalModelRequestFields", Raw(b""))).rest
    return Reading(outline, rest)()


def foreign(name: str, value: Any) -> Foreign:
    return Foreign("converse", name, encode({name: value}))


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"text": "a"}, Text("a")),
        ({"text": "a", "image": None}, Text("a")),
        ({"image": None}, Text("")),
        ({"image": {"format": "png", "source": {"bytes": "YQ=="}}}, Image(data="YQ==", media_type="image/png")),
        ({"image": {"format": "png", "source": {"bytes": "YQ=="}, "x": 1}}, Image(data="YQ==", media_type="image/png", extra=(("x", b"1"),))),
        ({"image": {"format": "gif", "source": OWNED}}, Image(file_id="s3://b/k", media_type="image/gif", extra=(("bucketOwner", b'"123456789012"'),))),
        ({"document": {"format": "pdf", "name": "n", "source": {"bytes": "YQ=="}}}, File("n", "YQ==", "application/pdf")),
        ({"document": {"format": "pdf", "name": "n", "source": {"bytes": "YQ=="}, "context": "c"}}, File("n", "YQ==", "application/pdf", extra=(("context", b'"c"'),))),
        ({"document": {"format": "csv", "name": "n", "source": {"s3Location": {"uri": "s3://b/k"}}}}, File("n", None, "text/csv", file_id="s3://b/k")),
        ({"document": {"name": "n", "source": {"text": "a"}}}, File("n", "YQ==", "text/plain", extra=(("source", b'{"text":"a"}'),))),
        (
            {"document": {"format": "md", "name": "n", "source": {"content": [{"text": "a"}, {"text": "b"}, {}]}}},
            File("n", b64encode(b"a\nb\n").decode(), "text/plain", extra=(("source", b'{"content":[{"text":"a"},{"text":"b"},{}]}'), ("format", b'"md"'))),
        ),
        ({"video": {"format": "mp4", "source": {"bytes": "YQ=="}}}, File(data="YQ==", media_type="video/mp4")),
        ({"video": {"format": "mov", "source": OWNED}}, File(media_type="video/quicktime", file_id="s3://b/k", extra=(("bucketOwner", b'"123456789012"'),))),
        ({"audio": {"format": "x-aac", "source": {"bytes": "YQ=="}}}, Audio("YQ==", "aac")),
        ({"audio": {"format": "wav", "source": OWNED}}, foreign("audio", {"format": "wav", "source": OWNED})),
        ({"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": [1]}}}, ToolUse("t", "f", '{"a":[1]}')),
        ({"toolUse": {"toolUseId": "t", "name": "f", "input": {}, "x": 1}}, ToolUse("t", "f", "{}", extra=(("x", b"1"),))),
        ({"toolUse": {"toolUseId": "t", "name": "f", "input": {}, "type": "server_tool_use"}}, foreign("toolUse", {"toolUseId": "t", "name": "f", "input": {}, "type": "server_tool_use"})),
        ({"toolResult": {"toolUseId": "t", "content": [{"text": "a"}, {"json": {"b": 1}}], "status": "error", "x": 1}}, ToolResult("t", (Text("a"), Text('{"b":1}')), is_error=True, extra=(("x", b"1"),))),
        ({"toolResult": {"toolUseId": "t", "content": [], "status": "success"}}, ToolResult("t", ())),
        ({"toolResult": {"toolUseId": "t", "content": [], "type": "x"}}, foreign("toolResult", {"toolUseId": "t", "content": [], "type": "x"})),
        ({"reasoningContent": {"reasoningText": {"text": "h"}}}, Reasoning("h")),
        ({"reasoningContent": {"reasoningText": {"text": "h", "signature": "s"}, "x": 1}}, Reasoning("h", "s", extra=(("x", b"1"),), signer="anthropic")),
        ({"reasoningContent": {"reasoningText": {"text": "", "signature": "penstock.openai.rs:x"}}}, Reasoning("", "rs:x", signer="openai")),
        ({"reasoningContent": {"redactedContent": "YQ=="}}, Reasoning("", "YQ==", redacted=True, signer="anthropic")),
        ({"reasoningContent": {"redactedContent": write_redacted("é", "openai")}}, Reasoning("", "é", redacted=True, signer="openai")),
        ({"guardContent": {"text": {"text": "a", "qualifiers": ["query"]}}}, Text("a", (("guardContent", b'{"qualifiers":["query"]}'),))),
        ({"guardContent": {"image": {"format": "png", "source": {"bytes": "YQ=="}}}}, Image(data="YQ==", media_type="image/png", extra=(("guardContent", b"{}"),))),
        ({"citationsContent": {"content": [{"text": "a"}, {"text": "b"}], "citations": [{"title": "T"}]}}, Text("ab", (), (Citation(None, "T", None, 0, 2, dialect="converse", native=b'{"title":"T"}'),))),
        ({"citationsContent": {}}, Text("")),
        ({"searchResult": {"source": "s"}}, foreign("searchResult", {"source": "s"})),
        ({"cachePoint": {"type": "default"}}, foreign("cachePoint", {"type": "default"})),
    ],
)  # fmt: skip
def test_a_block_is_a_part(block: dict[str, Any], part: Part) -> None:
    assert parts(block) == (part,)


def test_a_cache_point_marks_the_part_before_it() -> None:
    point, long = {"cachePoint": {"type": "default"}}, {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert parts({"text": "a"}, long, {"text": "b"}, point) == (Text("a", cache="1h"), Text("b", cache="5m"))
    assert parts({"text": "a"}, point, long) == (Text("a", cache="5m"), foreign("cachePoint", long["cachePoint"]))
    thought = {"reasoningContent": {"reasoningText": {"text": "h"}}}
    assert parts(thought, point) == (Reasoning("h"), foreign("cachePoint", point["cachePoint"]))


def test_the_signature_of_a_tool_call_finds_its_call() -> None:
    carried = {"reasoningContent": {"redactedContent": write_tool_signature("t2", "sig", "google")}}
    calls = [{"toolUse": {"toolUseId": ident, "name": "f", "input": {}}} for ident in ("t1", "t2")]
    assert parts(calls[0], carried, calls[1]) == (
        ToolUse("t1", "f", "{}"),
        ToolUse("t2", "f", "{}", signature="sig", signer="google"),
    )


def test_instructions_stand_first_and_turns_where_they_stood() -> None:
    content = read(
        messages=[
            {"role": "user", "content": [{"text": "a"}]},
            {"role": "system", "content": [{"toolAddition": {"tool": {"name": "f"}}}]},
        ],
        system=[{"text": "Be kind."}, {"cachePoint": {"type": "default"}}],
    )
    assert content.messages == (
        Message("system", (Text("Be kind.", cache="5m"),)),
        Message("user", (Text("a"),)),
        Message("system", (foreign("toolAddition", {"tool": {"name": "f"}}),)),
    )
    assert read(messages=None).messages == ()


def test_tools_and_the_choice_among_them() -> None:
    spec = {"name": "f", "description": "d", "inputSchema": {"json": {"a": 1}}, "strict": False, "x": 1}
    point = {"cachePoint": {"type": "default"}}
    content = read(toolConfig={"tools": [point, {"toolSpec": spec}, point, {"systemTool": {"name": "s"}}, point]})
    assert content.tools == (
        foreign("cachePoint", point["cachePoint"]),
        Tool("f", "d", b'{"a":1}', strict=False, extra=(("x", b"1"),), cache="5m"),
        foreign("systemTool", {"name": "s"}),
        foreign("cachePoint", point["cachePoint"]),
    )
    assert content.tool_choice is None
    for said, meant in (
        ({"auto": {}}, ToolChoice("auto")),
        ({"any": {}}, ToolChoice("required")),
        ({"tool": {"name": "f"}}, ToolChoice("named", "f")),
    ):
        assert read(toolConfig={"tools": [{"toolSpec": spec}], "toolChoice": said}).tool_choice == meant


def test_the_rest_of_a_request() -> None:
    form = {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"a": 1}', "name": "n", "description": "d"}}}
    content = read(
        outputConfig={"textFormat": form, "effort": "low"},
        serviceTier={"type": "flex"},
        requestMetadata={"job": "x"},
        additionalModelRequestFields={"thinking": {"type": "adaptive"}, "anthropic_beta": ["x"], "top_k": 1},
        inferenceConfig={"temperature": 1, "newer": 2},
        guardrailConfig={"trace": "enabled"},
        nothing=None,
    )
    assert content.output == OutputFormat("json_schema", "n", "d", b'{"a": 1}')
    assert content.service_tier == "flex"
    assert content.metadata == (("job", "x"),)
    assert content.thinking == Thinking(adaptive=True)
    assert dict(content.extra) == {
        "inferenceConfig": b'{"newer":2}',
        "guardrailConfig": b'{"trace":"enabled"}',
        "additionalModelRequestFields": b'{"anthropic_beta":["x"]}',
    }
    assert read(outputConfig={"effort": "low"}).output is None


def test_a_tier_that_only_bedrock_has_rides_along() -> None:
    content = read(serviceTier={"type": "reserved"})
    assert content.service_tier is None
    assert content.extra == (("serviceTier", b'{"type":"reserved"}'),)


def test_a_prompt_in_the_models_own_form_is_one_part() -> None:
    assert CountReading(b"{}")() == Content((Message("user", (Foreign("converse", "invokeModel", b"{}"),)),))
