"""The JSON of Ollama's requests as structs: which members there are, of what type, in what range.

Types only: nothing here decides, and nothing but the `ollama*` files knows them. What is not named here rides along.
Source: Ollama's API documentation and OpenAPI document (docs.ollama.com/api), and the types of its official Python SDK.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Raw, Struct

NAME: Final = "ollama"
CHAT: Final = "chat"
GENERATE: Final = "generate"
"""The two forms of a request: `POST /api/chat` and `POST /api/generate`."""

Role = Literal["system", "developer", "user", "assistant", "tool"]
Level = Literal["low", "medium", "high", "max"]
Share = Annotated[float, Meta(ge=0, le=1)]


class FunctionCall(Struct, gc=False):
    """What was called; the arguments are an object here, not a text. `index` is where it stands anyway."""

    name: str
    arguments: Raw = Raw(b"")
    index: Raw = Raw(b"")


class ToolCall(Struct, gc=False):
    """A tool call of the model, always of a function; older servers and clients give it no id.

    `extra_content` is where Google's compatible endpoint puts thought signatures, and so do we.
    """

    function: FunctionCall
    id: str | None = None
    type: Raw = Raw(b"")
    extra_content: Raw = Raw(b"")


class WireMessage(Struct, gc=False):
    """One turn. `reasoning_details` are OpenRouter's, for signed thoughts that come back from a client."""

    role: Role
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    reasoning_details: Raw = Raw(b"")


class FunctionDefinition(Struct, gc=False):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Raw = Raw(b"")


class ToolDefinition(Struct, gc=False):
    """A tool of any type."""

    type: str = "function"
    function: FunctionDefinition | None = None


class Options(Struct, gc=False):
    """How the answer is drawn, as far as it has a neutral form; all other options ride along."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Share | None = None
    top_k: int | None = None
    min_p: Share | None = None
    num_predict: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class Head(Struct, gc=False):
    """What both forms have."""

    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    options: Options | None = None
    format: Raw = Raw(b"")
    think: bool | Level | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class ChatRequest(Head, gc=False):
    """`POST /api/chat`; without messages it only loads the model."""

    messages: list[WireMessage] | None = None
    tools: list[ToolDefinition] | None = None


class GenerateRequest(Head, gc=False):
    """`POST /api/generate`; without a prompt it only loads the model."""

    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    context: list[int] | None = None


class EmbedRequest(Struct, gc=False):
    """`POST /api/embed`, and with `prompt` in place of `input` the older `POST /api/embeddings`."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[str] | None = None
    prompt: str | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
