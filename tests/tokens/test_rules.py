"""The rules are data: what has to hold for every row."""

import pytest

from penstock.tokens.rules import FAMILIES, UNKNOWN, rules_for
from penstock.tokens.vocabularies import KNOWN


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_can_be_applied_and_says_where_it_comes_from(family):
    rules = rules_for(family)
    assert rules.estimate.vocabulary in KNOWN
    assert rules.estimate.low <= rules.estimate.factor <= rules.estimate.high
    for part in (rules.chat, rules.tools, rules.image, rules.estimate):
        assert part.source


def test_a_family_that_nobody_knows_has_a_wide_band():
    assert rules_for("") is rules_for("no such family") is UNKNOWN
    assert UNKNOWN.estimate.high >= 2 * UNKNOWN.estimate.factor
    assert not UNKNOWN.chat.exact


def test_only_families_that_openai_published_a_rule_for_are_framed_exactly():
    assert {family for family, rules in FAMILIES.items() if rules.chat.exact} == {
        "gpt-3.5",
        "gpt-4",
        "gpt-4o",
        "gpt-4o-mini",
    }
