"""The data plane's routes: bytes to `Call`, the gateway, chunks to bytes.

Every failure leaves in the dialect of the endpoint that was called. What is not a route of the data plane goes to the
control plane, an ordinary ASGI application. Nothing here decides about a call; that is the gateway's business.
"""

import logging
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from typing import Any, Final

from msgspec import Struct, structs

from penstock.call import Asked, Call, Caller, Who
from penstock.calls_alike import Standing
from penstock.direct import Direct
from penstock.errors import NotFound, PenstockError
from penstock.event import Event
from penstock.flow import Flow
from penstock.gateway import Gateway
from penstock.identity import OPEN_DOOR
from penstock.plugins import Exchange
from penstock.receipt import Settled
from penstock.reply import Chunk, Failed, Opening, fold
from penstock.routing.router import Plan
from penstock.server.answer_head import BEGINNING, JSON, Costs, Targets, cost_of, headers_of, lines_of
from penstock.server.asgi import Application, call_asgi
from penstock.server.caller import RARE, passed_on, read_caller, read_name, wants_strictness
from penstock.server.direct import Client
from penstock.server.endpoints import dialect_at, find, model_in
from penstock.server.http11 import Header, Request, Responder
from penstock.server.idempotency import HEADER, Idempotency, Recorder
from penstock.server.refusing import ProtocolError, WrongMethod, reading_only, stay_at_home, wrong_method
from penstock.sharing import Following
from penstock.together import together
from penstock.wire.dialect import Dialect, Frame, Frames, ModelRow
from penstock.wire.registry import dialect

log = logging.getLogger("penstock")

TEXT: Final = (b"content-type", b"text/plain")
NO_CACHE: Final = (b"cache-control", b"no-cache")

PATIENCE: Final = 7
"""To remember what a call has in common with others pays only where others follow."""

_LISTS: Final = frozenset({"/v1/models", "/v1beta/models", "/api/tags"})
_SHOW: Final = "/api/show"
_STATES: Final = frozenset({"/healthz", "/readyz"})
_PREFIXES: Final = ("/v1/", "/v1beta/", "/model/", "/api/")


class Route(Struct, frozen=True):
    """What a request for a call says beside its body: it follows from the head and the peer, and decides nothing.

    digest   of the caller's key, by which it is looked up anew for each call; None for what is no key
    once     whether the caller wants one answer however often it asks
    special  whether it asks for a count, or says more about the call
    plain    whether it is neither
    standing what was found for the last one, where that is remembered
    """

    speaks: Dialect
    asked: Asked
    caller: Caller
    digest: bytes | None
    once: bool
    special: bool
    plain: bool
    standing: "Place"

    def known(self, body: bytes) -> Call:
        """Read a body that may be like those before it."""
        frame = self.standing.frame
        return (None if frame is None else frame.read(body)) or self.read(body)

    def read(self, body: bytes) -> Call:
        """Read a body that is not like those before it, and remember now and then what is common to those that are like it."""
        call, place = self.speaks.read_request(body, self.asked), self.standing
        if place.patience:
            place.patience -= 1
        elif place.frames is not None:
            place.frame, place.patience = place.frames(call), PATIENCE
        return call


