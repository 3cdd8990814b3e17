"""The JSON of Responses replies and of the events of their streams as structs.

Types only: nothing here decides, and nothing but the `openai_responses*` files knows them. Replies are read, never trusted:
nearly everything in them may be missing or null, and members that are not named here are skipped. Source: OpenAI's API
reference, as its official SDK has it.
"""

from msgspec import Raw, Struct

from penstock.wire.openai_chat_reply_types import TokenLogprob


class InputDetails(Struct, gc=False):
    """What the prompt's tokens were. Sound and pictures are not told of by OpenAI itself, but by those who speak like it."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class WireUsage(Struct, gc=False):
    """Tokens."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class ContentPart(Struct, gc=False):
    """One part of a message, or of a thought."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: Raw = Raw(b"")
    logprobs: list[TokenLogprob] | None = None


class OutputItem(Struct, gc=False):
    """One item of the output, of any type."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Raw = Raw(b"")
    input: Raw = Raw(b"")
    content: Raw = Raw(b"")
    summary: Raw = Raw(b"")
    encrypted_content: str | None = None
    result: Raw = Raw(b"")
    output_format: str | None = None


class Incomplete(Struct, gc=False):
    """Why a reply ends early."""

    reason: str | None = None


class Head(Struct, gc=False):
    """What replies say apart from their output."""

    id: str | None = None
    created_at: int | float | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    background: bool | None = None
    incomplete_details: Incomplete | None = None
    usage: Raw = Raw(b"")
    error: Raw = Raw(b"")


class WholeReply(Head, gc=False):
    """A reply in one piece."""

    output: list[Raw] | None = None


class KindOnly(Struct, gc=False):
    """An item of which only the type matters."""

    type: str = ""


class TappedReply(Head, gc=False):
    """A reply of which the output's text does not matter."""

    output: list[KindOnly] | None = None


class StreamEvent(Struct, gc=False):
    """One event of a stream, of any type."""

    type: str = ""
    delta: str | None = None
    output_index: int = 0
    logprobs: list[TokenLogprob] | None = None
    summary_index: int = 0
    item: Raw = Raw(b"")
    annotation: Raw = Raw(b"")
    response: Raw = Raw(b"")
    error: Raw = Raw(b"")


class KnownType(Struct, gc=False):
    """An event whose other members have shapes that do not matter."""

    type: str = ""
