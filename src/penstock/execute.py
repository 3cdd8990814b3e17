"""Drives the tries of one call: the only place that performs what `routing/attempts.py` decides.

It sends, waits, keeps the deadline and looks at the beginning of each reply: a try counts as answered when its first
content is there, not when its status is. Until then nothing has been given out and another try may take over. It never
decides what to try, and never touches money, bytes or dialects.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Generic, Literal, Protocol, TypeVar

from penstock.call import Call
from penstock.errors import BudgetExhausted, DeadlineExceeded, PenstockError, UpstreamError, UpstreamGarbled
from penstock.meter import Meter
from penstock.plugins import Exchange, Provider
from penstock.reply import Chunk
from penstock.routing.attempts import Outcome, Patience, Try, Wait, attempts
from penstock.target import Target

TryStatus = Literal["open", "ok", "error", "cancelled"]


class LiveTry:
    """One try while it lasts: what the `Attempt` row of the receipt is made of. Times are the loop's seconds."""

    __slots__ = ("began", "closed", "ended", "error", "exchange", "first_at", "kind", "meter", "status", "target")

    def __init__(self, move: Try, now: float) -> None:
        self.target: Target = move.target
        self.kind = move.kind
        self.began = now
        self.closed = False
        self.first_at: float | None = None
        self.ended: float | None = None
        self.meter = Meter()
        self.exchange: Exchange | None = None
        self.status: TryStatus = "open"
        self.error: PenstockError | None = None

    def end(self, status: TryStatus, now: float, error: PenstockError | None = None) -> None:
        """Close the try and whatever it still holds; only the first ending counts."""
        if self.status == "open":
            self.status = status
            self.ended = now
            self.error = error
        if self.exchange is not None and not self.closed:
            self.closed = True
            self.exchange.close()

    @property
    def billed(self) -> bool:
        """Whether the provider may have spent tokens on it: it answered, or was asked and never said no."""
        if self.exchange is not None or self.status == "cancelled":
            return True
        return self.error is not None and self.error.worked


class Pursuit(Protocol):
    """A call that is to be answered: its tries are added in the order in which they are made."""

    call: Call
    deadline: float
    tries: list[LiveTry]


P = TypeVar("P", bound=Pursuit)


class Driver(Generic[P]):
    """Makes the tries of calls, at the providers of one configuration."""

    __slots__ = ("_again", "_clock", "_patience", "_providers", "_rng")

    def __init__(
        self,
        providers: Mapping[str, Provider],
        rng: Random,
        clock: Callable[[], float],
        patience: Patience | Mapping[str, Patience],
        again: Callable[[P], None] = lambda _: None,
    ) -> None:
        """Prepare; `again` is asked before a further try of a call of which an earlier one may be billed."""
        self._again = again
        self._providers = providers
        self._rng = rng
        self._clock = clock
        self._patience = patience

    async def run(self, call: P, targets: tuple[Target, ...]) -> tuple[LiveTry, Chunk]:
        """Make tries until one answers; give it with its first chunk, or raise what the caller has to know."""
        moves = attempts(targets, call.deadline, self._rng, self._patience)
        move = next(moves)
        tries = call.tries
        while True:
            if isinstance(move, Wait):
                await asyncio.sleep(move.seconds)
                outcome = Outcome(self._clock())
            else:
                if tries and tries[-1].billed:
                    try:
                        self._again(call)
                    except BudgetExhausted:
                        raise _verdict(tries) from None
                live = LiveTry(move, self._clock())
                tries.append(live)
                try:
                    return live, await self._begin(live, call)
                except PenstockError as error:
                    live.end("error", self._clock(), error)
                    outcome = Outcome(live.ended or 0.0, error)
            try:
                move = moves.send(outcome)
            except StopIteration:
                raise _verdict(tries) from None

    async def _begin(self, live: LiveTry, pursuit: P) -> Chunk:
        """Send, and read until there is content; what came before it (a role, an id) goes along."""
        if live.began >= pursuit.deadline:
            raise DeadlineExceeded("The deadline passed before this target could be tried.")
        provider = self._providers[live.target.provider]
        exchange = live.exchange = await provider.send(pursuit.call, live.target, pursuit.deadline)
        chunk = await exchange.read()
        meter = live.meter
        held: list[Chunk] = []
        while chunk is not None:
            meter.observe(chunk.events)
            if meter.error is not None and not meter.begun:
                raise meter.error
            held.append(chunk)
            if meter.begun:
                live.first_at = self._clock()
                return chunk if len(held) == 1 else _join(held)
            if meter.ended:
                break
            chunk = await exchange.read()
        raise UpstreamGarbled(f"{live.target.id} ended its reply without any content.")


def _verdict(tries: list[LiveTry]) -> PenstockError:
    """Make the one error that stands for all tries: the last one's, telling of the others."""
    last = tries[-1].error
    assert last is not None, "the moves end only after a failed try"
    if len(tries) == 1 or not isinstance(last, UpstreamError) or last.then == "stop":
        return last
    waits = [t.error.retry_after_s for t in tries if t.error is not None and t.error.retry_after_s is not None]
    told = dict.fromkeys(f"{t.target.id}: {t.error.message.rstrip('.')}" for t in tries if t.error is not None)
    return type(last)(
        f"All {len(tries)} tries failed. {'; '.join(told)}.",
        hint=last.hint,
        status=last.status,
        retry_after_s=min(waits, default=None),
    )


def _join(held: list[Chunk]) -> Chunk:
    raw = None if held[-1].raw is None else b"".join(chunk.raw or b"" for chunk in held)
    return Chunk(tuple(event for chunk in held for event in chunk.events), raw)
