"""The control plane: an ordinary ASGI application behind the same port.

Lets administrators in, turns HTTP into the operations of `operations.py` and back, and describes them as an OpenAPI
document. `/metrics` and the document ask for no key. It never touches a call in progress.

Without any key whoever can reach the port is an administrator, so the port is on loopback only. A web page in the user's
browser can reach that as well: while there is no key, requests that carry a foreign `Host` (DNS rebinding) or an `Origin`
that is not this server are refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock import __version__
from penstock.call import Caller
from penstock.errors import ConfigError, MethodNotAllowed, Mistake, NotFound, PenstockError, PermissionDenied
from penstock.gateway import Gateway
from penstock.server import live as running
from penstock.server.budgets import BUDGETS
from penstock.server.live import LIVE, Live, LiveOperation
from penstock.server.loopback import refuse_strangers
from penstock.server.operations import OPERATIONS, Operation, perform
from penstock.telemetry.metrics import Metrics

ROUTES: tuple[Operation | LiveOperation, ...] = (*OPERATIONS, *LIVE, BUDGETS)

DOCUMENT = "/admin/v1/openapi.json"
METRICS = "/metrics"
FLUSH_ROWS = 1024


class Fault(msgspec.Struct, frozen=True):
    """What was wrong and what to do.

    `code` is one of docs/errors.md, `param` the parameter or member that was wrong; `mistakes` are all those of a refused
    configuration.
    """

    code: str
    message: str
    param: str | None = None
    mistakes: tuple[Mistake, ...] | UnsetType = UNSET


class Refusal(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: Fault


def control_plane(live: Live) -> Starlette:
    """Make the application."""

    async def metrics(_request: Request) -> Response:
        return Response(await live.metrics(), media_type=Metrics.content_type)

    document_bytes = msgspec.json.encode(openapi())

    async def document(_request: Request) -> Response:
        return Response(document_bytes, media_type="application/json")

    by_path: dict[str, dict[str, Operation | LiveOperation]] = {}
    for operation in ROUTES:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(METRICS, metrics), Route(DOCUMENT, document)]
    routes += [Route(path, _endpoint(live, ways), methods=[*ways]) for path, ways in by_path.items()]
    return Starlette(routes=routes, exception_handlers={404: _nowhere, 405: _wrong_method})


def _endpoint(live: Live, ways: dict[str, Operation | LiveOperation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = ways["GET" if request.method == "HEAD" else request.method]
        gateway, query = live.gateway, request.query_params.multi_items()
        try:
            _admit(gateway, request)
            if isinstance(operation, LiveOperation):
                return _answer(await running.perform(live, operation, query))
            # so that a report has every call that was answered before it was asked for
            gateway.ledger.flush(FLUSH_ROWS)
            given = request.path_params.get("id", "")
            value = await asyncio.to_thread(perform, gateway, operation, given, query, await request.body())
            gateway.keys.refresh()  # an answer about keys holds from now on
        except PenstockError as error:
            return _refuse(error)
        return _answer(value)

    return endpoint


def _admit(gateway: Gateway, request: Request) -> None:
    """Let an administrator in, nobody else. Raises Unauthenticated or PermissionDenied."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")
    who = gateway.identity.of(Caller(key=key or None))
    if not who.admin:
        raise PermissionDenied("This key is not an administrator's.", hint="Make one: penstock keys create --admin.")
    if gateway.keys.empty:
        refuse_strangers(request.headers.get("host", ""), request.headers.get("origin"))


def _answer(value: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def _refuse(error: PenstockError) -> Response:
    is_config = isinstance(error, ConfigError)
    mistakes = error.mistakes if isinstance(error, ConfigError) else UNSET
    status = 400 if is_config else error.status
    response = _answer(Refusal(Fault(error.code, str(error), error.param, mistakes)), status)
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return response


async def _nowhere(request: Request, _missing: Exception) -> Response:
    return _refuse(NotFound(f"There is nothing at {request.url.path}.", hint=f"See {DOCUMENT}."))


async def _wrong_method(request: Request, refused: Exception) -> Response:
    response = _refuse(MethodNotAllowed(f"{request.url.path} does not take {request.method}."))
    if isinstance(refused, HTTPException) and refused.headers:
        response.headers.update(refused.headers)
    return response


# -- the document --


def openapi() -> dict[str, Any]:
    """Describe the operations as an OpenAPI 3.1 document, from their table and their types."""
    types = {kind for operation in ROUTES for kind in (operation.gives, operation.takes) if kind is not None}
    ordered = sorted((*types, Refusal), key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in ROUTES:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "penstock control plane", "version": __version__},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key made with `penstock keys create --admin`; none while there is no key at all.",
                }
            },
            "schemas": schemas,
        },
    }


def _described(operation: Operation | LiveOperation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": one.name,
            "in": "query",
            "description": one.about,
            "schema": {"type": one.kind, **({"enum": one.choices} if one.choices else {})},
        }
        for one in operation.parameters
    ]
    if "{id}" in operation.path:
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": _content(operation.gives)},
            "default": {"description": "Not done; the body says why.", "content": _content(Refusal)},
        },
    }
    if operation.takes is not None:
        described["requestBody"] = {"content": _content(operation.takes)}
    return described


def _content(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
