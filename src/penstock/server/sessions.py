"""The connections of a server as a whole: whose turn it is, when their time is over, and how all of them end.

Calls take turns. In one turn of the loop no more of them are begun than it has time for, `TURN` at most and fewer where
turns grow longer than `TURN_S`; the others stand in line, first come, first served. So a turn stays short however many
clients ask at once, and a probe of the server's health never waits behind them. Where the first in line has waited for
longer than `Limits.line_s` there is more work than can be done: who comes then is turned away, before anything of the
request but its head is looked at, and not too many of them in one turn either.

A call whose head is known, which is nearly every one, begins at the end of the turn that brought it, unless it is alone, together
with all others that begin then. So a turn does one kind of work after another, answers first: that keeps the processor's caches
warm, and a place that an answer has made free can be taken at once.

Ending has two steps: `notice` goes on serving while every reply says that it is the connection's last, so that whoever
watches the readiness of this server can go elsewhere; `drain` listens no more and lets what has begun come to its end.
Knows no socket and no HTTP; `http11` has both.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from penstock.outbox import Outbox
from penstock.server.busy_poll import BusyPoll
from penstock.server.request import DEFAULTS, Limits

TURN: Final = 128
"""Calls begun in one turn of the loop: about ten milliseconds of work."""
TURN_S: Final = 0.02
"""A turn that takes longer is too long: the next one begins half as many calls."""
AWAY: Final = 64
"""Calls turned away in one turn."""
GRACE_S: Final = 1.0
"""In a drain: for a new client's first bytes, and for cancelled handlers to clean up."""


class Closable(Protocol):
    """What listens."""

    def close(self) -> None:
        """Listen no more."""


class Session(Protocol):
    """One client, as far as it is looked after from here."""

    transport: asyncio.Transport

    @property
    def stands(self) -> bool:
        """Whether a request stands in line: its client may have left meanwhile."""

    def turn_away(self) -> None:
        """Refuse the request that stood in line."""

    def check(self, now: float) -> None:
        """End what has taken too long."""

    def notify(self) -> None:
        """Say with the next reply that it is the last one."""

    def retire(self) -> None:
        """Take no request after the ones being read or answered: close at once where there are none."""

    def expel(self) -> bool:
        """End at once; return whether a call was cut."""


