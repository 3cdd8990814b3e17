"""Reads on after the caller has hung up, where a provider's settings want that: so the reply is billed as the provider reports it.

For such a provider the tries and the reads run in tasks of their own, which the end of the caller's task does not end.
It decides nothing about money: `settle` is told when there is no more to read, or the deadline has come. Place in the
line: beside `gateway.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.errors import ClientClosed, PenstockError
from penstock.inflight import InFlight
from penstock.plugins import Exchange
from penstock.reply import Chunk
from penstock.target import Target


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


class Drains:
    """The calls that are read to their end without a caller, at these providers. `clock` gives the loop's seconds."""

    def __init__(
        self, providers: frozenset[str], clock: Callable[[], float], settle: Callable[[InFlight[Any]], Any]
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._settle = settle
        self._tasks: set[asyncio.Task[None]] = set()

    def may_want(self, targets: tuple[Target, ...]) -> bool:
        """Tell whether a call that goes to these targets may have to be read to its end."""
        return bool(self._providers) and any(target.provider in self._providers for target in targets)

    def wants(self, flight: InFlight[Any]) -> bool:
        """Tell whether a call whose caller is gone has to be read to its end."""
        if not self._providers or not flight.tries or not isinstance(flight.error, ClientClosed):
            return False
        last = flight.tries[-1]
        return last.status == "open" and last.target.provider in self._providers

    def begin(self, flight: InFlight[Any]) -> None:
        """Read a call to its end; whoever began it is gone."""
        flight.task, flight.waiting = None, False  # its deadline settles it, and cancels nobody
        task = asyncio.get_running_loop().create_task(self._drain(flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Settle what is left, as it is."""
        for task in (tasks := tuple(self._tasks)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _drain(self, flight: InFlight[Any]) -> None:
        try:
            async with asyncio.timeout(max(0.0, flight.deadline - self._clock())):
                if flight.pursuit is not None:
                    await flight.pursuit
                await self._read(flight)
        except (PenstockError, TimeoutError):
            pass  # what was read until now is what is billed
        finally:
            if flight.pursuit is not None:
                flight.pursuit.cancel()
            self._settle(flight)

    async def _read(self, flight: InFlight[Any]) -> None:
        live = flight.tries[-1]
        meter = live.meter
        while live.exchange is not None and not meter.ended and meter.error is None:
            chunk = await live.exchange.read()
            if chunk is None:
                return
            meter.observe(chunk.events)


def _forget(task: "asyncio.Task[Chunk | None]") -> None:
    """Have an error that nobody waits for any more not be reported as lost."""
    if not task.cancelled():
        task.exception()
