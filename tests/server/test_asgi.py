"""Ordinary ASGI applications on the data plane's port: Starlette, streams, hang-ups, broken applications."""

import asyncio
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from penstock.server.asgi import call_asgi, scope_of
from penstock.server.http11 import Request


def bridge(app, root_path=""):
    return partial(call_asgi, app, root_path=root_path)


async def until(condition, timeout_s=1.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the conditions are of many kinds
            await asyncio.sleep(0.002)


def get(path, method=b"GET"):
    return b"%b %b HTTP/1.1\r\nHost: h:1\r\nX-Two: 2\r\n\r\n" % (method, path.encode())


async def tell(request: StarletteRequest) -> JSONResponse:
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "query": dict(request.query_params),
            "x-two": request.headers["x-two"],
            "body": body.decode(),
            "client": request.client.host,
            "host": request.url.netloc,
            "scheme": request.url.scheme,
        }
    )


async def pieces(request: StarletteRequest) -> StreamingResponse:
    async def parts():
        for number in range(5):
            yield f"{number} "
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="text/plain")


class Endless:
    """An application that streams until it is stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def answer(self, _: StarletteRequest) -> StreamingResponse:
        async def parts():
            try:
                while True:
                    self.begun.set()
                    yield b"data"
                    await asyncio.sleep(0.005)
            finally:
                self.ended.set()

        return StreamingResponse(parts())


@pytest.mark.parametrize(
    "middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=lambda request, call: call(request))]]
)
async def test_a_starlette_application_answers(serve, tmp_path, middleware):
    (tmp_path / "file").write_bytes(b"x" * 200_000)
    app = Starlette(
        routes=[
            Route("/tell/{rest:path}", tell, methods=["GET", "POST"]),
            Route("/pieces", pieces),
            Route("/file", lambda _: FileResponse(tmp_path / "file")),
            Route("/empty", lambda _: Response(status_code=204)),
            Mount(
                "/deep", routes=[Route("/er", lambda request: PlainTextResponse(str(request.url_for("er"))), name="er")]
            ),
        ],
        middleware=middleware,
    )
    running = await serve(bridge(app))
    client = await running.client()

    await client.send(b"POST /tell/a%20b?q=1 HTTP/1.1\r\nHost: h:1\r\nX-Two: 2\r\nContent-Length: 4\r\n\r\nbody")
    reply = await client.reply()
    assert reply.status == 200
    for part in (
        b'"POST"',
        b'"/tell/a b"',
        b'{"q":"1"}',
        b'"x-two":"2"',
        b'"body"',
        b'"127.0.0.1"',
        b'"h:1"',
        b'"http"',
    ):
        assert part in reply.body, reply.body
    assert reply.header(b"content-length") == b"%d" % len(reply.body)

    await client.send(get("/pieces"))
    reply = await client.reply()
    assert (reply.body, reply.header(b"transfer-encoding")) == (b"0 1 2 3 4 ", b"chunked")

    await client.send(get("/file"))
    reply = await client.reply()
    assert (len(reply.body), reply.header(b"content-length")) == (200_000, b"200000")

    await client.send(get("/file", b"HEAD"))
    reply = await client.reply()
    assert (reply.body, reply.header(b"content-length")) == (b"", b"200000")

    for path, status in (("/empty", 204), ("/nothing", 404), ("/deep/er", 200)):
        await client.send(get(path))
        assert (await client.reply()).status == status
    await client.send(get("/pieces", b"POST"))
    assert (await client.reply()).status == 405
    assert running.crashes == []


async def test_an_application_below_a_prefix_knows_it(serve):
    app = Starlette(routes=[Route("/x", lambda request: PlainTextResponse(str(request.url_for("x"))), name="x")])
    running = await serve(bridge(app, root_path="/admin"))
    client = await running.client()
    await client.send(get("/admin/x"))
    assert (await client.reply()).body == b"http://h:1/admin/x"


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_a_hang_up_ends_a_streaming_application(serve, reset):
    endless = Endless()
    running = await serve(bridge(Starlette(routes=[Route("/", endless.answer)])))
    client = await running.client()
    await client.send(get("/"))
    await asyncio.wait_for(endless.begun.wait(), 1.0)
    client.hang_up(reset=reset)
    await asyncio.wait_for(endless.ended.wait(), 0.5)
    await until(lambda: running.server.connections == 0)
    assert running.crashes == []


async def test_a_hang_up_cancels_an_application_that_has_not_answered(serve):
    ended: list[str] = []
    begun = asyncio.Event()

    async def slow(request: StarletteRequest) -> Response:
        begun.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Response()

    running = await serve(bridge(Starlette(routes=[Route("/", slow)])))
    client = await running.client()
    await client.send(get("/"))
    await asyncio.wait_for(begun.wait(), 1.0)
    client.hang_up()
    await until(lambda: ended == ["cancelled"])
    assert running.crashes == []


async def test_receive_gives_the_body_and_then_the_end_of_the_call(serve):
    messages: list[dict] = []
    left_over: list[asyncio.Task] = []

    async def app(scope, receive, send) -> None:
        messages.append(await receive())
        waiter = asyncio.create_task(receive())
        impatient = asyncio.create_task(receive())
        left_over.append(asyncio.create_task(receive()))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        assert not waiter.done()
        await send({"type": "http.response.start", "status": 200, "headers": [[b"X-A", b"b"], (b"Connection", b"x")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body"})
        messages.append(await waiter)
        messages.append(await receive())

    running = await serve(bridge(app))
    client = await running.client()
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    reply = await client.reply()
    assert (reply.header(b"x-a"), reply.header(b"connection"), reply.body) == (b"b", None, b"a")
    await until(lambda: len(messages) == 3)
    assert messages[0] == {"type": "http.request", "body": b"body", "more_body": False}
    assert messages[1:] == [{"type": "http.disconnect"}] * 2
    assert await left_over[0] == {"type": "http.disconnect"}


async def test_what_an_application_waits_for_ends_with_its_call(serve):
    seen: list[object] = []

    async def app(scope, receive, send) -> None:
        await receive()

        async def watch() -> None:
            seen.append(await receive())

        app.watcher = asyncio.create_task(watch())  # not part of the call, as a careless application has it
        await asyncio.sleep(10)

    running = await serve(bridge(app))
    client = await running.client()
    await client.send(get("/"))
    await until(lambda: running.server.in_flight)
    client.hang_up()
    await until(lambda: seen == [{"type": "http.disconnect"}])


async def test_sending_to_a_client_that_is_gone_is_an_os_error(serve):
    errors: list[BaseException] = []

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            await asyncio.sleep(10)
        finally:
            try:
                await send({"type": "http.response.body", "body": b"late"})
            except OSError as error:
                errors.append(error)

    running = await serve(bridge(app))
    client = await running.client()
    await client.send(get("/"))
    await until(lambda: running.server.in_flight)
    client.hang_up()
    await until(lambda: errors)


START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], 500),
        ([BODY], 500),
        ([START], 500),
        ([START, START], 500),
        ([{"type": "http.response.trailers"}], 500),
        ([START, BODY, BODY], 200),
        ([START, {**BODY, "more_body": True}], None),
        ([{**START, "headers": [(b"x", b"a\r\nb")]}, BODY], 500),
    ],
)
async def test_an_application_that_breaks_the_protocol_is_a_fault(serve, messages, status):
    async def app(scope, receive, send) -> None:
        for message in messages:
            await send(message)

    running = await serve(bridge(app))
    client = await running.client()
    await client.send(get("/"))
    (reply,) = await client.rest()
    if status is None:
        assert not reply.complete
    else:
        assert (reply.status, reply.complete) == (status, True)
    assert len(running.crashes) == 1


async def test_what_an_application_raises_is_reported(serve):
    async def app(scope, receive, send) -> None:
        raise LookupError("of the application")

    running = await serve(bridge(app))
    (reply,) = await running.ask(get("/"))
    assert reply.status == 500
    assert str(running.crashes[0]) == "'of the application'" or "of the application" in str(running.crashes[0])


async def test_a_slow_reader_slows_the_application_down(serve):
    sent = 0

    async def app(scope, receive, send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            sent += 1
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    running = await serve(bridge(app))
    client = await running.client(limit=65_536)
    await client.send(get("/"))
    await asyncio.sleep(0.05)
    assert 0 < sent < 200
    assert len((await client.reply()).body) == 400 * 65_536


def test_a_scope_follows_the_specification():
    request = Request("GET", b"/a%20b?c=d", "/a b", b"c=d", [(b"host", b"h")], b"", "1.1", "192.0.2.1")
    assert scope_of(request, "/root") == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "root_path": "/root",
        "headers": [(b"host", b"h")],
        "client": ("192.0.2.1", 0),
        "server": None,
        "state": {},
    }
