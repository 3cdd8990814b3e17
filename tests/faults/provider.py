"""A provider on loopback that fails as it is told: raw asyncio, no HTTP library, three dialects, streamed and not.

A test says what a call meets: with a mark in its prompt (`fault=reset_in_head`), or in a queue that is used up call by call;
else it is answered. Every call is kept with its times: when it came, when its first byte of content went out, when its
peer closed. What the faults are stands in `faults.py`, what an answer looks like in `replies.py`.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from ssl import SSLContext
from typing import Any

RESET = struct.pack("ii", 1, 0)
MARK = re.compile(rb"fault=([a-z0-9_]+)")
DIALECTS = {"/v1/chat/completions": "chat", "/v1/messages": "messages", "/v1/responses": "responses"}


class GoneError(Exception):
    """The peer has closed: nothing more can be said to it."""


class Heard:
    """One call as the provider saw it; times are the loop's seconds."""

    __slots__ = ("at", "body", "closed_at", "content_at", "dialect", "fault", "head", "number", "path", "stream")

    def __init__(self, number: int, head: bytes, body: bytes, at: float) -> None:
        self.number = number
        self.head = head
        self.body = body
        self.at = at
        self.path = head.split(b" ", 2)[1].decode("latin-1")
        self.dialect = DIALECTS.get(self.path, "chat")
        self.stream = b'"stream":true' in body.replace(b" ", b"")
        self.fault = ""
        self.content_at: float | None = None
        self.closed_at: float | None = None  # when the peer closed, if it did before the reply was complete


Play = Callable[["Peer", Heard], Awaitable[None]]


class Peer(asyncio.Protocol):
    """The provider's end of one connection."""

    def __init__(self, provider: "Provider") -> None:
        self.provider = provider
        self.loop = asyncio.get_running_loop()
        self.gone = False
        self.heard: Heard | None = None  # while it is answered
        self.transport: Any = None
        self._buffer = b""
        self._ready = asyncio.Event()
        self._ready.set()
        self._left = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.provider.peers.add(self)
        self.provider.opened += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(b"\x16\x03"):  # TLS, where there is none
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
            return
        self._next()

    def eof_received(self) -> bool:
        self._leave()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        self.provider.peers.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        self._ready.clear()

    def resume_writing(self) -> None:
        self._ready.set()

    # For the faults.

    async def send(self, data: bytes) -> None:
        """Write, and wait while the peer does not read."""
        if self.gone or self.transport.is_closing():
            raise GoneError
        self.transport.write(data)
        if not self._ready.is_set():
            await self._ready.wait()

    async def pause(self, seconds: float) -> None:
        """Wait, unless the peer closes meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), seconds)
        if self.gone:
            raise GoneError

    async def stall(self) -> None:
        """Say nothing until the peer closes."""
        await self._left.wait()
        raise GoneError

    def close(self) -> None:
        """End the connection with FIN, once all is sent."""
        self.transport.close()

    def reset(self) -> None:
        """End the connection with RST."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def content(self) -> None:
        """Note that content goes out now."""
        if self.heard is not None and self.heard.content_at is None:
            self.heard.content_at = self.loop.time()

    # The course of a connection.

    def _next(self) -> None:
        if self.heard is not None:
            return
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        heard = self.heard = self.provider.hear(head, body)
        self._task = self.loop.create_task(self._answer(heard))

    async def _answer(self, heard: Heard) -> None:
        try:
            await self.provider.choose(heard)(self, heard)
        except GoneError:
            return
        finally:
            self.provider.in_flight -= 1
            self.heard = None
            self._task = None
        if not self.transport.is_closing():
            self._next()

    def _leave(self) -> None:
        if not self.gone:
            self.gone = True
            self._ready.set()
            self._left.set()
            if self.heard is not None:
                self.heard.closed_at = self.loop.time()

    async def end(self) -> None:
        """End the connection and what is done on it."""
        task = self._task
        self.transport.abort()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Provider:
    """The server. `plays` are the faults by name, of which "answer" is none."""

    def __init__(self, plays: dict[str, Play], who: str) -> None:
        self.plays = plays
        self.who = who  # whose words an answer holds
        self.latency_s = 0.0  # before an answer begins
        self.pace_s = 0.0  # between two words of a stream
        self.queue: deque[str] = deque()
        self.otherwise = "answer"
        self.heeds_marks = True
        self.keeps = True  # every call, with its bytes; for long runs: only the counts
        self.calls: list[Heard] = []
        self.count = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.opened = 0  # connections so far
        self.peers: set[Peer] = set()
        self.port = 0

    def hear(self, head: bytes, body: bytes) -> Heard:
        """Take note of a call."""
        is_counted = b'"warm"' not in body  # which only makes a connection one that was used
        self.count += is_counted
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        heard = Heard(self.count, head, body, asyncio.get_running_loop().time())
        if self.keeps and is_counted:
            self.calls.append(heard)
        return heard

    def choose(self, heard: Heard) -> Play:
        """Say what a call meets."""
        mark = MARK.search(heard.body) if self.heeds_marks else None
        heard.fault = mark[1].decode() if mark else self.queue.popleft() if self.queue else self.otherwise
        return self.plays[heard.fault]

    async def close(self) -> None:
        """End every connection."""
        for peer in tuple(self.peers):
            await peer.end()


@contextlib.asynccontextmanager
async def provider(
    plays: dict[str, Play], who: str = "bad", *, tls: SSLContext | None = None
) -> AsyncIterator[Provider]:
    """Serve for the length of a block."""
    one = Provider(plays, who)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(one), "127.0.0.1", 0, ssl=tls, backlog=1024)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await one.close()
        await server.wait_closed()