class Place(Standing):
    """What the calls of a head and a peer have in common: what stands around the messages of one of them as well."""

    __slots__ = ("frame", "frames", "patience")

    def __init__(self, caller: Caller, frames: Frames | None) -> None:
        super().__init__(caller)
        self.frames = frames  # None where its dialect knows no such thing
        self.frame: Frame | None = None
        self.patience = 0  # so many more that are not like it are read before another one is remembered


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
        self.costs, self.targets = Costs(), Targets()

    async def __call__(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        head = request.head
        try:
            if request.begun is not None:
                await request.begun.finish(responder)
                return
            route: Route | None = self._route(request) if head is None or head.made is None else head.made
            if route is None:
                await self._look_up(request, responder)
                return
            who = self.gateway.identity.of(route.caller, route.digest)
            if who is OPEN_DOOR:
                stay_at_home(request)
            if route.once and self.once is not None and self.once.wanted(request):
                await self._answer_once(route, request, who, responder)
            else:
                await self._answer(route, request, who, responder)
        except PenstockError as error:
            self._refuse(dialect(dialect_at(request.path, request.fields or {})), responder, error)

    def at_once(self, clients: Sequence[Client]) -> None:
        """Begin to answer requests without a task, those for which that is all that it takes: see `direct.py`."""
        known: list[tuple[Client, Route, Who]] = []
        asked: list[_Asked] = []
        together(partial(self._identify, known), clients, _leave)
        together(partial(self._read, asked), known, _leave)
        direct = self.gateway.direct
        direct(asked)

    def _identify(self, known: list[tuple[Client, Route, Who]], left: Iterator[Client]) -> None:
        """Say whose requests are, of those where nothing but their bodies is special."""
        gateway = self.gateway
        owner = gateway.identity.owners().get
        for client in left:
            head = client.asked
            route: Route | None = None if head is None else head.made
            if head is not None and route is not None and route.plain:
                who = owner(route.digest) or gateway.identity.of(route.caller, route.digest)
                if who is OPEN_DOOR:
                    stay_at_home(head)
                known.append((client, route, who))

    def _read(self, asked: "list[_Asked]", left: Iterator[tuple[Client, Route, Who]]) -> None:
        """Read their bodies."""
        gateway = self.gateway
        for client, route, who in left:
            place, body = route.standing, client.body
            frame = place.frame
            call = (None if frame is None else frame.read(body)) or route.read(body)
            asked.append(_Asked(self, gateway, client, route, who, call, place))

    def refuse(self, status: int, code: str, message: str, path: str) -> tuple[list[Header], bytes]:
        """Write an error of the protocol itself (bad framing, too large, too slow) in the endpoint's dialect."""
        error = ProtocolError(message, status=status)
        error.code = code  # type: ignore[misc]  # the protocol's own word, on this instance only
        speaks = dialect(dialect_at(path, {}))
        return [JSON, *speaks.error_headers(error)], speaks.write_error(error)

    # -- calls --

    def _route(self, request: Request) -> Route | None:
        """Read what a request for a call says beside its body; None for any other request."""
        endpoint = find(request.path, request.query)
        if endpoint is None:
            return None
        if request.method != "POST":
            raise wrong_method(request, "POST")
        asked, fields, caller = endpoint.asked, request.fields or {}, read_caller(request)
        counts = asked.operation == "count"
        speaks, digest = dialect(endpoint.dialect, asked.operation), self.gateway.keys.digest(caller.key)
        once, special = HEADER in fields and not counts, counts or not RARE.isdisjoint(fields)
        place = Place(caller, getattr(speaks, "frame", None))
        route = Route(speaks, asked, caller, digest, once, special, not (once or special), place)
        if request.head is not None:
            request.head.made = route  # all of it follows from the head and the peer
        return route

    async def _answer_once(self, route: Route, request: Request, who: Who, responder: Responder) -> None:
        """Answer a request for a call once, however often it is asked."""
        assert self.once is not None, "only where requests are answered once"

        async def run(to: Recorder) -> bool:
            return await self._answer(route, request, who, to)

        within_s = route.caller.within(self.gateway.config.server.deadline_s)
        await self.once.answer(request, responder, who, run, within_s)

    async def _answer(self, route: Route, request: Request, who: Who, to: Responder | Recorder) -> bool:
        """Take a call through the gateway: an answer, embeddings or a count. Say whether it is a complete answer."""
        speaks = route.speaks
        is_known = route.plain and request.head is not None
        call = route.known(request.body) if is_known else speaks.read_request(request.body, route.asked)
        if route.special:
            if request.fields is not None and not RARE.isdisjoint(request.fields):
                call = structs.replace(call, headers=passed_on(request.fields), strict=wants_strictness(request))
            if route.asked.operation == "count":
                count = await self.gateway.count(call, who, route.caller)
                to.send(200, [JSON, (b"x-penstock-count", count.certainty.encode())], speaks.write_count(count.n))
                return True
        return await _give(speaks, call, await self.gateway.begin(call, who, route.caller), to)

    # -- lists of models, and everything else --

    async def _look_up(self, request: Request, responder: Responder) -> None:
        path = request.path
        model = model_in(path)
        is_question = model is not None and ":" in model and request.method == "POST"  # a verb that is not served
        if path in _LISTS or (model is not None and not is_question):
            reading_only(request)
            await self._models(model, request, responder)
        elif path == _SHOW:
            if request.method != "POST":
                raise wrong_method(request, "POST")
            await self._models(read_name(request.body), request, responder)
        elif path in _STATES:
            reading_only(request)
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
        who = self.gateway.identity.of(read_caller(request))
        if who is OPEN_DOOR:
            stay_at_home(request)
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
        if isinstance(error, WrongMethod):
            headers.append((b"allow", error.allow))
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after_s))))
        responder.send(error.status, headers, speaks.write_error(error))


def _leave(_request: object, _why: Exception) -> None:
    """Leave a request to the task, which will meet the same again and answer with it."""


