"""The JSON of a Converse request as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `bedrock_converse*` files knows them. Source: the service model of
bedrock-runtime in the AWS SDKs (botocore, `service-2.json`). Blobs are base64 texts in JSON. What the model calls a document
(any JSON) is kept as it came.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

NAME: Final = "converse"
UNSAID: Final = Raw(b"")
"""Stands for any JSON that is not there; always this object."""


class S3Location(Struct, gc=False, rename="camel"):
    """An object in S3, which only Bedrock can fetch."""

    uri: str
    bucket_owner: str | None = None


class Piece(Struct, gc=False, rename="camel"):
    """A piece of text in a list."""

    text: str | None = None


class MediaSource(Struct, gc=False, rename="camel"):
    """Where a picture, a sound or a film is."""

    bytes: str | None = None
    s3_location: S3Location | None = None


class Media(Struct, gc=False, rename="camel"):
    """A picture, a sound or a film."""

    format: str
    source: MediaSource


class DocumentSource(Struct, gc=False, rename="camel"):
    """Where a document is: by value, in S3, or as text."""

    bytes: str | None = None
    s3_location: S3Location | None = None
    text: str | None = None
    content: list[Piece] | None = None


class Document(Struct, gc=False, rename="camel"):
    """A document."""

    name: str
    source: DocumentSource
    format: str | None = None


class ToolUse(Struct, gc=False, rename="camel"):
    """A call of a tool, as the model made it; with a type, of a tool on the server."""

    tool_use_id: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(min_length=1)]
    input: Raw
    type: str | None = None


class ResultBlock(Struct, gc=False, rename="camel"):
    """One block of what a tool answered: exactly one member."""

    text: str | None = None
    json: Raw = UNSAID
    image: Media | None = None
    document: Document | None = None
    video: Media | None = None


class ToolResult(Struct, gc=False, rename="camel"):
    """What a tool answered."""

    tool_use_id: Annotated[str, Meta(min_length=1)]
    content: list[ResultBlock]
    status: Literal["success", "error"] | None = None
    type: str | None = None


class ReasoningText(Struct, gc=False, rename="camel"):
    """Thinking, signed by whoever thought it."""

    text: str
    signature: str | None = None


class ReasoningContent(Struct, gc=False, rename="camel"):
    """Thinking, in the open or encrypted."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None


class CachePoint(Struct, gc=False, rename="camel"):
    """The end of what is worth keeping."""

    type: Literal["default"]
    ttl: Literal["5m", "1h"] | None = None


class GuardText(Struct, gc=False, rename="camel"):
    """Text that a guardrail has to look at."""

    text: str


class GuardContent(Struct, gc=False, rename="camel"):
    """Content that a guardrail has to look at."""

    text: GuardText | None = None
    image: Media | None = None


class CitationsContent(Struct, gc=False, rename="camel"):
    """Text of an earlier answer with its sources."""

    content: list[Piece] | None = None
    citations: list[Raw] | None = None


class Block(Struct, gc=False, rename="camel"):
    """One block of content: exactly one member."""

    text: str | None = None
    image: Media | None = None
    document: Document | None = None
    video: Media | None = None
    audio: Media | None = None
    tool_use: ToolUse | None = None
    tool_result: ToolResult | None = None
    guard_content: GuardContent | None = None
    cache_point: CachePoint | None = None
    reasoning_content: ReasoningContent | None = None
    citations_content: CitationsContent | None = None


class WireMessage(Struct, gc=False, rename="camel"):
    """One turn; `system` turns only add and remove tools."""

    role: Literal["user", "assistant", "system"]
    content: list[Block]


class SystemBlock(Struct, gc=False, rename="camel"):
    """One block of the instructions: exactly one member."""

    text: str | None = None
    guard_content: GuardContent | None = None
    cache_point: CachePoint | None = None


class InputSchema(Struct, gc=False, rename="camel"):
    """The JSON Schema of a tool's input."""

    json: Raw


class ToolSpec(Struct, gc=False, rename="camel"):
    """A tool that the model may use."""

    name: Annotated[str, Meta(min_length=1)]
    input_schema: InputSchema
    description: str | None = None
    strict: bool | None = None


class Named(Struct, gc=False, rename="camel"):
    """A tool by its name."""

    name: str


class ToolDefinition(Struct, gc=False, rename="camel"):
    """A tool, a tool of the server, or the end of what is worth keeping: exactly one member."""

    tool_spec: ToolSpec | None = None
    system_tool: Named | None = None
    cache_point: CachePoint | None = None


class Anything(Struct, gc=False, rename="camel"):
    """An object that says all by being there."""


class ToolChoice(Struct, gc=False, rename="camel"):
    """Whether a tool must be used."""

    auto: Anything | None = None
    any: Anything | None = None
    tool: Named | None = None


class ToolConfig(Struct, gc=False, rename="camel"):
    """The tools and the choice among them."""

    tools: list[ToolDefinition]
    tool_choice: ToolChoice | None = None


class InferenceConfig(Struct, gc=False, rename="camel"):
    """The options that all models have."""

    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=2500)] | None = None


class Tier(Struct, gc=False, rename="camel"):
    """How soon an answer is wanted."""

    type: str


class JsonSchema(Struct, gc=False, rename="camel"):
    """The schema of an answer, as a text that holds JSON."""

    schema: str
    name: str | None = None
    description: str | None = None


class FormatStructure(Struct, gc=False, rename="camel"):
    """What an answer has to look like."""

    json_schema: JsonSchema | None = None


class TextFormat(Struct, gc=False, rename="camel"):
    """The form of an answer."""

    type: str
    structure: FormatStructure


class OutputConfig(Struct, gc=False, rename="camel"):
    """The form of an answer, and how hard to think about it."""

    text_format: TextFormat | None = None
    effort: Annotated[str, Meta(max_length=16)] | None = None


class Options(Struct, gc=False, rename="camel"):
    """Everything of a request that a count of tokens looks at."""

    messages: list[WireMessage] | None = None
    system: list[SystemBlock] | None = None
    tool_config: ToolConfig | None = None
    additional_model_request_fields: Raw = UNSAID


class Request(Options, gc=False, rename="camel"):
    """A request. The model stands in the path."""

    inference_config: InferenceConfig | None = None
    request_metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    service_tier: Tier | None = None
    output_config: OutputConfig | None = None
    guardrail_config: Anything | None = None
    prompt_variables: dict[str, Anything] | None = None


class InvokeModel(Struct, gc=False, rename="camel"):
    """A request in the model's own form, as base64."""

    body: str


class CountInput(Struct, gc=False, rename="camel"):
    """What is to be counted: exactly one of the two."""

    converse: Raw = UNSAID
    invoke_model: InvokeModel | None = None


class CountRequest(Struct, gc=False, rename="camel"):
    """The question how many tokens a prompt has."""

    input: CountInput


# -- additionalModelRequestFields, as far as they have a neutral form --


class ThinkingField(Struct, gc=False):
    """Claude's thinking (`thinking`; in older examples `reasoning_config`)."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None
    display: str | None = None


class NovaThinking(Struct, gc=False, rename="camel"):
    """Nova's thinking."""

    type: str
    max_reasoning_effort: str | None = None


class NovaConfig(Struct, gc=False, rename="camel"):
    """Nova's own options."""

    top_k: int | None = None


class Effort(Struct, gc=False):
    """How hard a Claude thinks."""

    effort: str
