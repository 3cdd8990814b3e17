#!/usr/bin/env python3
"""Writes what the program itself knows: the help of every command in `cli.md`, and the grid of `dialects.md`.

    .venv/bin/python docs/generate.py

Everything else on the pages is written by hand and left alone. `tests/test_generated.py` and `tests/conformance/test_table.py`
compare.
"""

import re
import sys
from importlib import import_module
from pathlib import Path

import typer
from typer.testing import CliRunner

from penstock.cli import app

PAGE = Path(__file__).with_name("cli.md")
BLOCK = re.compile(r"^```text\n\$ (penstock[^\n]*) --help\n.*?^```$", re.DOTALL | re.MULTILINE)
COLUMNS = 80

DIALECTS = Path(__file__).with_name("dialects.md")
GRID = re.compile(r"(<!-- grid -->\n).*?(<!-- end of grid -->)", re.DOTALL)
TESTS = Path(__file__).parents[1] / "tests"


def help_of(command: str) -> str:
    """Give what `COMMAND --help` prints."""
    words = command.split()[1:]
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="penstock", terminal_width=COLUMNS)
    return result.stdout.rstrip()


def generate(text: str) -> str:
    """Give the page with the help of each command as it is now."""
    return BLOCK.sub(lambda block: f"```text\n$ {block[1]} --help\n{help_of(block[1])}\n```", text)


def commands() -> set[str]:
    """Name every command and every group of commands."""
    found, todo = set(), [("penstock", typer.main.get_command(app))]
    while todo:
        name, command = todo.pop()
        found.add(name)
        todo += [(f"{name} {inner}", one) for inner, one in getattr(command, "commands", {}).items()]
    return found


def with_grid(text: str) -> str:
    """Give the page on dialects with the grid as the tests of it have it."""
    sys.path.insert(0, str(TESTS))
    table = import_module("conformance.table").table
    return GRID.sub(lambda block: f"{block[1]}{table()}\n{block[2]}", text)


if __name__ == "__main__":
    DIALECTS.write_text(with_grid(DIALECTS.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(generate(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
