"""Every way in which a reply can arrive, end or go wrong, against a scripted server on loopback."""

import asyncio
import contextlib
import gc
import ssl
import zlib
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.providers.connection import Connection
from penstock.providers.exchange import Fault, Header, Limits, Reply
from penstock.providers.head import Heads
from penstock.providers.pool import Pool
from providers.loopback import OK, SSE, Peer, chunk, closing, drain, get, on_both_loops, until, upstream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def sends(data: bytes, *, then: str = "stay") -> Callable[[Peer], Awaitable[None]]:
    """A script that answers one request with these bytes, then stays, closes or resets."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if then == "close":
            peer.close()
        if then == "reset":
            await asyncio.sleep(0.02)  # the bytes go first
            peer.reset()

    return script


async def drip(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"content-length: 1000\r\n\r\n")
    while True:
        await peer.send(b"x")
        await asyncio.sleep(0.02)


async def endless_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await peer.send(b"x-filler: %b\r\n" % (b"y" * 1000))
        await asyncio.sleep(0)


async def endless_interim(peer: Peer) -> None:
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0)


async def endless_trailer(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-trailer: ")
    while True:
        await peer.send(b"y" * 4096)
        await asyncio.sleep(0)


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
QUICK = Limits(first_byte_s=0.06, idle_s=0.06, head_bytes=4096, reply_bytes=10_000)
BOMB = zlib.compress(b"0" * 10_000_000)

FAULTS = {
    "a close before the reply": (sends(b"", then="close"), "closed"),
    "a reset before the reply": (sends(b"", then="reset"), "reset"),
    "silence before the reply": (sends(b""), "first_byte_timeout"),
    "a close within the status line": (sends(b"HTTP/1.1 2", then="close"), "closed"),
    "a close within the head": (sends(HEAD, then="close"), "closed"),
    "a reset within the head": (sends(HEAD, then="reset"), "reset"),
    "silence within the head": (sends(HEAD), "idle_timeout"),
    "a close within a body of known length": (sends(HEAD + b"content-length: 9\r\n\r\n1234", then="close"), "truncated"),
    "a reset within the body": (sends(HEAD + b"content-length: 9\r\n\r\n1234", then="reset"), "reset"),
    "silence within the body": (sends(HEAD + b"content-length: 9\r\n\r\n1234"), "idle_timeout"),
    "a close within a chunk": (sends(CHUNKED + b"9\r\n1234", then="close"), "truncated"),
    "a close between chunks": (sends(CHUNKED + chunk(b"1234"), then="close"), "truncated"),
    "a close within the last chunk": (sends(CHUNKED + chunk(b"1234") + b"0\r\n", then="close"), "truncated"),
    "a reset of a body without an end": (sends(HEAD + b"\r\n1234", then="reset"), "reset"),
    "a drip, which no idle timeout ends": (drip, "deadline"),
    "garbage": (sends(b"\x00\x01\x02 what is this\r\n\r\n"), "protocol"),
    "an HTML page without HTTP": (sends(b"<html>busy</html>\r\n\r\n"), "protocol"),
    "an HTTP/2 preface": (sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "protocol"),
    "HTTP/2 settings": (sends(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)), "protocol"),
    "a status line of HTTP/2.0": (sends(b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "HTTP/0.9": (sends(b"HTTP/0.9 200 OK\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "a status without sense": (sends(b"HTTP/1.1 000 Zero\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "a length and chunks": (sends(HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"), "protocol"),
    "chunks and a length": (sends(HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "two lengths": (sends(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"), "protocol"),
    "a signed length": (sends(HEAD + b"content-length: +2\r\n\r\n{}"), "protocol"),
    "an unknown transfer-encoding": (sends(HEAD + b"transfer-encoding: gzip\r\n\r\n{}"), "protocol"),
    "chunks within another coding": (sends(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), "protocol"),
    "a chunk size without digits": (sends(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), "protocol"),
    "a chunk without its line end": (sends(CHUNKED + b"2\r\n{}XX0\r\n\r\n"), "protocol"),
    "a negative chunk": (sends(CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n"), "protocol"),
    "a bare line feed": (sends(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}"), "protocol"),
    "a blank before a colon": (sends(HEAD + b"content-length : 2\r\n\r\n{}"), "protocol"),
    "a NUL in a header": (sends(HEAD + b"x: \x00\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "a folded header": (sends(HEAD + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}"), "protocol"),
    "a switch of protocols": (sends(b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"), "protocol"),
    "an endless head": (endless_head, "too_large"),
    "a huge header in one read": (sends(HEAD + b"x: %b\r\ncontent-length: 2\r\n\r\n{}" % (b"y" * 5000)), "too_large"),
    "an endless row of interim replies": (endless_interim, "protocol"),
    "an endless trailer": (endless_trailer, "too_large"),
    "a body over the limit": (sends(HEAD + b"content-length: 10001\r\n\r\n" + b"x" * 10_001), "too_large"),
    "an endless body over the limit": (sends(CHUNKED + chunk(b"x" * 9_000) * 2), "too_large"),
    "a compression bomb": (sends(HEAD + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n%b" % (len(BOMB), BOMB)), "too_large"),
    "an unknown content-encoding": (sends(HEAD + b"content-encoding: br\r\ncontent-length: 2\r\n\r\n{}"), "encoding"),
    "a body that is not compressed as it says": (sends(HEAD + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\n{12345678"), "encoding"),
    "a compressed body cut short": (sends(HEAD + b"content-encoding: gzip\r\ncontent-length: 12\r\n\r\n" + zlib.compress(b"a", wbits=31)[:12]), "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
@on_both_loops
async def test_a_fault_is_named_ends_in_time_and_leaves_nothing_behind(name: str) -> None:
    script, kind = FAULTS[name]
    loop = asyncio.get_running_loop()
    async with upstream(script) as up:
        with closing(Pool(up.address, QUICK)) as pool:
            began = loop.time()
            with pytest.raises(Fault) as caught:
                await get(pool, within_s=0.25)
            assert caught.value.kind == kind
            assert caught.value.sent
            assert not caught.value.reused
            assert loop.time() - began < 0.25 + 0.05
            assert (pool.open, pool.idle, pool.busy) == (0, 0, 0)
        await up.left(0.2)


WHOLE = {
    "known length": (OK, 200, b"{}", "length", True),
    "chunks": (CHUNKED + chunk(b"ab") + chunk(b"cd") + chunk(b""), 200, b"abcd", "chunked", True),
    "chunks, an extension and a trailer": (CHUNKED + b"2;x=1\r\nab\r\n0\r\nx-sum: 1\r\n\r\n", 200, b"ab", "chunked", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "length", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", 304, b"", "length", True),
    "an empty body": (HEAD + b"content-length: 0\r\n\r\n", 200, b"", "length", True),
    "a redirect": (b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 2\r\n\r\ngo", 302, b"go", "length", True),
    "an error": (b"HTTP/1.1 529 \r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>", 529, b"<html>", "length", True),
    "an interim reply first": (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK, 200, b"{}", "length", True),
    "connection: close": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", "length", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", "length", False),
    "HTTP/1.0 that is kept alive": (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", "length", True),
    "surplus bytes": (OK + b"surplus", 200, b"{}", "length", False),
    "one surplus byte": (OK + b"H", 200, b"{}", "length", False),
    "a second reply": (OK + OK, 200, b"{}", "length", False),
    "bytes after a close": (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}more", 200, b"{}", "length", False),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@on_both_loops
async def test_a_reply_that_is_no_stream_comes_whole_and_only_a_connection_in_step_is_kept(name: str) -> None:
    data, status, body, delimited, kept = WHOLE[name]
    async with upstream(sends(data)) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            assert (reply.status, reply.whole, reply.delimited) == (status, body, delimited)
            assert await drain(reply) == ([body] if body else [])
            assert (pool.open, pool.idle, pool.busy) == ((1, 1, 0) if kept else (0, 0, 0))
            reply.close()
            assert pool.open == int(kept)
            if not kept:
                await up.left(0.1)


@on_both_loops
async def test_a_body_without_a_declared_end_ends_with_the_connection_and_says_so() -> None:
    async with upstream(sends(HEAD + b"\r\n{}", then="close")) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            assert (reply.whole, reply.delimited) == (b"{}", "close")
            assert pool.open == 0


@pytest.mark.parametrize("coding", ["gzip", "X-Gzip", "deflate"])
@pytest.mark.parametrize("head", [HEAD, SSE.partition(b"Transfer")[0]])
@on_both_loops
async def test_a_body_that_came_compressed_is_given_plain(coding: str, head: bytes) -> None:
    packed = zlib.compress(b"data: hello\n\n" * 100, wbits=15 if coding == "deflate" else 31)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding.encode(), len(packed)))
        for at in range(0, len(packed), 7):
            await peer.send(packed[at : at + 7])
            await asyncio.sleep(0)

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            assert b"".join(await drain(reply)) == b"data: hello\n\n" * 100
            assert reply.header(b"content-encoding") is None
            assert reply.header(b"content-length") is None
            assert pool.idle == 1


@on_both_loops
async def test_a_compression_bomb_in_a_stream_stops_at_the_limit() -> None:
    bomb = SSE.partition(b"Transfer")[0] + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB
    async with upstream(sends(bomb)) as up:
        with closing(Pool(up.address, QUICK)) as pool, pytest.raises(Fault) as caught:
            await drain(await get(pool))
        assert caught.value.kind == "too_large"


@on_both_loops
async def test_header_names_are_lower_case_and_values_are_found() -> None:
    data = b"HTTP/1.1 200 Fine\r\nX-Request-ID:  abc \r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    async with upstream(sends(data)) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            assert [name for name, _ in reply.headers] == [
                b"x-request-id",
                b"set-cookie",
                b"set-cookie",
                b"content-length",
            ]
            assert reply.header(b"x-request-id") == b"abc"
            assert reply.header(b"set-cookie") == b"a"
            assert reply.header(b"retry-after") is None
            assert reply.reason == "OK"


@on_both_loops
async def test_a_stream_begins_with_its_head_and_passes_on_each_arrival_at_once() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(SSE)
        for text in (b"data: 1\n\n", b"data: 2\n\n"):
            await go.wait()
            go.clear()
            await peer.send(chunk(text))
        await go.wait()
        await peer.send(chunk(b"data: 3\n\n") + chunk(b"data: 4\n\n") + chunk(b""))

    loop = asyncio.get_running_loop()
    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            began = loop.time()
            reply = await get(pool)
            assert (reply.status, reply.whole, reply.delimited) == (200, None, "chunked")
            assert began - 0.002 <= reply.first_byte_at <= loop.time()
            assert pool.busy == 1
            go.set()
            assert await reply.read() == b"data: 1\n\n"
            go.set()
            assert await reply.read() == b"data: 2\n\n"
            go.set()
            await until(lambda: pool.idle == 1)  # the connection is free before the rest is read
            assert await reply.read() == b"data: 3\n\ndata: 4\n\n"
            assert await reply.read() is None
            assert await reply.read() is None


@on_both_loops
async def test_what_arrived_before_a_fault_is_given_before_it_is_raised() -> None:
    async with upstream(sends(SSE + chunk(b"data: 1\n\n"), then="close")) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            await until(lambda: pool.open == 0)
            assert await reply.read() == b"data: 1\n\n"
            for _ in range(2):
                with pytest.raises(Fault, match="truncated"):
                    await reply.read()


@pytest.mark.parametrize(
    ("then", "within_s", "kind"),
    [("close", 5, "truncated"), ("reset", 5, "reset"), ("stay", 5, "idle_timeout"), ("stay", 0.05, "deadline")],
)
@on_both_loops
async def test_a_fault_within_a_stream_wakes_its_reader(then: str, within_s: float, kind: str) -> None:
    async with upstream(sends(SSE + chunk(b"data: 1\n\n"), then=then)) as up:
        with closing(up.pool(idle_s=0.08)) as pool:
            reply = await get(pool, within_s=within_s)
            assert await reply.read() == b"data: 1\n\n"
            began = asyncio.get_running_loop().time()
            with pytest.raises(Fault) as caught:
                await reply.read()
            assert caught.value.kind == kind
            assert asyncio.get_running_loop().time() - began < 0.15
            assert pool.open == 0


@on_both_loops
async def test_a_stream_without_a_declared_end_may_end_anywhere() -> None:
    async with upstream(
        sends(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n{}\n", then="close")
    ) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            assert reply.delimited == "close"
            assert await drain(reply) == [b"{}\n"]


@on_both_loops
async def test_a_drip_within_a_stream_ends_at_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(SSE)
        while True:
            await peer.send(chunk(b"x"))
            await asyncio.sleep(0.02)

    loop = asyncio.get_running_loop()
    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            deadline = loop.time() + 0.2
            with pytest.raises(Fault) as caught:
                await drain(await get(pool, within_s=0.2))
            assert caught.value.kind == "deadline"
            assert loop.time() - deadline < 0.05


@on_both_loops
async def test_closing_a_stream_ends_its_connection_at_once_and_is_idempotent() -> None:
    async with upstream(sends(SSE + chunk(b"data: 1\n\n"))) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            began = asyncio.get_running_loop().time()
            reply.close()
            reply.close()
            assert pool.open == 0
            await up.left(0.1)
            assert up.peers[0].ended_at - began < 0.05
            with pytest.raises(Fault, match="aborted"):
                await drain(reply)


@on_both_loops
async def test_leaving_a_stream_after_its_last_event_waits_a_moment_for_the_end_of_its_framing() -> None:
    async def ends(peer: Peer) -> None:
        await peer.answer(SSE + chunk(b"data: [DONE]\n\n"))
        await asyncio.sleep(0.02)
        await peer.send(chunk(b""))

    async def never_ends(peer: Peer) -> None:
        await peer.answer(SSE + chunk(b"data: [DONE]\n\n"))

    async with upstream(ends, never_ends) as up:
        with closing(up.pool()) as pool:
            replies = await asyncio.gather(get(pool), get(pool))
            for reply in replies:
                await reply.read()
                reply.leave()
                reply.leave()
            assert pool.busy == 2
            await until(lambda: pool.busy == 0)
            assert (pool.open, pool.idle) == (1, 1)
            for reply in replies:
                reply.leave()
            assert pool.idle == 1


async def stay(peer: Peer) -> None:
    await peer.request()


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"content-length: 9\r\n\r\n1234"])
@on_both_loops
async def test_cancelling_a_send_closes_the_socket_within_50_ms(data: bytes) -> None:
    async with upstream(sends(data)) as up:
        with closing(up.pool()) as pool:
            task = asyncio.ensure_future(get(pool))
            await until(lambda: up.peers and getattr(up.peers[0], "head", b""))
            await asyncio.sleep(0.01)
            task.cancel()
            began = asyncio.get_running_loop().time()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.open == 0
            await up.left(0.1)
            assert up.peers[0].ended_at - began < 0.05


@on_both_loops
async def test_cancelling_a_read_closes_the_socket_within_50_ms() -> None:
    async with upstream(sends(SSE)) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            task = asyncio.ensure_future(reply.read())
            await asyncio.sleep(0.01)
            task.cancel()
            began = asyncio.get_running_loop().time()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.open == 0
            await up.left(0.1)
            assert up.peers[0].ended_at - began < 0.05


@on_both_loops
async def test_a_send_cancelled_in_the_moment_of_its_reply_leaves_the_connection_to_the_next() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.request()

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            await get(pool)
            (connection,) = pool._connections
            task = asyncio.ensure_future(get(pool))
            await asyncio.sleep(0)
            connection.data_received(OK)  # the reply is there; its task has not run yet
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.idle == 1
            assert connection.alive


@pytest.mark.parametrize(("then", "kind"), [("close", "closed"), ("reset", "reset")])
@on_both_loops
async def test_a_kept_connection_that_ends_before_any_byte_of_the_reply_is_marked_as_reused(
    then: str, kind: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.request()
        peer.close() if then == "close" else peer.reset()

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            assert (await get(pool)).whole == b"{}"
            with pytest.raises(Fault) as caught:
                await get(pool)
            assert (caught.value.kind, caught.value.sent, caught.value.reused) == (kind, True, True)
            assert pool.open == 0


@pytest.mark.parametrize("data", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200"])
@on_both_loops
async def test_a_kept_connection_that_ends_after_a_byte_of_the_reply_is_not(data: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.answer(data)
        await asyncio.sleep(0.01)
        peer.close()

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            await get(pool)
            with pytest.raises(Fault) as caught:
                await get(pool)
            assert (caught.value.kind, caught.value.reused) == ("closed", False)


@on_both_loops
async def test_after_an_interim_reply_the_time_to_the_first_byte_starts_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.15)  # longer than idle_s, shorter than first_byte_s
        await peer.send(OK)

    async with upstream(script) as up:
        with closing(up.pool(idle_s=0.05, first_byte_s=1.0)) as pool:
            reply = await get(pool)
            assert reply.status == 200
            assert reply.first_byte_at > 0


@on_both_loops
async def test_silence_after_an_interim_reply_is_silence_before_the_reply() -> None:
    async with upstream(sends(b"HTTP/1.1 102 Processing\r\n\r\n")) as up:
        with closing(up.pool(first_byte_s=0.06)) as pool, pytest.raises(Fault, match="first_byte_timeout"):
            await get(pool)


@on_both_loops
async def test_the_deadline_of_a_call_says_nothing_about_the_connection_that_it_leaves_behind() -> None:
    async def script(peer: Peer) -> None:
        if await peer.request() == b"{}":
            await peer.send(OK)

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            # the second keeps the sweep at work
            sends_both = get(pool, within_s=0.3), get(pool, within_s=0.5, body=b"in vain")
            first, second = await asyncio.gather(*sends_both, return_exceptions=True)
            assert isinstance(first, Reply)
            assert isinstance(second, Fault)
            assert pool.idle == 1


@pytest.mark.parametrize("how", ["close", "reset", "surplus"])
@on_both_loops
async def test_an_idle_connection_that_the_server_ends_or_speaks_on_leaves_the_pool_silently(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await asyncio.sleep(0.01)
        if how == "surplus":
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        else:
            peer.close() if how == "close" else peer.reset()

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            await get(pool)
            assert pool.idle == 1
            await until(lambda: pool.open == 0)
            assert pool.idle == 0


@on_both_loops
async def test_a_reply_that_came_before_the_request_was_out_is_given_but_the_connection_is_not_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.transport.pause_reading()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.sleep(0.05)
        peer.reset()

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool, body=b"x" * 30_000_000)
            assert (reply.status, reply.whole) == (413, b"big")
            assert pool.open == 0


@on_both_loops
async def test_a_large_request_goes_out_whole() -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            body = await peer.request()
            await peer.send(HEAD + b"content-length: %d\r\n\r\n%d" % (len(b"%d" % len(body)), len(body)))

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            for _ in range(2):
                assert (await get(pool, body=b"x" * 8_000_000)).whole == b"8000000"
            assert pool.opened_total == 1


@on_both_loops
async def test_a_backlog_that_nobody_reads_holds_the_upstream_back() -> None:
    total = 24 * 1024 * 1024
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.answer(SSE)
        piece = b"x" * 65_536
        while sent < total:
            await peer.send(chunk(piece))
            sent += len(piece)
        await peer.send(chunk(b""))

    async with upstream(script) as up:
        with closing(up.pool(idle_s=0.1)) as pool:
            reply = await get(pool)
            await asyncio.sleep(0.3)  # three times idle_s: the silence is ours, so it is no fault
            (connection,) = pool._connections
            assert sum(map(len, connection.chunks)) <= 2 * 256 * 1024
            assert sent < total
            assert sum(map(len, await drain(reply))) == total
            assert pool.idle == 1


@on_both_loops
async def test_a_paused_stream_ends_at_its_deadline_all_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(SSE)
        while True:
            await peer.send(chunk(b"x" * 65_536))

    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool, within_s=0.15)
            await asyncio.sleep(0.2)
            assert pool.open == 0
            assert len(await reply.read() or b"") >= 256 * 1024
            with pytest.raises(Fault, match="deadline"):
                await reply.read()


class Wire:
    """A transport that remembers; for what a socket cannot be made to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: self.calls.append(name)