class _Asked(Struct, eq=False):
    """A request that is answered without a task; what the task is to go on with, if it was begun so and not only read."""

    app: App
    gateway: Gateway
    client: Client
    route: Route
    who: Who
    call: Call
    standing: Place
    direct: Direct | None = None

    def begun(self, call: Direct) -> None:
        """Let the client wait for the answer."""
        self.client.begun = call

    def answered(self, call: Direct, exchange: Exchange, body: bytes | None, settled: Settled) -> None:
        """Send the whole answer."""
        assert body is not None, "on the verbatim lane there are the provider's bytes"
        app, headers = self.app, exchange.headers
        target, cost = app.targets[call.flight.tries[0].target.id], app.costs[settled.cost_nano_usd]
        own, length = lines_of(headers) if headers else b"", b"content-length: %d\r\n\r\n" % len(body)
        self.client.reply(b"".join((BEGINNING, settled.id.encode(), target, own, cost, length, body)))

    def handed_over(self, call: Direct | None) -> None:
        """Have the connection's task go on; so nothing is read a second time. Once the answer is out only the log is left."""
        if call is not None and self.client.asked is None:
            log.error("call %s failed behind its answer", call.flight.id, exc_info=call.defect)
            return
        self.direct = call
        self.client.go_on(self)

    def abandon(self, why: CancelledError) -> None:
        """Give it up, before the task has taken it."""
        direct, self.direct = self.direct, None
        if direct is not None:
            direct.abandon(why)

    async def finish(self, to: Responder) -> None:
        """Go on with it, in a task."""
        direct, self.direct = self.direct, None
        begin, call = self.app.gateway.begin, self.call
        flow = await (begin(call, self.who, self.route.caller) if direct is None else self.gateway.go_on(direct))
        await _give(self.route.speaks, call, flow, to)


async def _give(speaks: Dialect, call: Call, flow: Flow[Any] | Following, to: Responder | Recorder) -> bool:
    """Send an answer. Say whether it is complete."""
    try:
        if call.stream:
            return await _stream(speaks, call, flow, to)
        chunk = await flow.next()
        if chunk is None or chunk.settled is None:
            chunk = await _collected(chunk, flow)
        return _whole(speaks, call, flow.opening, chunk, to)
    finally:
        flow.close()


async def _collected(chunk: Chunk | None, flow: Flow[Any] | Following) -> Chunk:
    """Read a reply of several chunks to its end, and put them together."""
    events: tuple[Event, ...] = ()
    while chunk is not None:
        events += chunk.events
        if chunk.settled is not None:
            return Chunk(events, chunk.raw, chunk.settled)
        chunk = await flow.next()
    raise AssertionError("a reply has a last chunk, with its receipt")


def _whole(speaks: Dialect, call: Call, opening: Opening, chunk: Chunk, to: Responder | Recorder) -> bool:
    """Send a reply that is not streamed, in one piece with its cost. Say whether it is a complete answer."""
    events, raw, settled = chunk.events, chunk.raw, chunk.settled
    assert settled is not None, "a reply has a last chunk, with its receipt"
    if events and isinstance(events[-1], Failed):
        events[-1].error.call_id = opening.call_id
        raise events[-1].error
    headers = headers_of(JSON, opening)
    if settled.cost_nano_usd is not None:
        headers.append(cost_of(settled.cost_nano_usd))
    body = raw if raw is not None and opening.lane == "verbatim" else speaks.write_reply(fold(events), call)
    to.send(opening.status, headers, body)
    return settled.status == "ok"


async def _stream(speaks: Dialect, call: Call, flow: Flow[Any] | Following, to: Responder | Recorder) -> bool:
    """Pass chunks on as they come; a failure becomes the one last event. Say whether it is a complete answer."""
    status, write, opening = "", to.write, flow.opening
    writer = None if opening.lane == "verbatim" else speaks.stream_writer(call)
    kind = speaks.stream_type if writer is None else writer.content_type
    is_there = isinstance(flow, Flow)  # its first chunk, that is
    to.start(200, headers_of((b"content-type", kind), opening, NO_CACHE), soon=not is_there)

    def give(chunk: Chunk) -> bool:
        nonlocal status
        data = (chunk.raw or b"") if writer is None else writer.send(chunk.events)
        settled = chunk.settled
        if settled is None:
            return write(data)
        if writer is None and settled.error is not None:
            data += speaks.stream_writer(call).send(e for e in chunk.events if isinstance(e, Failed))
        status = settled.status
        to.finish(data)
        return False

    if writer is None and isinstance(flow, Flow) and isinstance(to, Responder):
        flow.outflow = to.outflow
    await flow.pump(give, to.drained)
    return status == "ok"


def _row(plan: Plan) -> ModelRow:
    """Tell of a model what a client can rely on, whichever of its targets answers."""
    able = frozenset.intersection(*(target.profile.capabilities for target in plan.targets))
    return ModelRow(plan.model, input_tokens=plan.input or plan.window, output_tokens=plan.output, capabilities=able)
