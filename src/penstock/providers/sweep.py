"""The sweep: one timer per event loop that ends what has outlived its time, in all its pools.

A send costs no timer of its own: the sweep compares the clock with the limits of every connection and waiter, each 25 ms
while anything is under way, each half second while connections are only kept, and not at all without any. It decides nothing:
the pool knows what is late. It also has the loop's outbox, since there is one of each. Place in the line: `pool.py` asks for it.
"""

import asyncio
from typing import Final, Protocol

from penstock.outbox import Outbox
from penstock.per_loop import PerLoop

_BUSY_S: Final = 0.025
_IDLE_S: Final = 0.5


class Swept(Protocol):
    """A pool, as the sweep sees it."""

    @property
    def open(self) -> int:
        """How many connections there are; without any, the pool needs no sweep."""

    def expire(self, now: float) -> bool:
        """End what is late; tell whether anything is under way."""


class Sweep(PerLoop):
    """The sweep of one event loop."""

    _name = "penstock_sweep"

    __slots__ = ("_loop", "_pools", "_timer", "outbox", "slow", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time = loop.time
        self.outbox = Outbox.of(loop)
        self.slow = True  # or without a timer
        self._loop = loop
        self._pools: set[Swept] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, pool: Swept) -> None:
        """Take a pool in that is about to have a connection or a waiter."""
        self._pools.add(pool)
        if self.slow:
            self.hurry()

    def hurry(self) -> None:
        """Sweep often: something is under way."""
        if self._timer is not None:
            self._timer.cancel()
        self.slow = False
        self._timer = self._loop.call_later(_BUSY_S, self._tick)

    def _tick(self) -> None:
        now = self.time()
        busy = False
        for pool in tuple(self._pools):
            if pool.expire(now):
                busy = True
            elif not pool.open:
                self._pools.discard(pool)
        self.slow = not busy
        self._timer = self._loop.call_later(_BUSY_S if busy else _IDLE_S, self._tick) if self._pools else None
