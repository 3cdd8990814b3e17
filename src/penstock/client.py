"""Use of penstock as a library: the same line, without a server.

`AsyncGateway` runs on the caller's event loop; `Gateway` is its synchronous twin, on a loop of its own in a thread. Calls
made here leave receipts in the same ledger as calls over HTTP. Nothing here decides about a call: that is the line's
business, and reading what callers pass in is `asked.py`'s.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import aclosing
from functools import partial
from pathlib import Path
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from weakref import finalize

from msgspec import Struct

from penstock.asked import Options, PlanOptions, Prompt, read_call
from penstock.call import Caller, Who
from penstock.config import load
from penstock.gateway import Foresight, start
from penstock.gateway import Gateway as Line
from penstock.receipt import Receipt, Usage
from penstock.reply import Chunk, Event, Failed, Opening, Reply, fold
from penstock.settings import Config
from penstock.target import usd

__all__ = ("Answer", "AsyncGateway", "Gateway", "Options", "Prompt")

T = TypeVar("T")


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


class AsyncGateway:
    """The line on the running event loop.

    >>> async with AsyncGateway() as gateway:  # doctest: +SKIP
    ...     answer = await gateway.ask("Hi", model="fast", feature="demo")

    `config` is the path of a penstock.toml; without it the usual places are searched. Raises ConfigError. One gateway is
    for one event loop; any number of its tasks may call at once.
    """

    def __init__(self, config: str | Path | None = None) -> None:
        """Read the configuration; the ledger and the providers are opened on first use."""
        self._config = load(None if config is None else str(config))
        self._line: Line | None = None
        self._open: dict[AsyncGenerator[Opening | Chunk, None], asyncio.Task[Any] | None] = {}  # and who waits for it
        self._closed = False

    @property
    def config(self) -> Config:
        """The configuration, as it was read."""
        return self._config

    async def ask(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]) -> Answer:
        """Answer as a whole. Options as for `stream`. Raises a PenstockError."""
        events: list[Event] = []
        receipt = None
        async with aclosing(self._chunks(prompt, model, options, stream=False)) as chunks:
            async for chunk in chunks:
                events += chunk.events
                receipt = chunk.receipt
        assert receipt is not None, "the last chunk of every call has its receipt"
        reply = fold(events)
        if reply.error is not None:
            reply.error.call_id = receipt.id
            raise reply.error
        return Answer(reply, receipt)

    async def stream(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Event, None]:
        """Give the events of the answer as they come; see `Options` for what may be said.

        Leaving the loop early cancels the call, at the provider too. Raises a PenstockError, also in the middle.
        """
        async with aclosing(self._chunks(prompt, model, options, stream=True)) as chunks:
            async for chunk in chunks:
                for event in _events(chunk):
                    yield event

    async def chunks(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> AsyncGenerator[Chunk, None]:
        """Give the answer in chunks, each with the events of one moment; the last one has the receipt.

        An answer that breaks off ends with a chunk that has `Failed` among its events. Raises as `stream` does where it
        cannot begin.
        """
        async with aclosing(self._chunks(prompt, model, options, stream=True)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def plan(
        self, prompt: Prompt, *, model: str | None = None, **options: Unpack[Options]
    ) -> Foresight:
        """Say what would be done with a call and what it could cost at most, without calling anyone."""
        line = self._started()
        call, who, caller = read_call(prompt, model or line.default_model, options, stream=False)
        return await line.foresee(call, who, caller)

    async def _chunks(
        self, prompt: Prompt, model: str | None, options: Options, *, stream: bool
    ) -> AsyncGenerator[Chunk, None]:
        line = self._started()
        call, who, caller = read_call(prompt, model or line.default_model, options, stream=stream)
        async with aclosing(line.open(call, who, caller)) as items:
            receipt = None
            while receipt is None:
                item = await self._next(items)
                if isinstance(item, Chunk):
                    receipt = item.receipt
                    yield item

    async def _next(self, items: AsyncGenerator[Opening | Chunk, None]) -> Opening | Chunk:
        """Wait for the next item; `close` may interrupt that, which the caller gets as an error, not as a cancellation."""
        task = asyncio.current_task()
        assert task is not None, "an event loop runs coroutines in tasks"
        self._open[items] = task
        try:
            return await anext(items)
        except asyncio.CancelledError:
            if self._closed and not task.uncancel():
                raise _closed() from None
            raise
        except StopAsyncIteration:
            raise _closed() from None  # only `close` ends a call before its receipt
        finally:
            self._open[items] = None
