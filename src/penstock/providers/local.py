"""The embedded engine as a provider: `penstock-mini`, or a folder of a small model, in this process.

Calls share each pass through the weights (continuous batching) in a thread of their own; the event loop never waits for a
computation. NumPy and the engine are imported with the first call, or when the gateway warms up. A cancelled call is out of
the batch before the next token. It gives events, never bytes.
"""

import asyncio
import time
from secrets import token_hex

from penstock.call import Call
from penstock.errors import ConfigError, ContextOverflow, Inexpressible, Mistake, PenstockError, UpstreamTimeout
from penstock.plugins import Exchange
from penstock.providers.local_prompt import Order, Piece, order_of
from penstock.providers.worker import Engine, Job, Step, Worker
from penstock.receipt import Lane, Usage
from penstock.reply import Chunk, Ended, Event, Started, UsageReported
from penstock.settings import ProviderSettings
from penstock.target import Target

SLOTS = 8
WAITING = 256


class LocalProvider:
    """One model. Raises ConfigError where its folder is none."""

    dialect = ""

    def __init__(self, settings: ProviderSettings) -> None:
        """Look whether there is a model; it is loaded with the first call."""
        self._settings = settings
        self._worker: Worker[Order, Piece] = Worker(settings.name, self._load, SLOTS + WAITING)
        folder = settings.model
        if folder is not None and not (folder / "config.json").is_file():
            what = f"there is no config.json in {folder}: it is no model folder."
            hint = 'Give a folder as it comes from the Hugging Face hub; for a GGUF file use kind = "llamacpp".'
            raise ConfigError("the configuration", (Mistake(f"providers.{settings.name}.model", what, None, hint),))

    async def send(self, call: Call, target: Target, deadline: float) -> Exchange:
        """Hand the call to the engine and wait for its first token. Raises a CallerError or an UpstreamError."""
        del deadline  # the line keeps it
        order, dropped = order_of(call, target.id)
        if dropped and (call.strict or target.strict):
            raise Inexpressible(
                f"{target.id} cannot express {', '.join(dropped)}.",
                hint="Leave it out, ask another model, or allow that it is left out (strict = false).",
                param=dropped[0],
            )
        exchange = LocalExchange(self._worker, order, target, dropped)
        self._worker.submit(exchange.job)
        try:
            async with asyncio.timeout(self._settings.first_byte_s):
                await exchange.arrival()
        except TimeoutError:
            exchange.close()
            limit = f"{self._settings.first_byte_s:g} s"
            raise UpstreamTimeout(f"{target.id} found no time for the call within {limit}.") from None
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def count(self, call: Call, target: Target, deadline: float) -> int | None:
        """Count a prompt as the model reads it, chat template included; None for one that no window holds."""
        del deadline
        order, _ = order_of(call, target.id)
        try:
            return await self._worker.run(lambda engine: len(engine.prompt(order)))
        except ContextOverflow:
            return None

    async def warm(self) -> None:
        """Load the model, so that the first call need not wait for it. Raises UpstreamMissing where that is not possible."""
        await self._worker.run(lambda _: None)

    async def close(self) -> None:
        """End the thread."""
        await self._worker.close()

    def _load(self) -> Engine[Order, Piece]:
        from penstock.providers.local_engine import LocalEngine

        settings = self._settings
        slots = min(SLOTS, settings.concurrency)
        return LocalEngine(settings.model, slots, settings.context_tokens, settings.threads or 1)


class LocalExchange:
    """One answer while it is made."""

    __slots__ = ("_arrived", "_ended", "_error", "_events", "_input", "_output", "_worker", "dropped", "job")

    lane: Lane = "translated"
    status = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, worker: Worker[Order, Piece], order: Order, target: Target, dropped: tuple[str, ...]) -> None:
        self.dropped = dropped
        self.job: Job[Order, Piece] = Job(order, order.choices, self._told)
        self._worker = worker
        self._events: list[Event] = [Started(f"local-{token_hex(12)}", target.model, int(time.time()))]
        self._arrived: asyncio.Future[None] | None = None
        self._error: PenstockError | None = None
        self._ended = False
        self._input = self._output = 0

    async def arrival(self) -> None:
        """Wait until there is something to read. Raises what ended the answer."""
        while len(self._events) < 2 and self._error is None and not self._ended:
            await self._more()
        if self._error is not None:
            raise self._error

    async def read(self) -> Chunk | None:
        """Give what came since the last read; None after the end. Raises what ended the answer."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            await self._more()
        events, self._events = tuple(self._events), []
        return Chunk(events)

    def close(self) -> None:
        """Stop: nobody waits for the rest."""
        self._worker.cancel(self.job)

    async def _more(self) -> None:
        self._arrived = asyncio.get_running_loop().create_future()
        await self._arrived

    def _told(self, what: list[Step[Piece]] | PenstockError) -> None:
        """Take the next tokens, or the error that ended it."""
        if isinstance(what, PenstockError):
            self._error = what
        else:
            for step in what:
                self._events += step.token.events
                self._input = step.token.prompt_tokens
                self._output += 1
            if self.job.done:
                self._ended = True
                self._events += (UsageReported(Usage(self._input, self._output)), Ended())
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
