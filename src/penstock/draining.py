"""Reads on after the caller has hung up, where a provider's settings want that: so the reply is billed as the provider reports it.

For such a provider the tries and the reads run in tasks of their own, which the end of the caller's task does not end.
It decides nothing about money: `settle` is told when there is no more to read, or the deadline has come. Place in the
line: beside `gateway.py`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from penstock.errors import ClientClosed, PenstockError
from penstock.inflight import InFlight, LiveTry
from penstock.reply import Chunk
from penstock.target import Target

log = logging.getLogger("penstock")

Run = Callable[[InFlight[Any], tuple[Target, ...]], Coroutine[Any, Any, tuple[LiveTry, Chunk]]]
"""Makes the tries of a call."""
Grow = Callable[[InFlight[Any], LiveTry], None]
"""Holds more money for a reply that has passed its meter's limit, or raises a PenstockError."""


class Drains:
    """The calls that are read to their end without a caller, at these providers. `clock` gives the loop's seconds."""

    def __init__(
        self,
        providers: frozenset[str],
        clock: Callable[[], float],
        settle: Callable[[InFlight[Any]], Any],
        grow: Grow = lambda *_: None,
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._settle = settle
        self._grow = grow
        self._tasks: dict[InFlight[Any], asyncio.Task[None]] = {}

    def pursue(self, flight: InFlight[Any], targets: tuple[Target, ...], run: Run) -> Awaitable[tuple[LiveTry, Chunk]]:
        """Have a target answer; where a provider wants its replies read to the end, in a task that nobody's leaving ends."""
        if not self._providers or self._providers.isdisjoint([target.provider for target in targets]):
            return run(flight, targets)
        flight.pursuit = asyncio.get_running_loop().create_task(run(flight, targets))
        return asyncio.shield(flight.pursuit)

    def wants(self, flight: InFlight[Any]) -> bool:
        """Tell whether a call whose caller is gone has to be read to its end."""
        if not self._providers or not flight.tries or not isinstance(flight.error, ClientClosed):
            return False
        last = flight.tries[-1]
        return last.status == "open" and last.target.provider in self._providers

    def begin(self, flight: InFlight[Any]) -> None:
        """Read a call to its end; whoever began it is gone. Once, however often it is called."""
        if flight in self._tasks:
            return
        flight.task, flight.waiting = None, False  # its deadline settles it, and cancels nobody
        task = self._tasks[flight] = asyncio.get_running_loop().create_task(self._drain(flight))
        task.add_done_callback(lambda task: self._ended(flight, task))

    def give_up(self, flight: InFlight[Any]) -> None:
        """End the tries of a call that is not read on."""
        if flight.pursuit is not None:
            flight.pursuit.cancel()

    async def close(self) -> None:
        """Settle what is left, as it is."""
        for task in (tasks := tuple(self._tasks.values())):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, flight: InFlight[Any], task: "asyncio.Task[None]") -> None:
        """Settle a call; not in its task, which may be cancelled before it begins, and then does nothing."""
        del self._tasks[flight]
        self.give_up(flight)
        self._settle(flight)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("call %s failed after its client had gone", flight.id, exc_info=error)

    async def _drain(self, flight: InFlight[Any]) -> None:
        try:
            async with asyncio.timeout(max(0.0, flight.deadline - self._clock())):
                if flight.pursuit is not None:
                    await flight.pursuit
                await self._read(flight)
        except (PenstockError, TimeoutError):
            pass  # what was read until now is what is billed

    async def _read(self, flight: InFlight[Any]) -> None:
        live = flight.tries[-1]
        meter = live.meter
        while live.exchange is not None and not meter.ended and meter.error is None:
            chunk = await live.exchange.read()
            if chunk is None:
                return
            meter.observe(chunk.events)
            if meter.passed > meter.limit and not meter.ended:
                self._grow(flight, live)
