"""The data plane over real sockets: a server, the application, a gateway with its ledger, and providers on loopback."""

import asyncio
import inspect
import logging
import random
import re
import time
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path

import msgspec
import pytest
import uvloop
from tests.providers.upstream import Upstream, stream, whole
from tests.server.conftest import Client
from tests.test_gateway import Played

from penstock.config import load
from penstock.errors import UpstreamFailed
from penstock.gateway import start
from penstock.ledger.keys import Grant
from penstock.ledger.store import Filter, Span
from penstock.meter import Meter
from penstock.reply import Chunk, TextDelta
from penstock.server.admin import control_plane
from penstock.server.app import App
from penstock.server.http11 import Connection, Server
from penstock.server.listening import bind
from penstock.target import Profile
from penstock.tokens.count import count_text

ROOT = Path(__file__).parents[2]
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
CONFIG = """
[providers.box]
kind = "openai"
base_url = "URL"
api_key = "env:BOX_KEY"
retries = 0
first_byte_s = 20
[providers.spare]
kind = "openai"
base_url = "URL"
retries = 0
[providers.fake]
kind = "scripted"
path = "SCRIPT"
[models.fast]
targets = ["box/m"]
[models.both]
targets = ["box/m", "spare/m2"]
[models.played]
targets = ["fake/p"]
[models.safe]
targets = ["box/m"]
static = "We are busy."
[prices."box/m"]
input = 0.15
output = 0.6
[teams.slow]
rpm = 1
[teams.poor]
budget_usd = { day = 0 }
"""
SCRIPT = """
[[rules]]
contains = "fault"
text = "one two three"
fault = "reset"
after_chunks = 2
[[rules]]
text = "Hello there, {prompt}"
"""
KEY = "sk-canary-of-the-provider"
MESSAGES = [{"role": "user", "content": "hi"}]
REPLY = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
START = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
HELLO = START + b'{"role":"assistant","content":"Hello"},"finish_reason":null}]}\n\n'
STOP = START + b'{},"finish_reason":"stop"}]}\n\n'
USAGE = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ANSWER = [whole(REPLY)]
STREAM = [list(stream(HELLO, STOP, USAGE, DONE))]
SILENCE = [[30.0]]


def on_both_loops(test):
    """Run a test on uvloop and on the stock loop."""

    @wraps(test)
    def run(*, loop, **named):
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(test(**named))

    given = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = given.replace(parameters=[*given.parameters.values(), loop])
    return pytest.mark.parametrize("loop", LOOPS)(run)


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Load the vocabulary that calls are counted with where their provider does not say."""
    count_text("warm", Profile())


class Counting(Upstream):
    """A provider that knows how many connections are open."""

    open = 0

    async def serve(self, reader, writer):
        self.open += 1
        try:
            await super().serve(reader, writer)
        finally:
            self.open -= 1


class Alone:
    """A server of one process, as far as its control plane asks for it."""

    def __init__(self, gateway):
        self.gateway = gateway

    async def metrics(self):
        return self.gateway.metrics.exposition()


class Site:
    """One gateway behind one server, with what its handlers crashed on."""

    def __init__(self, gateway, app, server, there):
        self.gateway, self.app, self.server, self.there = gateway, app, server, there
        self.crashes = []
        self.clients = []

    async def client(self, **options):
        one = Client(*await asyncio.open_connection("127.0.0.1", self.server.port, **options))
        self.clients.append(one)
        return one

    async def ask(self, request, timeout_s=5.0):
        """One request on a connection of its own."""
        client = await self.client()
        await client.send(request)
        return await client.reply(timeout_s)

    def receipts(self):
        while self.gateway.ledger.flush(10_000):
            pass
        return self.gateway.ledger.store.calls(Filter(Span(0, 2**62)), 1000)[::-1]

    @property
    def receipt(self):
        (receipt,) = self.receipts()
        return receipt


@asynccontextmanager
async def site(folder, *replies, config=CONFIG, key=KEY):
    """A server whose providers answer with these replies; when it ends, nothing is in flight and nothing crashed."""
    there = Counting(*(replies or ANSWER))
    listening = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.port = listening.sockets[0].getsockname()[1]
    (folder / "replies.toml").write_text(SCRIPT)
    text = config.replace("URL", there.url).replace("SCRIPT", str(folder / "replies.toml"))
    (folder / "penstock.toml").write_text(text)
    environ = {"PENSTOCK_HOME": str(folder / "home"), "BOX_KEY": key}
    gateway = start(load(str(folder / "penstock.toml"), environ))
    app = App(gateway, control_plane(Alone(gateway)))
    found = []
    server = Server(app, app.refuse, on_crash=found.append)
    server.at_once = app.at_once
    await server.start(bind("127.0.0.1", 0, 1)[0])
    one = Site(gateway, app, server, there)
    one.crashes = found
    try:
        yield one
        assert found == []
    finally:
        for client in one.clients:
            client.writer.transport.abort()
        await server.close()
        await gateway.close()
        listening.close()
        for _ in range(1000):
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.001)
    assert gateway.in_flight == 0
    assert server.connections == 0


def request(method, path, body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in named.items())]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat(model="fast", *, stream=None, body=None, **headers):
    """A request for a completion; headers by their names with underscores."""
    if body is None:
        asked = {"model": model, "messages": MESSAGES} | ({} if stream is None else {"stream": stream})
        body = msgspec.json.encode(asked)
    return request("POST", "/v1/chat/completions", body, **headers)


def problem(reply):
    """The error object of a reply, in OpenAI's shape and no other."""
    assert reply.header(b"content-type") == b"application/json"
    body = msgspec.json.decode(reply.body)
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    return error


