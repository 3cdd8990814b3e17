"""The messages, tools and the rest of a request, as the neutral form has them."""

import pytest
from msgspec.json import encode

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
    Refusal,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.openai_chat_request import read_request
from wire.chat_cases import body


def content(**members: object) -> Content:
    return read_request(body(**members)).content


def message(**members: object) -> Message:
    return content(messages=[members]).messages[0]


def part(**members: object) -> Part:
    return message(role="user", content=[members]).parts[0]


def test_the_roles_and_forms_of_text() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "dev"},
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]},
        {"role": "tool", "tool_call_id": "c", "content": None},
    ]
    assert content(messages=messages).messages == (
        Message("system", (Text("be brief"),)),
        Message("developer", (Text("a"), Text("b")), "dev"),
        Message("user", (Text("Hi"),), "ann"),
        Message("assistant", ()),
        Message("assistant", ()),
        Message("assistant", (Text(""),)),
        Message("tool", (ToolResult("c", (Text("42"),)),)),
        Message("tool", (ToolResult("c", ()),)),
    )


def test_what_an_assistant_said_stands_in_order() -> None:
    said = message(
        role="assistant",
        content="ok",
        refusal="no",
        reasoning_content="hm",
        audio={"id": "audio_1"},
        tool_calls=[
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "custom", "custom": {"name": "run", "input": "ls"}},
            {"id": "c", "function": {"name": "g"}},
        ],
        function_call={"name": "old", "arguments": "{}"},
    )
    assert said.parts == (
        Reasoning("hm"),
        Text("ok"),
        Refusal("no"),
        Audio(id="audio_1"),
        ToolUse("a", "f", '{"x":1}'),
        ToolUse("b", "run", "ls", "custom"),
        ToolUse("c", "g", ""),
        ToolUse("function_call-0", "old", "{}"),
    )


def test_both_words_for_reasoning_are_read() -> None:
    assert message(role="assistant", content="x", reasoning="hm").parts == (Reasoning("hm"), Text("x"))
    assert message(role="assistant", reasoning="a", reasoning_content="b").parts == (Reasoning("b"),)


def test_a_deprecated_function_and_its_answer_belong_together() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": None},
    ]
    uses = [m.parts[0] for m in content(messages=messages).messages[1:]]
    assert uses == [
        ToolUse("function_call-1", "f", "{}"),
        ToolResult("function_call-1", (Text("1"),)),
        ToolUse("function_call-3", "f", "{}"),
        ToolResult("function_call-3", ()),
    ]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"type": "text", "text": "a"}, Text("a")),
        ({"type": "refusal", "refusal": "no"}, Refusal("no")),
        (
            {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}},
            Image(url="https://x/a.png", detail="low"),
        ),
        ({"type": "image_url", "image_url": "https://x/a.png"}, Image(url="https://x/a.png")),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            Image(data="aGk=", media_type="image/png"),
        ),
        ({"type": "image_url", "image_url": {"url": "data:text/plain,hi"}}, Image(url="data:text/plain,hi")),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain;charset=utf-8;base64,aGk="}},
            Image(data="aGk=", media_type="text/plain"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, Audio("aGk=", "wav")),
        ({"type": "file", "file": {"file_id": "file-1"}}, File(file_id="file-1")),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
            File("a.pdf", "aGk=", "application/pdf"),
        ),
        ({"type": "file", "file": {"file_data": "aGk="}}, File(data="aGk=")),
        (
            {"type": "video_url", "video_url": {"url": "x"}},
            Foreign("chat", "video_url", b'{"type":"video_url","video_url":{"url":"x"}}'),
        ),
        ({"type": "input_text", "text": "x"}, Foreign("chat", "input_text", b'{"type":"input_text","text":"x"}')),
    ],
)
def test_each_part_has_its_neutral_form(given: dict[str, object], read: Part) -> None:
    assert part(**given) == read


