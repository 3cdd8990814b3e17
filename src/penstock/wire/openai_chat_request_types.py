"""The JSON of a chat completions request as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `openai_chat*` files knows them. Source: OpenAI's API reference (the
OpenAPI document that its SDKs are generated from), widened where compatible servers take more: `reasoning_content`
(DeepSeek, vLLM), `reasoning` (OpenRouter, vLLM), `top_k` and `min_p` (vLLM, llama.cpp), `reasoning` (OpenRouter),
`thinking` (DeepSeek, Z.ai).

Everything exists twice. The `Exact...` twins know the members of the reference and refuse any other, so a request that
they accept has nothing that its reader did not see; one that they refuse is read again by the plain ones, which skip what
they do not know.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

NAME: Final = "chat"


class ImageUrl(Struct, gc=False):
    """A link or a data URL."""

    url: str
    detail: str | None = None


class InputAudio(Struct, gc=False):
    """Base64 and its format."""

    data: str
    format: str


class FileData(Struct, gc=False):
    """A document by value or by id."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(Struct, gc=False):
    """One part of a content list, of any type."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None
    file: FileData | None = None
    refusal: str | None = None


class Function(Struct, gc=False):
    """What was called, and with what."""

    name: str
    arguments: str = ""


class Custom(Struct, gc=False):
    """As `Function`, for a tool that takes free text."""

    name: str
    input: str = ""


class ToolCall(Struct, gc=False):
    """One call of a tool, as the model made it."""

    id: str
    type: Literal["function", "custom"] = "function"
    function: Function | None = None
    custom: Custom | None = None


class AudioId(Struct, gc=False):
    """An earlier spoken answer."""

    id: str


class System(Struct, gc=False, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[Part]
    name: str | None = None


class Developer(Struct, gc=False, tag_field="role", tag="developer"):
    """Instructions, in the newer word."""

    content: str | list[Part]
    name: str | None = None


class User(Struct, gc=False, tag_field="role", tag="user"):
    """What the user says."""

    content: str | list[Part]
    name: str | None = None


class Assistant(Struct, gc=False, tag_field="role", tag="assistant"):
    """What the model said."""

    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    audio: AudioId | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(Struct, gc=False, tag_field="role", tag="tool"):
    """What a tool answered."""

    tool_call_id: str
    content: str | list[Part] | None = None
    name: str | None = None


class FunctionMessage(Struct, gc=False, tag_field="role", tag="function"):
    """What a function answered (deprecated)."""

    name: str
    content: str | None = None


WireMessage = System | Developer | User | Assistant | ToolMessage | FunctionMessage


class FunctionDefinition(Struct, gc=False):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Raw = Raw(b"")
    strict: bool | None = None


class ToolDefinition(Struct, gc=False):
    """A tool of any type."""

    type: str
    function: FunctionDefinition | None = None


class Named(Struct, gc=False):
    """A tool by its name."""

    name: str


class AllowedTools(Struct, gc=False):
    """Tools that may be used; the list is not looked into."""

    mode: Literal["auto", "required"]


class ToolChoiceObject(Struct, gc=False):
    """A tool that must be used, or those that may be."""

    type: str
    function: Named | None = None
    custom: Named | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Struct, gc=False):
    """The schema of an answer."""

    name: str
    description: str | None = None
    schema: Raw = Raw(b"")
    strict: bool | None = None


class ResponseFormat(Struct, gc=False):
    """The form of an answer. `schema` beside `json_object` is llama.cpp's and Together's."""

    type: str
    json_schema: JsonSchema | None = None
    schema: Raw = Raw(b"")


class StreamOptions(Struct, gc=False):
    """What a stream shall bring."""

    include_usage: bool | None = None


class Metadata(Struct, gc=False):
    """What the request says about who pays."""

    feature: str | None = None
    session: str | None = None


class ReasoningOptions(Struct, gc=False):
    """How much to think, as OpenRouter has it."""

    effort: str | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    exclude: bool | None = None
    enabled: bool | None = None
    summary: str | None = None


class ThinkingOptions(Struct, gc=False):
    """How much to think, as servers of other models have it after Anthropic's form."""

    type: str
    budget_tokens: Annotated[int, Meta(ge=0)] | None = None


Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Positive = Annotated[int, Meta(ge=1)]


