"""What commands print: tables and colour for people at a terminal, plain lines for pipes, JSON for programs.

Data go to the standard output and remarks to the standard error. What comes from outside (a model's answer, a name that a
client sent) never reaches a terminal as a control sequence, nor a table as markup.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but for tab and line feed: among them those that begin a terminal's control sequences."""

_WIDEST = 1000
"""Columns of a table. Lines that are longer than the terminal are for it to wrap: so an id stays in one piece."""


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_line(value: Any) -> None:
    """Print one JSON document on one line, at once."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_row(cells: Iterable[object]) -> None:
    """Print one row, tab-separated, at once."""
    sys.stdout.write("\t".join(map(_plain, cells)) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> None:
    """Print rows: as a table on a terminal, tab-separated otherwise. Columns among `numbers` stand to the right."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(map(_plain, row)) + "\n")
        return
    right = set(numbers)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else _plain(cell)) for cell in row))
    Console(highlight=False, width=_WIDEST).print(table)


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line for people; a part is a text, or a text and its style on a terminal."""
    _show(sys.stdout, Text.assemble(*parts))


def note(text: str, style: str = "") -> None:
    """Print a remark to the standard error, where it does not get in the way of data."""
    _show(sys.stderr, Text(text, style))


def _show(to: TextIO, line: Text) -> None:
    if to.isatty():
        Console(file=to, highlight=False, soft_wrap=True).print(line)
    else:
        to.write(f"{line.plain}\n")
        to.flush()


def write(text: str, to: TextIO | None = None, style: str = "") -> None:
    """Write a piece of a model's text at once: as it is to a pipe, without its control sequences to a terminal."""
    to = to or sys.stdout
    if to.isatty():
        text = visible(text)
        if style and Console(file=to).color_system is not None:
            text = Style.parse(style).render(text)
    to.write(text)
    to.flush()


def visible(text: str) -> str:
    """Give a text with every control character but tab and line feed replaced by U+FFFD."""
    return _CONTROL.sub("\ufffd", text)


def money(usd: str | None) -> str:
    """Write an amount for people: `$0.0015`, `-$0.0015`, or that nobody knows it."""
    if usd is None:
        return "unpriced"
    return f"-${usd[1:]}" if usd.startswith("-") else f"${usd}"


def _plain(cell: object) -> str:
    """Write a cell so that it stays one cell: tabs, line feeds and control characters become spaces and U+FFFD."""
    return "" if cell is None else " ".join(visible(str(cell)).splitlines()).replace("\t", " ")
