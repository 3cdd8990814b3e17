"""One try of a call at one target, while it lasts: what the row of the receipt is made of, and what it says of its target.

It holds the target's room and the exchange, and lets go of both once. Place in the line: `execute.py` makes tries, `inflight.py`
writes them down.
"""

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Literal

from penstock.errors import (
    CallerError,
    DeadlineExceeded,
    LimitError,
    PenstockError,
    UpstreamAuth,
    UpstreamError,
    UpstreamInvalid,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from penstock.meter import Meter
from penstock.plugins import Exchange
from penstock.reply import Told
from penstock.routing.attempts import Try
from penstock.routing.health import Ending, Slot
from penstock.target import Target

TryStatus = Literal["open", "ok", "error", "cancelled"]

log = logging.getLogger("penstock")

SILENT_S = 10.0
"""A target that said nothing for so long is at fault, even if the caller's deadline was shorter than its own limit."""
BYTES_PER_TOKEN = 4


class LiveTry:
    """One try while it lasts: what the `Attempt` row of the receipt is made of. Times are the loop's seconds."""

    closed = False
    sent = True
    first_at: float | None = None
    ended: float | None = None
    exchange: Exchange | None = None
    status: TryStatus = "open"
    error: PenstockError | None = None
    told: Told | None = None  # the whole reply, where it was one of which nothing is unusual

    def __init__(
        self, move: Try, now: float, slot: Slot | None = None, freed: Callable[[], None] | None = None
    ) -> None:
        """Begin; `slot` is its room at the target, `freed` is told when it is given back."""
        self.target: Target = move.target
        self.kind = move.kind
        self.began = now
        self._slot = slot
        self._freed = freed

    @cached_property
    def meter(self) -> Meter:
        """What has been seen of the reply; of one that `told` all of itself it is made once somebody asks."""
        return Meter.of(self.told)

    def first(self, now: float, *, streamed: bool) -> None:
        """Note that the first content is there; that of a whole reply says nothing of how soon a stream would begin."""
        self.first_at = now
        if streamed and self._slot is not None:
            self._slot.first(now)

    def end(self, status: TryStatus, now: float, error: PenstockError | None = None) -> None:
        """Close the try and whatever it still holds; only the first ending counts."""
        if self.status == "open":
            self.status, self.ended, self.error = status, now, error
            if self._slot is not None:
                self._leave(self._slot, now, error)
        if self.exchange is not None and not self.closed:
            self.closed = True
            self.exchange.close()

    def _leave(self, slot: Slot, now: float, error: PenstockError | None) -> None:
        """Give the room at the target back, and say how the target did."""
        usage = self.meter.usage if self.told is None else self.told
        after_s = None if error is None else error.retry_after_s
        out = self.meter.passed // BYTES_PER_TOKEN if usage is None else usage.output_tokens
        used = out if usage is None else out + usage.input_tokens
        if slot.leave(now, "ok" if self.status == "ok" else self._ending(now, error), out, used, after_s):
            log.warning("%s is left alone for now, its breaker is open: %s", self.target.id, error or "it is slow")
        if self._freed is not None:
            self._freed()

    def _ending(self, now: float, error: PenstockError | None) -> Ending:
        if self.status == "ok" or self.status == "cancelled":  # noqa: PLR1714 - narrower for the types
            return self.status
        if isinstance(error, DeadlineExceeded):
            silent = self.first_at is None and now - self.began >= SILENT_S
            return "timeout" if silent else "cancelled"
        return "cancelled" if error is None else _ending(error)

    @property
    def billed(self) -> bool:
        """Whether the provider may have spent tokens on it: it answered, or was asked and never said no."""
        if self.exchange is not None or (self.status == "cancelled" and self.sent):
            return True
        return self.error is not None and self.error.worked


def _ending(error: PenstockError) -> Ending:
    """Say what an error tells about the health of its target."""
    match error:
        case UpstreamRateLimited():
            return "limited"
        case UpstreamOverloaded():
            return "failed" if error.status == 503 and error.retry_after_s is None else "limited"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamRejected() | UpstreamAuth() | UpstreamMissing() | UpstreamInvalid() | CallerError() | LimitError():
            return "rejected"
        case UpstreamError():
            return "failed"
        case _:
            return "cancelled"


def name_target(error: PenstockError, target: Target) -> PenstockError:
    """See that an error of a provider says whose it is."""
    if isinstance(error, UpstreamError) and target.id not in error.message:
        error.message = f"{target.id}: {error.message}"
    return error
