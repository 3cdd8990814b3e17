"""What a reply consists of: the events of it, in the order in which a well-formed one has them.

Values. A reply that is not streamed is the same sequence of events, in one chunk; so every later stage (meter, guard, writer)
knows one form only. `reply.py` puts whole replies together from them.
"""

from typing import Literal

from msgspec import Struct

from penstock.call import Citation, File, Foreign, Image, Json, Members, Signer
from penstock.errors import PenstockError
from penstock.receipt import Usage

Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error", "other"]
"""`pause`: the provider interrupted a long turn, which goes on when its answer is sent back (Anthropic's `pause_turn`)."""


class Logprob(Struct, frozen=True):
    """One token with its natural log probability and its best alternatives; `bytes` are its UTF-8 bytes, if known."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["Logprob", ...] = ()


class Started(Struct, frozen=True, gc=False):
    """The provider began. Not yet content: a failure after this may still be replaced by another try."""

    id: str = ""
    model: str = ""
    created: int | None = None
    fingerprint: str | None = None
    service_tier: str | None = None
    extra: Members = ()


class TextDelta(Struct, frozen=True, gc=False):
    """More text of a choice."""

    text: str
    choice: int = 0


class RefusalDelta(Struct, frozen=True, gc=False):
    """More text of a refusal."""

    text: str
    choice: int = 0


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More thinking, or its signature, which closes the block; see `call.Reasoning`."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    choice: int = 0
    signer: Signer = ""


class ToolUseStarted(Struct, frozen=True, gc=False):
    """The model begins to call a tool; `index` counts the tool calls of the choice."""

    index: int
    id: str
    name: str
    kind: Literal["function", "custom"] = "function"
    choice: int = 0
    signature: str | None = None
    signer: Signer = ""


class ToolUseDelta(Struct, frozen=True, gc=False):
    """More of the arguments' text of a tool call."""

    index: int
    arguments: str
    choice: int = 0


class AudioDelta(Struct, frozen=True, gc=False):
    """More sound (base64), its transcript, its id or when it expires (Unix seconds)."""

    data: str = ""
    transcript: str = ""
    id: str | None = None
    expires_at: int | None = None
    choice: int = 0


class Cited(Struct, frozen=True):
    """A source of the text that the choice has last got."""

    citation: Citation
    choice: int = 0


class PartAdded(Struct, frozen=True):
    """A part that comes whole: a picture, a file, or what only its own dialect knows (hosted tools and their results)."""

    part: Image | File | Foreign
    choice: int = 0


class Embedded(Struct, frozen=True, gc=False):
    """The embedding of one input; `index` counts the inputs."""

    index: int
    vector: tuple[float, ...]


class LogprobsDelta(Struct, frozen=True):
    """Log probabilities of the text (or refusal) tokens that came with it."""

    tokens: tuple[Logprob, ...]
    refusal: bool = False
    choice: int = 0


class ForeignDelta(Struct, frozen=True, gc=False):
    """A member of a choice that only its own dialect knows (annotations, citations), kept whole."""

    dialect: str
    name: str
    json: Json
    choice: int = 0


class Finished(Struct, frozen=True, gc=False):
    """A choice is complete; `native` is the provider's own word for why."""

    reason: Finish
    native: str = ""
    choice: int = 0


class UsageReported(Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """The provider's count. The last one holds.

    `service_tier` is how the call was served in truth, where that is told at the end and `Started` could not know it yet.
    """

    usage: Usage
    service_tier: str | None = None


class Failed(Struct, frozen=True):
    """The stream ends in an error: at most one, and nothing but `Ended` after it."""

    error: PenstockError


class Ended(Struct, frozen=True, gc=False):
    """The reply is complete: the dialect's own end mark was seen. A stream without it was cut."""


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ToolUseStarted
    | ToolUseDelta
    | AudioDelta
    | Cited
    | PartAdded
    | Embedded
    | LogprobsDelta
    | ForeignDelta
    | Finished
    | UsageReported
    | Failed
    | Ended
)
