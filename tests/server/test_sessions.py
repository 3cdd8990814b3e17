"""Turns of calls, those that are turned away, notice and drain; on memory transports, and with a clock of the test's own."""

import asyncio

import pytest

from penstock.server import sessions
from penstock.server.http11 import Connection, Limits, Request, Responder
from penstock.server.sessions import AWAY, TURN

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


class Clock:
    """Monotonic seconds that stand still; each look at them may take some."""

    def __init__(self):
        self.now = 0.0
        self.step_s = 0.0

    def __call__(self):
        self.now += self.step_s
        return self.now


@pytest.fixture
def clock(monkeypatch):
    one = Clock()
    monkeypatch.setattr(sessions, "monotonic", one)
    return one


class Crowd:
    """Clients in memory that ask all at once, and the order in which their calls began."""

    def __init__(self, make_server, memory, count, limits=None):
        self.begun: list[str] = []
        self.server, _ = make_server(self.answer, limits)
        self.server.urgent = frozenset({"/healthz"})
        self.server._sweeping = True
        self.clients = [self.client(memory) for _ in range(count)]

    def client(self, memory):
        connection = Connection(self.server)
        connection.connection_made(memory())
        return connection

    async def answer(self, request: Request, responder: Responder) -> None:
        self.begun.append(request.path)
        responder.send(200, [], b"")

    def ask(self, path="/"):
        for number, client in enumerate(self.clients):
            client.data_received(GET.replace(b"/ ", f"{path}{number} ".encode(), 1))

    def statuses(self):
        return [b"".join(client.transport.written)[9:12] for client in self.clients]


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_turn_begins_no_more_calls_than_its_share_and_in_the_order_in_which_they_came(
    make_server, memory, clock
):
    crowd = Crowd(make_server, memory, 3 * TURN + 5)
    crowd.ask()
    assert crowd.server.waiting == 2 * TURN + 5
    seen = []
    for _ in range(6):
        await turns(1)
        seen.append(len(crowd.begun))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == TURN
    assert crowd.begun == [f"/{number}" for number in range(3 * TURN + 5)]
    assert crowd.server.waiting == 0
    assert set(crowd.statuses()) == {b"200"}


async def test_a_probe_of_health_never_stands_in_line(make_server, memory, clock):
    crowd = Crowd(make_server, memory, 10 * TURN)
    crowd.ask()
    probe = crowd.client(memory)
    probe.data_received(HEALTH)
    await turns(2)
    assert crowd.begun.index("/healthz") <= 2 * TURN
    await turns(40)


