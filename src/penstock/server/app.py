"""The data plane's routes: bytes to `Call`, the gateway, chunks to bytes.

Every failure leaves in the dialect of the endpoint that was called. What is not a route of the data plane goes to the
control plane, an ordinary ASGI application. Nothing here decides about a call; that is the gateway's business.
"""

import re
from collections.abc import Sequence
from math import ceil
from typing import Any, Final

from msgspec import structs

from penstock.call import Call, Caller, Who
from penstock.errors import MethodNotAllowed, NotFound, PenstockError
from penstock.flow import Flow
from penstock.gateway import Gateway
from penstock.identity import OPEN_DOOR
from penstock.reply import Chunk, Failed, Opening, fold
from penstock.routing.router import Plan
from penstock.server.asgi import Application, call_asgi
from penstock.server.caller import RARE, passed_on, read_caller, read_name, wants_strictness
from penstock.server.endpoints import FIXED, Endpoint, dialect_at, find, model_in
from penstock.server.http11 import Header, Request, Responder
from penstock.server.idempotency import Idempotency, Recorder
from penstock.server.loopback import refuse_strangers
from penstock.sharing import Following
from penstock.target import usd
from penstock.wire.dialect import Dialect, ModelRow
from penstock.wire.registry import dialect

JSON: Final = (b"content-type", b"application/json")
TEXT: Final = (b"content-type", b"text/plain")

LONGEST_NAME, MOST_NAMES = 64, 40
"""Of what a target could not express, no more is listed in a header."""

_UNFIT: Final = re.compile(r"[^\x21-\x2b\x2d-\x7e]+")
_LISTS: Final = frozenset({"/v1/models", "/v1beta/models", "/api/tags"})
_SHOW: Final = "/api/show"
_STATES: Final = frozenset({"/healthz", "/readyz"})
_PREFIXES: Final = ("/v1/", "/v1beta/", "/model/", "/api/")


class App:
    """Routes of the gateway that answers now, which may be replaced. `control` answers what is not the data plane's.

    `watched` turns true once somebody asks whether the server is ready.
    """

    def __init__(self, gateway: Gateway, control: Application, idempotency: Idempotency | None = None) -> None:
        self.ready = True
        self.watched = False
        self.gateway = gateway
        self._control = control
        self.once = idempotency

    async def __call__(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        path = request.path
        try:
            endpoint = FIXED.get(path) or find(path, request.query)
            if endpoint is not None:
                if request.method != "POST":
                    raise _wrong_method(request, "POST")
                await self._answer(endpoint, request, responder)
            else:
                await self._look_up(path, request, responder)
        except PenstockError as error:
            self._refuse(dialect(dialect_at(path, request.fields or {})), responder, error)

    def refuse(self, status: int, code: str, message: str, path: str) -> tuple[list[Header], bytes]:
        """Write an error of the protocol itself (bad framing, too large, too slow) in the endpoint's dialect."""
        error = _ProtocolError(message, status=status)
        error.code = code  # type: ignore[misc]  # the protocol's own word, on this instance only
        speaks = dialect(dialect_at(path, {}))
        return [JSON, *speaks.error_headers(error)], speaks.write_error(error)

    # -- calls --

    async def _answer(self, endpoint: Endpoint, request: Request, responder: Responder) -> None:
        """Answer a request for a call: with a new one, or once however often it is asked."""
        caller, once = read_caller(request), self.once
        who = self._identify(request, caller)
        if once is None or not once.wanted(request) or endpoint.asked.operation == "count":
            await self._call(endpoint, request, caller, who, responder)
            return

        async def run(to: Recorder) -> bool:
            return await self._call(endpoint, request, caller, who, to)

        within_s = caller.within(self.gateway.config.server.deadline_s)
        await once.answer(request, responder, who, run, within_s)

    async def _call(
        self, endpoint: Endpoint, request: Request, caller: Caller, who: Who, to: Responder | Recorder
    ) -> bool:
        """Take a call through the gateway: an answer, embeddings or a count. Say whether it is a complete answer."""
        operation = endpoint.asked.operation
        speaks = dialect(endpoint.dialect, operation)
        call = speaks.read_request(request.body, endpoint.asked)
        if request.fields is not None and not RARE.isdisjoint(request.fields):
            call = structs.replace(call, headers=passed_on(request.fields), strict=wants_strictness(request))
        if operation == "count":
            count = await self.gateway.count(call, who, caller)
            to.send(200, [JSON, (b"x-penstock-count", count.certainty.encode())], speaks.write_count(count.n))
            return True
        flow = await self.gateway.begin(call, who, caller)
        try:
            return await (_stream if call.stream else _whole)(speaks, call, flow, to)
        finally:
            flow.close()

    def _identify(self, request: Request, caller: Caller) -> Who:
        """Say who calls; while there is no key, nobody from a web page. Raises Unauthenticated or PermissionDenied."""
        who = self.gateway.identify(caller)
        if who is OPEN_DOOR:
            origin = request.header(b"origin")
            host = (request.header(b"host") or b"").decode("latin-1")
            refuse_strangers(host, None if origin is None else origin.decode("latin-1"))
        return who

    # -- lists of models, and everything else --

    async def _look_up(self, path: str, request: Request, responder: Responder) -> None:
        model = model_in(path)
        is_question = model is not None and ":" in model and request.method == "POST"  # a verb that is not served
        if path in _LISTS or (model is not None and not is_question):
            _reading_only(request)
            await self._models(model, request, responder)
        elif path == _SHOW:
            if request.method != "POST":
                raise _wrong_method(request, "POST")
            await self._models(read_name(request.body), request, responder)
        elif path in _STATES:
            _reading_only(request)
            status, text = (200, b"ok\n") if path == "/healthz" else self._readiness()
            responder.send(status, [TEXT], text)
        elif path.startswith(_PREFIXES):
            raise NotFound(
                f"There is no endpoint {request.method} {path}.", hint="See docs/http.md for what is served."
            )
        else:
            await call_asgi(self._control, request, responder)

    async def _models(self, model: str | None, request: Request, responder: Responder) -> None:
        """List the models that a caller may use, or tell of one."""
        who = self._identify(request, read_caller(request))
        speaks = dialect(dialect_at(request.path, request.fields or {}))
        router = self.gateway.router
        plans = [router.plan(name, who) for name in ([model] if model is not None else router.allowed(who))]
        rows = [_row(plan) for plan in plans]
        responder.send(200, [JSON], speaks.write_models(rows) if model is None else speaks.write_model(rows[0]))

    def _readiness(self) -> tuple[int, bytes]:
        self.watched = True
        return (200, b"ready\n") if self.ready else (503, b"draining\n")

    def _refuse(self, speaks: Dialect, responder: Responder, error: PenstockError) -> None:
        if responder.started:
            responder.abort()
            return
        headers = [JSON, *speaks.error_headers(error)]
        if error.call_id:
            headers.append((b"x-penstock-call", error.call_id.encode()))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, _WrongMethod):
            headers.append((b"allow", error.allow))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
        responder.send(error.status, headers, speaks.write_error(error))


