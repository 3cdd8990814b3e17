"""Reads of a reply that the end of the caller's task does not end.

Place in the line: around the exchanges of providers whose replies are read to the end even if the caller hangs up
(`draining.py`). It reads ahead by at most one chunk and keeps nothing else.
"""

import asyncio

from penstock.plugins import Exchange
from penstock.reply import Chunk


class Sheltered:
    """An exchange whose reads are not cancelled with whoever waits for them."""

    __slots__ = ("_exchange", "_reading", "dropped", "headers", "lane", "status")

    def __init__(self, exchange: Exchange) -> None:
        self.lane = exchange.lane
        self.dropped = exchange.dropped
        self.status = exchange.status
        self.headers = exchange.headers
        self._exchange = exchange
        self._reading: asyncio.Task[Chunk | None] | None = None

    async def read(self) -> Chunk | None:
        """Give what arrived since the last read that was waited for to its end."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())
        chunk = await asyncio.shield(self._reading)
        self._reading = None
        return chunk

    def close(self) -> None:
        """Close the exchange at once."""
        if self._reading is not None:
            self._reading.add_done_callback(_forget)
            self._reading.cancel()
        self._exchange.close()

    async def _read(self) -> Chunk | None:
        return await self._exchange.read()


def _forget(task: "asyncio.Task[Chunk | None]") -> None:
    """Have an error that nobody waits for any more not be reported as lost."""
    if not task.cancelled():
        task.exception()
