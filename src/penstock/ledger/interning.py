"""What many calls have in common, as numbers: callers and kinds, each stored once and known here by its number.

In the line: `Store.add` packs rows with it, within its transaction. A process remembers the numbers it has met; what it has
not met is looked up, and added where it is new, so that all processes use the same number for the same. Never reads a
clock, and knows nothing of what the texts mean.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from penstock.ledger import sql
from penstock.ledger.rows import CALLER, COMMON, Row

MOST: Final = 65_536
"""Callers, or kinds, or pairs of both, that are remembered; then remembering begins anew."""


class Found(Protocol):
    """A cursor."""

    lastrowid: int | None

    def fetchone(self) -> Any:
        """Give the next row, or None."""
        ...


class Execute(Protocol):
    """The door's way to run a statement."""

    def __call__(self, statement: str, values: Any = ..., /) -> Found:
        """Run it with these values."""
        ...


class Interning:
    """The numbers that one connection knows."""

    __slots__ = ("_callers", "_execute", "_kinds", "_pairs")

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._callers: dict[Row, int] = {}
        self._kinds: dict[Row, int] = {}
        self._pairs: dict[Row, Row] = {}

    def pack(self, rows: Sequence[Row]) -> list[Row]:
        """Put numbers in place of what is common, within a transaction that writes; `forget` if that fails."""
        known, pair, first, own = self._pairs.get, self._pair, COMMON.start, COMMON.stop
        return [row[:first] + (known(row[COMMON]) or pair(row[COMMON])) + row[own:] for row in rows]

    def forget(self) -> None:
        """Forget all numbers: some may be of a transaction that came to nothing."""
        self._pairs.clear()
        self._callers.clear()
        self._kinds.clear()

    def _pair(self, common: Row) -> Row:
        """Give the numbers of a caller and a kind, which are stored apart."""
        caller, kind = common[: len(CALLER)], common[len(CALLER) :]
        pair = (
            self._callers.get(caller) or self._number(self._callers, caller, sql.CALLER_OF, sql.ADD_CALLER),
            self._kinds.get(kind) or self._number(self._kinds, kind, sql.KIND_OF, sql.ADD_KIND),
        )
        if len(self._pairs) >= MOST:
            self._pairs.clear()
        self._pairs[common] = pair
        return pair

    def _number(self, known: dict[Row, int], common: Row, look_up: str, add: str) -> int:
        if len(known) >= MOST:
            known.clear()
        found = self._execute(look_up, common).fetchone()
        number = found[0] if found else self._execute(add, common).lastrowid
        assert isinstance(number, int), "a row that was added has a number"
        known[common] = number
        return number
