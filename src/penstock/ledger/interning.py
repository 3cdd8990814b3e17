"""What many calls have in common, as numbers: callers and kinds, each stored once and known here by its number.

In the line: `Store.add` packs rows with it, within its transaction. A process remembers the numbers it has met; what it has
not met is looked up, and added where it is new, so that all processes use the same number for the same. Never reads a
clock, and knows nothing of what the texts mean.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from penstock.ledger import sql
from penstock.ledger.brief import Common, is_brief, wide
from penstock.ledger.rows import CALLER, COMMON, OWN, Row

MOST: Final = 65_536
"""Callers, or kinds, or pairs of both, that are remembered; then remembering begins anew."""
MOST_ALIKE: Final = 2048
"""What brief rows have in common, likewise."""
_FROM_BEHIND: Final = slice(-len(OWN) - 1, -len(OWN))
"""Where in a brief row that stands last the common value is."""
_TEXTS: Final = ("",) * sql.TOGETHER
_ZEROS: Final = (0,) * sql.TOGETHER
_PLAIN: Final = [_TEXTS, _TEXTS, _ZEROS, _ZEROS, _TEXTS, _TEXTS]
"""What stands in plain calls: no user and session; nothing saved; one try, nothing more."""
_PLACES: Final = 15
"""Values of a plain call."""


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

    __slots__ = ("_alike", "_callers", "_execute", "_kinds", "_pairs", "_seen")

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._callers: dict[Row, int] = {}
        self._kinds: dict[Row, int] = {}
        self._pairs: dict[Row, Row] = {}
        self._alike: dict[int, Row] = {}  # of brief rows, by the identity of what they have in common
        self._seen: list[Common] = []  # which therefore has to stay

    def together(self, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """Give the statement that adds `sql.TOGETHER` rows, and its values. Within a transaction, as `pack`."""
        plain = self._plain(rows)
        return (sql.ADD_CALLS, self.pack(rows)) if plain is None else (sql.ADD_PLAIN_CALLS, plain)

    def _plain(self, rows: Sequence[Row]) -> list[Any] | None:
        """Give the values of plain calls that are brief and like others before them, column by column; None where one is not."""
        columns: list[Row] = [*zip(*rows, strict=False)]
        pairs = [*map(self._alike.get, map(id, columns[COMMON.start]))]
        if None in pairs or columns[3:5] + columns[12:14] + columns[18:] != _PLAIN:
            return None
        values: list[Any] = [None] * (_PLACES * len(rows))
        numbers = zip(*pairs, strict=True)
        for place, column in enumerate((*columns[:2], *numbers, *columns[5:12], *columns[14:18])):
            values[place::_PLACES] = column
        return values

    def pack(self, rows: Sequence[Row]) -> list[Any]:
        """Give the values of rows one after the other, with numbers in place of what is common.

        Within a transaction that writes; `forget` if that fails.
        """
        values: list[Any] = []
        alike, place = self._alike.get, COMMON.start
        for row in rows:
            pair = alike(id(row[place]))
            if pair is None:
                values += self._packed(row)
            else:
                values += row
                values[_FROM_BEHIND] = pair
        return values

    def _packed(self, row: Row) -> Row:
        """Do as `pack` for one row that is not brief, or the first of its kind."""
        all_of_it, place = wide(row), COMMON.start
        common = all_of_it[COMMON]
        pair = self._pairs.get(common) or self._pair(common)
        if is_brief(row):
            if len(self._seen) >= MOST_ALIKE:
                self._alike.clear()
                self._seen.clear()
            self._alike[id(row[place])] = pair
            self._seen.append(row[place])
        return all_of_it[:place] + pair + all_of_it[COMMON.stop :]

    def forget(self) -> None:
        """Forget all numbers: some may be of a transaction that came to nothing."""
        self._alike.clear()
        self._seen.clear()
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
