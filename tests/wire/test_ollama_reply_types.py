"""The types of replies know what Ollama's SDK knows, and take what servers leave out."""

import pytest
from msgspec import Struct
from msgspec.json import decode
from ollama import ChatResponse, EmbeddingsResponse, EmbedResponse, GenerateResponse, Message
from ollama._types import Logprob
from pydantic import BaseModel

from penstock.wire import ollama_reply_types as wire

DURATIONS = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}


@pytest.mark.parametrize(
    ("ours", "theirs", "unread"),
    [
        (wire.Line, ChatResponse, DURATIONS),
        (wire.Line, GenerateResponse, {*DURATIONS, "context", "completed", "total"}),
        (wire.ReplyMessage, Message, {"role", "tool_name"}),
        (wire.ReplyToolCall, Message.ToolCall, set()),
        (wire.ReplyFunction, Message.ToolCall.Function, set()),
        (wire.TokenLogprob, Logprob, set()),
        (wire.EmbedReply, EmbedResponse, {*DURATIONS, "created_at", "done", "done_reason", "eval_count"}),
        (wire.EmbedReply, EmbeddingsResponse, set()),
    ],
)
def test_the_members_that_the_sdk_knows_are_read(ours: type[Struct], theirs: type[BaseModel], unread: set[str]) -> None:
    assert set(theirs.model_fields) - set(ours.__struct_fields__) == unread, "a new member may deserve to be read"


@pytest.mark.parametrize("kind", [wire.Line, wire.ReplyMessage, wire.EmbedReply])
def test_nearly_everything_may_be_missing_or_null(kind: type[Struct]) -> None:
    assert decode(b"{}", type=kind) is not None
    nulls = b"{" + b",".join(b'"%b":null' % name.encode() for name in kind.__struct_fields__) + b"}"
    assert decode(nulls, type=kind) is not None


def test_what_has_no_neutral_form_is_known_by_not_being_named() -> None:
    assert wire.KNOWN.isdisjoint({*DURATIONS, "context", "remote_model"})
