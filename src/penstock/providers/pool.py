"""The pool of kept-alive connections to one upstream, and how a new one is dialed.

A send takes the connection that was used last, synchronously; without one it dials, and where the pool is full it waits in a
queue, whose oldest waiter is given the next free connection or slot. Dials run side by side. Everything is bounded: the
connections, the queue and every wait. A pool never retries and never judges a reply.

Place in the line: `http.py` sends through one pool per upstream; `connection.py` is one connection of it; `sweep.py` keeps
the time.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from ssl import SSLContext
from typing import Any, Final

from penstock.plugins import Waiter
from penstock.providers.address import Address, Proxy, proxy_for, unopened
from penstock.providers.connection import Connection
from penstock.providers.exchange import Fault, FaultKind, Header, Limits, Reply, unsent
from penstock.providers.head import Heads
from penstock.providers.sending import depart
from penstock.providers.sweep import Sweep

__all__ = ["Address", "Fault", "Header", "Limits", "Pool", "Reply", "SSLContext", "proxy_for", "trust_store"]

DEFAULTS: Final = Limits()
_PROXY_HEAD_BYTES: Final = 16_384

AddressInfo = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
Queued = tuple["asyncio.Future[Connection | Fault | None]", float]
"""Resolves to a connection, to None (a slot: dial), or to a fault; beside it its deadline."""


class Pool:
    """Connections to one upstream, for one event loop. On those that are `ready` a request goes out as it is."""

    __slots__ = (
        *("_closed", "_connections", "_dialer", "_dialing", "_idle", "_known", "_sweep", "_time", "_waiters"),
        *("address", "limits", "opened_total", "ready", "release"),
    )

    _sweep: Sweep
    _time: Callable[[], float]

    def __init__(
        self, address: Address, limits: Limits = DEFAULTS, *, proxy: str | None = None, tls: SSLContext | None = None
    ) -> None:
        self.address = address
        self.limits = limits
        self.opened_total = 0
        self._dialer = Dialer(address, limits.connect_s, proxy, tls)
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one was used last
        self.ready: Sequence[Connection] = self._idle if self._dialer.forward is None else ()
        self.release: Callable[[Connection], None] = self._idle.append  # or `_give`, while somebody waits for one
        self._waiters: deque[Queued] = deque()
        self._known = Heads()
        self._dialing = 0
        self._closed = False

    @property
    def open(self) -> int:
        """Connections that there are, those being dialed included."""
        return len(self._connections) + self._dialing

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections at work, those being dialed included."""
        return self.open - len(self._idle)

    def begin(self, request: bytes, deadline: float, waiter: Waiter | None = None) -> Reply | None:
        """Send on a connection that is `ready`, and give the reply before it begins; None, and nothing is sent, without one."""
        if not self.ready or (now := (sweep := self._sweep).time()) >= deadline:
            return None
        if waiter is None:
            return self._start(self._idle.pop(), request, deadline, now)
        if sweep.slow:
            sweep.hurry()
        outbox = None if len(self._connections) == len(self._idle) else sweep.outbox  # alone it need not wait
        return self._idle.pop().ask(request, deadline, now, waiter, outbox)

    async def send(self, request: bytes, *, deadline: float) -> Reply:
        """Send a complete request (head and body, origin-form target) and give its reply.

        Returns when the reply is complete or, where it is a stream, when it has begun; until `deadline`, which is in the
        loop's time. Raises `Fault`. Cancelling ends the connection at once.
        """
        reply = self.begin(request, deadline)
        if reply is None:
            if self._dialer.forward is not None:
                request = self._dialer.forward(request)
            connection = self._idle.pop() if self._idle else await unsent(self._acquire(deadline))
            now = self._time()
            if now >= deadline:
                self.release(connection)
                raise Fault("deadline", "the time for the call was over before it was sent", sent=False)
            reply = self._start(connection, request, deadline, now)
        await reply.begun()
        if reply.fault is not None and not reply.streamed:
            raise reply.fault.copy()
        return reply

    def _start(self, connection: Connection, request: bytes, deadline: float, now: float) -> Reply:
        if self._sweep.slow:
            self._sweep.hurry()
        outbox = None if len(self._connections) - len(self._idle) <= 1 else self._sweep.outbox
        return depart(connection.start(deadline, now), request, connection.send, outbox)

    def close(self) -> None:
        """End every connection at once; what is under way, or waits, ends with the fault "aborted"."""
        self._closed = True
        waiters, self._waiters = self._waiters, deque()
        for future, _ in waiters:
            if not future.done():
                future.set_result(self._aborted())
        for connection in tuple(self._connections):
            connection.fail("aborted", "the pool was closed")

    # Called by connections and by the sweep.

    def _give(self, connection: Connection) -> None:
        """Give a free connection to the oldest waiter, or keep it."""
        while self._waiters:
            future, _ = self._waiters.popleft()
            if not future.done():
                future.set_result(connection)
                return
        self.release = self._idle.append
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection, and give its slot to the oldest waiter."""
        self._connections.discard(connection)
        if connection.reply is None:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)
        self._offer_slots()

    def expire(self, now: float) -> bool:
        """End what has outlived its time; tell whether anything is under way."""
        for connection in [each for each in self._connections if now >= each.due or now >= each.deadline]:
            connection.expire(now)
        if any(now >= deadline for _, deadline in self._waiters):
            late = f"no connection to {self.address.netloc} came free before the time for the call was over"
            for future, deadline in self._waiters:
                if now >= deadline and not future.done():
                    future.set_result(Fault("deadline", late, sent=False))
            self._waiters = deque(waiter for waiter in self._waiters if not waiter[0].done())
        return self.busy > 0 or bool(self._waiters)

    # A connection for a send.

    async def _acquire(self, deadline: float) -> Connection:
        """Take, dial or wait for a connection."""
        self._sweep = Sweep.of(asyncio.get_running_loop())
        self._time = self._sweep.time
        self._sweep.watch(self)
        while True:
            if self._closed:
                raise self._aborted()
            if self._time() >= deadline:
                raise Fault("deadline", "the time for the call was over before it was sent", sent=False)
            if self._idle:
                return self._idle.pop()
            if self.open < self.limits.connections:
                self._dialing += 1
                return await self._dial(deadline)
            connection = await self._queue(deadline)
            if connection is None:
                return await self._dial(deadline)
            if connection.alive:  # else it ended on its way here
                return connection

    async def _dial(self, deadline: float) -> Connection:
        """Fill a slot, which is counted in `_dialing` already."""
        connection = Connection(self, self.limits, self.address.netloc, self._known)
        try:
            await self._dialer.dial(connection, deadline)
        except BaseException:
            self._dialing -= 1
            self._offer_slots()
            raise
        self._dialing -= 1
        self.opened_total += 1
        self._connections.add(connection)
        if self._closed:
            connection.drop()
            raise self._aborted()
        if not connection.alive:
            self.lost(connection)
            raise Fault("closed", f"{self.address.netloc} closed the connection before it was used", sent=False)
        return connection

    async def _queue(self, deadline: float) -> Connection | None:
        """Wait for a connection, or for a slot (None)."""
        if len(self._waiters) >= self.limits.waiters:
            text = f"all {self.limits.connections} connections to {self.address.netloc} are busy and {len(self._waiters)} calls wait"
            raise Fault("busy", text, sent=False)
        waiter: Queued = (asyncio.get_running_loop().create_future(), deadline)
        self._waiters.append(waiter)
        self.release = self._give
        try:
            outcome = await waiter[0]
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        if isinstance(outcome, Fault):
            raise outcome
        return outcome

    def _leave(self, waiter: Queued) -> None:
        """Stop waiting; what was handed over in the same moment goes to the next."""
        future = waiter[0]
        if future.cancelled():
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            return
        outcome = future.result()
        if outcome is None:
            self._dialing -= 1
            self._offer_slots()
        elif isinstance(outcome, Connection) and outcome.alive:
            self.release(outcome)

    def _offer_slots(self) -> None:
        """Let the oldest waiters dial, as far as there is room."""
        while self._waiters and self.open < self.limits.connections:
            future, _ = self._waiters.popleft()
            if not future.done():
                self._dialing += 1
                future.set_result(None)

    def _aborted(self) -> Fault:
        return Fault("aborted", "the pool was closed", sent=False)


class Dialer:
    """Opens connections to one address: its name, TCP, the proxy's tunnel and TLS, all within one time."""

    __slots__ = ("_address", "_connect_s", "_loading", "_lookup", "_numeric", "_proxy", "_tls", "forward")

    def __init__(self, address: Address, connect_s: float, proxy: str | None, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._connect_s = connect_s
        self._proxy = None if proxy is None else Proxy.parse(proxy)
        self._tls = tls
        self._loading: asyncio.Future[ssl.SSLContext] | None = None
        self._lookup: asyncio.Future[AddressInfo] | None = None
        self._numeric: AddressInfo = ()  # where there is no name to be looked up
        self.forward = partial(self._proxy.forwarded, address) if self._proxy and address.scheme == "http" else None

    async def dial(self, connection: Connection, deadline: float) -> None:
        """Connect; raises `Fault` with `sent` false."""
        loop = connection.loop
        limit = min(deadline, loop.time() + self._connect_s)
        step = "looking up the name"
        try:
            async with asyncio.timeout_at(limit):
                infos = await self._resolve(loop)
                step = "connecting"
                sock = await self._connect(loop, infos, limit)
                step = "opening the proxy's tunnel" if self._proxy and not self.forward else "the TLS handshake"
                await self._open(connection, sock)
        except TimeoutError:
            if deadline <= limit:
                text = f"the time for the call was over before {self._address.netloc} was reached ({step})"
                raise Fault("deadline", text, sent=False) from None
            text = f"{self._address.netloc} was not reached within {self._connect_s:g} s ({step})"
            raise Fault("connect_timeout", text, sent=False) from None

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> AddressInfo:
        """Look the name up; dials at the same time share one lookup, since a resolver has few threads."""
        place = self._proxy or self._address
        with contextlib.suppress(socket.gaierror, UnicodeError):
            kind, flags = socket.SOCK_STREAM, socket.AI_NUMERICHOST
            self._numeric = self._numeric or socket.getaddrinfo(place.host, place.port, type=kind, flags=flags)
            return self._numeric
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM))
            self._lookup.add_done_callback(self._looked_up)
        try:
            return await asyncio.shield(self._lookup)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no valid name"
            raise self._fault("dns", f"the name {place.host} could not be looked up: {why}") from None

    def _looked_up(self, lookup: "asyncio.Future[AddressInfo]") -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # seen, also where every dial has left meanwhile

    async def _connect(self, loop: asyncio.AbstractEventLoop, infos: AddressInfo, limit: float) -> socket.socket:
        """Try the addresses in their order; each has an equal share of the time that is left."""
        failure = OSError("it has no address")
        for left, (family, _, _, _, place) in zip(range(len(infos), 0, -1), infos, strict=True):
            try:
                if left == 1:  # all of the time that is left, which is kept already
                    return await _reach(loop, family, place)
                async with asyncio.timeout((limit - loop.time()) / left):
                    return await _reach(loop, family, place)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise failure
        if failure.errno in {errno.EMFILE, errno.ENFILE}:
            raise Fault("busy", "this process has no file descriptor left: raise its limit (ulimit -n)", sent=False)
        raise self._fault("refused", failure.strerror or str(failure))

    async def _open(self, connection: Connection, sock: socket.socket) -> None:
        """Make a connected socket a connection, through the proxy's tunnel and TLS where they are needed."""
        loop, address = connection.loop, self._address
        make = partial(loop.create_connection, lambda: connection, sock=sock)
        if address.scheme == "http":
            await make()
            return
        try:
            if self._proxy:
                await self._tunnel(loop, sock, self._proxy)
            context = await self._context(loop)
        except BaseException:
            sock.close()
            raise
        try:
            within_s = self._connect_s + 1  # never first: the dial's own limit is earlier
            await make(ssl=context, server_hostname=address.host, ssl_handshake_timeout=within_s)
        except ssl.SSLCertVerificationError as error:
            raise Fault(
                "tls", f"{address.netloc} showed a certificate that does not hold: {error.verify_message}", sent=False
            ) from None
        except ssl.SSLError as error:
            raise Fault("tls", f"{address.netloc} does not speak TLS as expected: {error.reason}", sent=False) from None
        except ConnectionError as error:
            raise Fault(
                "tls", f"{address.netloc} ended the TLS handshake: {error.strerror or error}", sent=False
            ) from None

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy) -> None:
        """Ask the proxy for a way to the upstream (CONNECT, RFC 9110 section 9.3.6)."""
        place = self._address.netloc.encode()
        head = b""
        try:
            asked = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (place, place, proxy.credential)
            await loop.sock_sendall(sock, asked)
            while b"\r\n\r\n" not in head and len(head) < _PROXY_HEAD_BYTES:
                data = await loop.sock_recv(sock, _PROXY_HEAD_BYTES)
                if not data:
                    raise self._fault("proxy", "it closed the connection instead of opening a tunnel")
                head += data
        except ConnectionError as error:
            raise self._fault("proxy", f"it broke the connection: {error.strerror}") from None
        if (why := unopened(head)) is not None:
            raise self._fault("proxy", why)

    async def _context(self, loop: asyncio.AbstractEventLoop) -> ssl.SSLContext:
        """Give the TLS settings; reading the trust store takes tens of milliseconds, so a thread does it, once."""
        if self._tls is None:
            if self._loading is None:
                self._loading = loop.run_in_executor(None, trust_store)
            self._tls = await asyncio.shield(self._loading)
        return self._tls

    def _fault(self, kind: FaultKind, why: str) -> Fault:
        """Tell what failed: the way to the proxy, if there is one, else the way to the upstream."""
        if self._proxy:
            return Fault("proxy", f"the proxy {self._proxy.netloc} failed: {why}", sent=False)
        return Fault(kind, f"{self._address.netloc} was not reached: {why}", sent=False)


async def _reach(loop: asyncio.AbstractEventLoop, family: int, place: Any) -> socket.socket:
    """Connect one socket to one address."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # long silences are normal; dead peers are not
        await loop.sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


def trust_store(ca_file: str | None = None) -> ssl.SSLContext:
    """Give TLS settings for HTTP/1.1 that trust a file of certificates (PEM), or else what the system trusts.

    The system's trust store is what OpenSSL was built with, or what SSL_CERT_FILE and SSL_CERT_DIR name.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
