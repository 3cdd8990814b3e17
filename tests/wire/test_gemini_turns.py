"""Messages as turns: alternating, results first and in order, signatures where they belong, nothing lost unnamed."""

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
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
    Text,
    ToolResult,
    ToolUse,
)
from penstock.wire.gemini_turns import UNSIGNED_CALL, Turns, needs_signed_calls
from penstock.wire.tool_ids import made


def written(
    *messages: Message, model: str = "gemini-2.5-flash", own: bool = False
) -> tuple[list[dict[str, object]], list[object], set[str]]:
    dropped: set[str] = set()
    turns = Turns(model, dropped, own=own)
    turns.write(messages)
    contents = decode(encode(turns.contents))
    for turn in contents:
        types.Content.model_validate(turn)
    return contents, decode(encode(turns.system)), dropped


def parts(
    *given_parts: Part, role: str = "user", own: bool = False, model: str = "gemini-2.5-flash"
) -> tuple[object, set[str]]:
    contents, _, dropped = written(Message(role, given_parts), own=own, model=model)  # type: ignore[arg-type]
    return (contents[0]["parts"] if contents else []), dropped


def test_sides_alternate_and_system_text_stands_apart() -> None:
    contents, system, dropped = written(
        Message("system", (Text("S"),)),
        Message("user", (Text("a"),), "ann"),
        Message("developer", (Text("D"),)),
        Message("user", (Text("b"),), extra=(("weight", b"1"),)),
        Message("assistant", (Text("c"),)),
        Message("assistant", (Text("d"),)),
        Message("assistant", ()),
        Message("user", ()),
    )
    assert contents == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
    ]
    assert (system, dropped) == ([{"text": "S"}, {"text": "D"}], {"name", "weight"})


def test_system_text_alone_is_said_by_the_user() -> None:
    assert written(Message("system", (Text("S"),))) == ([{"role": "user", "parts": [{"text": "S"}]}], [], set())
    assert written() == ([], [], set())


def test_own_turns_stay_apart() -> None:
    contents, _, _ = written(Message("user", (Text("a"),)), Message("user", (Text(""),)), own=True)
    assert [turn["parts"] for turn in contents] == [[{"text": "a"}], [{"text": ""}]]


def test_empty_text_is_left_out_unless_it_is_all() -> None:
    assert parts(Text(""), Text("a")) == ([{"text": "a"}], set())
    assert parts(Text("")) == ([{"text": ""}], set())


def test_results_stand_first_in_the_order_of_their_calls() -> None:
    contents, _, _ = written(
        Message("assistant", (ToolUse("a", "f", "{}"), ToolUse("b", "g", '{"x":1}'))),
        Message("tool", (ToolResult("b", (Text("B"),)),)),
        Message("user", (Text("and"), ToolResult("a", (Text("A"),)))),
    )
    assert contents[1]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"output": "A"}}},
        {"functionResponse": {"id": "b", "name": "g", "response": {"output": "B"}}},
        {"text": "and"},
    ]


def test_ids_that_nobody_gave_are_not_sent() -> None:
    ident = made("generate", 1)
    contents, _, _ = written(
        Message("assistant", (ToolUse(ident, "f", "{}"),)), Message("tool", (ToolResult(ident, (Text("A"),)),))
    )
    assert contents[0]["parts"] == [{"functionCall": {"name": "f", "args": {}}}]
    assert contents[1]["parts"] == [{"functionResponse": {"name": "f", "response": {"output": "A"}}}]


@pytest.mark.parametrize(
    ("result", "response"),
    [
        (ToolResult("x", (Text("sunny"),)), {"output": "sunny"}),
        (ToolResult("x", (Text('{"t":1}'),)), {"t": 1}),
        (ToolResult("x", (Text('{"output":"a"}'),)), {"output": '{"output":"a"}'}),
        (ToolResult("x", (Text('{"error":"a"}'),)), {"output": '{"error":"a"}'}),
        (ToolResult("x", (Text("{}"),)), {"output": "{}"}),
        (ToolResult("x", (Text('{"cut":}'),)), {"output": '{"cut":}'}),
        (ToolResult("x", (Text("{" * 9000 + "}"),)), {"output": "{" * 9000 + "}"}),
        (ToolResult("x", (Text("a"), Refusal("b"))), {"output": "a\nb"}),
        (ToolResult("x", ()), {}),
        (ToolResult("x", (), is_error=True), {"error": ""}),
        (ToolResult("x", (Text("no"),), is_error=True), {"error": "no"}),
        (ToolResult("x", (Text('{"code":1}'),), is_error=True), {"error": {"code": 1}}),
    ],
)
def test_results_are_objects(result: ToolResult, response: object) -> None:
    assert parts(result) == ([{"functionResponse": {"id": "x", "name": "x", "response": response}}], set())


def test_pictures_in_results_stand_in_them_where_the_model_takes_them() -> None:
    picture = Image(data="aGk=", media_type="image/png")
    result = ToolResult(
        "x", (Text("A"), picture, Image(url="https://e.com/a.png")), cache="5m", extra=(("is_x", b"1"),)
    )
    inline = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    linked = {"fileData": {"mimeType": "image/png", "fileUri": "https://e.com/a.png"}}
    response = {"id": "x", "name": "x", "response": {"output": "A"}}
    assert parts(result, model="gemini-3-pro") == (
        [{"functionResponse": {**response, "parts": [inline]}}, linked],
        {"cache", "is_x"},
    )
    assert parts(result)[0] == [{"functionResponse": response}, inline, linked]
    own = parts(ToolResult("x", (Text("A"), picture), extra=(("name", b'"f"'), ("partMetadata", b"{}"))), own=True)[0]
    assert own == [{"functionResponse": {**response, "name": "f", "parts": [inline]}, "partMetadata": {}}]


