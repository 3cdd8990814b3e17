"""What calls give back and what they cost, booked in the budgets that processes share, many of them at once.

In the line: `shared_budgets.py` puts here how each hold ended. A balance may never be ahead of its receipt. So where the
receipt of a call waits for the end of the turn of the loop, its booking does as well, just behind it, and what has ended in
that turn is booked under one lock, before anybody's answer leaves. Without a loop, and for a call that is alone, it is
booked at once.

A process that dies between the two leaves holds behind, which `sweeping.py` settles by the receipts.
"""

from collections.abc import Sequence
from contextlib import suppress

from penstock.errors import Overloaded
from penstock.ledger.balances import LOG_WORDS, Balances
from penstock.ledger.limits import Hold, Period
from penstock.ledger.recording import Recording
from penstock.outbox import Outbox

Ended = tuple[Hold, int]
"""A hold, and what is booked for it."""


class Bookings:
    """What has ended in this process and is not booked yet, under whichever configuration it began."""

    __slots__ = ("_is_due", "_outbox", "_records", "_table", "_waiting")

    def __init__(self, table: Balances) -> None:
        self._table = table
        self._waiting: list[Ended] = []
        self._outbox: Outbox | None = None
        self._records: Recording | None = None
        self._is_due = False  # the outbox has it done at the end of this turn

    def gather(self, outbox: Outbox, records: Recording) -> None:
        """Book at the end of a turn what has its receipt among these records written then."""
        self._outbox, self._records = outbox, records

    @property
    def is_late(self) -> bool:
        """Whether something is still to be booked that the end of this turn does not see to: somebody sat on the file."""
        return not self._is_due and bool(self._waiting)

    def add(self, hold: Hold, cost_nano_usd: int) -> None:
        """Give a hold back and book the cost, after its receipt; as soon as it can be, where somebody sits on the file."""
        self._waiting.append((hold, cost_nano_usd))
        if self._is_due:
            return
        if self._outbox is not None and self._records is not None and self._records.receipts_wait:
            self._is_due = True
            self._outbox.before(self._end_turn)
        else:
            self.finish()

    def _end_turn(self) -> None:
        self._is_due = False
        self.finish()

    def finish(self) -> None:
        """Book all of it, unless somebody sits on the file."""
        if self._waiting:
            with suppress(Overloaded):
                self.acquire()
                self._table.release()

    def acquire(self) -> None:
        """Take the lock of the file, and have everything booked then. Raises `Overloaded`."""
        records = self._records
        while self._waiting and records is not None and records.receipts_wait:
            records.commit()  # which may end calls that it cannot write down
        self._table.acquire()
        if self._waiting:
            try:
                self._book()
            except BaseException:
                self._table.release()
                raise

    def _book(self) -> None:
        """Book all of it, for whoever has the lock; holds in the same periods together, as far as the log has room."""
        table, waiting = self._table, self._waiting
        if waiting[0][0].periods is not waiting[-1][0].periods:
            waiting.sort(key=_turn)
        while waiting:
            periods: Sequence[Period] = waiting[0][0].periods
            room = LOG_WORDS // 2 - 2 * len(periods)
            records, held, cost, count = list[int](), 0, 0, 0
            for hold, spent in waiting:
                if hold.periods is not periods or count == room:
                    break
                if hold.record:
                    records.append(hold.record)
                    held += hold.ceiling_nano_usd
                if spent > 0:
                    cost += spent
                count += 1
            table.close_records(records, held, [(period.line, period.key) for period in periods], cost)
            del waiting[:count]
            table.free(records)


def _turn(ended: Ended) -> tuple[bool, int]:
    """Order what is booked at once: those alike follow one another, behind all that cost nothing.

    So a call's first hold, which books it all, stays behind its others: while it is open, a dead worker's call is known as
    not booked.
    """
    return ended[1] > 0, id(ended[0].periods)