class Options(Struct, gc=False):
    """Everything of a request but its messages."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Share | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Bias] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: str | ToolChoiceObject | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: str | Named | None = None
    metadata: Metadata | None = None
    user: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    reasoning: Raw = Raw(b"")
    thinking: Raw = Raw(b"")


class Request(Options, gc=False, kw_only=True):
    """A request, whatever else it holds."""

    messages: Annotated[list[WireMessage], Meta(min_length=1)]


# -- the exact twins --


class ExactImageUrl(ImageUrl, gc=False, forbid_unknown_fields=True):
    """See `ImageUrl`."""


class ExactInputAudio(InputAudio, gc=False, forbid_unknown_fields=True):
    """See `InputAudio`."""


class ExactFileData(FileData, gc=False, forbid_unknown_fields=True):
    """See `FileData`."""


class ExactPart(Part, gc=False, forbid_unknown_fields=True):
    """See `Part`."""

    image_url: ExactImageUrl | str | None = None
    input_audio: ExactInputAudio | None = None
    file: ExactFileData | None = None


class ExactFunction(Function, gc=False, forbid_unknown_fields=True):
    """See `Function`."""


class ExactCustom(Custom, gc=False, forbid_unknown_fields=True):
    """See `Custom`."""


class ExactToolCall(ToolCall, gc=False, forbid_unknown_fields=True):
    """See `ToolCall`."""

    function: ExactFunction | None = None
    custom: ExactCustom | None = None


class ExactAudioId(AudioId, gc=False, forbid_unknown_fields=True):
    """See `AudioId`."""


class ExactSystem(System, gc=False, forbid_unknown_fields=True):
    """See `System`."""

    content: str | list[ExactPart]  # type: ignore[assignment]  # read only, so the narrower list is fine


class ExactDeveloper(Developer, gc=False, forbid_unknown_fields=True):
    """See `Developer`."""

    content: str | list[ExactPart]  # type: ignore[assignment]  # read only, so the narrower list is fine


class ExactUser(User, gc=False, forbid_unknown_fields=True):
    """See `User`."""

    content: str | list[ExactPart]  # type: ignore[assignment]  # read only, so the narrower list is fine


class ExactAssistant(Assistant, gc=False, forbid_unknown_fields=True):
    """See `Assistant`; empty annotations are what a client has that sends back what it got."""

    content: str | list[ExactPart] | None = None  # type: ignore[assignment]  # read only, so the narrower list is fine
    audio: ExactAudioId | None = None
    tool_calls: list[ExactToolCall] | None = None  # type: ignore[assignment]  # read only, so the narrower list is fine
    function_call: ExactFunction | None = None
    annotations: Annotated[list[int], Meta(max_length=0)] | None = None


class ExactToolMessage(ToolMessage, gc=False, forbid_unknown_fields=True):
    """See `ToolMessage`."""

    content: str | list[ExactPart] | None = None  # type: ignore[assignment]  # read only, so the narrower list is fine


class ExactFunctionMessage(FunctionMessage, gc=False, forbid_unknown_fields=True):
    """See `FunctionMessage`."""


ExactMessage = ExactSystem | ExactDeveloper | ExactUser | ExactAssistant | ExactToolMessage | ExactFunctionMessage


class ExactFunctionDefinition(FunctionDefinition, gc=False, forbid_unknown_fields=True):
    """See `FunctionDefinition`."""


class FunctionTool(Struct, gc=False, forbid_unknown_fields=True):
    """A function and nothing beside it. See `ToolDefinition`."""

    type: Literal["function"]
    function: ExactFunctionDefinition


class TextSystem(Struct, gc=False, forbid_unknown_fields=True, tag_field="role", tag="system"):
    """A message that is one text, and nothing beside it. The roles differ in nothing else."""

    content: str
    name: str | None = None


class TextDeveloper(TextSystem, gc=False, tag="developer"):
    """See `TextSystem`."""


class TextUser(TextSystem, gc=False, tag="user"):
    """See `TextSystem`."""


class TextAssistant(TextSystem, gc=False, tag="assistant"):
    """See `TextSystem`."""


TextMessage = TextSystem | TextDeveloper | TextUser | TextAssistant


class TextRequest(Options, gc=False, kw_only=True):
    """A request whose messages are nothing but text: what most of them are."""

    messages: Annotated[list[TextMessage], Meta(min_length=1)]


class ExactRequest(Options, gc=False, kw_only=True):
    """A request with known members in its messages; unknown ones beside the messages do not matter."""

    messages: Annotated[list[ExactMessage], Meta(min_length=1)]