@pytest.mark.parametrize(
    ("use", "args"),
    [
        (ToolUse("c", "f", ' {"a":1}\n'), {"a": 1}),
        (ToolUse("c", "f", ""), {}),
        (ToolUse("c", "f", "not json"), {"input": "not json"}),
        (ToolUse("c", "f", "[1]"), {"input": "[1]"}),
        (ToolUse("c", "f", "ls", "custom"), {"input": "ls"}),
    ],
)
def test_arguments_are_objects(use: ToolUse, args: object) -> None:
    assert parts(use, role="assistant")[0] == [{"functionCall": {"id": "c", "name": "f", "args": args}}]


def test_only_googles_signatures_are_sent() -> None:
    uses = (
        ToolUse("c", "f", "{}", signature="c2ln", signer="google"),
        ToolUse("d", "f", "{}", signature="x", signer="openai"),
    )
    calls = parts(*uses, role="assistant")[0]
    assert [one.get("thoughtSignature") for one in calls] == ["c2ln", None]  # type: ignore[attr-defined]
    unsigned = parts(*uses[1:], role="assistant", model="gemini-3-pro")[0]
    assert [one.get("thoughtSignature") for one in unsigned] == [UNSIGNED_CALL]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        ("gemini-3-pro-preview", True),
        ("google/gemini-3.5-flash", True),
        ("gemini-10-pro", True),
        ("gemini-flash-latest", True),
        ("gemini-flash-lite-latest", True),
        ("gemini-2.5-pro", False),
        ("gemma-3", False),
    ],
)
def test_newer_models_want_signed_calls(model: str, needed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert needs_signed_calls(model) is needed


def test_thoughts_go_to_their_own_family() -> None:
    thought = Reasoning("Hm", "c2ln", signer="google")
    assert parts(thought, role="assistant") == ([{"text": "Hm", "thought": True, "thoughtSignature": "c2ln"}], set())
    for other in (Reasoning("Hm", "x", signer="anthropic"), Reasoning("Hm")):
        assert parts(other, Text("a"), role="assistant") == ([{"text": "a"}], {"reasoning"})
    assert parts(Reasoning("Hm"), role="assistant", own=True)[0] == [{"text": "Hm", "thought": True}]
    assert parts(Reasoning(""), role="assistant", own=True)[0] == [{"text": "", "thought": True}]


def test_signatures_go_to_what_they_sign() -> None:
    sign = Reasoning("", "c2ln", signer="google")
    alone = {"text": "", "thoughtSignature": "c2ln"}
    assert parts(Text("a"), sign, sign, role="assistant")[0] == [{"text": "a", "thoughtSignature": "c2ln"}, alone]
    assert parts(sign, Text("a"), role="assistant")[0] == [alone, {"text": "a"}]
    apart = Reasoning("", "c2ln", extra=(("text", b'""'),), signer="google")
    assert parts(Text("a"), apart, role="assistant", own=True)[0] == [{"text": "a"}, alone]
    thought = Reasoning("", "c2ln", extra=(("thought", b"true"), ("partMetadata", b"{}")), signer="google")
    written = {"thought": True, "thoughtSignature": "c2ln", "partMetadata": {}}
    assert parts(thought, role="assistant", own=True)[0] == [written]


def test_parts_without_a_place_are_named() -> None:
    assert parts(
        Text("a", (("x", b"1"),), (Citation("u"),), "5m"),
        Refusal("no"),
        Image(file_id="file-7"),
        Image(),
        File(file_id="file-7"),
        File(name="a.pdf"),
        Audio(id="audio_7"),
        Foreign("chat", "video_url", b"{}"),
        Image(data="aGk=", detail="high"),
    ) == (
        [{"text": "a"}, {"text": "no"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}],
        {"x", "citations", "cache", "image", "file", "audio", "video_url", "image.detail"},
    )


def test_media_are_written_by_value_or_by_address() -> None:
    assert parts(
        Image(url="https://e.com/a.webp?x=1"),
        Image(url="https://e.com/a"),
        Image(url="data:image/gif;base64,aGk="),
        Image(file_id="gs://b/a", media_type="image/png"),
        File(data="data:text/plain;base64,aGk="),
        File("a.csv", "aGk="),
        File(data="aGk="),
        File(url="https://e.com/a.pdf"),
        Audio("aGk=", "mp3"),
        Audio("aGk=", "opus"),
        Audio("aGk="),
    )[0] == [
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://e.com/a.webp?x=1"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://e.com/a"}},
        {"inlineData": {"mimeType": "image/gif", "data": "aGk="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a"}},
        {"inlineData": {"mimeType": "text/plain", "data": "aGk="}},
        {"inlineData": {"mimeType": "text/csv", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/octet-stream", "data": "aGk="}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://e.com/a.pdf"}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": "aGk="}},
        {"inlineData": {"mimeType": "audio/opus", "data": "aGk="}},
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
    ]


def test_what_only_gemini_knows_goes_back_to_it() -> None:
    code = Foreign("generate", "executableCode", b'{"executableCode":{"code":"1"}}')
    assert parts(code, role="assistant", own=True) == ([{"executableCode": {"code": "1"}}], set())
    assert parts(code, role="assistant") == ([], {"executableCode"})


@settings(max_examples=1_000, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_any_text_of_a_result_is_an_object(text: str) -> None:
    (one,) = parts(ToolResult("x", (Text(text),)))[0]  # type: ignore[misc]
    assert isinstance(one["functionResponse"]["response"], dict)
