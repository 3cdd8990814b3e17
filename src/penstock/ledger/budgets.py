"""Budgets: what a team, a feature, a key, a user or a model may spend in a day or a month, exact within one process.

In the line: `hold` reserves the most that a call can cost in every budget that applies to it, all or nothing, before a
provider is called; `grow` reserves more for one that outgrows it; `settle` gives the reservation back and books what it
did cost. Between the two the sum of spent and held never exceeds a limit, so no number of calls at once can overspend
one. `shared_budgets.py` does the same for several processes.

Money is integer nano-dollars. Never reads a clock, never touches a disk: what was spent before this process began is
summed by the caller's `sums`. A call counts in the day and month in which it started, whenever it ends.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from penstock.call import Who
from penstock.errors import BudgetExhausted
from penstock.ledger.periods import NS_PER_S, Window, bounds, iso, zone_of
from penstock.ledger.store import Span, Sums
from penstock.settings import BudgetSettings, Config
from penstock.target import usd

ScopeKind = Literal["team", "feature", "key", "user", "model"]
_WHO_FIELD: Final = {"team": "team", "feature": "feature", "key": "key_id", "user": "user", "model": ""}
"""Where a call's name in a scope stands; the model is not a matter of who calls."""

SumUp = Callable[[Span, Sequence[str]], Iterable[Sums]]
"""`Store.sums`: what was spent in a span, by one of feature, team, user, key and model."""


class Scope(Struct, frozen=True, gc=False):
    """Whose spending is limited."""

    kind: ScopeKind
    name: str


class Limit(Struct, frozen=True, gc=False):
    """One budget: so much per day or month of a time zone."""

    scope: Scope
    window: Window
    nano_usd: int
    zone: str = "UTC"


class BudgetState(Struct, frozen=True, gc=False):
    """A budget at this moment; `resets_ns` is when its window ends."""

    limit: Limit
    spent_nano_usd: int
    held_nano_usd: int
    resets_ns: int


class Period:
    """One window of one budget. Holds keep it, so a late settlement is booked where its call started.

    Where budgets are shared, `line` and `key` say where its figures stand; `spent` and `held` are those last seen there.
    """

    __slots__ = ("end_ns", "held", "key", "line", "spent", "start_ns")

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.spent = 0
        self.held = 0
        self.line = 0
        self.key = 0


class Budget:
    """A limit with its current period. `nano_usd` is the limit's, close at hand for the request path."""

    __slots__ = ("limit", "nano_usd", "period", "zone")

    def __init__(self, limit: Limit, now_ns: int) -> None:
        self.zone: ZoneInfo = zone_of(limit.zone)
        self.limit = limit
        self.nano_usd = limit.nano_usd
        self.period = Period(*bounds(limit.window, now_ns, self.zone))

    def roll(self, now_ns: int) -> Period:
        """Begin the period of `now_ns`, once the current one is over. A clock that steps back never brings one back."""
        self.period = Period(*bounds(self.limit.window, now_ns, self.zone))
        return self.period

    @property
    def identity(self) -> tuple[Scope, Window, str]:
        """What stays the same when a limit changes."""
        return self.limit.scope, self.limit.window, self.limit.zone


class Hold:
    """A reservation of `ceiling_nano_usd` in a period of each of its budgets; `Budgets.settle` ends it.

    `record` says where it stands in the file of shared budgets.
    """

    __slots__ = ("budgets", "ceiling_nano_usd", "open", "periods", "record")

    def __init__(
        self, ceiling_nano_usd: int, budgets: Sequence[Budget], periods: Sequence[Period], record: int = 0
    ) -> None:
        self.ceiling_nano_usd = ceiling_nano_usd
        self.budgets = budgets
        self.periods = periods
        self.record = record
        self.open = True


