"""The life of a connection: replies in order, hang-ups, faults of handlers, deadlines, the end."""

import asyncio
import gc
import os
import socket
import ssl
import sys
import time

import pytest
import trustme

from penstock.server.http11 import Connection, Limits, Request, Responder
from penstock.server.outlet import Outlet

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


def get(path: str, *headers: bytes) -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: a\r\n" % path.encode() + b"".join(header + b"\r\n" for header in headers) + b"\r\n"
    )


class Calls:
    """A handler that notes how its calls end, and takes its part from the path."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended: list[str] = []
        self.ended_at = 0.0

    async def __call__(self, request: Request, responder: Responder) -> None:
        try:
            await getattr(self, request.path.strip("/") or "unary")(responder)
            self.ended.append("done")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        finally:
            self.ended_at = time.monotonic()

    async def unary(self, responder: Responder) -> None:
        self.begun.set()
        await self.go_on.wait()
        responder.send(200, [], b"answer")

    async def silent(self, responder: Responder) -> None:
        responder.start(200, [])
        self.begun.set()
        await self.go_on.wait()
        responder.finish()

    async def stream(self, responder: Responder) -> None:
        responder.start(200, [])
        while not self.go_on.is_set():
            responder.write(b"data")
            self.begun.set()
            await asyncio.sleep(0.005)
        responder.finish(b"last")

    async def cleans_up(self, responder: Responder) -> None:
        responder.send(200, [], b"answer")
        self.begun.set()
        await self.go_on.wait()

    async def ends_at_once(self, responder: Responder) -> None:
        responder.send(200, [], b"at once")


def live() -> list[int]:
    """Count what the server makes for each connection and each request."""
    kinds = [type(thing) for thing in gc.get_objects()]
    return [kinds.count(kind) for kind in (Connection, Outlet, Responder)]


async def until(condition, timeout_s=1.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.002)


# Replies in order, on one connection.


async def test_a_connection_serves_one_request_after_another(serve):
    running = await serve()
    client = await running.client()
    for number in range(50):
        await client.send(get(f"/{number}"))
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"GET /%d? " % number)
    assert running.server.connections == 1


async def test_pipelined_requests_are_answered_one_at_a_time_and_in_order(serve):
    at_once = most = 0

    async def slower_at_first(request: Request, responder: Responder) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01 if request.path == "/0" else 0)
        responder.send(200, [], request.path.encode())
        at_once -= 1

    running = await serve(slower_at_first)
    client = await running.client()
    await client.send(b"".join(get(f"/{number}") for number in range(200)))
    assert [(await client.reply()).body for _ in range(200)] == [b"/%d" % number for number in range(200)]
    assert most == 1


async def test_reading_pauses_while_too_many_requests_wait_and_then_goes_on(serve):
    calls = Calls()
    running = await serve(calls, Limits(pipelined=4, header_s=0.1, body_s=0.1, body_idle_s=0.1))
    client = await running.client()
    for _ in range(5):
        await client.send(GET)
        await asyncio.sleep(0.002)
    await calls.begun.wait()
    (connection,) = running.server._connections
    await until(lambda: not connection.transport.is_reading())
    await client.send(POST[:20])  # stays in the socket; the client is not to blame for the time
    await asyncio.sleep(0.2)
    calls.go_on.set()
    assert [(await client.reply()).body for _ in range(5)] == [b"answer"] * 5
    await client.send(POST[20:] + b"body")
    assert (await client.reply()).body == b"answer"


async def test_reading_pauses_while_large_bodies_wait(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    large = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n" + b"x" * 600_000
    client.writer.write(large * 6)
    (connection,) = running.server._connections
    await until(lambda: not connection.transport.is_reading())
    assert len(connection._queue) <= 3
    calls.go_on.set()
    assert [(await client.reply()).status for _ in range(6)] == [200] * 6
    assert connection._queued_bytes == 0


async def test_a_client_with_many_requests_leaves_others_their_turn(make_server, memory):
    server, _ = make_server()
    greedy, modest = (Connection(server) for _ in range(2))
    for connection in (greedy, modest):
        connection.connection_made(memory())
    greedy.data_received(GET * 100)
    modest.data_received(GET)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(modest.transport.written) == 1
    assert 1 <= len(greedy.transport.written) <= 5


async def test_a_bad_request_behind_good_ones_is_refused_after_their_replies(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(GET * 3 + b"BAD\r\n\r\n" + GET)
    await calls.begun.wait()
    calls.go_on.set()
    assert [reply.status for reply in await client.rest()] == [200, 200, 200, 400]


async def test_a_client_that_wants_to_close_is_told_so_and_closed(serve):
    running = await serve()
    (reply,) = await running.ask(get("/", b"Connection: close"))
    assert (reply.status, reply.header(b"connection")) == (200, b"close")


async def test_nothing_is_answered_behind_a_request_to_close(serve):
    running = await serve()
    replies = await running.ask(get("/first", b"Connection: close") + get("/second"))
    assert [reply.body for reply in replies] == [b"GET /first? "]


async def test_requests_and_replies_leave_no_garbage_for_the_collector(serve):
    gc.collect()
    others = live()  # what tests before this one left alive, in this process, is not ours to count
    running = await serve()
    client = await running.client()
    await client.send(GET)
    await client.reply()
    gc.collect()
    during = [now - then for now, then in zip(live(), others, strict=True)]
    gc.disable()
    try:
        for _ in range(10):
            await client.send(GET)
            await client.reply()
        client.hang_up()
        await until(lambda: running.server.connections == 0)
        await asyncio.sleep(0.01)
        after = [now - then for now, then in zip(live(), others, strict=True)]
        assert (during, after) == ([1, 1, 0], [0, 0, 0])
    finally:
        gc.enable()


async def test_an_idle_client_keeps_no_body_alive(serve):
    bodies: list[bytes] = []

    async def keep(request: Request, responder: Responder) -> None:
        bodies.append(request.body)
        responder.send(200, [], b"")

    running = await serve(keep)
    client = await running.client()
    await client.send(POST + b"body")
    await client.reply()
    await asyncio.sleep(0.01)
    count = sys.getrefcount(bodies[0])
    assert count == 2, gc.get_referrers(bodies[0])


async def test_a_handler_sees_who_asked(serve):
    seen: list[Request] = []

    async def keep(request: Request, responder: Responder) -> None:
        seen.append(request)
        responder.send(204, [], b"")

    running = await serve(keep)
    client = await running.client()
    await client.send(b"PUT /a?b=%20 HTTP/1.1\r\nHOST: h\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 1\r\n\r\nz")
    await client.reply()
    (request,) = seen
    assert (request.method, request.target, request.path, request.query) == ("PUT", b"/a?b=%20", "/a", b"b=%20")
    assert request.headers == [(b"host", b"h"), (b"x-one", b"1"), (b"x-one", b"2"), (b"content-length", b"1")]
    assert (request.header(b"x-one"), request.header(b"x-two")) == (b"1", None)
    assert (request.body, request.http_version, request.peer) == (b"z", "1.1", "127.0.0.1")
    assert request.endpoints.client == client.writer.get_extra_info("sockname")


# Hang-ups.


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("path", ["/unary", "/silent", "/stream"])
async def test_a_hang_up_cancels_the_call_at_once(serve, path, reset):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(get(path))
    await calls.begun.wait()
    left_at = time.monotonic()
    client.hang_up(reset=reset)
    await until(lambda: calls.ended)
    assert calls.ended == ["CancelledError"]
    assert calls.ended_at - left_at < 0.05
    await until(lambda: running.server.connections == 0)
    assert running.server.in_flight == 0
    assert running.crashes == []


async def test_a_client_that_closes_only_its_sending_side_has_hung_up(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(GET)
    await calls.begun.wait()
    client.writer.write_eof()
    await until(lambda: calls.ended == ["CancelledError"])
    assert await client.is_closed()


async def test_a_request_whose_client_left_with_it_is_not_begun(serve, make_server, memory):
    calls = Calls()
    server, _ = make_server(calls)
    connection = Connection(server)
    connection.connection_made(memory())
    connection.data_received(GET)
    connection.eof_received()
    connection.connection_lost(None)
    await asyncio.sleep(0.01)
    assert calls.ended == []
    assert server.connections == 0


async def test_requests_that_wait_are_dropped_with_the_client(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(GET * 5)
    await calls.begun.wait()
    client.hang_up()
    await until(lambda: running.server.connections == 0)
    assert calls.ended == ["CancelledError"]


async def test_a_call_that_is_answered_may_clean_up_after_the_client_has_left(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(get("/cleans_up"))
    assert (await client.reply()).body == b"answer"
    client.hang_up()
    await asyncio.sleep(0.02)
    assert calls.ended == []
    calls.go_on.set()
    await until(lambda: calls.ended == ["done"])
    await until(lambda: running.server.connections == 0)


async def test_a_handler_may_write_on_after_a_hang_up_to_no_effect(serve):
    ended: list[str] = []

    async def stubborn(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"begun")
        try:
            await asyncio.sleep(10)
        finally:
            assert responder.gone
            responder.write(b"more")
            await responder.drained()
            responder.finish()
            responder.abort()
            ended.append("stubborn")

    running = await serve(stubborn)
    client = await running.client()
    await client.send(GET)
    await client.reader.read(1)
    client.hang_up()
    await until(lambda: ended == ["stubborn"])
    assert running.crashes == []


async def test_300_hang_ups_of_every_kind_leave_nothing_behind(serve):
    calls = Calls()
    running = await serve(calls)

    async def come_and_go(number: int) -> None:
        client = await running.client()
        await client.send(get(("/unary", "/silent", "/stream")[number % 3]))
        await asyncio.sleep(number % 7 * 0.002)
        client.hang_up(reset=number % 2 == 0)

    await asyncio.gather(*map(come_and_go, range(300)))
    await until(lambda: running.server.connections == 0)
    assert running.server.in_flight == 0
    assert set(calls.ended) <= {"CancelledError"}
    assert running.crashes == []


# Faults of handlers.


async def test_a_fault_before_the_reply_is_reported_and_answered_with_500(serve):
    async def fail(request: Request, responder: Responder) -> None:
        raise LookupError("a secret")

    running = await serve(fail)
    (reply,) = await running.ask(POST + b"body" + GET)
    assert (reply.status, reply.header(b"x-code"), reply.header(b"connection")) == (500, b"internal", b"close")
    assert b"secret" not in reply.body
    assert [type(error) for error in running.crashes] == [LookupError]


async def test_a_fault_after_start_but_before_the_first_byte_is_answered_with_500(serve):
    async def fail(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        raise LookupError

    running = await serve(fail)
    (reply,) = await running.ask(GET)
    assert reply.status == 500


async def test_a_fault_in_the_middle_of_a_reply_tears_it(serve):
    async def fail(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"begun")
        raise LookupError

    running = await serve(fail)
    (reply,) = await running.ask(GET + GET)
    assert (reply.status, reply.body, reply.complete) == (200, b"begun", False)
    assert len(running.crashes) == 1


async def test_a_fault_after_the_reply_closes_the_connection(serve):
    async def fail(request: Request, responder: Responder) -> None:
        responder.send(200, [], b"whole")
        raise LookupError

    running = await serve(fail)
    (reply,) = await running.ask(GET + GET)
    assert (reply.body, reply.complete) == (b"whole", True)
    assert len(running.crashes) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_a_handler_that_returns_without_a_reply_is_a_fault(serve, begun):
    async def forget(request: Request, responder: Responder) -> None:
        if begun:
            responder.start(200, [])
            responder.write(b"begun")

    running = await serve(forget)
    (reply,) = await running.ask(GET)
    assert (reply.status, reply.complete) == ((200, False) if begun else (500, True))
    assert "without finishing" in str(running.crashes[0])


async def test_a_torn_reply_is_no_fault_and_has_no_end_mark(serve):
    async def tear(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"begun")
        responder.abort()

    running = await serve(tear)
    (reply,) = await running.ask(GET)
    assert (reply.body, reply.complete) == (b"begun", False)
    assert running.crashes == []


async def test_a_torn_reply_that_ends_with_the_connection_is_reset(serve):
    async def tear(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"begun")
        await asyncio.sleep(0.01)
        responder.abort()

    running = await serve(tear)
    client = await running.client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_a_cancellation_from_within_is_a_fault_like_any_other(serve):
    async def awaits_what_was_cancelled(request: Request, responder: Responder) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        inner.cancel()
        await inner

    running = await serve(awaits_what_was_cancelled)
    (reply,) = await running.ask(GET)
    assert reply.status == 500
    assert [type(error) for error in running.crashes] == [asyncio.CancelledError]


@pytest.mark.parametrize("broken", ["refuse", "on_crash"])
async def test_a_connection_does_not_outlive_what_should_report_its_fault(serve, broken):
    async def fail(request: Request, responder: Responder) -> None:
        raise LookupError

    def fail_too(*_: object) -> None:
        raise KeyError

    reported: list[BaseException] = []
    running = await serve(fail)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    setattr(running.server, broken, fail_too)
    client = await running.client()
    await client.send(GET)
    assert await client.is_closed()
    await until(lambda: running.server.connections == 0)
    gc.collect()
    assert [type(error) for error in reported] == [KeyError]


# Deadlines.

SLOW = Limits(header_s=0.08, body_s=0.2, body_idle_s=0.08, keepalive_s=0.08)


@pytest.mark.parametrize(
    "begin",
    [b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\nHost: a\r\n", POST, POST + b"ab", b"\r\n"],
)
async def test_a_request_that_stops_arriving_gets_408(serve, begin):
    running = await serve(limits=SLOW)
    began_at = time.monotonic()
    (reply,) = await running.ask(begin)
    assert (reply.status, reply.header(b"connection")) == (408, b"close")
    assert 0.04 < time.monotonic() - began_at < 1.0


class Slow:
    """A client in memory, on a clock of its own."""

    def __init__(self, make_server, memory, *handler) -> None:
        self.server, self.crashes = make_server(*handler)
        self.server._sweeping = True  # no sweep but ours
        self.transport = memory()
        self.connection = Connection(self.server)
        self.connection.connection_made(self.transport)

    async def at(self, now: float, data: bytes = b"") -> bytes:
        """Let the clock show `now`, then send; return all that was answered."""
        self.server.now = now
        self.connection.check(now)
        if data and not self.transport.closed:
            self.connection.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)
        return b"".join(self.transport.written)


@pytest.fixture
async def slow(make_server, memory) -> Slow:
    return Slow(make_server, memory)


async def test_a_head_that_drips_has_its_time_from_the_start_of_the_connection(slow):
    for second in range(1, 9):
        assert await slow.at(second, GET[second : second + 1] if second > 1 else b"GE") == b""
    assert await slow.at(8.9) == b""
    assert (await slow.at(9.0)).startswith(b"HTTP/1.1 408 ")
    assert slow.transport.closed


async def test_a_later_head_that_drips_has_its_time_from_its_first_byte(slow):
    answered = await slow.at(1, GET)
    assert await slow.at(50, GET[:5]) == answered
    assert await slow.at(58.9, GET[5:10]) == answered
    assert b"HTTP/1.1 408 " in await slow.at(59)


LARGE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n"


async def test_a_body_that_drips_has_no_more_time_than_one_that_stops(slow):
    await slow.at(1, LARGE)
    for second in range(2, 10):
        assert await slow.at(second, b"a") == b""
    assert (await slow.at(10.01, b"a")).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_comes_slowly_but_steadily_has_its_time_in_all(slow):
    await slow.at(1, LARGE)
    for second in range(2, 61):
        assert await slow.at(second, b"a" * 1024) == b""
    assert (await slow.at(61, b"a")).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_stops_has_less_time(slow):
    await slow.at(1, LARGE)
    await slow.at(8, b"a" * 20_000)
    assert await slow.at(16.9) == b""
    assert (await slow.at(17)).startswith(b"HTTP/1.1 408 ")


async def test_a_new_time_begins_with_each_request(slow):
    for second in range(8, 180, 8):
        for piece in (POST[:10], POST[10:] + b"bo", b"dy"):
            await slow.at(second, piece)
    assert b"".join(slow.transport.written).count(b"HTTP/1.1 200 OK") == 22
    assert not slow.transport.closed


async def test_no_deadline_runs_while_a_call_is_answered(make_server, memory):
    calls = Calls()
    slow = Slow(make_server, memory, calls)
    await slow.at(1, POST[:10])
    await slow.at(2, POST[10:] + b"bo")
    await slow.at(3, b"dy")
    assert await slow.at(10_000) == b""
    calls.go_on.set()
    assert (await slow.at(10_001)).endswith(b"answer")
    assert not slow.transport.closed


@pytest.mark.parametrize("begun", [POST[:10], POST + b"bo"])
async def test_no_deadline_runs_while_reading_is_paused(make_server, memory, begun):
    calls = Calls()
    slow = Slow(make_server, memory, calls)
    await slow.at(1, GET * 20 + begun)
    assert slow.transport.paused
    assert await slow.at(10_000) == b""
    calls.go_on.set()
    for _ in range(20):
        answered = await slow.at(10_001)
    assert answered.count(b"answer") == answered.count(b"HTTP/1.1 ") == 20
    assert not slow.transport.paused
    assert await slow.at(10_008) == answered
    assert b"HTTP/1.1 408 " in await slow.at(10_010)


async def test_a_client_that_says_nothing_is_closed_without_a_word(slow):
    assert await slow.at(8.9) == b""
    assert not slow.transport.closed
    assert await slow.at(9) == b""
    assert slow.transport.closed


async def test_an_idle_client_is_closed_without_a_word(slow):
    answered = await slow.at(1, GET)
    assert await slow.at(75.9) == answered
    assert not slow.transport.closed
    assert await slow.at(76) == answered
    assert slow.transport.closed


async def test_a_slow_second_request_waits_for_the_reply_of_the_first(serve):
    calls = Calls()
    running = await serve(calls, SLOW)
    client = await running.client()
    await client.send(GET + b"GET /slow HT")
    await asyncio.sleep(0.2)
    calls.go_on.set()
    assert [reply.status for reply in await client.rest()] == [200, 408]


async def test_a_call_may_take_longer_than_all_deadlines(serve):
    calls = Calls()
    running = await serve(calls, SLOW)
    client = await running.client()
    await client.send(GET)
    await asyncio.sleep(0.3)
    calls.go_on.set()
    assert (await client.reply()).body == b"answer"


async def test_idle_clients_are_closed_in_time(serve):
    running = await serve(limits=SLOW)
    silent, idle = [await running.client() for _ in range(2)]
    await idle.send(GET)
    await idle.reply()
    began_at = time.monotonic()
    assert await silent.is_closed()
    assert await idle.is_closed()
    assert time.monotonic() - began_at < 1.0


async def test_the_sweep_runs_only_while_there_are_connections(serve):
    running = await serve(limits=SLOW)
    assert not running.server._sweeping
    client = await running.client()
    await client.send(GET)
    await client.reply()
    assert running.server._sweeping
    client.hang_up()
    await until(lambda: not running.server._sweeping)


async def test_a_refused_client_that_stays_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr("penstock.server.http11._LINGER_S", 0.05)
    running = await serve(limits=SLOW)
    client = await running.client()
    await client.send(b"BAD\r\n\r\n")
    await client.rest()
    await until(lambda: running.server.connections == 0)


async def test_too_many_connections_are_turned_away(serve):
    running = await serve(limits=Limits(connections=2))
    clients = [await running.client() for _ in range(2)]
    for client in clients:
        await client.send(GET)
        assert (await client.reply()).status == 200
    late = await running.client()
    (reply,) = await late.rest()
    assert (reply.status, reply.header(b"x-code")) == (503, b"overloaded")
    clients[0].hang_up()
    await until(lambda: running.server.connections == 1)
    late = await running.client()
    await late.send(GET)
    assert (await late.reply()).status == 200


# The socket.


async def test_replies_are_not_held_back_by_the_kernel(serve):
    running = await serve()
    await running.client()
    await until(lambda: running.server.connections)
    (connection,) = running.server._connections
    assert connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_socket_can_be_handed_in(serve):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    running = await serve(socks=[sock])
    assert running.server.port == port
    assert [reply.status for reply in await running.ask(get("/", b"Connection: close"))] == [200]


@pytest.fixture
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_tls_serves_streams_refuses_and_notices_hang_ups(serve, contexts):
    server_side, client_side = contexts
    calls = Calls()
    schemes: list[str] = []

    async def handle(request: Request, responder: Responder) -> None:
        schemes.append(request.endpoints.scheme)
        await calls(request, responder)

    running = await serve(handle, ssl=server_side)
    client = await running.client(ssl=client_side)
    await client.send(get("/ends_at_once"))
    assert (await client.reply()).body == b"at once"
    await client.send(b"BAD\r\n\r\n")
    (reply,) = await client.rest()
    assert reply.status == 400

    client = await running.client(ssl=client_side)
    await client.send(get("/stream"))
    await calls.begun.wait()
    client.hang_up()
    await until(lambda: calls.ended == ["done", "CancelledError"])
    await until(lambda: running.server.connections == 0)
    assert schemes == ["https", "https"]


async def test_a_tls_handshake_has_the_time_of_a_head(serve, contexts):
    running = await serve(limits=SLOW, ssl=contexts[0])
    client = await running.client()
    assert await client.is_closed()


# The end.


async def test_a_drain_lets_every_stream_end(serve):
    calls = Calls()
    running = await serve(calls)
    streams = [await running.client() for _ in range(50)]
    for client in streams:
        await client.send(get("/stream"))
    idle = await running.client()
    await idle.send(get("/ends_at_once"))
    await idle.reply()
    await until(lambda: running.server.in_flight == 50)

    drain = asyncio.create_task(running.server.drain(2.0))
    assert await idle.is_closed(0.1)
    with pytest.raises(ConnectionRefusedError):
        await running.client()
    assert not drain.done()
    began_at = time.monotonic()
    calls.go_on.set()
    replies = await asyncio.gather(*(client.rest() for client in streams))
    assert all(reply.complete and reply.body.endswith(b"last") for (reply,) in replies)
    assert await drain == 0
    assert time.monotonic() - began_at < 1.0
    assert calls.ended == ["done"] * 51


async def test_a_reply_begun_in_a_drain_says_that_it_is_the_last(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(GET)
    await calls.begun.wait()
    drain = asyncio.create_task(running.server.drain(2.0))
    await asyncio.sleep(0.01)
    calls.go_on.set()
    (reply,) = await client.rest()
    assert reply.header(b"connection") == b"close"
    assert await drain == 0


async def test_a_drain_cuts_what_does_not_end_in_time(serve):
    calls = Calls()
    running = await serve(calls)
    unary, stream = [await running.client() for _ in range(2)]
    await unary.send(GET)
    await stream.send(get("/stream"))
    await until(lambda: running.server.in_flight == 2)
    assert await running.server.drain(0.05) == 2
    assert calls.ended == ["CancelledError"] * 2
    (reply,) = await unary.rest()
    assert (reply.status, reply.header(b"x-code")) == (503, b"shutting_down")
    (reply,) = await stream.rest()
    assert not reply.complete


async def test_a_drain_drops_a_request_that_does_not_arrive_in_time(serve):
    running = await serve()
    client = await running.client()
    await client.send(POST + b"bo")
    await until(lambda: running.server.connections == 1)
    assert await running.server.drain(0.05) == 0
    assert await client.is_closed()


async def test_a_client_whose_requests_are_dropped_in_a_drain_gets_its_last_reply(serve):
    calls = Calls()
    running = await serve(calls, Limits(pipelined=2))
    client = await running.client()
    for _ in range(8):
        await client.send(GET)
        await asyncio.sleep(0.002)
    (connection,) = running.server._connections
    await until(lambda: not connection.transport.is_reading())
    drain = asyncio.create_task(running.server.drain(3.0))
    await asyncio.sleep(0.01)
    calls.go_on.set()
    (reply,) = await client.rest()
    assert (reply.body, reply.header(b"connection")) == (b"answer", b"close")
    client.hang_up()
    assert await asyncio.wait_for(drain, 1.0) == 0


async def test_a_drain_takes_in_what_has_arrived_already(serve):
    running = await serve()
    kept = await running.client()
    await kept.send(GET)
    await kept.reply()
    half = await running.client()
    await half.send(POST)
    await until(lambda: running.server.connections == 2)
    sock = socket.create_connection(("127.0.0.1", running.server.port))  # accepted by nobody yet
    try:
        sock.sendall(GET)
        os.write(kept.writer.get_extra_info("socket").fileno(), GET)
        drain = asyncio.create_task(running.server.drain(2.0))
        await asyncio.sleep(0.02)
        await half.send(b"body")
        assert [reply.status for reply in await kept.rest()] == [200]
        assert [reply.body for reply in await half.rest()] == [b"POST /? body"]
        sock.settimeout(1.0)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert await drain == 0
    finally:
        sock.close()


async def test_a_drain_does_not_wait_for_clients_that_were_refused(serve):
    running = await serve()
    client = await running.client()
    await client.send(b"BAD\r\n\r\n")
    await client.reply()
    began_at = time.monotonic()
    assert await running.server.drain(3.0) == 0
    assert time.monotonic() - began_at < 0.5


async def test_a_drain_gives_a_new_client_a_moment_for_its_first_request(serve, monkeypatch):
    monkeypatch.setattr("penstock.server.sessions.GRACE_S", 0.1)
    running = await serve(limits=Limits(header_s=0.4))
    quick, slow = [await running.client() for _ in range(2)]
    await until(lambda: running.server.connections == 2)
    drain = asyncio.create_task(running.server.drain(2.0))
    await asyncio.sleep(0.02)
    await quick.send(GET)
    assert [reply.status for reply in await quick.rest()] == [200]
    assert await slow.is_closed(1.0)
    assert await drain == 0


async def test_a_handler_that_clings_to_its_call_does_not_stop_the_server(serve, monkeypatch):
    monkeypatch.setattr("penstock.server.sessions.GRACE_S", 0.05)
    release = asyncio.Event()

    async def cling(request: Request, responder: Responder) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    running = await serve(cling)
    client = await running.client()
    await client.send(GET)
    await until(lambda: running.server.in_flight == 1)
    assert await running.server.drain(0.01) == 1
    assert await client.is_closed()
    release.set()
    await until(lambda: running.server.connections == 0)


async def test_a_close_ends_a_drain_that_still_waits(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(get("/stream"))
    await calls.begun.wait()
    drain = asyncio.create_task(running.server.drain(60.0))
    await asyncio.sleep(0.01)
    await running.server.close()
    assert calls.ended == ["CancelledError"]
    assert await asyncio.wait_for(drain, 1.0) == 0


async def test_close_ends_everything_at_once(serve):
    calls = Calls()
    running = await serve(calls)
    client = await running.client()
    await client.send(get("/stream"))
    await calls.begun.wait()
    await running.server.close()
    assert (running.server.connections, running.server.in_flight) == (0, 0)
    assert calls.ended == ["CancelledError"]
