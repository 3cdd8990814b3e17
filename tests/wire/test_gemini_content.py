"""Turns, tools and forms in the neutral vocabulary: ids where there are none, pieces joined, signatures behind what they sign."""

import pytest
from msgspec.json import decode, encode

from penstock.call import (
    Audio,
    Content,
    File,
    Foreign,
    Image,
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
from penstock.wire.dialect import Asked
from penstock.wire.gemini_body import write_request
from penstock.wire.gemini_content import turns_of
from penstock.wire.gemini_members import write_signature
from penstock.wire.gemini_request import read_request

ASKED = Asked(model="m")
USER = {"role": "user", "parts": [{"text": "Hi"}]}


def content(*turns: object, **members: object) -> Content:
    return read_request(encode({"contents": turns or [USER], **members}), ASKED).content


def model(*parts: object) -> tuple[Part, ...]:
    return content({"role": "model", "parts": parts}).messages[0].parts


def test_lists_of_one_may_stand_alone() -> None:
    assert (turns_of(None), turns_of([1]), turns_of(7)) == ((), [1], (7,))
    read = content({"role": "USER", "parts": {"text": "Hi"}}, tools={"functionDeclarations": {"name": "f"}})
    assert (read.messages[0].parts, read.tools[0]) == (
        (Text("Hi"),),
        content(tools=[{"functionDeclarations": [{"name": "f"}]}]).tools[0],
    )


def test_roles_are_the_neutral_ones() -> None:
    turns = [{"role": role, "parts": [{"text": "x"}]} for role in ("user", "model", "function", "tool", "system")]
    assert [one.role for one in content(*turns, {"parts": []}).messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "system",
        "user",
    ]


def test_what_a_stream_brought_in_pieces_is_joined() -> None:
    pieces = [
        {"role": "model", "parts": [{"text": "Let me", "thought": True}]},
        {"role": "model", "parts": [{"text": " think.", "thought": True}]},
        {
            "role": "model",
            "parts": [{"text": "", "thought": True, "thoughtSignature": write_signature("c2ln", "anthropic")}],
        },
        {"role": "model", "parts": [{"text": "Yes"}]},
        {"role": "model", "parts": [{"text": "."}]},
    ]
    (message,) = content(*pieces).messages
    assert message.parts == (Reasoning("Let me think.", "c2ln", signer="anthropic"), Text("Yes"), Text("."))


def test_a_signature_stands_behind_what_it_signs() -> None:
    assert model({"text": "x", "thoughtSignature": "c2ln"}) == (Text("x"), Reasoning("", "c2ln", signer="google"))
    assert model({"inlineData": {"mimeType": "image/png", "data": "aGk"}, "thoughtSignature": "c2ln"}) == (
        Image(data="aGk=", media_type="image/png"),
        Reasoning("", "c2ln", signer="google"),
    )
    alone = (Reasoning("", "c2ln", extra=(("text", b'""'),), signer="google"),)
    assert model({"text": "", "thoughtSignature": "c2ln"}) == alone
    assert model({"thoughtSignature": "c2ln"}) == alone
    assert model({"thought": True, "thoughtSignature": "c2ln"}) == (
        Reasoning("", "c2ln", extra=(("thought", b"true"),), signer="google"),
    )
    assert model({"text": "a", "thought": True}, {"thought": True, "thoughtSignature": "c2ln"}) == (
        Reasoning("a", "c2ln", signer="google"),
    )


def test_a_redacted_thought_of_another_model_comes_back() -> None:
    signature = write_signature("b3BhcXVl", "anthropic")
    assert model({"text": "", "thoughtSignature": signature}) == (
        Reasoning("", "b3BhcXVl", redacted=True, signer="anthropic"),
    )


def test_data_is_read_by_what_it_is() -> None:
    def part(mime: str) -> Part:
        return content({"parts": [{"inlineData": {"mimeType": mime, "data": "_-8="}}]}).messages[0].parts[0]

    assert part("image/PNG") == Image(data="/+8=", media_type="image/png")
    assert part("audio/wav") == Audio("/+8=", "wav")
    assert part("audio/mpeg") == Audio("/+8=", "mp3")
    assert part("audio/x-wav") == Audio("/+8=", "wav")
    assert part("audio/L16;rate=24000") == File(None, "/+8=", "audio/L16;rate=24000")
    assert part("application/pdf") == File(None, "/+8=", "application/pdf")
    broken = content({"parts": [{"inlineData": {"mimeType": "image/png", "data": "~"}}]}).messages[0].parts[0]
    assert broken == Image(data="~", media_type="image/png")


def test_addresses_are_read_by_where_they_lead() -> None:
    def part(uri: str, mime: str | None = None) -> Part:
        return content({"parts": [{"fileData": {"fileUri": uri, "mimeType": mime}}]}).messages[0].parts[0]

    assert part("https://example.com/a", "image/png") == Image(url="https://example.com/a", media_type="image/png")
    assert part("gs://b/a", "image/png") == Image(file_id="gs://b/a", media_type="image/png")
    assert part("https://www.youtube.com/watch?v=1") == File(url="https://www.youtube.com/watch?v=1")
    google = "https://generativelanguage.googleapis.com/v1beta/files/a"
    assert part(google, "application/pdf") == File(file_id=google, media_type="application/pdf")


def test_results_find_their_calls() -> None:
    calls = [{"functionCall": {"name": name, "args": {"n": 1}}} for name in ("f", "g", "f")]
    results = [{"functionResponse": {"name": name, "response": {"r": name}}} for name in ("f", "f", "g", "h")]
    read = content(USER, {"role": "model", "parts": calls}, {"role": "user", "parts": results})
    ids = [part.id for part in read.messages[1].parts if isinstance(part, ToolUse)]
    answered = [part.id for part in read.messages[2].parts if isinstance(part, ToolResult)]
    assert len(set(ids)) == 3
    assert answered[:3] == [ids[0], ids[2], ids[1]]
    assert answered[3] not in ids
    assert content(USER, {"role": "model", "parts": calls}).messages[1].parts[0].id == ids[0]  # type: ignore[union-attr]


def test_results_that_say_their_call_need_no_order() -> None:
    calls = [{"functionCall": {"id": ident, "name": "f"}} for ident in "abc"]
    results = [{"functionResponse": {"id": ident, "name": "f"}} for ident in "cab"]
    read = content(USER, {"role": "model", "parts": calls}, {"role": "user", "parts": results}).messages[2]
    assert read.parts == (ToolResult("c", ()), ToolResult("a", ()), ToolResult("b", ()))
    mixed = [{"functionResponse": {"id": "b", "name": "f"}}, {"functionResponse": {"name": "f"}}]
    read = content(USER, {"role": "model", "parts": calls}, {"role": "user", "parts": mixed}).messages[2]
    assert read.parts == (ToolResult("b", ()), ToolResult("a", ()))


def test_a_result_without_its_call_keeps_the_name() -> None:
    body = {"contents": [{"parts": [{"functionResponse": {"id": "x", "name": "f", "response": {"output": "y"}}}]}]}
    call = read_request(encode(body), ASKED)
    result = call.content.messages[0].parts[0]
    assert result == ToolResult("x", (Text("y"),), extra=(("name", b'"f"'),))
    assert decode(write_request(call, "m")[0])["contents"][0]["parts"] == body["contents"][0]["parts"]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "sunny"}, "sunny", False),
        ({"error": "no"}, "no", True),
        ({"error": {"code": 1}}, '{"code":1}', True),
        ({"error": 7}, '{"error":7}', False),
        ({"output": 7}, '{"output":7}', False),
        ({"result": "x"}, '{"result":"x"}', False),
        ({"output": "x", "more": 1}, '{"output":"x","more":1}', False),
        ({}, None, False),
        (None, None, False),
    ],
)
def test_a_result_is_the_text_that_google_names_or_the_object(
    response: object,
    text: str | None,
    is_error: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    turns = [{"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f"}}]}]
    turns.append({"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": response}}]})  # type: ignore[dict-item]
    result = content(*turns).messages[1].parts[0]
    assert result == ToolResult("c", () if text is None else (Text(text),), is_error)


