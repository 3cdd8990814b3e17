"""Every fault that the provider plays, and what it must look like from outside.

`streamed` and `whole` say what the caller of a stream, or of an answer in one piece, may see of it where another target
stands ready: "before" (nothing: the other one answers), "after" (content, then one error event), "slow" (only the deadline
can end it, before any content), "slow after", "fine" (the answer stands), or "either" (it stands, or the other one answers).
None: the fault is not one of such calls.
`error` is the code on the receipt where there is no other target, `status` what the caller sees then.
"""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Literal

from tests.faults import replies
from tests.faults.provider import Heard, Peer, Play

Seen = Literal["before", "after", "slow", "slow after", "fine", "either"]

HEAVY = frozenset({"gzip_bomb", "endless_body", "event_without_end"})
"""Faults that move tens of megabytes."""
ONE_BY_ONE = HEAVY | {"connection_closes_after_the_end"}
"""Those, and one that a neighbour could be hit by: one call at a time."""

DRIP_S = 0.02
SETTLE_S = 0.03
"""Between content and a fault: an RST destroys what its peer has not read yet."""
SPOKEN = 2
"""Words that go out before a fault in the middle."""


@dataclass(frozen=True)
class Fault:
    """One fault; see above."""

    name: str
    play: Play
    streamed: Seen | None = "before"
    whole: Seen | None = "before"
    error: str = "upstream_garbled"
    status: int = 502

    @property
    def is_timed(self) -> bool:
        """Whether only a limit of time ends it."""
        return self.error in {"upstream_timeout", "deadline_exceeded"}


FAULTS: dict[str, Fault] = {}


def fault(
    *,
    streamed: Seen | None = "before",
    whole: Seen | None = "before",
    error: str = "upstream_garbled",
    status: int = 502,
) -> Callable[[Play], Play]:
    """Register a fault under the name of its function."""

    def register(play: Play) -> Play:
        FAULTS[play.__name__] = Fault(play.__name__, play, streamed, whole, error, status)
        return play

    return register


def head(
    status: str = "200 OK", kind: str = "application/json", *, length: int | str | None = None, more: str = ""
) -> bytes:
    """The head of a reply; `length` in bytes, "chunked", or None for one that ends with the connection."""
    framing = "transfer-encoding: chunked\r\n" if length == "chunked" else f"content-length: {length}\r\n"
    if length is None:
        framing = "connection: close\r\n"
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}{more}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
SSE = "text/event-stream; charset=utf-8"


def kind_of(heard: Heard) -> str:
    return SSE if heard.stream else "application/json"


def ok(heard: Heard) -> bytes:
    """The head of a good answer."""
    return head(kind=kind_of(heard), length="chunked")


async def answer(peer: Peer, heard: Heard) -> None:
    """No fault: the whole answer, in time."""
    await respond(peer, heard)


async def respond(peer: Peer, heard: Heard, *, usage: object = True) -> None:
    """Answer in the caller's dialect, as a stream if it asked for one."""
    provider = peer.provider
    if provider.latency_s:
        await peer.pause(provider.latency_s)
    if not heard.stream:
        body = replies.whole(heard.dialect, provider.who, usage=usage)
        peer.content()
        await peer.send(head(length=len(body)) + body)
        return
    parts = replies.stream(heard.dialect, provider.who, usage=usage)
    await peer.send(ok(heard) + chunk(parts.start))
    for word in parts.words:
        peer.content()
        await peer.send(chunk(word))
        if provider.pace_s:
            await peer.pause(provider.pace_s)
    await peer.send(chunk(parts.finish) + chunk(parts.end) + LAST)


async def reply_whole(
    peer: Peer, body: bytes, status: str = "200 OK", *, kind: str = "application/json", more: str = ""
) -> None:
    await peer.send(head(status, kind, length=len(body), more=more) + body)


async def spoken(peer: Peer, heard: Heard, *, framing: str | None = "chunked") -> replies.Stream:
    """Begin a stream and say its first words; give the parts of all of it."""
    parts = replies.stream(heard.dialect, peer.provider.who)
    wrap = chunk if framing else bytes
    await peer.send(head(kind=SSE, length=framing) + wrap(parts.start))
    peer.content()
    for word in parts.words[:SPOKEN]:
        await peer.send(wrap(word))
    await peer.pause(SETTLE_S)
    return parts


async def drip(peer: Peer, data: bytes) -> None:
    """Send byte by byte, so that no silence is ever long."""
    for place in range(len(data)):
        await peer.send(data[place : place + 1])
        await peer.pause(DRIP_S)


# -- the connection --


