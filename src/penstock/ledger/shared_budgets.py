"""Budgets that several processes of one machine share, exact whichever of them dies when.

In the line: as `budgets.py`, whose face and rules these are; what is spent and held stands in the file of `balances.py`
instead of in memory. A hold takes its lock, looks, writes and gives the lock back: microseconds, and no round trip.

A call's hold carries its id. So when a process dies, `sweeping.py` settles each of its holds by what that call cost:
balance = receipts + open holds, at every moment, and the sum of the two never exceeds a limit. Figures of periods that
nobody has booked in yet are summed up from the receipts.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

from penstock.call import Who
from penstock.errors import Overloaded
from penstock.ledger.balances import HELD, MOST, SPENT, Balances, Key
from penstock.ledger.budgets import (
    Budget,
    Budgets,
    BudgetState,
    Hold,
    Limit,
    Period,
    exhausted,
    no_price,
    sum_up,
)
from penstock.ledger.ids import id_bytes
from penstock.ledger.periods import bounds
from penstock.ledger.sweeping import sums_of, sweep

SLOW_S = 10.0


class SharedBudgets(Budgets):
    """Every budget of a configuration, in the file that the processes of this home share.

    `before` is what this object takes the place of when a configuration is taken over. Raises `Internal` and `Overloaded`
    where the file cannot be used; opening also settles what dead processes held.
    """

    def __init__(
        self, limits: Iterable[Limit], *, now_ns: int, home: Path, before: "SharedBudgets | None" = None
    ) -> None:
        super().__init__(limits, now_ns=now_ns)
        self._home = home
        for budget in self._budgets:
            budget.nano_usd = min(budget.nano_usd, MOST)
        self._table: Balances
        self._late: deque[tuple[Hold, int]]
        if before is not None:
            self._table, self._late = before._table, before._late  # noqa: SLF001 - of the same class
            self._adopt(self._budgets, now_ns)
            return
        self._table, self._late = Balances.attach(home), deque()
        try:
            sweep(home)
            self._adopt(self._budgets, now_ns)
        except BaseException:
            self._table.close()
            raise

    def close(self) -> None:
        """Leave the processes that share the budgets; what is still held, another one settles."""
        self._table.close()

    # -- where the figures stand --

    def _adopt(self, budgets: Sequence[Budget], now_ns: int) -> None:
        """Find the lines of these budgets' periods; add what is missing, with what was spent according to the receipts."""
        table = self._table
        table.acquire(SLOW_S)
        try:
            known = table.all()
        finally:
            table.release()
        fresh = []
        for budget in budgets:
            key = _key(budget, budget.period.start_ns)
            if key in known:
                budget.period.line, budget.period.key = known[key], key[0]
            else:
                fresh.append(budget)
        if not fresh:
            return
        with sums_of(self._home) as sums:
            sum_up(fresh, sums)
        for budget in fresh:
            self._place(budget, budget.period, now_ns)

    def _place(self, budget: Budget, period: Period, now_ns: int) -> None:
        """Find the line of a period; if there is none, add it, with as much spent as the period says."""
        table, key = self._table, _key(budget, period.start_ns)
        table.acquire(SLOW_S)
        try:
            line = table.find(key) or table.create(
                key, (period.start_ns, period.end_ns), min(period.spent, MOST), now_ns
            )
        finally:
            table.release()
        period.line, period.key = line, key[0]

    def _roll(self, budget: Budget, now_ns: int) -> None:
        """Begin the period of `now_ns`: with what others have spent in it already, which is nothing for the first of all."""
        period = Period(*bounds(budget.limit.window, now_ns, budget.zone))
        self._place(budget, period, now_ns)
        budget.period = period

    # -- as in memory --

    def hold(self, who: Who, ceiling_nano_usd: int | None, now_ns: int, call_id: str = "", model: str = "") -> Hold:
        """Reserve the ceiling in every budget that applies, or in none and raise `BudgetExhausted`.

        `call_id` is the id of the call's intent and receipt, which are written after this. Raises `Overloaded` where
        another process is stopped in the middle of a booking.
        """
        budgets = self._applying(who, model)
        if not budgets:
            return self._free
        if ceiling_nano_usd is None:
            raise no_price(budgets[0].limit)
        for budget in budgets:
            if now_ns >= budget.period.end_ns:
                self._roll(budget, now_ns)
        call, table = id_bytes(call_id), self._table
        table.acquire()
        try:
            if self._late:
                self._book_late()
            words, fits = table.words, True
            cells: list[int] = []
            for budget in budgets:
                period = budget.period
                line = period.line
                if words[line] != period.key:
                    break
                spent = period.spent = words[line + SPENT]
                held = period.held = words[line + HELD]
                held += ceiling_nano_usd
                if spent + held > budget.nano_usd:
                    fits = False
                cells += (line + HELD, held)
            else:
                if not fits:
                    raise exhausted(budgets, ceiling_nano_usd, now_ns)
                record = table.record()
                table.open(record, call, ceiling_nano_usd, cells)
                return Hold(ceiling_nano_usd, budgets, [budget.period for budget in budgets], record)
        finally:
            table.release()
        self._adopt(budgets, now_ns)  # a clock ran ahead by days, and the line was thought to be over
        return self.hold(who, ceiling_nano_usd, now_ns, call_id, model)

    def grow(self, hold: Hold, ceiling_nano_usd: int) -> None:
        """Reserve so much instead, in the same periods, or leave it as it was and raise `BudgetExhausted`.

        Less than is held already, or a call that is settled, changes nothing. Raises `Overloaded` as `hold` does.
        """
        more = ceiling_nano_usd - hold.ceiling_nano_usd
        if more <= 0 or not hold.open or not hold.periods:
            return
        table = self._table
        table.acquire()
        try:
            cells = [hold.record, ceiling_nano_usd + 1]
            for period in hold.periods:
                self._look(period)
                cells += (period.line + HELD, period.held + more)
            self._check_growth(hold, more)
            table.commit(cells)
        finally:
            table.release()
        hold.ceiling_nano_usd = ceiling_nano_usd

    def settle(self, hold: Hold, cost_nano_usd: int) -> None:
        """Give the reservation back and book the cost where the call started; once, however often it is called.

        Where another process sits on the file, that is done as soon as it can be; until then all stays held.
        """
        if not hold.open or not hold.periods:
            return
        hold.open = False
        table = self._table
        try:
            table.acquire()
        except Overloaded:
            self._late.append((hold, cost_nano_usd))
            return
        try:
            if self._late:  # in order: a call's first hold, which books it all, is settled after its others
                self._book_late()
            self._book(hold, cost_nano_usd)
        finally:
            table.release()

    def _book(self, hold: Hold, cost_nano_usd: int) -> None:
        table, cost = self._table, min(max(cost_nano_usd, 0), MOST)
        table.close_record(hold.record, hold.ceiling_nano_usd, [period.line for period in hold.periods], cost)
        table.free(hold.record)

    def _book_late(self) -> None:
        late = self._late
        while late:
            self._book(*late.popleft())

    def states(self, now_ns: int) -> tuple[BudgetState, ...]:
        """Give every budget as it is now, in the order of the configuration; as last seen, where the file is stuck."""
        table = self._table
        try:
            for budget in self._budgets:
                if now_ns >= budget.period.end_ns:
                    self._roll(budget, now_ns)
            table.acquire()
        except Overloaded:
            return super().states(now_ns)
        try:
            if self._late:
                self._book_late()
            for budget in self._budgets:
                self._look(budget.period)
        finally:
            table.release()
        return super().states(now_ns)

    def _look(self, period: Period) -> None:
        """Read a period's figures, if it has a line still."""
        words, line = self._table.words, period.line
        if words[line] == period.key:
            period.spent, period.held = words[line + SPENT], words[line + HELD]


def _key(budget: Budget, start_ns: int) -> Key:
    """Give what finds a period of a budget in the file; the first number is not 0."""
    scope, window, zone = budget.identity
    digest = blake2b(repr((scope.kind, scope.name, window, zone, start_ns)).encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little", signed=True) or 1, int.from_bytes(digest[8:], "little", signed=True)
