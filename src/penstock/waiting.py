"""Waits: gives a call that has to wait a future, wakes it when its turn comes, and ends its wait when that is too long.

    lobby = Lobby(admission, config.server, clock)
    ticket = await lobby.enter(who, model, call, deadline)     raises RateLimited or Overloaded, with a Retry-After
    if admission.leave(ticket, tokens, now):                   when the call is over;
        lobby.left()                                           wakes whoever waits for its places
    lobby.reload(admission, settings)                          Admission(config, now, before=...); those that wait stay
    lobby.waiting                                              how many wait
    lobby.close()                                              nobody waits any longer

`deadline` and `now` are in the seconds of `clock`, which is the loop's. A caller that cannot wait for the price of a coroutine
tries `admission.try_enter` first. Leave a ticket once.

`Line` is what a lobby is made of, for whatever else has to be waited for, such as a slot at a provider's target:

    line = Line[Target, Slot](bound, clock)
    slot = await line.wait(Claim(targets, flow, priority, latest), expected_s)
    line.wake(give)       give(entry) -> Slot | None, asked in fair order; `entry.claim.needs` are the targets

What `give` returns is the waiter's: it has to be taken by then (a slot entered), since the next entry is asked at once.
Where its waiter is cancelled before it could look, `unclaimed` is called with it.

Which of those that wait is next is decided in `policy/`; nothing here decides. There is one timer per line, none per
call, and nothing runs while nobody waits. Place in the line: beside `gateway.py`.
"""

import asyncio
from collections.abc import Callable, Hashable
from math import ceil, inf
from typing import Any, Generic, TypeVar

from penstock.call import Call, Ticket, Who
from penstock.errors import LimitError, Overloaded
from penstock.policy.admission import Admission
from penstock.policy.queue import Claim, Entry, FairQueue, Full
from penstock.policy.rooms import Room
from penstock.settings import ServerSettings

__all__ = ("Claim", "Entry", "Line", "Lobby")

N = TypeVar("N", bound=Hashable)
R = TypeVar("R")

SOON_S = 0.001
"""A timer that comes a little early is set again for no less."""


def _nothing(_: object) -> None:
    """Whatever was given needs no giving back."""


class Line(Generic[N, R]):
    """A bounded line. `beside` is another one that shares its bound: together they hold no more."""

    def __init__(self, bound: int, clock: Callable[[], float], unclaimed: Callable[[R], None] = _nothing) -> None:
        self.beside: Line[Any, Any] | None = None
        self._clock = clock
        self._unclaimed = unclaimed
        self.queue: FairQueue[N, asyncio.Future[R]] = FairQueue(bound)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self.queue.size

    def waiting_for(self, need: N) -> int:
        """How many wait for one thing."""
        return self.queue.waiting_for(need)

    def ahead(self, need: N, claim: Claim[N]) -> int:
        """How many of those that wait for a thing would be served before a new one."""
        return self.queue.ahead(need, claim)[0]

    async def wait(self, claim: Claim[N], expected_s: float = 0.0) -> R:
        """Wait for one's turn; give what was given.

        Raises Overloaded: at once where the line is full or `expected_s` is too long, later where nothing came in time.
        """
        if self._clock() + expected_s > claim.latest:
            raise self._late(claim, expected_s)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        beside = 0 if self.beside is None else self.beside.waiting
        try:
            entry, dropped = self.queue.push(future, claim, beside)
        except Full:
            raise self._full(expected_s) from None
        if dropped is not None:
            _refuse(dropped, self._full(expected_s))
            self.left()
        self._joined(claim)
        self._arm()
        try:
            return await future
        except asyncio.CancelledError:
            self.queue.remove(entry)
            if future.done() and not future.cancelled() and future.exception() is None:
                self._unclaimed(future.result())
            self.left()
            raise

    def wake(self, give: Callable[[Entry[N, Any]], R | None]) -> None:
        """Give what has become free, in fair order, until `give` has nothing for anybody else."""

        def hand(entry: Entry[N, asyncio.Future[R]]) -> bool:
            future = entry.item
            if future.done():  # cancelled: its waiter is about to notice
                return True
            given = give(entry)
            if given is None:
                return False
            future.set_result(given)
            return True

        self._expire()
        self.queue.serve(hand)
        self._arm()

    def close(self) -> None:
        """Refuse all that wait."""
        for entry in self.queue.entries():
            self.queue.remove(entry)
            _refuse(entry, Overloaded("The gateway is shutting down.", hint="Send the call again.", retry_after_s=1.0))
        self._arm()

    # -- what differs --

    def _late(self, claim: Claim[N], expected_s: float) -> LimitError:  # noqa: ARG002 - a lobby needs it
        """Say that its turn does not come in time."""
        wait_s = max(1, ceil(expected_s))
        return Overloaded(
            "Every target of the model is busy, and none becomes free in time.",
            hint=f"Come again in {wait_s} s.",
            retry_after_s=expected_s or 1.0,
        )

    def _joined(self, claim: Claim[N]) -> None:
        """Somebody waits."""

    def left(self) -> None:
        """Somebody has left the line unserved."""
        self._arm()

    def _due(self) -> float:
        """Say when to look beside the deadlines."""
        return inf

    def _look(self) -> None:
        """Look who has waited too long."""
        self._expire()
        self._arm()

    # -- the same for all --

    def _full(self, expected_s: float) -> LimitError:
        return Overloaded(
            f"{self.queue.bound} calls wait already, which is as many as may ([server] queue).",
            hint="Send the call again later.",
            retry_after_s=max(1.0, expected_s),
        )

    def _expire(self) -> None:
        for entry in self.queue.expire(self._clock()):
            _refuse(entry, self._late(entry.claim, 0.0))

    def _arm(self) -> None:
        """Set the timer for what is due first; one that comes earlier sets it again."""
        at = min(self.queue.next_expiry(), self._due())
        if self._timer is not None:
            if self._timer_at <= at < inf:
                return
            self._timer.cancel()
            self._timer = None
        if at < inf:
            self._timer_at = at
            delay_s = max(SOON_S, at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._rang)

    def _rang(self) -> None:
        self._timer = None
        self._look()


