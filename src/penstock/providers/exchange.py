"""What an exchange with an upstream gives: a reply or a fault, within limits.

Every failure is a `Fault` and never anything else. Nothing here parses, keeps time or knows a socket: the connection fills
the reply in and wakes its reader. Place in the line: `connection.py` and `pool.py` make these; `http.py` reads them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Literal, Protocol, Self, TypeVar

import msgspec

from penstock.errors import PenstockError
from penstock.passage import Passage
from penstock.passage import Source as Words
from penstock.plugins import UNSENT, Waiter

C_contra = TypeVar("C_contra", contravariant=True)
T = TypeVar("T")

Header = tuple[bytes, bytes]
"""Name and value; the names of a reply are in lower case."""

FaultKind = Literal[
    "refused", "dns", "connect_timeout", "tls", "proxy",
    "reset", "closed", "truncated",
    "first_byte_timeout", "idle_timeout", "deadline",
    "protocol", "too_large", "encoding",
    "busy", "aborted",
]  # fmt: skip
"""In the order of the lines: no connection came about; it ended too early; time was up; the reply cannot be used; it was
our own side. "closed" means before the end of the head, "truncated" before the declared end of the body."""


Sink = Callable[[bytes], bool]
"""Is handed what arrives of a body; True where it wants no more for now."""

Guide = Callable[[], Passage | None]
"""Gives the way that the next bytes may take as they come off the wire; they begin a chunk. None where they have to be parsed."""

ERROR_BYTES = 262_144
"""More of an error's body than this is not read."""

LINGER_S = 0.25
"""How long a connection waits for the last bytes of a stream that was read to its last event."""


