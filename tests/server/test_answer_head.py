"""The head of an answer says the same in both forms; what is remembered of it has a bound."""

import pytest

from penstock.reply import Opening
from penstock.server.answer_head import (
    BEGINNING,
    JSON,
    LONGEST_NAME,
    MOST_NAMES,
    REMEMBERED,
    Costs,
    Targets,
    cost_of,
    headers_of,
    lines_of,
)
from penstock.target import usd

CALL, TARGET = "019aa7ee-3e80-7000-8000-000000000000", "openai/gpt-4o%b"


@pytest.mark.parametrize("cost", [None, 0, 1, 1_500_000, 5_000_000_000, -7, 10**18 + 1])
@pytest.mark.parametrize("own", [(), ((b"openai-processing-ms", b"12"), (b"x-request-id", b"r%b"))])
def test_the_lines_are_the_headers(cost, own):
    headers = headers_of(JSON, Opening(CALL, TARGET, "verbatim", 1, (), 200, own))
    if cost is not None:
        headers.append(cost_of(cost))
        assert headers[-1] == (b"x-penstock-cost-usd", usd(cost).encode())
    lines = b"".join((BEGINNING, CALL.encode(), Targets()[TARGET], lines_of(own), Costs()[cost]))
    assert lines == b"HTTP/1.1 200 OK\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in headers)


def test_amounts_are_remembered_but_not_without_end():
    costs = Costs()
    for nano_usd in range(3 * REMEMBERED):
        assert costs[nano_usd] is costs[nano_usd]
        assert len(costs) <= REMEMBERED


def test_targets_are_remembered_but_not_without_end():
    targets = Targets()
    for name in map(str, range(3 * REMEMBERED)):
        assert targets[name] is targets[name]
        assert len(targets) <= REMEMBERED


def test_what_is_rare_is_told():
    opening = Opening(CALL, TARGET, "translated", 3, ("a,b\r\n", "x" * 99, *"c" * 99), 200, (), "hit")
    told = dict(headers_of(JSON, opening))
    assert told[b"x-penstock-tries"] == b"3"
    assert told[b"x-penstock-cache"] == b"hit"
    names = told[b"x-penstock-dropped"].split(b", ")
    assert names[:2] == [b"a_b_", b"x" * LONGEST_NAME]
    assert len(names) == MOST_NAMES
