"""The control plane over real sockets: who is let in, what is answered, and a document that says exactly that."""

import asyncio
import re
from typing import Any, Literal

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import Client

from penstock.config import load
from penstock.gateway import start
from penstock.ledger.keys import Grant
from penstock.ledger.store import StoreBusy
from penstock.server.admin import ROUTES, Refusal, openapi
from penstock.server.listening import bind
from penstock.server.serving import Serving

CONFIG = """
[providers.fake]
kind = "scripted"
free = true
[models.fast]
targets = ["fake/m"]
"""
CHAT = b'{"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}'
PATHS = [(one.method, one.path.replace("{id}", "x")) for one in ROUTES]


class Site:
    """A server with its gateway; `key` goes along with each request, if there is one."""

    def __init__(self, serving, file, port):
        self.serving, self.file, self.port = serving, file, port
        self.key: str | None = None
        self.crashes: list[BaseException] = []

    @property
    def gateway(self):
        return self.serving.gateway

    def make_key(self, **grant):
        return self.gateway.keys.create(Grant(**grant), 0)

    async def ask(self, method, path, body=b"", **headers):
        """One request on a connection of its own; a header `None` is left out."""
        given = {"host": f"127.0.0.1:{self.port}", "content-length": str(len(body)), "connection": "close"}
        if self.key is not None:
            given["authorization"] = f"Bearer {self.key}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            await client.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            return await client.reply(10)
        finally:
            client.writer.close()

    async def get(self, path, **headers):
        return await self.ask("GET", path, **headers)


@pytest.fixture
async def site(tmp_path):
    file, crashes = tmp_path / "penstock.toml", []
    file.write_text(CONFIG)

    def read():
        return load(str(file), {"PENSTOCK_HOME": str(tmp_path / "home")})

    serving = Serving(start(read()), read)
    serving.server.on_crash = crashes.append
    await serving.server.start(bind("127.0.0.1", 0, 1)[0])
    yield Site(serving, file, serving.server.port)
    await serving.server.close()
    await serving.retired(5)
    await serving.gateway.close()
    assert crashes == []


def read(reply):
    assert reply.header(b"content-type") == b"application/json"
    assert reply.header(b"cache-control") == b"no-store"
    return msgspec.json.decode(reply.body)


def refused(reply, status, code):
    """The words of a refusal, which has this status and code and no other form."""
    assert reply.status == status
    fault = msgspec.convert(read(reply), Refusal, strict=True).error
    assert fault.code == code
    assert fault.message
    return fault


# -- who is let in --


async def test_without_any_key_whoever_reaches_loopback_is_let_in(site):
    assert (await site.get("/admin/v1/spend")).status == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_with_keys_every_operation_asks_for_an_administrator_s(site, method, path):
    plain = site.make_key(team="web").key

    nobody = await site.ask(method, path)
    stranger = await site.ask(method, path, authorization="Bearer ps-" + "x" * 43)
    caller = await site.ask(method, path, authorization=f"Bearer {plain}")

    refused(nobody, 401, "invalid_api_key")
    assert nobody.header(b"www-authenticate") == b"Bearer"
    refused(stranger, 401, "invalid_api_key")
    refused(caller, 403, "permission_denied")


@pytest.mark.parametrize(
    ("name", "form"), [("authorization", "Bearer {}"), ("authorization", "bearer  {}"), ("x_api_key", "{}")]
)
async def test_an_administrator_s_key_is_accepted_where_clients_carry_one(site, name, form):
    key = site.make_key(admin=True).key

    assert (await site.ask("GET", "/admin/v1/keys", **{name: form.format(key)})).status == 200


