"""How commands open the ledger to read it, and the moments that people type."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import InvalidRequest
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import read_moment, zone_of
from penstock.ledger.store import Span, Store
from penstock.settings import Config


@contextmanager
def open_store(config: Config) -> Iterator[Store]:
    """Open the ledger to read; what a process that died left behind is settled first."""
    ledger = Ledger.open(config.home, now_ns=time.time_ns())
    try:
        yield ledger.store
    finally:
        ledger.close()


def read_span(since: str, until: str | None, zone: str = "UTC") -> Span:
    """Read an interval, up to now if no end is given. Raises InvalidRequest."""
    now_ns, where = time.time_ns(), zone_of(zone)
    begin = read_moment(since, now_ns, where)
    end = now_ns if until is None else read_moment(until, now_ns, where, "until")
    if begin > end:
        raise InvalidRequest(f"since {since!r} is after {'now' if until is None else f'until {until!r}'}.")
    return Span(begin, end)
