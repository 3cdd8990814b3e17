"""The sweep: how often it comes, on a clock that the test turns."""

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.providers.sweep import Sweep


class Clock:
    """The part of a loop that a sweep uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], Any]) -> "Timer":
        timer = Timer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def turn(self, to: float) -> None:
        while ready := [timer for timer in self.timers if not timer.gone and timer.at <= to + 1e-9]:
            timer = min(ready, key=lambda timer: timer.at)
            timer.gone = True
            self.now = timer.at
            timer.callback()
        self.now = to


class Timer:
    def __init__(self, at: float, callback: Callable[[], Any]) -> None:
        self.at = at
        self.callback = callback
        self.gone = False

    def cancel(self) -> None:
        self.gone = True


class Pond:
    """A pool that only counts how often it was swept."""

    def __init__(self) -> None:
        self.open = 1
        self.busy = True
        self.swept: list[float] = []

    def expire(self, now: float) -> bool:
        self.swept.append(now)
        return self.busy


def test_it_comes_every_25_ms_while_something_is_under_way_and_seldom_otherwise() -> None:
    clock, pond = Clock(), Pond()
    sweep = Sweep(clock)  # type: ignore[arg-type]
    assert sweep.slow
    sweep.watch(pond)
    clock.turn(1.0)
    assert len(pond.swept) == 40
    pond.busy = False
    clock.turn(3.0)
    assert len(pond.swept) == 44
    assert sweep.slow
    pond.busy = True
    sweep.hurry()
    assert not sweep.slow
    clock.turn(3.1)
    assert len(pond.swept) == 48


def test_it_stops_when_there_is_nothing_left_and_starts_again() -> None:
    clock, pond, other = Clock(), Pond(), Pond()
    sweep = Sweep(clock)  # type: ignore[arg-type]
    sweep.watch(pond)
    sweep.watch(other)
    pond.busy, pond.open = False, 0
    clock.turn(0.1)
    assert (len(pond.swept), len(other.swept)) == (1, 4)
    other.busy, other.open = False, 0
    clock.turn(100.0)
    assert len(other.swept) == 5
    assert not [timer for timer in clock.timers if not timer.gone]
    sweep.watch(pond)
    clock.turn(100.1)
    assert len(pond.swept) == 2


async def test_there_is_one_per_loop() -> None:
    loop = asyncio.get_running_loop()
    assert Sweep.of(loop) is Sweep.of(loop)
