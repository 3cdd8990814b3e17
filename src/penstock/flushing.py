"""Moves settled receipts from the ledger's memory into SQL, a few at a time, so that no call waits long for it.

While there are many, the next few follow as soon as other work has had its turn. What of the calls' figures waits to be
added up is added up on the way.

Place in the line: behind `gateway.py`'s settlement; a timer that runs only while there is something to move.
"""

import asyncio
from collections.abc import Callable

from penstock.ledger.ledger import Ledger

FLUSH_S = 0.05
FLUSH_ROWS = 128
"""At once: a transaction costs as much as a few rows, and whoever comes meanwhile waits for half a millisecond at most."""
SOON_S = 0.002
"""Until the next ones, while there are so many."""


class Flusher:
    """The timer of one ledger, which is None while nothing is known to wait.

    `add_up` adds up the calls' figures that wait for it.
    """

    __slots__ = ("_add_up", "_closed", "ledger", "timer")

    def __init__(self, ledger: Ledger, add_up: Callable[[], object]) -> None:
        self.ledger = ledger
        self._add_up = add_up
        self.timer: asyncio.TimerHandle | None = None
        self._closed = False

    def soon(self) -> None:
        """Something was settled."""
        if self.timer is None and not self._closed:
            self.timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def close(self) -> None:
        """Stop; what is left is written when the ledger is closed."""
        self._closed = True
        if self.timer is not None:
            self.timer.cancel()

    def _flush(self) -> None:
        self._add_up()
        before = self.ledger.backlog
        left = self.ledger.flush(FLUSH_ROWS)
        wait_s = SOON_S if FLUSH_ROWS <= left < before else FLUSH_S  # or the store is stuck
        self.timer = asyncio.get_running_loop().call_later(wait_s, self._flush) if left else None
