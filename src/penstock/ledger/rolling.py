"""Makes the sums that are kept: what calls of whole quarters of an hour and of whole days (UTC) come to, once those are over.

Beside the line: a thread of `ledger.py` runs it now and then, with a connection of its own. A bucket (a quarter or a day)
is marked first, then read, then its sums are kept, if the mark is still there: whoever adds a call of that time meanwhile
takes the mark away. So nothing waits while calls are read, several processes may do it at once, and one that dies
leaves a mark that says nothing.

Sums are kept only where they pay: of enough calls, and where those fall into much fewer groups. Whatever is not kept is
summed from the calls, exactly so.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from penstock.ledger import sql, summing
from penstock.ledger.database import Database, StoreBusy
from penstock.ledger.periods import QUARTER_NS
from penstock.ledger.rollups import DAY, LATE_NS, PAIRS, WAYS, WIDE, Span, bounds, part_of, pieces
from penstock.ledger.rows import Row

LEAST: Final = MappingProxyType({1: 1000, DAY: 500})
"""Calls below which a quarter, or a day, is left alone."""
PAYS: Final = MappingProxyType({1: 8, DAY: 3})
"""Groups of a quarter, or of a day, are kept where so many calls fall into each, on average."""
AGAIN: Final = 2
"""A way that did not pay is tried again where so many times the calls fell into a bucket."""

_MADE_WITHIN_NS: Final = 600_000_000_000
_REST_S = 0.002
_PID_BITS: Final = 22
"""Of the number that tells who makes a bucket's sums: which process, beside when it began."""
_USER: Final = WAYS.index(("user",))
_DAY_NS: Final = DAY * QUARTER_NS


