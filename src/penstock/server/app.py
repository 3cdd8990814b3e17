"""The data plane's routes: bytes to `Call`, the gateway, chunks to bytes.

Every failure leaves in the dialect of the endpoint that was called. What is not a route of the data plane goes to the
control plane, an ordinary ASGI application. Nothing here decides about a call; that is the gateway's business.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from math import ceil
from typing import Final

from penstock.call import Call, Caller, Who
from penstock.errors import InvalidRequest, MethodNotAllowed, NotFound, PenstockError
from penstock.gateway import OPEN_DOOR, Gateway
from penstock.reply import Chunk, Event, Failed, Opening, fold
from penstock.server.asgi import Application, call_asgi
from penstock.server.http11 import Header, Request, Responder
from penstock.server.loopback import refuse_strangers
from penstock.target import usd
from penstock.wire.dialect import ModelRow
from penstock.wire.registry import dialect

JSON: Final = (b"content-type", b"application/json")
Route = Callable[[Request, Responder], Awaitable[None]]
Items = AsyncIterator[Opening | Chunk]


class App:
    """Routes of one gateway. `control` answers what is not the data plane's."""

    def __init__(self, gateway: Gateway, control: Application) -> None:
        self.ready = True
        self._gateway = gateway
        self._control = control
        self._chat = dialect("chat")
        self._routes: dict[str, tuple[str, Route]] = {
            "/v1/chat/completions": ("POST", self._complete),
            "/v1/models": ("GET", self._models),
            "/healthz": ("GET", self._alive),
            "/readyz": ("GET", self._will_serve),
        }

    async def __call__(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        route = self._routes.get(request.path)
        try:
            if route is None:
                await self._elsewhere(request, responder)
            elif request.method != route[0] and not (request.method == "HEAD" and route[0] == "GET"):
                raise _wrong_method(request, route[0])
            else:
                await route[1](request, responder)
        except PenstockError as error:
            self._refuse(responder, error)

    def refuse(self, status: int, code: str, message: str, path: str) -> tuple[list[Header], bytes]:
        """Write an error of the protocol itself (bad framing, too large, too slow) in the endpoint's dialect."""
        del path  # one dialect, so far
        error = _ProtocolError(message, status=status)
        error.code = code  # type: ignore[misc]  # the protocol's own word, on this instance only
        return [JSON], self._chat.write_error(error)

    # -- the data plane --

    async def _complete(self, request: Request, responder: Responder) -> None:
        """Chat completions, whole or streamed."""
        caller = read_caller(request)
        who = self._identify(request, caller)
        call = self._chat.read_request(request.body)
        items = self._gateway.open(call, who, caller)
        try:
            opening = await anext(items)
            assert isinstance(opening, Opening), "the gateway opens before it gives chunks"
            if call.stream:
                await self._stream(call, opening, items, responder)
            else:
                await self._whole(call, opening, items, responder)
        finally:
            await items.aclose()

    def _identify(self, request: Request, caller: Caller) -> Who:
        """Say who calls; while there is no key, nobody from a web page. Raises Unauthenticated or PermissionDenied."""
        who = self._gateway.identify(caller)
        if who is OPEN_DOOR:
            origin = request.header(b"origin")
            host = (request.header(b"host") or b"").decode("latin-1")
            refuse_strangers(host, None if origin is None else origin.decode("latin-1"))
        return who

    async def _whole(self, call: Call, opening: Opening, items: Items, responder: Responder) -> None:
        """Collect a reply that is not streamed, and send it in one piece with its cost."""
        events: tuple[Event, ...] = ()
        raw: bytes | None = None
        receipt = None
        async for chunk in items:
            assert isinstance(chunk, Chunk), "only the first item is an opening"
            events = chunk.events if not events else events + chunk.events
            raw = chunk.raw
            receipt = chunk.receipt
        failed = events[-1] if events and isinstance(events[-1], Failed) else None
        if failed is not None:
            failed.error.call_id = opening.call_id
            raise failed.error
        headers = _headers(opening)
        if receipt is not None and receipt.cost_nano_usd is not None:
            headers.append((b"x-penstock-cost-usd", usd(receipt.cost_nano_usd).encode()))
        body = raw if opening.lane == "verbatim" and raw is not None else self._chat.write_reply(fold(events), call)
        responder.send(opening.status, [JSON, *headers], body)

    async def _stream(self, call: Call, opening: Opening, items: Items, responder: Responder) -> None:
        """Pass chunks on as they come; a failure becomes the one last event."""
        writer = None if opening.lane == "verbatim" else self._chat.stream_writer(call)
        responder.start(
            200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"), *_headers(opening)]
        )
        async for chunk in items:
            assert isinstance(chunk, Chunk), "only the first item is an opening"
            if writer is not None:
                data = writer.send(chunk.events)
            else:
                data = chunk.raw or b""
                if chunk.receipt is not None and chunk.receipt.error is not None:
                    data += self._chat.stream_writer(call).send(e for e in chunk.events if isinstance(e, Failed))
            if chunk.receipt is not None:
                responder.finish(data)
            else:
                responder.write(data)
                if responder.congested:
                    await responder.drained()

    async def _models(self, request: Request, responder: Responder) -> None:
        who = self._identify(request, read_caller(request))
        names = [ModelRow(name) for name in self._gateway.router.allowed(who)]
        responder.send(200, [JSON], self._chat.write_models(names))

    async def _model(self, name: str, request: Request, responder: Responder) -> None:
        who = self._identify(request, read_caller(request))
        plan = self._gateway.router.plan(name, who)
        responder.send(200, [JSON], self._chat.write_model(ModelRow(plan.model)))

    # -- operations --

    async def _alive(self, _request: Request, responder: Responder) -> None:
        responder.send(200, [(b"content-type", b"text/plain")], b"ok\n")

    async def _will_serve(self, _request: Request, responder: Responder) -> None:
        status, text = (200, b"ready\n") if self.ready else (503, b"draining\n")
        responder.send(status, [(b"content-type", b"text/plain")], text)

    # -- everything else --

    async def _elsewhere(self, request: Request, responder: Responder) -> None:
        path = request.path
        if path.startswith("/v1/models/"):
            if request.method not in {"GET", "HEAD"}:
                raise _wrong_method(request, "GET")
            await self._model(path.removeprefix("/v1/models/"), request, responder)
        elif path.startswith(("/v1/", "/v1beta/", "/model/", "/api/")):
            raise NotFound(
                f"There is no endpoint {request.method} {path}.", hint="See docs/http.md for what is served."
            )
        else:
            await call_asgi(self._control, request, responder)

    def _refuse(self, responder: Responder, error: PenstockError) -> None:
        if responder.started:
            responder.abort()
            return
        headers = [JSON]
        if error.call_id:
            headers.append((b"x-penstock-call", error.call_id.encode()))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, _WrongMethod):
            headers.append((b"allow", error.allow))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
        responder.send(error.status, headers, self._chat.write_error(error))


