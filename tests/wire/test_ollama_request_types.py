"""The types of requests know what Ollama's SDK can send."""

import pytest
from msgspec import Struct, ValidationError
from msgspec.json import decode
from ollama import Message
from ollama._types import ChatRequest, EmbeddingsRequest, EmbedRequest, GenerateRequest, Options, Tool
from pydantic import BaseModel

from penstock.wire import ollama_request_types as wire


@pytest.mark.parametrize(
    ("ours", "theirs", "riding"),
    [
        (wire.ChatRequest, ChatRequest, {"keep_alive"}),
        (wire.GenerateRequest, GenerateRequest, {"keep_alive", "width", "height", "steps"}),
        (wire.WireMessage, Message, set()),
        (wire.ToolCall, Message.ToolCall, set()),
        (wire.FunctionCall, Message.ToolCall.Function, set()),
        (wire.ToolDefinition, Tool, set()),
        (wire.FunctionDefinition, Tool.Function, set()),
        (wire.EmbedRequest, EmbedRequest, {"keep_alive", "options", "truncate"}),
        (wire.EmbedRequest, EmbeddingsRequest, {"keep_alive", "options"}),
    ],
)
def test_the_members_that_the_sdk_sends_are_read_or_ride_along(
    ours: type[Struct], theirs: type[BaseModel], riding: set[str]
) -> None:
    assert set(theirs.model_fields) - set(ours.__struct_fields__) == riding, "a new one may deserve a neutral form"


def test_the_options_that_have_a_neutral_form_are_the_sdks() -> None:
    assert set(wire.Options.__struct_fields__) - set(Options.model_fields) == {"min_p"}


@pytest.mark.parametrize("raw", [b'{"role":"bot"}', b'{"content":"x"}', b'{"role":"user","content":["x"]}'])
def test_a_message_has_a_role_and_a_text(raw: bytes) -> None:
    with pytest.raises(ValidationError):
        decode(raw, type=wire.WireMessage)
