"""Rule 15 finds what was planted and leaves the rest alone, and the source keeps it."""

from pathlib import Path

import pytest

from architecture.money import MONEY, no_floats
from architecture.planted import Plant, check
from architecture.tree import SOURCE, read_tree

PLANTS = (
    Plant(
        "a price is a float",
        no_floats,
        {
            "target.py": """
                RATE = 2.5  # <-
                TINY = -1e-9  # <-
                WHOLE = 2_500_000_000
                """
        },
    ),
    Plant(
        "a cost is divided",
        no_floats,
        {
            "ledger/reports.py": """
                def f(total):
                    total /= 1_000_000  # <-
                    a = total / 3  # <-
                    b = (total + 1) // 2
                    return a, b
                """
        },
    ),
    Plant(
        "a float is made",
        no_floats,
        {
            "ledger/estimates.py": """
                import math
                import operator
                from fractions import Fraction
                from math import floor, sqrt

                a = float("1")  # <-
                b = round(a)  # <-
                c = math.fsum([])  # <-
                d = sqrt(2)  # <-
                e = operator.truediv(1, 2)  # <-
                f = x.__float__()  # <-
                g = Fraction.from_float(x)  # <-
                h = map(float, [])  # <-
                i = math.ceil(Fraction(1, 2)) + floor(Fraction(3, 2))
                """
        },
    ),
    Plant(
        "a float is asked for",
        no_floats,
        {
            "routing/prices.py": """
                def f(rate: float) -> float:  # <-
                    return rate


                class Price:
                    usd: float | None = None  # <-
                """
        },
    ),
    Plant(
        "times are no money",
        no_floats,
        {
            "ledger/reports.py": """
                class Row:
                    total_ms: float
                    wait_s: float = 0.5


                def _ms(us: int) -> float:
                    return us / 1000


                row = Row(total_ms=5 / 1000)
                LONGEST_S = 10.0
                """
        },
    ),
    Plant(
        "the way to a file is no division",
        no_floats,
        {
            "ledger/rows.py": """
                def f(home, self, total):
                    a = home / NAME
                    b = self._folder / "x"
                    c = somewhere / f"{a}"
                    return total / a  # <-
                """
        },
    ),
    Plant("other files may", no_floats, {"routing/health.py": "SHARE = 0.5\n", "tests/test_x.py": "y = 1 / 3\n"}),
)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.what)
def test_a_plant_is_found(plant):
    check(plant)


@pytest.fixture(scope="module")
def repository():
    return read_tree(Path(__file__).parents[2])


def test_no_float_stands_in_a_path_of_money(repository):
    breaches = no_floats(repository)

    assert not breaches, "\n".join(breaches)


def test_the_files_of_money_are_really_read(repository):
    there = {path.removeprefix(SOURCE) for path in repository}

    assert {"target.py", "ledger/reports.py", "ledger/rows.py", "ledger/estimates.py", "ledger/budgets.py"} <= there
    assert len(set(MONEY) & there) >= len(MONEY) - 4
