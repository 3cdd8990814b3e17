"""Requests written: the same again after reading, in Google's own types, with everything that has no place named."""

from random import Random

import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.json import decode, encode

from penstock.call import (
    Call,
    Content,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from penstock.wire.dialect import Asked
from penstock.wire.gemini_body import splice_request, write_count_request, write_request
from penstock.wire.gemini_members import write_signature
from penstock.wire.gemini_request import read_request
from penstock.wire.openai_chat_request import read_request as read_chat
from wire.generated import ALL_SAMPLING, Can, any_call

SEEDS = st.integers(0, 2**64)
ASKED = Asked(model="a-model")
CAN = Can(
    dialect="generate",
    system="first",
    developer=False,
    names=False,
    results="together",
    results_role="user",
    result_media=True,
    is_error=True,
    after_results=True,
    detail=False,
    files=("url", "data"),
    file_name=False,
    refusal=False,
    custom_tools=False,
    raw_arguments=False,
    signers=("google",),
    redacted=False,
    caches=(),
    foreign=(
        Foreign("generate", "executableCode", b'{"executableCode":{"language":"PYTHON","code":"1"}}'),
        Foreign("generate", "futurePart", b'{"futurePart":[1]}'),
    ),
    foreign_tools=(Foreign("generate", "googleSearch", b'{"googleSearch":{}}'),),
    tool_strict=False,
    parallel_tools=False,
    output_name=False,
    thinkings=(Thinking(0), Thinking(1024, visible=True), Thinking(adaptive=True), Thinking(visible=False)),
    extra=(("cachedContent", b'"cachedContents/7"'), ("safetySettings", b'[{"category":"X"}]')),
    sampling=ALL_SAMPLING - {"min_p", "logit_bias"},
    user=False,
)


def written_so(part: Part) -> Part:
    """The form in which this dialect gives a part back."""
    if isinstance(part, ToolResult):
        texts = [one.text for one in part.parts if isinstance(one, Text)]
        rest = tuple(written_so(one) for one in part.parts if not isinstance(one, Text))
        return structs.replace(part, parts=(Text("\n".join(texts)), *rest))
    return structs.replace(part, media_type="image/png") if isinstance(part, Image) and part.url else part


def any_own_call(seed: int) -> Call:
    call = any_call(Random(seed), CAN)
    messages = tuple(Message(one.role, tuple(map(written_so, one.parts))) for one in call.content.messages)
    content = structs.replace(call.content, messages=messages)
    return structs.replace(call, read=lambda: content)


def is_read_the_same(seed: int) -> None:
    call = any_own_call(seed)
    body, dropped = write_request(call, "a-model")
    again = read_request(body, ASKED)
    assert dropped == ()
    assert again.content == call.content
    assert again.sampling == call.sampling


@settings(max_examples=1_500, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same(seed: int) -> None:
    is_read_the_same(seed)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(seed=SEEDS)
def test_what_is_written_is_read_the_same_in_many_cases(seed: int) -> None:
    is_read_the_same(seed)


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS)
def test_googles_own_types_take_what_is_written(seed: int) -> None:
    body = decode(write_request(any_own_call(seed), "a-model")[0])
    for turn in body["contents"]:
        turn["parts"] = [part for part in turn["parts"] if "futurePart" not in part]
        types.Content.model_validate(turn)
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    types.ToolConfig.model_validate(body.get("toolConfig", {}))


@settings(max_examples=1_000, deadline=None)
@given(seed=SEEDS)
def test_a_spliced_body_differs_in_what_was_changed_alone(seed: int) -> None:
    rng = Random(seed)
    raw = write_request(any_own_call(seed), "a-model")[0]
    if rng.random() < 0.5:
        raw = encode({"model": "models/a-model", **decode(raw)})
    call = read_request(raw, ASKED)
    sampling = structs.replace(call.sampling, max_tokens=rng.choice((None, 7)), temperature=0.5, stop=("x",))
    changed = tuple(name for name in ("max_tokens", "temperature", "stop") if rng.random() < 0.5)
    body = splice_request(structs.replace(call, sampling=sampling, changed=changed), "b")
    assert body is not None
    before, after = decode(raw), decode(body)
    assert after.pop("model", None) == ("models/b" if before.pop("model", None) else None)
    old, new = before.pop("generationConfig", {}), after.pop("generationConfig", {})
    assert before == after
    names = {"max_tokens": "maxOutputTokens", "temperature": "temperature", "stop": "stopSequences"}
    for name, member in names.items():
        left, right = old.pop(member, None), new.pop(member, None)
        if name in changed:
            assert right == {"max_tokens": sampling.max_tokens, "temperature": 0.5, "stop": ["x"]}[name]
        else:
            assert right == left
    assert old == new


def own(**members: object) -> Call:
    return read_request(encode({"contents": [{"parts": [{"text": "Hi"}]}], **members}), ASKED)


def changed(call: Call, *names: str, **options: object) -> Call:
    return structs.replace(call, sampling=structs.replace(call.sampling, **options), changed=names)


def test_options_are_edited_in_the_spelling_of_the_client() -> None:
    call = own(generation_config={"max_output_tokens": 5, "topK": 3})
    body = splice_request(changed(call, "max_tokens", "top_k", max_tokens=9, top_k=8), "m")
    assert decode(body or b"")["generation_config"] == {"max_output_tokens": 9, "topK": 8}
    speech = own(generationConfig={"speechConfig": {"languageCode": "de"}})
    assert decode(write_request(speech, "m")[0])["generationConfig"] == {"speechConfig": {"languageCode": "de"}}
    call = own(generationConfig=None)
    assert decode(splice_request(changed(call, "seed", seed=1), "m") or b"")["generationConfig"] == {"seed": 1}


def test_only_what_the_client_said_in_this_dialect_is_spliced() -> None:
    assert splice_request(structs.replace(own(), dialect="chat"), "m") is None
    assert splice_request(structs.replace(own(), raw=b""), "m") is None
    assert splice_request(structs.replace(own(), operation="count"), "m") is None
    assert splice_request(structs.replace(own(), stream=True, form="array"), "m") is None
    assert splice_request(structs.replace(own(), stream=True, form="sse"), "m") is not None
    assert splice_request(changed(own(), "min_p", min_p=0.1), "m") is None
    signature = write_signature("c2ln", "anthropic")
    turns = [{"role": "model", "parts": [{"text": "x", "thought": True, "thoughtSignature": signature}]}]
    assert splice_request(own(contents=turns), "m") is None


def test_calls_that_no_gemini_signed_are_marked_for_models_that_want_signatures() -> None:
    calls = [{"functionCall": {"name": "f", "args": {}}}, {"functionCall": {"name": "g", "args": {}}}]
    turns = [{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": calls}]
    call = own(contents=turns)
    assert splice_request(call, "gemini-2.5-pro") is not None
    assert splice_request(call, "gemini-3-pro-preview") is None
    assert splice_request(own(), "gemini-3-pro-preview") is not None
    parts = decode(write_request(call, "gemini-3-pro-preview")[0])["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]
    calls[0]["thoughtSignature"] = "c2ln"  # type: ignore[assignment]
    assert splice_request(own(contents=turns), "gemini-3-pro-preview") is not None


# -- from other dialects --


def chat(**members: object) -> Call:
    return read_chat(encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}))


def sent(call: Call, model: str = "gemini-2.5-flash") -> tuple[dict[str, object], tuple[str, ...]]:
    body, dropped = write_request(call, model)
    return decode(body), dropped


def test_what_gemini_cannot_say_is_named() -> None:
    body, dropped = sent(
        chat(
            min_p=0.1,
            logit_bias={"7": 1},
            stop=list("abcdefg"),
            n=99,
            seed=2**40,
            parallel_tool_calls=False,
            user="u",
            verbosity="low",
            top_k=-1,
        )
    )
    assert dropped == ("logit_bias", "min_p", "n", "parallel_tools", "seed", "stop", "user", "verbosity")
    config = body["generationConfig"]
    assert isinstance(config, dict)
    assert (config["candidateCount"], config["stopSequences"], "topK" in config) == (8, list("abcde"), False)
    assert 0 <= config["seed"] < 2**31


def test_whole_numbers_stay_whole() -> None:
    assert b'"temperature":1,' in write_request(chat(temperature=1.0, top_p=0.5), "m")[0]


@pytest.mark.parametrize(
    ("model", "effort", "config", "dropped"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, ()),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, ("reasoning_effort",)),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}, ()),
        ("gemini-2.5-flash-lite", "max", {"thinkingBudget": 24576}, ("reasoning_effort",)),
        ("gemini-2.5-flash", "galactic", None, ("reasoning_effort",)),
        ("gemini-3-pro-preview", "low", {"thinkingLevel": "LOW"}, ()),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "MINIMAL"}, ("reasoning_effort",)),
        ("gemini-3-pro-preview", "galactic", None, ("reasoning_effort",)),
        ("gemini-2.0-flash", "low", None, ("reasoning_effort",)),
        ("gemini-2.0-flash", "none", None, ()),
    ],
)
def test_effort_is_said_as_the_model_takes_it(
    model: str, effort: str, config: object, dropped: tuple[str, ...]
) -> None:
    body, left = sent(chat(reasoning_effort=effort), model)
    said = body.get("generationConfig", {})
    assert isinstance(said, dict)
    assert (said.get("thinkingConfig"), left) == (config, dropped)


