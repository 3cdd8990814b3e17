"""Moves settled receipts from the ledger's memory into SQL, a few at a time, so that no call waits long for it.

The more there are, the more often: so that about as many as pay are moved each time, and the loop is never kept for long.
What of the calls' figures waits to be added up is added up on the way.

Place in the line: behind `gateway.py`'s settlement; a timer that runs only while there is something to move.
"""

import asyncio
from collections.abc import Callable

from penstock.ledger.ledger import Ledger

FLUSH_S = 0.05
"""How long a receipt waits where there are few."""
SOON_S = 0.002
"""How long at the least."""
FLUSH_ROWS = 96
"""At once: a transaction costs as much as some twenty rows, and so many keep the loop for less than half a millisecond."""


class Flusher:
    """The timer of one ledger, which is None while nothing is known to wait.

    `add_up` adds up some of the calls' figures that wait for it, and gives how many are left.
    """

    __slots__ = ("_add_up", "_closed", "_pace_s", "ledger", "timer")

    def __init__(self, ledger: Ledger, add_up: Callable[[], int]) -> None:
        self.ledger = ledger
        self._add_up = add_up
        self._pace_s = FLUSH_S
        self.timer: asyncio.TimerHandle | None = None
        self._closed = False

    def soon(self) -> None:
        """Something was settled."""
        if self.timer is None and not self._closed:
            self.timer = asyncio.get_running_loop().call_later(self._pace_s, self._flush)

    def close(self) -> None:
        """Stop; what is left is written when the ledger is closed."""
        self._closed = True
        if self.timer is not None:
            self.timer.cancel()

    def _flush(self) -> None:
        wait_s = SOON_S
        if not self._add_up():  # else rows have to wait a little longer
            wait_s = self._move()
        self.timer = asyncio.get_running_loop().call_later(wait_s, self._flush) if wait_s else None

    def _move(self) -> float:
        """Move some rows; give how long to wait until the next ones, 0 where there are none."""
        before = self.ledger.backlog
        left = self.ledger.flush(FLUSH_ROWS)
        if left >= before:  # the store is stuck
            return FLUSH_S if left else 0
        self._pace_s = max(self._pace_s / 2, SOON_S) if left >= FLUSH_ROWS else min(self._pace_s * 1.25, FLUSH_S)
        return self._pace_s if left else 0