@fault(error="upstream_failed")
async def reset_before_head(peer: Peer, heard: Heard) -> None:
    peer.reset()


@fault(error="upstream_failed")
async def close_before_head(peer: Peer, heard: Heard) -> None:
    peer.close()


@fault(error="upstream_timeout", status=504)
async def stall_before_head(peer: Peer, heard: Heard) -> None:
    await peer.stall()


@fault(error="upstream_failed")
async def reset_in_head(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await peer.pause(SETTLE_S)
    peer.reset()


@fault(error="upstream_failed")
async def close_in_head(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    peer.close()


@fault(error="upstream_timeout", status=504)
async def stall_in_head(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await peer.stall()


@fault(streamed="slow", whole="slow", error="deadline_exceeded", status=504)
async def drip_in_head(peer: Peer, heard: Heard) -> None:
    await drip(peer, b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000)


@fault()
async def another_protocol(peer: Peer, heard: Heard) -> None:
    await peer.send(b"SSH-2.0-OpenSSH_9.9\r\n")
    peer.close()


@fault()
async def http_2_preface(peer: Peer, heard: Heard) -> None:
    await peer.send(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64")
    peer.close()


@fault()
async def huge_header(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 1_000_000 + b"\r\n\r\n")
    await peer.stall()


@fault()
async def many_headers(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\n" + b"x-filler: x\r\n" * 20_000 + b"\r\n")
    await peer.stall()


@fault()
async def endless_interim(peer: Peer, heard: Heard) -> None:
    while True:
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await peer.pause(0.001)


@fault()
async def slow_interim(peer: Peer, heard: Heard) -> None:
    while True:
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        await peer.pause(0.15)


@fault()
async def switching_protocols(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    await peer.stall()


@fault()
async def duplicate_content_length(peer: Peer, heard: Heard) -> None:
    body = replies.whole(heard.dialect, "bad")
    await peer.send(head(length=len(body), more=f"content-length: {len(body) - 5}\r\n") + body)
    await peer.stall()


@fault()
async def length_and_chunked(peer: Peer, heard: Heard) -> None:
    body = replies.whole(heard.dialect, "bad")
    await peer.send(head(length="chunked", more="content-length: 3\r\n") + chunk(body) + LAST)
    await peer.stall()


@fault()
async def length_that_is_no_number(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}")
    await peer.stall()


# -- the status --


async def say_error(
    peer: Peer, heard: Heard, status: str, *, more: str = "", message: str = "Something failed."
) -> None:
    await reply_whole(peer, replies.error_body(heard.dialect, message), status, more=more)


@fault(error="upstream_failed")
async def status_500(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "500 Internal Server Error")


@fault(error="upstream_failed")
async def status_502_in_html(peer: Peer, heard: Heard) -> None:
    await reply_whole(peer, b"<html><body>Bad gateway</body></html>", "502 Bad Gateway", kind="text/html")


@fault(error="upstream_overloaded", status=503)
async def status_503(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "503 Service Unavailable")


@fault(error="upstream_failed")
async def status_504_without_body(peer: Peer, heard: Heard) -> None:
    await peer.send(head("504 Gateway Timeout", length=0))


@fault(error="upstream_overloaded", status=529)
async def status_529(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "529 Overloaded")


@fault(error="upstream_timeout", status=504)
async def status_500_that_never_ends(peer: Peer, heard: Heard) -> None:
    await peer.send(head("500 Internal Server Error", length=1000) + b'{"error":')
    await peer.stall()


@fault(error="upstream_auth")
async def status_401_quotes_the_key(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "401 Unauthorized", message=f"Incorrect API key provided: {key_of(heard)}.")


@fault(error="upstream_failed")
async def status_500_quotes_the_key(peer: Peer, heard: Heard) -> None:
    key = key_of(heard)
    await say_error(
        peer, heard, "500 Oops", message=f"Request was {heard.head.decode()}", more=f"x-request-id: {key}\r\n"
    )


@fault(error="upstream_missing")
async def status_404(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "404 Not Found")


@fault()
async def redirect_to_the_metadata_address(peer: Peer, heard: Heard) -> None:
    await peer.send(head("302 Found", length=0, more="location: http://169.254.169.254/latest/meta-data/\r\n"))


@fault()
async def redirect_to_itself(peer: Peer, heard: Heard) -> None:
    where = f"http://127.0.0.1:{peer.provider.port}/v1/elsewhere"
    await peer.send(head("307 Temporary Redirect", length=0, more=f"location: {where}\r\n"))


@fault()
async def status_204(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")


@fault(error="upstream_failed")
async def status_600(peer: Peer, heard: Heard) -> None:
    await say_error(peer, heard, "600 What")


def _limited(name: str, *lines: str) -> None:
    """Register a 429 that asks to wait in one way or another."""

    async def play(peer: Peer, heard: Heard) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
        more = "".join(f"{line.replace('DATE', date)}\r\n" for line in lines)
        await say_error(peer, heard, "429 Too Many Requests", more=more, message="Slow down.")

    play.__name__ = f"status_429_{name}"
    FAULTS[play.__name__] = Fault(play.__name__, play, error="upstream_rate_limited", status=429)


_limited("without_a_time")
_limited("in_seconds", "retry-after: 30")
_limited("at_a_date", "retry-after: DATE")
_limited("in_milliseconds", "retry-after-ms: 30000")
_limited("in_garbage", "retry-after: tomorrow, perhaps")
_limited("in_a_billion_seconds", "retry-after: 1000000000")
_limited("in_the_past", "retry-after: -7")
_limited("not_a_number", "retry-after: nan", "retry-after-ms: inf")


# -- a body in one piece --


def key_of(heard: Heard) -> str:
    """The credential that the provider was sent."""
    for line in heard.head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name.lower() in {"authorization", "x-api-key"}:
            return value.removeprefix("Bearer ")
    return ""


def _body(
    name: str, body: Callable[[Heard], bytes], *, more: str = "", kind: str = "application/json", **seen: object
) -> None:
    """Register a reply of 200 whose body, complete as HTTP sees it, is not what was asked for."""

    async def play(peer: Peer, heard: Heard) -> None:
        await reply_whole(peer, body(heard), kind=kind, more=more)

    play.__name__ = name
    FAULTS[name] = Fault(name, play, **seen)  # type: ignore[arg-type]


def _good(heard: Heard) -> bytes:
    return replies.whole(heard.dialect, "bad")


_body("html_with_status_200", lambda _: b"<!doctype html><title>Sign in</title>", kind="text/html")
_body("empty_body", lambda _: b"")
_body("malformed_json", lambda heard: _good(heard)[:-1] + b",}")
_body("json_cut_in_the_middle", lambda heard: _good(heard)[:-20])
_body("json_that_is_null", lambda _: b"null")
_body("json_that_is_a_list", lambda heard: b"[" + _good(heard) + b"]")
_body("json_of_another_kind", lambda _: b'{"ok":true}')
_body("json_nested_too_deeply", lambda _: b"[" * 100_000 + b"]" * 100_000)
_body("json_with_a_long_number", lambda _: b'{"created":' + b"9" * 5000 + b"}")
_body("invalid_utf_8", lambda heard: _good(heard).replace(b"bad-1", b"b\xff\xfe1"))
_body("an_error_with_status_200", lambda heard: replies.error_body(heard.dialect, "Upstream failed."), error="")
_body("unknown_coding", _good, more="content-encoding: br\r\n")
_body("broken_gzip", lambda heard: gzip.compress(_good(heard))[:40] + b"x" * 40, more="content-encoding: gzip\r\n")
_body("gzip_cut_in_the_middle", lambda heard: gzip.compress(_good(heard))[:-20], more="content-encoding: gzip\r\n")


@cache
def _bomb() -> bytes:
    """72 MiB in 72 KiB; the most that is taken are 64."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(b" " * 1_048_576) for _ in range(72)) + packer.flush()


@fault()
async def gzip_bomb(peer: Peer, heard: Heard) -> None:
    await reply_whole(peer, _bomb(), kind=kind_of(heard), more="content-encoding: gzip\r\n")


_NOTHING = {
    "chat": b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}',
    "messages": b'{"id":"1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null}',
    "responses": b'{"id":"1","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}',
}


@fault()
async def no_choices(peer: Peer, heard: Heard) -> None:
    """A reply that has no answer in it, and is not at its end either."""
    if not heard.stream:
        await reply_whole(peer, _NOTHING[heard.dialect])
        return
    end = b"" if heard.dialect == "responses" else replies.stream(heard.dialect, "bad").end
    await peer.send(ok(heard) + chunk(b": begun\n\n" + end) + LAST)


@fault(streamed=None)
async def body_cut_by_length(peer: Peer, heard: Heard) -> None:
    body = _good(heard)
    await peer.send(head(length=len(body)) + body[:-20])
    peer.close()


@fault(streamed=None)
async def body_cut_in_a_chunk(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(_good(heard))[:-30])
    peer.close()


@fault(streamed=None)
async def body_cut_by_close(peer: Peer, heard: Heard) -> None:
    await peer.send(head(length=None) + _good(heard)[:-20])
    peer.close()


@fault(streamed=None, error="upstream_failed")
async def reset_in_body(peer: Peer, heard: Heard) -> None:
    body = _good(heard)
    await peer.send(head(length=len(body)) + body[:-20])
    await peer.pause(SETTLE_S)
    peer.reset()


@fault(streamed=None, error="upstream_timeout", status=504)
async def stall_in_body(peer: Peer, heard: Heard) -> None:
    body = _good(heard)
    await peer.send(head(length=len(body)) + body[:-20])
    await peer.stall()


@fault(streamed=None, whole="slow", error="deadline_exceeded", status=504)
async def drip_in_body(peer: Peer, heard: Heard) -> None:
    body = _good(heard)
    await peer.send(head(length=len(body)))
    await drip(peer, body)


@fault(streamed=None)
async def endless_body(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(_good(heard)[:-1]))
    while True:
        await peer.send(chunk(b" " * 1_048_576))


@fault(streamed=None)
async def bad_chunk_size(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + b"zz\r\n" + _good(heard) + b"\r\n" + LAST)
    await peer.stall()


@fault(streamed=None)
async def stream_that_nobody_asked_for(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad")
    await peer.send(head(kind=SSE, length="chunked") + b"".join(map(chunk, parts.all)) + LAST)


# -- a stream, before its content --


@fault(whole=None, error="upstream_timeout", status=504)
async def stall_before_content(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(replies.stream(heard.dialect, "bad").start))
    await peer.stall()


@fault(whole=None, error="upstream_failed")
async def reset_before_content(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(replies.stream(heard.dialect, "bad").start))
    await peer.pause(SETTLE_S)
    peer.reset()


@fault(whole=None)
async def close_before_content(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(replies.stream(heard.dialect, "bad").start))
    peer.close()


@fault(streamed="slow", whole=None, error="deadline_exceeded", status=504)
async def drip_before_content(peer: Peer, heard: Heard) -> None:
    await peer.send(head(kind=SSE, length=None))
    await drip(peer, b": " + b"x" * 10_000)


@fault(streamed="slow", whole=None, error="deadline_exceeded", status=504)
async def pings_for_ever(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard))
    while True:
        await peer.send(chunk(b": ping\n\n"))
        await peer.pause(DRIP_S)


@fault(whole=None, error="")
async def error_event_before_content(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start) + chunk(replies.error_event(heard.dialect, "Overloaded.")) + LAST)


@fault(whole=None, error="")
async def error_event_quotes_the_key(peer: Peer, heard: Heard) -> None:
    says = replies.error_event(heard.dialect, f"Bad key {key_of(heard)}")
    await peer.send(ok(heard) + chunk(replies.stream(heard.dialect, "bad").start) + chunk(says) + LAST)


@fault(whole=None)
async def end_mark_alone(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(b"data: [DONE]\n\n") + LAST)


@fault(whole=None)
async def empty_stream(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + LAST)


@fault(whole=None)
async def malformed_event_before_content(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(b'event: message_start\ndata: {"type":"mess\n\n') + LAST)


@fault(whole=None)
async def event_without_end(peer: Peer, heard: Heard) -> None:
    await peer.send(ok(heard) + chunk(b"data: "))
    while True:
        await peer.send(chunk(b"x" * 1_048_576))


# -- a stream, after its first content --


@fault(streamed="after", whole=None, error="upstream_failed")
async def reset_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    peer.reset()


@fault(streamed="after", whole=None)
async def close_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    peer.close()


@fault(streamed="after", whole=None, error="upstream_timeout")
async def stall_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    await peer.stall()


@fault(streamed="slow after", whole=None, error="deadline_exceeded")
async def drip_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard, framing=None)
    await drip(peer, b": " + b"x" * 10_000)


@fault(streamed="after", whole=None)
async def chunk_cut_after_content(peer: Peer, heard: Heard) -> None:
    parts = await spoken(peer, heard)
    await peer.send(chunk(parts.words[SPOKEN])[:20])
    peer.close()


@fault(streamed="after", whole=None)
async def cut_by_close_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard, framing=None)
    peer.close()


@fault(streamed="after", whole=None)
async def event_cut_by_close_after_content(peer: Peer, heard: Heard) -> None:
    parts = await spoken(peer, heard, framing=None)
    await peer.send(parts.words[SPOKEN][:-5])
    peer.close()


@fault(streamed="after", whole=None)
async def no_end_mark(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    await peer.send(LAST)


@fault(streamed="after", whole=None)
async def bad_chunk_after_content(peer: Peer, heard: Heard) -> None:
    parts = await spoken(peer, heard)
    await peer.send(b"zz\r\n" + parts.words[SPOKEN] + b"\r\n")
    await peer.stall()


@fault(streamed="after", whole=None, error="")
async def error_event_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    says = replies.error_event(heard.dialect, f"Overloaded. Your key is {key_of(heard)}.")
    await peer.send(chunk(says) + LAST)


@fault(streamed="after", whole=None, error="")
async def error_event_without_end(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    await peer.send(chunk(replies.error_event(heard.dialect, "Overloaded.")))
    await peer.stall()


@fault(streamed="after", whole=None)
async def malformed_event_after_content(peer: Peer, heard: Heard) -> None:
    parts = await spoken(peer, heard)
    await peer.send(chunk(parts.words[SPOKEN].rstrip()[:-3] + b"\n\n"))
    await peer.stall()


@fault(streamed="after", whole=None)
async def invalid_utf_8_after_content(peer: Peer, heard: Heard) -> None:
    parts = await spoken(peer, heard)
    await peer.send(chunk(parts.words[SPOKEN].replace(b"bad-2", b"b\xff\xfe2")))
    await peer.stall()


@fault(streamed="slow after", whole=None, error="deadline_exceeded")
async def stream_for_ever(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad")
    await peer.send(ok(heard) + chunk(parts.start))
    peer.content()
    while True:
        await peer.send(chunk(parts.words[0]))
        await peer.pause(DRIP_S)


@fault(streamed="after", whole=None)
async def html_after_content(peer: Peer, heard: Heard) -> None:
    await spoken(peer, heard)
    await peer.send(chunk(b"<html>Bad gateway</html>") + LAST)


# -- what is odd and stands --


@fault(streamed="either", whole="either")
async def wrong_content_type(peer: Peer, heard: Heard) -> None:
    body = _good(heard)
    if heard.stream:
        body = b"".join(replies.stream(heard.dialect, "bad").all)
    await reply_whole(peer, body, kind="application/json" if heard.stream else "text/plain")


@fault(streamed="either", whole="either")
async def usage_that_makes_no_sense(peer: Peer, heard: Heard) -> None:
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens")
    await respond(peer, heard, usage=dict.fromkeys(names, -5))


@fault(streamed="either", whole="either")
async def usage_of_another_type(peer: Peer, heard: Heard) -> None:
    await respond(peer, heard, usage={"prompt_tokens": "many", "input_tokens": [1], "output_tokens": 1e300})


@fault(streamed="fine", whole="fine")
async def no_usage(peer: Peer, heard: Heard) -> None:
    await respond(peer, heard, usage=None)


@fault(streamed="fine", whole="fine")
async def early_hints(peer: Peer, heard: Heard) -> None:
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: </style>\r\n\r\n")
    await respond(peer, heard)


@fault(streamed="fine", whole="fine")
async def every_byte_alone(peer: Peer, heard: Heard) -> None:
    body = replies.whole(heard.dialect, "bad")
    if heard.stream:
        data = ok(heard) + b"".join(map(chunk, replies.stream(heard.dialect, "bad").all)) + LAST
    else:
        data = head(length=len(body)) + body
    for place in range(len(data)):
        await peer.send(data[place : place + 1])
        if place % 16 == 0:
            await peer.pause(0)


@fault(streamed="fine", whole="fine")
async def trailers(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad").all if heard.stream else [_good(heard)]
    await peer.send(ok(heard) + b"".join(map(chunk, parts)) + b"0\r\nx-sum: abc\r\n\r\n")


@fault(streamed="fine", whole="fine")
async def bytes_after_the_end(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad").all if heard.stream else [_good(heard)]
    await peer.send(ok(heard) + b"".join(map(chunk, parts)) + LAST + b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")


@fault(streamed="fine", whole="fine")
async def connection_closes_after_the_end(peer: Peer, heard: Heard) -> None:
    parts = replies.stream(heard.dialect, "bad").all if heard.stream else [_good(heard)]
    await peer.send(ok(heard) + b"".join(map(chunk, parts)) + LAST)
    peer.close()


@fault(streamed="fine", whole=None)
async def stream_ends_without_its_framing(peer: Peer, heard: Heard) -> None:
    """The end mark is there, the last chunk is not."""
    await peer.send(ok(heard) + b"".join(map(chunk, replies.stream(heard.dialect, "bad").all)))
    await peer.stall()


PLAYS: dict[str, Play] = {"answer": answer} | {one.name: one.play for one in FAULTS.values()}