def test_results_may_hold_pictures() -> None:
    parts = [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"fileUri": "https://e.com/a.pdf"}},
        {},
    ]
    turn = {"parts": [{"functionResponse": {"name": "f", "parts": parts}}]}
    result = content(turn).messages[0].parts[0]
    assert isinstance(result, ToolResult)
    assert result.parts == (Image(data="aGk=", media_type="image/png"), File(url="https://e.com/a.pdf"))


def test_what_only_gemini_knows_is_kept_whole() -> None:
    thought = {"thought": True, "inlineData": {"mimeType": "image/png", "data": "aGk="}}
    piece = {"functionCall": {"name": "f", "partialArgs": [], "willContinue": True}}
    assert model({"executableCode": {"code": "1"}, "thoughtSignature": "c2ln"}) == (
        Foreign("generate", "executableCode", b'{"thoughtSignature":"c2ln","executableCode":{"code":"1"}}'),
    )
    assert model(thought)[0] == Foreign("generate", "inlineData", encode(thought))
    assert model(piece) == (Foreign("generate", "functionCall", encode(piece)),)
    assert model({"future": [1]}, {"text": "x"}) == (Foreign("generate", "future", b'{"future":[1]}'), Text("x"))
    assert model({}) == ()


def test_unknown_members_ride_along() -> None:
    parts = [
        {"text": "a", "partMetadata": {"x": 1}, "nothing": None},
        {"text": "b", "thought": True, "new": 1},
        {"functionCall": {"name": "f", "args": {}, "new": 2}, "videoMetadata": {"fps": 1}},
        {
            "inlineData": {"mimeType": "image/png", "data": "aGk=", "displayName": "a"},
            "mediaResolution": {"level": "X"},
        },
        {"fileData": {"fileUri": "https://e.com/a", "displayName": "b"}},
        {"functionResponse": {"name": "g", "response": {"output": "x"}, "scheduling": "IDLE"}},
    ]
    body = {"contents": [{"role": "model", "parts": parts}], "systemInstruction": {"parts": [{"text": "S"}]}}
    call = read_request(encode(body), ASKED)
    read = call.content.messages[1].parts
    assert [part.extra for part in read[:5]] == [  # type: ignore[union-attr]
        (("partMetadata", b'{"x":1}'),),
        (("new", b"1"),),
        (("videoMetadata", b'{"fps":1}'), ("functionCall", b'{"new":2}')),
        (("mediaResolution", b'{"level":"X"}'), ("inlineData", b'{"displayName":"a"}')),
        (("fileData", b'{"displayName":"b"}'),),
    ]
    again = decode(write_request(call, "m")[0])
    del parts[0]["nothing"]
    assert again["contents"][0]["parts"][:5] == parts[:5]


