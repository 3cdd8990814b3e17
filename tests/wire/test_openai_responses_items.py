"""Messages become items; what the API cannot be told is named."""

from typing import Any

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
from penstock.wire.openai_responses_items import ItemWriter


def items(*messages: Message, own: bool = False, openai: bool = False) -> tuple[list[Any], list[str]]:
    dropped: set[str] = set()
    written = ItemWriter(dropped, own=own, openai=openai).write(messages)
    return decode(encode(written)), sorted(dropped)


def one(role: Role, *parts: Part, own: bool = False) -> tuple[Any, list[str]]:
    (item,), dropped = items(Message(role, parts), own=own)
    return item, dropped


def test_texts_and_refusals_in_a_row_are_one_message_and_calls_stand_beside() -> None:
    message = Message("assistant", (Text("a"), Refusal("b"), ToolUse("c", "f", "{}"), Text("d")))
    assert items(message) == (
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
            },
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
        ],
        [],
    )


def test_results_go_by_the_kind_of_their_call_and_may_show_pictures() -> None:
    use = Message("assistant", (ToolUse("c1", "f", "{}"), ToolUse("c2", "g", "ls", "custom")))
    told = Message(
        "user", (ToolResult("c1", (Text("1"),), is_error=True), ToolResult("c2", (Image("u"),)), Text("so?"))
    )
    written, dropped = items(use, told, Message("tool", (ToolResult("c3", ()),)))
    assert written[1:] == [
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": "u"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "so?"}]},
        {"type": "function_call_output", "call_id": "c3", "output": ""},
    ]
    assert dropped == ["tool_result.is_error"]


def test_a_thought_goes_to_the_family_that_signed_it() -> None:
    thoughts = (
        Reasoning("a", "rs_1:g", signer="openai"),
        Reasoning("b", "g", signer="openai"),
        Reasoning("c", "s", signer="anthropic"),
        Reasoning("d"),
    )
    signed = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}],
        "encrypted_content": "g",
    }
    for own in (False, True):
        written, dropped = items(Message("assistant", thoughts), own=own, openai=True)
        assert written[0] == signed
        assert written[1:] == [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "b"}], "encrypted_content": "g"}
        ], "without an id that OpenAI would look for"
        assert dropped == ["reasoning"]
    assert [item["summary"][0]["text"] for item in items(Message("assistant", thoughts), own=True)[0]] == [
        "a",
        "b",
        "d",
    ]
    assert items(Message("user", (thoughts[0],))) == ([], ["reasoning"])


def test_pictures_and_files() -> None:
    item, dropped = one(
        "user",
        Image(data="aGk=", media_type="image/gif", detail="low"),
        Image(file_id="f", cache="5m"),
        File("a.pdf", "aGk=", "application/pdf"),
        File(None, "aGk=", "application/pdf"),
        File("a.png", "aGk=", "image/png"),
        File(url="https://x"),
        File(data="aGk="),
    )
    assert item["content"] == [
        {"type": "input_image", "image_url": "data:image/gif;base64,aGk=", "detail": "low"},
        {"type": "input_image", "file_id": "f"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
        {"type": "input_file", "filename": "file.pdf", "file_data": "data:application/pdf;base64,aGk="},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
        {"type": "input_file", "file_url": "https://x"},
        {"type": "input_file", "file_data": "aGk="},
    ]
    assert dropped == ["cache"]


def test_the_same_dialect_keeps_what_is_its_own() -> None:
    native = b'{"type":"url_citation"}'
    text = Text("a", (("phase", b'"final_answer"'), ("x", b"1")), (Citation("u", dialect="responses", native=native),))
    item, _ = one("assistant", text, own=True)
    assert item == {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}], "x": 1}],
        "phase": "final_answer",
    }
    item, dropped = one("user", Audio("aGk="), Foreign("responses", "content.v", b'{"type":"v"}'), own=True)
    assert item["content"] == [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, {"type": "v"}]
    written, _ = items(Message("assistant", (Foreign("responses", "web_search_call", b'{"type":"w"}'),)), own=True)
    assert (written, dropped) == ([{"type": "w"}], [])


def test_what_has_no_place_is_named() -> None:
    parts = (
        Audio("aGk=", "wav"),
        Foreign("messages", "search_result", b"{}"),
        ToolUse("c", "f", "{}"),
        Text("x", (("hint", b"1"),), cache="1h"),
    )
    item, dropped = one("user", *parts)
    assert item["content"] == [{"type": "input_text", "text": "x"}]
    assert dropped == ["audio", "cache", "hint", "search_result", "tool_use"]
    said = Message("assistant", (Image("u"), Text("x", (), (Citation("u"),))), "bob", (("prefix", b"true"),))
    assert items(said)[1] == ["citations", "image", "name", "prefix"]