def test_members_that_nobody_knows_ride_along_at_every_level() -> None:
    messages = [
        {"role": "user", "content": "plain", "weight": 2},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "https://x", "max_pixels": 9}, "mask": 1},
                {"type": "input_audio", "input_audio": {"data": "d", "format": "wav", "rate": 8}},
                {"type": "file", "file": {"file_id": "f", "pages": [1]}},
            ],
        },
        {
            "role": "assistant",
            "audio": {"id": "a", "data": "x"},
            "tool_calls": [
                {"id": "a", "type": "function", "index": 0, "function": {"name": "f", "arguments": "", "parsed": {}}},
                {"id": "b", "type": "custom", "custom": {"name": "f", "input": "", "grammar": "g"}},
            ],
            "function_call": {"name": "f", "arguments": "", "y": 1},
            "annotations": [{"type": "url_citation"}],
        },
    ]
    plain, parts, said = content(messages=messages).messages
    assert plain.extra == (("weight", b"2"),)
    assert [p.extra for p in parts.parts] == [  # type: ignore[union-attr]
        (),
        (("mask", b"1"), ("image_url", b'{"max_pixels":9}')),
        (("input_audio", b'{"rate":8}'),),
        (("file", b'{"pages":[1]}'),),
    ]
    assert [p.extra for p in said.parts] == [  # type: ignore[union-attr]
        (("data", b'"x"'),),
        (("index", b"0"), ("function", b'{"parsed":{}}')),
        (("custom", b'{"grammar":"g"}'),),
        (("y", b"1"),),
    ]
    assert said.extra == (("annotations", b'[{"type":"url_citation"}]'),), "there is no text that it could belong to"


def test_what_a_client_got_and_sends_back_needs_no_second_look() -> None:
    said = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    call = read_request(body(messages=[said]))
    assert call.read.exact  # type: ignore[attr-defined]
    assert call.content.messages == (Message("assistant", (Text("x"),)),)


def test_tools_and_the_choice_among_them() -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "function", "function": {"name": "g", "parameters": None, "returns": 1}, "cache_control": {}},
        {"type": "custom", "custom": {"name": "run"}},
        {"type": "web_search"},
    ]
    read = content(tools=tools, parallel_tool_calls=False)
    assert read.tools == (
        Tool("f", "d", b'{"type":"object"}', strict=True),
        Tool("g", extra=(("cache_control", b"{}"), ("function", b'{"returns":1}'))),
        Foreign("chat", "custom", b'{"type":"custom","custom":{"name":"run"}}'),
        Foreign("chat", "web_search", b'{"type":"web_search"}'),
    )
    assert read.parallel_tools is False
    assert content(tools=None).tools == content(tools=[]).tools == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, None),
        ("none", ToolChoice("none")),
        ("auto", ToolChoice("auto")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
    ],
)
def test_a_choice_has_its_neutral_form(given: object, read: ToolChoice | None) -> None:
    assert content(tool_choice=given).tool_choice == read


@pytest.mark.parametrize(
    ("given", "mode", "name"),
    [
        ({"type": "custom", "custom": {"name": "run"}}, "named", "run"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function"}]}},
            "required",
            None,
        ),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "auto", None),
        ({"type": "hosted_tool"}, "auto", None),
    ],
)
def test_a_choice_that_only_this_dialect_knows_is_kept_whole(given: object, mode: str, name: str | None) -> None:
    choice = content(tool_choice=given).tool_choice
    assert choice is not None
    assert (choice.mode, choice.name, choice.extra) == (mode, name, (("tool_choice", encode(given)),))


def test_deprecated_functions_are_tools_and_ride_along() -> None:
    functions = [{"name": "f", "parameters": {"type": "object"}}]
    read = content(functions=functions, function_call="none")
    assert read.tools == (Tool("f", parameters=b'{"type":"object"}'),)
    assert read.tool_choice == ToolChoice("none")
    assert read.extra == (("functions", encode(functions)), ("function_call", b'"none"'))
    assert content(functions=functions, function_call={"name": "f"}).tool_choice == ToolChoice("named", "f")
    assert content(functions=functions, function_call="whatever").tool_choice is None


