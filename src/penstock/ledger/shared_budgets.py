"""Budgets that several processes of one machine share, exact whichever of them dies when.

In the line: as `budgets.py`, whose face and rules these are; what is spent and held stands in the file of `balances.py`
instead of in memory. A hold takes its lock, looks, writes and gives the lock back: microseconds, and no round trip. What
ends is booked by `booking.py`, as soon as its receipt is written.

A call's hold carries its id. So when a process dies, `sweeping.py` settles each of its holds by what that call cost:
balance = receipts + open holds, at every moment, and the sum of the two never exceeds a hard limit. Figures of periods
that nobody has booked in yet are summed up from the receipts.

A balance of a key or a user is added by whichever process sees it first. What had been spent by all of them is added
before any process makes calls, under a mark of its own, so that a balance that is missing later has nothing spent in it.
A key without a budget is only counted, when its calls end: they hold nothing, and take no lock before that.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

from penstock.call import Limits, Who
from penstock.errors import Overloaded
from penstock.ledger.balances import EPOCH, MOST, SPENT, TAKEN, Balances, Key
from penstock.ledger.booking import Bookings
from penstock.ledger.budgets import Budgets, Count, sum_of_each, sum_up
from penstock.ledger.holding import packed
from penstock.ledger.ids import id_bytes
from penstock.ledger.limits import WALLETS, Budget, Each, Hold, Limit, Period, Scope, Single, exhausted, unpriced
from penstock.ledger.periods import Window, bounds
from penstock.ledger.processes import PATIENCE_S
from penstock.ledger.recording import Recording
from penstock.ledger.store import Span
from penstock.ledger.sweeping import sums_of, sweep
from penstock.outbox import Outbox

SLOW_S = 10.0
AT_ONCE = 256
"""Balances that are added or looked at before others get the lock."""


class SharedBudgets(Budgets):
    """Every budget of a configuration, in the file that the processes of this home share.

    `before` is what this object takes the place of when a configuration is taken over. Raises `Internal` and `Overloaded`
    where the file cannot be used; opening also settles what dead processes held.
    """

    def __init__(
        self,
        limits: Iterable[Limit],
        *,
        now_ns: int,
        home: Path,
        before: "SharedBudgets | None" = None,
        each: Each | None = None,
    ) -> None:
        super().__init__(limits, now_ns=now_ns, each=each)
        self._home = home
        self._table: Balances
        self._bookings: Bookings
        self._places: dict[tuple[str | None, ...], _Place] = {}
        self._most_places = WALLETS
        if before is not None:
            self._table, self._bookings = before._table, before._bookings  # noqa: SLF001 - of the same class
            before._most_places = 0  # noqa: SLF001 - the limits of keys and users are common to both
            before._places.clear()  # noqa: SLF001
            self._adopt(self._budgets, now_ns)
            self._adopt_all(now_ns)
            self._take_over(before, now_ns)
            return
        self._table = Balances.attach(home)
        self._bookings = Bookings(self._table)
        try:
            sweep(home)
            self._adopt(self._budgets, now_ns)
            self._adopt_all(now_ns)
        except BaseException:
            self._table.close()
            raise

    def gather(self, outbox: Outbox, records: Recording) -> None:
        """Let what is booked wait for the end of the turn of the loop where its receipt does, which is among these records."""
        self._bookings.gather(outbox, records)

    def close(self) -> None:
        """Leave the processes that share the budgets; what is still held, another one settles."""
        self._bookings.finish()
        self._table.close()

    # -- where the figures stand --

    def _adopt(self, budgets: Sequence[Budget], now_ns: int) -> None:
        """Find the lines of these budgets' periods; add what is missing, with what was spent according to the receipts."""
        table, fresh = self._table, []
        table.acquire(SLOW_S)
        try:
            for budget in budgets:
                key = _key(*budget.identity, budget.period.start_ns)
                line = table.find(key)
                if line:
                    budget.period.line, budget.period.key = line, key[0]
                else:
                    fresh.append(budget)
        finally:
            table.release()
        if not fresh:
            return
        with sums_of(self._home) as sums:
            sum_up(fresh, sums)
        for budget in fresh:
            self._place(budget, budget.period, now_ns, SLOW_S)

    def _adopt_all(self, now_ns: int) -> None:
        """Add what each key and each user has spent, unless somebody has, in all that they are counted in."""
        missing = []
        for count in self._counts():
            kind, window, zone = count
            start_ns, end_ns = self._span(window, zone, now_ns)
            mark = _key(Scope(kind, _MARK), window, zone, start_ns)
            if not self._find(mark):
                missing.append((count, mark, (start_ns, end_ns)))
        if not missing:
            return
        with sums_of(self._home) as sums:
            for count, mark, span in missing:
                self._add_all(count, span, sum_of_each(sums, Span(*span), count[0]), now_ns)
                self._create(mark, span, 0, now_ns, SLOW_S)

    def _add_all(self, count: Count, span: tuple[int, int], spent: dict[str, int], now_ns: int) -> None:
        """Add balances that are not there yet, a few at a time."""
        kind, window, zone = count
        names = iter(spent.items())
        while some := list(islice(names, AT_ONCE)):
            table = self._table
            table.acquire(SLOW_S)
            try:
                for name, cost in some:
                    key = _key(Scope(kind, name), window, zone, span[0])
                    if not table.find(key):
                        table.create(key, span, min(cost, MOST), now_ns)
            finally:
                table.release()

    def _find(self, key: Key) -> int:
        table = self._table
        table.acquire(SLOW_S)
        try:
            return table.find(key)
        finally:
            table.release()

    def _create(self, key: Key, span: tuple[int, int], spent: int, now_ns: int, patience_s: float) -> int:
        """Find a line; if there is none, add it."""
        table = self._table
        table.acquire(patience_s)
        try:
            return table.find(key) or table.create(key, span, min(spent, MOST), now_ns)
        finally:
            table.release()

    def _make(self, limits: Iterable[Limit], now_ns: int) -> tuple[Budget, ...]:
        """Make budgets of a key or a user, whose lines others may have added. Raises `Overloaded`."""
        made = super()._make(limits, now_ns)
        for budget in made:
            self._place(budget, budget.period, now_ns, PATIENCE_S)
        return made

    def _place(self, budget: Budget, period: Period, now_ns: int, patience_s: float) -> None:
        """Find the line of a period; if there is none, add it, with as much spent as the period says."""
        key = _key(*budget.identity, period.start_ns)
        period.line = self._create(key, (period.start_ns, period.end_ns), period.spent, now_ns, patience_s)
        period.key = key[0]

    def _roll(self, budget: Budget, now_ns: int) -> None:
        """Begin the period of `now_ns`: with what others have spent in it already, which is nothing for the first of all."""
        period = Period(*bounds(budget.limit.window, now_ns, budget.zone))
        self._place(budget, period, now_ns, SLOW_S)
        budget.period = period
        self._places.clear()

    def _key(self, key_id: str, who: Who, now_ns: int) -> Single:
        self._places.clear()  # they know the walls of before
        return super()._key(key_id, who, now_ns)

    def _forget(self, now_ns: int) -> None:
        for each in (self._keys, self._users):
            for single in each.values():
                self._glance(single.budgets)
        super()._forget(now_ns)
        self._places.clear()

    # -- as in memory --

    def hold(self, who: Who, ceiling_nano_usd: int | None, now_ns: int, call_id: str = "", model: str = "") -> Hold:
        """Reserve the ceiling in every budget that applies, or in none and raise `BudgetExhausted`.

        `call_id` is the id of the call's intent and receipt, which are written after this. Raises `Overloaded` where
        another process is stopped in the middle of a booking.
        """
        names = (who.team, who.feature, who.key_id, who.user, model)
        place = self._places.get(names)
        if place is None or ceiling_nano_usd is None or now_ns >= place.end_ns or who.limits is not place.limits:
            return self._hold_anew(who, ceiling_nano_usd, now_ns, call_id, names)
        if not place.packed:
            return Hold(0, place.budgets, place.periods)
        if self._bookings.is_late:
            return self._hold_anew(who, ceiling_nano_usd, now_ns, call_id, names)
        call, table = id_bytes(call_id), self._table
        table.acquire()
        try:
            words, cells = table.words, [0, ceiling_nano_usd + 1]
            for at, wall in place.walls if words[EPOCH] == place.epoch else _NOWHERE:
                taken = words[at] + ceiling_nano_usd
                if taken > wall:
                    break
                cells += (at, taken)
            else:
                record = cells[0] = table.record()
                table.open(call, place.packed, cells)
                return Hold(ceiling_nano_usd, place.budgets, place.periods, record)
        finally:
            table.release()
        return self._hold_anew(who, ceiling_nano_usd, now_ns, call_id, names)

    def _hold_anew(
        self, who: Who, ceiling_nano_usd: int | None, now_ns: int, call_id: str, names: tuple[str | None, ...]
    ) -> Hold:
        """Do as `hold`, with everything booked that has ended, and remember where the calls of these names count."""
        budgets = self._applying(who, names[-1] or "", now_ns)
        if not budgets:
            return self._free
        if ceiling_nano_usd is None:
            ceiling_nano_usd = unpriced(budgets)
        counted_only = True
        for budget in budgets:
            if now_ns >= budget.period.end_ns:
                self._roll(budget, now_ns)
            counted_only = counted_only and not budget.is_limited
        periods = [budget.period for budget in budgets]
        if counted_only:
            self._remember(names, budgets, who.limits, b"")
            return Hold(0, budgets, periods)
        call, table = id_bytes(call_id), self._table
        self._bookings.acquire()
        try:
            words, cells, fits = table.words, [0, ceiling_nano_usd + 1], True
            for budget in budgets:
                period = budget.period
                line = period.line
                if words[line] != period.key:
                    break
                self._look(period)
                taken = words[line + TAKEN] + ceiling_nano_usd
                fits = fits and taken <= budget.wall
                cells += (line + TAKEN, taken)
            else:
                if not fits:
                    raise exhausted(budgets, ceiling_nano_usd, now_ns)
                record = cells[0] = table.record()
                lines = packed([period.line for period in periods])
                table.open(call, lines, cells)
                self._remember(names, budgets, who.limits, lines)
                return Hold(ceiling_nano_usd, budgets, periods, record)
        finally:
            table.release()
        self._adopt(budgets, now_ns)  # a clock ran ahead by days, and the line was thought to be over
        return self._hold_anew(who, ceiling_nano_usd, now_ns, call_id, names)

    def _remember(
        self, names: tuple[str | None, ...], budgets: Sequence[Budget], limits: Limits | None, lines: bytes
    ) -> None:
        """Keep the place of a caller who comes again, unless another configuration has the budgets by now."""
        if self._most_places and self._wallets.comes_again(names):
            if len(self._places) >= self._most_places:
                self._places.clear()
            self._places[names] = _Place(budgets, limits, lines, self._table.words[EPOCH])

    def refuse(self, who: Who, ceiling_nano_usd: int | None, now_ns: int, model: str = "") -> None:
        """Take note that a call was refused, in each budget that has too little left for it, by the figures of this moment."""
        self._seen(list(self._applying(who, model, now_ns)), now_ns)
        super().refuse(who, ceiling_nano_usd, now_ns, model)

    def grow(self, hold: Hold, ceiling_nano_usd: int) -> None:
        """Reserve so much instead, in the same periods, or leave it as it was and raise `BudgetExhausted`.

        Less than is held already, or a call that is settled, changes nothing. Raises `Overloaded` as `hold` does.
        """
        more = ceiling_nano_usd - hold.ceiling_nano_usd
        if more <= 0 or not hold.open or not hold.record:
            return
        table = self._table
        self._bookings.acquire()
        try:
            cells = [hold.record, ceiling_nano_usd + 1]
            for period in hold.periods:
                self._look(period)
                cells += (period.line + TAKEN, period.spent + period.held + more)
            self._check_growth(hold, more)
            table.commit(cells)
        finally:
            table.release()
        hold.ceiling_nano_usd = ceiling_nano_usd

    def settle(self, hold: Hold, cost_nano_usd: int) -> None:
        """Give the reservation back and book the cost where the call started; once, however often it is called.

        That is done once the call's receipt is written. Where another process sits on the file, it is done as soon as it
        can be; until then all stays held.
        """
        if hold.open and hold.periods:
            hold.open = False
            self._bookings.add(hold, cost_nano_usd)

    def _shown(self, now_ns: int, whos: Iterable[Who], *, singles: bool) -> list[Budget]:
        return self._seen(super()._shown(now_ns, whos, singles=singles), now_ns)

    def _seen(self, budgets: list[Budget], now_ns: int) -> list[Budget]:
        """Give budgets as they are now; where the file is stuck, perhaps as they are in the middle of a change."""
        try:
            for budget in budgets:
                if now_ns >= budget.period.end_ns:
                    self._roll(budget, now_ns)
            self._look_at(budgets)
        except Overloaded:
            self._glance(budgets)
        return budgets

    def _look_at(self, budgets: Sequence[Budget]) -> None:
        """Read figures, a few at a time. Raises `Overloaded`."""
        table, rest = self._table, iter(budgets)
        while some := list(islice(rest, AT_ONCE)):
            self._bookings.acquire()
            try:
                self._glance(some)
            finally:
                table.release()

    def _glance(self, budgets: Iterable[Budget]) -> None:
        """Read figures; nothing once the file is closed."""
        if self._table.is_open:
            for budget in budgets:
                self._look(budget.period)

    def _look(self, period: Period) -> None:
        """Read a period's figures, if it has a line still."""
        words, line = self._table.words, period.line
        if words[line] == period.key:
            period.spent = spent = words[line + SPENT]
            period.held = words[line + TAKEN] - spent


