"""What is asked: the neutral form of a call, which every dialect reads into and writes from.

Values only: nothing here parses, decides or does. A `Call` keeps the client's bytes in `raw`, so that a target of the
same dialect can be sent exactly those; the parts that the fast path never looks at (messages, tools, schema) are read
from them on first use.

JSON that is passed through without being understood (schemas, tool arguments, unknown members) travels as `Json`:
the bytes of one JSON text.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

from msgspec import Struct

Json = bytes
Members = tuple[tuple[str, Json], ...]
"""Members that no neutral field stands for, as (name, JSON text); they ride along to a target of the same dialect."""

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str
    extra: Members = ()


class Image(Struct, frozen=True, tag="image"):
    """A picture: either `url` (http, https) or `data` (standard base64) with its `media_type`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    extra: Members = ()


class Audio(Struct, frozen=True, tag="audio"):
    """Sound: standard base64 in `format` (wav, mp3 ...) when asked, with id and transcript when answered.

    An earlier answer is referred to by its `id` alone. `expires_at` is Unix seconds.
    """

    data: str | None = None
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    expires_at: int | None = None
    extra: Members = ()


class File(Struct, frozen=True, tag="file"):
    """A document: base64 `data`, a `url`, or the provider's `file_id`."""

    name: str | None = None
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None
    extra: Members = ()


class ToolUse(Struct, frozen=True, tag="tool_use"):
    """A call of a tool by the model. `arguments` is the text as the model wrote it: JSON, if it wrote well."""

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    extra: Members = ()


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a tool answered to the `ToolUse` of the same id."""

    id: str
    parts: tuple["Part", ...]
    is_error: bool = False
    extra: Members = ()


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """The model's thinking: text, or only the provider's opaque `signature` that has to come back unchanged."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    extra: Members = ()


class Refusal(Struct, frozen=True, tag="refusal"):
    """The model declined, in its own words."""

    text: str


class Foreign(Struct, frozen=True, tag="foreign"):
    """A part that only its own dialect knows; it is kept whole and goes to that dialect alone."""

    dialect: str
    kind: str
    json: Json


Part = Text | Image | Audio | File | ToolUse | ToolResult | Reasoning | Refusal | Foreign


class Message(Struct, frozen=True):
    """One turn. System text stands among the messages, where the dialect had it."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Members = ()


class Tool(Struct, frozen=True):
    """A tool that the model may use; `parameters` is a JSON Schema. `Foreign` tools are hosted by a provider."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    extra: Members = ()


class ToolChoice(Struct, frozen=True):
    """Whether a tool must be used: `named` goes with its `name`; a choice that only one dialect knows rides in `extra`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str | None = None
    extra: Members = ()


class OutputFormat(Struct, frozen=True):
    """The form that the answer has to have; `schema` is a JSON Schema."""

    kind: Literal["text", "json", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: Json | None = None
    strict: bool | None = None


class Sampling(Struct, frozen=True, gc=False):
    """How the answer is drawn. None means: not said, the target's default. Ranges are the widest of the field."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[str, float], ...] = ()
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None


class Content(Struct, frozen=True):
    """What the fast path never looks at."""

    messages: tuple[Message, ...]
    tools: tuple[Tool | Foreign, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    output: OutputFormat | None = None
    extra: Members = ()


class Call(Struct, frozen=True, dict=True):
    """One call as asked.

    dialect       the client's dialect, "" for a call made through the library
    raw           the client's body; b"" where there is none
    stream_usage  the client asked for usage at the end of the stream
    feature, session, user   what the body says about who pays; admission decides what of it counts
    read          gives the rest, from `raw`, once
    changed       names of the `Sampling` fields that the gateway set, which `raw` therefore does not say
    input_bound   a number of input tokens that this call surely does not exceed: a token is at least one byte of text,
                  so the length of the body bounds it. None where pictures, sound or files make that untrue.
    """

    dialect: str
    model: str
    sampling: Sampling
    read: Callable[[], Content]
    stream: bool = False
    stream_usage: bool = False
    raw: bytes = b""
    feature: str | None = None
    session: str | None = None
    user: str | None = None
    changed: tuple[str, ...] = ()
    input_bound: int | None = None

    @cached_property
    def content(self) -> Content:
        """Messages, tools and the rest, read from `raw` on first use."""
        return self.read()


class Caller(Struct, frozen=True):
    """What a request says about itself outside its body: nothing here is trusted before admission."""

    key: str | None = None
    feature: str | None = None
    session: str | None = None
    user: str | None = None
    deadline_s: float | None = None
    peer: str = ""
    trace: str | None = None


class Who(Struct, frozen=True):
    """Who is calling, after admission. `user` is a keyed hash; the plain id is never kept."""

    key_id: str | None = None
    team: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    admin: bool = False


class Ticket(Struct, frozen=True):
    """A place taken; it has to be given back once. `tokens` is what was taken from the tokens' bucket."""

    team: str | None
    tokens: int
