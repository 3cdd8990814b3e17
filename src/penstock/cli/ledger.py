"""`penstock spend` and `penstock calls`: what the ledger knows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import Config, Json, Since, Until, Zone
from penstock.cli.screen import money, print_json, print_table
from penstock.config import load
from penstock.ledger import reports
from penstock.ledger.ids import id_bytes
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import read_moment, zone_of
from penstock.ledger.reports import CallShape, SpendRow
from penstock.ledger.store import Filter, Span, Store

app = typer.Typer(help="Receipts of calls.", invoke_without_command=True)
TAIL_S = 0.5


@contextmanager
def _store(config: str | None) -> Iterator[Store]:
    """Open the ledger to read; what a process that died left behind is settled first."""
    ledger = Ledger.open(load(config).home, now_ns=time.time_ns())
    try:
        yield ledger.store
    finally:
        ledger.close()


def _span(since: str, until: str | None, zone: str) -> Span:
    now_ns, where = time.time_ns(), zone_of(zone)
    return Span(
        read_moment(since, now_ns, where), now_ns if until is None else read_moment(until, now_ns, where, "until")
    )


def spend(
    since: Since = "today",
    until: Until = None,
    by: Annotated[str, typer.Option(help="Of: " + ", ".join(reports.DIMENSIONS) + ".")] = "model",
    zone: Zone = "UTC",
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what was spent; the parts and the unattributed rest always add up to the total."""
    with _store(config) as store:
        found = reports.spend(store, _span(since, until, zone), reports.dimensions(by), zone_of(zone))
    if json:
        print_json(found)
        return

    def row(names: tuple[object, ...], part: SpendRow) -> tuple[object, ...]:
        numbers = (part.calls, part.input_tokens, part.cached_input_tokens, part.output_tokens)
        return (*names, *numbers, money(part.cost_usd), part.cost_status)

    width = max(1, len(found.by))
    rows = [row(tuple(getattr(part, name) for name in found.by), part) for part in found.rows]
    if found.unattributed.calls:
        rows.append(row(("unattributed", *[""] * (width - 1)), found.unattributed))
    rows.append(row(("total", *[""] * (width - 1)), found.total))
    numbers = ("calls", "input", "cached", "output", "cost")
    print_table((*(found.by or ("",)), *numbers, "status"), rows, numbers)


@app.callback()
def calls(
    context: typer.Context,
    since: Since = "24h",
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 20,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of this team.")] = None,
    status: Annotated[str | None, typer.Option(help="ok, error, cancelled, refused ...")] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List receipts, newest first."""
    if context.invoked_subcommand is not None:
        return
    which = Filter(_span(since, until, "UTC"), model=model, team=team, status=status)
    with _store(config) as store:
        found = reports.calls(store, which, limit)
    if json:
        print_json(found)
        return
    print_table(COLUMNS, [_line(call) for call in found.calls], ("in", "out", "cost", "ms", "tries"))


COLUMNS = ("started", "id", "model", "target", "status", "in", "out", "cost", "ms", "tries")


def _line(call: CallShape) -> tuple[object, ...]:
    status = call.status if call.error is None else f"{call.status} ({call.error})"
    usage = call.usage
    return (
        *(call.started_at[:19], call.id, call.model, call.target, status, usage.input_tokens, usage.output_tokens),
        *(money(call.cost_usd), f"{call.total_ms:.0f}", len(call.tries)),
    )


@app.command()
def show(call_id: Annotated[str, typer.Argument(help="The receipt's id.")], config: Config = None) -> None:
    """Show one receipt, whole, as JSON."""
    with _store(config) as store:
        print_json(reports.show(store, call_id))


@app.command()
def tail(config: Config = None, json: Json = False) -> None:
    """Follow receipts as they come, until interrupted; one line each (with --json: one document a line)."""
    with _store(config) as store:
        after, since_ns = b"", time.time_ns()
        while True:
            found = reports.calls(store, Filter(Span(since_ns, time.time_ns()), after=after), 1000).calls
            for call in reversed(found):
                if json:
                    typer.echo(msgspec.json.encode(call).decode())
                else:
                    typer.echo("\t".join("" if cell is None else str(cell) for cell in _line(call)))
                after = max(after, id_bytes(call.id))
            time.sleep(TAIL_S)
