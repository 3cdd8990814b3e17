"""Replies as a strict parser reads them: framing for every method, version and status, in as few writes as can be."""

import asyncio
from collections.abc import Callable

import pytest

from penstock.server.http11 import Request, Responder
from penstock.server.outlet import Outlet

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
TEXT = (b"content-type", b"text/plain")


def answer(*steps: Callable[[Responder], None]):
    async def handler(request: Request, responder: Responder) -> None:
        for step in steps:
            step(responder)
            await asyncio.sleep(0)

    return handler


def stream(*headers: tuple[bytes, bytes], status: int = 200):
    return answer(
        lambda reply: reply.start(status, [TEXT, *headers]),
        lambda reply: reply.write(b"one "),
        lambda reply: reply.write(b""),
        lambda reply: reply.write(b"two "),
        lambda reply: reply.finish(b"three"),
    )


whole = answer(lambda reply: reply.send(200, [TEXT], b"whole"))


@pytest.mark.parametrize(
    ("handler", "request_", "body", "framing", "connection"),
    [
        (whole, GET, b"whole", (b"5", None), None),
        (whole, HEAD, b"", (b"5", None), None),
        (whole, OLD, b"whole", (b"5", None), b"close"),
        (whole, OLD_KEPT, b"whole", (b"5", None), b"keep-alive"),
        (stream(), GET, b"one two three", (None, b"chunked"), None),
        (stream(), HEAD, b"", (None, None), None),
        (stream(), OLD, b"one two three", (None, None), b"close"),
        (stream(), OLD_KEPT, b"one two three", (None, None), b"close"),
        (stream((b"content-length", b"13")), GET, b"one two three", (b"13", None), None),
        (stream((b"content-length", b"13")), HEAD, b"", (b"13", None), None),
        (stream((b"content-length", b"13")), OLD, b"one two three", (b"13", None), b"close"),
        (stream((b"content-length", b"13")), OLD_KEPT, b"one two three", (b"13", None), b"keep-alive"),
        (stream(status=204), GET, b"", (None, None), None),
        (stream(status=304), GET, b"", (None, None), None),
        (answer(lambda reply: reply.send(204, [], b"ignored")), GET, b"", (None, None), None),
        (answer(lambda reply: reply.send(304, [], b"ignored")), GET, b"", (None, None), None),
        (answer(lambda reply: reply.send(529, [], b"")), GET, b"", (b"0", None), None),
        (answer(lambda reply: reply.start(200, []), lambda reply: reply.finish()), GET, b"", (None, b"chunked"), None),
    ],
)
async def test_a_reply_is_framed_so_that_its_end_is_known(serve, handler, request_, body, framing, connection):
    running = await serve(handler)
    client = await running.client()
    stays = connection != b"close"
    for _ in range(2 if stays else 1):
        await client.send(request_)
        if request_ == HEAD or stays:
            reply = await client.reply()
        else:
            (reply,) = await client.rest()
        assert reply.complete
        assert reply.body == body
        assert (reply.header(b"content-length"), reply.header(b"transfer-encoding")) == framing
        assert reply.header(b"connection") == connection
    assert running.crashes == []


class Written:
    """A responder whose writes are kept."""

    def __init__(self, make_server, memory, *, keep_alive: bool = True) -> None:
        self.transport = memory()
        server, _ = make_server()
        self.outlet = Outlet(server, self.transport, (0, 0, b""))
        self.reply = Responder(self.outlet, keep_alive)

    @property
    def blocks(self) -> list[bytes]:
        return self.transport.written


@pytest.fixture
async def written(make_server, memory) -> Written:
    return Written(make_server, memory)


