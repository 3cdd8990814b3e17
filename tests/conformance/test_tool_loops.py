"""An agent's conversation of ten turns with parallel tools and signed thoughts, through every client, by every target.

The stand-ins refuse what the providers would: a call without its result, a result without its call, a signature of another
family. Here stands what must not get lost on the way.
"""

from typing import Any

import pytest

from conformance.cases import standard, words
from conformance.outcome import DIALECTS, FAMILY, THINKERS
from conformance.says import agent, signature
from conformance.seen import Ask
from conformance.stand_in import TURNS, Got, StandIn

SWITCHING = ("chat", "generate", "messages", "ollama", "responses", "converse")


def converse(client: Any, stand_in: StandIn, targets: list[str], *, stream: bool) -> list[Got]:
    """Take an agent through its turns, each answered by the next of the targets; give what the providers got."""
    stand_in.taken()
    history = client.user("Go.")
    found: list[Got] = []
    for turn, target in enumerate([*targets, targets[0]], 1):
        model = f"{target}/{THINKERS[target]}agent"
        seen = client.ask(model, history, Ask(tools=True, thinking=True, stream=stream))
        (got,) = stand_in.taken()
        assert got.problems == []
        found.append(got)
        if turn > TURNS:
            assert seen.text == "All done."
            break
        say = agent(turn)
        assert (seen.text, seen.thought) == (say.text, say.thought)
        assert [(call.name, call.arguments) for call in seen.calls] == [(use.name, use.arguments) for use in say.uses]
        results = [f"result of {call.name} in turn {turn}." for call in seen.calls]
        history += [*seen.turn, *client.results(seen, results)]
    return found


def nothing_lost(got: Got) -> None:
    """All calls and all results are in the last request, in their order."""
    said = [word for word in words(got.body) if "{" not in word]
    calls = [word for word in said if word[:1] in "CZ" and word[1:].isdigit()]
    results = [word for word in said if word.startswith("result of")]
    assert calls == [f"{letter}{turn}" for turn in range(1, TURNS + 1) for letter in "CZ"]
    assert results == [
        f"result of {name} in turn {turn}." for turn in range(1, TURNS + 1) for name in ("get_weather", "get_time")
    ]


def signatures(got: Got, family: str) -> list[int]:
    """The turns whose signatures of a family are in a request."""
    said = {standard(word) for word in words(got.body)}
    return [turn for turn in range(1, TURNS + 1) if signature(family, str(turn)) in said]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("target", DIALECTS)
@pytest.mark.parametrize("client", DIALECTS)
def test_ten_turns_lose_no_call_no_result_and_no_signature(
    clients: dict[str, Any], stand_in: StandIn, client: str, target: str, *, stream: bool
) -> None:
    got = converse(clients[client], stand_in, [target] * TURNS, stream=stream)[-1]

    nothing_lost(got)
    if target in FAMILY and client != "ollama":
        assert signatures(got, FAMILY[target]) == list(range(1, TURNS + 1))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", DIALECTS)
def test_targets_may_change_with_every_turn(
    clients: dict[str, Any], stand_in: StandIn, client: str, *, stream: bool
) -> None:
    targets = [SWITCHING[turn % len(SWITCHING)] for turn in range(TURNS)]
    requests = converse(clients[client], stand_in, targets, stream=stream)

    nothing_lost(requests[-1])
    for turn, got in enumerate(requests):
        made = {family: [n + 1 for n in range(turn) if FAMILY.get(targets[n]) == family] for family in FAMILY.values()}
        own = FAMILY.get(got.dialect, "")
        for family, turns in made.items():
            if family != own:
                labelled = got.dialect == client == "chat"  # each entry of `reasoning_details` names its family
                assert signatures(got, family) in ([], turns if labelled else [])
            elif client != "ollama":
                assert signatures(got, family) == turns


def test_ids_of_calls_stay_as_they_are(clients: dict[str, Any], stand_in: StandIn) -> None:
    """What a call was called by its provider, it is called in every later turn."""
    targets = [SWITCHING[turn % len(SWITCHING)] for turn in range(TURNS)]
    for client in ("chat", "responses", "messages", "converse"):
        last = converse(clients[client], stand_in, targets, stream=False)[-1]
        assert last.dialect == "chat"
        ids = [call["id"] for message in last.body["messages"] for call in message.get("tool_calls", [])]
        given = {"chat": "call_", "responses": "call_", "messages": "toolu_", "converse": "tooluse_"}
        for turn, target in enumerate(targets):
            if target in given:
                expected = [f"{given[target]}{turn + 1}{letter}" for letter in "ab"]
                assert ids[2 * turn : 2 * turn + 2] == expected
        assert len(set(ids)) == 2 * TURNS
