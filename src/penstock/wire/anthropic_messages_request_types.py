"""The JSON of a Messages request as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `anthropic_messages*` files knows them. Source: Anthropic's API
reference and the parameter types of its SDK. A block is one struct for all its types, since types that nobody here knows
have to be read too; what goes with which type is checked by `anthropic_messages_request.py`.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

NAME: Final = "messages"


class CacheControl(Struct, gc=False):
    """A mark: the prompt up to here is worth keeping."""

    type: str = "ephemeral"
    ttl: str | None = None


class Source(Struct, gc=False):
    """Where a picture or a document comes from: base64, text, url, file, content."""

    type: str
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: Raw = Raw(b"")


class Block(Struct, gc=False):
    """One block of content, of any type."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    title: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"")
    tool_use_id: str | None = None
    content: Raw = Raw(b"")
    is_error: bool | None = None
    citations: Raw = Raw(b"")
    cache_control: CacheControl | None = None


class WireMessage(Struct, gc=False):
    """One turn; `system` stands in between where instructions change."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolDefinition(Struct, gc=False):
    """A tool: `custom` ones are the client's, all other types belong to Anthropic."""

    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw(b"")
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoice(Struct, gc=False):
    """Whether a tool must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Struct, gc=False):
    """How much the model may think beforehand."""

    type: str
    budget_tokens: Annotated[int, Meta(ge=0)] | None = None
    display: str | None = None


class Format(Struct, gc=False):
    """The form that the answer has to have."""

    type: str
    schema: Raw = Raw(b"")


class OutputConfig(Struct, gc=False):
    """How hard to work, and in what form to answer."""

    effort: str | None = None
    format: Format | None = None


class Metadata(Struct, gc=False):
    """What the request says about who pays."""

    user_id: str | None = None
    feature: str | None = None
    session: str | None = None


Share = Annotated[float, Meta(ge=0, le=1)]


class Request(Struct, gc=False, kw_only=True):
    """A request, whatever else it holds. `output_format` is the older place of `output_config.format`."""

    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    model: str | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    system: str | list[Block] | None = None
    stream: bool | None = None
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
