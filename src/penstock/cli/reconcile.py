"""`penstock reconcile`: the ledger against what a provider says was used and charged."""

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from penstock.cli.command import NO, command
from penstock.cli.estimate import dollars, percent
from penstock.cli.ledger import open_store
from penstock.cli.options import Config, Json, read_bounded
from penstock.cli.screen import money, note, print_json, print_table, say
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger import history
from penstock.ledger import reconcile as sides
from penstock.ledger.exports import Said, read_export, summed
from penstock.ledger.periods import read_moment, zone_of
from penstock.ledger.reconcile import Line, Side, Tolerance
from penstock.ledger.store import Filter, Span

MOST_BYTES = 256 * 1024 * 1024
COLUMNS = ("day", "model", "figure", "ledger", "export", "difference", "")
NUMBERS = ("ledger", "export", "difference")


class Options(Struct, frozen=True):
    """What is compared, and how far it may lie apart."""

    provider: Annotated[
        str | None,
        typer.Option(help="Only tries at this provider, as the configuration names it.", show_default=False),
    ] = None
    tolerance_percent: Annotated[str, typer.Option(help="Figures may differ by so much of the export's.")] = "0"
    tolerance_usd: Annotated[str, typer.Option(help="Money may differ by so much, for a model on a day.")] = "0"
    show_all: Annotated[bool, typer.Option("--all", help="List what agrees as well.")] = False


@command
def reconcile(
    files: Annotated[list[Path], typer.Argument(help="Usage or cost exports, CSV or JSON; several are put together.")],
    options: Options = Options(),  # noqa: B008 - frozen
    config: Config = None,
    json: Json = False,
) -> None:
    """Compare the ledger with a provider's usage export.

    Day by day (UTC) and model by model: tokens and money, as far as the export has them. Exit code 1 says that something
    differs by more than the tolerance.
    """
    configuration = load(config)
    tolerance = Tolerance(
        percent(options.tolerance_percent, "--tolerance-percent"), dollars(options.tolerance_usd, "--tolerance-usd")
    )
    data = ((file.name, read_bounded(file, MOST_BYTES, "Export a shorter span.")) for file in files)
    said = summed(row for name, one in data for row in read_export(one, name))
    if not said:
        raise InvalidRequest("The export has no row with a figure.", hint="Export a span in which something was used.")
    first, last = said[0].day, said[-1].day
    with open_store(configuration) as store:
        tries = history.tries(store, Filter(_span(first, last)))
        ledger = sides.ledger_side(((day, one) for day, one in tries if first <= day <= last), options.provider)
    lines = sides.compare(ledger, said, tolerance)
    total = sides.total(lines, tolerance)
    within = all(line.within for line in lines)
    shown = [line for line in lines if options.show_all or not line.within]
    if json:
        rows = [_shape(line) for line in shown]
        span = {"provider": options.provider, "since": first, "until": last}
        print_json({**span, "rows": rows, "total": _shape(total), "within": within})
    else:
        print_table(COLUMNS, [row for line in (*shown, total) for row in _rows(line)], NUMBERS)
        _summary(lines, said, options.provider)
    if not within:
        raise typer.Exit(NO)


def _span(first: str, last: str) -> Span:
    """Give the days, and the one before: a try may begin on the day after its call."""
    utc = zone_of("UTC")
    beyond = (date.fromisoformat(last) + timedelta(days=1)).isoformat()
    return Span(max(read_moment(first, 0, utc) - history.LONGEST_NS, 0), read_moment(beyond, 0, utc))


def _rows(line: Line) -> list[tuple[object, ...]]:
    """Give a row for each figure that both sides have, and that tells something."""
    found: list[tuple[object, ...]] = []
    for figure in ("requests", *sides.FIGURES):
        more = getattr(line.difference, figure)
        if more is None or (figure == "requests" and line.export.requests is None):
            continue
        ours, theirs = getattr(line.ledger, figure), getattr(line.export, figure)
        mark = None if line.within or not more or figure == "requests" else "differs"
        name = "cost" if figure == "cost_nano_usd" else figure.removesuffix("_tokens").replace("_", " ")
        cells = (_amount(figure, ours), _amount(figure, theirs), _signed(figure, more))
        found.append((line.day or "total", line.model or None, name, *cells, mark))
    return found


def _amount(figure: str, value: int | None) -> object:
    if value is None:
        return None
    return money(sides.dollars(value)) if figure == "cost_nano_usd" else value


def _signed(figure: str, more: int) -> str:
    text = sides.dollars(more) if figure == "cost_nano_usd" else str(more)
    return f"+{text}" if more > 0 else str(text)


def _summary(lines: tuple[Line, ...], said: tuple[Said, ...], provider: str | None) -> None:
    apart = sum(not line.within for line in lines)
    where = f" at {provider}" if provider else ""
    say(f"{len(lines)} models on days from {said[0].day} to {said[-1].day}{where}: {apart} differ")
    estimated, unpriced = sum(line.ledger.estimated for line in lines), sum(line.ledger.unpriced for line in lines)
    if estimated:
        note(
            f"{estimated} tries of the ledger have an estimated cost: calls that were cut, whose usage was not told, "
            "or that were served in a tier without a price"
        )
    if unpriced:
        note(f"{unpriced} tries of the ledger have no price; they are not in its cost")


def _shape(line: Line) -> dict[str, object]:
    return {
        "day": line.day or None,
        "model": line.model or None,
        "ledger": {
            **_side(line.ledger),
            "estimated_tries": line.ledger.estimated,
            "unpriced_tries": line.ledger.unpriced,
        },
        "export": _side(line.export),
        "difference": _side(line.difference),
        "within": line.within,
    }


def _side(side: Side) -> dict[str, object]:
    return {
        "requests": side.requests,
        "input_tokens": side.input_tokens,
        "cached_input_tokens": side.cached_input_tokens,
        "output_tokens": side.output_tokens,
        "cost_usd": sides.dollars(side.cost_nano_usd),
    }
