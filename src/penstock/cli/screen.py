"""What commands print: tables and colour for people at a terminal, plain lines for pipes, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> None:
    """Print rows: as a table on a terminal, tab-separated otherwise. Columns among `numbers` stand to the right."""
    if not console.is_terminal:
        for row in (columns, *rows):
            sys.stdout.write("\t".join("" if cell is None else str(cell) for cell in row) + "\n")
        return
    right = set(numbers)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console.print(table)


def money(usd: str | None) -> str:
    """Write an amount for people: `$0.0015`, or that nobody knows it."""
    return "unpriced" if usd is None else f"${usd}"
