"""One gateway process with keys, in front of stand-ins for the providers of every dialect, and every official client."""

import json
from collections.abc import Iterator

import pytest

from conformance.openai_clients import Chat, Responses
from conformance.other_clients import Converse, Generate, Messages, Ollama
from conformance.stand_in import KEY, StandIn
from e2e.conftest import Served, llama, served  # noqa: F401  # a fixture

pytest.register_assert_rewrite("conformance.cases", "conformance.parsers")

KINDS = {
    "chat": ("openai", "/chat/v1"),
    "responses": ("openai", "/responses/v1"),
    "messages": ("anthropic", "/messages"),
    "generate": ("gemini", "/generate"),
    "converse": ("bedrock", "/converse"),
    "ollama": ("ollama", "/ollama"),
}
CLIENTS = {one.dialect: one for one in (Chat, Responses, Messages, Generate, Converse, Ollama)}


def config(port: int) -> str:
    """Configure one provider a dialect, by the kind that is meant for it."""
    lines = ["[models.fast]", 'targets = ["chat/plain"]']
    for dialect, (kind, folder) in KINDS.items():
        lines += [
            f"[providers.{dialect}]",
            f'kind = "{kind}"',
            f'dialect = "{dialect}"',
            f'base_url = "http://127.0.0.1:{port}{folder}"',
            'api_key = "env:UPSTREAM_KEY"',
            "retries = 0",
        ]
        if kind == "bedrock":
            lines.append('region = "eu-central-1"')
    return "\n".join(lines)


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    with StandIn() as one:
        yield one


@pytest.fixture(scope="session")
def conformance_gateway(stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSTREAM_KEY", KEY)
        with served(tmp_path_factory.mktemp("conformance"), config(stand_in.port)) as one:
            yield one


@pytest.fixture(scope="session")
def key(conformance_gateway: Served) -> str:
    made = conformance_gateway.command("keys", "create", "--team", "grid", "--json")
    return str(json.loads(made)["key"])


@pytest.fixture(scope="session")
def clients(conformance_gateway: Served, key: str) -> Iterator[dict[str, object]]:
    made = {dialect: one(conformance_gateway.url, key) for dialect, one in CLIENTS.items()}
    yield made
    for one in made.values():
        one.close()
