"""Rule 10 on provider names is shown to fail on planted breaches."""

import pytest

from architecture import names
from architecture.planted import Plant, check

BREACHES = (
    Plant(
        "comparisons with a provider's name",
        names.provider_names,
        {
            "routing/x.py": """
                def f(target, provider):
                    a = provider == "openai"  # <-
                    b = "Anthropic" != provider  # <-
                    c = provider in ("gemini", "x")  # <-
                    d = provider not in {"bedrock"}  # <-
                    e = target.startswith("openai/")  # <-
                    f = provider in frozenset(["vertex"])  # <-
                    g = provider in {"azure": 1}  # <-
                    h = provider.kind == "local"  # <-
                """
        },
    ),
    Plant(
        "a match on a provider's name",
        names.provider_names,
        {
            "telemetry/x.py": """
                def f(provider):
                    match provider:
                        case "ollama":  # <-
                            return 1
                        case "x" | "scripted":  # <-
                            return 2
                """
        },
    ),
    Plant(
        "a comparison behind a constant",
        names.provider_names,
        {
            "call.py": 'from enum import StrEnum\n\nFAVOURITE = "openai"\n\n\nclass Kind(StrEnum):\n    BEDROCK = "bedrock"\n',
            "policy/x.py": """
                from penstock import call
                from penstock.call import FAVOURITE, Kind

                OURS = "anthropic"


                def f(name):
                    a = name == OURS  # <-
                    b = name == FAVOURITE  # <-
                    c = name == call.FAVOURITE  # <-
                    d = name is Kind.BEDROCK  # <-
                    return a, b, c, d
                """,
        },
    ),
)

SOUND = (
    Plant(
        "providers and dialects know their names",
        names.provider_names,
        {"providers/auth.py": "x = y == 'bedrock'\n", "wire/openai_chat.py": "x = y == 'openai'\n"},
    ),
    Plant(
        "names as data, and ordinary words",
        names.provider_names,
        {
            "config.py": "KINDS = {'openai': 'OPENAI_API_KEY'}\nx = zone == 'local'\ny = name == 'open'\nz = a in ('stop',)\nkind == 'function'\n"
        },
    ),
)


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in names.RULES)
