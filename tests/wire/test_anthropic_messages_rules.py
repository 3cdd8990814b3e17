"""What each generation of Claude takes, by the names under which platforms sell it."""

import pytest

from penstock.wire.anthropic_messages_rules import Rules, rules_for

OLDEST = Rules()
PREFILLED = Rules(both=False)
BETWEEN = Rules(adaptive=True, both=False, prefill=False)
NEWEST = Rules(adaptive=True, budget=False, sampling=False, both=False, prefill=False, system_between=True)
NO_SYSTEM = Rules(adaptive=True, budget=False, sampling=False, both=False, prefill=False)


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        ("qwen2.5", OLDEST),
        ("claude-3-5-haiku-20241022", OLDEST),
        ("claude-3-7-sonnet@20250219", OLDEST),
        ("claude-sonnet-4-20250514", OLDEST),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", OLDEST),
        ("claude-opus-4-1-20250805", PREFILLED),
        ("claude-haiku-4-5-20251001", PREFILLED),
        ("anthropic/claude-sonnet-4.5", PREFILLED),
        ("claude-sonnet-4-6", BETWEEN),
        ("claude-opus-4-7", NO_SYSTEM),
        ("anthropic.claude-opus-4-8", NEWEST),
        ("claude-sonnet-5", NO_SYSTEM),
        ("claude-sonnet-5-5", NEWEST),
        ("claude-haiku-5-5", NEWEST),
        ("claude-fable-5-2", NEWEST),
        ("claude-mythos-preview", NEWEST),
    ],
)
def test_the_name_says_the_generation(model: str, rules: Rules) -> None:
    assert rules_for(model) == rules
