"""The page on dialects shows the grid as it is tested."""

from pathlib import Path

from conformance.cases import CASES
from conformance.outcome import CASE_NAMES, DIALECTS, ONCE, cannot
from conformance.table import cell, table

PAGE = Path(__file__).parents[2] / "docs" / "dialects.md"


def test_the_page_has_the_table_as_it_is() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "run .venv/bin/python docs/generate.py"


def test_every_case_of_the_grid_is_in_the_table() -> None:
    assert tuple(CASES) == CASE_NAMES
    assert set(CASE_NAMES) >= ONCE


def test_a_cell_is_tested_or_has_a_reason() -> None:
    cells = [(case, client, target) for case in CASE_NAMES for client in DIALECTS for target in DIALECTS]

    assert all((cell(*one)[0] == "yes") != bool(cannot(*one)) for one in cells)
    assert all(cell(*one)[1] for one in cells if cannot(*one))
