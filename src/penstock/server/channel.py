"""What a supervisor and its workers say to one another, over two pipes each.

Orders go down; news, questions and answers go both ways. A message is its length (4 bytes) and MessagePack. Neither side
ever waits for the other: what a pipe does not take is kept and sent later. Closing is a message too: whoever reads the
end of a pipe knows that the other process is gone. Decides nothing; `workers` has the supervisor, `serving` the worker.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from penstock.errors import Mistake

_READ_BYTES: Final = 65_536
_ANSWER_S: Final = 60.0

What = Literal["metrics", "health", "reload"]


class Ready(Struct, frozen=True, tag=True):
    """The worker answers calls."""


class Failed(Struct, frozen=True, tag=True):
    """The worker cannot serve, and ends: the mistakes of its configuration, or words."""

    source: str
    mistakes: tuple[Mistake, ...]
    message: str


class Order(Struct, frozen=True, tag=True):
    """What the worker has to do: say that the server serves; end, soon or at once."""

    what: Literal["announce", "drain", "end"]
    patient: bool = False


class Ask(Struct, frozen=True, tag=True):
    """A question; the answer has its number."""

    number: int
    what: What


class Answer(Struct, frozen=True, tag=True):
    """The answer to a question, in the form that the question asks for."""

    number: int
    data: bytes


Message = Ready | Failed | Order | Ask | Answer


class Pipe:
    """One side of a channel, on file descriptors that do not block. Not to be shared between threads."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads = reads
        self.writes = writes
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
        os.set_blocking(reads, False)
        os.set_blocking(writes, False)

    def receive(self) -> list[Message] | None:
        """Give what has come; None where the other side is gone."""
        while True:
            try:
                data = os.read(self.reads, _READ_BYTES)
            except BlockingIOError:
                return self._complete()
            if not data:
                return None
            self._inbox += data

    def _complete(self) -> list[Message]:
        found: list[Message] = []
        inbox = self._inbox
        while len(inbox) >= 4 and len(inbox) - 4 >= (size := int.from_bytes(inbox[:4], "big")):
            found.append(self._decoder.decode(inbox[4 : 4 + size]))
            del inbox[: 4 + size]
        return found

    def send(self, message: Message) -> bool:
        """Send a message; return whether something is left to be sent with `flush`."""
        data = msgspec.msgpack.encode(message)
        self._outbox += len(data).to_bytes(4, "big") + data
        return self.flush()

    def flush(self) -> bool:
        """Send what is left; return whether there still is something."""
        try:
            while self._outbox:
                del self._outbox[: os.write(self.writes, self._outbox)]
        except BlockingIOError:
            return True
        except BrokenPipeError:  # reading tells as well that the other side is gone
            self._outbox.clear()
        return False

    def close(self) -> None:
        """Let go of both pipes."""
        os.close(self.reads)
        os.close(self.writes)


class Worker:
    """A worker as its supervisor sees it. `generation` tells which configuration it holds."""

    def __init__(self, number: int, pid: int, pipe: Pipe, generation: int) -> None:
        self.number = number
        self.pid = pid
        self.pipe = pipe
        self.generation = generation
        self.began = monotonic()
        self.ready = False


class Channel:
    """A worker's side, on its loop. `number` is the worker's, from 1 on."""

    def __init__(self, number: int, pipe: Pipe) -> None:
        self.number = number
        self._pipe = pipe
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, obey: Callable[[Order | None], None], answer: Callable[[What], Awaitable[bytes]]) -> None:
        """Say that the worker is ready, and listen: `obey` gets orders, and None once the supervisor is gone."""
        self._obey = obey
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pipe.reads, self._readable)
        self._send(Ready())

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._pipe.reads)
        self._loop.remove_writer(self._pipe.writes)
        for task in self._tasks:
            task.cancel()

    async def ask(self, what: What) -> bytes:
        """Ask the supervisor; TimeoutError where it does not answer."""
        number = next(self._numbers)
        self._asked[number] = self._loop.create_future()
        self._send(Ask(number, what))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._asked[number]
        finally:
            del self._asked[number]

    async def gather(self, what: What) -> Mapping[int, bytes]:
        """Ask every worker, this one included; give their answers by their numbers."""
        return msgspec.msgpack.decode(await self.ask(what), type=dict[int, bytes])

    def _send(self, message: Message) -> None:
        if self._pipe.send(message):
            self._loop.add_writer(self._pipe.writes, self._writable)

    def _writable(self) -> None:
        if not self._pipe.flush():
            self._loop.remove_writer(self._pipe.writes)

    def _readable(self) -> None:
        messages = self._pipe.receive()
        if messages is None:
            self._loop.remove_reader(self._pipe.reads)
            self._obey(None)
            return
        for message in messages:
            match message:
                case Order():
                    self._obey(message)
                case Answer() if message.number in self._asked and not self._asked[message.number].done():
                    self._asked[message.number].set_result(message.data)
                case Ask():
                    self._track(self._reply(message))
                case _:
                    pass  # an answer that nobody waits for any more

    def _track(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, ask: Ask) -> None:
        self._send(Answer(ask.number, await self._answer(ask.what)))


def tell(pipe: Pipe, message: Message) -> None:
    """Send a last message before the process ends, however long the pipe takes."""
    os.set_blocking(pipe.writes, True)
    with suppress(OSError):
        pipe.send(message)
