"""Messages, tools and the rest, on demand: what has a neutral form, what rides along, and which result answers which call."""

from typing import Any

import pytest
from msgspec.json import decode, encode

from penstock.call import (
    Content,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from penstock.wire.ollama_content import read_image
from penstock.wire.ollama_request import read_request
from wire.ollama_cases import body

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def chat(**members: object) -> Content:
    return read_request(body(**members), "chat").content


def generate(**members: object) -> Content:
    return read_request(encode({"model": "m", **members}), "generate").content


def turns(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return chat(messages=list(messages)).messages


def use(name: str, ident: str | None = None, **arguments: object) -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    return {**call, "id": ident} if ident else call


def test_every_role_is_read() -> None:
    assert turns(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u", "images": [PIXEL]},
        {"role": "assistant", "content": "a", "thinking": "t", "images": ["/9j/4AAQ"]},
        {"role": "user"},
        {"role": "assistant", "content": None},
    ) == (
        Message("system", (Text("s"),)),
        Message("developer", (Text("d"),)),
        Message("user", (Text("u"), Image(data=PIXEL, media_type="image/png"))),
        Message("assistant", (Reasoning("t"), Text("a"), Image(data="/9j/4AAQ", media_type="image/jpeg"))),
        Message("user", (Text(""),)),
        Message("assistant", ()),
    )


def test_a_completion_becomes_messages() -> None:
    assert generate(prompt="p", system="s", images=[PIXEL]).messages == (
        Message("system", (Text("s"),)),
        Message("user", (Text("p"), Image(data=PIXEL, media_type="image/png"))),
    )
    assert generate().messages == ()


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PIXEL, "image/png"),
        ("R0lGODlh", "image/gif"),
        ("UklGRhIAAABXRUJQ", "image/webp"),
        ("Qk06AAAA", "image/bmp"),
        ("AAAA", None),
        ("_9j_", "image/jpeg"),  # which becomes the standard alphabet
    ],
)
def test_a_picture_is_told_by_how_it_begins(data: str, media_type: str | None) -> None:
    assert read_image(data).media_type == media_type


