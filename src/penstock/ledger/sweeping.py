"""After a worker's death: what it held is settled, once, by what its calls cost according to the receipts.

A call that died after its intent was written costs what the recovery of journals says, its ceiling; one whose receipt was
written, what that says; one that had not got so far, nothing. All three can be read from the journals and the store, so a
sweep neither waits for the recovery nor does its work: reading the journals first and the store after them finds every
call, since a journal goes only when the store has what it said.

Also gives what was spent according to both, for balances that are made anew. Reads only, except for the balances.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from penstock.errors import Internal
from penstock.ledger.balances import MOST, START, Balances
from penstock.ledger.budgets import SumUp
from penstock.ledger.holding import Open
from penstock.ledger.ids import id_bytes
from penstock.ledger.reading import read_all, segments_of, writers
from penstock.ledger.records import Intent
from penstock.ledger.rows import COLUMNS, Row
from penstock.ledger.store import FILE, Span, Store, Sums

_TRIES = 20
SLOW_S = 10.0

_COLUMNS: Final = ("id", "started_ns", "cost_nano_usd", "feature", "model", "team", "user", "key_id")
_of_row = itemgetter(*(COLUMNS.index(name) for name in _COLUMNS))


class Journalled(Struct, frozen=True, gc=False):
    """A call that a journal knows: with the cost of its receipt or, without one, what was held for it."""

    id: bytes
    started_ns: int
    cost_nano_usd: int
    feature: str | None
    model: str | None
    team: str | None
    user: str | None
    key: str | None


class Journals(Struct, frozen=True):
    """What stands in all journals of a home; `newer` says that a later version wrote one, which cannot be read."""

    calls: dict[bytes, Journalled]
    newer: bool = False


def sweep(home: Path) -> int:
    """Settle what dead processes of this home held; give how many holds that were.

    Any process may call it at any time, in any thread. Raises `Internal` and `Overloaded`; what is left is for next time.
    """
    table = Balances.visit(home)
    if table is None:
        return 0
    try:
        return sum(_sweep(table, number, home) for number in table.dead())
    finally:
        table.close()


def _sweep(table: Balances, number: int, home: Path) -> int:
    table.acquire(SLOW_S)
    try:
        found = table.opened(number)
        starts = {record.at: sum(table.words[line + START] for line in record.lines) for record in found}
    finally:
        table.release()
    journals = read_journals(home) if found else Journals({})
    if journals.newer:
        return 0
    with _store(home) as store:
        costs = {call: _cost(call, store, journals) for call in {record.call for record in found}}
    found.sort(key=lambda record: starts[record.at], reverse=True)
    first = {record.call: record.at for record in found}  # a call's first hold books it all, and is settled last
    for record in found:
        _settle(table, record, costs[record.call] if first[record.call] == record.at else 0)
    table.acquire(SLOW_S)
    try:
        table.disown(number)
    finally:
        table.release()
    return len(found)


def _settle(table: Balances, record: Open, cost: int) -> None:
    table.acquire(SLOW_S)
    try:
        lines = [(line, table.words[line]) for line in record.lines]
        table.close_records([record.at], record.ceiling, lines, min(max(cost, 0), MOST))
    finally:
        table.release()


def _cost(call: bytes, store: Store, journals: Journals) -> int:
    receipt = store.call(call)
    if receipt is not None:
        return max(receipt.cost_nano_usd or 0, 0)
    known = journals.calls.get(call)
    return 0 if known is None else known.cost_nano_usd


@contextmanager
def _store(home: Path) -> Iterator[Store]:
    store = Store.open(home / FILE)
    try:
        yield store
    finally:
        store.close()


# -- the journals --


def read_journals(home: Path) -> Journals:
    """Read what the journals of the living and the dead know. Raises `Internal`."""
    folder = home / "journal"
    calls: dict[bytes, Journalled] = {}
    newer = False
    try:
        for writer in writers(folder):
            for segment in segments_of(folder, writer):
                newer |= _read(segment, calls)
    except OSError as error:
        raise Internal(f"The journal {error.filename} cannot be read: {error.strerror}.") from None
    return Journals(calls, newer)


def _read(segment: Path, calls: dict[bytes, Journalled]) -> bool:
    newer = False
    try:
        for reading in read_all(segment):
            newer |= reading.newer
            for value in reading.values:
                call = _journalled(value)
                calls[call.id] = call
    except FileNotFoundError:  # it went while we read it, so the store has what it said
        pass
    return newer


def _journalled(value: Intent | Row) -> Journalled:
    if isinstance(value, Intent):
        cost = value.hold_nano_usd or 0
        names = (value.feature, value.model, value.team, value.user, value.key_id)
        return Journalled(id_bytes(value.id), value.started_ns, cost, *names)
    fields: tuple[Any, ...] = _of_row(value)
    call, started_ns, cost, *texts = fields
    return Journalled(bytes(call), started_ns or 0, max(cost or 0, 0), *(text or None for text in texts))


@contextmanager
def sums_of(home: Path) -> Iterator[SumUp]:
    """Give a `SumUp` that counts what only journals know as well, calls in progress at their ceilings."""
    journals = read_journals(home)
    unknown = dict(journals.calls)
    with _store(home) as store:

        def sums(span: Span, by: Sequence[str]) -> list[Sums]:
            return _sums(store, unknown, span, by)

        yield sums


def _sums(store: Store, unknown: dict[bytes, Journalled], span: Span, by: Sequence[str]) -> list[Sums]:
    """Sum both up. While others go on moving calls from one to the other, one may count twice, and none goes missing."""
    for _ in range(_TRIES):
        version = store.data_version()
        found = store.sums(span, by)
        for call in [call for call in unknown if store.call(call) is not None]:
            del unknown[call]
        if store.data_version() == version:
            break
    else:
        found = store.sums(span, by)
    within = [one for one in unknown.values() if span.since_ns <= one.started_ns < span.until_ns]
    return found + [_alone(one) for one in within]


def _alone(call: Journalled) -> Sums:
    names = (call.feature, call.model, call.team, call.user, call.key)
    return Sums(*names, None, 0, 1, 0, 0, 0, call.cost_nano_usd, 0, 1, 0)
