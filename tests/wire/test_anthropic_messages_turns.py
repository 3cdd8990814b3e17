"""Messages written: turns, system text, blocks of every kind, and what has no place."""

from typing import Any

import pytest
from msgspec import Raw, to_builtins
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
from penstock.wire.anthropic_messages_turns import Turns, add_extra, cache_control, write_turns

PNG = "iVBORw0KGgo="


def write(*messages: Message, own: bool = False, between: bool = False) -> tuple[Any, Any, list[str]]:
    dropped: set[str] = set()
    turns: Turns = write_turns(messages, dropped, own=own, system_between=between)
    said = decode(encode({"system": turns.system, "messages": turns.messages}))
    return said["system"], said["messages"], sorted(dropped)


def say(role: Role, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def block(part: Part, role: Role = "user", *, own: bool = False) -> tuple[Any, list[str]]:
    """The one block that a part becomes; None if it has no place."""
    _, turns, dropped = write(Message("user", (Text("first"),)), Message(role, (Text("x"), part)), own=own)
    content = turns[-1]["content"] if isinstance(turns[-1]["content"], list) else []
    return next((item for item in content if item.get("text") not in {"x", "first"}), None), dropped


# -- turns --


def test_turns_of_one_side_are_merged_and_results_come_first() -> None:
    system, turns, dropped = write(
        say("system", "A"),
        say("developer", "B"),
        say("user", "one"),
        say("user", "two"),
        say("assistant", "I look.", ToolUse("call_1", "f", '{"a":1}'), ToolUse("call_2", "f", "")),
        say("tool", ToolResult("call_1", (Text("18"),))),
        say("tool", ToolResult("call_2", (), is_error=True)),
        say("user", "and?"),
        say("system", "C"),
    )
    assert system == [{"type": "text", "text": text} for text in "ABC"]
    assert turns == [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "18"},
                {"type": "tool_result", "tool_use_id": "call_2", "is_error": True},
                {"type": "text", "text": "and?"},
            ],
        },
    ]
    assert dropped == []


def test_results_behind_other_text_of_their_turn_come_before_it() -> None:
    turns = write(say("user", "q"), say("assistant", ToolUse("c", "f", "{}")), say("user", "t", ToolResult("c", ())))[1]
    assert [item["type"] for item in turns[-1]["content"]] == ["tool_result", "text"]


def test_thoughts_come_first_in_their_turn() -> None:
    thought = Reasoning("t", "s", signer="anthropic")
    turns = write(say("user", "q"), say("assistant", "a"), say("assistant", thought, ToolUse("c", "f", "{}")))[1]
    assert [item["type"] for item in turns[-1]["content"]] == ["thinking", "text", "tool_use"]
    turns = write(say("user", "q"), say("assistant", thought, "a", thought))[1]
    assert [item["type"] for item in turns[-1]["content"]] == ["thinking", "text", "thinking"]


def test_instructions_in_between_stay_where_the_model_takes_them() -> None:
    messages = (say("user", "q"), say("system", "S"), say("user", "r"), say("assistant", "a"), say("system", "T"))
    system, turns, _ = write(*messages, between=True)
    assert system == "T"
    assert [turn["role"] for turn in turns] == ["user", "system", "user", "assistant"]
    assert write(*messages)[0] == [{"type": "text", "text": "S"}, {"type": "text", "text": "T"}]


def test_a_conversation_always_begins_with_the_user() -> None:
    assert write(say("assistant", "a"))[1][0]["role"] == "user"
    assert write(say("system", "Say hi.")) == (None, [{"role": "user", "content": "Say hi."}], [])
    assert write(say("user", "")) == (None, [], [])


def test_names_and_unknown_members_of_messages_are_named() -> None:
    assert write(Message("user", (Text("x"),), "ann", (("weight", b"1"),)))[2] == ["name", "weight"]


