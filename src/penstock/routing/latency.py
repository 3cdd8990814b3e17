"""Remembers how long a target takes to its first content, and says what may be expected of it.

The median and the 95th percentile of the last 64 times, worked out anew at every 16th; and two moving averages, whose ratio
shows a target that has become slow of late. What is older than a minute is not believed. Pure; place in the line: one per
target in `health.py`.
"""

from collections import deque
from typing import Final

KEPT: Final = 64
ENOUGH: Final = 20
EVERY: Final = 16
STALE_S: Final = 60.0
SURGE: Final = 3.0
SURGE_S: Final = 1.0
_SHORT: Final = 0.2  # the last five or so
_LONG: Final = 0.01  # the last hundred or so


class Latency:
    """Times to first content of one target, in seconds. `median_s` is theirs, once it is known, however old it is."""

    __slots__ = ("_at", "_count", "_long_s", "_short_s", "_times", "median_s")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._times: deque[float] = deque(maxlen=KEPT)
        self._at = 0.0
        self._count = 0
        self.median_s: float | None = None
        self._short_s = 0.0
        self._long_s = 0.0

    def add(self, ttft_s: float, now: float) -> None:
        """Note one time to first content."""
        count = self._count
        if count == 0 or now - self._at > STALE_S:
            count = 0
            self._times.clear()
            self.median_s = None
            self._short_s = self._long_s = ttft_s
        self._at = now
        self._count = count = count + 1
        self._times.append(ttft_s)
        self._short_s += _SHORT * (ttft_s - self._short_s)
        self._long_s += _LONG * (ttft_s - self._long_s)
        if count >= ENOUGH and count % EVERY == ENOUGH % EVERY:
            self.median_s = sorted(self._times)[len(self._times) // 2]

    def expected_s(self, now: float) -> float | None:
        """Give the time to first content that may be expected; None where too little is known."""
        return self.median_s if now - self._at <= STALE_S else None

    def mean_s(self) -> float | None:
        """Give the mean over a longer time; None without any."""
        return self._long_s if self._count else None

    def has_surged(self) -> bool:
        """Tell whether the last few took three times as long as usual, and more than a second."""
        short = self._short_s
        return short > SURGE_S and short > SURGE * self._long_s and self._count >= ENOUGH

    def quantiles_s(self) -> tuple[float, float] | None:
        """Give the median and the 95th percentile of what is remembered; None without any."""
        times = sorted(self._times)
        return (times[len(times) // 2], times[len(times) * 95 // 100]) if times else None
