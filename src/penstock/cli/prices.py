"""`penstock models diff` and `penstock models apply`: an update of prices and facts is reviewed, then it counts.

What was applied is kept in `<home>/models.toml`, one block after the other with its day; nothing is ever taken out of it.
"""

import os
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import NO, command
from penstock.cli.models import UPDATES, applied, catalogue, day
from penstock.cli.options import Config, Json, read_bounded
from penstock.cli.screen import note, print_json, print_table, say, visible
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.routing.review import Change, changes, rows
from penstock.toml import MAX_BYTES

NOT_ONE = "It is no catalogue of models."

COLUMNS = ("model", "price since", "what", "before", "after", "change", "")
NUMBERS = ("before", "after", "change")

File = Annotated[Path, typer.Argument(help="The update: a file in the form of the catalogue, models.toml.")]


@command
def diff(file: File, config: Config = None, json: Json = False) -> None:
    """Show what an update would change.

    Prices per million tokens, windows, dates, capabilities. Exit code 1 says that it gives other figures for a price that
    holds already, by which calls were billed: `apply` takes those only from a later day on.
    """
    home, today = load(config).home, day()
    found = changes(catalogue(home), catalogue(home, read_bounded(file, MAX_BYTES, NOT_ONE)), today)
    rewrites = any(change.rewrites for change in found)
    if json:
        print_json({"file": str(file), "changes": found, "rewrites": rewrites})
    else:
        print_table(COLUMNS, [_row(change) for change in found], NUMBERS)
        say(_summary(found))
    if rewrites:
        _tell_rewrites(found)
        raise typer.Exit(NO)


@command
def apply(
    file: File,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Take other figures of a price that holds already from this day on.", show_default=False
        ),
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Have an update count.

    It is kept in PENSTOCK_HOME and laid over the packaged catalogue from the next start or reload on. Every version of a
    price stays, so that a receipt can always be checked against the one that it was billed by.
    """
    home, today = load(config).home, day()
    current, proposed = catalogue(home), catalogue(home, read_bounded(file, MAX_BYTES, NOT_ONE))
    begins = None if since is None else _day(since, today)
    found = changes(current, proposed, today)
    if begins is None and any(change.rewrites for change in found):
        _tell_rewrites(found)
        raise typer.Exit(NO)
    text = rows(current, proposed, today, begins)
    path = home / UPDATES
    if text:
        block = f"# Applied on {today} from {visible(file.name).encode('unicode_escape').decode()}\n\n{text}"
        catalogue(home, block.encode())  # what is written can be read again
        _write(path, applied(home) + block.encode())
    if json:
        print_json({"file": str(file), "written": str(path) if text else None, "changes": found})
    else:
        print_table(COLUMNS, [_row(change) for change in found], NUMBERS)
        say(f"{_summary(found)}; written to {path}" if text else "nothing to change")


def _day(text: str, today: str) -> str:
    try:
        since = date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidRequest(f"--since {text[:32]!r} is no day.", hint="Write year-month-day.") from None
    if since < today:
        raise InvalidRequest(f"--since {since} is past: calls since then were billed by the price as it is.")
    return since


def _write(path: Path, data: bytes) -> None:
    """Replace the file in one step, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with new.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(path)


def _row(change: Change) -> tuple[object, ...]:
    percent = None if change.change_percent is None else f"{change.change_percent} %"
    mark = "holds already" if change.rewrites else None
    return (change.model, change.since, change.what, change.before, change.after, percent, mark)


def _summary(found: tuple[Change, ...]) -> str:
    models = len({change.model for change in found})
    return f"{len(found)} changes of {models} models" if found else "no change"


def _tell_rewrites(found: tuple[Change, ...]) -> None:
    prices = sorted({f"{change.model} since {change.since}" for change in found if change.rewrites})
    note(f"Other figures for what calls were billed by: {', '.join(prices)}.")
    note("`penstock models apply FILE --since DAY` takes them from a day on, and keeps what holds until then.")
