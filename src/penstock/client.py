"""Use of penstock as a library: the same line, without a server.

`AsyncGateway` runs on the caller's event loop; `Gateway` is its synchronous twin, on a loop of its own in a thread. Calls
made here leave receipts in the same ledger as calls over HTTP. Nothing here decides about a call: that is the line's
business, and reading what callers pass in is that of `arguments.py`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from pathlib import Path
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from weakref import finalize

from msgspec import Struct

from penstock.arguments import Options, Prompt, read_call
from penstock.config import load
from penstock.errors import DeadlineExceeded
from penstock.foresight import Foresight
from penstock.gateway import Gateway as Line
from penstock.gateway import start
from penstock.receipt import Receipt, Usage
from penstock.reply import Chunk, Event, Failed, Opening, Reply, fold
from penstock.settings import Config
from penstock.target import usd

T = TypeVar("T")
Items = AsyncGenerator[Opening | Chunk, None]


class Answer(Struct, frozen=True):
    """A whole reply with its receipt."""

    reply: Reply
    receipt: Receipt

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.reply.choices[0].text if self.reply.choices else ""

    @property
    def usage(self) -> Usage:
        """What all tries of the call used together."""
        return self.receipt.usage

    @property
    def cost_usd(self) -> str | None:
        """Exact dollars as a decimal string; None where the model has no price."""
        return None if self.receipt.cost_nano_usd is None else usd(self.receipt.cost_nano_usd)


class Closed(RuntimeError):
    """The gateway was closed before, or during, the call."""


class AsyncGateway:
    """The line on the running event loop.

    >>> async with AsyncGateway() as gateway:  # doctest: +SKIP
    ...     answer = await gateway.ask("Hi", model="fast", feature="demo")

    `config` is the path of a penstock.toml; without it the usual places are searched. Raises ConfigError. One gateway is
    for one event loop, whose tasks may all call at once. What is said about a call stands in `arguments.Options`.
    """

    def __init__(self, config: str | Path | None = None) -> None:
        """Read the configuration; the ledger and the providers are opened on first use."""
        self._config = load(None if config is None else str(config))
        self._line: Line | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: set[_Call] = set()
        self._closed = False

    @property
    def config(self) -> Config:
        """The configuration as it was read."""
        return self._config

    async def ask(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]) -> Answer:
        """Answer as a whole. Raises a PenstockError."""
        events: list[Event] = []
        receipt = None
        async with aclosing(self._chunks(prompt, model, options, stream=False)) as chunks:
            async for chunk in chunks:
                events += _told(chunk)
                receipt = chunk.receipt
        assert receipt is not None, "the last chunk of every call has its receipt"
        return Answer(fold(events), receipt)

    async def stream(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Give the events of the answer as they come. Raises a PenstockError, also in the middle.

        Whoever stops early cancels the call, at the provider too.
        """
        async with aclosing(self._chunks(prompt, model, options, stream=True)) as chunks:
            async for chunk in chunks:
                for event in _told(chunk):
                    yield event

    async def chunks(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Chunk, None]:
        """Give the answer in chunks: the events of one moment each, the last one with the receipt.

        An answer that breaks off has `Failed` among its last events. Raises a PenstockError where it cannot begin.
        """
        async with aclosing(self._chunks(prompt, model, options, stream=True)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def plan(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]) -> Foresight:
        """Say what would be done with a call and what it could cost at most, without calling anyone."""
        line = self._begun()
        call, who, caller = read_call(prompt, model or line.default_model, options, stream=False)
        return await line.foresee(call, who, caller)

    async def close(self) -> None:
        """End the calls that are still open, as cancelled; write the ledger out; let go of connections."""
        self._closed = True
        for call in list(self._calls):
            await call.end(Closed("The gateway was closed during this call."))
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begun(self) -> Line:
        """Give the line, opened on first use."""
        if self._closed:
            raise Closed("This gateway is closed.")
        loop = asyncio.get_running_loop()
        if self._line is None:
            self._line, self._loop = start(self._config), loop
        if self._loop is not loop:
            raise RuntimeError("This AsyncGateway belongs to another event loop: make one for each, or use Gateway.")
        return self._line

    async def _chunks(
        self, prompt: Prompt, model: str | None, options: Options, *, stream: bool
    ) -> AsyncGenerator[Chunk, None]:
        line = self._begun()
        call, who, caller = read_call(prompt, model or line.default_model, options, stream=stream)
        running = _Call(line.open(call, who, caller))
        self._calls.add(running)
        try:
            receipt = None
            while receipt is None:
                item = await running.next()
                if isinstance(item, Chunk):
                    receipt = item.receipt
                    yield item
        finally:
            await running.end(Closed("The answer is no longer looked at."))
            self._calls.discard(running)


