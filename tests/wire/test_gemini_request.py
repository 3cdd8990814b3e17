"""Requests in: what is checked, named and bounded, in either spelling of the members."""

import pytest
from msgspec.json import encode

from penstock.call import Call, Sampling
from penstock.errors import InvalidRequest
from penstock.wire.dialect import Asked
from penstock.wire.gemini_request import MAX_DEPTH, read_request, refuse

ASKED = Asked(model="models/gemini-2.5-flash")
TURN = {"role": "user", "parts": [{"text": "Hi"}]}


def read(**members: object) -> Call:
    return read_request(encode({"contents": [TURN], **members}), ASKED)


def refused(raw: bytes, asked: Asked = ASKED) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_request(raw, asked)
    return caught.value


def test_options_are_read() -> None:
    config = {
        "temperature": 1,
        "topP": 0.5,
        "topK": 40.0,
        "candidateCount": 2,
        "maxOutputTokens": 9,
        "stopSequences": ["a"],
        "seed": 7,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 3,
        "thinkingConfig": {"thinkingLevel": "HIGH"},
    }
    call = read(generationConfig=config)
    assert call.sampling == Sampling(
        1, 0.5, 40, None, 9, ("a",), 7, 0.5, -0.5, (), 2, logprobs=True, top_logprobs=3, reasoning_effort="high"
    )
    assert (
        read(generationConfig={"thinkingConfig": {"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}}).sampling
        == Sampling()
    )
    assert (call.model, call.dialect, call.stream, call.stream_usage) == ("gemini-2.5-flash", "generate", False, True)


def test_labels_say_who_pays() -> None:
    call = read(labels={"feature": "f", "session": "s", "user": "u"})
    assert (call.feature, call.session, call.user) == ("f", "s", "u")


def test_the_length_bounds_the_tokens_of_text_alone() -> None:
    assert read().input_bound == len(read().raw)
    parts: list[dict[str, object]] = [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"fileUri": "https://example.com/a"}},
        {"functionResponse": {"name": "f", "parts": [{}]}},
    ]
    for part in parts:
        assert read(contents=[{"parts": [part]}]).input_bound is None
        assert read(systemInstruction={"parts": [part]}).input_bound is None
    assert read(contents=[{"parts": [{"functionCall": {"name": "f", "args": {}}}]}]).input_bound is not None
    assert read(tools=[{"googleSearch": {}}]).input_bound is None


def test_what_only_google_can_honour_is_named() -> None:
    assert read().native == ()
    assert read(cachedContent="cachedContents/1", continuationToken="x").native == (
        "cachedContent",
        "continuationToken",
    )
    assert read(tools=[{"functionDeclarations": [{"name": "f"}]}, {"codeExecution": {}}]).native == ("codeExecution",)
    for uri in ("gs://b/a", "files/a", "https://generativelanguage.googleapis.com/v1beta/files/a"):
        assert read(contents=[{"parts": [{"fileData": {"fileUri": uri}}]}]).native == ("fileData",)
    assert read(contents=[{"parts": [{"fileData": {"fileUri": "https://example.com/a"}}]}]).native == ()


def test_both_spellings_say_the_same() -> None:
    snake = {
        "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]}],
        "generation_config": {"max_output_tokens": 5, "thinking_config": {"thinking_budget": 7}},
        "tools": [{"function_declarations": [{"name": "f", "parameters": {"properties": {"snake_name": {}}}}]}],
    }
    camel = {
        "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}],
        "generationConfig": {"maxOutputTokens": 5, "thinkingConfig": {"thinkingBudget": 7}},
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {"snake_name": {}}}}]}],
    }
    one, other = read_request(encode(snake), ASKED), read_request(encode(camel), ASKED)
    assert (one.sampling, one.content, one.native) == (other.sampling, other.content, other.native)
    assert one.raw == encode(snake)
    twice = refused(encode({**snake, "generationConfig": {}}))
    assert twice.param == "generationConfig"
    assert refused(b'{"contents":[],"generation_config":{"top_k":1,"top_k":2}}').param == "top_k"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": None}, "contents"),
        ({"contents": "Hi"}, "contents"),
        ({"contents": [{"role": "assistant", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 7}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"inlineData": {"data": "x"}}]}]}, "contents[0].parts[0].inlineData.mimeType"),
        ({"contents": [{"parts": [{"text": "a"}, {"fileData": {}}]}]}, "contents[0].parts[1].fileData.fileUri"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]},
            "contents[0].parts[0].functionCall.args",
        ),
        ({"contents": [{"parts": [{"functionResponse": {}}]}]}, "contents[0].parts[0].functionResponse.name"),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": "x"}}]}]},
            "contents[0].parts[0].functionResponse.response",
        ),
        ({"systemInstruction": {"parts": [{"fileData": {}}]}}, "systemInstruction.parts[0].fileData.fileUri"),
        ({"generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"logprobs": 3}}, "generationConfig.logprobs"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {"tools": {"functionDeclarations": {"name": "f", "parameters": 7}}},
            "tools[0].functionDeclarations[0].parameters",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"labels": {"a": 1}}, "labels"),
    ],
)
def test_what_is_wrong_is_named(members: dict[str, object], param: str) -> None:
    error = refused(encode({"contents": [TURN], **members}))
    assert error.param == param
    assert error.hint


