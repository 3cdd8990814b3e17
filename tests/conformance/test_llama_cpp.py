"""The real llama.cpp server in each of the dialects that it speaks, behind one gateway, from every official client."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.cases import API_ERRORS
from conformance.conftest import CLIENTS
from conformance.outcome import DIALECTS
from conformance.seen import Ask
from e2e.conftest import Served, served

SPOKEN = ("chat", "responses", "messages")
LIMIT = 12
LONG = "x " * 5000
PROMPT = "in an on"
"""To which the model begins with a whole character; where it does not, llama.cpp leaves out how its stream begins."""


@pytest.fixture(scope="module")
def llama_gateway(llama: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # the fixture
    config = '[models.fast]\ntargets = ["chat/tiny"]\n' + "".join(
        f'[providers.{dialect}]\nkind = "openai"\nbase_url = "{llama}"\ndialect = "{dialect}"\nretries = 0\n'
        for dialect in SPOKEN
    )
    with served(tmp_path_factory.mktemp("llama-gateway"), config) as one:
        yield one


@pytest.fixture(scope="module")
def llama_clients(llama_gateway: Served) -> Iterator[dict[str, Any]]:
    made = json.loads(llama_gateway.command("keys", "create", "--team", "llama", "--json"))
    clients = {dialect: one(llama_gateway.url, made["key"]) for dialect, one in CLIENTS.items()}
    yield clients
    for one in clients.values():
        one.close()


def of(headers: dict[str, str], name: str) -> str:
    return {key.lower(): value for key, value in headers.items()}.get(name, "")


@pytest.mark.parametrize("target", SPOKEN)
@pytest.mark.parametrize("client", DIALECTS)
def test_whole_and_streamed_answers_say_the_same(llama_clients: dict[str, Any], client: str, target: str) -> None:
    one = llama_clients[client]
    whole, streamed = (
        one.ask(f"{target}/tiny", one.user(PROMPT), Ask(stream=stream, limit=LIMIT, temperature=0))
        for stream in (False, True)
    )

    assert of(one.headers, "x-penstock-target") == f"{target}/tiny"
    assert whole.text == streamed.text
    for seen in (whole, streamed):
        assert seen.output == LIMIT
        assert seen.input > 10
    assert streamed.pieces > 1
    assert whole.finish == streamed.finish


@pytest.mark.parametrize("target", SPOKEN)
@pytest.mark.parametrize("client", ["responses", "messages", "generate", "converse"])
def test_tokens_are_counted(llama_clients: dict[str, Any], client: str, target: str) -> None:
    one = llama_clients[client]

    few = one.count(f"{target}/tiny", one.user("Hi"), Ask())
    many = one.count(f"{target}/tiny", one.user("Hi, how are you today, Zoë?"), Ask())

    assert 0 < few < many
    if target == "messages":
        asked = one.ask(f"{target}/tiny", one.user("Hi"), Ask(limit=1, system="Be brief."))
        assert few == asked.input or client == "generate"  # whose client counts without the system text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("target", SPOKEN)
@pytest.mark.parametrize("client", DIALECTS)
def test_its_refusal_of_a_prompt_that_is_too_long_arrives(
    llama_clients: dict[str, Any], client: str, target: str, *, stream: bool
) -> None:
    one = llama_clients[client]
    with pytest.raises(API_ERRORS) as raised:
        one.ask(f"{target}/tiny", one.user(LONG), Ask(stream=stream, limit=LIMIT))
    error = one.wrong(raised.value)

    assert error.status == 400
    assert "context" in error.message
