"""Items become messages: what the model said in a row is one, and everything else of a request has its neutral form."""

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
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.openai_responses_request import read_request
from wire.responses_cases import body


def content(**members: object) -> Content:
    return read_request(body(**members), "generate").content


def said(*items: object) -> tuple[Message, ...]:
    return content(input=items).messages


def part(**members: object) -> object:
    (message,) = said({"role": "user", "content": [members]})
    (found,) = message.parts
    return found


def test_a_text_and_instructions_are_messages() -> None:
    assert content(input="Hi", instructions="Be brief.").messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hi"),)),
    )
    assert content(input="").messages == (Message("user", (Text(""),)),)


def test_what_the_model_said_in_a_row_is_one_message() -> None:
    messages = said(
        {"role": "developer", "content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "g"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary", "content": [
            {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "b"},
        ]},
        {"type": "web_search_call", "id": "ws_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        {"type": "computer_call_output", "call_id": "c3", "output": {"type": "computer_screenshot"}},
        {"type": "reasoning", "id": "rs_2", "summary": [], "content": [{"type": "reasoning_text", "text": "so"}]},
    )  # fmt: skip
    assert messages == (
        Message("developer", (Text("x"),)),
        Message(
            "assistant",
            (
                Reasoning("hm", "rs_1:g", signer="openai"),
                Text("a", (("phase", b'"commentary"'),)),
                Refusal("b"),
                Foreign("responses", "web_search_call", b'{"type":"web_search_call","id":"ws_1"}'),
                ToolUse("c1", "f", "{}"),
                ToolUse("c2", "g", "ls", "custom"),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("1"),)),)),
        Message("tool", (ToolResult("c2", (Text("2"),)),)),
        Message(
            "user",
            (
                Foreign(
                    "responses",
                    "computer_call_output",
                    b'{"type":"computer_call_output","call_id":"c3","output":{"type":"computer_screenshot"}}',
                ),
            ),
        ),
        Message("assistant", (Reasoning("so"),)),
    )


def test_the_signature_of_a_tool_call_comes_back_to_it() -> None:
    marked = {
        "type": "reasoning",
        "id": "rs_penstock_1",
        "summary": [],
        "encrypted_content": "penstock.google.tool:c1:sig",
    }
    (message,) = said(marked, {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ""})
    assert message.parts == (ToolUse("c1", "f", "", signature="sig", signer="google"),)
    assert said(marked) == (), "a signature whose call is gone says nothing"


def test_calls_may_lack_their_arguments_and_messages_their_content() -> None:
    (message,) = said(
        {"type": "function_call", "call_id": "a", "name": "f"},
        {"type": "custom_tool_call", "call_id": "b", "name": "g"},
    )
    assert message.parts == (ToolUse("a", "f", ""), ToolUse("b", "g", "", "custom"))
    assert said({"role": "assistant", "content": None}, {"role": "user", "content": None}) == (Message("user", ()),)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"type": "input_text", "text": "a", "hint": 1}, Text("a", (("hint", b"1"),))),
        ({"type": "input_image", "image_url": "https://x", "detail": "low"}, Image("https://x", detail="low")),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,aG_-"},
            Image(data="aG/+", media_type="image/png"),
        ),
        ({"type": "input_image", "image_url": "data:image/png;base64,?"}, Image(data="?", media_type="image/png")),
        ({"type": "input_image", "file_id": "f"}, Image(file_id="f")),
        ({"type": "input_file", "file_url": "https://x"}, File(url="https://x")),
        (
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": "data:application/pdf;base64,aGk=",
                "detail": "low",
            },
            File("a.pdf", "aGk=", "application/pdf", extra=(("detail", b'"low"'),)),
        ),
        ({"type": "input_file", "file_data": "aGk="}, File(data="aGk=")),
        ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}, Audio("aGk=", "mp3")),
        (
            {"type": "input_video", "url": "u"},
            Foreign("responses", "content.input_video", b'{"type":"input_video","url":"u"}'),
        ),
    ],
)
def test_each_part_has_its_neutral_form(given: dict[str, object], read: object) -> None:
    assert part(**given) == read


def test_a_text_keeps_its_sources() -> None:
    source = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    (message,) = said({"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": [source]}]})
    citation = Citation("u", "t", start=0, end=1, dialect="responses", native=encode(source))
    assert message.parts == (Text("a", (), (citation,)),)


def test_tools_and_choices() -> None:
    tools = [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"a": 1},
            "strict": True,
            "defer_loading": True,
        },
        {"type": "function", "name": "g", "parameters": None},
        {"type": "custom", "name": "run"},
    ]
    assert content(tools=tools).tools == (
        Tool("f", "d", b'{"a":1}', strict=True, extra=(("defer_loading", b"true"),)),
        Tool("g"),
        Foreign("responses", "custom", b'{"type":"custom","name":"run"}'),
    )
    for given, read in (
        (None, None),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "f"}, ToolChoice("named", "f")),
        (
            {"type": "custom", "name": "f"},
            ToolChoice("named", "f", (("tool_choice", b'{"type":"custom","name":"f"}'),)),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": []},
            ToolChoice("auto", None, (("tool_choice", b'{"type":"allowed_tools","mode":"auto","tools":[]}'),)),
        ),
        ({"type": "mcp"}, ToolChoice("auto", None, (("tool_choice", b'{"type":"mcp"}'),))),
    ):
        assert content(tool_choice=given).tool_choice == read


def test_the_form_of_the_answer() -> None:
    for given, read in (
        ({}, None),
        ({"format": {"type": "text"}}, OutputFormat("text")),
        ({"format": {"type": "json_object"}}, OutputFormat("json")),
        ({"format": {"type": "grammar"}}, None),
        (
            {"format": {"type": "json_schema", "name": "a", "schema": {"b": 1}, "strict": True}},
            OutputFormat("json_schema", "a", None, b'{"b":1}', strict=True),
        ),
    ):
        assert content(text=given).output == read


def test_the_rest_is_neutral_or_rides_along_if_it_would_be_missed() -> None:
    asked = content(
        parallel_tool_calls=False,
        service_tier="flex",
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto", "context": "auto"},
        text={"verbosity": "low"},
        include=["reasoning.encrypted_content", "file_search_call.results"],
        store=False,
        truncation="disabled",
        background=None,
        prompt_cache_key="k",
        stream_options={"include_obfuscation": False},
        max_tool_calls=3,
        moderation={"model": "m"},
    )
    assert asked.extra == (
        ("reasoning", b'{"context":"auto"}'),
        ("text", b'{"verbosity":"low"}'),
        ("include", b'["file_search_call.results"]'),
        ("max_tool_calls", b"3"),
        ("moderation", b'{"model":"m"}'),
    )
    assert (asked.parallel_tools, asked.service_tier, asked.metadata) == (False, "flex", (("a", "b"),))
    assert asked.thinking == Thinking(summary="auto")
    odd = content(metadata={"a": 1}, store=True, truncation="auto", include=["reasoning.encrypted_content"])
    assert odd.extra == (("store", b"true"), ("truncation", b'"auto"'), ("metadata", b'{"a":1}'))