async def test_a_whole_reply_is_one_write(written):
    written.reply.send(200, [TEXT, (b"x", b"y")], b"body")
    assert written.blocks == [b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx: y\r\ncontent-length: 4\r\n\r\nbody"]
    assert (written.reply.started, written.reply.finished, written.reply.untouched) == (True, True, False)


async def test_the_head_of_a_stream_goes_out_with_its_first_piece(written):
    written.reply.start(200, [TEXT])
    assert written.blocks == []
    written.reply.write(b"ab")
    written.reply.write(b"x" * 17)
    written.reply.finish(b"c")
    await asyncio.sleep(0)
    assert written.blocks == [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"11\r\n" + b"x" * 17 + b"\r\n",
        b"1\r\nc\r\n0\r\n\r\n",
    ]


async def test_whole_chunks_go_out_as_they_are_between_the_head_of_a_chunked_stream_and_its_end(written):
    assert written.reply.outflow() is None
    written.reply.start(200, [])
    assert written.reply.outflow() is None, "the head has to go out first"
    written.reply.write(b"ab")
    outflow = written.reply.outflow()
    outflow.write(b"3\r\ncde\r\n")
    written.reply.write(b"f")
    written.reply.finish()
    assert written.blocks[1:] == [b"3\r\ncde\r\n", b"1\r\nf\r\n", b"0\r\n\r\n"]
    assert (outflow.congested, written.reply.outflow()) == (False, None)


@pytest.mark.parametrize(
    ("head_only", "old", "headers"), [(True, False, []), (False, True, []), (False, False, [(b"content-length", b"9")])]
)
async def test_no_chunks_go_out_where_a_reply_has_none(written, head_only, old, headers):
    reply = Responder(written.outlet, True, head_only, old)
    reply.start(200, headers)
    reply.write(b"ab")
    await asyncio.sleep(0)
    reply.write(b"cd")
    assert reply.outflow() is None


async def test_a_stream_with_one_piece_is_one_write(written):
    written.reply.start(200, [])
    written.reply.finish(b"ab")
    await asyncio.sleep(0)
    assert written.blocks == [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"]


async def test_the_head_of_a_stream_goes_out_alone_where_nothing_follows_in_this_turn(written):
    written.reply.start(200, [])
    assert written.reply.untouched
    await asyncio.sleep(0)
    assert written.blocks == [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]
    assert not written.reply.untouched
    written.reply.finish()
    assert written.blocks[1:] == [b"0\r\n\r\n"]


async def test_a_reply_that_was_taken_back_leaves_no_trace(written):
    written.reply.start(200, [])
    written.reply.withdraw()
    await asyncio.sleep(0)
    assert written.blocks == []
    written.reply.send(500, [], b"")
    assert len(written.blocks) == 1


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\nb"), (b"x\n", b"a"), (b"x", b"a\n")])
async def test_a_header_with_a_line_break_is_not_sent(written, header):
    for send in (
        lambda: written.reply.send(200, [TEXT, header], b""),
        lambda: written.reply.start(200, [header, TEXT]),
    ):
        with pytest.raises(ValueError, match="line break"):
            send()
        assert written.reply.untouched
    assert written.blocks == []


@pytest.mark.parametrize(
    "steps",
    [
        ["write"],
        ["finish"],
        ["send", "send"],
        ["send", "start"],
        ["send", "write"],
        ["send", "finish"],
        ["start", "send"],
        ["start", "start"],
        ["start", "finish", "write"],
        ["start", "finish", "finish"],
    ],
)
async def test_a_call_out_of_turn_is_a_fault_of_the_handler(written, steps):
    calls = {
        "send": lambda: written.reply.send(200, [], b""),
        "start": lambda: written.reply.start(200, []),
        "write": lambda: written.reply.write(b"a"),
        "finish": lambda: written.reply.finish(b"a"),
    }
    for step in steps[:-1]:
        calls[step]()
    with pytest.raises(RuntimeError):
        calls[steps[-1]]()


async def test_a_body_that_differs_from_its_declared_length_is_a_fault(written):
    written.reply.start(200, [(b"content-length", b"4")])
    written.reply.write(b"abc")
    with pytest.raises(RuntimeError, match="1 bytes short"):
        written.reply.finish()
    with pytest.raises(RuntimeError, match="1 bytes longer"):
        written.reply.write(b"de")
    assert not written.reply.finished


async def test_a_reply_after_which_no_request_is_served_says_so(make_server, memory):
    written = Written(make_server, memory)
    written.outlet.draining = True
    written.reply.send(200, [], b"")
    assert b"connection: close\r\n" in written.blocks[0]
    assert written.reply.keep_alive is False


async def test_a_piece_tells_whether_the_client_reads_more_slowly_than_we_write(written):
    written.reply.start(200, [])
    assert written.reply.write(b"a") is False
    written.outlet.pause()
    assert [written.reply.write(data) for data in (b"b", b"", b"c")] == [True] * 3
    written.outlet.resume()
    assert written.reply.write(b"d") is False
    written.reply.finish()
    assert b"".join(written.blocks).endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n0\r\n\r\n")


async def test_a_client_that_goes_in_the_middle_gets_no_more(written):
    written.reply.start(200, [])
    written.reply.write(b"a")
    written.reply.write(b"b")
    written.outlet.stop()
    assert written.reply.write(b"c") is False
    written.reply.finish(b"d")
    assert len(written.blocks) == 2


async def test_an_aborted_reply_drops_what_was_not_sent(written):
    written.reply.start(200, [])
    written.reply.abort()
    await asyncio.sleep(0)
    assert written.blocks == []
    assert written.transport.closed
    assert written.reply.gone
    written.reply.abort()


async def test_nothing_is_written_to_a_client_that_is_gone(make_server, memory):
    for use in (
        lambda reply: reply.send(200, [], b"a"),
        lambda reply: (reply.start(200, []), reply.write(b"a"), reply.finish(b"b")),
    ):
        written = Written(make_server, memory)
        written.outlet.stop()
        use(written.reply)
        await asyncio.sleep(0)
        assert written.blocks == []
        assert written.reply.finished


async def test_a_refusal_of_head_has_no_body(serve):
    running = await serve()
    client = await running.client()
    await client.send(b"HEAD / HTTP/1.1\r\n\r\n")
    (reply,) = await client.rest()
    assert (reply.status, reply.body, reply.complete) == (400, b"", True)


async def test_a_fault_in_a_reply_to_head_has_no_body(serve):
    async def fail(request: Request, responder: Responder) -> None:
        raise LookupError

    running = await serve(fail)
    client = await running.client()
    await client.send(HEAD)
    (reply,) = await client.rest()
    assert (reply.status, reply.body) == (500, b"")
    assert isinstance(running.crashes[0], LookupError)


async def test_a_head_that_waits_for_its_first_piece_goes_out_in_the_turn_in_which_that_turns_out_empty(written):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    written.reply.start(200, [], soon=False)
    await asyncio.sleep(0)
    assert written.blocks == []
    written.reply.write(b"")
    await asyncio.sleep(0)
    assert written.blocks == [head]
    other = Responder(written.outlet, True)
    other.start(200, [], soon=False)
    other.write(b"ab")
    assert written.blocks[1:] == [head + b"2\r\nab\r\n"]
