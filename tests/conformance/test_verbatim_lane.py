"""The same dialect on both sides: the client's bytes arrive but for the model's name, the provider's come back, usage is metered."""

import http.client
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.openai_server import dumps
from conformance.outcome import DIALECTS
from conformance.says import SAYS
from conformance.stand_in import SERVERS, StandIn
from e2e.conftest import Served

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "generate": "/v1beta/models/generate/any-plain:",
    "converse": "/model/converse%2Fany-plain/converse",
    "ollama": "/api/chat",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def connection(conformance_gateway: Served) -> Iterator[http.client.HTTPConnection]:
    one = http.client.HTTPConnection("127.0.0.1", conformance_gateway.port, timeout=20)
    yield one
    one.close()


def least(dialect: str, *, stream: bool) -> dict[str, Any]:
    message = {"role": "user", "content": "Say hi to Zoë \u2028"}
    turns = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    named: dict[str, Any] = {"model": f"{dialect}/any-plain", "stream": stream}
    return {
        "chat": {**named, "messages": [message], **({"stream_options": {"include_usage": True}} if stream else {})},
        "responses": {**named, "input": [message], "store": False},
        "messages": {**named, "messages": [message], "max_tokens": 50},
        "generate": turns,
        "converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
        "ollama": {**named, "messages": [message]},
    }[dialect]


def path_of(dialect: str, *, stream: bool) -> str:
    verb = {"generate": "streamGenerateContent?alt=sse" if stream else "generateContent", "converse": "-stream"}
    more = verb.get(dialect, "") if dialect == "generate" or stream else ""
    return PATHS[dialect] + more


def post(connection: http.client.HTTPConnection, path: str, body: bytes, key: str) -> http.client.HTTPResponse:
    headers = {"content-type": "application/json", "x-api-key": key}
    connection.request("POST", path, body, headers)
    return connection.getresponse()


def written(members: dict[str, Any], rng: Random) -> bytes:
    """A body with its members in any order, and as much white space as JSON allows."""
    names = list(members)
    rng.shuffle(names)
    space = ["", " ", "\n", "\t  ", "\r\n"]
    ascii_only = rng.random() < 0.5
    pairs = [
        f"{rng.choice(space)}{json.dumps(name, ensure_ascii=ascii_only)}{rng.choice(space)}:{rng.choice(space)}"
        f"{json.dumps(members[name], ensure_ascii=ascii_only)}{rng.choice(space)}"
        for name in names
    ]
    return f"{{{','.join(pairs)}}}".encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extra=st.dictionaries(st.text(min_size=1, max_size=6).map(lambda name: f"x_{name}"), JSON, max_size=4),
    seed=st.integers(0, 2**32),
    stream=st.booleans(),
)
def test_only_the_name_of_the_model_is_changed_and_no_byte_of_the_answer(
    stand_in: StandIn,
    connection: http.client.HTTPConnection,
    key: str,
    dialect: str,
    extra: dict[str, Any],
    seed: int,
    *,
    stream: bool,
) -> None:
    body = written({**extra, **least(dialect, stream=stream)}, Random(seed))
    stand_in.taken()

    reply = post(connection, path_of(dialect, stream=stream), body, key)
    data = reply.read()

    assert reply.status == 200, data
    assert reply.headers["x-penstock-lane"] == "verbatim"
    (got,) = stand_in.taken()
    assert got.raw == body.replace(f'"{dialect}/any-plain"'.encode(), b'"any-plain"')
    server, say = SERVERS[dialect], SAYS["plain"]
    said = b"".join(server.stream(say, "any-plain")) if stream else dumps(server.whole(say, "any-plain")).encode()
    assert data == said


@pytest.mark.parametrize("client", DIALECTS)
def test_members_of_a_dialects_own_reach_clients_of_it_alone(
    connection: http.client.HTTPConnection, key: str, client: str
) -> None:
    body = json.dumps(least(client, stream=False)).replace(f"{client}/any-plain", "chat/any-plain").encode()
    path = path_of(client, stream=False).replace(f"{client}%2F", "chat%2F").replace("models/generate", "models/chat")
    data = post(connection, path, body, key).read()

    assert (b'"of_its_own"' in data) == (client == "chat")


@pytest.fixture(scope="module")
def receipts(
    conformance_gateway: Served, connection: http.client.HTTPConnection, key: str
) -> dict[tuple[str, bool], dict[str, Any]]:
    """What `penstock calls` tells of one call of each dialect, whole and streamed."""
    ids = {}
    for dialect in DIALECTS:
        for stream in (False, True):
            reply = post(
                connection, path_of(dialect, stream=stream), json.dumps(least(dialect, stream=stream)).encode(), key
            )
            reply.read()
            ids[reply.headers["x-penstock-call"]] = dialect, stream
    told = json.loads(conformance_gateway.command("calls", "--since", "2h", "--limit", "100000", "--json"))["calls"]
    return {ids[one["id"]]: one for one in told if one["id"] in ids}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_usage_is_metered_all_the_same(
    receipts: dict[tuple[str, bool], dict[str, Any]], dialect: str, *, stream: bool
) -> None:
    found = receipts[dialect, stream]

    say, usage = SAYS["plain"], found["usage"]
    assert found["lane"] == "verbatim"
    assert found["streamed"] == stream
    assert (usage["input_tokens"], usage["output_tokens"]) == (say.input, say.output)
    assert usage["cached_input_tokens"] == (0 if dialect == "ollama" else say.cached)
    assert usage["source"] == "provider"