async def _whole(speaks: Dialect, call: Call, flow: Flow[Any] | Following, responder: Responder | Recorder) -> bool:
    """Collect a reply that is not streamed, and send it in one piece with its cost. Say whether it is a complete answer."""
    opening, chunk = flow.opening, await flow.next()
    assert chunk is not None, "a reply has a last chunk, with its receipt"
    events = chunk.events
    while chunk.receipt is None:
        chunk = await flow.next()
        assert chunk is not None, "a reply has a last chunk, with its receipt"
        events += chunk.events
    failed = events[-1] if events else None
    if isinstance(failed, Failed):
        failed.error.call_id = opening.call_id
        raise failed.error
    headers = _headers(opening)
    if chunk.receipt.cost_nano_usd is not None:
        headers.append((b"x-penstock-cost-usd", usd(chunk.receipt.cost_nano_usd).encode()))
    raw = chunk.raw
    body = raw if opening.lane == "verbatim" and raw is not None else speaks.write_reply(fold(events), call)
    responder.send(opening.status, [JSON, *headers], body)
    return chunk.receipt.status == "ok"


async def _stream(speaks: Dialect, call: Call, flow: Flow[Any] | Following, responder: Responder | Recorder) -> bool:
    """Pass chunks on as they come; a failure becomes the one last event. Say whether it is a complete answer."""
    status = ""
    verbatim = flow.opening.lane == "verbatim"
    writer = speaks.stream_writer(call)
    kind = speaks.stream_type if verbatim else writer.content_type
    responder.start(200, [(b"content-type", kind), (b"cache-control", b"no-cache"), *_headers(flow.opening)])

    def give(chunk: Chunk) -> bool:
        nonlocal status
        data = (chunk.raw or b"") if verbatim else writer.send(chunk.events)
        if chunk.receipt is None:
            responder.write(data)
            return responder.congested
        if verbatim and chunk.receipt.error is not None:
            data += writer.send(e for e in chunk.events if isinstance(e, Failed))
        status = chunk.receipt.status
        responder.finish(data)
        return False

    await flow.pump(give, responder.drained)
    return status == "ok"


def _row(plan: Plan) -> ModelRow:
    """Tell of a model what a client can rely on, whichever of its targets answers."""
    able = frozenset.intersection(*(target.profile.capabilities for target in plan.targets))
    return ModelRow(plan.model, input_tokens=plan.input or plan.window, output_tokens=plan.output, capabilities=able)


class _WrongMethod(MethodNotAllowed):
    """A 405 tells what is allowed (RFC 9110, 15.5.6)."""

    allow = b""


def _wrong_method(request: Request, right: str) -> _WrongMethod:
    error = _WrongMethod(f"{request.path} takes {right}, not {request.method}.")
    error.allow = b"GET, HEAD" if right == "GET" else right.encode()
    return error


def _reading_only(request: Request) -> None:
    if request.method not in {"GET", "HEAD"}:
        raise _wrong_method(request, "GET")


class _ProtocolError(PenstockError):
    """What the HTTP protocol itself refused."""


def _listed(names: Sequence[str]) -> bytes:
    """List names in a header; those of unknown members are the client's own, which could have anything in them."""
    shown = [_UNFIT.sub("_", name)[:LONGEST_NAME] for name in names[:MOST_NAMES]]
    return ", ".join(shown).encode()


def _headers(opening: Opening) -> list[Header]:
    """Say who answered, how, and what the provider itself said in its headers."""
    headers = [
        (b"x-penstock-call", opening.call_id.encode()),
        (b"x-penstock-target", opening.target.encode()),
        (b"x-penstock-tries", b"%d" % opening.tries),
        (b"x-penstock-lane", opening.lane.encode()),
    ]
    if opening.cache != "none":
        headers.append((b"x-penstock-cache", opening.cache.encode()))
    if opening.dropped:
        headers.append((b"x-penstock-dropped", _listed(opening.dropped)))
    headers += opening.headers
    return headers
