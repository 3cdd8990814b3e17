"""Keeps to so many a minute of a provider: requests, or tokens.

A token bucket that starts full and is refilled evenly, as OpenAI and Anthropic describe their own limits. The real number of
tokens is known only at the end of a try, so a bucket may go into debt. Pure; place in the line: one or two per provider in
`health.py`.
"""

from typing import Final

_ROUNDING: Final = 1e-9


class Rate:
    """One bucket of `per_minute`. `level` is what may be taken now; it may be negative."""

    __slots__ = ("_at", "_capacity", "_per_s", "level")

    def __init__(self, per_minute: int, now: float) -> None:
        """Begin with a full bucket."""
        self._capacity = float(per_minute)
        self._per_s = per_minute / 60.0
        self._at = now
        self.level = self._capacity

    def wait_s(self, now: float, amount: float = 1.0) -> float:
        """Give the seconds until so much is there: 0.0 for now. More than the bucket holds needs a full one."""
        if now > self._at:
            self.level = min(self._capacity, self.level + (now - self._at) * self._per_s)
            self._at = now
        missing = min(amount, self._capacity) - self.level
        return missing / self._per_s if missing > _ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take so much, whether it is there or not; a negative amount gives it back."""
        self.level -= amount

    def change(self, per_minute: int, now: float) -> None:
        """Go on with another limit: what is left stays left, up to what the new bucket holds."""
        self.wait_s(now)
        self._capacity = float(per_minute)
        self._per_s = per_minute / 60.0
        self.level = min(self.level, self._capacity)
