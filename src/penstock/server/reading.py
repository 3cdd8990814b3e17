"""Requests out of a byte stream: the callbacks of an HTTP parser, what was read so far, and what it may still cost.

A connection's reading is in one of four states: READY (between requests), HEAD, BODY, and DEAF (what arrives is
thrown away). Each callback does as little as it can, for it runs for every request: bytes are counted per read of the
socket and lengths measured only when that count says that a limit may have been passed. The parser (llhttp) is
stricter than this file about syntax; `request` judges the head; `http11` owns the socket and answers.
"""

from abc import ABC, abstractmethod
from typing import Final, Protocol

from msgspec.structs import force_setattr

from penstock.server.outlet import Clock
from penstock.server.repeats import CHANCES, Heads
from penstock.server.request import Endpoints, Head, Header, Limits, Refused, Request, check_head, split_target

READY, HEAD, BODY, DEAF = range(4)
_BAD_VERSIONS: Final = ("Invalid HTTP version", "Pause on PRI/Upgrade")  # as llhttp puts it


class Parser(Protocol):
    """The face of `httptools.HttpRequestParser`, as far as it is used here."""

    def get_method(self) -> bytes:
        """Return the method of the request being read."""

    def get_http_version(self) -> str:
        """Return its version, as `1.1`."""

    def should_keep_alive(self) -> bool:
        """Return whether another request may follow."""

    def should_upgrade(self) -> bool:
        """Return whether it asks for another protocol; known from the end of the head on."""


