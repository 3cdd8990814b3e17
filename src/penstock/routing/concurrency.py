"""Decides how many tries a target may have at once, from how it takes them: additive increase, multiplicative decrease.

The limit starts at the provider's own. A target that says it is busy is believed at once: the limit goes to what it had
besides, and at most once per round trip the mark up to which the limit may return quickly goes to nine tenths of what the
limit was. One that does not answer in time, or of late too slowly, has the limit go to nine tenths, first to twice what is in
flight, since what lies above was never shown to work. Each answer that begins while at least half of the limit is in use
raises it: below the mark by one, so that it doubles in a round trip, above it by its share of one, at most a quarter. It never
falls below one.
(As TCP does it: slow start and congestion avoidance, RFC 5681; Netflix's concurrency-limits advises AIMD for the calling
side.) Pure; place in the line: one per target in `health.py`.
"""

from math import inf
from typing import Final

BACK_OFF: Final = 0.9
_STEP: Final = 0.25


class AdaptiveLimit:
    """The limit of one target (`most`) and how many tries are in flight there; `cap` is the provider's own limit, its to keep."""

    __slots__ = ("_backed_off_at", "_mark", "in_flight", "most")

    def __init__(self) -> None:
        """Begin at the cap, whatever it is."""
        self.in_flight = 0
        self.most = inf
        self._mark = inf
        self._backed_off_at = -inf

    def limit(self, cap: int) -> int:
        """Give how many may be in flight."""
        return cap if self.most >= cap else int(self.most)

    def grow(self, cap: int) -> None:
        """Note that an answer began well, while its try is still in flight."""
        limit = self.most
        if limit < cap and self.in_flight * 2 >= limit:
            self.most = limit + (1.0 if limit + 1.0 <= self._mark else min(_STEP, 1.0 / limit))

    def refuse(self, now: float, round_trip_s: float, cap: int) -> None:
        """Note that the target took one try less than it got, while that one is still in flight."""
        if now - self._backed_off_at >= round_trip_s:
            self._backed_off_at = now
            self._mark = max(1.0, BACK_OFF * min(self.most, cap))
        self.most = max(1.0, min(self.most, self._mark, self.in_flight - 1.0))

    def back_off(self, now: float, round_trip_s: float, cap: int) -> None:
        """Note that the target has too much to do, while the try that shows it is still in flight."""
        if now - self._backed_off_at >= round_trip_s:
            self._backed_off_at = now
            self.most = self._mark = max(1.0, BACK_OFF * min(self.most, cap, 2.0 * self.in_flight))