class Rolling(Database):
    """One connection that makes sums. `vain` remembers which ways did not pay, and of how many calls."""

    vain: dict[tuple[int, int], int]

    def _prepare(self) -> None:
        super()._prepare()
        self.vain = {}

    def roll(self, now_ns: int, *, most: int | None = None) -> int:
        """Make the sums of what is over and has none yet, at most so many; give how many buckets that were.

        `now_ns` is the wall clock. Raises `StoreBusy` as well, once `pace` says that it is enough.
        """
        done = 0
        with self._told():
            for statement in summing.WORKSHOP:
                self._execute(statement)
            try:
                for quarters, quarter in self._todo(now_ns):
                    done += 1
                    self._make(quarters, quarter, now_ns)
                    if done == most:
                        break
            finally:
                for statement in summing.NO_WORKSHOP:
                    self._execute(statement)
        return done

    def _todo(self, now_ns: int) -> Iterator[tuple[int, int]]:
        """Give the buckets that are over, have calls and no mark: the quarters of a day, then the day."""
        first = self._execute(summing.FIRST_CALL).fetchone()
        if first is None:
            return
        over = (now_ns - LATE_NS) // QUARTER_NS
        day, today = first[0] // _DAY_NS * DAY, over // DAY * DAY
        days = self._marked(DAY, day, today, now_ns)
        while day <= today:
            if day not in days and self._count(DAY, day, 1):
                if self._is_worth_it(DAY, day):
                    known = self._marked(1, day, day + DAY, now_ns)
                    for quarter in range(day, min(day + DAY, over)):
                        if quarter not in known and self._is_worth_it(1, quarter):
                            yield 1, quarter
                if day < today:
                    yield DAY, day
            day += DAY

    def _marked(self, quarters: int, first: int, beyond: int, now_ns: int) -> set[int]:
        """Give the buckets that have sums, or of which another process is making them."""
        values = (quarters, first, beyond, now_ns - _MADE_WITHIN_NS)
        return {row[0] for row in self._rows(summing.MARKED, values)}

    def _is_worth_it(self, quarters: int, quarter: int) -> bool:
        return self._count(quarters, quarter, LEAST[quarters]) >= LEAST[quarters]

    def _count(self, quarters: int, quarter: int, most: int) -> int:
        return self._one(summing.COUNT_TO, {**bounds(_span(quarters, quarter)), "most": most})

    def _make(self, quarters: int, quarter: int, now_ns: int) -> None:
        bucket, maker = (quarters, quarter), now_ns >> _PID_BITS << _PID_BITS | os.getpid() & (1 << _PID_BITS) - 1
        with self._transaction():
            self._execute(summing.BEGIN_MAKING, (*bucket, maker))
        ways = 0
        if self._is_worth_it(*bucket):
            with self._transaction(sql.BEGIN_READING):
                ways = self._sum(bucket)
        with self._transaction():
            if self._one(summing.MAKER_OF, (*bucket, maker)):
                for way in range(len(WAYS)):
                    self._execute(summing.FORGET_SUMS, (way, *bucket))
                self._execute(summing.KEEP_SUMS)
                self._execute(summing.MADE, (ways, *bucket))
        self._execute(summing.FORGET_MADE)

    def _sum(self, bucket: tuple[int, int]) -> int:
        """Sum a bucket up in every way; give a bit for each that pays."""
        calls = self._gather(bucket, WAYS[WIDE])
        kept = self._keep(bucket, WIDE, calls)
        for pair in PAIRS:
            self._execute(summing.narrow(pair))
            for name in pair:
                kept |= self._keep(bucket, WAYS.index((name,)), calls, narrowed=True)
            self._execute(summing.FORGET_NARROWED)
        if calls >= self._least(bucket, _USER):
            kept |= self._keep(bucket, _USER, self._gather(bucket, WAYS[_USER]))
        return kept

    def _gather(self, bucket: tuple[int, int], by: Sequence[str]) -> int:
        """Lay out what calls of a bucket come to by these names, from its quarters where those are summed up; give how many."""
        self._execute(summing.FORGET_GATHERED)
        for piece in pieces(_span(*bucket), by, self._marks, (1,) if bucket[0] > 1 else ()):
            statement, values = part_of(piece, by, timed=False, grouped=False)
            self._execute(summing.GATHER + statement, values)
        return self._one(summing.GATHERED)

    def _keep(self, bucket: tuple[int, int], way: int, calls: int, *, narrowed: bool = False) -> int:
        """Make the sums of a way out of what lies there; give its bit if they pay, else take them back."""
        if calls < self._least(bucket, way):
            return 0
        statement = summing.make(WAYS[way], narrowed=narrowed)
        groups = self._execute(statement, {"way": way, "quarters": bucket[0], "quarter": bucket[1]}).rowcount
        if groups * PAYS[bucket[0]] <= calls:
            return 1 << way
        self._execute(summing.NOT_WORTH_IT, (way,))
        self.vain[bucket[0], way] = calls
        return 0

    def _least(self, bucket: tuple[int, int], way: int) -> int:
        """Give of how many calls sums of this way may pay, after what was tried."""
        return self.vain.get((bucket[0], way), 0) * AGAIN

    def _marks(self, quarters: int, first: int, beyond: int) -> list[Row]:
        return self._rows(summing.MARKS, (quarters, first, beyond))


def _span(quarters: int, quarter: int) -> Span:
    return Span(quarter * QUARTER_NS, (quarter + quarters) * QUARTER_NS)


class Roller:
    """Rolls a file up whenever a quarter is over, in short pieces with rests between them, until told to stop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_ns = 0
        self._stopped = False
        self._vain: dict[tuple[int, int], int] = {}

    def run(self, now_ns: int) -> None:
        """Make what sums there are to be made; nothing if that was done since the last quarter ended. Raises `Internal`."""
        if now_ns < self._next_ns or self._stopped:
            return
        rolling = Rolling.open(self._path)
        try:
            rolling.vain = self._vain
            rolling.pace(self._goes_on)
            with suppress(StoreBusy):
                rolling.roll(now_ns)
                self._next_ns = (now_ns - LATE_NS) // QUARTER_NS * QUARTER_NS + QUARTER_NS + LATE_NS
        finally:
            rolling.close()

    def stop(self) -> None:
        """Have it end at once, from any thread."""
        self._stopped = True

    def _goes_on(self) -> bool:
        time.sleep(_REST_S)
        return not self._stopped
