"""What is asked: the neutral form of a call, which every dialect reads into and writes from.

Values only: nothing here parses, decides or does. A `Call` keeps the client's bytes in `raw`, so that a target of the
same dialect can be sent exactly those; the parts that the fast path never looks at (messages, tools, schema) are read
from them on first use.

JSON that is passed through without being understood (schemas, tool arguments, unknown members) travels as `Json`:
the bytes of one JSON text.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

Json = bytes
Members = tuple[tuple[str, Json], ...]
"""Members that no neutral field stands for, as (name, JSON text); they ride along to a target of the same dialect."""

Role = Literal["system", "developer", "user", "assistant", "tool"]


Cache = Literal["5m", "1h"]
"""A mark at a part or a tool: the prompt up to and with it is worth keeping at the provider for so long."""


Signer = Literal["", "anthropic", "google", "openai"]
"""The family of models that made, and understands, a signature; "" where nobody said."""


class Citation(Struct, frozen=True):
    """Where a piece of an answer comes from.

    `start` and `end` are characters of the text that it belongs to; `document` counts the documents of the request, from 0.
    `native` is the citation as `dialect` writes it, kept whole for that dialect.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    document: int | None = None
    file_id: str | None = None
    dialect: str = ""
    native: Json = b""


class Text(Struct, frozen=True, tag="text"):
    """Plain text, in an answer with its sources."""

    text: str
    extra: Members = ()
    citations: tuple[Citation, ...] = ()
    cache: Cache | None = None


class Image(Struct, frozen=True, tag="image"):
    """A picture: `url` (http, https), `data` (standard base64) with its `media_type`, or the provider's `file_id`."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    extra: Members = ()
    file_id: str | None = None
    cache: Cache | None = None


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
    """A document or a film: standard base64 `data`, a `url`, or the provider's `file_id`; `media_type` says what it is."""

    name: str | None = None
    data: str | None = None
    media_type: str | None = None
    url: str | None = None
    file_id: str | None = None
    extra: Members = ()
    cache: Cache | None = None


class ToolUse(Struct, frozen=True, tag="tool_use"):
    """A call of a tool by the model. `arguments` is the text as the model wrote it: JSON, if it wrote well.

    `signature` has to come back unchanged to models of the family `signer` (Gemini's thought signatures).
    """

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    extra: Members = ()
    signature: str | None = None
    signer: Signer = ""
    cache: Cache | None = None


class ToolResult(Struct, frozen=True, tag="tool_result"):
    """What a tool answered to the `ToolUse` of the same id."""

    id: str
    parts: tuple["Part", ...]
    is_error: bool = False
    extra: Members = ()
    cache: Cache | None = None


class Reasoning(Struct, frozen=True, tag="reasoning"):
    """The model's thinking: text, or only the provider's opaque `signature` that has to come back unchanged.

    A signature is of use to models of the family `signer` alone. `redacted`: the signature is the thinking, encrypted.
    """

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    extra: Members = ()
    signer: Signer = ""


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
    cache: Cache | None = None


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


class Thinking(Struct, frozen=True):
    """How much a model may think beyond `Sampling.reasoning_effort`, and whether it tells.

    `tokens` bounds it (0: not at all; None: not said); `visible` asks for the thoughts, or a summary of them; `summary` is
    how detailed that should be, in OpenAI's words (auto, concise, detailed); `adaptive` leaves the amount to the model.
    """

    tokens: int | None = None
    visible: bool | None = None
    summary: str | None = None
    adaptive: bool = False


class Embed(Struct, frozen=True):
    """What is to be embedded: texts, or lists of token ids. `task` is Gemini's task type, `form` float or base64."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    form: Literal["float", "base64"] = "float"
    task: str | None = None
    title: str | None = None


class Content(Struct, frozen=True):
    """What the fast path never looks at. `metadata` are the caller's own labels, `service_tier` in OpenAI's words."""

    messages: tuple[Message, ...]
    tools: tuple[Tool | Foreign, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    output: OutputFormat | None = None
    extra: Members = ()
    thinking: Thinking | None = None
    service_tier: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    embed: Embed | None = None


Operation = Literal["generate", "embed", "count"]


class Asked(Struct, frozen=True):
    """What the path and the query of an endpoint say beside the body: None and "" where they say nothing."""

    model: str | None = None
    stream: bool | None = None
    operation: Operation = "generate"
    form: str = ""


NOTHING_ASKED = Asked()


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
    operation     what is wanted: an answer, embeddings, or only the number of the prompt's tokens
    native        members that only a provider of the same dialect can honour (stored state, hosted tools), by name
    strict        what a target cannot express makes it unfit, rather than being left out
    headers       the client's own headers that go on to a provider of the same dialect (`anthropic-beta`)
    form          which of a dialect's forms the client used, in the dialect's own words
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
    operation: Operation = "generate"
    native: tuple[str, ...] = ()
    strict: bool = False
    form: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @cached_property
    def content(self) -> Content:
        """Messages, tools and the rest, read from `raw` on first use."""
        return self.read()


class Caller(Struct, frozen=True):
    """What a request says about itself outside its body: nothing here is trusted before admission.

    `cache` is `no-store` (neither look for an answer there nor keep this one), `refresh` (keep it, but do not look) or "".
    """

    key: str | None = None
    feature: str | None = None
    session: str | None = None
    user: str | None = None
    deadline_s: float | None = None
    peer: str = ""
    trace: str | None = None
    cache: str = ""

    def within(self, own_s: float) -> float:
        """Give how many seconds a call may take: as long as the gateway lets it, or less where less was asked for."""
        asked_s = self.deadline_s
        return own_s if asked_s is None or asked_s > own_s else asked_s


class Limits(Struct, frozen=True, gc=False):
    """Requests and tokens per minute, calls at once, and nano-dollars per day and month; None means: no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    day_nano_usd: int | None = None
    month_nano_usd: int | None = None

    @property
    def rates(self) -> bool:
        """Whether there is any but of money."""
        return not (self.rpm is self.tpm is self.concurrency is None)

    def over(self, sharers: int) -> "Limits":
        """Give what each of several processes may have of the rates, rounded up. Budgets are not shared out."""
        rpm, tpm, concurrency = [
            None if limit is None else -(-limit // sharers) for limit in (self.rpm, self.tpm, self.concurrency)
        ]
        return Limits(rpm, tpm, concurrency, self.day_nano_usd, self.month_nano_usd)


class Who(Struct, frozen=True, dict=True):
    """Who is calling, after admission. `user` is a keyed hash; the plain id is never kept. `limits` are the key's own.

    One value stands for one caller for as long as its key stays as it is, so what follows from it may be kept beside it.
    """

    key_id: str | None = None
    team: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    admin: bool = False
    limits: Limits | None = None

    @cached_property
    def features(self) -> "dict[str | None, Who]":
        """Who this caller is when it calls for a feature; for admission to fill, and to keep small."""
        return {}


class Ticket(Struct, frozen=True, gc=False):
    """A place that a call has taken in the room of a limit, and `also` those that it has in others; to be given back once.

    `room` and `taken`, where it is counted there, belong to admission; without a room it is the ticket of a call that no limit
    applies to. `tokens` is the estimate that was counted, `entered` the moment in the loop's seconds.
    """

    room: Any = None
    taken: Any = None
    tokens: int = 0
    entered: float = 0.0
    also: "Ticket | None" = None