async def settled(one, count=1):
    """Wait for so many receipts."""
    for _ in range(400):
        if len(one.receipts()) >= count:
            return one.receipts()
        await asyncio.sleep(0.005)
    pytest.fail(f"{len(one.receipts())} receipts instead of {count}")


async def asked(one):
    """Wait until the provider has been asked."""
    for _ in range(2000):
        if one.there.requests:
            return
        await asyncio.sleep(0.001)
    pytest.fail("the provider was not asked")


# -- answers --


@on_both_loops
async def test_an_answer_has_the_providers_bytes_and_says_who_gave_it_and_what_it_cost(tmp_path):
    headers = "x-ratelimit-remaining-requests: 5\r\nx-request-id: r1\r\nserver: secret\r\n"
    async with site(tmp_path, whole(REPLY, headers=headers)) as one:
        reply = await one.ask(chat())
        receipt = one.receipt

    assert (reply.status, reply.body) == (200, REPLY)
    assert reply.header(b"content-type") == b"application/json"
    assert reply.header(b"x-penstock-call").decode() == receipt.id
    assert reply.header(b"x-penstock-target") == b"box/m"
    assert reply.header(b"x-penstock-tries") == b"1"
    assert reply.header(b"x-penstock-lane") == b"verbatim"
    assert reply.header(b"x-penstock-cost-usd") == b"0.00000255"
    assert reply.header(b"x-ratelimit-remaining-requests") == b"5"
    assert reply.header(b"x-request-id") == b"r1"
    assert reply.header(b"server") is None
    assert (receipt.status, receipt.cost_nano_usd, receipt.streamed) == ("ok", 2550, False)


@on_both_loops
async def test_a_stream_passes_frame_by_frame_to_its_end_mark(tmp_path):
    pieces = [*stream(HELLO, 0.05, STOP, USAGE, DONE)]
    async with site(tmp_path, pieces) as one:
        client = await one.client()
        await client.send(chat(stream=True))
        reply = await client.reply()
        receipt = one.receipt

    assert reply.body == HELLO + STOP + DONE  # usage was not asked for by the client
    assert reply.pieces[0] == HELLO  # it did not wait for the rest
    assert reply.header(b"content-type").startswith(b"text/event-stream")
    assert reply.header(b"cache-control") == b"no-cache"
    assert reply.header(b"x-penstock-call").decode() == receipt.id
    assert reply.header(b"x-penstock-target") == b"box/m"
    assert reply.header(b"x-penstock-cost-usd") is None
    assert (receipt.streamed, receipt.usage.input_tokens, receipt.usage.output_tokens) == (True, 9, 2)
    assert receipt.ttft_us < receipt.total_us


@on_both_loops
async def test_the_receipt_is_there_when_the_client_has_the_end_of_the_answer(tmp_path):
    async with site(tmp_path, *STREAM) as one:
        client = await one.client()
        for count in range(1, 6):
            await client.send(chat(stream=True))
            reply = await client.reply()
            assert one.gateway.in_flight == 0
            assert reply.header(b"x-penstock-call").decode() == one.receipts()[-1].id
            assert len(one.receipts()) == count


@on_both_loops
async def test_a_provider_without_bytes_is_written_in_the_clients_dialect(tmp_path):
    body = msgspec.json.encode({"model": "played", "messages": MESSAGES, "n": 2})
    async with site(tmp_path) as one:
        reply = await one.ask(chat(body=body))
        streamed = await one.ask(chat("played", stream=True))

    answer = msgspec.json.decode(reply.body)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Hello there, hi"
    assert reply.header(b"x-penstock-lane") == b"translated"
    assert reply.header(b"x-penstock-dropped") == b"n"
    frames = streamed.body.split(b"\n\n")
    assert frames[-2:] == [b"data: [DONE]", b""]
    chunks = [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in frames[:-2]]
    said = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(said) == "Hello there, hi"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@on_both_loops
async def test_a_fallback_and_the_static_text_are_told_in_the_headers(tmp_path):
    async with site(tmp_path, whole(b"{}", "500 Oops"), whole(REPLY), whole(b"{}", "500 Oops")) as one:
        second = await one.ask(chat("both"))
        static = await one.ask(chat("safe"))

    assert (second.status, second.header(b"x-penstock-target"), second.header(b"x-penstock-tries")) == (
        200,
        b"spare/m2",
        b"2",
    )
    assert msgspec.json.decode(static.body)["choices"][0]["message"]["content"] == "We are busy."
    assert static.header(b"x-penstock-target") == b"static"


@on_both_loops
async def test_requests_behind_each_other_on_one_connection_are_answered_in_order(tmp_path):
    async with site(tmp_path, *ANSWER) as one:
        client = await one.client()
        await client.send(request("GET", "/healthz") + chat() + request("GET", "/v1/models"))
        replies = [await client.reply() for _ in range(3)]

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert replies[1].body == REPLY


# -- routes --