class Shelf:
    """An owner that remembers."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def release(self, _: Connection) -> None:
        self.calls.append("release")

    def lost(self, _: Connection) -> None:
        self.calls.append("lost")


def connection_on() -> tuple[Connection, Wire, Shelf]:
    wire, shelf = Wire(), Shelf()
    connection = Connection(shelf, Limits(), "upstream.test:80")
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire, shelf


def feed(pieces: list[bytes]) -> tuple[Any, ...]:
    """What a reader gets of a reply that arrives in these pieces."""

    async def run() -> tuple[Any, ...]:
        connection, _, shelf = connection_on()
        reply = connection.start(1e18, 0.0)
        got = b""
        for piece in pieces:
            connection.data_received(piece)
            if reply.streamed and connection.reply is not None and connection.chunks:
                got += await reply.read() or b""
        got += b"".join(await drain(reply))
        return reply.status, reply.headers, got, reply.whole, reply.delimited, shelf.calls

    return asyncio.run(run())


REPLIES = [
    OK,
    CHUNKED + chunk(b"ab") + chunk(b"c" * 300) + b"0\r\nx-t: 1\r\n\r\n",
    SSE + chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + chunk(b""),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + OK,
    b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n",
    HEAD + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(zlib.compress(b"hi" * 50, wbits=31)) + chunk(b""),
]  # fmt: skip


@pytest.mark.parametrize("data", REPLIES)
def test_a_reply_that_arrives_byte_by_byte_is_the_same_reply(data: bytes) -> None:
    assert feed([data[at : at + 1] for at in range(len(data))]) == feed([data])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 600), max_size=8))
def test_a_reply_may_be_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert feed([data[a:b] for a, b in pairwise(places)]) == feed([data])


def serve(arrivals: list[list[bytes]], heads: Heads, reply_bytes: int = 9999) -> list[tuple[Any, ...]]:
    """What readers get of one reply after the other on one connection, and in which state each of them leaves it."""

    async def run() -> list[tuple[Any, ...]]:
        shelf, wire = Shelf(), Wire()
        connection = Connection(shelf, Limits(keepalive_s=9.0, reply_bytes=reply_bytes), "upstream.test:80", heads)
        connection.connection_made(wire)  # type: ignore[arg-type]
        connection._time = lambda: 100.0
        seen: list[tuple[Any, ...]] = []
        for pieces in arrivals:
            if not connection.alive:
                break
            reply = connection.start(1e18, 100.0)
            waiter = reply.waiter
            for piece in pieces:
                connection.data_received(piece)
            seen.append((reply.status, list(reply.headers), reply.whole, reply.rest, reply.streamed, reply.delimited))
            seen.append((reply.fault and reply.fault.kind, reply.first_byte_at > 0, reply.connection is None))
            seen.append((waiter is not None and waiter.done(), reply.waiter is None, connection.deadline))
            seen.append((connection.due, list(shelf.calls), list(wire.calls), connection.alive))
            if connection.reply is not None:
                reply.close()
        return seen

    return asyncio.run(run())


class Forgetful(Heads):
    """Heads of which none is remembered."""

    def learn(self, data: bytes, fields: Sequence[Header], length: int) -> bool:
        """Do nothing."""
        return False


REPEATED = [
    OK,
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 7\r\n\r\n1234567",
    b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=4\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}",
    CHUNKED + b"2\r\nab\r\n0\r\nx-trailer: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 3\r\n\r\n123",
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 12\r\n\r\n123456789012",
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 07\r\n\r\n1234567",
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 7 \r\n\r\n1234567",
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 3\r\n\r\n1234",
    b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 4\r\n\r\n123",
    b"HTTP/1.1 200 OK\r\nserver: y\r\nContent-Length: 3\r\nx: content-length: 3\r\n\r\n123",
    b"HTTP/1.1 200 OK\r\nserver: y\r\nContent-Length: 4\r\nx: content-length: 3\r\n\r\n1234",
    OK + b"H",
    OK + b"\r",
    OK + b"\r\n",
    b"\r\n" + OK,
    OK + OK,
    OK[:-1],
    b"garbage\r\n\r\n",
]  # fmt: skip
CUTS = [(), (10,), (-1,), (-2,), (-2, -1), (30, 60), (27,), (25, 27)]


def cut(data: bytes, places: tuple[int, ...]) -> list[bytes]:
    ends = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[a:b] for a, b in pairwise(ends)]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(REPEATED), st.sampled_from(CUTS)), min_size=1, max_size=7))
@example([(REPEATED[2], ())])  # on the other connection nothing has been said about its keep-alive time yet
@example([(REPEATED[9], (27,))])  # the second read is the rest of a head
def test_a_head_that_is_known_gives_what_parsing_it_would(replies: list[tuple[bytes, tuple[int, ...]]]) -> None:
    arrivals = [cut(data, places) for data, places in replies]
    heads = Heads()
    expected = serve(arrivals, Forgetful())
    assert serve(arrivals, heads) == expected
    assert serve(arrivals, heads) == expected  # another connection to the same upstream
    assert all(head.lstrip().startswith(b"HTTP/1.") for head in heads)  # never the second half of one


def test_a_body_that_is_longer_than_allowed_is_refused_behind_a_known_head_as_well() -> None:
    short, long = (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size) for size in (4, 2000))
    arrivals = [[short], [short], [long]]
    seen = serve(arrivals, Heads(), 1000)
    assert seen == serve(arrivals, Forgetful(), 1000)
    assert seen[-3][0] == "too_large"


async def test_a_known_reply_is_taken_without_the_parser_and_its_headers_are_the_very_same() -> None:
    connection, _, shelf = connection_on()
    for number in range(4):
        reply = connection.start(1e18, 0.0)
        if number == 3:
            connection._parser = None  # type: ignore[assignment]
        connection.data_received(OK)
        assert (reply.status, reply.whole, await reply.read(), await reply.read()) == (200, b"{}", b"{}", None)
        if number == 2:
            before = reply.headers
    assert reply.headers is before
    assert shelf.calls == ["release"] * 4


@pytest.mark.parametrize("length", [3, 1])
async def test_a_known_head_with_another_body_is_parsed(length: int) -> None:
    connection, _, shelf = connection_on()
    for _ in range(2):
        connection.start(1e18, 0.0)
        connection.data_received(OK)
    reply = connection.start(1e18, 0.0)
    connection.data_received(OK[:-2] + b"{" * length)
    assert reply.whole == (b"{{" if length == 3 else None)
    assert (connection.alive, len(shelf.calls)) == (length == 1, 2 if length == 1 else 3)


async def relayed(
    arrive: Callable[[Connection], None], stop: bytes = b"stop", head: bytes = SSE
) -> tuple[list[bytes], bool, list[bytes], Reply]:
    """What a sink is handed, whether it stopped, and what is left for `read`."""
    connection, _, _ = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.data_received(head)
    handed: list[bytes] = []

    def sink(data: bytes) -> bool:
        handed.append(data)
        return stop in data

    relay = asyncio.ensure_future(reply.relay(sink))
    await asyncio.sleep(0)
    arrive(connection)
    is_full = await relay
    left = []
    with contextlib.suppress(Fault):
        left = await drain(reply) if reply.connection is None else []
    return handed, is_full, left, reply


def arrivals(*pieces: bytes) -> Callable[[Connection], None]:
    def arrive(connection: Connection) -> None:
        for piece in pieces:
            connection.data_received(piece)

    return arrive


async def test_a_sink_is_handed_each_arrival_at_once_until_the_body_ends() -> None:
    pieces = chunk(b"a"), chunk(b"b") + chunk(b"c"), b"1\r", b"\n", b"d\r\n", chunk(b"e") + chunk(b"")
    handed, is_full, left, reply = await relayed(arrivals(*pieces))
    assert (handed, is_full, left) == ([b"a", b"bc", b"d"], False, [b"e"])
    assert reply.fault is None


async def test_a_sink_that_is_full_is_handed_no_more() -> None:
    handed, is_full, left, reply = await relayed(arrivals(chunk(b"a"), chunk(b"stop"), chunk(b"b"), chunk(b"")))
    assert (handed, is_full, left) == ([b"a", b"stop"], True, [b"b"])
    assert not await reply.relay(handed.append)  # type: ignore[arg-type]  # it has ended


async def test_after_a_pause_the_rest_is_relayed_once_what_came_meanwhile_was_read() -> None:
    handed, is_full, _, reply = await relayed(arrivals(chunk(b"stop"), chunk(b"late")))
    assert (handed, is_full) == ([b"stop"], True)
    assert not await reply.relay(lambda _: True)
    assert await reply.read() == b"late"
    assert reply.connection is not None
    again = asyncio.ensure_future(reply.relay(lambda _: True))
    await asyncio.sleep(0)
    reply.connection.data_received(chunk(b"more"))  # type: ignore[attr-defined]
    assert await again


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b"zz\r\n", "protocol"),
        (chunk(b"") + b"surplus", None),
        (b"1;" + b"x" * 70_000, "too_large"),
    ],
)
async def test_what_ends_a_body_that_is_relayed_ends_the_relay(last: bytes, kind: str | None) -> None:
    handed, is_full, _, reply = await relayed(arrivals(chunk(b"a"), last))
    assert (handed, is_full) == ([b"a"], False)
    assert (reply.fault and reply.fault.kind) == kind


async def test_the_bytes_before_bad_framing_are_handed_on_no_more() -> None:
    handed, is_full, left, reply = await relayed(arrivals(chunk(b"a") + b"zz\r\n"))
    assert (handed, is_full, left) == ([], False, [])
    assert reply.fault is not None
    assert reply.rest == b""


async def test_framing_alone_is_bounded_between_the_pieces_that_are_relayed() -> None:
    small = [piece for _ in range(50) for piece in (b"1;" + b"x" * 60_000, b"\r\na\r\n")]
    handed, _, _, reply = await relayed(arrivals(*small, chunk(b"")))
    assert (handed, reply.fault) == ([b"a"] * 50, None)


async def test_a_body_that_came_compressed_is_for_the_reader_alone() -> None:
    packed = zlib.compress(b"data: hello\n\n", wbits=31)
    head = SSE[:-2] + b"content-encoding: gzip\r\n\r\n"
    handed, is_full, left, _ = await relayed(arrivals(chunk(packed), chunk(b"")), head=head)
    assert (handed, is_full, b"".join(left)) == ([], False, b"data: hello\n\n")


async def test_a_sink_that_closes_its_reply_gets_no_more() -> None:
    connection, wire, shelf = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.data_received(SSE)

    def sink(_: bytes) -> bool:
        reply.close()
        return True

    relay = asyncio.ensure_future(reply.relay(sink))
    await asyncio.sleep(0)
    connection.data_received(chunk(b"a"))
    await relay
    assert (connection.sink, connection.alive, shelf.calls, wire.calls[-1]) == (None, False, ["lost"], "abort")


@on_both_loops
async def test_what_a_sink_raises_comes_out_and_ends_the_connection() -> None:
    def sink(_: bytes) -> bool:
        raise ZeroDivisionError

    async def script(peer: Peer) -> None:
        await peer.answer(SSE)
        await asyncio.sleep(0.02)
        await peer.send(chunk(b"a"))

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # a loop says what a protocol raises
    async with upstream(script) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            with pytest.raises(ZeroDivisionError):
                await reply.relay(sink)
            assert pool.open == 0


@on_both_loops
async def test_cancelling_a_relay_closes_the_socket_within_50_ms() -> None:
    async with upstream(sends(SSE)) as up:
        with closing(up.pool()) as pool:
            reply = await get(pool)
            task = asyncio.ensure_future(reply.relay(lambda _: False))
            await asyncio.sleep(0.01)
            task.cancel()
            began = asyncio.get_running_loop().time()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.open == 0
            await up.left(0.1)
            assert up.peers[0].ended_at - began < 0.05


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, SSE, HEAD + b"content-length: 5\r\n\r\n"]),
)
def test_no_bytes_can_do_more_than_end_the_exchange(noise: bytes, before: bytes) -> None:
    async def run() -> None:
        connection, wire, shelf = connection_on()
        reply = connection.start(1e18, 0.0)
        connection.data_received(before + noise)
        connection.eof_received()
        assert connection.reply is None
        assert reply.connection is None
        assert not connection.alive
        assert shelf.calls.count("lost") == 1
        assert "abort" in wire.calls

    asyncio.run(run())


async def test_an_error_that_no_system_call_made_is_shown_as_it_is() -> None:
    connection, _, _ = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.connection_lost(RuntimeError("unexpected"))
    assert reply.fault is not None
    assert (reply.fault.kind, "unexpected" in reply.fault.detail) == ("reset", True)


def test_an_ended_connection_and_its_fault_are_freed_without_the_garbage_collector() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer()
        await peer.answer(HEAD)
        peer.close()

    async def cut(peer: Peer) -> None:
        await peer.answer(SSE)
        peer.close()

    def exchanges() -> set[int]:
        return {id(one) for one in gc.get_objects() if type(one) in {Connection, Fault, Reply}}

    async def run() -> None:
        gc.collect()
        before = exchanges()  # of other tests, which somebody still looks at
        async with upstream(script, cut) as up:
            with closing(up.pool()) as pool:
                await get(pool)
                gc.collect()
                with contextlib.suppress(Fault):
                    await get(pool)
                with contextlib.suppress(Fault):
                    await drain(await get(pool))
                await up.left()
        assert exchanges() - before == set()

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


async def test_a_body_of_tiny_chunks_weighs_no_more_than_its_bytes() -> None:
    connection, _, _ = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.data_received(CHUNKED)
    for _ in range(20):
        connection.data_received(chunk(b"ab") * 5000)
    assert len(connection.chunks) == 20
    connection.data_received(chunk(b""))
    assert reply.whole == b"ab" * 100_000


async def test_a_trailer_is_no_header_of_this_reply_nor_of_the_next() -> None:
    connection, _, _ = connection_on()
    for _ in range(2):
        reply = connection.start(1e18, 0.0)
        connection.data_received(CHUNKED + b"2\r\nab\r\n0\r\nx-trailer: 1\r\n\r\n")
        assert [name for name, _ in reply.headers] == [b"content-type", b"transfer-encoding"]


async def test_broken_tls_within_a_reply_is_named() -> None:
    connection, _, _ = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.connection_lost(ssl.SSLError(1, "[SSL: DECRYPTION_FAILED] bad record mac"))
    assert reply.fault is not None
    assert reply.fault.kind == "tls"


async def test_a_server_that_names_its_keep_alive_time_is_left_a_second_earlier() -> None:
    connection, _, _ = connection_on()
    connection.start(1e18, 0.0)
    connection.data_received(b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=10\r\ncontent-length: 0\r\n\r\n")
    assert connection.due == pytest.approx(asyncio.get_running_loop().time() + 4, abs=0.1)


async def test_a_paused_stream_that_ends_is_read_on_before_its_connection_serves_again() -> None:
    connection, wire, shelf = connection_on()
    reply = connection.start(1e18, 0.0)
    connection.data_received(SSE + chunk(b"x" * 300_000))
    assert wire.calls[-1] == "pause_reading"
    connection.data_received(chunk(b"y" * 1000))  # TLS may still hold decrypted bytes
    assert wire.calls.count("pause_reading") == 1
    connection.data_received(chunk(b""))
    assert wire.calls[-1] == "resume_reading"
    assert shelf.calls == ["release"]
    assert len(b"".join(await drain(reply))) == 301_000


async def test_a_connection_that_ends_twice_is_lost_once() -> None:
    connection, wire, shelf = connection_on()
    connection.eof_received()
    connection.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    connection.drop()
    assert shelf.calls == ["lost"]
    assert wire.calls.count("abort") == 1
