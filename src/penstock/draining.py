"""Reads on after the caller has hung up, where a provider's settings want that: so the reply is billed as the provider reports it.

For such a provider the tries and the reads run in tasks of their own, which the end of the caller's task does not end.
It decides nothing about money: `settle` is told when there is no more to read, or the deadline has come. Place in the
line: beside `gateway.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from penstock.errors import ClientClosed, PenstockError
from penstock.inflight import InFlight, LiveTry
from penstock.reply import Chunk
from penstock.target import Target

Run = Callable[[InFlight[Any], tuple[Target, ...]], Coroutine[Any, Any, tuple[LiveTry, Chunk]]]
"""Makes the tries of a call."""


class Drains:
    """The calls that are read to their end without a caller, at these providers. `clock` gives the loop's seconds."""

    def __init__(
        self, providers: frozenset[str], clock: Callable[[], float], settle: Callable[[InFlight[Any]], Any]
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._settle = settle
        self._tasks: set[asyncio.Task[None]] = set()

    async def pursue(self, flight: InFlight[Any], targets: tuple[Target, ...], run: Run) -> tuple[LiveTry, Chunk]:
        """Have a target answer; where a provider wants its replies read to the end, in a task that nobody's leaving ends."""
        if not self._providers or self._providers.isdisjoint([target.provider for target in targets]):
            return await run(flight, targets)
        flight.pursuit = asyncio.get_running_loop().create_task(run(flight, targets))
        return await asyncio.shield(flight.pursuit)

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
