"""What a call leaves behind: its usage, its tries and the one receipt.

Values only. Times are microseconds, money integer nano-dollars; no text of a prompt or an answer stands here.
"""

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

UsageSource = Literal["provider", "counted", "estimated", "none"]
Lane = Literal["verbatim", "translated"]
Status = Literal["ok", "degraded", "error", "cancelled", "refused", "interrupted"]
CostStatus = Literal["exact", "estimated", "unpriced", "free"]


class Usage(Struct, frozen=True, gc=False):
    """Tokens. `input_tokens` and `output_tokens` are inclusive: the others are subsets of them.

    `source` says who counted: the provider, a count with the model's own vocabulary, or an estimate.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    source: UsageSource = "provider"
    image_input_tokens: int = 0
    image_output_tokens: int = 0


class Attempt(Struct, frozen=True):
    """One try at one target: a row of its own. Times are microseconds from the start of the try."""

    target: str
    kind: Literal["first", "retry", "fallback"] = "first"
    status: Status = "ok"
    http_status: int | None = None
    error: str | None = None
    retry_after_ms: int | None = None
    started_us: int = 0
    ttft_us: int | None = None
    total_us: int = 0
    usage: Usage | None = None
    cost_nano_usd: int | None = None
    cost_status: CostStatus = "free"
    price_version: str = ""
    response_id: str = ""
    response_model: str = ""
    fingerprint: str | None = None
    service_tier: str | None = None


class Receipt(Struct, frozen=True):
    """The one record that every admitted call leaves, however it ended. No text of prompt or answer stands in it.

    id            UUIDv7 as 36 characters
    started_ns    wall clock, nanoseconds since the epoch, UTC
    model         what the client asked for; `target` is what answered
    cost_nano_usd the sum over the tries; None if any of them is unpriced
    ttft_us       from the start of the call to the first content that the client could have seen

    cache_saved_nano_usd    what the call would have cost, had the cache not answered it; never below 0
    routing_saved_nano_usd  what the answering try would have cost at the model's baseline, less what it did cost; below 0
                            where a fallback was dearer
    """

    id: str
    started_ns: int
    dialect: str
    model: str
    status: Status
    http_status: int
    streamed: bool = False
    key_id: str | None = None
    team: str | None = None
    feature: str | None = None
    user: str | None = None
    session: str | None = None
    target: str | None = None
    error: str | None = None
    error_origin: Literal["client", "gateway", "provider"] | None = None
    finish_reason: str | None = None
    usage: Usage = Usage(source="none")
    cost_nano_usd: int | None = 0
    cost_status: CostStatus = "free"
    ttft_us: int | None = None
    total_us: int = 0
    lane: Lane | None = None
    cache: str = "none"
    prompt: str | None = None
    dropped: tuple[str, ...] = ()
    config_hash: str = ""
    tries: tuple[Attempt, ...] = ()
    cache_saved_nano_usd: int = 0
    routing_saved_nano_usd: int = 0

    @property
    def answering(self) -> Attempt | None:
        """The try that answered; None where something else did: the cache, another call, a fixed text, or nobody."""
        last = self.tries[-1] if self.tries else None
        return last if last is not None and last.status == "ok" and last.target == self.target else None


class Settled(Struct, eq=False, gc=False):
    """What an answer tells of how its call ended; the whole `receipt` is made once somebody asks for it.

    `error` is its code, `tokens` are those that went in and came out; `make` makes the receipt of `row`.
    """

    id: str
    status: Status
    error: str | None
    cost_nano_usd: int | None
    tokens: int
    make: Callable[[Any], Receipt]
    row: Any
    made: Receipt | None = None

    @property
    def receipt(self) -> Receipt:
        """All of it."""
        if self.made is None:
            self.made = self.make(self.row)
        return self.made
