"""The reply of one request, written as HTTP/1.1: head and framing, in as few writes as there can be.

Every method but `drained` is synchronous and hands the transport one block of bytes. Framing follows from the request
and the headers (RFC 9112, section 6): a whole reply has a length; a begun one is chunked, except that a
`content-length` among its headers is kept to, that HTTP/1.0 is answered up to the close of the connection, and that HEAD, 204
and 304 carry no body. Once the client is gone all of it does nothing. It decides nothing about requests; `http11`
owns the connection.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from penstock.server.outlet import Outlet
from penstock.server.request import Header

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})  # RFC 9110, section 15
_LAST_CHUNK: Final = b"0\r\n\r\n"

# How the body of a begun reply is delimited.
_CHUNKED, _LENGTH, _CLOSE, _NONE = range(4)


class Responder(msgspec.Struct, eq=False):
    """The reply of one request. A method called out of turn raises RuntimeError: that is a fault of the handler."""

    _outlet: Outlet
    keep_alive: bool
    _head_only: bool = False
    _old: bool = False  # HTTP/1.0
    started: bool = False
    finished: bool = False
    _framing: int = _CHUNKED
    _left: int = 0  # bytes still owed under _LENGTH
    _head: bytes = b""  # written with the first bytes of the body
    _flows: bool = False  # chunks follow one another: the head is written, the end is not

    @property
    def congested(self) -> bool:
        """Whether the transport holds more unsent bytes than its high-water mark."""
        return self._outlet.congested

    @property
    def gone(self) -> bool:
        """Whether the client hung up or was cut off."""
        return self._outlet.gone

    @property
    def untouched(self) -> bool:
        """Whether no byte of the reply was handed to the transport, so that another reply may still be sent."""
        return not self.started or bool(self._head)

    def send(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole reply in one write, with its `content-length`."""
        if self.started:
            raise RuntimeError("send() after the reply was started")
        head = self._lines(status, headers)
        self.started = self.finished = True
        if self._head_only or status in _BODILESS:
            ending = b"" if status in _BODILESS else b"\r\ncontent-length: %d" % len(body)
            self._outlet.write(b"%b%b\r\n\r\n" % (head, ending))
        else:
            self._outlet.write(b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body))

    def start(self, status: int, headers: Sequence[Header], *, soon: bool = True) -> None:
        """Begin a reply in pieces; its head goes out with the first of them, or at the end of this turn of the loop.

        Who has the first piece at hand need not have it go out so `soon`; it does with an empty one.
        """
        if self.started:
            raise RuntimeError("start() after the reply was started")
        declared = dict(headers).get(b"content-length")
        ending = b"\r\n\r\n"
        if self._head_only or status in _BODILESS:
            framing = _NONE
        elif declared is not None:
            framing, self._left = _LENGTH, int(declared)
        elif self._old:
            framing, self.keep_alive = _CLOSE, False
        else:
            framing, ending = _CHUNKED, b"\r\ntransfer-encoding: chunked\r\n\r\n"
        self._head = self._lines(status, headers) + ending
        self._framing = framing
        self.started = True
        if soon:
            self._outlet.soon(self.flush)

    def write(self, data: bytes) -> bool:
        """Send one piece of the body, as one chunk and one write; return `congested`. An empty piece is nothing."""
        if data and self._flows:
            self._outlet.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif not self.started or self.finished:
            raise RuntimeError("write() before start() or after the end of the reply")
        elif data:
            self._put(b"%x\r\n%b\r\n" % (len(data), data) if self._framing == _CHUNKED else self._plain(data))
        elif self._head:
            self._outlet.soon(self.flush)
        return self._outlet.congested

    def outflow(self) -> Outlet | None:
        """Give where whole chunks, framing and all, may be written to until the end; None where pieces have to be framed."""
        return self._outlet if self._flows else None

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body and the end mark, as one write."""
        if not self.started or self.finished:
            raise RuntimeError("finish() before start() or after the end of the reply")
        if self._framing == _CHUNKED:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
        else:
            data = self._plain(data)
            if self._left:
                raise RuntimeError(f"the reply ends {self._left} bytes short of its content-length")
        self.finished = True
        self._flows = False
        self._put(data)

    def abort(self) -> None:
        """Tear the reply: the connection closes without an end mark, so that the client cannot take it for complete."""
        self._head = b""
        if self._outlet.gone:
            return
        if self._framing == _CLOSE:
            self._outlet.reset()  # an orderly close would look like the end of the reply
        else:
            self._outlet.close()

    async def drained(self) -> None:
        """Wait until the transport is no longer congested; TimeoutError where the client stopped reading."""
        await self._outlet.drained()

    def flush(self) -> None:
        """Write the head if nothing has taken it along yet."""
        if self._head:
            self._put(b"")

    def withdraw(self) -> None:
        """Take back a reply of which nothing was written, so that another can be sent."""
        self._head = b""
        self.started = self.finished = False

    def _put(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
            self._flows = self._framing == _CHUNKED and not self.finished
        if data:
            self._outlet.write(data)

    def _plain(self, data: bytes) -> bytes:
        if self._framing == _NONE:
            return b""
        if self._framing == _LENGTH:
            if len(data) > self._left:
                raise RuntimeError(f"the reply is {len(data) - self._left} bytes longer than its content-length")
            self._left -= len(data)
        return data

    def _lines(self, status: int, headers: Sequence[Header]) -> bytes:
        """Return status line and headers, without the last line end; ValueError where one would break its line."""
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(b": ".join, headers)]
        if self._old or not self.keep_alive or self._outlet.draining:
            self.keep_alive = self.keep_alive and not self._outlet.draining
            lines.append(b"connection: keep-alive" if self.keep_alive else b"connection: close")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1:
            raise ValueError("a response header holds a line break: refused, since it would split the reply")
        return head
