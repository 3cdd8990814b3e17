"""The data plane's HTTP/1.1 server: sockets in, complete requests out to one handler, replies back in order.

An `asyncio.Protocol` over llhttp, for uvloop and the stock loop. Each connection has one task, which answers its
requests one after another; the parser's callbacks (`reading`) hand it each complete request through a future, so that a
request costs no task and no timer. Reading goes on meanwhile: that is how a hang-up is seen at once, and cancels the
task. What breaks a rule of HTTP or a limit gets one answer, after the replies due before it, and the connection ends:
nothing behind it is read as a request. One sweep over all connections keeps the time. Knows no route and no dialect.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from socket import SO_LINGER, SOL_SOCKET
from ssl import SSLContext
from typing import Any, Final, cast

import httptools

from penstock.errors import SHUTDOWN
from penstock.server.direct import AtOnce, Direct, never, take_up
from penstock.server.listening import BACKLOG, Socket, doubles
from penstock.server.outlet import Outlet
from penstock.server.reading import DEAF, READY, verdict
from penstock.server.repeats import CHANCES, Heads
from penstock.server.request import DEFAULTS, Endpoints, Header, Limits, Refused, Request
from penstock.server.responder import Responder
from penstock.server.sessions import GRACE_S, Sessions

__all__ = ["Handler", "Header", "Limits", "Refuse", "Request", "Responder", "Server"]

Handler = Callable[[Request, Responder], Awaitable[None]]
Refuse = Callable[[int, str, str, str], tuple[list[Header], bytes]]  # status, code, message, path -> headers, body

_HIGH_WATER_BYTES: Final = 64 * 1024
_QUEUED_BYTES: Final = 1024 * 1024  # bodies of requests that wait for their turn; above it reading pauses
_LINGER_S: Final = 5.0  # how long a refused client may go on sending before it has read its answer
_OVERLOADED: Final = 503
_BUSY: Final = "there is more to do than this server can keep up with: try again in a moment"
_RESET: Final = (SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # a linger time of zero: close with RST


class Connection(Direct, asyncio.Protocol):
    """One client: the request being read (see `Reading`), those that wait, the one being answered."""

    __slots__ = ("_lost", "_responder", "_task")

    _server: "Server"
    _parser: httptools.HttpRequestParser

    def __init__(self, server: "Server") -> None:
        super().__init__(server, server.heads)
        self._server = server
        self._next = self._parked = self.begun = self.asked = None
        self.body = b""
        self._parser = httptools.HttpRequestParser(self)
        self._task: asyncio.Task[None] | None = None
        self._responder: Responder | None = None  # of the handler that runs
        self._held = None
        self._queue: deque[Request | Refused] = deque()
        self._queued_bytes = 0
        self._lost = False

    # The transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up a client, or turn it away where there are too many."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._endpoints = Endpoints.of(transport)
        server = self._server
        self._outlet = Outlet(server, self.transport, _RESET)
        server.join(self)
        self.deadline = server.now + server.limits.header_s
        if server.connections > server.limits.connections:
            self._refuse(Refused(_OVERLOADED, "overloaded", "too many connections are open: try again later"))

    def data_received(self, data: bytes) -> None:
        """Take up a request whose head is known; parse whatever else came, and deliver the requests that it completes."""
        head, server, body = self._known, self._server, None
        if head is not None and self._state == READY:
            # This far the parser stands between two requests, and need not see another one of the same head.
            if head.limits is server.limits:
                end = head.end
                body = data[end:] if len(data) == head.size and data[:end] == head.whole else head.body(data)
        elif self._state == DEAF:
            return
        elif self._is_silent and (body := self._known_first(data)) is not None:
            head = self._known
        if body is not None and head is not None:
            self.deadline, self._chances = 0.0, CHANCES
            if self.asked is not None or self._held is not None or (self._next is None and self._task is not None):
                self._deliver(head.request(body, self._endpoints))  # others come first
            else:
                self.asked, self.body = head, body
                if server.in_flight or not server.is_turn():
                    server.arrive(self)  # behind what else this turn of the loop brings
                else:
                    server.take_up((self,))
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._begin_read(data)
        rest: bytes | memoryview = data
        try:
            while rest:
                try:
                    self._parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]
                    self._parser = httptools.HttpRequestParser(self)
                    self._parser.feed_data(self._head_without_upgrade())
        except httptools.HttpParserError as error:
            self._refuse(verdict(error))
        if self._state != READY:
            self._end_read()

    def eof_received(self) -> None:
        """Take the client for gone, which has closed its sending side: cancel its call, let the transport close."""
        self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason makes no difference
        """Cancel the call that is being answered; forget the connection once its task has ended."""
        self._lost = True
        self._hang_up()
        del self._parser  # it refers back to this object
        if self._task is None:
            self._server.leave(self)

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than we write."""
        self._outlet.pause()

    def resume_writing(self) -> None:
        """Let the handler go on writing."""
        self._outlet.resume()

    # `Reading` calls.

    def _deliver(self, request: Request) -> None:
        server = self._server
        if self._busy:
            self._queue.append(request)
            self._queued_bytes += len(request.body)
            is_full = len(self._queue) >= server.limits.pipelined or self._queued_bytes > _QUEUED_BYTES
            if is_full and not self._paused:
                self._paused = True
                self.transport.pause_reading()
        elif server.is_turn() or request.path in server.urgent:
            self._take_up(request)
        else:
            self._held = request
            server.stand_in_line(self)

    def _take_up(self, item: Request | Refused) -> None:
        if self._task is None:  # so far none was needed
            self._task = self._server.loop.create_task(self._serve(item))
        else:
            self._wake(item)

    def turn_away(self) -> None:
        """Answer that there is too much to do; the connection stays, for a new one would cost more than this."""
        server = self._server
        request = self._leave_line()
        if request is None or self._outlet.gone:
            return
        headers, body = server.refuse(_OVERLOADED, "overloaded", _BUSY, request.path)
        responder = Responder(self._outlet, request.keep_alive, request.method == "HEAD", request.http_version == "1.0")
        responder.send(_OVERLOADED, [*headers, (b"retry-after", b"1")], body)
        if self._queue or not responder.keep_alive:
            self._end(linger=bool(self._queue))
        elif self._state == READY:
            self.deadline = server.now + server.limits.keepalive_s

    def _refuse(self, verdict: Refused) -> None:
        self._state = DEAF
        self.deadline = 0.0
        if self._busy:
            self._queue.append(verdict)
        else:
            self._answer(verdict)

    def _continue(self) -> None:
        if not self._busy:
            self._waits = False
            self._outlet.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    @property
    def _busy(self) -> bool:
        """Whether a reply is due: being written, or to a request that waits."""
        return self._held is not None or self.asked is not None or (self._task is not None and self._next is None)

    # Answering.

    async def _serve(self, item: Request | Refused | None) -> None:
        """Answer one request after another: the connection's only task."""
        server, outlet = self._server, self._outlet
        try:
            while isinstance(item, Request) and not outlet.gone:
                self._responder = responder = Responder(
                    outlet, item.keep_alive, item.method == "HEAD", item.http_version == "1.0"
                )
                server.in_flight += 1
                try:
                    await server.handler(item, responder)
                    if not responder.finished and not outlet.gone:
                        self._fail(item, responder, RuntimeError("the handler returned without finishing its reply"))
                except asyncio.CancelledError as error:
                    self._cancelled(item, responder, error)
                except Exception as error:  # noqa: BLE001 - the server's last resort: one call fails, the others go on
                    self._fail(item, responder, error)
                finally:
                    server.in_flight -= 1
                    self._responder = None
                if not responder.keep_alive or outlet.draining:
                    self._end(linger=bool(self._queue) or self._state != READY)
                else:
                    del responder
                    item = None  # an idle client keeps no body alive
                    item = await (self._dequeue() if self._queue else self._wait())
            if isinstance(item, Refused) and not outlet.gone:
                self._answer(item)
        finally:
            self._give_up(asyncio.CancelledError())
            self._task = self._next = None
            if isinstance(item, Request) and item.begun is not None:
                item.begun.abandon(asyncio.CancelledError())
            if not outlet.gone:  # `refuse` or `on_crash` has failed, or the loop is being torn down
                self.transport.abort()
            if self._lost:
                server.leave(self)

    def _answer(self, verdict: Refused, request: Request | None = None) -> None:
        """Write an error as the connection's last reply."""
        path = request.path if request else self._target.partition(b"?")[0].decode("latin-1")
        is_head = request.method == "HEAD" if request else bool(self._target) and self._parser.get_method() == b"HEAD"
        self.deadline = self._server.now + _LINGER_S  # holds if `refuse` fails
        headers, body = self._server.refuse(verdict.status, verdict.code, verdict.message, path)
        Responder(self._outlet, keep_alive=False, _head_only=is_head).send(verdict.status, headers, body)
        self._end(linger=verdict.status != _OVERLOADED)

    def _fail(self, request: Request, responder: Responder, error: BaseException) -> None:
        """Report what a handler raised, and end the reply as well as can be."""
        if not (self._outlet.gone and isinstance(error, TimeoutError)):  # that one is ours: the client stopped reading
            self._server.on_crash(error)
        self._replace(request, responder, Refused(500, "internal", "the server failed on this request: see its log"))

    def _cancelled(self, request: Request, responder: Responder, error: asyncio.CancelledError) -> None:
        """Tell apart who cancelled: someone who meant this task, or something that the handler waited for."""
        if self._task is None or not self._task.cancelling():
            self._fail(request, responder, error)
            return
        self._replace(request, responder, _ending())
        raise error

    def _replace(self, request: Request, responder: Responder, verdict: Refused) -> None:
        """End a reply that its handler has left: as it is, with an error in its place, or torn."""
        if responder.finished:
            self._end(linger=False)
        elif self._outlet.gone:
            return
        elif responder.untouched:
            responder.withdraw()
            self._answer(verdict, request)
        else:
            responder.abort()

    # Ending.

    def _hang_up(self, *, cancel: bool = True) -> None:
        """End for a client that is gone: cancel its call, unless that is answered already and only cleans up."""
        if self._outlet.gone:
            return
        if cancel and self._task is not None and self._responder is not None and not self._responder.finished:
            self._task.cancel()
        try:
            self._give_up(asyncio.CancelledError())
        finally:
            self._stop_reading()
            self._outlet.stop()

    def _stop_reading(self) -> None:
        self._state = DEAF
        self.deadline = 0.0
        waiter, self._next = self._next, None
        if waiter is not None:
            waiter.set_result(None)

    def _end(self, *, linger: bool) -> None:
        """Close after what was written; lingering, discard what still comes, lest a reset destroys the answer."""
        if self._outlet.gone:
            return
        self._stop_reading()
        if linger and self.transport.can_write_eof():  # TLS cannot, but it lingers by itself
            self._outlet.half_close()
            self.deadline = self._server.now + _LINGER_S
            if self._paused:
                self._resume_reading()
        else:
            self._outlet.close()

    # The server calls.

    def check(self, now: float) -> None:
        """End what has taken too long."""
        if self.deadline and now >= self.deadline:
            if self._state == READY or self._is_silent:
                self._end(linger=False)
            elif self._state != DEAF:
                self._refuse(Refused(408, "request_timeout", "the request did not arrive in time"))
            elif not self.transport.get_write_buffer_size():
                self.transport.abort()
        if self._outlet.stalled(now):
            self._hang_up(cancel=not self._outlet.give_up())
            self.transport.abort()

    def notify(self) -> None:
        """Say with the next reply that it is the last one."""
        self._outlet.draining = True

    def retire(self) -> None:
        """Take no request after the ones being read or answered: close at once where there are none."""
        self._outlet.draining = True
        if self._is_silent:  # its first request may be on its way
            self.deadline = min(self.deadline, self._server.now + GRACE_S)
        elif not self._busy and self._state in (READY, DEAF):
            self._stop_reading()
            self._outlet.close()

    def expel(self) -> bool:
        """End at once; return whether a call was cut."""
        if (request := self._give_up(asyncio.CancelledError(SHUTDOWN))) is not None:
            self._answer(_ending(), request)
            return True
        if self._task is None or self._responder is None:
            self._outlet.flush()
            self.transport.abort()
            return False
        self._task.cancel(SHUTDOWN)
        return True


