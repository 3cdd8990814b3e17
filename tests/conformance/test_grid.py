"""Every official client, unchanged, against a target of every dialect, in every case, through one real gateway."""

from typing import Any

import pytest

from conformance.cases import API_ERRORS, CASES, Cell
from conformance.outcome import DIALECTS, ONCE, cannot
from conformance.stand_in import StandIn

CELLS = [
    pytest.param(case, client, target, id=f"{case}: {client} to {target}")
    for case in CASES
    for client in DIALECTS
    for target in DIALECTS
    if not cannot(case, client, target) and (target == "chat" or case not in ONCE)
]


@pytest.mark.parametrize(("case", "client", "target"), CELLS)
def test_the_client_reaches_the_target(
    clients: dict[str, Any], stand_in: StandIn, case: str, client: str, target: str
) -> None:
    stand_in.taken()

    CASES[case](Cell(clients[client], target, stand_in, case))


@pytest.mark.parametrize("target", ["messages", "converse"])
@pytest.mark.parametrize("client", ["chat", "generate", "ollama"])
def test_embeddings_of_an_api_without_any_are_refused_as_such(
    clients: dict[str, Any], stand_in: StandIn, client: str, target: str
) -> None:
    stand_in.taken()
    with pytest.raises(API_ERRORS) as raised:
        clients[client].embed(f"{target}/plain", ["one"])
    error = clients[client].wrong(raised.value)

    assert error.status == 400
    assert "embed" in error.message
    assert stand_in.taken() == []