@on_both_loops
async def test_operations_and_models_are_served(tmp_path):
    async with site(tmp_path) as one:
        alive, ready = await one.ask(request("GET", "/healthz")), await one.ask(request("GET", "/readyz"))
        listed = msgspec.json.decode((await one.ask(request("GET", "/v1/models"))).body)
        found = msgspec.json.decode((await one.ask(request("GET", "/v1/models/fast"))).body)
        direct = msgspec.json.decode((await one.ask(request("GET", "/v1/models/box/org%2Fmodel"))).body)
        lost = await one.ask(request("GET", "/v1/models/fsat"))
        metrics = await one.ask(request("GET", "/metrics"))

    assert (alive.status, ready.status) == (200, 200)
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["fast", "both", "played", "safe"]
    assert found == {"id": "fast", "object": "model", "created": 0, "owned_by": "penstock"}
    assert direct["id"] == "box/org/model"
    assert lost.status == 404
    assert "fast" in problem(lost)["message"]
    assert metrics.status == 200
    assert b"penstock_calls" in metrics.body


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v1/models/fast"])
@on_both_loops
async def test_head_is_get_without_a_body(tmp_path, path):
    async with site(tmp_path) as one:
        client = await one.client()
        await client.send(request("HEAD", path))
        head = await client.reply()
        got = await one.ask(request("GET", path))

    assert (head.status, head.body) == (200, b"")
    assert head.header(b"content-length") == got.header(b"content-length")


WRONG_METHODS = [
    ("GET", "/v1/chat/completions", "POST"),
    ("HEAD", "/v1/chat/completions", "POST"),
    ("DELETE", "/v1/chat/completions", "POST"),
    ("OPTIONS", "/v1/chat/completions", "POST"),
    ("POST", "/v1/models", "GET"),
    ("PUT", "/v1/models/fast", "GET"),
    ("POST", "/healthz", "GET"),
    ("POST", "/readyz", "GET"),
]


@pytest.mark.parametrize(("method", "path", "right"), WRONG_METHODS)
@on_both_loops
async def test_a_wrong_method_is_refused_with_the_right_one(tmp_path, method, path, right):
    async with site(tmp_path) as one:
        reply = await one.ask(request(method, path))

    assert reply.status == 405
    if method != "HEAD":
        assert problem(reply)["code"] == "method_not_allowed"
        assert f"takes {right}" in problem(reply)["message"]


@pytest.mark.parametrize(("method", "path", "right"), WRONG_METHODS)
@on_both_loops
async def test_a_wrong_method_is_answered_with_allow(tmp_path, method, path, right):
    async with site(tmp_path) as one:
        reply = await one.ask(request(method, path))

    assert right in (reply.header(b"allow") or b"").decode()


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/chat/completions/", "/v1/completions", "/v1//chat/completions", "/v1/images"]
)
@on_both_loops
async def test_a_path_of_the_data_plane_that_does_not_exist_is_refused(tmp_path, path):
    async with site(tmp_path) as one:
        for method in ("GET", "POST"):
            reply = await one.ask(request(method, path))
            assert reply.status == 404
            assert problem(reply)["code"] == "not_found"
            assert f"{method} {path}" in problem(reply)["message"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/responses/x/y", lambda body: body["error"]["message"]),
        ("/v1/messages/x", lambda body: body["type"] == "error" and body["error"]["message"]),
        ("/v1beta/models/m:fly", lambda body: body["error"]["status"] == "NOT_FOUND" and body["error"]["message"]),
        ("/v1beta/m:fly", lambda body: body["error"]["status"] == "NOT_FOUND" and body["error"]["message"]),
        ("/model/m/fly", lambda body: body["message"]),
        ("/api/x", lambda body: body["error"]),
    ],
)
@on_both_loops
async def test_it_is_refused_in_the_dialect_that_it_would_belong_to(tmp_path, path, said):
    async with site(tmp_path) as one:
        reply = await one.ask(request("POST", path))
        assert reply.status == 404
        assert f"POST {path}" in said(msgspec.json.decode(reply.body))


@pytest.mark.parametrize("path", ["/", "/nothing", "/admin/v2", "/console/x", "/%00", "/../etc/passwd", "/v1"])
@on_both_loops
async def test_any_other_path_is_not_there_either(tmp_path, path):
    async with site(tmp_path) as one:
        reply = await one.ask(request("GET", path))

    assert reply.status == 404
    assert msgspec.json.decode(reply.body)["error"]["code"] == "not_found"


