"""Rule 9 is shown to fail on planted breaches, and counts complexity as ruff does."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from architecture import size
from architecture.planted import MARK, Plant, check


def lines(count: int, *, marked: int | None = None) -> str:
    return "".join(f"x = {n}{'  ' + MARK if n == marked else ''}\n" for n in range(1, count + 1))


def function(count: int, mark: str = "") -> str:
    return f"def f():{mark}\n" + "    x = 1\n" * (count - 1)


def branches(count: int, mark: str = "") -> str:
    return f"def f(x):{mark}\n" + "    if x:\n        x = 1\n" * count


BREACHES = (
    Plant("a long file", size.file_size, {"routing/x.py": lines(401, marked=401)}),
    Plant("a long file of frames", size.file_size, {"wire/framing.py": lines(402, marked=401)}),
    Plant("a long dialect", size.file_size, {"wire/gemini.py": lines(700, marked=601)}),
    Plant("a long gateway", size.file_size, {"gateway.py": lines(500, marked=401)}),
    Plant("a long function", size.function_size, {"wire/gemini.py": function(61, f"  {MARK}")}),
    Plant(
        "a long method in a class in a function",
        size.function_size,
        {"cli.py": "def g():  # <-\n    class C:\n        async def f(self):  # <-\n" + "            x = 1\n" * 60},
    ),
    Plant(
        "many parameters",
        size.function_size,
        {
            "routing/x.py": """
                def f(a, b, /, c, *, d, e, f, g): ...  # <-
                def h(a, b, c, d, e, f, *args): ...  # <-


                class C:
                    def m(self, a, b, c, d, e, f, **kwargs): ...  # <-

                    @staticmethod
                    def s(a, b, c, d, e, f, g): ...  # <-
                """
        },
    ),
    Plant("a function with many branches", size.function_size, {"routing/x.py": branches(12, f"  {MARK}")}),
)

SOUND = (
    Plant("files at their caps", size.file_size, {"routing/x.py": lines(400), "wire/bedrock.py": lines(600)}),
    Plant("a function at its cap", size.function_size, {"routing/x.py": "@decorated\n" + function(60)}),
    Plant("a function with as many branches as it may have", size.function_size, {"routing/x.py": branches(11)}),
    Plant(
        "self is no parameter",
        size.function_size,
        {
            "routing/x.py": "class C:\n    def m(self, a, b, c, d, e, f): ...\n    def n(cls, a, b, c, d, *e, **f): ...\n"
        },
    ),
)

TANGLE = """
def branching(x):
    if x:
        pass
    elif x > 1:
        pass
    else:
        for y in x:
            while y:
                pass
        else:
            pass
    async def inner():
        async for z in x:
            async with z:
                return [a for a in x if a and x or z]
    return x if x else inner


def guarded(x):
    try:
        with x:
            pass
    except ValueError:
        pass
    except (TypeError, KeyError):
        if x:
            pass
    else:
        pass
    finally:
        pass
    try:
        pass
    except* OSError:
        pass


def matching(x):
    match x:
        case 1 | 2:
            pass
        case [a] if a:
            if a:
                pass
        case _:
            pass
    match x:
        case {}:
            pass
        case other if other:
            pass
    match x:
        case other:
            class C:
                def m(self):
                    pass
"""


@pytest.mark.parametrize("plant", [pytest.param(plant, id=plant.what) for plant in BREACHES + SOUND])
def test_a_rule_finds_what_is_planted_and_nothing_else(plant: Plant) -> None:
    check(plant)


def test_every_rule_of_the_group_has_several_plants() -> None:
    assert all(sum(plant.rule is rule for plant in BREACHES) > 1 for rule in size.RULES)


def test_complexity_is_the_number_that_ruff_gives(tmp_path: Path) -> None:
    source = tmp_path / "tangle.py"
    source.write_text(TANGLE)
    options = ("--isolated", "--no-cache", "--select=C901", "--config=lint.mccabe.max-complexity=0")
    command = [sys.executable, "-m", "ruff", "check", *options, "--output-format=json", str(source)]

    said = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)

    rows = {row["location"]["row"]: int(row["message"].split("(")[1].split()[0]) for row in said}
    ours = {
        node.lineno: size.complexity(node)
        for node in ast.walk(ast.parse(TANGLE))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(rows) > 3
    assert ours == rows
