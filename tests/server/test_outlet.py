"""Clients that read slowly or not at all: bounded memory, and a handler that learns of it."""

import asyncio
import socket
import time
from types import SimpleNamespace

import pytest

from penstock.server.http11 import Limits, Request, Responder
from penstock.server.outlet import PENDING_BYTES, Outlet

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
        running = await serve(handler, limits, socks=[narrow()])
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
    assert flood.unsent < 64 * 1024 + 2 * len(PIECE)
    assert flood.error is None


async def test_a_client_that_does_not_read_ends_its_call_with_a_timeout(serve_narrowly):
    flood = Flood()
    running, _ = await serve_narrowly(flood, Limits(write_stall_s=0.1))
    began_at = time.monotonic()
    await until(lambda: flood.error)
    assert isinstance(flood.error, TimeoutError)
    assert time.monotonic() - began_at < 1.0
    assert flood.unsent < 64 * 1024 + 2 * len(PIECE)
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


class Held:
    """An outlet over a transport whose unsent bytes the test decides, on a clock of its own."""

    def __init__(self, make_server, memory) -> None:
        self.server, _ = make_server()
        self.server.now = 0.0
        self.unsent = 0
        self.transport = memory()
        self.transport.get_write_buffer_size = lambda: self.unsent
        self.outlet = Outlet(self.server, self.transport, (0, 0, b""))

    def stalled(self, now: float, unsent: int) -> bool:
        self.server.now, self.unsent = now, unsent
        return self.outlet.stalled(now)


@pytest.fixture
async def held(make_server, memory) -> Held:
    return Held(make_server, memory)


async def test_a_client_that_reads_a_little_is_kept(held):
    held.unsent = 300_000
    held.outlet.pause()
    assert not held.stalled(59.9, 300_000)
    assert not held.stalled(60, 299_999)
    assert not held.stalled(119.9, 299_999)
    assert held.stalled(120, 299_999)


async def test_time_is_counted_only_while_congested(held):
    held.unsent = 300_000
    held.outlet.pause()
    held.outlet.resume()
    assert not held.stalled(1000, 60_000)
    held.outlet.pause()
    assert not held.stalled(1059.9, 300_000)
    assert held.stalled(1060, 300_000)


async def test_what_is_left_when_closing_must_be_read_too(held):
    held.unsent = 300_000
    held.outlet.close()
    held.outlet.resume()  # the transport says so below its low-water mark, where bytes are still unsent
    assert held.stalled(60, 300_000)


@pytest.mark.parametrize("end", ["resume", "stop", "close", "half_close"])
async def test_a_handler_waits_until_there_is_room_or_no_use(held, end):
    held.outlet.pause()
    waits = asyncio.create_task(held.outlet.drained())
    await asyncio.sleep(0)
    assert held.outlet.congested
    assert not waits.done()
    getattr(held.outlet, end)()
    await asyncio.wait_for(waits, 1.0)
    assert not held.outlet.congested
    assert held.outlet.gone is (end != "resume")


async def test_a_hang_up_is_seen_behind_bytes_that_nobody_reads(serve_narrowly):
    flood = Flood()
    _, client = await serve_narrowly(flood)
    await until(lambda: flood.waits)
    client.writer.write_eof()  # the transport cannot close before all is sent
    await until(lambda: flood.error)
    assert isinstance(flood.error, asyncio.CancelledError)


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


# -- with other calls under way --


@pytest.fixture
async def busy(held) -> Held:
    held.server.in_flight = 2
    return held


async def test_alone_a_reply_is_written_at_once(held):
    held.server.in_flight = 1
    held.outlet.write(b"one")
    assert held.transport.written == [b"one"]


async def test_beside_others_it_is_written_at_the_end_of_the_turn_in_one_piece(busy):
    busy.outlet.write(b"one ")
    busy.outlet.write(b"two")
    assert busy.transport.written == []
    busy.server.in_flight = 1
    busy.outlet.write(b" three")
    await asyncio.sleep(0)
    assert busy.transport.written == [b"one two three"]
    busy.outlet.write(b"four")
    await asyncio.sleep(0)
    assert busy.transport.written == [b"one two three", b"four"]


async def test_much_does_not_wait(busy):
    busy.outlet.write(b"x" * 10)
    busy.outlet.write(b"x" * PENDING_BYTES)
    assert [len(data) for data in busy.transport.written] == [PENDING_BYTES + 10]
    await asyncio.sleep(0)
    assert len(busy.transport.written) == 1


@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
async def test_what_waits_is_written_before_the_end(busy, end):
    busy.outlet.write(b"the last words")
    if end == "reset":
        busy.transport.get_extra_info = lambda _: SimpleNamespace(setsockopt=lambda *_: None)
    getattr(busy.outlet, end)()
    assert busy.transport.written == [b"the last words"]
    await asyncio.sleep(0)
    assert len(busy.transport.written) == 1


async def test_a_client_that_is_gone_gets_nothing_of_what_waits(busy):
    busy.outlet.write(b"too late")
    busy.outlet.stop()
    busy.outlet.write(b"far too late")
    await asyncio.sleep(0)
    assert busy.transport.written == []


# -- with records that have to be on disk before --


def recorded(held) -> list[str]:
    """Have a record be due; give what is done, in order: that and writes."""
    done: list[str] = []
    held.server.in_flight = 1
    held.outlet.send = lambda data: done.append(data[:3].decode())
    held.server.outbox.before(lambda: done.append("record"))
    return done


async def test_alone_too_a_reply_waits_for_what_has_to_be_on_disk_before(held):
    recording = recorded(held)
    held.outlet.write(b"one")
    assert recording == []
    await asyncio.sleep(0)
    assert recording == ["record", "one"]


async def test_much_does_not_wait_but_for_what_has_to_be_on_disk_before(held):
    recording = recorded(held)
    held.outlet.write(b"xxx")
    held.outlet.write(b"x" * PENDING_BYTES)
    assert recording == ["record", "xxx"]


@pytest.mark.parametrize("end", ["close", "half_close", "reset"])
async def test_before_the_end_what_is_due_is_done_even_if_nothing_is_left_to_write(held, end):
    recording = recorded(held)
    held.transport.get_extra_info = lambda _: SimpleNamespace(setsockopt=lambda *_: None)
    getattr(held.outlet, end)()
    assert recording == ["record"]
