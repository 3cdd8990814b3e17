"""Moves settled receipts from the ledger's memory into SQL, a few at a time, so that no call waits long for it.

Place in the line: behind `gateway.py`'s settlement; a timer that runs only while there is something to move.
"""

import asyncio

from penstock.ledger.ledger import Ledger

FLUSH_S = 0.05
FLUSH_ROWS = 512  # together: a transaction costs as much as many rows, and rows in order of their calls cost least


class Flusher:
    """The timer of one ledger."""

    __slots__ = ("_closed", "_timer", "ledger")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def soon(self) -> None:
        """Something was settled."""
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def close(self) -> None:
        """Stop; what is left is written when the ledger is closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        backlog = self.ledger.flush(FLUSH_ROWS)
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush) if backlog else None