class _Call:
    """One call of the line, in a task of its own that takes a step when it is asked to.

    So whoever looks at the answer may do so from any task, be cancelled there, or look away for long, and none of it
    reaches the line but as the end of the call; and what ends a call in the line cancels nobody else's task.
    """

    def __init__(self, items: Items) -> None:
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[Opening | Chunk] | None = None
        self._why: Exception = DeadlineExceeded("The deadline passed before the answer was read to its end.")
        self._task = asyncio.get_running_loop().create_task(self._run(items))
        self._task.add_done_callback(self._ended)

    async def next(self) -> Opening | Chunk:
        """Wait for the next item. Raises what the line raises, or why the call was ended."""
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.set()
        if self._task.done():
            self._ended(self._task)
        return await self._answer

    async def end(self, why: Exception) -> None:
        """End the call, unless it has ended, and wait for that; `why` is for whoever still asks."""
        if not self._task.done():
            self._why = why
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, items: Items) -> None:
        async with aclosing(items):
            while True:
                await self._asked.wait()
                self._asked.clear()
                item = await anext(items)
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(item)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = self._why if task.cancelled() else task.exception()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or self._why)


class Gateway:
    """The synchronous twin of `AsyncGateway`: the same names, without `await`. Any number of threads may call at once.

    >>> with Gateway("penstock.toml") as gateway:  # doctest: +SKIP
    ...     print(gateway.ask("Hi", model="fast").text)

    One that is never closed closes itself when it is no longer referred to, or when the program ends.
    """

    def __init__(self, config: str | Path | None = None) -> None:
        """Read the configuration; the ledger, the providers and the loop's thread begin on first use."""
        self._gateway = AsyncGateway(config)
        self._thread = _LoopThread(self._gateway)
        self._close = finalize(self, self._thread.end)

    @property
    def config(self) -> Config:
        """The configuration as it was read."""
        return self._gateway.config

    def ask(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]) -> Answer:
        """Answer as a whole; see `AsyncGateway.ask`."""
        return self._thread.run(self._gateway.ask(prompt, model=model, **options))

    def stream(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> Generator[Event, None, None]:
        """Give the events of the answer as they come; see `AsyncGateway.stream`."""
        return self._each(self._gateway.stream(prompt, model=model, **options))

    def chunks(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> Generator[Chunk, None, None]:
        """Give the answer in chunks; see `AsyncGateway.chunks`."""
        return self._each(self._gateway.chunks(prompt, model=model, **options))

    def plan(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]) -> Foresight:
        """Say what would be done with a call; see `AsyncGateway.plan`."""
        return self._thread.run(self._gateway.plan(prompt, model=model, **options))

    def close(self) -> None:
        """End the calls that are still open, as cancelled; write the ledger out; end the loop and its thread."""
        self._close()

    def _each(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        try:
            while True:
                try:
                    item = self._thread.run(_first(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._thread.drop(items)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _LoopThread:
    """The loop of one gateway in a daemon thread, begun on first use, so that a gateway may be made before a fork."""

    def __init__(self, gateway: AsyncGateway) -> None:
        self._gateway = gateway
        self._lock = Lock()
        self._ended = False
        self._thread: Thread | None = None
        self._process = 0
        self._over: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._dropped: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work on the loop and wait for it; an interrupt of the wait cancels the work and waits for its end."""
        outcome: Future[asyncio.Task[T]] = Future()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(outcome.set_result)

        try:
            with self._lock:
                self._begin()
                self._loop.call_soon_threadsafe(begin)
        except BaseException:
            work.close()
            raise
        try:
            task = outcome.result()
        except BaseException:
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 - begun by then, not yet now
            outcome.result()
            raise
        try:
            return task.result()
        except asyncio.CancelledError:
            raise Closed("The gateway was closed during this call.") from None

    def drop(self, items: AsyncGenerator[Any, None]) -> None:
        """Close a generator; at the end of the loop that has been done already."""
        if (
            current_thread() is self._thread
        ):  # the garbage collector runs anywhere, and the loop must not wait for itself
            task = self._loop.create_task(_last(items))
            self._dropped.add(task)
            task.add_done_callback(self._dropped.discard)
            return
        with suppress(Closed):
            self.run(_last(items))

    def end(self) -> None:
        """Close the gateway, then end the loop and the thread. Raises what closing raises."""
        with self._lock:
            self._ended = True
        if self._thread is None or self._process != os.getpid():
            return
        if current_thread() is self._thread:  # see `drop`
            self._stop.set()
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._over.result()

    def _begin(self) -> None:
        """Have the loop running, or raise why there is none."""
        if self._ended:
            raise Closed("This gateway is closed.")
        if self._thread is None:
            begun: Future[None] = Future()
            self._process = os.getpid()
            self._thread = Thread(target=self._live, args=(begun,), name="penstock", daemon=True)
            self._thread.start()
            begun.result()
        elif self._process != os.getpid():
            raise RuntimeError(
                "This gateway was used before the process forked, so its thread is gone: make another one."
            )

    def _live(self, begun: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:  # which cancels what is left, and closes the loop
                runner.run(self._serve(begun))
        except BaseException as error:
            self._over.set_exception(error)
            raise
        else:
            self._over.set_result(None)

    async def _serve(self, begun: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        begun.set_result(None)
        await self._stop.wait()
        await self._gateway.close()


async def _first(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


async def _last(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


def _told(chunk: Chunk) -> tuple[Event, ...]:
    """Give the events of a chunk, or raise what the answer broke off with."""
    for event in chunk.events:
        if isinstance(event, Failed):
            if chunk.receipt is not None:
                event.error.call_id = chunk.receipt.id
            raise event.error
    return chunk.events