class _WrongMethod(MethodNotAllowed):
    """A 405 tells what is allowed (RFC 9110, 15.5.6)."""

    allow = b""


def _wrong_method(request: Request, right: str) -> _WrongMethod:
    error = _WrongMethod(f"{request.path} takes {right}, not {request.method}.")
    error.allow = b"GET, HEAD" if right == "GET" else right.encode()
    return error


class _ProtocolError(PenstockError):
    """What the HTTP protocol itself refused."""


def read_caller(request: Request) -> Caller:
    """Read who is calling and on what terms from the headers. Raises InvalidRequest."""
    fields = request.fields or {}
    authorization = fields.get(b"authorization")
    key = None
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            key = token.strip().decode("latin-1") or None
    elif (given := fields.get(b"x-api-key")) is not None:
        key = given.decode("latin-1") or None
    if not _OWN.isdisjoint(fields):
        return Caller(
            key=key,
            feature=_text(fields.get(b"x-penstock-feature")),
            session=_text(fields.get(b"x-penstock-session")),
            user=_text(fields.get(b"x-penstock-user")),
            deadline_s=_seconds(fields.get(b"x-penstock-deadline-ms")),
            peer=request.peer,
        )
    return Caller(key=key, peer=request.peer)


_OWN: Final = frozenset({b"x-penstock-feature", b"x-penstock-session", b"x-penstock-user", b"x-penstock-deadline-ms"})


def _text(value: bytes | None) -> str | None:
    if not value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 8 or not 0 < int(value) <= 86_400_000:
        raise InvalidRequest(
            "x-penstock-deadline-ms has to be a whole number of milliseconds, from 1 to 86400000.",
            param="x-penstock-deadline-ms",
        )
    return int(value) / 1000


def _headers(opening: Opening) -> list[Header]:
    """Say who answered, how, and what the provider itself said in its headers."""
    headers = [
        (b"x-penstock-call", opening.call_id.encode()),
        (b"x-penstock-target", opening.target.encode()),
        (b"x-penstock-tries", b"%d" % opening.tries),
        (b"x-penstock-lane", opening.lane.encode()),
    ]
    if opening.dropped:
        headers.append((b"x-penstock-dropped", ", ".join(opening.dropped).encode()))
    headers += opening.headers
    return headers
