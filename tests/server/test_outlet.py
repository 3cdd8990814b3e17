"""Clients that read slowly or not at all: bounded memory, and a handler that learns of it."""

import asyncio
import socket
import time

import pytest

from penstock.server.http11 import Limits, Request, Responder

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = b"x" * 65_536


async def until(condition, timeout_s=2.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.002)


def narrow(port: int = 0) -> socket.socket:
    """A socket whose kernel buffers hold little: listening, or connected to a port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    if port:
        sock.connect(("127.0.0.1", port))
    else:
        sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture
def serve_narrowly(serve):
    async def start(handler, limits=None):
        running = await serve(handler, limits, sock=narrow())
        client = await running.client(sock=narrow(running.server.port), limit=1024)
        await client.send(GET)
        return running, client

    return start


class Flood:
    """A handler that sends without end, waits when congested, and notes the most that was ever unsent."""

    def __init__(self, pieces: int = 10_000, *, patient: bool = True) -> None:
        self.pieces = pieces
        self.patient = patient
        self.unsent = 0
        self.sent = 0
        self.waits = 0
        self.error: BaseException | None = None

    async def __call__(self, _: Request, responder: Responder) -> None:
        try:
            responder.start(200, [])
            for _ in range(self.pieces):
                responder.write(PIECE)
                self.sent += 1
                self.unsent = max(self.unsent, responder._outlet.transport.get_write_buffer_size())
                if responder.congested and self.patient:
                    self.waits += 1
                    await responder.drained()
                    assert not responder.congested
                await asyncio.sleep(0)
            if not self.patient:
                await asyncio.sleep(10)
            responder.finish()
        except BaseException as error:
            self.error = error
            raise


async def test_a_slow_reader_gets_everything_and_memory_stays_bounded(serve_narrowly):
    flood = Flood(pieces=100)
    _, client = await serve_narrowly(flood)
    await until(lambda: flood.waits)
    await asyncio.sleep(0.03)
    assert flood.sent < 50
    reply = await client.reply()
    assert len(reply.body) == 100 * len(PIECE)
    assert flood.unsent < 256 * 1024 + 2 * len(PIECE)
    assert flood.error is None


async def test_a_client_that_does_not_read_ends_its_call_with_a_timeout(serve_narrowly):
    flood = Flood()
    running, _ = await serve_narrowly(flood, Limits(write_stall_s=0.1))
    began_at = time.monotonic()
    await until(lambda: flood.error)
    assert isinstance(flood.error, TimeoutError)
    assert time.monotonic() - began_at < 1.0
    assert flood.unsent < 256 * 1024 + 2 * len(PIECE)
    await until(lambda: running.server.connections == 0)
    assert running.crashes == []


async def test_a_client_that_does_not_read_cancels_a_call_that_does_not_wait(serve_narrowly):
    flood = Flood(pieces=100, patient=False)
    running, _ = await serve_narrowly(flood, Limits(write_stall_s=0.1))
    await until(lambda: flood.sent == 100)
    await until(lambda: running.server.connections == 0)
    assert isinstance(flood.error, asyncio.CancelledError)


async def test_a_call_that_waits_for_something_else_is_cancelled_when_the_client_stops_reading(serve_narrowly):
    ended: list[str] = []

    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"x" * 2_000_000)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    running, _ = await serve_narrowly(handler, Limits(write_stall_s=0.1))
    await until(lambda: ended == ["cancelled"])
    await until(lambda: running.server.connections == 0)


async def test_a_client_that_reads_a_little_all_the_time_is_kept(serve_narrowly):
    flood = Flood(pieces=100)
    running, client = await serve_narrowly(flood, Limits(write_stall_s=0.15))
    await until(lambda: flood.waits)
    began_at = time.monotonic()
    received = 0
    while time.monotonic() - began_at < 0.6:
        received += len(await client.reader.read(65_536))
        await asyncio.sleep(0.02)
    assert flood.error is None
    assert running.server.connections == 1
    assert received < 100 * len(PIECE)


async def test_a_finished_reply_that_nobody_reads_is_cut_off(serve_narrowly):
    async def handler(request: Request, responder: Responder) -> None:
        responder.send(200, [], b"x" * 2_000_000)

    running, _ = await serve_narrowly(handler, Limits(write_stall_s=0.1, keepalive_s=0.05))
    await until(lambda: running.server.connections == 1)
    await until(lambda: running.server.connections == 0)
    assert running.crashes == []


async def test_a_hang_up_ends_the_wait_of_a_congested_handler(serve_narrowly):
    flood = Flood()
    _, client = await serve_narrowly(flood)
    await until(lambda: flood.waits)
    client.hang_up(reset=True)
    await until(lambda: flood.error)
    assert isinstance(flood.error, asyncio.CancelledError)


async def test_drained_returns_at_once_where_nothing_is_congested(serve):
    async def handler(request: Request, responder: Responder) -> None:
        await responder.drained()
        responder.send(200, [], b"")

    running = await serve(handler)
    client = await running.client()
    await client.send(GET)
    assert (await client.reply()).status == 200


@pytest.mark.parametrize("waiting", [1, 3])
async def test_several_may_wait_at_once(serve, waiting):
    released: list[int] = []

    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"x" * 2_000_000)

        async def wait(number: int) -> None:
            await responder.drained()
            released.append(number)

        await asyncio.gather(*map(wait, range(waiting)))
        responder.finish()

    running = await serve(handler)
    client = await running.client()
    await client.send(GET)
    assert len((await client.reply()).body) == 2_000_000
    assert released == list(range(waiting))
