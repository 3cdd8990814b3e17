"""Use of penstock as a library: the same line, without a server.

`AsyncGateway` runs on the caller's event loop, `Gateway` is its synchronous twin on a loop of its own in a thread; both are
the same few lines over `penstock.gateway`. Calls made here leave receipts in the same ledger as calls over HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct, convert

from penstock.call import Call, Caller, Content, Message, Sampling, Text, Who
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.gateway import Foresight, start
from penstock.gateway import Gateway as Line
from penstock.receipt import Receipt, Usage
from penstock.reply import Chunk, Event, Failed, Reply, fold
from penstock.target import usd

Prompt = str | Sequence[Message | Mapping[str, str]]
"""One user's text, or messages: `Message` values or `{"role": ..., "content": text}`."""

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

    `config` is the path of a penstock.toml; without it the usual places are searched. Raises ConfigError.
    """

    def __init__(self, config: str | Path | None = None) -> None:
        """Read the configuration; the ledger and the providers are opened on first use."""
        self._config = load(None if config is None else str(config))
        self._line: Line | None = None

    async def ask(self, prompt: Prompt, *, model: str | None = None, **options: Any) -> Answer:
        """Answer as a whole. Options as for `stream`. Raises a PenstockError."""
        events: list[Event] = []
        receipt = None
        async for chunk in self.chunks(prompt, model=model, stream=False, **options):
            events += chunk.events
            receipt = chunk.receipt
        reply = fold(events)
        if reply.error is not None:
            raise reply.error
        assert receipt is not None, "the last chunk of every call has its receipt"
        return Answer(reply, receipt)

    async def stream(self, prompt: Prompt, *, model: str | None = None, **options: Any) -> AsyncGenerator[Event, None]:
        """Give the events of the answer as they come.

        Options: `system` (text before the prompt), `feature`, `user`, `session`, `deadline_s`, and the fields of
        `Sampling` (`temperature`, `max_tokens`, `seed`, `stop` ...). Raises a PenstockError, also in the middle.
        """
        async with aclosing(self.chunks(prompt, model=model, stream=True, **options)) as chunks:
            async for chunk in chunks:
                for event in chunk.events:
                    if isinstance(event, Failed):
                        raise event.error
                    yield event

    async def chunks(
        self, prompt: Prompt, *, model: str | None = None, stream: bool = True, **options: Any
    ) -> AsyncGenerator[Chunk, None]:
        """Give the chunks of the answer; the last one has the receipt."""
        line = self.line()
        call, caller = _call(prompt, model or line.default_model, options, stream=stream)
        async with aclosing(line.open(call, Who(admin=True), caller)) as items:
            async for item in items:
                if isinstance(item, Chunk):
                    yield item

    async def plan(
        self, prompt: Prompt, *, model: str | None = None, team: str | None = None, **options: Any
    ) -> Foresight:
        """Say what would be done with a call and what it could cost at most, without calling anyone."""
        line = self.line()
        call, caller = _call(prompt, model or line.default_model, options, stream=False)
        return await line.foresee(call, Who(team=team, admin=True), caller)

    def line(self) -> Line:
        """Give the line itself, opened on first use."""
        if self._line is None:
            self._line = start(self._config)
        return self._line

    async def close(self) -> None:
        """Write the ledger out and let go of connections."""
        if self._line is not None:
            await self._line.close()
            self._line = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Gateway:
    """The synchronous twin of `AsyncGateway`: the same names, without `await`."""

    def __init__(self, config: str | Path | None = None) -> None:
        """Read the configuration, and start the loop that calls run on."""
        self._gateway = AsyncGateway(config)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="penstock", daemon=True)
        self._thread.start()

    def ask(self, prompt: Prompt, *, model: str | None = None, **options: Any) -> Answer:
        """Answer as a whole; see `AsyncGateway.ask`."""
        return self._run(self._gateway.ask(prompt, model=model, **options))

    def stream(self, prompt: Prompt, *, model: str | None = None, **options: Any) -> Iterator[Event]:
        """Give the events of the answer as they come; see `AsyncGateway.stream`."""
        return self._each(self._gateway.stream(prompt, model=model, **options))

    def chunks(self, prompt: Prompt, *, model: str | None = None, **options: Any) -> Iterator[Chunk]:
        """Give the chunks of the answer; see `AsyncGateway.chunks`."""
        return self._each(self._gateway.chunks(prompt, model=model, **options))

    def close(self) -> None:
        """Write the ledger out and end the loop."""
        if self._loop.is_closed():
            return
        self._run(self._gateway.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._run(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            self._run(items.aclose())

    def _run(self, work: Awaitable[T]) -> T:
        return asyncio.run_coroutine_threadsafe(_await(work), self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _await(work: Awaitable[T]) -> T:
    return await work


def _call(prompt: Prompt, model: str, options: dict[str, Any], *, stream: bool) -> tuple[Call, Caller]:
    """Make a call of the library's arguments."""
    options = {name: value for name, value in options.items() if value is not None}
    system = options.pop("system", None)
    caller = Caller(**{name: options.pop(name) for name in _CALLER & options.keys()})
    unknown = options.keys() - set(Sampling.__struct_fields__)
    if unknown:
        raise InvalidRequest(f"There is no option {min(unknown)!r}.", hint="See AsyncGateway.stream.")
    stop = options.get("stop")
    if isinstance(stop, str):
        options["stop"] = (stop,)
    messages = tuple(_messages(prompt))
    if system is not None:
        messages = (Message("system", (Text(system),)), *messages)
    content = Content(messages)
    bound = sum(len(part.text.encode()) for message in messages for part in message.parts if isinstance(part, Text))
    call = Call(
        dialect="",
        model=model,
        sampling=Sampling(**options),
        read=lambda: content,
        stream=stream,
        stream_usage=True,
        input_bound=bound + 16 * len(messages),
    )
    return call, caller


_CALLER = frozenset({"feature", "user", "session", "deadline_s"})


def _messages(prompt: Prompt) -> Iterator[Message]:
    if isinstance(prompt, str):
        yield Message("user", (Text(prompt),))
        return
    for item in prompt:
        if isinstance(item, Message):
            yield item
        else:
            yield convert({"role": item["role"], "parts": [{"type": "text", "text": item["content"]}]}, Message)
