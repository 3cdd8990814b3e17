"""After a crash: what the journals of the dead say becomes rows of the store.

A journal whose lock can be taken belongs to a dead writer. Its receipts are added where they are missing. An intent
without a receipt is a call that died with its process: nobody knows what the provider did, so it costs what was held
for it, its ceiling, and is marked as an estimate. Only when that is safe in the store is the journal deleted.

Every step can be repeated and can be done by several processes at once: the lock lets one of them read a journal, and a
call that the store knows by its id is never added again.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from penstock.ledger.ids import id_bytes
from penstock.ledger.journal import LOCK, lock
from penstock.ledger.reading import CORRUPT, read_all, segments_of, writers
from penstock.ledger.records import Intent
from penstock.ledger.rows import Row, row_of
from penstock.ledger.store import Store, checkpoint
from penstock.receipt import Attempt, CostStatus, Receipt, Usage

_BATCH = 512


class Recovery(Struct, frozen=True):
    """What was found in the journals of dead writers.

    journals     how many were read
    added        receipts that the store did not have yet, interrupted calls among them
    interrupted  calls that died with their process
    corrupt      places that could not be read; the files that hold them are kept under `.corrupt`
    torn         segments with an unfinished end, as a crash leaves them
    newer        journals left alone, since a later version of this program wrote them
    """

    journals: int = 0
    added: int = 0
    interrupted: int = 0
    corrupt: int = 0
    torn: int = 0
    newer: int = 0

    def __add__(self, other: "Recovery") -> "Recovery":
        return Recovery(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


def interrupted(intent: Intent) -> Receipt:
    """Give the receipt of a call that died with its process: it costs what was held for it."""
    cost = intent.hold_nano_usd
    status: CostStatus = "unpriced" if cost is None else "estimated" if cost else "free"
    tries: tuple[Attempt, ...] = ()
    if intent.target is not None:
        only = Attempt(intent.target, status="interrupted", error="interrupted", cost_nano_usd=cost, cost_status=status)
        tries = (only,)
    return Receipt(
        id=intent.id,
        started_ns=intent.started_ns,
        dialect=intent.dialect,
        model=intent.model,
        status="interrupted",
        http_status=500,
        streamed=intent.streamed,
        key_id=intent.key_id,
        team=intent.team,
        feature=intent.feature,
        user=intent.user,
        session=intent.session,
        target=intent.target,
        error="interrupted",
        error_origin="gateway",
        usage=Usage(source="none"),
        cost_nano_usd=cost,
        cost_status=status,
        config_hash=intent.config_hash,
        tries=tries,
    )


def recover(folder: Path, store: Store, *, own: str = "") -> Recovery:
    """Read the journals of every dead writer but `own` into the store. Raises `OSError`, `Internal` and `StoreBusy`."""
    total = Recovery()
    for writer in writers(folder):
        if writer == own:
            continue
        held = lock(folder, writer)
        if held is None:
            continue
        try:
            total += _recover(folder, writer, store)
        finally:
            os.close(held)
    return total


def _recover(folder: Path, writer: str, store: Store) -> Recovery:
    segments = segments_of(folder, writer)
    reader = _Reader(segments)
    added = _add(store, reader.rows())
    if reader.newer:
        return Recovery(journals=1, added=added, newer=1)
    orphans = _add(store, (row_of(interrupted(intent)) for intent in reader.open.values()))
    if checkpoint(store.path):
        _clean(folder, writer, segments, reader.damaged)
    return Recovery(
        journals=1 if segments else 0,
        added=added + orphans,
        interrupted=orphans,
        corrupt=reader.corrupt,
        torn=reader.torn,
    )


def _add(store: Store, rows: Iterable[Row]) -> int:
    added = 0
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            added += store.add(batch)
            batch = []
    return added + (store.add(batch) if batch else 0)


def _clean(folder: Path, writer: str, segments: list[Path], damaged: set[Path]) -> None:
    for path in segments:
        if path in damaged:
            path.rename(path.with_name(path.name + CORRUPT))
        else:
            path.unlink(missing_ok=True)
    (folder / f"{writer}{LOCK}").unlink(missing_ok=True)


class _Reader:
    """Reads a dead writer's segments once: gives its receipts' rows in order and keeps the intents that have none."""

    def __init__(self, segments: list[Path]) -> None:
        self.segments = segments
        self.open: dict[bytes, Intent] = {}
        self.corrupt = 0
        self.torn = 0
        self.newer = False
        self.damaged: set[Path] = set()

    def rows(self) -> Iterator[Row]:
        for path in self.segments:
            end = 0
            for reading in read_all(path):
                end = reading.end
                self.newer |= reading.newer
                if reading.corrupt:
                    self.corrupt += reading.corrupt
                    self.damaged.add(path)
                for value in reading.values:
                    if isinstance(value, Intent):
                        self.open[id_bytes(value.id)] = value
                    else:
                        self.open.pop(bytes(value[0]), None)
                        yield value
            self.torn += end < path.stat().st_size
