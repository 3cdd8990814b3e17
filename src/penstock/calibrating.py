"""Learns from the usage that providers report how far estimates are off, and corrects the next ones by it.

Only where a prompt is estimated, since its model's vocabulary is not public: calls to all others pass by one check. Of the
rest some are counted once more after their end, beside the line: a number of calls of each model, then now and then one.
Factors outlive the process; with several workers the one that has seen most of a model is believed.

Place in the line: behind the settlement (`settled`), and before every decision that needs a count (`count`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from penstock.call import Call
from penstock.counting import count_prompt
from penstock.errors import PenstockError
from penstock.inflight import InFlight
from penstock.receipt import Usage
from penstock.target import Target
from penstock.tokens.calibrate import ENOUGH, Factor, corrected, observe
from penstock.tokens.count import CallCount, Count, is_ready

BEGIN = 20
"""Calls of a model from which nothing is learnt, unless the vocabulary for it is loaded already: it takes 40 MB."""

FIRST = 50
"""Calls of a model that are then all learnt from."""

EVERY = 20
"""From then on one in so many is."""

PACE_S = 1.0
"""And no two within so many seconds: counting takes longer than the rest of a call."""

WAITING = 32
"""Calls that wait to be counted at most; more are not learnt from."""

LONGEST_BYTES = 262_144
"""Longer prompts are not counted a second time."""

INLINE_BYTES = 2_048
"""Longer prompts are counted beside the loop: nobody waits for this."""

SAVE_S = 60.0
"""Seconds between two writings of what was learnt."""

WITH_TOOLS = "+tools"
"""Prompts with tools have a factor of their own: what a provider puts before its tools is a part of the prompt."""

Row = tuple[str, int, float, float]
"""What is kept of a model: its key, how many reports were seen, mean and variance (see `Factor`)."""


class Calibration:
    """The factors of all models. `read` gives what is kept, `write` keeps rows; both may raise a PenstockError."""

    def __init__(self, read: Callable[[], Iterable[Sequence[object]]], write: Callable[[Sequence[Row]], None]) -> None:
        self._read, self._write = read, write
        self._factors: dict[str, Factor] = {}
        self._met: dict[str, int] = {}  # calls of each target that could have been learnt from
        self._next_at: dict[str, float] = {}  # when to learn from a target's calls again
        self._queue: deque[tuple[Call, Target, int]] = deque()
        self._work: asyncio.Task[None] | None = None
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._adopt()

    def observe(self, call: Call, target: Target, usage: Usage | None, now: float) -> None:
        """Take in what a provider reported for a call, or what was counted in its place, which teaches nothing.

        `now` is the loop's seconds.
        """
        if now < self._next_at.get(target.id, now) or target.profile.tokenizer is not None:
            return
        if usage is None or usage.source != "provider" or target.free or self._closed:
            return
        met = self._met[target.id] = self._met.get(target.id, 0) + 1
        if (met > BEGIN + FIRST and met % EVERY) or (met <= BEGIN and not is_ready(target.profile)):
            return
        size = call.input_bound or len(call.raw)
        if size > LONGEST_BYTES or call.native or call.operation != "generate" or len(self._queue) >= WAITING:
            return
        if met > BEGIN + FIRST:
            self._next_at[target.id] = now + PACE_S
        self._queue.append((call, target, usage.input_tokens))
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._learn())

    def settled(self, flight: InFlight[Any], now: float) -> None:
        """Take in what was reported for the tries of a call that is over. What was gone on with has not the prompt of the call."""
        if flight.continues:
            return
        for live in flight.tries:
            target = live.target
            if target.profile.tokenizer is None and now >= self._next_at.get(target.id, now):
                self.observe(flight.call, target, live.meter.usage, now)

    def next_at(self, target: Target) -> float:
        """Say from when on a call of a target may teach something, in the loop's seconds."""
        if target.free or target.profile.tokenizer is not None:
            return inf
        return self._next_at.get(target.id, -inf)

    def corrected(self, count: Count, target: Target) -> Count:
        """Apply what is known of a target to an estimate; other counts stay as they are."""
        if count.certainty != "estimated" or target.profile.tokenizer is not None:
            return count
        factor = self._factor(count, target)
        return count if factor is None else corrected(count, factor)

    async def count(self, call: Call, target: Target) -> Count:
        """Count a prompt for a target, as well as it is known."""
        return self.corrected(await count_prompt(call, target.profile), target)

    def close(self) -> None:
        """Keep what was learnt, and learn no more."""
        self._closed = True
        self._queue.clear()
        for pending in (self._work, self._timer):
            if pending is not None:
                pending.cancel()
        self._save()

    def _factor(self, count: Count, target: Target) -> Factor | None:
        """Find what is known; where prompts with tools have not been seen often enough, those without stand in."""
        factor = self._factors.get(_key(count, target))
        return self._factors.get(target.id) if factor is None or factor.seen < ENOUGH else factor

    async def _learn(self) -> None:
        while self._queue:
            call, target, reported = self._queue.popleft()
            try:
                count = await count_prompt(call, target.profile, INLINE_BYTES)
            except PenstockError:  # a body that was passed on unread, and cannot be read
                continue
            await asyncio.sleep(0)
            if isinstance(count, CallCount) and not (count.buckets.images.n or count.buckets.files.n):
                self._take_in(_key(count, target), count.n, reported)

    def _take_in(self, key: str, estimated: int, reported: int) -> None:
        before = self._factors.get(key, Factor())
        after = observe(before, estimated, reported)
        if after is before:
            return
        self._factors[key] = after
        self._changed.add(key)
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(SAVE_S, self._save)

    def _save(self) -> None:
        """Keep what this process knows best, and take over what another one knows better."""
        self._timer = None
        if not self._changed or not self._adopt():
            return
        known = [(key, self._factors[key]) for key in sorted(self._changed)]
        if not known:
            return
        try:
            self._write([(key, factor.seen, factor.mean, factor.variance) for key, factor in known])
        except PenstockError:  # busy, or the disk is full: the next report asks again
            return
        self._changed.clear()

    def _adopt(self) -> bool:
        """Take over every factor that has seen more than the own one; give whether what is kept could be read."""
        try:
            rows = list(self._read())
        except PenstockError:
            return False
        for row in rows:
            kept = _factor_of(row)
            if kept is None:
                continue
            key, factor = kept
            mine = self._factors.get(key)
            if mine is None or factor.seen > mine.seen:
                self._factors[key] = factor
                self._changed.discard(key)
        return True


def _key(count: Count, target: Target) -> str:
    has_tools = isinstance(count, CallCount) and bool(count.buckets.tools.n)
    return target.id + WITH_TOOLS if has_tools else target.id


def _factor_of(row: Sequence[object]) -> tuple[str, Factor] | None:
    """Read a row; None where it makes no sense, as a hand may have written it."""
    match tuple(row):
        case (str(key), int(seen), float(mean), float(variance)) if seen > 0 and abs(mean) <= 2 and 0 < variance <= 4:
            return key, Factor(seen, mean, variance)
        case _:
            return None
