"""Drives the tries of one call: the only place that performs what `routing/attempts.py` decides.

It sends, waits, keeps the deadline and looks at the beginning of each reply: a try counts as answered when its first
content is there, not when its status is. Until then nothing has been given out and another try may take over. It never
decides what to try, and never touches money, bytes or dialects. Each try takes room at its target, and says when it gives
that back how the target did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from random import Random
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from penstock.call import Call
from penstock.continuation import Continuation
from penstock.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    Overloaded,
    PenstockError,
    UpstreamError,
    UpstreamGarbled,
    UpstreamTimeout,
)
from penstock.live_try import LiveTry, Waiting, name_target
from penstock.meter import Meter
from penstock.plugins import UNSENT, Exchange, Provider
from penstock.reply import Chunk
from penstock.routing.attempts import Move, Outcome, Patience, Try, Wait, attempts
from penstock.routing.health import Health, Slot
from penstock.settings import ProviderSettings
from penstock.shelter import Sheltered
from penstock.target import Target

Arrived = Callable[[], Awaitable[Exchange]]
"""Gives what has come of a try that was begun, or raises what that means."""


class Pursuit(Protocol):
    """A call that is to be answered: its tries are added in the order in which they are made.

    `error` says why nobody waits for it any more; `plan` are all targets that it may go to; `waiting` tells that a provider
    is waited for, rather than the caller.
    """

    call: Call
    deadline: float
    error: PenstockError | None
    plan: tuple[Target, ...]
    tries: list[LiveTry]
    waiting: bool

    @property
    def asked_tokens(self) -> int:
        """How many tokens the call may take, roughly."""
        ...


P = TypeVar("P", bound=Pursuit)
C_contra = TypeVar("C_contra", contravariant=True)


class Rules(Struct, frozen=True):
    """What tries go by: the health of targets, the patience with each provider, and chance for jitter.

    `content_s` is how long each provider may take to its first content while another target stands ready; `sheltered` are
    the providers whose replies are read on when the caller hangs up.
    """

    health: Health
    patience: Mapping[str, Patience]
    rng: Random
    content_s: Mapping[str, float] = MappingProxyType({})
    sheltered: frozenset[str] = frozenset()

    @classmethod
    def of(cls, providers: tuple[ProviderSettings, ...], health: Health, rng: Random) -> "Rules":
        """Say what tries at these providers go by."""
        patience = {p.name: Patience(retries=p.retries) for p in providers}
        content_s = {p.name: p.first_byte_s + p.idle_s for p in providers}
        return cls(health, patience, rng, content_s, frozenset(p.name for p in providers if p.on_disconnect == "drain"))


class Standing(Waiting, Protocol[C_contra]):
    """Where calls stand that wait for room at a target."""

    async def stand(self, call: C_contra, targets: tuple[Target, ...]) -> tuple[Target, Slot]:
        """Wait until one of the targets has room for this call, and take it. Raises Overloaded."""
        ...


class Driver(Generic[P]):
    """Makes the tries of calls, at the providers of one configuration."""

    __slots__ = ("_again", "_clock", "_health", "_line", "_providers", "_rules")

    def __init__(
        self,
        providers: Mapping[str, Provider],
        rules: Rules,
        line: Standing[P],
        clock: Callable[[], float],
        again: Callable[[P], None] = lambda _: None,
    ) -> None:
        """Prepare; `again` is asked before a further try of a call of which an earlier one may be billed."""
        self._again = again
        self._providers = providers
        self._rules, self._health = rules, rules.health
        self._line = line
        self._clock = clock

    async def run(self, call: P, targets: tuple[Target, ...], since: int = 0) -> tuple[LiveTry, Chunk]:
        """Make tries until one answers; give it with its first chunk, or raise what the caller has to know.

        `since` says how many tries a call had before it came here once more, to have a cut answer gone on with.
        """
        now, tries = self._clock(), call.tries
        tried: Outcome | None = None
        if not tries:
            live = self.begin(call, targets, now)
            if live is not None:  # as nearly always: think of nothing else
                try:
                    return live, await (self._begin if len(targets) == 1 else self._begin_soon)(live, call)
                except PenstockError as error:
                    tried = self._failed(live, error)
        return await self._search(
            call, targets, attempts(targets, call.deadline, self._rules, now, since, tried), since
        )

    def begin(self, call: P, targets: tuple[Target, ...], now: float) -> LiveTry | None:
        """Take the room of a first try, as `run` does where the verdict is "go"; None where it is another one."""
        target, health = targets[0], self._health
        calm = health.enter_calm(target, call.deadline - now)
        if calm is not None:
            live = LiveTry(target, "first", now, self._line, None, calm, calm.breaker.began)
        else:
            slot = health.enter_at_once(target, now, call.deadline - now, call.asked_tokens)
            if slot is None:
                return None
            live = LiveTry(target, "first", now, self._line, slot)
        call.tries.append(live)
        return live

    async def go_on(self, call: P, targets: tuple[Target, ...], arrived: Arrived) -> tuple[LiveTry, Chunk]:
        """Do as `run` for a call that has begun its first try: `arrived` gives what came of it."""
        now, live = self._clock(), call.tries[0]
        try:
            return live, await (self._begin if len(targets) == 1 else self._begin_soon)(live, call, arrived)
        except PenstockError as error:
            tried = self._failed(live, error)
        return await self._search(call, targets, attempts(targets, call.deadline, self._rules, now, 0, tried), 0)

    def until(self, targets: tuple[Target, ...], now: float, deadline: float) -> float:
        """Say until when a first try may last: a target is given up earlier while another one stands ready."""
        limit_s = None if len(targets) == 1 else self._rules.content_s.get(targets[0].provider)
        return deadline if limit_s is None else min(deadline, now + limit_s)

    async def _search(
        self, call: P, targets: tuple[Target, ...], moves: Generator[Move, Outcome, None], since: int
    ) -> tuple[LiveTry, Chunk]:
        """Make the moves that are left until one answers."""
        tries = call.tries
        taken: tuple[Target, Slot] | None = None
        refused: PenstockError | None = None
        move = next(moves, None)
        while move is not None and (call.error is None or not tries):  # for whoever is gone, no other try is begun
            if isinstance(move, Try):
                live = self._enter(call, move, taken)
                taken = None
                try:
                    if len(targets) == 1 or len({one.target.id for one in tries[since:]}) == len(targets):
                        return live, await self._begin(live, call)
                    return live, await self._begin_soon(live, call)
                except PenstockError as error:
                    outcome = self._failed(live, error)
            elif isinstance(move, Wait):
                await asyncio.sleep(move.seconds)
                outcome = Outcome(self._clock())
            else:
                try:
                    taken = await self._line.stand(call, move.targets)
                    outcome = Outcome(self._clock(), None, taken[0])
                except PenstockError as error:
                    refused = error
                    outcome = Outcome(self._clock(), error)
            try:
                move = moves.send(outcome)
            except StopIteration:
                move = None
        if taken is not None:
            taken[1].leave(self._clock(), "cancelled")
        raise (_verdict(tries[since:]) if len(tries) > since else refused or _nothing(targets))

    def _failed(self, live: LiveTry, error: PenstockError) -> Outcome:
        """End a try that failed."""
        live.end("error", self._clock(), name_target(error, live.target))
        return Outcome(live.ended or 0.0, error)

    def _enter(self, call: P, move: Try, taken: tuple[Target, Slot] | None) -> LiveTry:
        """Take room at the target, unless the call has it already, and hold the money for a further try."""
        tries, now = call.tries, self._clock()
        if taken is not None and taken[0] is move.target:
            slot = taken[1]
        else:
            slot = self._health.enter(move.target, now, call.asked_tokens)
            if taken is not None:
                taken[1].leave(now, "cancelled")
        if tries and tries[-1].billed:
            try:
                self._again(call)
            except PenstockError as error:
                slot.leave(now, "cancelled")
                raise (_verdict(tries) if isinstance(error, BudgetExhausted) else error) from None
        live = LiveTry(move.target, move.kind, now, self._line, slot)
        tries.append(live)
        return live

    async def resume(self, call: P, error: PenstockError, going_on: Continuation) -> tuple[LiveTry, Chunk] | None:
        """Have another target go on with an answer that was cut; None where none does."""
        cut = call.tries[-1]
        others = tuple(target for target in call.plan if target.id != cut.target.id)
        if not others or error.then == "stop" or cut.meter.finish is not None:
            return None
        cut.end("error", self._clock(), error)
        asked, call.call = call.call, going_on.begin(call.call)
        call.waiting = True
        try:
            return await self.run(call, others, len(call.tries))
        except PenstockError:
            return None
        finally:
            call.call, call.waiting = asked, False

    async def _begin_soon(self, live: LiveTry, pursuit: P, arrived: Arrived | None = None) -> Chunk:
        """Do as `_begin`, but give a target up that only trickles while another one stands ready."""
        limit_s = self._rules.content_s.get(live.target.provider)
        left_s = limit_s if limit_s is None or arrived is None else limit_s - (self._clock() - live.began)
        limit = asyncio.timeout(left_s)
        try:
            async with limit:
                return await self._begin(live, pursuit, arrived)
        except DeadlineExceeded:  # perhaps of the earlier time with which it was sent: see `until`
            if arrived is None or left_s is None or self._clock() >= pursuit.deadline:
                raise
        except TimeoutError:
            if not limit.expired():
                raise
        raise UpstreamTimeout(f"{live.target.id} gave no content within {limit_s:g} s.") from None

    async def _begin(self, live: LiveTry, pursuit: P, arrived: Arrived | None = None) -> Chunk:
        """Send, and read until there is content; what came before it (a role, an id) goes along.

        What was sent already has only to be taken up: `arrived`.
        """
        if live.began >= pursuit.deadline:
            raise DeadlineExceeded("The deadline passed before this target could be tried.")
        try:
            if arrived is not None:
                exchange = live.exchange = await arrived()
            else:
                send = self._providers[live.target.provider].send
                exchange = live.exchange = await send(pursuit.call, live.target, pursuit.deadline)
        except asyncio.CancelledError as why:
            live.sent = UNSENT not in why.args
            raise
        if live.target.provider in self._rules.sheltered:
            exchange = live.exchange = Sheltered(exchange)
        chunk = await exchange.read()
        meter = live.meter = Meter()  # at less cost than where it is made by whoever asks first
        held: list[Chunk] = []
        while chunk is not None:
            meter.observe(chunk.events)
            if meter.begun:
                live.first(self._clock(), streamed=pursuit.call.stream)
                return _join([*held, chunk]) if held else chunk
            if meter.error is not None:
                raise meter.error
            if meter.ended:
                break
            held.append(chunk)
            chunk = await exchange.read()
        raise UpstreamGarbled(f"{live.target.id} ended its reply without any content.")


def _nothing(targets: tuple[Target, ...]) -> PenstockError:
    """Say that no target could even be tried."""
    names = ", ".join(target.id for target in targets)
    return Overloaded(f"There is no room at {names} now.", hint="Come again shortly.", retry_after_s=1.0)


def _verdict(tries: list[LiveTry]) -> PenstockError:
    """Make the one error that stands for all tries: the last one's, telling of the others."""
    last = tries[-1].error
    assert last is not None, "the moves end only after a failed try"
    if len(tries) == 1 or not isinstance(last, UpstreamError) or last.then == "stop":
        return last
    waits = [t.error.retry_after_s for t in tries if t.error is not None and t.error.retry_after_s is not None]
    told = dict.fromkeys(t.error.message.rstrip(".") for t in tries if t.error is not None)
    return type(last)(
        f"All {len(tries)} tries failed. {'; '.join(told)}.",
        hint=last.hint,
        status=last.status,
        retry_after_s=min(waits, default=None),
    )


def _join(held: list[Chunk]) -> Chunk:
    raw = None if held[-1].raw is None else b"".join(chunk.raw or b"" for chunk in held)
    return Chunk(tuple(event for chunk in held for event in chunk.events), raw)
