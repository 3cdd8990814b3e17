"""A request that is answered without its connection's task: alone, pipelined, handed over, given up, drained, expelled."""

import asyncio

import pytest
from tests.server.conftest import Replies

from penstock.errors import SHUTDOWN
from penstock.server.http11 import Server
from penstock.server.listening import bind

BODY = b'{"a":1}'
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
ASK = HEAD + BODY
WARMING = 3


class Handler:
    """Answers in the task until `takes` is set; from then on the test says what becomes of a request."""

    def __init__(self):
        self.takes = False
        self.defect = False
        self.begun = []
        self.handled = []

    async def __call__(self, request, responder):
        self.handled.append(request)
        body = b"task" if request.begun is None else b"went on"
        responder.send(200, [(b"content-type", b"text/plain")], body)

    def at_once(self, clients):
        if self.defect:
            raise ZeroDivisionError
        if self.takes:
            for client in clients:
                client.begun = Begun(client.asked, client.body, client)
                self.begun.append(client.begun)


class Begun:
    def __init__(self, head, body, client):
        self.head, self.body, self.client = head, body, client
        self.given_up = []

    def abandon(self, why):
        self.given_up.append(why.args)

    def answer(self):
        self.client.reply(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nat once")

    def hand_over(self):
        self.client.go_on(self)


class Talk:
    """One server and one client whose head is known."""

    def __init__(self, server, handler, reader, writer):
        self.server, self.handler, self.reader, self.writer = server, handler, reader, writer
        self.replies = Replies([])

    async def ask(self, data=ASK):
        self.writer.write(data)
        await self.settled()

    async def settled(self):
        for _ in range(20):
            await asyncio.sleep(0.001)

    async def hear(self, count=1):
        """The next replies."""
        known = sum(reply.complete for reply in self.replies.found)
        while sum(reply.complete for reply in self.replies.found) < known + count:
            data = await asyncio.wait_for(self.reader.read(65_536), 5)
            if not data:
                self.replies.end()
                break
            self.replies.feed(data)
        return [(reply.status, reply.body) for reply in self.replies.found[known:]]


@pytest.fixture
async def talk():
    crashes, handler = [], Handler()
    server = Server(handler, lambda *said: ([], said[1].encode()), on_crash=crashes.append)
    server.at_once = handler.at_once
    await server.start(bind("127.0.0.1", 0, 1)[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    one = Talk(server, handler, reader, writer)
    for _ in range(WARMING):
        await one.ask()
        assert await one.hear() == [(200, b"task")]
    handler.takes = True
    yield one
    writer.transport.abort()
    await server.close()
    assert crashes == []
    assert server.in_flight == 0


async def begun(talk):
    await talk.ask()
    (one,) = talk.handler.begun
    assert talk.server.in_flight == 1
    return one


async def test_the_answer_goes_out_and_the_next_request_is_taken(talk):
    for number in range(3):
        await talk.ask()
        talk.handler.begun[number].answer()
        assert await talk.hear() == [(200, b"at once")]
    assert len(talk.handler.handled) == WARMING
    talk.handler.takes = False
    await talk.ask()
    assert await talk.hear() == [(200, b"task")]


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 102 Processing\r\n\r\n"])
async def test_the_answer_leaves_as_it_would_by_write_and_behind_what_was_written_before(talk, others, before):
    one = await begun(talk)
    outlet, sent = one.client._outlet, []
    outlet.send, talk.server.in_flight = sent.append, 1 + others
    if before:
        outlet.write(before)
    one.answer()
    assert bool(outlet.pending) == bool(others)
    await asyncio.sleep(0)
    assert (b"".join(sent).count(b"HTTP/1.1"), outlet.pending) == (1 + bool(before), b"")
    assert b"".join(sent).startswith(before + b"HTTP/1.1 200 OK\r\n")
    talk.server.in_flight -= others


async def test_what_the_handler_does_not_take_is_for_the_task(talk):
    talk.handler.takes = False
    await talk.ask()
    assert await talk.hear() == [(200, b"task")]


async def test_a_defect_while_it_is_looked_at_is_met_again_by_the_task(talk):
    talk.handler.defect = True
    await talk.ask()
    assert await talk.hear() == [(200, b"task")]


async def test_what_was_handed_over_is_gone_on_with_in_the_task(talk):
    one = await begun(talk)
    one.hand_over()
    assert await talk.hear() == [(200, b"went on")]
    assert talk.handler.handled[-1].begun is one
    assert one.given_up == []


async def test_a_request_behind_it_waits_for_its_turn(talk):
    one = await begun(talk)
    await talk.ask(ASK + ASK)
    assert len(talk.handler.begun) == 1
    one.answer()
    assert await talk.hear(3) == [(200, b"at once"), (200, b"task"), (200, b"task")]
    assert len(talk.handler.handled) == WARMING + 2


async def test_a_client_that_hangs_up_gives_it_up_once(talk):
    one = await begun(talk)
    talk.writer.transport.abort()
    await talk.settled()
    assert one.given_up == [()]
    assert talk.server.in_flight == 0
    assert talk.server.connections == 0


async def test_an_answer_that_was_there_before_its_client_hung_up_is_not_given_up(talk):
    """Who gives a call up may hear that it is answered already, and has the answer given out."""
    one, raised = await begun(talk), []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: raised.append(said))
    one.abandon = lambda _: one.answer()
    talk.writer.transport.abort()
    await talk.settled()
    assert (raised, talk.server.in_flight, talk.server.connections) == ([], 0, 0)


async def test_those_that_begin_together_are_each_left_to_their_task_where_all_of_it_fails(talk):
    """None is lost, and none is taken up twice."""
    talk.handler.defect = True
    clients = [await asyncio.open_connection("127.0.0.1", talk.server.port) for _ in range(3)]
    for _ in range(WARMING + 2):
        for _, writer in clients:
            writer.write(ASK)
        for reader, _ in clients:
            assert (await asyncio.wait_for(reader.readuntil(b"task"), 5)).startswith(b"HTTP/1.1 200 OK")
    assert len(talk.handler.handled) == WARMING + 3 * (WARMING + 2)
    for _, writer in clients:
        writer.transport.abort()


async def test_a_client_that_hangs_up_before_the_task_goes_on_gives_it_up(talk):
    one = await begun(talk)
    connection = one.client
    one.hand_over()
    connection.connection_lost(None)  # in the same turn of the loop
    await talk.settled()
    assert one.given_up == [()]
    assert len(talk.handler.handled) == WARMING


async def test_what_breaks_http_behind_it_is_answered_after_it_and_ends_the_connection(talk):
    one = await begun(talk)
    await talk.ask(b"nonsense\r\n\r\n")
    one.answer()
    assert await talk.hear(2) == [(200, b"at once"), (400, b"bad_request")]
    assert await talk.reader.read() == b""


async def test_while_the_server_drains_it_is_the_connections_last(talk):
    one = await begun(talk)
    draining = asyncio.create_task(talk.server.drain(5.0))
    await talk.settled()
    assert not draining.done()
    one.answer()
    assert await talk.hear() == [(200, b"at once")]
    assert talk.replies.found[-1].header(b"connection") == b"close"
    assert await draining == 0
    assert one.given_up == []


async def test_when_the_time_for_draining_is_over_it_is_given_up_and_told_so(talk):
    one = await begun(talk)
    assert await talk.server.drain(0.0) == 1
    assert one.given_up == [(SHUTDOWN,)]
    assert await talk.hear() == [(503, b"shutting_down")]
    assert await talk.reader.read() == b""


async def test_a_loop_that_is_torn_down_gives_it_up(talk):
    one = await begun(talk)
    one.client._task.cancel()
    await talk.settled()
    assert one.given_up == [()]


async def test_bytes_of_the_next_request_that_have_begun_keep_their_deadline(talk):
    one = await begun(talk)
    await talk.ask(HEAD + BODY[:2])
    one.answer()
    assert await talk.hear() == [(200, b"at once")]
    assert one.client.deadline > 0
    await talk.ask(BODY[2:])
    assert await talk.hear() == [(200, b"task")]


async def test_a_connection_has_no_task_until_a_request_needs_one(talk):
    """Its first request may have a head that another one sent: then it is answered, or handed over, as any other is."""
    readers = []
    for number in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", talk.server.port)
        readers.append((reader, writer))
        writer.write(ASK)
        await talk.settled()
        one = talk.handler.begun[-1]
        assert (len(talk.handler.begun), one.client._task) == (number + 1, None)
        one.answer()
        assert (await asyncio.wait_for(reader.readuntil(b"at once"), 5)).startswith(b"HTTP/1.1 200 OK")
    reader, writer = readers[0]
    writer.write(
        ASK + b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb"
    )  # not one whole message: for the task
    await talk.settled()
    assert len(talk.handler.handled) == WARMING + 2
    assert (await asyncio.wait_for(reader.readuntil(b"task"), 5)).startswith(b"HTTP/1.1 200 OK")
    reader, writer = readers[1]
    writer.write(ASK)
    await talk.settled()
    writer.write(ASK)
    await talk.settled()
    talk.handler.begun[-1].answer()
    assert (await asyncio.wait_for(reader.readuntil(b"task"), 5)).count(b"HTTP/1.1 200 OK") == 2, "behind the first one"
    reader, writer = readers[2]
    writer.write(ASK)
    await talk.settled()
    one = talk.handler.begun[-1]
    writer.write(b"nonsense\r\n\r\n")
    await talk.settled()
    one.hand_over()
    said = await asyncio.wait_for(reader.read(), 5)
    assert said.count(b"HTTP/1.1 200 OK") == 1
    assert said.count(b"HTTP/1.1 400 ") == 1
    assert said.index(b"went on") < said.index(b"HTTP/1.1 400 ")
    for _, writer in readers:
        writer.transport.abort()


@pytest.mark.parametrize("how", ["abort", "drain", "expel"])
async def test_a_connection_without_a_task_ends_as_one_with_one(talk, how):
    _, writer = await asyncio.open_connection("127.0.0.1", talk.server.port)
    writer.write(ASK)
    await talk.settled()
    (one,) = talk.handler.begun
    assert one.client._task is None
    if how == "abort":
        writer.transport.abort()
        await talk.settled()
        assert one.given_up == [()]
    elif how == "drain":
        draining = asyncio.create_task(talk.server.drain(5.0))
        await talk.settled()
        one.answer()
        assert await draining == 0
        assert one.given_up == []
    else:
        assert await talk.server.drain(0.0) == 1
        assert one.given_up == [(SHUTDOWN,)]
    assert (talk.server.in_flight, one.client in talk.server._connections) == (0, False)
    writer.transport.abort()
