"""How long tries hold their place, on average: each counts for a tenth of the mean when it is added.

The mean is worked out when somebody asks, which only those do who have to wait. Until then the latest times are kept; what came
before these would count for less than a float can tell. Pure; place in the line: one per target and one per provider.
"""

from collections import deque
from typing import Final

HELD_S: Final = 1.0
"""How long a try is taken to hold its place, until one has shown it."""
KEPT: Final = 360
"""The weight of what came before so many is below 1e-16."""
_WEIGHT: Final = 0.1


class HeldTime:
    """The mean time. `add` takes the seconds for which one more try held its place."""

    __slots__ = ("_latest", "_mean_s", "add")

    def __init__(self) -> None:
        """Begin with what a try is taken to hold."""
        self._mean_s = HELD_S
        self._latest: deque[float] = deque(maxlen=KEPT)
        self.add = self._latest.append

    def mean_s(self) -> float:
        """Give the mean of all that were added."""
        mean_s, latest = self._mean_s, self._latest
        for held_s in latest:
            mean_s += _WEIGHT * (held_s - mean_s)
        latest.clear()
        self._mean_s = mean_s
        return mean_s
