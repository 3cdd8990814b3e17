"""The invariants that docs/money.md promises are each held by a test that is there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "money.md"
ROW = re.compile(r"^\| (.+) \| `([a-z0-9_/.]+)::(\w+)` \|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str]]:
    """Each invariant with the file and the name of its test."""
    _, _, text = PAGE.read_text(encoding="utf-8").partition("## Invariants")
    lines = [
        line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ") and "held by" not in line
    ]
    found = [found.groups() for line in lines if (found := ROW.match(line))]
    assert len(found) == len(lines), "a row names no test"
    return [(said, file, name) for said, file, name in found]


def named_in(file: Path) -> set[str]:
    """The names of the tests in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


def test_every_invariant_names_a_test_that_is_there() -> None:
    missing = [(file, name) for _, file, name in rows() if name not in named_in(TESTS / file)]
    assert not missing


def test_there_are_many_invariants_and_each_is_said_once() -> None:
    said = [invariant for invariant, _, _ in rows()]
    assert len(said) == len(set(said)) > 20