async def test_a_key_that_was_revoked_lets_nobody_in(site):
    made = site.make_key(admin=True)
    site.key = made.key
    assert (await site.ask("DELETE", f"/admin/v1/keys/{made.id}")).status == 200

    refused(await site.get("/admin/v1/keys"), 401, "invalid_api_key")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8420", "192.0.2.1", "127.0.0.1.evil.example", "[::2]:1", "[::1"],
)
async def test_without_a_key_a_foreign_host_is_refused(site, host):
    refused(await site.ask("POST", "/admin/v1/keys", b'{"admin": true}', host=host), 403, "permission_denied")

    assert site.gateway.keys.empty


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://["]
)
async def test_without_a_key_a_page_from_elsewhere_is_refused(site, origin):
    refused(await site.ask("POST", "/admin/v1/keys", b"{}", origin=origin), 403, "permission_denied")

    assert site.gateway.keys.empty


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8420", "127.0.0.1", "127.1.2.3:80", "[::1]:8420", "LOCALHOST"]
)
async def test_without_a_key_every_name_of_this_machine_will_do(site, host):
    assert (await site.ask("GET", "/admin/v1/keys", host=host)).status == 200
    assert (await site.ask("GET", "/admin/v1/keys", host=host, origin=f"http://{host}")).status == 200


async def test_with_a_key_any_host_will_do(site):
    site.key = site.make_key(admin=True).key

    assert (await site.get("/admin/v1/keys", host="gateway.example", origin="https://console.example")).status == 200


# -- what is answered --


async def test_a_call_shows_in_calls_spend_and_metrics(site):
    answer = await site.ask("POST", "/v1/chat/completions", CHAT, x_penstock_feature="search")
    call_id = answer.header(b"x-penstock-call").decode()
    calls = read(await site.get("/admin/v1/calls?feature=search"))["calls"]

    assert [call["id"] for call in calls] == [call_id]
    assert read(await site.get(f"/admin/v1/calls/{call_id}")) == calls[0]
    spend = read(await site.get("/admin/v1/spend?by=feature,model"))
    assert [(row["feature"], row["model"], row["calls"]) for row in spend["rows"]] == [("search", "fast", 1)]
    metrics = (await site.get("/metrics")).body.decode()
    assert 'penstock_calls_total{model="fast",status="ok",target="fake/m",team=""} 1.0' in metrics


async def test_a_key_that_was_made_works_at_once_and_is_not_shown_again(site):
    made = read(await site.ask("POST", "/admin/v1/keys", b'{"team": "web"}'))
    refused(await site.get("/admin/v1/keys"), 401, "invalid_api_key")  # the door is closed now
    answer = await site.ask("POST", "/v1/chat/completions", CHAT, authorization=f"Bearer {made['key']}")
    site.key = site.make_key(admin=True).key

    assert list(made) == ["id", "key", "team", "feature", "expires_at"]
    assert answer.status == 200
    assert made["key"] not in (await site.get("/admin/v1/keys")).body.decode()


async def test_a_key_may_be_rotated(site):
    old = site.make_key(admin=True)
    site.key = old.key
    new = read(await site.ask("POST", f"/admin/v1/keys/{old.id}/rotate", b'{"grace_s": 0}'))

    refused(await site.get("/admin/v1/keys"), 401, "invalid_api_key")
    site.key = new["key"]
    assert (await site.get("/admin/v1/keys")).status == 200


async def test_models_are_listed(site):
    assert read(await site.get("/admin/v1/models")) == {"models": [{"name": "fast", "targets": ["fake/m"]}]}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("since=soon", "since"),
        ("limit=x", "limit"),
        ("limt=1", "limt"),
        ("team=a&team=b", "team"),
        ("status=fine", "status"),
    ],
)
async def test_a_query_that_cannot_be_is_refused_in_words(site, query, param):
    assert refused(await site.get(f"/admin/v1/calls?{query}"), 400, "invalid_request").param == param


async def test_a_body_that_cannot_be_is_refused_in_words(site):
    fault = refused(await site.ask("POST", "/admin/v1/keys", b'{"tema": "web"}'), 400, "invalid_request")

    assert "tema" in fault.message