class Budgets:
    """Every budget of a configuration, in memory.

    `sums` gives what was spent in the current windows before this process began. `before` is what this object takes the
    place of when a configuration is taken over: budgets that stay keep what they know and their holds, under the new
    limit; a new one starts with the sums, so without the calls in progress at that moment.
    """

    def __init__(
        self, limits: Iterable[Limit], *, now_ns: int, sums: SumUp | None = None, before: "Budgets | None" = None
    ) -> None:
        self._free = Hold(0, (), ())
        self._budgets = [Budget(limit, now_ns) for limit in limits]
        kinds: dict[str, dict[str | None, tuple[Budget, ...]]] = {}
        for budget in self._budgets:
            scope = budget.limit.scope
            named = kinds.setdefault(_WHO_FIELD[scope.kind], {})
            named[scope.name] = (*named.get(scope.name, ()), budget)
        self._kinds = tuple(kinds.items())
        self._known = {budget.identity: budget for budget in self._budgets}
        known = {old.identity: old.period for old in before._budgets} if before else {}  # noqa: SLF001 - of the same class
        fresh = []
        for budget in self._budgets:
            period = known.get(budget.identity)
            if period is None:
                fresh.append(budget)
            else:
                budget.period = period
        if sums is not None:
            sum_up(fresh, sums)

    def _applying(self, who: Who, model: str) -> tuple[Budget, ...]:
        """Give every budget that a call counts in."""
        budgets: tuple[Budget, ...] = ()
        for field, named in self._kinds:
            found = named.get(getattr(who, field) if field else model)
            if found is not None:
                budgets = budgets + found if budgets else found
        return budgets

    def hold(
        self,
        who: Who,
        ceiling_nano_usd: int | None,
        now_ns: int,
        call_id: str = "",  # noqa: ARG002 - what shared budgets find the call by, if its process dies
        model: str = "",
    ) -> Hold:
        """Reserve the ceiling in every budget that applies, or in none and raise `BudgetExhausted`.

        `now_ns` is when the call started, `model` the name that it asks for. A ceiling of None, no price being known,
        fits into no budget.
        """
        budgets = self._applying(who, model)
        if not budgets:
            return self._free
        if ceiling_nano_usd is None:
            raise no_price(budgets[0].limit)
        periods = []
        for budget in budgets:
            period = budget.period
            if now_ns >= period.end_ns:
                period = budget.roll(now_ns)
            if period.spent + period.held + ceiling_nano_usd > budget.nano_usd:
                raise exhausted(budgets, ceiling_nano_usd, now_ns)
            periods.append(period)
        for period in periods:
            period.held += ceiling_nano_usd
        return Hold(ceiling_nano_usd, budgets, periods)

    def grow(self, hold: Hold, ceiling_nano_usd: int) -> None:
        """Reserve so much instead, in the same periods, or leave it as it was and raise `BudgetExhausted`.

        Less than is held already, or a call that is settled, changes nothing.
        """
        more = ceiling_nano_usd - hold.ceiling_nano_usd
        if more <= 0 or not hold.open or not hold.periods:
            return
        self._check_growth(hold, more)
        for period in hold.periods:
            period.held += more
        hold.ceiling_nano_usd = ceiling_nano_usd

    def _check_growth(self, hold: Hold, more: int) -> None:
        """Raise `BudgetExhausted` unless so much more fits; what is no longer limited has room."""
        for old, period in zip(hold.budgets, hold.periods, strict=True):
            budget = self._known.get(old.identity)
            if budget is not None and period.spent + period.held + more > budget.nano_usd:
                raise _outgrown(budget, period, more)

    def settle(self, hold: Hold, cost_nano_usd: int) -> None:
        """Give the reservation back and book the cost where the call started; once, however often it is called."""
        if not hold.open or not hold.periods:
            return
        hold.open = False
        cost = max(cost_nano_usd, 0)
        for period in hold.periods:
            period.held -= hold.ceiling_nano_usd
            period.spent += cost

    def close(self) -> None:
        """Let go of what the budgets are kept in: nothing here, a file where they are shared."""

    def states(self, now_ns: int) -> tuple[BudgetState, ...]:
        """Give every budget as it is now, in the order of the configuration."""
        states = []
        for budget in self._budgets:
            period = budget.period if now_ns < budget.period.end_ns else budget.roll(now_ns)
            states.append(BudgetState(budget.limit, period.spent, period.held, period.end_ns))
        return tuple(states)