@on_both_loops
async def test_what_an_error_points_to_exists(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(request("POST", "/v1/nothing"))

    pages = re.findall(r"docs/\S+\.md", problem(reply)["message"])
    assert pages
    assert all((ROOT / page).is_file() for page in pages)


# -- who is calling --


@on_both_loops
async def test_a_key_is_taken_wherever_the_dialect_carries_it(tmp_path):
    async with site(tmp_path) as one:
        made = one.gateway.keys.create(Grant(team="web"), time.time_ns())
        accepted = [
            {"authorization": f"Bearer {made.key}"},
            {"authorization": f"bearer {made.key}"},
            {"authorization": f"BEARER  {made.key}"},
            {"Authorization": f"Bearer {made.key}"},
            {"x_api_key": made.key},
        ]
        refused = [
            {},
            {"authorization": "Bearer ps-wrong"},
            {"authorization": f"Bearer {made.key}x"},
            {"authorization": "Bearer"},
            {"authorization": made.key},
            {"authorization": "Bearer \xe9\xe9"},
            {"x_api_key": "ps-"},
            {"cookie": f"key={made.key}"},
        ]
        for headers in accepted:
            assert (await one.ask(chat(**headers))).status == 200, headers
            assert (await one.ask(request("GET", "/v1/models", **headers))).status == 200
        for headers in refused:
            for path in (
                chat(**headers),
                request("GET", "/v1/models", **headers),
                request("GET", "/v1/models/fast", **headers),
            ):
                reply = await one.ask(path)
                assert reply.status == 401, headers
                assert problem(reply)["code"] == "invalid_api_key"
                assert made.key.encode() not in reply.body
                assert b"ps-wrong" not in reply.body
        assert len(one.receipts()) == len(accepted), "a call that was not let in left a receipt"
        assert {receipt.key_id for receipt in one.receipts()} == {made.id}
        assert len(one.there.requests) == len(accepted)


@on_both_loops
async def test_the_callers_key_and_headers_do_not_reach_the_provider(tmp_path):
    async with site(tmp_path) as one:
        made = one.gateway.keys.create(Grant(), time.time_ns())
        await one.ask(chat(authorization=f"Bearer {made.key}", cookie="a=b", x_penstock_user="alice", x_team="mine"))

    (sent,) = one.there.requests
    assert f"authorization: Bearer {KEY}".encode() in sent
    for secret in (made.key, "cookie", "x-penstock", "alice", "x-team"):
        assert secret.encode() not in sent


@on_both_loops
async def test_whoever_has_no_key_is_told_so_before_the_body_is_looked_at(tmp_path):
    async with site(tmp_path) as one:
        one.gateway.keys.create(Grant(), time.time_ns())
        reply = await one.ask(chat(body=b"{ not json"))

    assert reply.status == 401


@on_both_loops
async def test_feature_session_and_user_come_from_the_headers_and_the_user_is_hashed(tmp_path):
    async with site(tmp_path) as one:
        await one.ask(chat(x_penstock_feature="demo", x_penstock_session="s-1", x_penstock_user="alice@example.org"))
        receipt = one.receipt
        home = one.gateway.config.home
        kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())

    assert (receipt.feature, receipt.session) == ("demo", "s-1")
    assert re.fullmatch("[0-9a-f]{16}", receipt.user)
    assert b"alice" not in kept


@on_both_loops
async def test_a_name_may_be_in_utf_8_or_latin_1(tmp_path):
    asked = chat().replace(b"host: 127.0.0.1", b"host: 127.0.0.1\r\nx-penstock-session: %b")
    async with site(tmp_path) as one:
        for encoding in ("utf-8", "latin-1"):
            reply = await one.ask(asked % "Zoë".encode(encoding))
            assert reply.status == 200
        assert [receipt.session for receipt in one.receipts()] == ["Zoë", "Zoë"]


@pytest.mark.parametrize("header", ["x_penstock_feature", "x_penstock_session"])
@on_both_loops
async def test_a_name_that_is_none_is_refused_by_its_name(tmp_path, header):
    async with site(tmp_path) as one:
        reply = await one.ask(chat(**{header: "x" * 129}))

    assert reply.status == 400
    assert problem(reply)["param"] == header.removeprefix("x_penstock_")


