"""The JSON of Ollama's replies and of the lines of their streams as structs.

Types only: nothing here decides, and nothing but the `ollama*` files knows them. Replies are read, never trusted: nearly
everything in them may be missing or null, and members that are not named here are skipped. A whole reply has the shape of
the one line of a stream that says everything. Source: as `ollama_request_types.py`.
"""

from typing import Final

from msgspec import Raw, Struct


class ReplyFunction(Struct, gc=False):
    """A called function; its arguments are an object, with careless servers a text."""

    name: str = ""
    arguments: Raw = Raw(b"")


class ReplyToolCall(Struct, gc=False):
    """A tool call, always whole. Newer servers give it an id."""

    function: ReplyFunction
    id: str | None = None
    extra_content: Raw = Raw(b"")


class ReplyMessage(Struct, gc=False):
    """What the model says, or more of it."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[ReplyToolCall] | None = None
    images: list[str] | None = None
    reasoning_details: Raw = Raw(b"")


class Alternative(Struct, gc=False):
    """A token that could have been."""

    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None


class TokenLogprob(Alternative, gc=False):
    """A token that came."""

    top_logprobs: list[Alternative] | None = None


class Line(Struct, gc=False):
    """A reply, or one line of its stream: `message` in a chat, `response` (and `thinking`, `image`) in a completion.

    `images` beside the message are what this gateway writes.
    """

    message: ReplyMessage | None = None
    response: str | None = None
    done: bool | None = None
    created_at: str | None = None
    model: str | None = None
    thinking: str | None = None
    logprobs: list[TokenLogprob] | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    tool_calls: list[ReplyToolCall] | None = None
    image: str | None = None
    images: list[str] | None = None
    error: Raw = Raw(b"")


class EmbedReply(Struct, gc=False):
    """The answer of `/api/embed`; `embedding` is that of the older `/api/embeddings`."""

    model: str | None = None
    embeddings: list[list[float]] | None = None
    embedding: list[float] | None = None
    prompt_eval_count: int | None = None
    error: Raw = Raw(b"")


KNOWN: Final = frozenset(Line.__struct_fields__)
"""Members of a line with a neutral form; the durations, which have none, are kept whole for clients of this dialect."""