async def test_a_receipt_that_is_not_there_is_not_found(site):
    refused(await site.get("/admin/v1/calls/01a1fff6-ecc2-71e6-a331-10ce22a08fa3"), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/", "/admin", "/admin/v1", "/admin/v2/calls", "/admin/v1/calls/a/b", "/console", "/x%2fy"]
)
async def test_what_is_not_there_is_said_not_to_be(site, path):
    fault = refused(await site.get(path), 404, "not_found")

    assert "/admin/v1/openapi.json" in fault.message


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/admin/v1/spend", {"GET", "HEAD"}),
        ("PATCH", "/admin/v1/keys", {"GET", "HEAD", "POST"}),
        ("GET", "/admin/v1/keys/x", {"DELETE", "PATCH"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_refused_with_those_that_it_does(site, method, path, allowed):
    reply = await site.ask(method, path)

    refused(reply, 405, "method_not_allowed")
    assert set(reply.header(b"allow").decode().split(", ")) == allowed


@pytest.mark.parametrize("path", ["/admin/v1/spend", "/admin/v1/openapi.json", "/metrics", "/admin/v1/calls/x"])
async def test_a_head_has_the_status_and_the_length_of_a_get_and_no_body(site, path):
    get, head = await site.get(path), await site.ask("HEAD", path)

    assert (head.status, head.body) == (get.status, b"")
    if path != "/metrics":  # its length grows with its numbers
        assert head.header(b"content-length") == get.header(b"content-length")


async def test_a_ledger_that_cannot_be_read_is_told_and_the_server_lives_on(site, monkeypatch):
    monkeypatch.setattr("penstock.server.operations.FILE", "nothing/here.db")

    refused(await site.get("/admin/v1/spend"), 500, "internal")
    monkeypatch.undo()
    assert (await site.get("/admin/v1/spend")).status == 200


async def test_a_ledger_that_is_busy_says_when_to_come_again(site, monkeypatch):
    def busy(*_arguments):
        raise StoreBusy("Another process is writing.", retry_after_s=1.0)

    monkeypatch.setattr("penstock.server.admin.perform", busy)
    reply = await site.get("/admin/v1/spend")

    refused(reply, 503, "overloaded")
    assert reply.header(b"retry-after") == b"1"


async def test_a_long_report_holds_up_nobody(site, monkeypatch):
    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def long(*_arguments):
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return {}

    monkeypatch.setattr("penstock.server.admin.perform", long)
    report = asyncio.ensure_future(site.get("/admin/v1/spend"))
    await began.wait()
    answer = await site.ask("POST", "/v1/chat/completions", CHAT)
    go_on.set()

    assert answer.status == 200
    assert (await report).status == 200


# -- the running server --


async def test_a_configuration_is_taken_over_and_its_models_are_there_at_once(site):
    site.file.write_text(CONFIG + '[models.slow]\ntargets = ["fake/n"]\n')
    told = read(await site.ask("POST", "/admin/v1/reload"))
    models = read(await site.get("/admin/v1/models"))["models"]
    chat = await site.ask("POST", "/v1/chat/completions", CHAT.replace(b"fast", b"slow"))

    assert (told["reloaded"], told["hash"]) == (True, site.gateway.config.hash)
    assert [model["name"] for model in models] == ["fast", "slow"]
    assert chat.status == 200


async def test_one_with_mistakes_is_refused_with_all_of_them(site):
    site.file.write_text(CONFIG + "[server]\nprot = 1\nport = -1\n")
    fault = refused(await site.ask("POST", "/admin/v1/reload"), 400, "invalid_config")

    assert [mistake.key for mistake in fault.mistakes] == ["server.prot", "server.port"]
    assert all(mistake.line for mistake in fault.mistakes)


async def test_health_tells_of_each_target_that_was_tried(site):
    await site.ask("POST", "/v1/chat/completions", CHAT)
    (worker,) = read(await site.get("/admin/v1/health"))["workers"]

    assert (worker["worker"], worker["ready"], worker["shed"]) == (1, True, 0)
    assert [target["target"] for target in worker["targets"]] == ["fake/m"]


# -- metrics --


async def test_metrics_need_no_key_and_are_in_prometheus_s_own_format(site):
    await site.ask("POST", "/v1/chat/completions", CHAT)
    site.make_key()

    reply = await site.get("/metrics")

    assert reply.status == 200
    assert reply.header(b"content-type").startswith(b"text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    assert {"penstock_calls", "penstock_cost_usd", "penstock_call_seconds"} <= families.keys()
    assert sum(sample.value for sample in families["penstock_calls"].samples) == 1
    assert all(name.startswith("penstock_") and family.documentation for name, family in families.items())


# -- the document --


class Reference(msgspec.Struct, forbid_unknown_fields=True):
    ref: str = msgspec.field(name="$ref")


class Schema(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["string", "integer"]
    enum: list[str] | None = None


class Parameter(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    in_: Literal["query", "path"] = msgspec.field(name="in")
    schema: Schema
    description: str | None = None
    required: bool = False


class Media(msgspec.Struct, forbid_unknown_fields=True):
    schema: Reference


class Body(msgspec.Struct, forbid_unknown_fields=True):
    content: dict[Literal["application/json"], Media]


class Response(Body, forbid_unknown_fields=True, kw_only=True):
    description: str


class Operation(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    operation_id: str
    summary: str
    responses: dict[str, Response]
    parameters: list[Parameter] = []
    request_body: Body | None = None


class Scheme(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["http"]
    scheme: Literal["bearer"]
    description: str


class Components(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    security_schemes: dict[str, Scheme]
    schemas: dict[str, dict[str, Any]]


class Info(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    version: str


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The part of OpenAPI 3.1 that the document uses, and nothing else."""

    openapi: Literal["3.1.0"]
    info: Info
    paths: dict[str, dict[Literal["get", "post", "patch", "delete"], Operation]]
    components: Components
    security: list[dict[str, list[str]]]


@pytest.fixture(scope="module")
def document():
    return msgspec.json.decode(msgspec.json.encode(openapi()), type=Document)


def test_the_document_has_the_form_of_openapi(document):
    operations = [(path, operation) for path, ways in document.paths.items() for operation in ways.values()]

    assert len({operation.operation_id for _, operation in operations}) == len(operations) == len(ROUTES)
    assert [list(one) for one in document.security] == [list(document.components.security_schemes)]
    for path, operation in operations:
        in_path = {parameter.name for parameter in operation.parameters if parameter.in_ == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert all(parameter.required for parameter in operation.parameters if parameter.in_ == "path")
        assert {"200", "default"} == operation.responses.keys()


def test_every_reference_leads_to_a_schema(document):
    references = set(re.findall(r'"\$ref":"([^"]+)"', msgspec.json.encode(openapi()).decode()))

    assert references
    assert references == {f"#/components/schemas/{name}" for name in document.components.schemas}


async def test_the_document_is_served_to_whoever_asks_for_it(site, document):
    site.make_key()

    assert msgspec.json.decode((await site.get("/admin/v1/openapi.json")).body, type=Document) == document


def fits(value, schema, schemas):
    """Whether a JSON value is what a schema says; as much of JSON Schema as msgspec writes."""
    if "$ref" in schema:
        return fits(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return any(fits(value, one, schemas) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    match schema["type"]:
        case "object":
            members = schema["properties"]
            known = value.keys() <= members.keys() and value.keys() >= set(schema.get("required", ()))
            return known and all(fits(inner, members[name], schemas) for name, inner in value.items())
        case "array":
            return isinstance(value, list) and all(fits(one, schema["items"], schemas) for one in value)
        case kind:
            kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
            return isinstance(value, kinds[kind]) and not (kind == "integer" and isinstance(value, bool))


async def test_every_answer_is_what_the_document_says(site, document):
    await site.ask("POST", "/v1/chat/completions", CHAT)
    call_id = read(await site.get("/admin/v1/calls"))["calls"][0]["id"]
    site.key = site.make_key(admin=True).key

    for path, ways in document.paths.items():
        for method, operation in sorted(ways.items(), reverse=True):
            real = path.replace("{id}", site.make_key().id if "keys" in path else call_id)
            query = "by=model,day" if operation.operation_id == "spend" else ""
            reply = await site.ask(method.upper(), f"{real}?{query}", b"{}" if operation.request_body else b"")
            schema = operation.responses["200"].content["application/json"].schema.ref
            assert reply.status == 200, (real, reply.body)
            assert fits(read(reply), {"$ref": schema}, document.components.schemas), (real, reply.body)


async def test_every_parameter_of_the_document_is_accepted_and_no_other(site, document):
    values = {"since": "1h", "until": "now", "by": "team", "zone": "Europe/Berlin", "status": "ok", "limit": "3"}
    for path, ways in document.paths.items():
        if "get" not in ways or "{id}" in path:
            continue
        for parameter in ways["get"].parameters:
            reply = await site.get(f"{path}?{parameter.name}={values.get(parameter.name, 'x')}")
            assert reply.status == 200, (path, parameter.name)
        refused(await site.get(f"{path}?undocumented=x"), 400, "invalid_request")
