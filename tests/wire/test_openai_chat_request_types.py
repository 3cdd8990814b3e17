"""The types of a request know what OpenAI's SDK can send, and the exact twins refuse what they do not know."""

import inspect
from typing import get_args

import pytest
from msgspec import Struct, ValidationError
from msgspec.json import decode
from openai.types.chat import completion_create_params
from openai.types.chat.chat_completion_assistant_message_param import ChatCompletionAssistantMessageParam
from openai.types.chat.chat_completion_tool_message_param import ChatCompletionToolMessageParam
from openai.types.chat.chat_completion_user_message_param import ChatCompletionUserMessageParam

from penstock.wire import openai_chat_request_types as wire

TWINS = [
    (kind, getattr(wire, f"Exact{name}"))
    for name, kind in inspect.getmembers(wire, inspect.isclass)
    if issubclass(kind, Struct) and hasattr(wire, f"Exact{name}") and name != "Request"
]


@pytest.mark.parametrize(("plain", "exact"), TWINS, ids=lambda kind: kind.__name__)
def test_an_exact_twin_has_the_same_members_and_refuses_others(plain: type[Struct], exact: type[Struct]) -> None:
    assert issubclass(exact, plain)
    assert set(plain.__struct_fields__) <= set(exact.__struct_fields__)
    assert exact.__struct_config__.forbid_unknown_fields
    assert not plain.__struct_config__.forbid_unknown_fields


def test_every_message_has_its_twin() -> None:
    assert [kind.__name__ for kind in get_args(wire.ExactMessage)] == [
        f"Exact{kind.__name__}" for kind in get_args(wire.WireMessage)
    ]
    for plain, exact in zip(get_args(wire.WireMessage), get_args(wire.ExactMessage), strict=True):
        assert plain.__struct_config__.tag == exact.__struct_config__.tag


@pytest.mark.parametrize(
    "raw",
    [
        b'{"role":"user","content":"x","y":1}',
        b'{"role":"user","content":[{"type":"text","text":"x","y":1}]}',
        b'{"role":"user","content":[{"type":"image_url","image_url":{"url":"x","y":1}}]}',
        b'{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"","format":"","y":1}}]}',
        b'{"role":"user","content":[{"type":"file","file":{"y":1}}]}',
        b'{"role":"assistant","audio":{"id":"a","y":1}}',
        b'{"role":"assistant","tool_calls":[{"id":"a","y":1}]}',
        b'{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","y":1}}]}',
        b'{"role":"assistant","tool_calls":[{"id":"a","custom":{"name":"f","y":1}}]}',
        b'{"role":"assistant","function_call":{"name":"f","y":1}}',
        b'{"role":"assistant","annotations":[1]}',
    ],
)
def test_an_unknown_member_at_any_depth_is_no_exact_message(raw: bytes) -> None:
    decode(raw, type=wire.WireMessage)
    with pytest.raises(ValidationError):
        decode(raw, type=wire.ExactMessage)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (wire.ExactUser, ChatCompletionUserMessageParam),
        (wire.ExactAssistant, ChatCompletionAssistantMessageParam),
        (wire.ExactToolMessage, ChatCompletionToolMessageParam),
    ],
)
def test_the_members_that_the_sdk_sends_in_messages_are_known(kind: type[Struct], params: type) -> None:
    assert set(inspect.get_annotations(params)) - {"role"} <= set(kind.__struct_fields__)


def test_the_options_that_have_a_neutral_form_are_the_sdks() -> None:
    ours = set(wire.Request.__struct_fields__)
    theirs = set(inspect.get_annotations(completion_create_params.CompletionCreateParamsBase)) | {"stream"}
    assert ours - theirs == {"top_k", "min_p", "reasoning", "thinking"}
    assert theirs - ours == {
        *("audio", "modalities", "moderation", "prediction", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "safety_identifier", "verbosity", "web_search_options"),
    }, "these ride along; a new one may deserve a neutral form"