# -- beside the turns --


def choice(**config: object) -> ToolChoice | None:
    return content(toolConfig={"functionCallingConfig": config}).tool_choice


def test_choices_of_tools_are_read() -> None:
    assert choice(mode="AUTO") == choice() == choice(mode="MODE_UNSPECIFIED") == ToolChoice("auto")
    assert choice(mode="ANY") == ToolChoice("required")
    assert choice(mode="none") == ToolChoice("none")
    assert choice(mode="ANY", allowedFunctionNames=["f"]) == ToolChoice("named", "f")
    several = choice(mode="ANY", allowedFunctionNames=["f", "g"])
    assert several == ToolChoice(
        "required", None, (("functionCallingConfig", b'{"mode":"ANY","allowedFunctionNames":["f","g"]}'),)
    )
    validated = choice(mode="VALIDATED")
    assert validated == ToolChoice("auto", None, (("functionCallingConfig", b'{"mode":"VALIDATED"}'),))
    streamed = choice(mode="NONE", streamFunctionCallArguments=True)
    assert streamed is not None
    assert streamed.extra
    assert content(toolConfig={}).tool_choice is None


def output(**config: object) -> Content:
    return content(generationConfig=config)


def test_forms_of_answers_are_read() -> None:
    assert output(responseMimeType="application/json").output == OutputFormat("json")
    assert output(responseMimeType="text/plain").output == OutputFormat("text")
    assert output(responseMimeType="application/json", responseSchema={"type": "STRING"}).output == OutputFormat(
        "json_schema", schema=b'{"type":"string"}'
    )
    schema = {"oneOf": []}
    assert output(responseMimeType="application/json", responseJsonSchema=schema).output == OutputFormat(
        "json_schema", schema=encode(schema)
    )
    enum = output(responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["a"]})
    assert enum.output is None
    assert [name for name, _ in enum.extra] == ["generationConfig.responseMimeType", "generationConfig.responseSchema"]
    assert output().output is None


def test_answers_in_text_need_not_be_asked_for() -> None:
    assert output(responseModalities=["TEXT"]).extra == ()
    assert output(responseModalities=["AUDIO"]).extra == (("generationConfig.responseModalities", b'["AUDIO"]'),)


def test_thinking_is_read() -> None:
    assert output(thinkingConfig={"thinkingBudget": 0}).thinking == Thinking(0)
    assert output(thinkingConfig={"thinkingBudget": -1}).thinking == Thinking(adaptive=True)
    assert output(thinkingConfig={"includeThoughts": True}).thinking == Thinking(visible=True)
    assert output(thinkingConfig={"thinkingLevel": "LOW"}).thinking is None
    assert output(thinkingConfig={"new": 1}).extra == (("generationConfig.thinkingConfig", b'{"new":1}'),)


def test_tiers_are_read_in_the_words_of_openai() -> None:
    tiers = [content(serviceTier=tier).service_tier for tier in ("STANDARD", "flex", "Priority", "unspecified", "new")]
    assert tiers == ["default", "flex", "priority", "auto", "new"]


def test_schemas_are_json_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"oneOf": []}}}
    declared = [{"name": "f", "parametersJsonSchema": schema}, {"name": "g", "parameters": {"type": "STRING"}}]
    tools = content(tools=[{"functionDeclarations": declared}]).tools
    assert [tool.parameters for tool in tools if isinstance(tool, Tool)] == [encode(schema), b'{"type":"string"}']


def test_tools_that_google_hosts_stand_apart() -> None:
    tools = [
        {"functionDeclarations": [{"name": "f", "parameters": None}], "urlContext": {}, "computerUse": None},
        {"googleSearch": {}},
    ]
    names = [one.kind if isinstance(one, Foreign) else one.name for one in content(tools=tools).tools]
    assert names == ["f", "urlContext", "googleSearch"]
