"""A scripted upstream on loopback: what a test lets each connection do, byte for byte, and what it saw of the client.

A script is a coroutine function that is given the `Peer` of one connection; the n-th connection plays the n-th script, and
the last script serves all that follow.
"""

import asyncio
import contextlib
import functools
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

from penstock.providers.exchange import Limits
from penstock.providers.pool import Address, Pool, Reply

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
RESET = struct.pack("ii", 1, 0)
PATIENCE_S = 5.0

Script = Callable[["Peer"], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding; the empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""  # of the last request
        self.ended_at = 0.0

    async def request(self) -> bytes:
        """Read one request and give its body."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        lines = self.head.lower().split(b"\r\n")
        length = next(line for line in lines if line.startswith(b"content-length:"))
        return await self.reader.readexactly(int(length.partition(b":")[2]))

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop's transport would raise a RuntimeError
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, reply: bytes = OK) -> None:
        await self.request()
        await self.send(reply)

    async def end(self) -> None:
        """Wait until the client has ended the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.ended_at = asyncio.get_running_loop().time()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


class Upstream:
    """The server: its address, and the peers in the order in which they came."""

    def __init__(self, scripts: tuple[Script, ...], *, tls: ssl.SSLContext | None, host: str) -> None:
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.scripts = scripts
        self.tls = tls
        self.host = host
        self.port = 0
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def address(self) -> Address:
        return Address("https" if self.tls else "http", self.host, self.port)

    def pool(self, **limits: Any) -> Pool:
        return Pool(self.address, Limits(**limits))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.tasks.append(asyncio.current_task())
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        self.peers.append(peer)
        try:
            await script(peer)
            if not writer.is_closing():
                await peer.end()
        except (ConnectionError, asyncio.IncompleteReadError):
            peer.ended_at = asyncio.get_running_loop().time()
        except AssertionError as failure:
            self.failures.append(failure)
        finally:
            writer.close()

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self.serve, self.host, 0, ssl=self.tls)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def left(self, within_s: float = 1.0) -> None:
        """Wait until no client is connected any more: nothing has leaked."""
        if self.tasks:
            _, pending = await asyncio.wait(self.tasks, timeout=within_s)
            assert not pending, f"{len(pending)} connections are still open"


@contextlib.asynccontextmanager
async def upstream(
    *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Upstream]:
    """Run a server; at the end nobody may be connected and no assertion of a script may have failed."""
    up = Upstream(scripts, tls=tls, host=host)
    server = await up.listen()
    try:
        yield up
        await up.left()
    finally:
        server.close()
        for task in up.tasks:
            task.cancel()
        await asyncio.gather(*up.tasks, return_exceptions=True)
        if up.failures:
            raise up.failures[0]


@contextlib.contextmanager
def closing(pool: Pool) -> Iterator[Pool]:
    """Close a pool at the end; its counts must add up before and be nothing after."""
    try:
        yield pool
        assert pool.open == pool.idle + pool.busy
        assert pool.busy == 0, "something is still counted as under way"
    finally:
        pool.close()
    assert (pool.open, pool.idle, pool.busy) == (0, 0, 0)


async def get(pool: Pool, *, within_s: float = PATIENCE_S, body: bytes = b"{}") -> Reply:
    """Send a request with a deadline from now on."""
    head = b"POST /v1/chat HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: %d\r\n\r\n" % len(body)
    return await pool.send(head + body, deadline=asyncio.get_running_loop().time() + within_s)


async def drain(reply: Reply) -> list[bytes]:
    """Read a reply to its end."""
    pieces = []
    while (piece := await reply.read()) is not None:
        pieces.append(piece)
    return pieces


async def until(condition: Callable[[], object], within_s: float = 1.0) -> None:
    """Wait, tick by tick, until something has come true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - anything may be waited for, not only what sets an event
            await asyncio.sleep(0.001)


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on the stock loop and on uvloop; what a loop reports to its exception handler fails the test."""

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        reports: list[dict[str, Any]] = []

        async def guarded() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
            async with asyncio.timeout(20):
                await test(**fixtures)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(guarded())
        assert not reports, reports

    own = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    parameters = [each.replace(kind=own.kind) for each in inspect.signature(test).parameters.values()]
    run.__signature__ = inspect.Signature([*parameters, own])
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", loops, ids=["stock", "uvloop"])(run)
