"""Keeps the loop awake for a moment while calls come closely one after another: adaptive busy polling.

A loop that sleeps between two events pays for it twice: the processor has to be woken, which takes 30 to 60 us on a virtual
machine, and it comes back with cold caches. Where a call begins shortly after the one before, the next event (its reply, or
the next request) is likely to be as close; so for as long the loop looks at its sockets again and again instead of sleeping.
Where calls come seldom, or their answers take long, it never does. The Linux kernel does the same below us (`haltpoll`, and
`net.core.busy_poll` for network cards).

Place in the line: beside `sessions.py`, which tells it of each turn in which calls began. It reads no socket, and keeps no
other process from a core: each look offers it to them.
"""

import asyncio
from os import sched_yield
from time import monotonic


class BusyPoll:
    """The polling of one loop. `looks` counts how often it has looked."""

    __slots__ = ("_began", "_loop", "_until", "looks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._began = float("-inf")
        self._until: float | None = None  # None: it sleeps where there is nothing to do
        self.looks = 0

    def begun(self, now: float, within_s: float) -> None:
        """Note that calls began at `now` (`time.monotonic`); what comes `within_s` seconds is worth staying awake for."""
        is_close, self._began = now - self._began < within_s, now
        if is_close:
            is_asleep, self._until = self._until is None, now + within_s
            if is_asleep:
                self._loop.call_soon(self._look)

    def _look(self) -> None:
        self.looks += 1
        if self._until is None or monotonic() >= self._until:
            self._until = None
        else:
            sched_yield()
            self._loop.call_soon(self._look)  # and before that the loop looks at its sockets, without waiting