def test_messages_of_this_dialect_stay_as_they_were() -> None:
    messages = (
        say("system", "S"),
        Message("user", (Text("x"),), None, (("weight", b"1"),)),
        say("user", "y"),
        say("system", "T"),
        say("tool", ToolResult("c", (Text(""),))),
        say("developer", "U"),
    )
    system, turns, dropped = write(*messages, own=True)
    assert system == "S"
    assert turns == [
        {"role": "user", "content": "x", "weight": 1},
        {"role": "user", "content": "y"},
        {"role": "system", "content": "T"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": ""}]},
        {"role": "system", "content": "U"},
    ]
    assert dropped == []
    assert write(say("system", ""), say("user", "x"), own=True)[0] is None


# -- blocks --


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        ('{"a": 1}', "function", {"a": 1}),
        (" ", "function", {}),
        ("not json", "function", {"input": "not json"}),
        ("[1]", "function", {"input": "[1]"}),
        ('{"cut":', "function", {"input": '{"cut":'}),
        ("[" * 5_000, "function", {"input": "[" * 5_000}),
        ("print(1)", "custom", {"input": "print(1)"}),
        ("", "custom", {"input": ""}),
    ],
)
def test_arguments_are_an_object(arguments: str, kind: Any, expected: object) -> None:
    assert block(ToolUse("c", "f", arguments, kind), "assistant")[0]["input"] == expected


def test_ids_that_anthropic_refuses_are_fitted_the_same_in_use_and_result() -> None:
    use = block(ToolUse("call:1/x", "f", "{}"), "assistant")[0]["id"]
    assert use == block(ToolResult("call:1/x", ()))[0]["tool_use_id"]
    assert use.isascii()
    assert ":" not in use


def test_thoughts_go_back_to_the_family_that_signed_them() -> None:
    assert block(Reasoning("t", "s", signer="anthropic"), "assistant", own=True)[0] == {
        "type": "thinking",
        "thinking": "t",
        "signature": "s",
    }
    extra = (("x", b"1"),)
    redacted = Reasoning("", "s", redacted=True, extra=extra, signer="anthropic")
    assert block(redacted, "assistant", own=True)[0] == {"type": "redacted_thinking", "data": "s", "x": 1}
    for other in (Reasoning("t"), Reasoning("t", "s", signer="google"), Reasoning("t", "", signer="anthropic")):
        assert block(other, "assistant") == (None, ["reasoning"])


def test_a_refusal_is_what_the_assistant_said() -> None:
    assert block(Refusal("No."), "assistant")[0] == {"type": "text", "text": "No."}
    assert block(Refusal(" "), "assistant") == (None, [])