def _ending() -> Refused:
    return Refused(503, "shutting_down", "the server is shutting down: try again")


class Server(Sessions):
    """Listening sockets and their connections."""

    def __init__(
        self,
        handler: Handler,
        refuse: Refuse,
        limits: Limits = DEFAULTS,
        *,
        on_crash: Callable[[BaseException], None],
        urgent: Collection[str] = (),
    ) -> None:
        """Answer with `handler`; `refuse` words the server's own errors; `on_crash` is told what a handler raised.

        Requests for the paths in `urgent` never stand in line and are never turned away.
        """
        super().__init__(limits)
        self.urgent = frozenset(urgent)
        self.heads = Heads(self.urgent)
        self.handler = handler
        self.refuse = refuse
        self.on_crash = on_crash
        self.at_once: AtOnce = never
        self.port = 0

    def take_up(self, sessions: Sequence[Direct]) -> None:
        """Begin with the requests of these, those whose clients are still there."""
        take_up(self, sessions)

    async def start(self, socks: Sequence[Socket], *, ssl: SSLContext | None = None) -> None:
        """Accept connections from bound sockets; `port` tells theirs."""
        self.attach(asyncio.get_running_loop())
        options: dict[str, Any] = {"backlog": BACKLOG, "ssl": ssl}
        if ssl is not None:
            options |= {"ssl_handshake_timeout": self.limits.header_s, "ssl_shutdown_timeout": GRACE_S}
        make = partial(Connection, self)
        self.port = socks[0].getsockname()[1]
        self._listeners = [
            await self.loop.create_server(make, sock=sock, **options) for sock in (*socks, *doubles(socks))
        ]
