"""`penstock calls`: receipts, as a list, one by one, and as they come."""

import time
from typing import Annotated, get_args

import typer
from msgspec import Struct

from penstock.cli.command import command
from penstock.cli.ledger import open_store, read_span
from penstock.cli.options import Config, Json, Since, Until
from penstock.cli.screen import money, print_json, print_line, print_row, print_table
from penstock.config import load
from penstock.errors import InvalidRequest
from penstock.ledger import reports
from penstock.ledger.periods import NS_PER_S
from penstock.ledger.reports import CallShape
from penstock.ledger.store import Filter, Span, Store
from penstock.receipt import Status

app = typer.Typer(help="Receipts of calls.", invoke_without_command=True)

COLUMNS = ("started", "id", "model", "target", "status", "in", "out", "cost", "ms", "tries")
NUMBERS = ("in", "out", "cost", "ms", "tries")
TRY_COLUMNS = ("try", "target", "kind", "status", "tier", "in", "out", "cost", "ms")
TRY_NUMBERS = ("try", "in", "out", "cost", "ms")

TAIL_S = 0.25
TAIL_CALLS = 5000
"""How many calls `tail` looks back over; one that ends after so many that began later is not shown."""


class Which(Struct, frozen=True):
    """Which receipts."""

    since: Since = "24h"
    until: Until = None
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 20
    model: Annotated[str | None, typer.Option(help="Only calls for this model, as the client named it.")] = None
    target: Annotated[str | None, typer.Option(help="Only calls that this target answered: provider/model.")] = None
    team: Annotated[str | None, typer.Option(help="Only calls of this team.")] = None
    feature: Annotated[str | None, typer.Option(help="Only calls of this feature.")] = None
    key: Annotated[str | None, typer.Option(help="Only calls with the key of this id.")] = None
    status: Annotated[
        str | None, typer.Option(help="Only calls that ended so: " + ", ".join(get_args(Status)) + ".")
    ] = None


@app.callback()
@command
def calls(context: typer.Context, which: Which = Which(), config: Config = None, json: Json = False) -> None:  # noqa: B008 - frozen
    """List receipts, newest first."""
    if context.invoked_subcommand is not None:
        return
    if which.status not in (None, *get_args(Status)):
        raise InvalidRequest(
            f"No call ends with the status {which.status!r}.", hint=f"Use {', '.join(get_args(Status))}."
        )
    wanted = Filter(
        read_span(which.since, which.until),
        team=which.team,
        feature=which.feature,
        model=which.model,
        key=which.key,
        target=which.target,
        status=which.status,
    )
    with open_store(load(config)) as store:
        found = reports.calls(store, wanted, which.limit)
    if json:
        print_json(found)
    else:
        print_table(COLUMNS, [_row(call) for call in found.calls], NUMBERS)


@app.command()
@command
def show(
    call_id: Annotated[str, typer.Argument(help="The receipt's id: x-penstock-call, or from `penstock calls`.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Show one receipt, whole."""
    with open_store(load(config)) as store:
        call = reports.show(store, call_id)
    if json:
        print_json(call)
        return
    print_table(("receipt", call.id), list(_facts(call)))
    if call.tries:
        print_table(TRY_COLUMNS, [_try(number, call) for number in range(1, len(call.tries) + 1)], TRY_NUMBERS)


@app.command()
@command
def tail(config: Config = None, json: Json = False) -> None:
    """Follow receipts as calls end.

    One line each, with --json one document a line; an interrupt (Ctrl-C) ends it.
    """
    loaded = load(config)
    longest_ns = int(loaded.server.deadline_s * NS_PER_S)
    try:
        with open_store(loaded) as store:
            seen = {call.id for call in _recent(store, longest_ns)}
            version = store.data_version()
            while True:
                time.sleep(TAIL_S)
                if store.data_version() == version:
                    continue
                version = store.data_version()
                found = _recent(store, longest_ns)
                for call in reversed(found):
                    if call.id not in seen:
                        print_line(call) if json else print_row(_row(call))
                seen = {call.id for call in found}
    except KeyboardInterrupt:
        pass  # the way to end it


def _recent(store: Store, longest_ns: int) -> tuple[CallShape, ...]:
    """Give the calls that may have ended lately: those that began within the longest time that a call may take."""
    now_ns = time.time_ns()
    return reports.calls(store, Filter(Span(now_ns - longest_ns - NS_PER_S, now_ns + NS_PER_S)), TAIL_CALLS).calls


def _status(call: CallShape) -> str:
    return call.status if call.error is None else f"{call.status} ({call.error})"


def _row(call: CallShape) -> tuple[object, ...]:
    usage = call.usage
    return (
        *(call.started_at[:19], call.id, call.model, call.target, _status(call)),
        *(usage.input_tokens, usage.output_tokens, money(call.cost_usd), f"{call.total_ms:.0f}", len(call.tries)),
    )


def _facts(call: CallShape) -> list[tuple[object, ...]]:
    """Give what a receipt says, line by line; what it does not know is left out."""
    usage = call.usage
    facts: dict[str, object] = {
        "started": call.started_at,
        "status": f"{_status(call)}, HTTP {call.http_status}",
        "model": call.model,
        "target": call.target,
        "finish": call.finish_reason,
        "key": call.key,
        "team": call.team,
        "feature": call.feature,
        "user": call.user,
        "session": call.session,
        "tokens": f"{usage.input_tokens} in ({usage.cached_input_tokens} cached), "
        f"{usage.output_tokens} out ({usage.reasoning_tokens} reasoning), said by: {usage.source}",
        "cost": f"{money(call.cost_usd)} ({call.cost_status})",
        "cache saved": _saved(call.cache_saved_usd),
        "routing saved": _saved(call.routing_saved_usd),
        "first content": None if call.ttft_ms is None else f"after {call.ttft_ms:.1f} ms",
        "took": f"{call.total_ms:.1f} ms",
        "form": f"{call.dialect or 'library'}, {'streamed' if call.streamed else 'whole'}",
        "lane": call.lane,
        "dropped": ", ".join(call.dropped) or None,
    }
    return [(name, fact) for name, fact in facts.items() if fact is not None]


def _try(number: int, call: CallShape) -> tuple[object, ...]:
    one = call.tries[number - 1]
    tokens = (None, None) if one.usage is None else (one.usage.input_tokens, one.usage.output_tokens)
    status = one.status if one.error is None else f"{one.status} ({one.error})"
    cost, took = money(one.cost_usd), f"{one.total_ms:.0f}"
    return (number, one.target, one.kind, status, one.service_tier, *tokens, cost, took)


def _saved(usd: str) -> str | None:
    return None if usd == "0" else money(usd)
