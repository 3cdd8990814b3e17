"""The JSON of a Responses request as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `openai_responses*` files knows them. Items are of many shapes, so what an
item holds stays JSON until its type is known. Source: OpenAI's API reference, as its official SDK has it.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

from penstock.wire.openai_chat_request_types import Metadata, Positive, Share, Temperature

NAME: Final = "responses"


class Item(Struct, gc=False):
    """One item of the input, of any type; without a type it is a message."""

    type: str = "message"
    role: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    content: Raw = Raw(b"")
    arguments: Raw = Raw(b"")
    input: Raw = Raw(b"")
    output: Raw = Raw(b"")
    summary: Raw = Raw(b"")
    encrypted_content: str | None = None
    phase: str | None = None


class InputAudio(Struct, gc=False):
    """Base64 and its format."""

    data: str
    format: str


class Part(Struct, gc=False):
    """One part of a message or of a tool's output, of any type."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: InputAudio | None = None
    annotations: Raw = Raw(b"")


class ToolDefinition(Struct, gc=False):
    """A tool of any type; functions have their members right here."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = Raw(b"")
    strict: bool | None = None


class ToolChoiceObject(Struct, gc=False):
    """A tool that must be used, or those that may be; the latter are not looked into."""

    type: str
    name: str | None = None
    mode: Literal["auto", "required"] | None = None


class Format(Struct, gc=False):
    """The form of an answer."""

    type: str
    name: str | None = None
    description: str | None = None
    schema: Raw = Raw(b"")
    strict: bool | None = None


class TextConfig(Struct, gc=False):
    """How the text of the answer shall be."""

    format: Format | None = None


class ReasoningConfig(Struct, gc=False):
    """How much to think, and what to tell of it."""

    effort: str | None = None
    summary: str | None = None


class Request(Struct, gc=False):
    """A request, whatever else it holds."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[Item] | None = None
    instructions: str | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_output_tokens: Positive | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: str | ToolChoiceObject | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    user: str | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    truncation: str | None = None
    max_tool_calls: Positive | None = None