@pytest.mark.parametrize(
    ("model", "thinking", "config", "dropped"),
    [
        (
            "gemini-2.5-pro",
            Thinking(99_999, visible=True),
            {"includeThoughts": True, "thinkingBudget": 32768},
            ("thinking",),
        ),
        ("gemini-2.5-pro", Thinking(adaptive=True), {"thinkingBudget": -1}, ()),
        ("gemini-2.5-pro", Thinking(summary="auto"), {"includeThoughts": True}, ()),
        ("gemini-3-flash", Thinking(4000), {"thinkingLevel": "MEDIUM"}, ()),
        ("gemini-3-flash", Thinking(99_999), {"thinkingLevel": "HIGH"}, ("thinking",)),
        ("gemini-3-flash", Thinking(adaptive=True), None, ()),
        ("gemini-3-flash", Thinking(visible=True), {"includeThoughts": True}, ()),
        ("gemini-1.5-pro", Thinking(4000), None, ("thinking",)),
    ],
)
def test_thinking_is_said_as_the_model_takes_it(
    model: str, thinking: Thinking, config: object, dropped: tuple[str, ...]
) -> None:
    content = Content((Message("user", (Text("Hi"),)),), thinking=thinking)
    body, left = sent(Call("messages", "m", Sampling(), lambda: content), model)
    said = body.get("generationConfig", {})
    assert isinstance(said, dict)
    assert (said.get("thinkingConfig"), left) == (config, dropped)