@on_both_loops
async def test_a_user_may_have_any_name_since_only_its_hash_is_kept(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(chat(x_penstock_user="user_" + "0123456789abcdef" * 20))

        assert reply.status == 200
        assert len(one.receipt.user) == 16


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
@on_both_loops
async def test_while_there_is_no_key_a_web_page_from_elsewhere_cannot_spend_money(tmp_path, headers):
    asked = chat(content_type="text/plain", **headers)
    if "host" in headers:  # a name that an attacker points to this machine
        asked = asked.replace(b"host: 127.0.0.1\r\n", b"", 1)
    async with site(tmp_path) as one:
        reply = await one.ask(asked)

        assert reply.status == 403
        assert one.there.requests == []


# -- the deadline --


@pytest.mark.parametrize(
    "value", ["0", "-1", "+5", "1.5", "1e3", "soon", "86400001", "0x10", "1 2", "1_0", "\xb2", "9" * 400]
)
@on_both_loops
async def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(tmp_path, value):
    async with site(tmp_path) as one:
        reply = await one.ask(
            chat().replace(b"host: 127.0.0.1", b"host: 127.0.0.1\r\nx-penstock-deadline-ms: " + value.encode("latin-1"))
        )

    assert reply.status == 400
    assert problem(reply)["param"] == "x-penstock-deadline-ms"


@on_both_loops
async def test_a_deadline_of_five_thousand_digits_is_refused(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(chat(x_penstock_deadline_ms="9" * 5000))

    assert reply.status == 400
    assert problem(reply)["param"] == "x-penstock-deadline-ms"


@on_both_loops
async def test_a_deadline_ends_a_call_and_the_exchange_with_the_provider(tmp_path):
    async with site(tmp_path, *SILENCE) as one:
        began = time.monotonic()
        reply = await one.ask(chat(x_penstock_deadline_ms="80"))
        took = time.monotonic() - began
        await asyncio.wait_for(one.there.closed.wait(), 1)

        assert reply.status == 504
        assert problem(reply)["code"] == "deadline_exceeded"
        assert 0.07 < took < 0.5
        assert one.receipt.error == "deadline_exceeded"


@on_both_loops
async def test_a_deadline_within_a_stream_ends_it_with_one_error_event(tmp_path):
    async with site(tmp_path, [*stream(HELLO, end=False), 30.0]) as one:
        reply = await one.ask(chat(stream=True, x_penstock_deadline_ms="80"))
        events = reply.body.split(b"\n\n")

        assert reply.complete
        assert events[0] + b"\n\n" == HELLO
        assert msgspec.json.decode(events[1].removeprefix(b"data: "))["error"]["code"] == "deadline_exceeded"
        assert events[2:] == [b""]
        assert one.receipt.error == "deadline_exceeded"


# -- errors --


@on_both_loops
async def test_an_error_of_a_call_that_was_let_in_names_its_receipt(tmp_path):
    async with site(tmp_path, whole(b'{"error": {"message": "no such model"}}', "404 No")) as one:
        refused = await one.ask(chat("fsat"))
        failed = await one.ask(chat())
        first, second = one.receipts()

    assert (refused.status, failed.status) == (404, 502)
    assert refused.header(b"x-penstock-call").decode() == first.id
    assert failed.header(b"x-penstock-call").decode() == second.id
    assert problem(refused)["param"] == "model"
    assert "fast" in problem(refused)["message"]


@on_both_loops
async def test_a_body_that_is_no_request_is_refused_and_leaves_no_receipt(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(chat(body=b'{"model": "fast", "messages": [], "temperature": 1}'))

        assert reply.status == 400
        assert problem(reply)["param"] == "messages"
        assert reply.header(b"x-penstock-call") is None
        assert one.receipts() == []


@on_both_loops
async def test_how_long_to_wait_is_told_in_whole_seconds(tmp_path):
    limited = whole(b'{"error": {"message": "slow"}}', "429 Slow", headers="retry-after: 6.2\r\n")
    async with site(tmp_path, limited) as one:
        key = one.gateway.keys.create(Grant(team="slow"), time.time_ns()).key
        upstream = await one.ask(chat(authorization=f"Bearer {key}"))
        own = await one.ask(chat(authorization=f"Bearer {key}"))
        poor = one.gateway.keys.create(Grant(team="poor"), time.time_ns()).key
        spent = await one.ask(chat(authorization=f"Bearer {poor}"))

    assert (upstream.status, upstream.header(b"retry-after")) == (429, b"7")
    assert own.status == 429
    assert 1 <= int(own.header(b"retry-after")) <= 60
    assert problem(own)["code"] == "rate_limit_exceeded"
    assert spent.status == 402
    assert 1 <= int(spent.header(b"retry-after")) <= 86_400
    assert problem(spent)["code"] == "budget_exhausted"


@on_both_loops
async def test_what_a_provider_said_about_the_request_arrives_as_it_said_it(tmp_path):
    said = b'{"error": {"message": "bad schema", "type": "invalid_request_error", "param": "tools", "code": "x"}}'
    async with site(tmp_path, whole(said, "422 No")) as one:
        reply = await one.ask(chat())

    assert (reply.status, reply.body) == (422, said)


@pytest.mark.parametrize("status", ["401 No", "403 No", "400 Bad", "500 Oops"])
@on_both_loops
async def test_a_provider_that_quotes_our_key_does_not_give_it_away(tmp_path, status):
    said = b'{"error": {"message": "Incorrect API key provided: %b", "code": "invalid_api_key"}}' % KEY.encode()
    async with site(tmp_path, whole(said, status, headers=f"x-request-id: {KEY}\r\n")) as one:
        reply = await one.ask(chat())

    assert reply.status in {502, 400}
    assert KEY.encode() not in reply.body
    assert not any(KEY.encode() in value for _, value in reply.headers)


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "ollama"])
@on_both_loops
async def test_a_placeholder_for_a_key_hides_no_error(tmp_path, key):
    said = b'{"error": {"message": "none of the EMPTY messages can be of ollama x", "type": "invalid_request_error"}}'
    async with site(tmp_path, whole(said, "422 No"), key=key) as one:
        reply = await one.ask(chat())

    assert (reply.status, reply.body) == (422, said)


@on_both_loops
async def test_our_own_words_are_not_mistaken_for_the_key(tmp_path):
    said = b'{"error": {"message": "bad schema", "type": "invalid_request_error"}}'
    async with site(tmp_path, whole(said, "422 No"), key="local-provider-answered") as one:
        reply = await one.ask(chat())

    assert (reply.status, reply.body) == (422, said)


PART_OF_KEY = KEY[:18]


@pytest.mark.parametrize("quoted", [KEY, f"Bearer {KEY}", f"x{KEY}x", PART_OF_KEY])
@on_both_loops
async def test_a_header_of_an_answer_that_quotes_our_key_is_not_passed_on(tmp_path, quoted):
    headers = f"x-request-id: {quoted}\r\nopenai-version: 2020\r\n"
    async with site(tmp_path, whole(REPLY, headers=headers)) as one:
        reply = await one.ask(chat())

    assert reply.status == 200
    assert reply.header(b"openai-version") == b"2020"
    assert reply.header(b"x-request-id") is None


@on_both_loops
async def test_a_whole_reply_that_fails_within_is_an_error_and_no_half_an_answer(tmp_path):
    pieces = (Chunk((TextDelta("Hel"),), b"Hel"), UpstreamFailed("the connection was reset"))
    async with site(tmp_path) as one:
        one.gateway._providers["box"] = Played(pieces)
        reply = await one.ask(chat())

        assert reply.status == 502
        assert problem(reply)["code"] == "upstream_failed"
        assert reply.header(b"x-penstock-call").decode() == one.receipt.id
        assert one.receipt.status == "error"


class Defective:
    """A provider with a defect."""

    dialect = "chat"

    async def send(self, *_):
        raise RuntimeError("a defect with sk-secret in it")

    async def close(self): ...


def broken(one):
    one.gateway._providers["box"] = Defective()


@on_both_loops
async def test_a_defect_is_a_500_without_details(tmp_path):
    async with site(tmp_path) as one:
        broken(one)
        reply = await one.ask(chat())
        receipt = one.receipt

    assert reply.status == 500
    assert problem(reply)["code"] == "internal"
    assert receipt.id in problem(reply)["message"]
    assert b"sk-secret" not in reply.body
    assert receipt.error == "internal"


@on_both_loops
async def test_a_defect_stands_in_the_log_under_the_calls_id(tmp_path, caplog):
    async with site(tmp_path) as one:
        broken(one)
        with caplog.at_level(logging.WARNING):
            await one.ask(chat())
        told = [*map(repr, one.crashes), caplog.text]
        one.crashes.clear()
        call_id = one.receipt.id

    assert any("a defect" in text for text in told)
    assert any(call_id in text for text in told)


@pytest.mark.parametrize("name", ["box/a\r\nset-cookie: b=c", "box/a\nb", "box/a\rb", "box/a\x00b"])
@on_both_loops
async def test_a_model_name_cannot_write_into_the_head_of_the_reply(tmp_path, name):
    async with site(tmp_path) as one:
        reply = await one.ask(chat(name))
        found = one.crashes[:]
        one.crashes.clear()

    assert 400 <= reply.status < 500
    assert found == []
    assert one.there.requests == []


@on_both_loops
async def test_a_model_name_cannot_blow_up_the_head_of_the_reply(tmp_path):
    async with site(tmp_path) as one:
        reply = await one.ask(chat("box/" + "x" * 100_000))

    assert 400 <= reply.status < 500
    assert sum(len(name) + len(value) for name, value in reply.headers) < 8192
    assert len(reply.body) < 8192


# -- streams that break --


@pytest.mark.parametrize(
    "pieces",
    [
        [*stream(HELLO, end=False), None],
        [*stream(HELLO)],
        [*stream(HELLO, b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n', DONE)],
        [*stream(HELLO, b"data: not json\n\n", DONE)],
        [*stream(HELLO, end=False), b"zz\r\nthis is no chunk\r\n"],
        [*stream(HELLO, HELLO[:40]), None],
    ],
    ids=["cut", "no end mark", "error event", "garbage", "bad framing", "half a frame"],
)
@on_both_loops
async def test_a_stream_that_breaks_ends_in_one_error_event_and_nothing_after_it(tmp_path, pieces):
    async with site(tmp_path, pieces) as one:
        reply = await one.ask(chat(stream=True))
        (receipt,) = await settled(one)

    events = reply.body.split(b"\n\n")
    assert reply.complete, "the stream was torn"
    assert reply.status == 200
    assert events[0] + b"\n\n" == HELLO
    assert len(events) == 3
    error = msgspec.json.decode(events[1].removeprefix(b"data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert events[2] == b""
    assert (receipt.status, receipt.error) == ("error", error["code"])
    assert receipt.usage.output_tokens > 0
    assert len(one.there.requests) == 1, "it was tried again after the client had seen content"


@on_both_loops
async def test_a_translated_stream_that_breaks_ends_in_one_error_event_too(tmp_path):
    body = msgspec.json.encode({"model": "played", "messages": [{"role": "user", "content": "fault"}], "stream": True})
    async with site(tmp_path) as one:
        reply = await one.ask(chat(body=body))

    events = reply.body.split(b"\n\n")
    assert events[-1] == b""
    assert "error" in msgspec.json.decode(events[-2].removeprefix(b"data: "))
    assert b"[DONE]" not in reply.body
    assert sum(b'"error"' in event for event in events) == 1


@on_both_loops
async def test_a_stream_that_fails_before_its_content_is_an_error_with_a_status(tmp_path):
    async with site(
        tmp_path, [*stream(b'data: {"error": {"message": "full", "type": "overloaded_error"}}\n\n')]
    ) as one:
        reply = await one.ask(chat(stream=True))

    assert reply.status == 503
    assert problem(reply)["code"] == "upstream_overloaded"


# -- limits --


@pytest.mark.parametrize("chunked", [False, True])
@on_both_loops
async def test_a_body_beyond_the_limit_is_refused_in_the_dialect_and_the_connection_ends(tmp_path, chunked):
    body = b'{"model": "fast", "messages": [{"role": "user", "content": "' + b"x" * (21 << 20) + b'"}]}'
    framed = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
    if chunked:
        framed += b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        framed += b"content-length: %d\r\n\r\n%b" % (len(body), body)
    async with site(tmp_path) as one:
        client = await one.client()
        sending = asyncio.create_task(client.send(framed))
        reply = await client.reply()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

        assert reply.status == 413
        assert problem(reply)["code"] == "request_too_large"
        assert reply.header(b"connection") == b"close"
        assert one.receipts() == []
        assert (await one.ask(chat())).status == 200


@on_both_loops
async def test_a_body_up_to_the_limit_is_taken(tmp_path):
    text = "word " * (3 << 20)
    body = msgspec.json.encode({"model": "fast", "messages": [{"role": "user", "content": text}]})
    async with site(tmp_path) as one:
        reply = await one.ask(chat(body=body), timeout_s=20)

        assert reply.status == 200
        assert len(one.there.body) == len(body) - len("fast") + len("m")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
@on_both_loops
async def test_what_is_no_request_is_refused_in_the_dialect(tmp_path, data, status):
    async with site(tmp_path) as one:
        client = await one.client()
        await client.send(data)
        reply = await client.reply()

    assert reply.status == status
    assert problem(reply)["message"]


# -- clients that go --


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("streamed", [False, True])
@on_both_loops
async def test_when_the_client_goes_before_the_first_byte_the_provider_is_let_go_within_100_ms(
    tmp_path, streamed, reset
):
    async with site(tmp_path, *SILENCE) as one:
        client = await one.client()
        await client.send(chat(stream=streamed))
        await asked(one)
        began = time.monotonic()
        client.hang_up(reset=reset)
        await asyncio.wait_for(one.there.closed.wait(), 2)
        took = time.monotonic() - began
        (receipt,) = await settled(one)

        assert took < 0.1
        assert (receipt.status, receipt.error, receipt.http_status) == ("cancelled", "client_closed", 499)
        assert receipt.cost_nano_usd > 0
        assert receipt.cost_status == "estimated"
        assert one.gateway.in_flight == 0


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@on_both_loops
async def test_when_the_client_goes_within_a_stream_the_provider_is_let_go_within_100_ms(tmp_path, reset):
    async with site(tmp_path, [*stream(HELLO, end=False), 30.0]) as one:
        client = await one.client()
        await client.send(chat(stream=True))
        assert b"200 OK" in await client.reader.read(65_536)
        began = time.monotonic()
        client.hang_up(reset=reset)
        await asyncio.wait_for(one.there.closed.wait(), 2)
        took = time.monotonic() - began
        (receipt,) = await settled(one)

        assert took < 0.1
        assert receipt.status == "cancelled"
        assert receipt.ttft_us is not None
        assert receipt.usage.output_tokens > 0


@on_both_loops
async def test_a_hundred_clients_that_go_at_any_moment_leave_a_hundred_receipts_and_nothing_else(tmp_path):
    rng = random.Random(7)
    config = CONFIG.replace("[teams.poor]", "[teams.many]\nconcurrency = 100\nbudget_usd = { day = 100 }\n[teams.poor]")
    async with site(tmp_path, [*stream(HELLO, 0.02, HELLO, end=False), 30.0], config=config) as one:
        key = one.gateway.keys.create(Grant(team="many"), time.time_ns()).key

        async def visit():
            client = await one.client()
            await client.send(chat(stream=rng.random() < 0.7, authorization=f"Bearer {key}"))
            await asyncio.sleep(rng.uniform(0.0, 0.06))
            client.hang_up(reset=rng.random() < 0.5)

        await asyncio.gather(*(visit() for _ in range(100)))
        for _ in range(500):
            if not one.there.open and not one.gateway.in_flight:
                break
            await asyncio.sleep(0.001)
        receipts = one.receipts()

        assert one.there.open == 0
        assert one.gateway.in_flight == 0
        assert len(one.there.requests) <= len(receipts) <= 100
        assert {receipt.status for receipt in receipts} <= {"cancelled", "error"}  # whole calls get a stream: an error
        assert {receipt.error for receipt in receipts} <= {"client_closed", "upstream_garbled"}
        assert not any(state.held_nano_usd for state in one.gateway.reservations.budgets.states(time.time_ns()))
        assert not any(room.inside for room in one.gateway.admission.teams.values())


@on_both_loops
async def test_a_client_that_goes_after_its_answer_has_had_it(tmp_path):
    async with site(tmp_path) as one:
        client = await one.client()
        await client.send(chat())
        await client.reply()
        client.hang_up()

        assert one.receipt.status == "ok"


# -- clients that read slowly --

PIECE = START + b'{"content":"' + b"x" * 65_000 + b'"},"finish_reason":null}]}\n\n'
PIECES = 800  # 52 MB


class Counted:
    """A long stream that counts how much of it was taken."""

    def __init__(self):
        self.given = 0

    def __iter__(self):
        yield from stream(HELLO, end=False)
        for _ in range(PIECES):
            self.given += 1
            yield b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
        yield b"%x\r\n%b\r\n0\r\n\r\n" % (len(STOP + DONE), STOP + DONE)


@on_both_loops
async def test_a_client_that_reads_slowly_keeps_the_provider_waiting_and_not_the_memory(tmp_path):
    counted = Counted()
    async with site(tmp_path, counted) as one:
        client = await one.client(limit=65_536)
        await client.send(chat(stream=True))
        await asyncio.sleep(0.05)
        before = -1
        while counted.given != before:  # until it stands still
            before = counted.given
            await asyncio.sleep(0.05)
        buffered = one.server._connections and max(
            connection.transport.get_write_buffer_size() for connection in one.server._connections
        )
        stopped = counted.given
        reply = await client.reply(30)

    assert stopped * len(PIECE) < 16 << 20, "the gateway took in what nobody reads"
    assert buffered < 1 << 20
    assert counted.given == PIECES
    assert reply.body == HELLO + PIECE * PIECES + STOP + DONE


@on_both_loops
async def test_the_deadline_holds_also_for_a_client_that_does_not_read(tmp_path):
    async with site(tmp_path, Counted()) as one:
        client = await one.client(limit=65_536)
        await client.send(chat(stream=True, x_penstock_deadline_ms="300"))
        await asyncio.sleep(1.0)

        assert one.gateway.in_flight == 0
        assert one.receipts()


# -- the end --


@on_both_loops
async def test_while_draining_it_is_alive_and_not_ready(tmp_path):
    async with site(tmp_path) as one:
        one.app.ready = False
        alive, ready = await one.ask(request("GET", "/healthz")), await one.ask(request("GET", "/readyz"))

    assert (alive.status, ready.status, ready.body) == (200, 503, b"draining\n")


@on_both_loops
async def test_a_drain_lets_calls_in_flight_end(tmp_path):
    async with site(tmp_path, [*stream(HELLO, 0.2, STOP, USAGE, DONE)]) as one:
        client = await one.client()
        await client.send(chat(stream=True))
        await asked(one)
        cut = await one.server.drain(5.0)
        reply = await client.reply()

        assert cut == 0
        assert reply.body == HELLO + STOP + DONE
        assert one.receipt.status == "ok"


@on_both_loops
async def test_a_call_that_outlasts_the_drain_is_cut_with_a_receipt(tmp_path):
    async with site(tmp_path, *SILENCE) as one:
        client = await one.client()
        await client.send(chat())
        await asked(one)
        cut = await one.server.drain(0.02)
        reply = await client.reply()

        assert cut == 1
        assert reply.status == 503
        assert problem(reply)["code"] == "shutting_down"
        assert one.receipt.status == "cancelled"


@on_both_loops
async def test_a_call_that_the_gateway_cut_is_not_said_to_be_closed_by_the_client(tmp_path):
    async with site(tmp_path, *SILENCE) as one:
        client = await one.client()
        await client.send(chat())
        await asked(one)
        await one.server.drain(0.02)

        assert one.receipt.error != "client_closed"
        assert one.receipt.error_origin == "gateway"


@on_both_loops
async def test_a_defect_of_our_own_within_a_pushed_stream_is_not_put_down_to_the_provider(
    tmp_path, caplog, monkeypatch
):
    real = Meter.observe

    def observe(self, events):
        if any(isinstance(event, TextDelta) and event.text == "defect" for event in events):
            raise ZeroDivisionError("canary")
        real(self, events)

    monkeypatch.setattr(Meter, "observe", observe)
    bad = START + b'{"content":"defect"},"finish_reason":null}]}\n\n'
    async with site(tmp_path, list(stream(HELLO, 0.05, bad, STOP, DONE))) as one:
        reply = await one.ask(chat(stream=True))
        (receipt,) = await settled(one)

    assert reply.complete
    assert reply.body.count(b'"error"') == 1
    assert b'"code":"internal"' in reply.body
    assert b"canary" not in reply.body
    assert (receipt.status, receipt.error) == ("error", "internal")
    assert "canary" in caplog.text


@on_both_loops
async def test_a_defect_behind_an_answer_that_is_out_is_logged_and_concerns_nobody_else(tmp_path, caplog, monkeypatch):
    real, failed, raised = Connection.reply, [], []

    def reply(self, answer):
        real(self, answer)
        failed.append(self)
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(Connection, "reply", reply)
    asyncio.get_running_loop().set_exception_handler(lambda _, said: raised.append(said))
    async with site(tmp_path, *ANSWER * 6) as one:
        client = await one.client()
        for number in range(1, 7):
            await client.send(chat())
            answer = await client.reply()
            assert (answer.status, answer.body) == (200, REPLY)
            assert [receipt.status for receipt in await settled(one, number)] == ["ok"] * number
        logged = [record for record in caplog.records if "behind its answer" in record.message]

    assert len(logged) == len(failed) > 0
    assert "canary" in caplog.text
    assert raised == []


@pytest.mark.parametrize("reads", [True, False])
@on_both_loops
async def test_a_stream_that_outlasts_the_drain_ends_with_one_error_event(tmp_path, reads):
    many = [stream(HELLO, 0.05, *[HELLO * 400] * (0 if reads else 400), 30.0)]
    async with site(tmp_path, *many) as one:
        client = await one.client()
        await client.send(chat(stream=True))
        if not reads:
            client.writer.transport.pause_reading()
        await asked(one)
        await asyncio.sleep(0.3)
        ending = asyncio.create_task(one.server.drain(0.05))
        await asyncio.sleep(0.1)
        client.writer.transport.resume_reading()
        reply = await client.reply(10)
        await ending
        (receipt,) = await settled(one)

    assert reply.complete
    assert reply.body.count(b'"error"') == 1
    assert b'"code":"overloaded"' in reply.body
    assert (receipt.status, receipt.http_status, receipt.error) == ("cancelled", 503, "overloaded")
