"""Keeps retries at one target to a tenth of its first tries, and ten: a failing provider is never called much more often.

A bucket of ten tokens that starts full: each first try adds a tenth of one, each retry takes one, and without a token there
is no retry. Counted in tenths, so that no fraction is ever rounded. (Envoy and Finagle call this a retry budget; gRPC's
retry throttling, proposal A6, is its relative.) Pure; place in the line: one per target in `health.py`.
"""

from typing import Final

CAPACITY: Final = 100
_TOKEN: Final = 10
_PER_TRY: Final = 1


class RetryBudget:
    """The bucket; `tenths` is what it holds."""

    __slots__ = ("tenths",)

    def __init__(self) -> None:
        """Begin with a full bucket."""
        self.tenths = CAPACITY

    def earn(self) -> None:
        """Note any try: a retry has paid for what it earns here when it was allowed."""
        if self.tenths < CAPACITY:
            self.tenths += _PER_TRY

    def spend(self) -> bool:
        """Take a token; False if there is none."""
        if self.tenths < _TOKEN:
            return False
        self.tenths -= _TOKEN + _PER_TRY
        return True
