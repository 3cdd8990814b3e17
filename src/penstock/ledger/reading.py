"""Reading journals: the living ledger its own when memory is short, recovery those of the dead.

Opens files for reading only and tolerates whatever a dying writer or a bad disk left in them; what could not be read is
counted, never passed over in silence.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from penstock.ledger.journal import LOCK, LOG
from penstock.ledger.records import (
    HEAD,
    INTENT,
    SCHEMA,
    Head,
    Intent,
    Parsed,
    Seeds,
    Unreadable,
    parse,
    seeds_of,
    unpack_head,
    unpack_intent,
    unpack_receipt,
)
from penstock.ledger.rows import Row

CORRUPT = ".corrupt"
_CHUNK = 256 * 1024


class Reading(Struct, frozen=True):
    """Values in order, where to read on and in which form, and how many places could not be read.

    `newer` says that a later version of this program wrote the segment, which is therefore left alone.
    """

    values: list[Intent | Row]
    end: int
    form: Head
    corrupt: int = 0
    newer: bool = False


def read(path: Path, offset: int = 0, limit: int | None = None, form: Head = Head()) -> Reading:  # noqa: B008 - frozen
    """Read the next values of a segment, at most `limit` records or about 256 KiB. Raises `OSError`.

    `form` is the form of the records where reading does not start at the head.
    """
    parsed = _parse(path, offset, limit)
    values: list[Intent | Row] = []
    corrupt = parsed.corrupt
    for kind, payload in parsed.records:
        try:
            if kind == HEAD:
                form = unpack_head(payload)
                if form.schema > SCHEMA:
                    return Reading([], offset, form, newer=True)
            elif kind == INTENT:
                values.append(unpack_intent(payload, form))
            else:
                values.append(unpack_receipt(payload, form))
        except Unreadable:
            corrupt += 1
    return Reading(values, offset + parsed.end, form, corrupt)


def _parse(path: Path, offset: int, limit: int | None) -> Parsed:
    seeds: Seeds = seeds_of(path.name.removesuffix(CORRUPT))
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, chunk = os.fstat(fd).st_size, _CHUNK
        while True:
            data = os.pread(fd, chunk, offset)
            whole = offset + len(data) >= size
            parsed = parse(data, seeds, whole=whole, limit=limit)
            if parsed.end or whole:
                return parsed
            chunk *= 2
    finally:
        os.close(fd)


def read_all(path: Path) -> Iterator[Reading]:
    """Read a whole segment piece by piece, to its end or its torn tail. Raises `OSError`."""
    form, offset = Head(), 0
    while True:
        reading = read(path, offset, form=form)
        yield reading
        if reading.newer or reading.end == offset:
            return
        offset, form = reading.end, reading.form


def writers(folder: Path) -> list[str]:
    """Name every writer, living or dead, that left something in the folder; oldest first."""
    names = {path.name.removesuffix(LOCK) for path in folder.glob(f"*{LOCK}")}
    names |= {path.name.removesuffix(LOG).rpartition(".")[0] for path in folder.glob(f"*{LOG}")}
    return sorted(name for name in names if name)


def segments_of(folder: Path, writer: str) -> list[Path]:
    """Give the segments of a writer, in the order in which they were written."""
    return sorted(folder.glob(f"{writer}.*{LOG}"))
