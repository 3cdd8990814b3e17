"""The types of replies know what OpenAI's SDK knows, and take what servers leave out."""

import pytest
from msgspec import Struct
from msgspec.json import decode
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails
from pydantic import BaseModel

from penstock.wire import openai_chat_reply_types as wire


@pytest.mark.parametrize(
    ("ours", "theirs", "unread"),
    [
        (wire.ExactReply, ChatCompletion, {"metadata", "moderation"}),
        (wire.ExactChoice, Choice, set()),
        (wire.ExactMessage, ChatCompletionMessage, set()),
        (wire.Delta, ChoiceDelta, {"role"}),
        (wire.TokenLogprob, ChatCompletionTokenLogprob, set()),
        (wire.WireUsage, CompletionUsage, set()),
        (wire.InputDetails, PromptTokensDetails, {"text_tokens"}),
        (wire.OutputDetails, CompletionTokensDetails, {"text_tokens"}),
    ],
)
def test_the_members_that_the_sdk_knows_are_read(ours: type[Struct], theirs: type[BaseModel], unread: set[str]) -> None:
    assert set(theirs.model_fields) - set(ours.__struct_fields__) == unread, "a new member may deserve to be read"


@pytest.mark.parametrize(
    "kind", [wire.StreamChunk, wire.WholeReply, wire.ExactReply, wire.Delta, wire.WireUsage, wire.ReplyToolCall]
)
def test_nearly_everything_may_be_missing_or_null(kind: type[Struct]) -> None:
    assert decode(b"{}", type=kind) is not None
    nulls = b"{" + b",".join(b'"%b":null' % name.encode() for name in kind.__struct_fields__) + b"}"
    assert decode(nulls, type=kind) is not None
