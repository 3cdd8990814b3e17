"""The bridge to an ordinary ASGI application, for every route that is not worth a hot path of its own.

`call_asgi` has the shape of a handler of `http11`: the request is complete before the application starts, its reply
streams as it is written, and the application is cancelled at once when the client hangs up. After the reply, or when
cancelled, `receive` gives `http.disconnect`. Only the `http` part of ASGI 3.0: no lifespan, no websockets, no
extensions. Decides nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from penstock.server.request import Header, Request
from penstock.server.responder import Responder

Message = MutableMapping[str, Any]  # ASGI's own type: the one place where dictionaries travel
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_NO_STATUS: Final = 0


async def call_asgi(app: Application, request: Request, responder: Responder, *, root_path: str = "") -> None:
    """Let an ASGI application answer. What it raises passes through; RuntimeError where it breaks the protocol."""
    exchange = _Exchange(request, responder)
    try:
        await app(scope_of(request, root_path), exchange.receive, exchange.send)
    finally:
        exchange.end()


def scope_of(request: Request, root_path: str) -> Message:
    """Return the `http` connection scope of ASGI 3.0 (specification 2.4) for a request."""
    ends = request.endpoints
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "method": request.method,
        "scheme": "http" if ends is None else ends.scheme,
        "path": request.path,
        "raw_path": request.target.partition(b"?")[0],
        "query_string": request.query,
        "root_path": root_path,
        "headers": [*request.headers],  # an application may change its own
        "client": (request.peer, 0) if ends is None else ends.client,
        "server": None if ends is None else ends.server,
        "state": {},
    }


class _Exchange:
    """The two channels of one call."""

    def __init__(self, request: Request, responder: Responder) -> None:
        self._responder = responder
        self._body: bytes | None = request.body
        self._status = _NO_STATUS  # until the application has named one
        self._headers: list[Header] = []
        self._over: asyncio.Future[None] | None = None  # here `receive` waits for the end of the call
        self._ended = False

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._ended:
            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._over)  # several may wait, and each may be cancelled alone
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        responder = self._responder
        if responder.gone:
            raise ConnectionResetError("the client has hung up")  # an OSError, as the specification asks
        kind = message["type"]
        if kind == "http.response.start" and self._status == _NO_STATUS:
            self._status = message["status"]
            self._headers = _lower(message.get("headers", ()))
        elif kind == "http.response.body" and self._status != _NO_STATUS:
            await self._write(bytes(message.get("body", b"")), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"the ASGI application sent {kind!r} out of turn")

    async def _write(self, data: bytes, *, more: bool) -> None:
        responder = self._responder
        if not responder.started:
            responder.start(self._status, self._headers)
        if not more:
            responder.finish(data)
            self.end()
            return
        responder.write(data)
        if responder.congested:
            await responder.drained()

    def end(self) -> None:
        """Let `receive` report the end of the call."""
        self._ended = True
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


def _lower(headers: Iterable[Iterable[bytes]]) -> list[Header]:
    """Return an application's headers without those that belong to the connection."""
    pairs = ((bytes(name).lower(), bytes(value)) for name, value in headers)
    return [pair for pair in pairs if pair[0] not in (b"connection", b"transfer-encoding", b"keep-alive")]