def sum_up(budgets: list[Budget], sums: SumUp) -> None:
    """Book what was spent in the current periods: one sum per distinct period and kind of scope."""
    spans: dict[Span, list[Budget]] = {}
    for budget in budgets:
        spans.setdefault(Span(budget.period.start_ns, budget.period.end_ns), []).append(budget)
    for span, within in spans.items():
        for kind in sorted({budget.limit.scope.kind for budget in within}):
            spent: dict[str | None, int] = {}
            for row in sums(span, (kind,)):
                name: str | None = getattr(row, kind)
                spent[name] = spent.get(name, 0) + row.cost_nano_usd
            for budget in within:
                if budget.limit.scope.kind == kind:
                    budget.period.spent = spent.get(budget.limit.scope.name, 0)


def no_price(limit: Limit) -> BudgetExhausted:
    """Say that a budget cannot be kept where nobody knows what a call costs."""
    scope = limit.scope
    return BudgetExhausted(
        f"The {limit.window} budget of {scope.kind} {scope.name!r} cannot be kept: no price is known for this model.",
        hint='Give it one: [prices."provider/model"] with input and output in USD per million tokens.',
    )


def exhausted(budgets: Sequence[Budget], ceiling_nano_usd: int, now_ns: int) -> BudgetExhausted:
    """Name the budget that stands in the way for longest."""
    full: list[tuple[int, Budget]] = []
    for budget in budgets:
        period = budget.period
        if now_ns < period.end_ns and period.spent + period.held + ceiling_nano_usd > budget.nano_usd:
            full.append((period.end_ns, budget))
    end_ns, budget = max(full, key=lambda each: each[0])
    resets = iso(end_ns, budget.zone)
    if budget.period.spent + ceiling_nano_usd > budget.nano_usd:
        hint, wait_s = f"It starts anew at {resets}.", -((now_ns - end_ns) // NS_PER_S)
    else:
        hint, wait_s = f"Calls in progress hold the rest: try again shortly, or at {resets}.", 1
    message = f"{_used_up(budget, budget.period)}, and this call may cost {usd(ceiling_nano_usd)}."
    return BudgetExhausted(message, hint=hint, retry_after_s=wait_s)


def _outgrown(budget: Budget, period: Period, more: int) -> BudgetExhausted:
    return BudgetExhausted(
        f"{_used_up(budget, period)}, and this call in progress needs {usd(more)} more.",
        hint="Set max_tokens, so that what a long answer can cost is held from the start.",
    )


def _used_up(budget: Budget, period: Period) -> str:
    scope = budget.limit.scope
    return (
        f"The {budget.limit.window} budget of {scope.kind} {scope.name!r} is used up: of {usd(budget.nano_usd)} USD,"
        f" {usd(period.spent)} are spent and {usd(period.held)} held"
    )


def limits_of(config: Config) -> Iterator[Limit]:
    """Give every budget of a configuration."""
    for team in config.teams:
        yield from _budget(Scope("team", team.name), team.budget)
    for feature in config.features:
        yield from _budget(Scope("feature", feature.name), feature.budget)


def _budget(scope: Scope, budget: BudgetSettings) -> Iterator[Limit]:
    if budget.day_nano_usd is not None:
        yield Limit(scope, "day", budget.day_nano_usd, budget.zone)
    if budget.month_nano_usd is not None:
        yield Limit(scope, "month", budget.month_nano_usd, budget.zone)