class Lobby(Line[Room, Ticket]):
    """Where calls wait for room at a limit of their key, team, feature or model."""

    def __init__(self, admission: Admission, settings: ServerSettings, clock: Callable[[], float]) -> None:
        super().__init__(settings.queue, clock, self._undo)
        self._admission = admission
        self._queue_s = settings.queue_s
        self._soon: asyncio.Handle | None = None

    async def enter(self, who: Who, model: str, call: Call, deadline: float) -> Ticket:
        """Give a place in every limit that applies, as soon as there is one.

        Raises RateLimited, with the time after which it is worth coming again, where no place is expected in time or
        none came; Overloaded where too many wait already.
        """
        admission, now = self._admission, self._clock()
        ticket = admission.try_enter(who, model, call, now)
        if ticket is not None:
            return ticket
        claim = admission.claim(who, model, call, now, min(deadline, now + self._queue_s))
        return await self.wait(claim, admission.expect(claim, self.queue, now))

    def reload(self, admission: Admission, settings: ServerSettings) -> None:
        """Go on with another admission, which was made of this one; those that wait go on waiting."""
        self._expire()
        now = self._clock()
        self._admission = admission
        self._queue_s = settings.queue_s
        self.queue.bound = settings.queue
        self.queue.refile(lambda entry: admission.renew(entry.claim, now))
        self._look()

    def _undo(self, ticket: Ticket) -> None:
        self._admission.undo(ticket, self._clock())

    def _late(self, claim: Claim[Room], expected_s: float) -> LimitError:  # noqa: ARG002 - foretold by the rooms
        return self._admission.refusal(claim, self.queue, self._clock())

    def _joined(self, claim: Claim[Room]) -> None:
        self._admission.close(claim, self._clock())

    def left(self) -> None:
        """Look soon, once however many leave in the meantime: what they had may let others in."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._look)

    def _due(self) -> float:
        return self._admission.next_at

    def _look(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        admission, now = self._admission, self._clock()
        admission.begin()
        self.wake(lambda entry: admission.give(entry.claim, now))


def _refuse(entry: Entry[Any, asyncio.Future[Any]], error: LimitError) -> None:
    if not entry.item.done():
        entry.item.set_exception(error)
