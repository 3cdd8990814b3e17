"""A real server on loopback and clients made of plain bytes, for the tests of the HTTP layer, on both event loops."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

import httptools
import pytest
import uvloop

from penstock.server.http11 import Handler, Header, Limits, Request, Responder, Server
from penstock.server.listening import bind

BOTH_LOOPS = {
    "test_http11.py",
    "test_sessions.py",
    "test_drain.py",
    "test_responder.py",
    "test_reading.py",
    "test_outlet.py",
    "test_asgi.py",
    "test_repeats.py",
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories = {"uvloop": uvloop.new_event_loop}
    if item.path.name in BOTH_LOOPS:
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@dataclass
class Reply:
    """One response as a strict parser reads it; `complete` is false where the connection ended in the middle."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


class Replies:
    """Reads responses with llhttp, the strictest parser at hand; one method per request tells which have no body."""

    def __init__(self, methods: list[bytes]) -> None:
        self.found: list[Reply] = []
        self._methods = methods
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if self._at_start() and end > 3 and self._method() == b"HEAD":
                head, data = data[:end], data[end:]
                alone = Replies([])
                alone.feed(
                    head.replace(b"content-length: ", b"x-length: ").replace(
                        b"\r\n\r\n", b"\r\ncontent-length: 0\r\n\r\n"
                    )
                )
                (reply,) = alone.found
                names = {b"x-length": b"content-length"}
                reply.headers = [(names.get(name, name), value) for name, value in reply.headers[:-1]]
                self.found.append(reply)
            else:
                self._parser.feed_data(data)
                data = b""

    def end(self) -> list[Reply]:
        """Say that the connection ended: a reply delimited by that is complete now."""
        if self.found and not self.found[-1].complete:
            last = self.found[-1]
            last.complete = last.header(b"content-length") is None and last.header(b"transfer-encoding") is None
        return self.found

    def _at_start(self) -> bool:
        return not self.found or self.found[-1].complete

    def _method(self) -> bytes:
        answered = sum(reply.status >= 200 for reply in self.found)
        return self._methods[answered] if answered < len(self._methods) else b"GET"

    def on_message_begin(self) -> None:
        self.found.append(Reply())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found[-1].headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.found[-1].status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.found[-1].pieces.append(data)

    def on_message_complete(self) -> None:
        self.found[-1].complete = True


class Client:
    """A socket of a client that keeps to no rule."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._methods: list[bytes] = []
        self._replies = Replies(self._methods)
        self._given = 0

    async def send(self, data: bytes) -> None:
        if data[:5] == b"HEAD ":
            self._methods.append(b"HEAD")
        else:
            self._methods.append(b"GET")
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, timeout_s: float = 3.0) -> Reply:
        """Return the next complete response."""
        async with asyncio.timeout(timeout_s):
            while not (len(self._replies.found) > self._given and self._replies.found[self._given].complete):
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError(f"the server closed; so far {self._replies.found[self._given :]}")
                self._replies.feed(data)
        self._given += 1
        return self._replies.found[self._given - 1]

    async def rest(self, timeout_s: float = 3.0) -> list[Reply]:
        """Return all responses that come until the server closes."""
        async with asyncio.timeout(timeout_s):
            while data := await self.reader.read(65536):
                self._replies.feed(data)
        return self._replies.end()[self._given :]

    async def is_closed(self, timeout_s: float = 1.0) -> bool:
        """Return whether the server closes without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), timeout_s) == b""
        except ConnectionResetError:
            return True

    def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


class Running:
    """A server under test, with what it reported and the clients that talk to it."""

    def __init__(self, server: Server, crashes: list[BaseException]) -> None:
        self.server = server
        self.crashes = crashes
        self.clients: list[Client] = []

    async def client(self, **options: Any) -> Client:
        where = () if "sock" in options else ("127.0.0.1", self.server.port)
        client = Client(*await asyncio.open_connection(*where, **options))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> list[Reply]:
        """Send these bytes on a connection of their own; return every response until the server closes."""
        client = await self.client()
        await client.send(data)
        return await client.rest()


Serve = Callable[..., Awaitable[Running]]


def refuse(status: int, code: str, message: str, path: str) -> tuple[list[Header], bytes]:
    assert message
    return [(b"content-type", b"text/plain"), (b"x-code", code.encode())], f"{status} {path}: {message}".encode()


async def echo(request: Request, responder: Responder) -> None:
    text = f"{request.method} {request.path}?{request.query.decode()} ".encode()
    responder.send(200, [(b"content-type", b"text/plain")], text + request.body)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers; every one has ended, with no call and no connection left, when the test is over."""
    started: list[Running] = []
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def start(
        handler: Handler = echo,
        limits: Limits | None = None,
        *,
        ssl: SSLContext | None = None,
        socks: Any = (),
        urgent: Any = (),
    ) -> Running:
        crashes: list[BaseException] = []
        server = Server(handler, refuse, limits or Limits(), on_crash=crashes.append, urgent=urgent)
        await server.start(socks or bind("127.0.0.1", 0, 1)[0], ssl=ssl)
        started.append(Running(server, crashes))
        return started[-1]

    yield start
    for running in started:
        for client in running.clients:
            client.writer.transport.abort()
        await running.server.close()
        assert running.server.connections == 0
        assert running.server.in_flight == 0
    assert reported == [], "the loop was told of an error that nobody handled"


class Memory(asyncio.Transport):
    """A transport that keeps what is written, for tests too many for sockets."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: list[bytes] = []
        self.closed = False
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@pytest.fixture
def memory() -> type[Memory]:
    return Memory


@pytest.fixture
def read_replies() -> Callable[[list[bytes]], list[Reply]]:
    """Read what a memory transport was given, up to the end of the connection."""

    def read(written: list[bytes]) -> list[Reply]:
        replies = Replies([])
        for data in written:
            replies.feed(data)
        return replies.end()

    return read


@pytest.fixture
def make_server() -> Callable[..., tuple[Server, list[BaseException]]]:
    """Make servers that listen nowhere, for connections in memory; call it while a loop runs."""

    def make(handler: Handler = echo, limits: Limits | None = None) -> tuple[Server, list[BaseException]]:
        crashes: list[BaseException] = []
        server = Server(handler, refuse, limits or Limits(), on_crash=crashes.append)
        server.attach(asyncio.get_running_loop())
        return server, crashes

    return make
