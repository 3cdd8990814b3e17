"""Keeps the deadlines that nobody else keeps: of a provider that ignores its own, of a caller that does not read on.

One look at the clock every 20 ms, only while there are calls, and at the calls themselves only once the earliest deadline
has come; never a timer per call. It ends nothing itself: `over` says what happens to a call whose time is past. Place in the
line: beside `gateway.py`.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Generic, Protocol, TypeVar

LOOK_S = 0.02


class Timed(Protocol):
    """A call with its deadline, in the loop's seconds; `overdue` is set once, before `over` is told."""

    deadline: float
    overdue: bool


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """The calls that are watched."""

    def __init__(self, clock: Callable[[], float], over: Callable[[T], None]) -> None:
        """Watch by this clock, which is the loop's."""
        self._clock = clock
        self._over = over
        self._calls: set[T] = set()
        self.forget = self._calls.discard
        """Watch a call no more; nothing happens if it never was."""
        self._soonest = inf  # no deadline of a call that is watched comes before it
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: T) -> None:
        """Begin to watch a call, which has its deadline by now."""
        self._calls.add(call)
        if call.deadline < self._soonest:  # noqa: PLR1730 - `min` takes four times as long
            self._soonest = call.deadline
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._clock()
        try:
            if now > self._soonest + LOOK_S:
                self._end(now)
        finally:  # one call that cannot be ended does not leave all others without a deadline
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look) if self._calls else None

    def _end(self, now: float) -> None:
        try:
            for call in [one for one in self._calls if now > one.deadline + LOOK_S and not one.overdue]:
                call.overdue = True
                self._over(call)
        finally:
            self._soonest = min([one.deadline for one in self._calls if not one.overdue], default=inf)