class Sessions:
    """Every connection of one server.

    `arrive` has a session taken up at the end of this turn, after what else it brings, or later as for `stand_in_line`.
    """

    def __init__(self, limits: Limits = DEFAULTS) -> None:
        self.limits = limits
        self.in_flight = 0
        self.shed = 0  # calls that were turned away, since there was more work than could be done
        self.now = 0.0  # as of the last sweep
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self.outbox: Outbox
        self._poll: BusyPoll
        self._listeners: Iterable[Closable] = ()
        self._connections: set[Session] = set()
        self._met = 0  # connections so far
        self._line: deque[tuple[float, Session]] = deque()
        self._arrivals: deque[Session] = deque()  # in this turn; they come behind the line at its end
        self._away: deque[Session] = deque()
        self.arrive: Callable[[Session], None] = self._arrive_first
        self._share = TURN  # calls that this turn may begin
        self._begun = 0  # calls that it has begun
        self._since = 0.0  # it began, as far as is known
        self._spent = 0.0  # seconds for which calls were begun at the end of the last one
        self._is_scheduled = False
        self._sweeping = False
        self._empty: asyncio.Future[None] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take up the loop in which all of it runs."""
        self.loop, self.outbox, self._poll = loop, Outbox.of(loop), BusyPoll(loop)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """How many calls stand in line."""
        return len(self._line) + len(self._arrivals)

    # Turns.

    def is_turn(self) -> bool:
        """Return whether a call may begin right now, and count it if so."""
        if self._line or self._arrivals or self._begun >= self._share:
            return False
        self._begun += 1
        if not self._is_scheduled:
            self._since, self._is_scheduled = monotonic() - self._spent, True
            self.loop.call_soon(self._turn)
        return True

    def _arrive_first(self, session: Session) -> None:
        """Do what `arrive` is to do, for the first of a turn; for all others it is nothing but the queue's own."""
        if not self._is_scheduled:
            self._schedule(monotonic() - self._spent)
        self._arrivals.append(session)
        self.arrive = self._arrivals.append

    def stand_in_line(self, session: Session) -> None:
        """Have a session taken up when it is its turn, or `session.turn_away` where there is too much to do."""
        line, now = self._line, monotonic()
        while line and not line[0][1].stands:  # a crowd that has left keeps nobody away
            line.popleft()
        if line and now - line[0][0] > self.limits.line_s:
            self.shed += 1
            self._away.append(session)
        else:
            line.append((now, session))
        if not self._is_scheduled:
            self._schedule(now - self._spent)

    @abstractmethod
    def take_up(self, sessions: Sequence[Any]) -> None:
        """Begin with the requests of these, those whose clients are still there."""

    def _schedule(self, since: float) -> None:
        self._since, self._is_scheduled = since, True
        self.outbox.at_end(self._turn)

    def _turn(self) -> None:
        """Begin the next calls in line; the loop looks at its sockets before it comes back here."""
        line, away, arrivals = self._line, self._away, self._arrivals
        now = monotonic()
        self._poll.begun(now, self.limits.busy_poll_s)
        is_long = now - self._since > TURN_S
        self._share = max(1, self._share // 2) if is_long else min(TURN, self._share + 1)
        self._begun = most = min(self._share, len(line) + len(arrivals))
        try:
            begun = [line.popleft()[1] for _ in range(min(most, len(line)))]
            begun += [arrivals.popleft() for _ in range(most - len(begun))]
            self.take_up(begun)
            while arrivals:
                self.stand_in_line(arrivals.popleft())
            for _ in range(min(AWAY, len(away))):
                away.popleft().turn_away()
        finally:
            self._spent = monotonic() - now
            self._is_scheduled, self.arrive = False, self._arrive_first
            if line or away or arrivals:
                self._schedule(now)

    # Connections come and go.

    def join(self, connection: Session) -> None:
        """Count a connection, and see to it that its deadlines are kept."""
        self._connections.add(connection)
        self._met += 1
        if not self._sweeping:
            self._sweeping = True
            self.now = self.loop.time()
            self.loop.call_later(self.limits.sweep_s, self._sweep)

    def leave(self, connection: Session) -> None:
        """Forget a connection whose transport is closed and whose task has ended."""
        self._connections.discard(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _sweep(self) -> None:
        """Look at every deadline: one timer for all connections."""
        self._sweeping = bool(self._connections)
        if self._sweeping:
            self.now = self.loop.time()
            self.loop.call_later(self.limits.sweep_s, self._sweep)
            for connection in tuple(self._connections):
                connection.check(self.now)

    # The end.

    def notice(self) -> None:
        """Go on serving, and say with every reply that it is the last one of its connection."""
        self.draining = True
        for connection in tuple(self._connections):
            connection.notify()

    async def drain(self, timeout_s: float) -> int:
        """Accept no more, let the calls in flight end, cut the rest after `timeout_s`; return how many were cut."""
        self.draining = True
        if self._listeners:
            met = -1
            while self._met != met:  # what has arrived already, connections and requests, is still taken in
                met = self._met
                for _ in range(2):
                    await asyncio.sleep(0)
            for listener in self._listeners:
                listener.close()
        for connection in tuple(self._connections):
            connection.retire()
        await self._emptied(timeout_s)
        cut = sum([connection.expel() for connection in tuple(self._connections)])
        await self._emptied(GRACE_S)
        for connection in tuple(self._connections):
            connection.transport.abort()
        return cut

    async def close(self) -> None:
        """Stop at once: cancel the calls in flight."""
        await self.drain(0.0)

    async def _emptied(self, timeout_s: float) -> None:
        if self._connections:
            self._empty = self._empty or self.loop.create_future()
            await asyncio.wait([self._empty], timeout=timeout_s)
