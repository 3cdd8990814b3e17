"""`penstock spend`: what was spent, by whatever people ask for."""

import csv
import sys
from typing import Annotated

import typer
from msgspec import UNSET, Struct

from penstock.cli.command import command
from penstock.cli.ledger import open_store, read_span
from penstock.cli.options import Config, Json, Since, Until, Zone
from penstock.cli.screen import money, print_json, print_table, visible
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger import reports
from penstock.ledger.periods import zone_of
from penstock.ledger.reports import Spend, SpendRow

NUMBERS = ("calls", "input", "cached", "output", "cost", "cache saved", "routing saved")


class Form(Struct, frozen=True):
    """In what form it is printed."""

    json: Json = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False


@command
def spend(
    since: Since = "today",
    until: Until = None,
    by: Annotated[str, typer.Option(help="Any of: " + ", ".join(reports.DIMENSIONS) + ".")] = "model",
    zone: Zone = "UTC",
    config: Config = None,
    form: Form = Form(),  # noqa: B008 - frozen
) -> None:
    """Say what was spent.

    The parts and the unattributed rest always add up to the total. Calls without a known price are counted and said to
    be unpriced, never taken for ones that cost nothing. Beside the cost stands what answers of the cache would have
    cost, and how much more the models' baselines would have cost than the targets that answered.
    """
    if form.json and form.as_csv:
        raise InvalidRequest("Give --json or --csv, not both.")
    span, dimensions = read_span(since, until, zone), reports.dimensions(by)
    with open_store(load(config)) as store:
        found = reports.spend(store, span, dimensions, zone_of(zone))
    if form.json:
        print_json(found)
    elif form.as_csv:
        _print_csv(found)
    else:
        print_table((*(found.by or ("",)), *NUMBERS, "status"), _rows(found), NUMBERS)


def _rows(found: Spend) -> list[tuple[object, ...]]:
    blank = ("",) * (max(1, len(found.by)) - 1)
    parts = found.rows if found.by else ()  # without a dimension the only part is the total
    rows = [_row(tuple(getattr(part, name) for name in found.by), part) for part in parts]
    if found.unattributed.calls:
        rows.append(_row(("unattributed", *blank), found.unattributed))
    rows.append(_row(("total", *blank), found.total))
    return rows


def _row(names: tuple[object, ...], part: SpendRow) -> tuple[object, ...]:
    status = part.cost_status if not part.unpriced_calls else f"{part.cost_status} ({part.unpriced_calls} calls)"
    numbers = (part.calls, part.input_tokens, part.cached_input_tokens, part.output_tokens)
    saved = (money(part.cache_saved_usd), money(part.routing_saved_usd))
    return (*names, *numbers, money(part.cost_usd), *saved, status)


# -- CSV --

FIGURES = (
    *("calls", "input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "cost_status", "unpriced_calls"),
    *("cache_saved_usd", "routing_saved_usd"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _print_csv(found: Spend) -> None:
    """Write every part, the unattributed rest and the total, each said to be which in its first column (RFC 4180)."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("row", *found.by, *FIGURES))
    parts = found.rows if found.by else ()
    for kind, part in (*(("part", row) for row in parts), ("unattributed", found.unattributed), ("total", found.total)):
        names = [_name(getattr(part, name)) for name in found.by]
        figures = [getattr(part, name) for name in FIGURES]
        writer.writerow((kind, *names, *("" if figure in (None, UNSET) else figure for figure in figures)))


def _name(value: object) -> object:
    """Give the cell of a name; one that a spreadsheet would take for a formula is marked as text by an apostrophe."""
    if value is None or value is UNSET:
        return ""
    return f"'{visible(value)}" if isinstance(value, str) and value.startswith(_FORMULA) else value