def test_a_name_that_stands_twice_is_refused() -> None:
    body = b'{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":%b}'
    error = refused(body % b'{"topK":1,"topK":2}')
    assert (error.param, "`generationConfig` has two" in error.message) == ("generationConfig.topK", True)
    assert read_request(body % b"null", ASKED).sampling == Sampling()


def test_the_model_stands_in_the_path_or_in_the_body() -> None:
    raw = encode({"model": "models/x", "contents": [TURN]})
    assert read_request(raw, Asked()).model == "x"
    assert refused(encode({"contents": [TURN]}), Asked()).param == "model"


def test_what_is_nested_deeply_is_refused() -> None:
    def nested(depth: int) -> bytes:
        return b'{"contents":[{"parts":[{"text":"x"}]}],"x":' + b"[" * depth + b"]" * depth + b"}"

    assert read_request(nested(MAX_DEPTH - 3), ASKED).model
    assert "nested more than" in refused(nested(MAX_DEPTH)).message
    assert "nested" in refused(nested(200_000)).message
    deep = (
        b'{"contents":[{"parts":[{"functionCall":{"name":"f","args":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}}]}]}"
    )
    assert "nested" in refused(deep).message


def test_errors_that_name_no_member_say_so() -> None:
    assert refuse(RecursionError()).param is None
    assert refuse(ValueError("odd")).message == "odd"


def test_a_shallow_body_with_many_brackets_is_fine() -> None:
    assert read(contents=[TURN] * 200).model


def test_what_asked_says_stands_in_the_call() -> None:
    call = read_request(encode({"contents": [TURN]}), Asked("m", stream=True, operation="generate", form="array"))
    assert (call.stream, call.form, call.operation) == (True, "array", "generate")


def test_space_before_a_body_does_not_matter() -> None:
    assert read_request(b" " + encode({"contents": [TURN]}), ASKED).content == read().content
    assert read_request(b' {"contents":{"parts":{"text":"Hi"}},"cached_content":"x"}', ASKED).native == (
        "cachedContent",
    )


def test_a_count_may_wrap_the_whole_request() -> None:
    asked = Asked("m", operation="count")
    wrapped = encode({"generate_content_request": {"contents": [TURN], "system_instruction": {"parts": {"text": "S"}}}})
    assert len(read_request(wrapped, asked).content.messages) == 2
    assert refused(b'{"generateContentRequest":7}', asked).param == "generateContentRequest"