_NOWHERE: Final = ((0, -1),)
"""Where nothing fits."""


class _Place:
    """What a caller's calls count in, and where that stands in the file: good until the first of the periods is over.

    That is also as long as no balance goes, which begins an `epoch`. `walls` are the places of what is taken, with how much
    that may be; `packed` are the balances as a record has them, and empty where nothing is limited, and so nothing held.
    """

    __slots__ = ("budgets", "end_ns", "epoch", "limits", "packed", "periods", "walls")

    def __init__(self, budgets: Sequence[Budget], limits: Limits | None, lines: bytes, epoch: int) -> None:
        """`limits` are those of the caller's key."""
        self.budgets = budgets
        self.limits = limits
        self.periods = periods = [budget.period for budget in budgets]
        self.end_ns = min(period.end_ns for period in periods)
        self.packed = lines
        self.walls = tuple([(one.line + TAKEN, each.wall) for one, each in zip(periods, budgets, strict=True)])
        self.epoch = epoch


_MARK = ""
"""The name under which it is marked that all of a kind were added; nobody is called so."""


def _key(scope: Scope, window: Window, zone: str, start_ns: int) -> Key:
    """Give what finds a period of a budget in the file; the first number is not 0."""
    digest = blake2b(repr((scope.kind, scope.name, window, zone, start_ns)).encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little", signed=True) or 1, int.from_bytes(digest[8:], "little", signed=True)
