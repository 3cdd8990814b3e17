"""One try of a call at one target, while it lasts: what the row of the receipt is made of, and what it says of its target.

It holds the target's room and the exchange, and lets go of both once. Place in the line: `execute.py` makes tries, `inflight.py`
writes them down.
"""

import logging
from functools import cached_property
from typing import Literal, Protocol

from msgspec import Struct

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
from penstock.routing.attempts import Kind
from penstock.routing.known import Ending, Known, Slot
from penstock.target import Target

TryStatus = Literal["open", "ok", "error", "cancelled"]

log = logging.getLogger("penstock")

SILENT_S = 10.0
"""A target that said nothing for so long is at fault, even if the caller's deadline was shorter than its own limit."""
BYTES_PER_TOKEN = 4


class Crowd(Protocol):
    """Those who wait: how many there are."""

    size: int


class Waiting(Protocol):
    """Where calls wait for room at a target."""

    @property
    def queue(self) -> Crowd:
        """Who waits there."""
        ...

    def move(self) -> None:
        """Let go whoever has room now."""
        ...


class LiveTry(Struct, eq=False, dict=True):
    """One try while it lasts: what the `Attempt` row of the receipt is made of. Times are the loop's seconds.

    Its room at the target is a slot, or one that it took without (`_calm`, as the `_number`-th try there). `_line` is told when
    that is given back.
    """

    target: Target
    kind: Kind
    began: float
    _line: Waiting | None = None
    _slot: Slot | None = None
    _calm: Known | None = None
    _number: int = 0
    _ending: TryStatus = "ok"
    exchange: Exchange | None = None
    told: Told | None = None  # the whole reply, where it was one of which nothing is unusual
    first_at: float | None = None
    ended: float | None = None
    error: PenstockError | None = None
    closed: bool = False
    sent: bool = True

    __repr__ = object.__repr__  # shows no content

    @cached_property
    def meter(self) -> Meter:
        """What has been seen of the reply; of one that `told` all of itself it is made once somebody asks."""
        return Meter.of(self.told)

    @property
    def status(self) -> TryStatus:
        """How it ended, if it has."""
        return "open" if self.ended is None else self._ending

    def first(self, now: float, *, streamed: bool) -> None:
        """Note that the first content is there; that of a whole reply says nothing of how soon a stream would begin."""
        self.first_at = now
        if streamed and (slot := self._taken()) is not None:
            slot.first(now)

    def end(self, status: TryStatus, now: float, error: PenstockError | None = None) -> None:
        """Close the try and whatever it still holds; only the first ending counts."""
        if self.ended is None:
            self.ended = now
            calm, line = self._calm, self._line
            if calm is None or status != "ok" or not calm.answered(self.began, self._number, now):
                self._ending = status
                self._leave(now, error)
            if line is not None and line.queue.size:
                line.move()
        if self.told is None and self.exchange is not None and not self.closed:  # who told all holds nothing any more
            self.closed = True
            self.exchange.close()

    def _taken(self) -> Slot | None:
        """Give the slot; a try that began without one has it from now on."""
        if self._calm is not None:
            self._slot, self._calm = self._calm.slot(self.began, self._number), None
        return self._slot

    def _leave(self, now: float, error: PenstockError | None) -> None:
        """Give the room at the target back, and say how the target did."""
        self.error = error
        slot = self._taken()
        if slot is None:
            return
        usage = self.meter.usage if self.told is None else self.told
        after_s = None if error is None else error.retry_after_s
        out = self.meter.passed // BYTES_PER_TOKEN if usage is None else usage.output_tokens
        used = out if usage is None else out + usage.input_tokens
        if slot.leave(now, self._says(now, error), out, used, after_s):
            log.warning("%s is left alone for now, its breaker is open: %s", self.target.id, error or "it is slow")

    def _says(self, now: float, error: PenstockError | None) -> Ending:
        ending = self._ending
        if ending == "ok" or ending == "cancelled":  # noqa: PLR1714 - narrower for the types
            return ending
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
