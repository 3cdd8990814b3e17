"""Requests: what they say for the fast path, and for whatever is wrong an error that names the member."""

import pytest
from msgspec.json import encode

from penstock.call import Sampling
from penstock.errors import InvalidRequest
from penstock.wire.openai_responses_request import MAX_DEPTH, read_request
from wire.responses_cases import body


def test_a_request_says_who_pays_and_how_to_draw() -> None:
    raw = body(
        temperature=1,
        top_p=0.5,
        max_output_tokens=9,
        top_logprobs=2,
        reasoning={"effort": "low"},
        metadata={"feature": "f", "session": "s"},
        user="u",
        stream=True,
    )
    call = read_request(raw, "generate")
    assert (call.dialect, call.model, call.stream, call.stream_usage) == ("responses", "gpt-5", True, True)
    assert (call.feature, call.session, call.user, call.operation) == ("f", "s", "u", "generate")
    assert call.sampling == Sampling(
        temperature=1, top_p=0.5, max_tokens=9, logprobs=True, top_logprobs=2, reasoning_effort="low"
    )
    assert (call.input_bound, call.native, call.raw) == (len(raw), (), raw)
    assert read_request(body(include=["message.output_text.logprobs"]), "generate").sampling.logprobs is True


@pytest.mark.parametrize(
    ("members", "native"),
    [
        ({"store": True}, ("store",)),
        ({"store": False, "background": False, "previous_response_id": None}, ()),
        ({"background": True}, ("background",)),
        ({"previous_response_id": "resp_1"}, ("previous_response_id",)),
        ({"conversation": {"id": "c"}}, ("conversation",)),
        ({"prompt": {"id": "p"}}, ("prompt",)),
        (
            {"tools": [{"type": "web_search"}, {"type": "function", "name": "f"}, {"type": "mcp"}]},
            ("web_search", "mcp"),
        ),
        ({"tools": [{"type": "custom", "name": "f"}]}, ()),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, ("item_reference",)),
        ({"input": [{"type": "computer_call_output", "call_id": "c", "output": {}}]}, ("computer_call_output",)),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, ("file_id",)),
    ],
)
def test_what_only_the_same_provider_can_honour_is_named(members: dict[str, object], native: tuple[str, ...]) -> None:
    assert read_request(body(**members), "generate").native == native


@pytest.mark.parametrize(
    ("item", "bound"),
    [
        ({"role": "user", "content": [{"type": "input_text", "text": "a"}]}, True),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "a"}]}, True),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}, False),
        ({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_url": "u"}]}, False),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "content": None}, True),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}, True),
        ({"type": "function_call", "call_id": "c", "name": "f"}, True),
        ({"type": "web_search_call", "id": "ws"}, False),
    ],
)
def test_the_length_bounds_the_tokens_where_all_is_text(item: dict[str, object], bound: bool) -> None:  # noqa: FBT001 - a parameter of the test
    raw = body(input=[item])
    assert read_request(raw, "generate").input_bound == (len(raw) if bound else None)


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [USER, {"role": "tool", "content": "x"}]}, "input[1].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].name"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "custom_tool_call", "call_id": "c", "name": "f", "input": None}]}, "input[0].input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 7}]}, "input[0].output"),
        ({"input": [{"type": "reasoning", "summary": 7}]}, "input[0].summary"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": b'{"feature":"a","feature":"b"}'}, "feature"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(members: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body(**members), "generate")
    assert caught.value.param == param
    assert caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model":"\xff"}', b"[" * 9_999, b'{"input":"x"}'])
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_request(raw, "generate")


def test_deep_nesting_is_refused_and_many_flat_objects_are_not() -> None:
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    with pytest.raises(InvalidRequest, match="nested"):
        read_request(body(metadata_of_mine=deep), "generate")
    read_request(body(input=[USER] * 100), "generate")


def test_what_refers_to_stored_things_needs_no_input_and_neither_does_a_count() -> None:
    read_request(encode({"model": "m", "prompt": {"id": "p"}}), "generate")
    assert read_request(encode({"model": "m"}), "count").operation == "count"