@pytest.mark.parametrize(
    ("given", "read", "kept"),
    [
        (None, None, False),
        ({"type": "text"}, OutputFormat("text"), False),
        ({"type": "json_object"}, OutputFormat("json"), False),
        (
            {"type": "json_object", "schema": {"type": "object"}},
            OutputFormat("json", schema=b'{"type":"object"}'),
            False,
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "description": "d", "schema": {}, "strict": False}},
            OutputFormat("json_schema", "n", "d", b"{}", strict=False),
            False,
        ),
        ({"type": "json_schema", "json_schema": {"name": "n", "x": 1}}, OutputFormat("json_schema", "n"), True),
        ({"type": "text", "x": 1}, OutputFormat("text"), True),
        ({"type": "json_schema"}, None, True),
        ({"type": "grammar", "grammar": "root ::= x"}, None, True),
    ],
)
def test_the_form_of_the_answer(given: object, read: OutputFormat | None, kept: bool) -> None:  # noqa: FBT001 - a column of the table
    asked = content(response_format=given)
    assert asked.output == read
    assert asked.extra == ((("response_format", encode(given)),) if kept else ())


def test_members_beside_the_messages_ride_along_unless_they_are_neutral() -> None:
    asked = content(
        store=True,
        metadata={"feature": "f", "x": "y"},
        user="u",
        temperature=1,
        stream_options={"include_usage": True, "include_obfuscation": False},
        service_tier="flex",
        prediction={"type": "content", "content": "x"},
        web_search_options={},
    )
    assert asked.extra == (
        ("store", b"true"),
        ("stream_options", b'{"include_usage":true,"include_obfuscation":false}'),
        ("prediction", b'{"type":"content","content":"x"}'),
        ("web_search_options", b"{}"),
    )
    assert asked.metadata == (("feature", "f"), ("x", "y"))
    assert asked.service_tier == "flex"
    assert content(stream_options={"include_usage": True}).extra == ()
    odd = content(metadata={"feature": "f", "n": 1}, reasoning="much", thinking=None)
    assert odd.metadata == ()
    assert odd.extra == (("metadata", b'{"feature":"f","n":1}'), ("reasoning", b'"much"'))


def test_the_content_is_read_once() -> None:
    call = read_request(body())
    assert call.content is call.content
    assert call.content == call.read()


def test_marks_for_the_cache_are_read_wherever_they_stand() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    asked = content(
        messages=[
            {"role": "system", "content": "long", **mark},
            {"role": "user", "content": [{"type": "text", "text": "a", **mark}, {"type": "text", "text": "b"}]},
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}}],
                **mark,
            },
            {"role": "user", "content": [], **mark},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}, **mark}]},
            {"role": "tool", "tool_call_id": "c", "content": "1", **mark},
        ],
        tools=[{"type": "function", "function": {"name": "f"}, **mark}],
    )
    system, user, sound, empty, said, told = asked.messages
    assert system.parts == (Text("long", cache="1h"),)
    assert [part.cache for part in user.parts] == ["1h", None]  # type: ignore[union-attr]
    assert sound.extra == empty.extra == (("cache_control", b'{"type":"ephemeral","ttl":"1h"}'),), "nothing can have it"
    assert said.parts == (ToolUse("c", "f", "", cache="1h"),)
    assert told.parts == (ToolResult("c", (Text("1"),), cache="1h"),)
    assert asked.tools == (Tool("f", cache="1h"),)


def test_what_an_answer_had_beside_its_text_comes_back() -> None:
    source = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"}]
    said: dict[str, object] = {
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "a"}],
        "reasoning": "hm",
        "reasoning_details": details,
        "annotations": [source],
        "images": [{"type": "image_url", "image_url": {"url": "https://x"}}],
        "tool_calls": [
            {"id": "c", "function": {"name": "f"}, "extra_content": {"google": {"thought_signature": "g"}}},
            {"id": "d", "function": {"name": "f"}, "extra_content": {"other": 1}},
        ],
        "mine": 1,
    }
    (message,) = content(messages=[said]).messages
    citation = Citation("u", "t", None, 0, 1, dialect="chat", native=encode(source))
    assert message.parts == (
        Reasoning("hm", "s", signer="anthropic"),
        Refusal("no"),
        Text("a", (), (citation,)),
        Image("https://x"),
        ToolUse("c", "f", "", signature="g", signer="google"),
        ToolUse("d", "f", "", extra=(("extra_content", b'{"other":1}'),)),
    )
    assert message.extra == (("mine", b"1"),)
    odd = {**said, "reasoning_details": [{"type": "new"}], "images": 7}
    (message,) = content(messages=[odd]).messages
    assert message.parts[0] == Reasoning("hm")
    assert [name for name, _ in message.extra] == ["reasoning_details", "images", "mine"]
