"""The JSON of Converse replies and of the events in their streams as structs.

Types only: nothing here decides, and nothing but the `bedrock_converse*` files knows them. Replies are read, never trusted:
nearly everything in them may be missing, and members that are not named here are skipped or kept as they came.
Source: the service model of bedrock-runtime (`ConverseResponse`, `ConverseStreamOutput`).
"""

import msgspec
from msgspec import Raw, Struct


class CacheDetail(Struct, gc=False, rename="camel"):
    """Tokens that were written to the cache, by how long they are kept."""

    ttl: str | None = None
    input_tokens: int | None = None


class TokenUsage(Struct, gc=False, rename="camel"):
    """The provider's count; `input_tokens` leaves out what was read from the cache or written to it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[CacheDetail] | None = None


class Tier(Struct, gc=False):
    """How soon the answer was given."""

    type: str | None = None


class ReplyMessage(Struct, gc=False):
    """The answer: blocks with one member each."""

    content: list[dict[str, Raw]]


class Output(Struct, gc=False):
    """What was generated."""

    message: ReplyMessage


class WholeReply(Struct, gc=False, rename="camel"):
    """A whole reply. `usage` is read apart: a strange one must not cost the answer."""

    output: Output
    stop_reason: str | None = None
    usage: Raw = Raw(b"")
    service_tier: Tier | None = None


class Nothing(Struct, gc=False):
    """Some object; what is in it does not matter here."""


class TappedReply(Struct, gc=False, rename="camel"):
    """What the meter needs of a whole reply."""

    output: Nothing
    stop_reason: str
    usage: TokenUsage
    service_tier: Tier | None = None


# -- events --


class StartedTool(Struct, gc=False, rename="camel"):
    """A tool call begins; with a type, that of a tool on the server."""

    tool_use_id: str = ""
    name: str = ""
    type: str | None = None


class StartedImage(Struct, gc=False):
    """A picture begins."""

    format: str = "png"


class BlockStart(Struct, gc=False, rename="camel"):
    """What begins."""

    tool_use: StartedTool | None = None
    tool_result: Raw = Raw(b"")
    image: StartedImage | None = None


class ContentBlockStart(Struct, gc=False, rename="camel"):
    """A block begins; blocks of text and of thinking do so without a word."""

    content_block_index: int = 0
    start: BlockStart | None = None


class ToolDelta(Struct, gc=False):
    """More of a tool call's arguments."""

    input: str = ""


class ReasoningDelta(Struct, gc=False, rename="camel"):
    """More thinking, or its signature, or all of it encrypted."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class MediaSource(Struct, gc=False):
    """A piece of a picture."""

    bytes: str | None = None


class ImageDelta(Struct, gc=False):
    """More of a picture."""

    source: MediaSource | None = None


class BlockDelta(Struct, gc=False, rename="camel"):
    """More of a block."""

    text: str | None = None
    tool_use: ToolDelta | None = None
    reasoning_content: ReasoningDelta | None = None
    citation: Raw = Raw(b"")
    tool_result: list[Raw] | None = None
    image: ImageDelta | None = None


class ContentBlockDelta(Struct, gc=False, rename="camel"):
    """More of the block with this index."""

    delta: BlockDelta
    content_block_index: int = 0


class ContentBlockStop(Struct, gc=False, rename="camel"):
    """A block is complete."""

    content_block_index: int = 0


class MessageStop(Struct, gc=False, rename="camel"):
    """The answer is complete."""

    stop_reason: str | None = None
    additional_model_response_fields: Raw = Raw(b"")


class Metadata(Struct, gc=False):
    """What an answer cost, and in which tier it was served; its other members are kept as they came."""

    usage: Raw = Raw(b"")
    service_tier: Raw = msgspec.field(default=Raw(b""), name="serviceTier")
