"""Requests that schemathesis draws from our OpenAPI, right and wrong ones, to every endpoint of a running gateway: no 5xx.

The plain run takes a few for each operation; `-m soak` takes more than 2,000 of the data plane's in all.
"""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from conformance.data_plane import GETS, GETS_PLAIN, POSTS, document
from conformance.stand_in import StandIn
from e2e.conftest import Served, served

FEW, MANY = 8, 70
OPERATIONS = [(path, "POST") for path in POSTS] + [(path, "GET") for path in (*GETS, *GETS_PLAIN)]


@pytest.fixture(scope="module")
def asked(stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway without keys: its own demonstration as `demo`, and a stand-in that takes anything behind `fast`."""
    config = f"""
[models.demo]
targets = ["demo/demo"]
[models.fast]
targets = ["chat/any-plain"]
[providers.demo]
kind = "scripted"
[providers.chat]
kind = "openai"
base_url = "http://127.0.0.1:{stand_in.port}/chat/v1"
api_key = "env:UPSTREAM_KEY"
retries = 0
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSTREAM_KEY", "upstream-key-for-the-tests")
        with served(tmp_path_factory.mktemp("generated"), config) as one:
            yield one


def send(schema: Any, path: str, method: str, url: str, many: int) -> int:
    """Send so many cases of an operation, of the right and the wrong kind; give how many were sent."""
    operation = schema[path][method]
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )
    sent = 0

    @settings(
        max_examples=many,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=cases)
    def one(case: Any) -> None:
        nonlocal sent
        reply = case.call(base_url=url, timeout=20)
        sent += 1
        own = reply.status_code == 504 and b"deadline" in reply.content  # the request's own, of a few milliseconds
        assert reply.status_code < 500 or own, (reply.status_code, reply.content[:400], case.body)
        if method == "POST" and reply.status_code >= 400 and "json" in reply.headers["content-type"][0]:
            json.loads(reply.content)

    one()
    return sent


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(document())


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_makes_the_data_plane_fail(asked: Served, schema: Any, path: str, method: str) -> None:
    assert send(schema, path, method, asked.url, FEW) >= 1


def test_strange_names_of_members_stay_out_of_the_head(asked: Served) -> None:
    """What was dropped is listed in a header, and the names of unknown members are the client's own words."""
    names = ["a\r\nset-cookie: x", "\x85\u2028\ud83d\ude00", "a, b", "x" * 900, *(f"m{n}" for n in range(500))]
    turn = {"role": "user", "parts": [{"text": "Hi"}]}
    body = {"contents": [turn], **dict.fromkeys(names, 1)}
    connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=20)
    connection.request("POST", "/v1beta/models/fast:generateContent", json.dumps(body))
    reply = connection.getresponse()
    reply.read()
    connection.close()

    assert reply.status == 200
    assert "set-cookie" not in reply.headers
    listed = reply.headers["x-penstock-dropped"]
    assert listed.isascii()
    assert len(listed) < 4_000


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_thousand_requests_do_not_make_it_fail(asked: Served, schema: Any) -> None:
    sent = sum(send(schema, path, method, asked.url, MANY + 30) for path, method in OPERATIONS)

    print(f"{sent} requests")
    assert sent >= 2_000


def test_the_document_has_every_address_that_takes_calls() -> None:
    from penstock.server.endpoints import FIXED, find

    assert set(FIXED) <= set(POSTS)
    assert all(find(path.replace("{model}", "m"), b"") is not None for path in POSTS)