def test_texts_keep_marks_and_their_own_citations() -> None:
    native = Citation(cited_text="x", dialect="messages", native=b'{"type":"char_location"}')
    text = Text("t", (("weight", b"1"),), (native, Citation(url="https://example.com")), "1h")
    written, dropped = block(text, "assistant")
    assert written == {
        "type": "text",
        "text": "t",
        "citations": [{"type": "char_location"}],
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
    assert dropped == ["citations", "weight"]
    assert block(Text("\n")) == (None, [])


def test_a_search_result_is_whole_in_this_dialect_and_its_text_elsewhere() -> None:
    text = Text("API\nuse a key", (("search_result", b'{"type":"search_result"}'),))
    assert block(text, own=True) == ({"type": "search_result"}, [])
    assert block(text) == ({"type": "text", "text": "API\nuse a key"}, ["search_result"])


@pytest.mark.parametrize(
    ("image", "own", "source"),
    [
        (Image(url="https://example.com/a.png"), False, {"type": "url", "url": "https://example.com/a.png"}),
        (Image(url="gs://bucket/a.png"), False, None),
        (Image(url="gs://bucket/a.png"), True, {"type": "url", "url": "gs://bucket/a.png"}),
        (Image(data=PNG), False, {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Image(data="_9j_", media_type="image/jpg"), False, {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}),
        (Image(url=f"data:image/png;base64,{PNG}"), False, {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Image(data="Qk0=", media_type="image/bmp"), False, None),
        (Image(data="!", media_type="image/png"), False, None),
        (Image(data="x", media_type="y"), True, {"type": "base64", "media_type": "y", "data": "x"}),
        (Image(data="x"), True, {"type": "base64", "data": "x"}),
        (Image(file_id="file_1"), True, {"type": "file", "file_id": "file_1"}),
        (Image(file_id="file-1"), False, None),
        (Image(), True, None),
    ],
)  # fmt: skip
def test_pictures(image: Image, own: bool, source: object) -> None:  # noqa: FBT001 - a parameter of the test
    written, dropped = block(image, own=own)
    assert (written and written["source"]) == source
    assert dropped == (["image"] if source is None else [])


@pytest.mark.parametrize(
    ("file", "own", "expected"),
    [
        (File("a", "JVBERi0x", "application/pdf"), False, {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}),
        (File("a", "JVBERi0x"), False, {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}),
        (File("a.pdf", "AAAA"), False, {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}),
        (File("a", "data:application/pdf;base64,AAAA"), False, {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}),
        (File("a", "aGk=", "text/csv"), False, {"type": "text", "media_type": "text/plain", "data": "hi"}),
        (File("a", "e30=", "application/json"), False, {"type": "text", "media_type": "text/plain", "data": "{}"}),
        (File("a", "//8=", "text/plain"), False, None),
        (File("a", "AAAA", "application/msword"), False, None),
        (File("a", "AAAA", "application/msword"), True, {"type": "base64", "media_type": "application/msword", "data": "AAAA"}),
        (File("a", "!", "application/pdf"), False, None),
        (File("a", url="https://example.com/a.pdf"), False, {"type": "url", "url": "https://example.com/a.pdf"}),
        (File("a", url="s3://a"), False, None),
        (File("a", file_id="file_1"), True, {"type": "file", "file_id": "file_1"}),
        (File("a", file_id="file_1"), False, None),
    ],
)  # fmt: skip
def test_documents(file: File, own: bool, expected: object) -> None:  # noqa: FBT001 - a parameter of the test
    written, dropped = block(file, own=own)
    assert (written and written["source"]) == expected
    assert dropped == (["file"] if expected is None else [])
    if written:
        assert (written["type"], written["title"]) == ("document", file.name)


def test_a_document_keeps_its_own_form_and_its_members_in_this_dialect() -> None:
    extra = (("context", b'"c"'), ("source", b'{"type":"content","content":"t"}'))
    file = File(None, "dA==", "text/plain", extra=extra, cache="5m")
    assert block(file, own=True) == (
        {
            "type": "document",
            "source": {"type": "content", "content": "t"},
            "cache_control": {"type": "ephemeral"},
            "context": "c",
        },
        [],
    )
    assert block(file)[1] == ["context", "source"]


def test_a_picture_that_came_as_a_file_is_a_picture() -> None:
    assert block(File("a.png", PNG, "image/png"))[0]["type"] == "image"


def test_what_the_assistant_cannot_show_and_what_nobody_can_hear_is_named() -> None:
    assert block(Image(data=PNG), "assistant") == (None, ["image"])
    assert block(File(data="JVBERi0="), "assistant") == (None, ["file"])
    assert block(Audio("AAAA", "wav")) == (None, ["audio"])
    assert block(Foreign("chat", "video_url", b"{}")) == (None, ["video_url"])
    assert block(Foreign("messages", "container_upload", b'{"type":"container_upload"}'))[0] == {
        "type": "container_upload"
    }


def test_results_hold_pictures() -> None:
    result = ToolResult("c", (Text("see"), Image(data=PNG)), extra=(("x", b"1"),), cache="5m")
    written, dropped = block(result)
    assert [part["type"] for part in written["content"]] == ["text", "image"]
    assert written["cache_control"] == {"type": "ephemeral"}
    assert dropped == ["x"]


def test_unknown_members_go_into_the_object_of_their_name() -> None:
    item: dict[str, Any] = {"output_config": {"effort": "low"}, "list": [1]}
    add_extra(item, (("output_config", b'{"effort":"max","task":1}'), ("list", b"[2]"), ("y", b"2")), set(), own=True)
    assert to_builtins(decode(encode(item))) == {"output_config": {"effort": "low", "task": 1}, "list": [1], "y": 2}
    assert isinstance(item["y"], Raw)
    assert cache_control("5m") == {"type": "ephemeral"}