def test_a_tool_call_without_an_id_has_the_same_one_every_time() -> None:
    said = ({"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [use("f"), use("f")]})
    first, again = turns(*said)[1].parts, turns(*said, {"role": "user", "content": "y"})[1].parts
    assert first == again
    assert len({part.id for part in first if isinstance(part, ToolUse)}) == 2


def test_arguments_are_kept_as_the_text_they_were() -> None:
    raw = b'[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{ "a" : 1.50 }}},{"function":{"name":"g","arguments":null}},{"function":{"name":"h"}}]}]'
    uses = chat(messages=raw).messages[0].parts
    assert [part.arguments for part in uses if isinstance(part, ToolUse)] == ['{ "a" : 1.50 }', "{}", "{}"]


@pytest.mark.parametrize(
    ("results", "answered"),
    [
        ([{"tool_call_id": "b"}, {"tool_call_id": "a"}], ["b", "a"]),
        ([{"tool_name": "g"}, {"tool_name": "f"}], ["b", "a"]),
        ([{}, {}], ["a", "b"]),
        ([{"tool_name": "unknown"}, {"tool_name": "f"}], ["a", "b"]),
        ([{"tool_call_id": "z"}, {"tool_name": "g"}], ["z", "b"]),
        ([{"tool_call_id": "a", "tool_name": "g"}, {"tool_call_id": "", "tool_name": "f"}], ["a", "b"]),
    ],
)
def test_a_result_finds_its_call_by_id_by_name_or_by_turn(results: list[dict[str, str]], answered: list[str]) -> None:
    said = turns(
        {"role": "assistant", "tool_calls": [use("f", "a"), use("g", "b")]},
        *({"role": "tool", "content": "x", **result} for result in results),
    )
    assert [part.id for turn in said[1:] for part in turn.parts if isinstance(part, ToolResult)] == answered
    names = {"a": "f", "b": "g"}
    told = [result.get("tool_name") for result in results]
    expected = [None if names.get(ident) == name else name for ident, name in zip(answered, told, strict=True)]
    assert [turn.name for turn in said[1:]] == expected, "a name that the call has already says nothing"


def test_two_calls_of_one_tool_are_answered_in_turn() -> None:
    said = turns(
        {"role": "assistant", "tool_calls": [use("f", "a"), use("f", "b")]},
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "tool_name": "f", "content": "2", "images": [PIXEL]},
    )
    assert said[1].parts == (ToolResult("a", (Text("1"),)),)
    assert said[2].parts == (ToolResult("b", (Text("2"), Image(data=PIXEL, media_type="image/png"))),)


def test_a_result_that_answers_nothing_is_kept() -> None:
    (result,) = turns({"role": "tool", "content": ""})[0].parts
    assert isinstance(result, ToolResult)
    assert result.id.startswith("call_")
    assert result.parts == (Text(""),)


def test_unknown_members_ride_along_where_they_stood() -> None:
    content = chat(
        messages=[
            {"role": "user", "content": "x", "weight": 1},
            {"role": "assistant", "tool_calls": [{**use("f", "a"), "note": 1, "type": "function"}]},
            {"role": "tool", "tool_call_id": "a", "content": "x", "cached": True},
        ],
        tools=[{"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}, "hidden": 1}],
        keep_alive=0,
        options={"num_ctx": 1, "temperature": 0.5, "num_predict": -1},
    )
    assert [message.extra for message in content.messages] == [(("weight", b"1"),), (), (("cached", b"true"),)]
    assert content.messages[1].parts == (ToolUse("a", "f", "{}", extra=(("note", b"1"),)),)
    assert content.tools == (Tool("f", None, b"{}", None, (("hidden", b"1"), ("function", b'{"strict":true}'))),)
    assert content.extra == (("keep_alive", b"0"), ("options.num_ctx", b"1"), ("options.num_predict", b"-1"))


def test_what_every_client_sends_does_not_count_as_unknown() -> None:
    call = {"type": "function", "id": "a", "function": {"index": 3, "name": "f", "arguments": {}}}
    assert turns({"role": "assistant", "tool_calls": [call]})[0].parts == (ToolUse("a", "f", "{}"),)


def test_tools_are_read() -> None:
    tools = [{"function": {"name": "f", "description": "d", "parameters": None}}, {"type": "web_search", "limit": 3}]
    assert chat(tools=tools).tools == (
        Tool("f", "d"),
        Foreign("ollama", "web_search", b'{"type":"web_search","limit":3}'),
    )


def test_signatures_come_back_from_where_they_were_put() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "penstock.anthropic.c2ln"},
        {"type": "reasoning.encrypted", "data": "penstock.openai.ZW5j"},
    ]
    signed = {"role": "assistant", "content": "a", "thinking": "Hm", "reasoning_details": details}
    google = {"extra_content": {"google": {"thought_signature": "penstock.google.dGhv"}}}
    (turn,) = turns({**signed, "tool_calls": [{**use("f", "a"), **google}]})
    assert turn.parts == (
        Reasoning("Hm", "c2ln", signer="anthropic"),
        Reasoning("", "ZW5j", redacted=True, signer="openai"),
        Text("a"),
        ToolUse("a", "f", "{}", signature="dGhv", signer="google"),
    )
    assert turns({**signed, "thinking": "Changed."})[0].parts == (Reasoning("Changed."), Text("a"))
    del signed["thinking"]
    assert turns(signed)[0].parts[0] == Reasoning("Hm", "c2ln", signer="anthropic")


def test_other_extra_content_rides_along() -> None:
    (turn,) = turns({"role": "assistant", "tool_calls": [{**use("f", "a"), "extra_content": {"x": 1}}]})
    assert turn.parts == (ToolUse("a", "f", "{}", extra=(("extra_content", b'{"x":1}'),)),)


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ("json", OutputFormat("json")),
        ("", None),
        ({"type": "object"}, OutputFormat("json_schema", schema=b'{"type":"object"}')),
    ],
)
def test_the_form_of_the_answer_is_read(said: object, output: OutputFormat | None) -> None:
    assert chat(format=said).output == output
    assert generate(prompt="x", format=said).output == output


@pytest.mark.parametrize(
    ("said", "thinking", "effort"),
    [
        (True, Thinking(visible=True, adaptive=True), None),
        (False, Thinking(tokens=0), None),
        ("high", Thinking(visible=True), "high"),
    ],
)
def test_how_much_to_think_is_read(said: bool | str, thinking: Thinking, effort: str | None) -> None:  # noqa: FBT001 - a parameter of the test
    call = read_request(body(think=said), "chat")
    assert (call.content.thinking, call.sampling.reasoning_effort) == (thinking, effort)


def test_what_rides_along_keeps_its_bytes() -> None:
    content = chat(options=b'{"num_ctx": 1e3}', something=b'{ "a" : 1 }')
    assert dict(content.extra) == {"options.num_ctx": b"1e3", "something": b'{ "a" : 1 }'}
    assert decode(dict(content.extra)["something"]) == {"a": 1}