class Reading(ABC):
    """The request that is being read. Subclasses feed the parser and take what comes out."""

    __slots__ = (
        *(
            "deadline",
            "_clock",
            "_endpoints",
            "_parser",
            "_state",
            "_target",
            "_headers",
            "_request",
            "_body",
            "_room",
            "_size",
        ),
        *("_long", "_head_bytes", "_idle_bytes", "_waits", "_upgrades", "_body_deadline", "_paused"),
        *("_heads", "_between", "_known", "_raw", "_chances"),
    )

    _parser: Parser
    _endpoints: Endpoints
    _request: Request  # without its body until that is complete

    def __init__(self, clock: Clock, heads: Heads) -> None:
        self._clock = clock
        self._heads = heads
        self._between = False  # the parser stands behind a message, and nothing of the next one has come
        self._known: Head | None = None  # of the last request, if that was the whole of the last read
        self._raw = b""  # the read being parsed, as long as it may be one whole message
        self._chances = CHANCES
        self._state = HEAD  # the first request has its time from the start
        self._target = b""
        self._headers: list[Header] = []
        self._body: bytes | bytearray = b""
        self._room = 0  # bytes that the body may still have
        self._size = 0  # of the read being parsed, as far as it belongs to the request being read
        self._long = False  # the head may be longer than allowed: measure it
        self._head_bytes = 0  # read for this head, before the read being parsed
        self._idle_bytes = 0  # read since the body last grew: chunk extensions and trailers
        self._waits = self._upgrades = False  # for 100 Continue; for a protocol that is not spoken here
        self._paused = False  # the socket is not read, so that the client is not to blame for the time
        self.deadline = self._body_deadline = 0.0  # zero: none

    @abstractmethod
    def _deliver(self, request: Request) -> None:
        """Take a complete request."""

    @abstractmethod
    def _refuse(self, verdict: Refused) -> None:
        """Stop reading, and answer with an error."""

    @abstractmethod
    def _continue(self) -> None:
        """Tell the client to send its body, once no reply is due before it."""

    # The parser calls, in this order. What they raise comes back as the context of an HttpParserError.

    def on_message_begin(self) -> None:
        """Note that the parser is within a message from its first byte on."""
        self._between = False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._state = HEAD
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; after the head it is a trailer, which nobody reads."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Judge the head, before the first byte of the body is read."""
        parser, limits, ends = self._parser, self._clock.limits, self._endpoints
        target, headers = self._target, self._headers
        self._headers = []
        self._state = BODY
        self._idle_bytes = self._head_bytes = 0
        self.deadline = self._body_deadline = 0.0
        if self._long and _length(target, headers) > limits.header_bytes:
            raise _too_long(limits)
        method = parser.get_method().decode()
        version = parser.get_http_version()
        fields, self._waits = check_head(headers, version, limits.header_count)
        path, query = split_target(method, target)
        length = fields.get(b"content-length")
        if length is not None and int(length) > limits.body_bytes:
            raise _too_large(limits)
        self._room = limits.body_bytes
        self._upgrades = b"upgrade" in fields and parser.should_upgrade()
        self._request = Request(
            method, target, path, query, headers, b"", version, ends.client[0], parser.should_keep_alive(), fields, ends
        )

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body, within the limit."""
        self._room -= len(data)
        if self._room < 0:
            raise _too_large(self._clock.limits)
        self._idle_bytes = 0
        body = self._body
        if not body:
            self._body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            self._body = bytearray(body) + data

    def on_message_complete(self) -> None:
        """Hand over the request. What follows in the same read belongs to the next one."""
        if self._upgrades:
            return  # it is read again without the upgrade
        request = self._request
        del self._request
        if self._body:
            body = self._body if isinstance(self._body, bytes) else bytes(self._body)
            force_setattr(request, "body", body)  # complete, and frozen from here on
            self._body = b""
        self._state = READY
        self._between = True
        self._target = b""
        self._headers = []
        self.deadline = 0.0
        self._size = 0
        if self._raw:
            self._chances -= 1
            self._known = self._heads.learn(self._raw, request, self._clock.limits)
            self._raw = b""
        self._deliver(request)

    # Around a read of the socket.

    def _known_first(self, data: bytes) -> bytes | None:
        """Return the body of the first request of a connection, if it is all of this read and its head one that came before."""
        head = self._heads.last(self._endpoints.client[0])
        if head is None or head.limits is not self._clock.limits or not self._chances:
            return None
        body = head.body(data)
        if body is not None:
            self._state, self._between, self._known = READY, True, head  # as if the parser had seen it
        return body

    def _begin_read(self, data: bytes) -> None:
        """Count the bytes that are about to be parsed."""
        self._size = size = len(data)
        learns = self._between or (self._is_silent and self._heads.wants_first())
        self._raw = data if learns and self._chances else b""
        self._known = None
        if self._state == READY:
            self._state = HEAD
            self._head_bytes = 0
            self.deadline = 0.0
        elif self._state == BODY:
            self._idle_bytes += size
        self._long = self._head_bytes + size > self._clock.limits.header_bytes

    def _end_read(self) -> None:
        """Bound what has come of a request that is not complete yet, and set its deadline."""
        limits = self._clock.limits
        self._raw = b""
        if self._state == HEAD:
            self._head_bytes += self._size
            if self._head_bytes > limits.header_bytes or len(self._headers) > limits.header_count:
                self._refuse(_too_long(limits))
        elif self._state == BODY and self._idle_bytes > limits.header_bytes:
            self._refuse(_too_long(limits))
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Give an incomplete request its time, as long as the socket is read."""
        limits, now = self._clock.limits, self._clock.now
        if self._state == HEAD and not self._paused:
            self.deadline = self.deadline or now + limits.header_s
        elif self._state == BODY and not self._paused:
            self._body_deadline = end = self._body_deadline or now + limits.body_s
            earned = end - limits.body_s + limits.body_idle_s + (limits.body_bytes - self._room) / limits.body_rate
            self.deadline = min(end, earned, now + limits.body_idle_s)
            if self._waits:
                self._continue()

    @property
    def _is_silent(self) -> bool:
        """Whether nothing has come yet of the request that is being waited for."""
        return self._state == HEAD and not self._head_bytes and not self._target

    def _head_without_upgrade(self) -> bytes:
        """Return the head just read without its offer of another protocol, at which llhttp would drop the body."""
        request = self._request
        self._upgrades = False
        self._target = self._raw = b""
        lines = [b"%b %b HTTP/%b" % (request.method.encode(), request.target, request.http_version.encode())]
        lines += [b": ".join(header) for header in request.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))


def verdict(error: Exception) -> Refused:
    """Return the answer to what a parser raised: our own verdict from a callback, or its complaint about the syntax."""
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause
    reason = str(error)
    if reason.startswith(_BAD_VERSIONS):
        return Refused(505, "version_not_supported", "this is no HTTP version spoken here: use HTTP/1.1")
    return Refused(400, "bad_request", f"the request is not well-formed HTTP/1.1: {reason}")


def _length(target: bytes, headers: list[Header]) -> int:
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)  # 4: colon, blank, line end


def _too_long(limits: Limits) -> Refused:
    limit = f"{limits.header_bytes} bytes or {limits.header_count} lines"
    return Refused(
        431, "headers_too_large", f"the request's head or trailers exceed {limit}: send fewer or shorter headers"
    )


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, "request_too_large", f"the body exceeds {limits.body_bytes} bytes: send less, or raise max_body_bytes"
    )
