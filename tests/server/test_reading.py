"""Bytes in, requests out: every vector of request smuggling, every limit, at every split of the bytes."""

import asyncio
import random

import h11
import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.server.http11 import Connection, Limits, Request, Responder
from penstock.server.reading import READY, Reading, verdict
from penstock.server.repeats import Heads
from penstock.server.request import Endpoints, Refused

HOST = b"Host: a\r\n"


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST /x HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNK = b"0\r\n\r\n"

REFUSED = {
    "a length beside a transfer coding": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNK),
    "a transfer coding beside a length": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNK),
    "two lengths that differ": post(b"Content-Length: 4", b"Content-Length: 5", body=b"abcde"),
    "two equal lengths": post(b"Content-Length: 4", b"Content-Length: 4", body=b"abcd"),
    "a list of lengths": post(b"Content-Length: 4, 4", body=b"abcd"),
    "a signed length": post(b"Content-Length: +2", body=b"ab"),
    "a negative length": post(b"Content-Length: -2", body=b"ab"),
    "an empty length": post(b"Content-Length:", body=b"ab"),
    "a hexadecimal length": post(b"Content-Length: 0x2", body=b"ab"),
    "a length with an exponent": post(b"Content-Length: 1e1", body=b"ab"),
    "a length with a blank inside": post(b"Content-Length: 1 1", body=b"ab"),
    "a length in other digits": post("Content-Length: ²".encode(), body=b"ab"),
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551616", body=b"ab"),
    "a length with a NUL": post(b"Content-Length: 2\0", body=b"ab"),
    "an unknown transfer coding": post(b"Transfer-Encoding: xchunked", body=CHUNK),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=CHUNK),
    "chunked in two headers": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNK),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip", body=CHUNK),
    "gzip before chunked": post(b"Transfer-Encoding: gzip, chunked", body=CHUNK),
    "gzip before chunked in two headers": post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=CHUNK),
    "identity": post(b"Transfer-Encoding: identity", body=CHUNK),
    "identity before chunked": post(b"Transfer-Encoding: identity, chunked", body=CHUNK),
    "an empty element before chunked": post(b"Transfer-Encoding: ,chunked", body=CHUNK),
    "a parameter of chunked": post(b"Transfer-Encoding: chunked;q=1", body=CHUNK),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=CHUNK),
    "an empty transfer coding": post(b"Transfer-Encoding:", body=CHUNK),
    "a vertical tab behind chunked": post(b"Transfer-Encoding: chunked\x0b", body=CHUNK),
    "a transfer coding in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=CHUNK, line=b"POST /x HTTP/1.0"),
    "a length with an underscore": post(b"Content_Length: 5", body=b""),
    "a transfer coding with an underscore": post(b"transfer_encoding: chunked", body=b""),
    "a blank before the colon of a length": post(b"Content-Length : 4", body=b"abcd"),
    "a blank before a colon": post(b"X : y"),
    "a tab before a colon": post(b"X\t: y"),
    "a blank before the first header": post(host=b" Host: a\r\n"),
    "a folded header": post(b"X: a\r\n b"),
    "a header folded with a tab": post(b"X: a\r\n\tb"),
    "a header without a name": post(b": b"),
    "a header without a colon": post(b"foo"),
    "bare LF throughout": b"GET /x HTTP/1.1\nHost: a\n\n",
    "bare LF after the request line": b"GET /x HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a header": b"GET /x HTTP/1.1\r\nHost: a\n\r\n",
    "bare LF after the head": b"GET /x HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR after the request line": b"GET /x HTTP/1.1\rHost: a\r\n\r\n",
    "bare CR after a header": b"GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "a NUL in a value": post(b"X: a\0b"),
    "a NUL in a name": post(b"X\0: ab"),
    "a backspace in a value": post(b"X: a\bb"),
    "a form feed in a value": post(b"X: a\fb"),
    "a DEL in a value": post(b"X: a\x7fb"),
    "an octet above 127 in a name": post(b"X\x80: ab"),
    "no Host": post(host=b""),
    "two Hosts": post(b"Host: b"),
    "two equal Hosts": post(b"host: a"),
    "a Host with a path": post(host=b"Host: localhost:4000/#@x\r\n"),
    "a Host with user information": post(host=b"Host: a@b\r\n"),
    "a Host of two words": post(host=b"Host: a b\r\n"),
    "a Host of two names": post(host=b"Host: a, b\r\n"),
    "a chunk size ended by LF": chunked(b"4\nabcd\r\n0\r\n\r\n"),
    "a chunk ended by LF": chunked(b"4\r\nabcd\n0\r\n\r\n"),
    "a chunk longer than its size": chunked(b"4\r\nabcdX\r\n0\r\n\r\n"),
    "a chunk without its line end": chunked(b"4\r\nabcd0\r\n\r\n"),
    "a chunk ended by CR": chunked(b"4\r\nabcd\r0\r\n\r\n"),
    "a chunk ended by CR CR LF": chunked(b"4\r\nabcd\r\r\n0\r\n\r\n"),
    "a chunk size ended by CR": chunked(b"4\rabcd\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunked(b"0x4\r\nabcd\r\n0\r\n\r\n"),
    "a signed chunk size": chunked(b"+4\r\nabcd\r\n0\r\n\r\n"),
    "a negative chunk size": chunked(b"-4\r\nabcd\r\n0\r\n\r\n"),
    "a blank after a chunk size": chunked(b"4 \r\nabcd\r\n0\r\n\r\n"),
    "a blank before a chunk size": chunked(b" 4\r\nabcd\r\n0\r\n\r\n"),
    "no chunk size": chunked(b"\r\nabcd\r\n0\r\n\r\n"),
    "a chunk size of letters": chunked(b"g\r\n"),
    "a chunk size beyond 64 bits": chunked(b"ffffffffffffffff1\r\nabcd"),
    "a chunk extension with LF": chunked(b"4;a\nabcd\r\n0\r\n\r\n"),
    "a chunk extension with LF in quotes": chunked(b'4;a="\n"\r\nabcd\r\n0\r\n\r\n'),
    "a last chunk ended by LF": chunked(b"0\r\n\n"),
    "a length in the trailers": chunked(b"0\r\nContent-Length: 4\r\n\r\n"),
    "a transfer coding in the trailers": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "an unknown method": b"FOO /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank before the method": b" GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a blank": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a NUL": b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with an octet above 127": b"GET /a\x80b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is no path": b"GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target of a foreign scheme": b"GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target that is not UTF-8": b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "an asterisk without OPTIONS": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a TLS greeting": bytes.fromhex("160301020001000203"),
    "a blank after the version": b"GET /x HTTP/1.1 \r\nHost: a\r\n\r\n",
}
OTHER_STATUS = {
    "HTTP/2.0": (505, b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": (505, b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n"),
    "HTTP/3.1": (505, b"GET /x HTTP/3.1\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /x\r\n\r\n"),
    "the greeting of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": (400, b"GET /x SIP/2.0\r\nHost: a\r\n\r\n"),
    "CONNECT": (405, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "another expectation": (417, post(b"Expect: a cake", b"Content-Length: 2", body=b"ab")),
    "a header of 64 KB": (431, post(b"X: " + b"a" * 65_536)),
    "a header of 1 MB": (431, post(b"X: " + b"a" * 1_048_576)),
    "20,000 headers": (431, post(*(b"x: y" for _ in range(20_000)))),
    "101 headers": (431, post(*(b"x: y" for _ in range(100)))),
    "a target of 40 KB": (431, b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a length above the limit": (413, post(b"Content-Length: 20971521")),
    "a lying length": (413, post(b"Content-Length: 9223372036854775807", body=b"abc")),
}
VECTORS = {name: (400, data) for name, data in REFUSED.items()} | OTHER_STATUS


@pytest.mark.parametrize("name", VECTORS)
async def test_what_breaks_the_rules_gets_one_refusal_and_the_connection_ends(serve, name):
    status, data = VECTORS[name]
    running = await serve()
    (reply,) = await running.ask(data + NEXT)
    assert (reply.status, reply.complete) == (status, True), reply
    assert reply.header(b"connection") == b"close"
    assert reply.header(b"x-code")
    assert not running.crashes


@pytest.mark.parametrize("name", [name for name, (_, data) in VECTORS.items() if len(data) < 1000])
async def test_a_refusal_does_not_depend_on_how_the_bytes_are_cut(name):
    status, data = VECTORS[name]
    for step in (1, 2, 3, 7):
        reading = Recorder()
        for start in range(0, len(data), step):
            reading.feed(data[start : start + step])
        reading.feed(NEXT)
        assert [item.status for item in reading.items if isinstance(item, Refused)] == [status], step
        assert not [item for item in reading.items if isinstance(item, Request)]


ACCEPTED = {
    "a plain GET": (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x? "),
    "an empty Host": (b"GET /x HTTP/1.1\r\nHost:\r\n\r\n", b"GET /x? "),
    "a Host of IPv6": (b"GET /x HTTP/1.1\r\nHost: [::1]:8420\r\n\r\n", b"GET /x? "),
    "a length with blanks around": (post(b"Content-Length: \t2 ", body=b"ab"), b"POST /x? ab"),
    "a chunked body": (chunked(b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nX: y\r\n\r\n"), b"POST /x? abcde"),
    "a chunked body in capitals": (
        post(b"TRANSFER-ENCODING: CHUNKED ", body=b"A\r\n0123456789\r\n0\r\n\r\n"),
        b"POST /x? 0123456789",
    ),
    "an empty chunked body": (chunked(CHUNK), b"POST /x? "),
    "an absolute target": (b"GET http://b:80/x?y=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x?y=1 "),
    "an absolute target without a path": (b"GET HTTPS://b?y HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /?y "),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS *? "),
    "a decoded path": (b"GET /a%2Fb%20%C3%A9?q=%20 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a/b é?q=%20 ".encode()),
    "a body of a GET": (b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", b"GET /x? ab"),
    "empty lines before": (b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /x? "),
    "an offer of h2c": (
        post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
        b"POST /x? abc",
    ),
    "an offer of h2c with a chunked body": (
        post(b"Upgrade: h2c", b"Transfer-Encoding: chunked", b"Connection: upgrade", body=b"2\r\nab\r\n0\r\n\r\n"),
        b"POST /x? ab",
    ),
    "an offer of a WebSocket": (
        post(b"Connection: upgrade", b"Upgrade: websocket", line=b"GET /x HTTP/1.1"),
        b"GET /x? ",
    ),
    "trailers that name a Host": (chunked(b"2\r\nab\r\n0\r\nHost: evil\r\n\r\n"), b"POST /x? ab"),
    "a hundred headers": (post(*(b"x%d: y" % i for i in range(99))), b"POST /x? "),
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_what_keeps_to_the_rules_is_answered_and_the_connection_stays(serve, name):
    data, expected = ACCEPTED[name]
    running = await serve()
    client = await running.client()
    for _ in range(2):
        await client.send(data)
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, expected)
        assert reply.header(b"connection") is None


class Recorder(Reading):
    """Reading without a socket: keeps what comes out."""

    limits = Limits(body_bytes=1000)
    now = 100.0
    loop = None
    draining = False

    def __init__(self) -> None:
        super().__init__(self, Heads())
        self._endpoints = Endpoints(("127.0.0.1", 1), ("127.0.0.1", 2), "http")
        self._parser = httptools.HttpRequestParser(self)
        self.items: list[Request | Refused] = []
        self.continued = 0

    def feed(self, data: bytes) -> None:
        if self.items and isinstance(self.items[-1], Refused):
            return
        self._begin_read(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            self.feed(self._head_without_upgrade())
            self.feed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(verdict(error))
        if self._state != READY:
            self._end_read()

    def _deliver(self, request: Request) -> None:
        self.items.append(request)

    def _refuse(self, verdict: Refused) -> None:
        self._state = 3
        self.items.append(verdict)

    def _continue(self) -> None:
        self.continued += 1


def whole(*cuts: bytes) -> list[Request | Refused]:
    reading = Recorder()
    for data in cuts:
        reading.feed(data)
    return reading.items


async def test_a_request_that_comes_byte_by_byte_is_the_same_request(serve):
    seen: list[Request] = []

    async def keep(request: Request, responder: Responder) -> None:
        seen.append(request)
        responder.send(200, [], b"")

    data = chunked(b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nX: y\r\n\r\n")
    running = await serve(keep)
    client = await running.client()
    await client.send(data)
    await client.reply()
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    await client.reply()
    assert seen[0] == seen[1]
    assert seen[0].body == b"abcde"
    assert seen[0].headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    assert (seen[0].peer, seen[0].endpoints.server[1], seen[0].endpoints.scheme) == (
        "127.0.0.1",
        running.server.port,
        "http",
    )


@given(st.data())
def test_every_cut_of_a_pipeline_gives_the_same_requests(data):
    stream = b"".join(request for request, _ in ACCEPTED.values() if b"pgrade" not in request)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert whole(*filter(None, pieces)) == whole(stream)


def test_the_head_may_have_its_whole_limit_and_not_a_byte_more():
    frame = len(b"/x") + 2 * 4 + len(b"hostax")
    for surplus, expected in ((0, [Request]), (1, [Refused])):
        data = post(b"X: " + b"a" * (Recorder.limits.header_bytes - frame + surplus))
        assert [type(item) for item in whole(data)] == expected
        assert [type(item) for item in whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + data)] == [Request, *expected]


def test_a_long_body_in_the_same_read_is_not_taken_for_a_long_head():
    reading = Recorder()
    reading.limits = Limits()
    reading.feed(post(b"Content-Length: 100000", body=b"a" * 100_000) + b"GET /y HTTP/1.1\r\nHo")
    reading.feed(b"st: a\r\n\r\n")
    assert [item.path for item in reading.items] == ["/x", "/y"]


def test_a_head_without_end_is_refused_when_its_limit_is_passed():
    reading = Recorder()
    reading.feed(b"GET /x HTTP/1.1\r\nHost: a\r\nX: ")
    for _ in range(32):
        reading.feed(b"a" * 1000)
    assert reading.items == []
    reading.feed(b"a" * 1000)
    assert reading.items[0].status == 431


@pytest.mark.parametrize("endless", [b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", b"a"])
def test_endless_trailers_are_refused(endless):
    reading = Recorder()
    reading.feed(chunked(b"1\r\na\r\n0\r\nX: "))
    for _ in range(Recorder.limits.header_bytes + 1):
        reading.feed(endless)
    assert reading.items[0].status == 431


def test_an_endless_chunk_extension_is_refused():
    reading = Recorder()
    reading.feed(chunked(b"1;"))
    while not reading.items:
        reading.feed(b"a" * 100)
    assert reading.items[0].status == 431


def test_a_chunked_body_is_refused_as_soon_as_it_exceeds_the_limit():
    reading = Recorder()
    reading.feed(chunked(b""))
    for _ in range(10):
        reading.feed(b"64\r\n" + b"a" * 100 + b"\r\n")
    assert reading.items == []
    reading.feed(b"1\r\na")
    assert reading.items[0].status == 413


async def test_a_body_above_the_limit_is_refused_before_it_is_read_and_the_client_sees_why(serve):
    running = await serve(limits=Limits(body_bytes=1000))
    client = await running.client()
    await client.send(post(b"Content-Length: 5000000"))
    reply = await client.reply()
    assert (reply.status, reply.header(b"x-code")) == (413, b"request_too_large")
    for _ in range(50):  # a client that reads its answer only when it has sent everything is not reset
        await client.send(b"a" * 100_000)
    assert await client.is_closed()


async def test_a_chunked_body_above_the_limit_is_refused_while_it_is_being_sent(serve):
    running = await serve(limits=Limits(body_bytes=1_000_000))
    client = await running.client()
    await client.send(post(b"Transfer-Encoding: chunked"))
    for _ in range(50):
        await client.send(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
    (reply,) = await client.rest()
    assert reply.status == 413


async def test_a_body_of_many_pieces_arrives_whole(serve):
    running = await serve()
    client = await running.client()
    body = random.Random(1).randbytes(3_000_000)
    await client.send(post(b"Content-Length: 3000000", body=body))
    assert (await client.reply()).body == b"POST /x? " + body


async def test_a_client_that_waits_for_100_is_told_to_go_on(serve):
    running = await serve()
    client = await running.client()
    for _ in range(2):
        await client.send(post(b"Expect: 100-Continue", b"Content-Length: 3"))
        assert (await client.reply()).status == 100
        await client.send(b"abc")
        assert (await client.reply()).body == b"POST /x? abc"


async def test_100_is_not_sent_where_it_is_of_no_use(serve):
    running = await serve(limits=Limits(body_bytes=10))
    for data, status in (
        (post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), 200),
        (post(b"Expect: 100-continue"), 200),
        (post(b"Expect: 100-continue", b"Content-Length: 11"), 413),
        (post(b"Expect: 100-continue", b"Content-Length: 3", line=b"POST /x HTTP/1.0") + b"abc", 200),
    ):
        client = await running.client()
        await client.send(data)
        assert (await client.reply()).status == status


async def test_100_does_not_cut_into_the_reply_before_it(serve):
    go_on = asyncio.Event()

    async def slow(request: Request, responder: Responder) -> None:
        responder.start(200, [])
        responder.write(b"one")
        await go_on.wait()
        responder.finish(b"two")

    running = await serve(slow)
    client = await running.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
    await asyncio.sleep(0.03)
    go_on.set()
    assert (await client.reply()).body == b"onetwo"
    assert (await client.reply()).status == 100
    await client.send(b"abc")
    assert (await client.reply()).body == b"onetwo"


async def test_a_thousand_offers_of_an_upgrade_in_one_read_are_a_thousand_requests(serve):
    running = await serve()
    client = await running.client()
    offer = post(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 1", body=b"z")
    await client.send(offer * 1000)
    for _ in range(1000):
        assert (await client.reply()).body == b"POST /x? z"


# Fuzz: whatever comes, the server does not fall over, and a bad request ends the conversation.

PIECES = (
    *(
        b"GET ",
        b"POST ",
        b"OPTIONS * ",
        b"CONNECT a:1 ",
        b"/",
        b"/a?b",
        b"http://a/",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
    ),
    *(
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\r\n\r\n",
    ),
    *(
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"X: y\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"ff",
        b";a=b",
    ),
    *(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
)
lines = st.sampled_from([b"GET /a HTTP/1.1", b"POST /b?c HTTP/1.1", b"POST http://a/ HTTP/1.1", b"GET /d HTTP/1.0"])
fields = st.lists(
    st.sampled_from([piece[:-2] for piece in PIECES if piece.endswith(b"\r\n") and b": " in piece]), max_size=3
)
bodies = st.sampled_from([b"", b"abc", b"abcde", b"3\r\nabc\r\n0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"])
requests = st.builds(lambda line, fields, body: post(*fields, body=body, line=line), lines, fields, bodies)
anything = st.lists(st.one_of(requests, st.sampled_from(PIECES), st.binary(max_size=4)), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=anything, cut=st.integers(0, 200))
def test_no_bytes_crash_the_server_or_get_a_reply_after_a_refusal(make_server, memory, read_replies, stream, cut):
    transport = memory()

    async def converse() -> list[BaseException]:
        server, crashes = make_server()
        connection = Connection(server)
        connection.connection_made(transport)
        for piece in filter(None, (stream[:cut], stream[cut:])):
            connection.data_received(piece)
            for _ in range(30):
                await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert server.connections == server.in_flight == 0
        return crashes

    assert asyncio.run(converse()) == []
    replies = read_replies(transport.written)
    finals = [reply for reply in replies if reply.status >= 200]
    assert all(reply.complete for reply in replies)
    assert all(reply.status == 200 for reply in finals[:-1])
    assert not transport.closed or finals[-1].header(b"connection") == b"close"


@settings(max_examples=500)
@given(stream=anything)
def test_what_is_read_here_is_read_the_same_by_another_parser(stream):
    """The other one is h11, which shares no code with llhttp. It may be laxer; where we accept, it must agree."""
    for request in whole(stream):
        if isinstance(request, Refused):
            return
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(stream.lstrip(b"\r\n"))  # which RFC 9112, section 2.2, lets us skip between requests
        head = peer.next_event()
        assert isinstance(head, h11.Request)
        assert (head.method.decode(), head.target) == (request.method, request.target)
        body = b""
        while isinstance(event := peer.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert body == request.body
        stream = peer.trailing_data[0]
