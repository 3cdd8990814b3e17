"""The control plane: an ordinary ASGI application behind the same port.

Reads what the gateway knows (metrics, receipts, spend, models) and manages keys. Every route but `/metrics` asks for a key
made with `--admin`, or for none where there are no keys at all. It never touches a call in progress.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.call import Caller
from penstock.errors import InvalidRequest, NotFound, PenstockError, PermissionDenied
from penstock.gateway import Gateway
from penstock.ledger import reports
from penstock.ledger.keys import Grant, listed
from penstock.ledger.periods import read_expiry, read_moment, zone_of
from penstock.ledger.store import Filter, Span

MOST_CALLS = 1000
Answer = Callable[[Gateway, Request], Awaitable[Any]]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /admin/v1/keys`; `expires` as in `penstock keys create --expires`."""

    team: str | None = None
    feature: str | None = None
    label: str = ""
    admin: bool = False
    expires: str | None = None


async def _spend(gateway: Gateway, request: Request) -> Any:
    """Sum up what calls used and cost, by dimensions."""
    zone, span = _span(request)
    by = reports.dimensions(request.query_params.get("by", "model"))
    return reports.spend(gateway.ledger.store, span, by, zone)


async def _calls(gateway: Gateway, request: Request) -> Any:
    """Give receipts, newest first."""
    query = request.query_params
    _, span = _span(request)
    limit = query.get("limit", "20")
    if not limit.isdigit() or not 0 < int(limit) <= MOST_CALLS:
        raise InvalidRequest(f"limit has to be a whole number from 1 to {MOST_CALLS}.", param="limit")
    which = Filter(
        span,
        team=query.get("team"),
        feature=query.get("feature"),
        model=query.get("model"),
        user=query.get("user"),
        key=query.get("key"),
        target=query.get("target"),
        status=query.get("status"),
    )
    return reports.calls(gateway.ledger.store, which, int(limit))


async def _call(gateway: Gateway, request: Request) -> Any:
    """Give one receipt."""
    return reports.show(gateway.ledger.store, request.path_params["id"])


async def _models(gateway: Gateway, _request: Request) -> Any:
    """Give the configured models and their targets, in fallback order."""
    return {
        "models": [
            {"name": plan.model, "targets": [target.id for target in plan.targets]}
            for plan in gateway.router.models.values()
        ]
    }


async def _keys(gateway: Gateway, _request: Request) -> Any:
    """List every key, without its secret."""
    return {"keys": [listed(key) for key in gateway.keys.list()]}


async def _make_key(gateway: Gateway, request: Request) -> Any:
    """Make a key; its secret is in the answer and nowhere else."""
    try:
        asked = msgspec.json.decode(await request.body() or b"{}", type=NewKey)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not a new key: {error}.") from None
    now_ns = time.time_ns()
    until = None if asked.expires is None else read_expiry(asked.expires, now_ns, zone_of("UTC"))
    return gateway.keys.create(Grant(asked.team, asked.feature, asked.label, asked.admin, until), now_ns)


async def _revoke_key(gateway: Gateway, request: Request) -> Any:
    """End a key at once, for good."""
    gateway.keys.revoke(request.path_params["id"], time.time_ns())
    return {"revoked": request.path_params["id"]}


ROUTES: tuple[tuple[str, str, Answer], ...] = (
    ("GET", "/admin/v1/spend", _spend),
    ("GET", "/admin/v1/calls", _calls),
    ("GET", "/admin/v1/calls/{id}", _call),
    ("GET", "/admin/v1/models", _models),
    ("GET", "/admin/v1/keys", _keys),
    ("POST", "/admin/v1/keys", _make_key),
    ("DELETE", "/admin/v1/keys/{id}", _revoke_key),
)


def control_plane(gateway: Gateway) -> Starlette:
    """Make the application."""

    async def metrics(_request: Request) -> Response:
        return Response(gateway.metrics.exposition(), media_type=gateway.metrics.content_type)

    async def document(_request: Request) -> Response:
        return _json(_openapi())

    routes = [
        Route("/metrics", metrics),
        Route("/admin/v1/openapi.json", document),
        *(Route(path, _guarded(gateway, answer), methods=[method]) for method, path, answer in ROUTES),
    ]
    return Starlette(routes=routes, exception_handlers={404: _nowhere, 405: _wrong_method})


def _guarded(gateway: Gateway, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            _admit(gateway, request)
            return _json(await answer(gateway, request))
        except PenstockError as error:
            return _error(error)

    return endpoint


def _admit(gateway: Gateway, request: Request) -> None:
    """Let an administrator in, nobody else."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    who = gateway.identify(Caller(key=token.strip() if scheme.lower() == "bearer" and token else None))
    if not who.admin:
        raise PermissionDenied("This key is not an administrator's.", hint="Make one: penstock keys create --admin.")


def _span(request: Request) -> tuple[ZoneInfo, Span]:
    query, now_ns = request.query_params, time.time_ns()
    zone = zone_of(query.get("zone", "UTC"))
    since = read_moment(query.get("since", "today"), now_ns, zone)
    until = read_moment(query["until"], now_ns, zone, "until") if "until" in query else now_ns
    return zone, Span(since, until)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(error: PenstockError) -> Response:
    return _json({"error": {"code": error.code, "message": str(error), "param": error.param}}, error.status)


async def _nowhere(request: Request, _missing: Exception) -> Response:
    return _error(NotFound(f"There is nothing at {request.url.path}.", hint="See /admin/v1/openapi.json."))


async def _wrong_method(request: Request, _refused: Exception) -> Response:
    return _json(
        {"error": {"code": "method_not_allowed", "message": f"{request.url.path} does not take {request.method}."}}, 405
    )


def _openapi() -> Any:
    """Describe the routes, from the table of routes itself."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, answer in ROUTES:
        operation: dict[str, Any] = {
            "operationId": answer.__name__.strip("_"),
            "summary": (answer.__doc__ or "").strip(),
            "responses": {"200": {"description": "JSON"}, "default": {"description": "An error with a code."}},
        }
        if "{id}" in path:
            operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
        paths.setdefault(path, {})[method.lower()] = operation
    return {"openapi": "3.1.0", "info": {"title": "penstock control plane", "version": "1"}, "paths": paths}