def test_tools_choices_and_forms_are_written() -> None:
    content = Content(
        (Message("user", (Text("Hi"),)),),
        (
            Tool("f", "Does it.", b'{"type":"object","properties":{"a":{"type":"string"}}}', strict=True, cache="5m"),
            Tool("g", None, b'{"$ref":"#/$defs/x"}', extra=(("defer_loading", b"true"),)),
            Foreign("responses", "web_search", b"{}"),
        ),
        ToolChoice("named", "f"),
        output=OutputFormat("json_schema", "answer", schema=b'{"oneOf":[]}'),
        service_tier="scale",
        metadata=(("a", "b"),),
    )
    body, dropped = sent(Call("messages", "m", Sampling(), lambda: content))
    assert dropped == ("cache", "defer_loading", "metadata", "service_tier", "tools.strict", "tools.web_search")
    declared = body["tools"][0]["functionDeclarations"]  # type: ignore[index]
    assert declared[0]["parameters"]["type"] == "OBJECT"
    assert declared[1]["parametersJsonSchema"] == {"$ref": "#/$defs/x"}
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": {"oneOf": []}}
    hosted = structs.replace(content, tools=(Foreign("generate", "googleSearch", b'{"googleSearch":{}}'),), metadata=())
    hosted = structs.replace(
        hosted, tool_choice=ToolChoice("auto", None, (("tool_choice", b"{}"),)), service_tier="flex"
    )
    hosted = structs.replace(hosted, extra=(("x", b"1"),))
    body, dropped = sent(structs.replace(Call("chat", "m", Sampling(), lambda: hosted), user=None))
    assert (body["tools"], body["serviceTier"], dropped) == ([{"googleSearch": {}}], "flex", ("tool_choice", "x"))
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "AUTO"}}


def test_a_choice_that_only_gemini_knows_goes_back_whole() -> None:
    choice = {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}
    config = {"functionCallingConfig": choice, "retrievalConfig": {"languageCode": "en"}}
    call = own(toolConfig=config)
    assert decode(write_request(call, "m")[0])["toolConfig"] == config
    elsewhere = structs.replace(call, dialect="messages")
    body, dropped = sent(elsewhere)
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert dropped == ("functionCallingConfig", "toolConfig.retrievalConfig")


def test_what_is_counted_is_the_whole_prompt() -> None:
    content = Content((Message("system", (Text("S"),)), Message("user", (Text("Hi"),))), (Tool("f"),))
    call = Call("chat", "m", Sampling(), lambda: content)
    body = decode(write_count_request(call, "g", wrapped=True))["generateContentRequest"]
    assert set(body) == {"model", "contents", "systemInstruction", "tools"}


def test_a_loop_of_ten_turns_keeps_calls_results_and_signatures() -> None:
    messages = [Message("user", (Text("Go"),))]
    for turn in range(10):
        uses = tuple(
            ToolUse(f"c{turn}_{n}", "f", f'{{"n":{n}}}', signature="c2ln" if n == 0 else None, signer="google")
            for n in range(3)
        )
        messages.append(Message("assistant", (Reasoning("Hm", "c2ln", signer="google"), *uses)))
        messages += [Message("tool", (ToolResult(use.id, (Text(f"r{use.id}"),)),)) for use in reversed(uses)]
    content = Content(tuple(messages))
    body = write_request(Call("chat", "m", Sampling(), lambda: content), "gemini-3-pro")[0]
    again = read_request(body, ASKED).content.messages
    assert len(again) == 21
    for turn in range(10):
        calls, results = again[1 + 2 * turn].parts, again[2 + 2 * turn].parts
        assert [part.id for part in calls if isinstance(part, ToolUse)] == [f"c{turn}_{n}" for n in range(3)]
        assert [part.id for part in results if isinstance(part, ToolResult)] == [f"c{turn}_{n}" for n in range(3)]
        assert calls[0] == Reasoning("Hm", "c2ln", signer="google")
        assert isinstance(calls[1], ToolUse)
        assert calls[1].signature == "c2ln"