class Fault(Exception):
    """An exchange that did not come to its end.

    `sent`: the request may have reached the upstream. `reused`: a kept-alive connection ended before any byte of the reply,
    which happens when the server closes it while the request is on its way. `why`: what kept us from sending the request.
    """

    def __init__(
        self, kind: FaultKind, detail: str, *, sent: bool, reused: bool = False, why: PenstockError | None = None
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: FaultKind = kind
        self.detail = detail
        self.sent = sent
        self.reused = reused
        self.why = why

    def copy(self) -> Self:
        """Give the same fault, to be raised: one that is kept must not gather tracebacks, which hold whole frames."""
        return type(self)(self.kind, self.detail, sent=self.sent, reused=self.reused, why=self.why)


class Limits(msgspec.Struct, frozen=True):
    """What an upstream may cost. Times are in seconds and met to within 50 ms."""

    connect_s: float = 5.0  # name, TCP, proxy and TLS together
    first_byte_s: float = 60.0
    idle_s: float = 30.0  # between two arrivals within a reply
    keepalive_s: float = 60.0  # unused in the pool; a shorter time that the server names goes first
    connections: int = 1000
    waiters: int = 10_000  # sends that wait for one of the connections
    head_bytes: int = 65_536
    reply_bytes: int = 64 * 1024 * 1024  # of a body that is not a stream, and of any body that came compressed
    interim: int = 8  # 1xx replies before the real one


class Owner(Protocol[C_contra]):
    """The pool, as a connection sees it."""

    @property
    def release(self) -> Callable[[C_contra], None]:
        """Takes back a connection that is free and in step."""

    def lost(self, connection: C_contra) -> None:
        """Forget a connection that has ended."""


class Source(Words, Protocol):
    """The connection, as its reply sees it."""

    chunks: list[bytes]
    pending: bytes  # of the request, as long as that is to be written
    loop: asyncio.AbstractEventLoop
    sink: "Sink | None"
    guide: "Guide | None"
    deadline: float  # when the time for the call is over
    idle_s: float  # the longest silence within a reply
    at_line: bool  # what was parsed last ended with the end of a line
    within: deque[bool]  # of which the first one tells whether the parser is within a chunk

    @property
    def inflate(self) -> object:
        """What unpacks the body; None where it came plain."""

    def take(self) -> bytes:
        """Give what has arrived, and let more come."""

    def fail(self, kind: FaultKind, detail: str) -> None:
        """End the connection, and the exchange on it with a fault."""

    def linger(self, seconds: float) -> None:
        """Give the reply a little time to come to its end unread."""


class Reply(msgspec.Struct, eq=False):
    """One reply: complete (`whole`), or a stream to `read`. One task reads it, and closes it if it leaves before the end."""

    connection: Source | None  # while the reply goes on
    waiter: "asyncio.Future[bool] | Waiter | None"  # of the task that waits for more; true where a sink wants no more
    status: int = 0
    headers: Sequence[Header] = ()
    whole: bytes | None = None  # the complete body, where the reply is not a stream
    delimited: Literal["length", "chunked", "close"] = "length"  # "close": only the dialect can tell a complete body
    first_byte_at: float = 0.0  # loop.time()
    streamed: bool = False
    rest: bytes = b""  # what was not read when the reply ended
    fault: Fault | None = None
    defect: BaseException | None = None  # what the sink raised
    unsent: bool = False  # the request has not been written yet, or never will be

    def __repr__(self) -> str:
        return f"<Reply {self.status} {'open' if self.connection else 'ended'}>"

    @property
    def reason(self) -> str:
        """The registered phrase of the status; the one on the wire has no meaning (RFC 9112 section 4) and is not kept."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""

    def header(self, name: bytes) -> bytes | None:
        """Give the first value of a header without blanks around it, or None; `name` is in lower case."""
        for key, value in self.headers:
            if key == name:
                return value.strip()
        return None

    async def begun(self) -> None:
        """Wait until it is whole, has begun to stream, or has ended with a fault. Cancelling ends its connection at once."""
        waiter = self.waiter
        if isinstance(waiter, asyncio.Future):
            try:
                await waiter
            except asyncio.CancelledError as why:
                self.abandon(why)
                raise

    async def beginning(self, most: int = ERROR_BYTES) -> bytes:
        """Give the beginning of the body, `most` bytes or a little more, as far as it came; the rest is not wanted."""
        if self.whole is not None:
            return self.whole
        body = b""
        try:
            while len(body) < most and (data := await self.read()) is not None:
                body += data
        except Fault:
            pass  # the status alone says enough
        finally:
            self.close()
        return body

    def taken(self) -> bytes | None:
        """Give what is there to be read; None where it has to be waited for, or there is no more."""
        connection = self.connection
        return None if connection is None or not connection.chunks else connection.take()

    async def read(self) -> bytes | None:
        """Give what has arrived since the last read, as one `bytes`; None at the end of the body.

        Raises `Fault`, after what arrived before it has been given. A cancelled read ends the connection.
        """
        connection = self.connection
        if connection is not None and not connection.chunks:
            waiter = self.waiter = connection.loop.create_future()
            try:
                await waiter
            except asyncio.CancelledError:
                self.close()
                raise
            connection = self.connection
        if connection is not None:
            return connection.take()
        if self.rest:
            rest, self.rest = self.rest, b""
            return rest
        if self.fault is not None:
            raise self.fault.copy()
        return None

    async def relay(self, sink: Sink, guide: Guide | None = None) -> bool:
        """Hand what arrives to `sink`, at once and without a turn of the loop, until it says True or the body ends; say which.

        A `guide` may take what comes in chunks before that is parsed.
        What has arrived before, what ended the body, and a body that came compressed, is for `read`. A cancelled relay ends
        the connection, and so does what the sink raises, which comes out here.
        """
        connection = self.connection
        if connection is None or connection.chunks or connection.inflate is not None:
            return False
        waiter = self.waiter = connection.loop.create_future()
        connection.sink = sink
        if guide is not None and self.delimited == "chunked":
            connection.guide = guide
            shorten(connection)
        try:
            is_full: bool = await waiter
        except (asyncio.CancelledError, GeneratorExit):
            self.close()
            raise
        if self.defect is not None:
            raise self.defect
        return is_full

    def close(self) -> None:
        """Let go of the reply: if it is unfinished, its connection ends at once. Idempotent."""
        if self.connection is not None:
            self.connection.fail("aborted", "the reply was closed before its end")

    def abandon(self, why: asyncio.CancelledError) -> None:
        """Let go of the reply since its call was cancelled, which learns if its request had not even gone out."""
        if self.unsent or (self.connection is not None and self.connection.pending):
            why.args = (*why.args, UNSENT)
        self.close()

    def leave(self) -> None:
        """Let go of a stream after its last event: what may still come is the end of its framing.

        The connection waits a moment for that, so that it can be used again. Idempotent.
        """
        if self.connection is not None:
            self.connection.linger(LINGER_S)

    def wake(self, *, is_full: bool = False) -> None:
        """Resume the task that waits for this reply, if one does."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(is_full)


def shorten(connection: Source) -> None:
    """Have what comes next take the short way, if the guide knows one and it begins a chunk."""
    guide = connection.guide
    if guide is not None and connection.at_line and not connection.within[0]:  # not within a size either
        connection.short = short = guide()
        if short is not None:
            short.from_source(connection, connection.idle_s)


async def unsent(work: Awaitable[T]) -> T:
    """Do what comes before a request goes out; a cancellation meanwhile says so."""
    try:
        return await work
    except asyncio.CancelledError as error:
        error.args = (*error.args, UNSENT)
        raise
