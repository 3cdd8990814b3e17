"""Words and numbers for how hard to think."""

import pytest

from penstock.wire.effort import effort_for, tokens_for


@pytest.mark.parametrize("word", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_a_word_and_its_number_go_back_and_forth(word: str) -> None:
    tokens = tokens_for(word)
    assert tokens is not None
    assert effort_for(tokens) == word


def test_more_tokens_are_never_less_effort() -> None:
    words = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    places = [words.index(effort_for(tokens)) for tokens in range(0, 100_000, 97)]
    assert places == sorted(places)
    assert effort_for(1) == "minimal"
    assert effort_for(10**9) == "max"


def test_an_unknown_word_has_no_number() -> None:
    assert tokens_for("furious") is None
    assert tokens_for("HIGH") == tokens_for("high")