async def test_turns_that_take_too_long_begin_fewer_calls_and_short_ones_more_again(make_server, memory, clock):
    crowd = Crowd(make_server, memory, 6 * TURN)
    clock.step_s = 0.03
    crowd.ask()
    shares = []
    for _ in range(8):
        await turns(1)
        shares.append(crowd.server._share)
    assert shares[:8] == [TURN // 2, TURN // 4, TURN // 8, TURN // 16, TURN // 32, TURN // 64, TURN // 128, 1]
    clock.step_s = 0.0
    await turns(200)
    assert crowd.server.waiting == 0
    for _ in range(TURN):
        crowd.ask()
        await turns(12)
    assert crowd.server._share == TURN


async def test_whoever_comes_while_the_first_in_line_waits_too_long_is_turned_away_and_stays_connected(
    make_server, memory, clock
):
    crowd = Crowd(make_server, memory, TURN + 2, Limits(line_s=0.5))
    crowd.ask()
    assert crowd.server.waiting == 2
    clock.now = 0.6
    late = [crowd.client(memory) for _ in range(AWAY + 1)]
    for client in late:
        client.data_received(GET)
    assert crowd.server.shed == len(late)
    await turns(1)
    refused = [client for client in late if client.transport.written]
    assert len(refused) == AWAY, "not all of them in one turn"
    await turns(3)
    for client in late:
        (said,) = client.transport.written
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in said
        assert not client.transport.closed
    late[0].data_received(GET)
    await turns(3)
    assert late[0].transport.written[1].startswith(b"HTTP/1.1 200 ")
    assert set(crowd.statuses()) == {b"200"}


async def test_a_client_that_is_turned_away_and_wanted_to_close_or_has_asked_on_is_closed(make_server, memory, clock):
    crowd = Crowd(make_server, memory, TURN + 1, Limits(line_s=0.5))
    crowd.ask()
    clock.now = 0.6
    last, eager = crowd.client(memory), crowd.client(memory)
    last.data_received(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    eager.data_received(GET + GET)
    await turns(4)
    for client in (last, eager):
        assert client.transport.written[0].startswith(b"HTTP/1.1 503 ")
        assert client.transport.closed


async def test_a_crowd_that_has_left_keeps_nobody_away(make_server, memory, clock):
    crowd = Crowd(make_server, memory, TURN + 9, Limits(line_s=0.5))
    crowd.ask()
    assert crowd.server.waiting == 9
    for client in crowd.clients[:-1]:
        client.connection_lost(None)
    clock.now = 0.4
    crowd.client(memory).data_received(GET)  # behind the last of them, who has not left
    assert crowd.server.waiting == 2
    clock.now = 0.6
    late = crowd.client(memory)
    late.data_received(GET)
    assert crowd.server.shed == 1
    crowd.clients[-1].connection_lost(None)
    crowd.client(memory).data_received(GET)
    assert (crowd.server.shed, crowd.server.waiting) == (1, 2)
    await turns(4)
    assert late.transport.written[0].startswith(b"HTTP/1.1 503 ")


async def test_a_client_that_leaves_while_it_stands_in_line_is_forgotten(make_server, memory, clock):
    crowd = Crowd(make_server, memory, TURN + 3, Limits(line_s=0.5))
    crowd.ask()
    waits, leaves = crowd.clients[-1], crowd.clients[-2]
    clock.now = 0.6
    away = crowd.client(memory)
    away.data_received(GET)
    for client in (leaves, away):
        client.connection_lost(None)
    await turns(6)
    assert len(crowd.begun) == TURN + 2
    assert leaves.transport.written == away.transport.written == []
    assert waits.transport.written
    assert leaves not in crowd.server._connections


async def test_requests_behind_one_that_stands_in_line_are_answered_after_it(make_server, memory, clock):
    crowd = Crowd(make_server, memory, TURN)
    crowd.ask()
    client = crowd.client(memory)
    client.data_received(GET.replace(b"/ ", b"/one ", 1) + GET.replace(b"/ ", b"/two ", 1) + b"BAD\r\n\r\n")
    await turns(8)
    assert crowd.begun[-2:] == ["/one", "/two"]
    assert b"".join(client.transport.written).count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 400 " in b"".join(client.transport.written)


# -- calls whose head is known come after what else the turn of the loop brings --

ASK = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


class Known(Crowd):
    """Clients whose heads are known; they are answered without a task where `takes` is set."""

    def __init__(self, make_server, memory, count, limits=None):
        super().__init__(make_server, memory, count, limits)
        self.takes = False
        self.taken = []
        self.server.at_once = self.at_once

    def at_once(self, clients):
        for client in clients if self.takes else ():
            self.begun.append(client.asked.path)
            self.taken.append(client)
            client.begun = self

    def abandon(self, why):
        """A client hung up."""

    async def warm(self):
        for _ in range(3):
            for number, client in enumerate(self.clients):
                client.data_received(ASK % number)
                await turns(3)
        self.begun.clear()
        for client in self.clients:
            client.transport.written.clear()
        self.takes = True

    def ask(self):
        for number, client in enumerate(self.clients):
            client.data_received(ASK % number)

    def answer_all(self):
        while self.taken:
            self.taken.pop().reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def test_alone_a_call_begins_at_once_and_others_begin_at_the_end_of_the_turn_in_their_order(
    make_server, memory, clock
):
    crowd = Known(make_server, memory, 5)
    await crowd.warm()
    crowd.ask()
    assert (crowd.begun, crowd.server.waiting) == (["/0"], 4)
    await turns(1)
    assert (crowd.begun, crowd.server.waiting) == ([f"/{number}" for number in range(5)], 0)
    crowd.answer_all()
    await turns(2)
    assert set(crowd.statuses()) == {b"200"}
    assert crowd.server.in_flight == 0


async def test_those_that_a_turn_has_no_time_for_stand_in_line_and_the_next_are_behind_them(make_server, memory, clock):
    crowd = Known(make_server, memory, 2 * TURN + 5)
    await crowd.warm()
    crowd.ask()
    late = crowd.client(memory)
    late.data_received(GET.replace(b"/ ", b"/late ", 1))
    seen = []
    for _ in range(4):
        before = len(crowd.begun)
        await turns(1)
        seen.append(len(crowd.begun) - before)
    assert seen[:3] == [TURN - 1, TURN + 1, 5], "a new client's task runs a turn later than it was begun"
    assert sorted(crowd.begun) == sorted([f"/{number}" for number in range(2 * TURN + 5)] + ["/late"])
    crowd.answer_all()
    await turns(2)


async def test_known_or_not_whoever_comes_too_late_is_turned_away_and_stays_connected(make_server, memory, clock):
    crowd = Known(make_server, memory, TURN + 4, Limits(line_s=0.5))
    await crowd.warm()
    late, crowd.clients = crowd.clients[-1], crowd.clients[:-1]
    crowd.ask()
    await turns(1)
    clock.now = 0.6
    crowd.server._share = 0  # only one more begins
    late.data_received(ASK % (TURN + 3))
    assert crowd.server.waiting == 2 + 1
    await turns(1)
    assert (crowd.server.shed, crowd.server.waiting) == (1, 1)
    await turns(1)
    (said,) = late.transport.written
    assert said.startswith(b"HTTP/1.1 503 ")
    assert not late.transport.closed
    await turns(2)
    crowd.answer_all()
    late.data_received(ASK % (TURN + 3))
    await turns(2)
    crowd.answer_all()
    await turns(2)
    assert late.transport.written[1].startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_leaves_before_the_turn_ends_is_not_begun(make_server, memory, clock):
    crowd = Known(make_server, memory, 4)
    await crowd.warm()
    crowd.ask()
    crowd.clients[1].connection_lost(None)
    crowd.clients[2].eof_received()
    await turns(3)
    assert crowd.begun == ["/0", "/3"]
    assert crowd.clients[1] not in crowd.server._connections
    crowd.answer_all()
    await turns(2)
    assert crowd.server.in_flight == 0


async def test_what_comes_behind_a_call_before_its_turn_is_answered_after_it(make_server, memory, clock):
    crowd = Known(make_server, memory, 2)
    await crowd.warm()
    crowd.ask()
    crowd.clients[1].data_received(ASK % 1 + b"BAD\r\n\r\n")
    await turns(2)
    crowd.takes = False
    crowd.answer_all()
    await turns(6)
    assert crowd.begun == ["/0", "/1", "/1"]
    written = b"".join(crowd.clients[1].transport.written)
    assert written.count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 400 " in written


class Broken:
    asked = None

    def resume(self):
        raise ZeroDivisionError


async def test_a_defect_at_one_of_them_leaves_the_others_their_turn(make_server, memory, clock):
    crowd = Known(make_server, memory, 4)
    await crowd.warm()
    crowd.server.arrive(Broken())
    crowd.ask()
    told = []
    crowd.server.on_crash = told.append
    await turns(3)
    assert crowd.begun == ["/0", "/1", "/2", "/3"]
    assert [type(one) for one in told] == [ZeroDivisionError]
    crowd.answer_all()
    await turns(2)


# -- the end --


async def test_notice_goes_on_serving_and_every_reply_is_the_last_of_its_connection(serve):
    running = await serve()
    kept = await running.client()
    await kept.send(GET)
    assert (await kept.reply()).header(b"connection") is None
    running.server.notice()
    new = await running.client()
    for client in (kept, new):
        await client.send(GET)
        reply = await client.reply()
        assert (reply.status, reply.header(b"connection")) == (200, b"close")
        assert await client.is_closed()
    assert await running.server.drain(1.0) == 0


async def test_a_drain_takes_in_every_connection_that_waits_to_be_accepted(serve):
    running = await serve()
    loop = asyncio.get_running_loop()
    socks = []
    import socket

    for _ in range(60):
        sock = socket.create_connection(("127.0.0.1", running.server.port))  # the loop stands still meanwhile
        sock.sendall(GET)
        sock.setblocking(False)
        socks.append(sock)
    drain = asyncio.create_task(running.server.drain(2.0))
    replies = await asyncio.gather(*(loop.sock_recv(sock, 100) for sock in socks), return_exceptions=True)
    for sock in socks:
        sock.close()
    assert [reply[:12] for reply in replies] == [b"HTTP/1.1 200"] * 60
    assert await drain == 0


@pytest.mark.parametrize(("within_s", "looks"), [(0.0, False), (0.0005, True)])
async def test_the_loop_stays_awake_between_close_calls_as_long_as_the_limits_say(
    make_server, memory, clock, within_s, looks
):
    crowd = Crowd(make_server, memory, 1, Limits(busy_poll_s=within_s))
    for _ in range(3):
        crowd.ask()
        await turns(3)
    assert (crowd.server._poll.looks > 0) is looks
