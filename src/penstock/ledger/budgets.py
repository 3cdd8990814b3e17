"""Budgets: what a team, a feature, a key, a user or a model may spend in a day or a month, exact within one process.

In the line: `hold` reserves the most that a call can cost in every budget that applies to it, all or nothing, before a
provider is called; `grow` reserves more for one that outgrows it; `settle` gives the reservation back and books what it
did cost. Between the two the sum of spent and held never exceeds a hard limit, so no number of calls at once can
overspend one. `shared_budgets.py` does the same for several processes.

Teams, features and models are known by their names. Keys and users are not, so their balances are made when they are
first seen, with what was spent before according to one sum over all of them; a call looks each of its names up once,
however many there are. Balances of whoever has been idle until their periods were over are let go.

Money is integer nano-dollars. Never reads a clock, never touches a disk: what was spent before this process began is
summed by the caller's `sums`. A call counts in the day and month in which it started, whenever it ends.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from penstock.call import Who
from penstock.ledger.limits import (
    UTC,
    WINDOWS,
    Budget,
    BudgetState,
    Each,
    Hold,
    Limit,
    Period,
    Scope,
    ScopeKind,
    Single,
    Wallet,
    Wallets,
    exhausted,
    limits_in,
    limits_of_key,
    outgrown,
    unpriced,
)
from penstock.ledger.periods import Window, bounds, zone_of
from penstock.ledger.store import Span, Sums

__all__ = ("Budget", "BudgetState", "Budgets", "Each", "Hold", "Limit", "Period", "Scope", "ScopeKind", "SumUp")

SumUp = Callable[[Span, Sequence[str]], Iterable[Sums]]
"""`Store.sums`: what was spent in a span, by one of feature, team, user, key and model."""

AT_ONCE = 256
SINGLES = 4096
"""Keys and users that may be remembered before those that are idle are forgotten."""
Count = tuple[ScopeKind, Window, str]
"""A kind of scope, counted in a window of a zone."""


class Budgets:
    """Every budget of a configuration, in memory.

    `each` says what holds for keys and users, which are not counted without it. `sums` gives what was spent in the
    current windows before this process began. `before` is what this object takes the place of when a configuration is
    taken over: budgets that stay keep what they know and their holds, under the new limit; a new one starts with the
    sums, so without the calls in progress at that moment.
    """

    def __init__(
        self,
        limits: Iterable[Limit],
        *,
        now_ns: int,
        sums: SumUp | None = None,
        before: "Budgets | None" = None,
        each: Each | None = None,
    ) -> None:
        self._free = Hold(0, (), ())
        self._each, self._zones = each, dict(() if each is None else each.zones)
        self._spans: dict[tuple[Window, str], tuple[int, int]] = {}
        self._budgets = [Budget(limit, self._span(limit.window, limit.zone, now_ns)) for limit in limits]
        self._known = {budget.identity: budget for budget in self._budgets}
        named: dict[ScopeKind, dict[str | None, tuple[Budget, ...]]] = {}
        for budget in self._budgets:
            scope = budget.limit.scope
            within = named.setdefault(scope.kind, {})
            within[scope.name] = (*within.get(scope.name, ()), budget)
        self._keys = {str(name): Single(those, fixed=True) for name, those in named.pop("key", {}).items()}
        self._users = {str(name): Single(those, fixed=True) for name, those in named.pop("user", {}).items()}
        self._kinds = tuple(("" if kind == "model" else kind, within) for kind, within in named.items())
        self._counts_keys = each is not None or bool(self._keys)
        self._counts_users = bool(self._users) or any(self._limits_of_user(""))
        self._most, self._crowded = SINGLES, False
        self._wallets = Wallets()
        self._earlier: dict[Count, tuple[int, dict[str, int]]] = {} if before is None else {**before._earlier}  # noqa: SLF001 - of the same class
        self._begin(now_ns, sums, before)

    def _begin(self, now_ns: int, sums: SumUp | None, before: "Budgets | None") -> None:
        """Take over what is known, and sum up what is not."""
        if before is not None:
            before._wallets.give_way(self._wallets)  # noqa: SLF001 - of the same class
        old = {} if before is None else {one.identity: one.period for one in before._budgets}  # noqa: SLF001 - of the same class
        for budget in self._budgets:
            budget.period = old.get(budget.identity, budget.period)
        if sums is not None:
            sum_up([budget for budget in self._budgets if budget.identity not in old], sums)
        counts = self._counts()
        self._earlier = {count: earlier for count, earlier in self._earlier.items() if count in counts}
        for count in counts if sums is not None else ():
            if count not in self._earlier:
                kind, window, zone = count
                span = Span(*self._span(window, zone, now_ns))
                self._earlier[count] = span.since_ns, sum_of_each(sums, span, kind) if sums else {}
        if before is not None:
            self._take_over(before, now_ns)

    def _counts(self) -> list[Count]:
        """Give what has to be known of keys and users in general."""
        if self._each is None:
            return []
        zones = sorted({UTC, *self._zones.values()})
        keys: list[Count] = [("key", window, zone) for zone in zones for window in WINDOWS]
        return [*keys, *(("user", limit.window, limit.zone) for limit in self._limits_of_user(""))]

    def _take_over(self, before: "Budgets", now_ns: int) -> None:
        """Keep the balances of keys and users, under what is said of them now."""
        for key_id, single in before._keys.items():  # noqa: SLF001 - of the same class
            if key_id not in self._keys and not single.fixed and self._each is not None:
                zone = self._zones.get(single.team or "", UTC)
                if zone != single.budgets[0].limit.zone:
                    made = self._make(limits_of_key(key_id, single.limits, zone), now_ns)
                    single = Single(made, single.team, single.limits)  # noqa: PLW2901 - in its place
                self._keys[key_id] = single
        same = self._each == before._each  # noqa: SLF001 - of the same class
        for user, single in before._users.items():  # noqa: SLF001 - of the same class
            if user in self._users or single.fixed or not self._counts_users:
                continue
            if same:
                self._users[user] = single
            else:
                old = {budget.identity: budget.period for budget in single.budgets}
                made = self._make(self._limits_of_user(user), now_ns)
                for budget in made:
                    budget.period = old.get(budget.identity, budget.period)
                self._users[user] = Single(made)

    # -- keys and users --

    def _applying(self, who: Who, model: str, now_ns: int) -> tuple[Budget, ...]:
        """Give every budget that a call counts in."""
        if self._crowded:
            self._forget(now_ns)
        budgets: tuple[Budget, ...] = ()
        for field, named in self._kinds:
            found = named.get(getattr(who, field) if field else model)
            if found is not None:
                budgets = budgets + found if budgets else found
        name = who.key_id
        if name is not None and self._counts_keys:
            single = self._keys.get(name)
            if single is None or single.limits is not who.limits:
                single = self._key(name, who, now_ns)
            budgets = budgets + single.budgets if budgets else single.budgets
        name = who.user
        if name is not None and self._counts_users:
            single = self._users.get(name) or self._user(name, now_ns)
            budgets = budgets + single.budgets if budgets else single.budgets
        return budgets

    def _key(self, key_id: str, who: Who, now_ns: int) -> Single:
        """Make the balances of a key that is seen for the first time, or take its new limits."""
        single = self._keys.get(key_id)
        if single is None:
            limits = (
                () if self._each is None else limits_of_key(key_id, who.limits, self._zones.get(who.team or "", UTC))
            )
            return self._add(self._keys, key_id, Single(self._make(limits, now_ns), who.team, who.limits))
        self._wallets.known.clear()  # they know the walls of before
        if not single.fixed:
            zone = single.budgets[0].limit.zone
            for budget, limit in zip(single.budgets, limits_of_key(key_id, who.limits, zone), strict=True):
                budget.limit_to(limit)
            single.limits = who.limits
        return single

    def _user(self, user: str, now_ns: int) -> Single:
        return self._add(self._users, user, Single(self._make(self._limits_of_user(user), now_ns)))

    def _limits_of_user(self, user: str) -> Iterator[Limit]:
        return iter(()) if self._each is None else limits_in(Scope("user", user), self._each.users)

    def _add(self, singles: dict[str, Single], name: str, single: Single) -> Single:
        singles[name] = single
        self._crowded = len(self._keys) + len(self._users) >= self._most
        return single

    def _forget(self, now_ns: int) -> None:
        """Let go of whoever is idle; between two calls, so that none loses what it has just found."""
        self._wallets.tell()
        for each in (self._keys, self._users):
            for idle in [name for name, single in each.items() if single.is_idle(now_ns)]:
                del each[idle]
        self._wallets.known.clear()
        self._most = max(SINGLES, 2 * (len(self._keys) + len(self._users)))
        self._crowded = False

    def _make(self, limits: Iterable[Limit], now_ns: int) -> tuple[Budget, ...]:
        """Make budgets of a key or a user, with what was spent before."""
        made = tuple([Budget(limit, self._span(limit.window, limit.zone, now_ns)) for limit in limits])
        for budget in made:
            scope, window, zone = budget.identity
            start_ns, spent = self._earlier.get((scope.kind, window, zone), (0, {}))
            if start_ns == budget.period.start_ns:
                budget.period.spent = spent.get(scope.name, 0)
        return made

    def _span(self, window: Window, zone: str, now_ns: int) -> tuple[int, int]:
        """Give the window of a moment; most of those who ask are of the same day."""
        span = self._spans.get((window, zone))
        if span is None or not span[0] <= now_ns < span[1]:
            span = self._spans[window, zone] = bounds(window, now_ns, zone_of(zone))
        return span

    # -- in the line --

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
        fits into no hard budget; a soft one lets the call pass, and counts it as nothing.
        """
        names = (who.team, who.feature, who.key_id, who.user, model)
        wallet = self._wallets.known.get(names)
        if wallet is None or ceiling_nano_usd is None or now_ns >= wallet.end_ns or who.limits is not wallet.limits:
            return self._hold(who, ceiling_nano_usd, now_ns, names)
        if ceiling_nano_usd < wallet.free:
            wallet.free -= ceiling_nano_usd
            wallet.calls += 1
        elif not wallet.take(ceiling_nano_usd):
            return self._hold(who, ceiling_nano_usd, now_ns, names)
        return Hold(ceiling_nano_usd, wallet.budgets, wallet.periods, 0, True, wallet)

    def _hold(self, who: Who, ceiling_nano_usd: int | None, now_ns: int, names: tuple[str | None, ...]) -> Hold:
        """Do as `hold`, and remember in which budgets the calls of these names count."""
        budgets = self._applying(who, names[-1] or "", now_ns)
        if not budgets:
            return self._free
        if ceiling_nano_usd is None:
            ceiling_nano_usd = unpriced(budgets)
        periods = []
        for budget in budgets:
            period = budget.period
            if now_ns >= period.end_ns:
                period = budget.roll(now_ns)
            if period.spent + period.held + ceiling_nano_usd > budget.wall:
                self._wallets.tell()
                if period.spent + period.held + ceiling_nano_usd > budget.wall:
                    raise exhausted(budgets, ceiling_nano_usd, now_ns)
            periods.append(period)
        if not self._wallets.comes_again(names):
            for period in periods:
                period.held, period.calls = period.held + ceiling_nano_usd, period.calls + 1
            return Hold(ceiling_nano_usd, budgets, periods)
        wallet = Wallet(budgets, periods, who.limits)
        wallet.add(ceiling_nano_usd)
        self._wallets.add(names, wallet)
        return Hold(ceiling_nano_usd, budgets, periods, 0, True, wallet)

    def refuse(self, who: Who, ceiling_nano_usd: int | None, now_ns: int, model: str = "") -> None:
        """Take note that a call was refused, in each budget that has too little left for it; `states` tells how many were."""
        budgets = self._applying(who, model, now_ns)
        self._wallets.tell()
        for budget in budgets:
            if ceiling_nano_usd is not None and budget.period.spent + ceiling_nano_usd > budget.wall:
                budget.period.refused += 1

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
        self._wallets.grown()

    def _check_growth(self, hold: Hold, more: int) -> None:
        """Raise `BudgetExhausted` unless so much more fits; what is no longer limited has room."""
        for old, period in zip(hold.budgets, hold.periods, strict=True):
            budget = self._current(old)
            if budget is not None and period.spent + period.held + more > budget.wall:
                self._wallets.tell()
                if period.spent + period.held + more > budget.wall:
                    raise outgrown(budget, period, more)

    def _current(self, old: Budget) -> Budget | None:
        """Find what a budget is by now."""
        identity = old.identity
        budget = self._known.get(identity)
        if budget is None and identity[0].kind in {"key", "user"}:
            single = (self._keys if identity[0].kind == "key" else self._users).get(identity[0].name)
            if single is not None:
                return next((one for one in single.budgets if one.identity == identity), None)
            if (identity[0].kind, *identity[1:]) in self._counts():  # it was idle, and forgotten
                return old
        return budget

    def settle(self, hold: Hold, cost_nano_usd: int) -> None:
        """Give the reservation back and book the cost where the call started; once, however often it is called."""
        wallet, cost = hold.wallet, cost_nano_usd if cost_nano_usd > 0 else 0  # noqa: FURB136 - quicker than max()
        if wallet is None or not hold.open:
            self._give_back(hold, cost)
            return
        hold.open = False
        wallet.free += hold.ceiling_nano_usd - cost
        wallet.spent += cost
        wallet.calls -= 1
        if wallet.is_told or wallet.free < 0:
            self._wallets.keep(wallet)

    def _give_back(self, hold: Hold, cost: int) -> None:
        """Do as `settle` for a call whose caller is not remembered."""
        if hold.open and hold.periods:
            hold.open = False
            for period in hold.periods:
                period.held -= hold.ceiling_nano_usd
                period.spent += cost
                period.calls -= 1
            if cost > hold.ceiling_nano_usd:
                self._wallets.tell()

    # -- beside it --

    def close(self) -> None:
        """Let go of what the budgets are kept in: nothing here, a file where they are shared."""

    def states(self, now_ns: int, whos: Iterable[Who] = (), *, singles: bool = True) -> tuple[BudgetState, ...]:
        """Give every budget as it is now, in the order of the configuration; then those of keys and users.

        Of keys and users those that were seen so far and those of `whos`; without `singles` none: then there are few,
        however many callers there are.
        """
        return tuple([_state(budget, now_ns) for budget in self._shown(now_ns, whos, singles=singles)])

    def walk(self, now_ns: int) -> Iterator[BudgetState]:
        """Give what `states` gives, a few at a time and each as it is then, for whoever must not stop others for long."""
        singles = [single for each in (self._keys, self._users) for single in each.values() if not single.fixed]
        yield from self.states(now_ns, singles=False)
        for at in range(0, len(singles), AT_ONCE):
            some = [budget for single in singles[at : at + AT_ONCE] for budget in single.budgets if budget.is_limited]
            yield from [_state(budget, now_ns) for budget in self._seen(some, now_ns)]

    def _seen(self, budgets: list[Budget], now_ns: int) -> list[Budget]:  # noqa: ARG002 - shared ones are looked at now
        """Give budgets, as they are now."""
        self._wallets.tell()
        return budgets

    def _shown(self, now_ns: int, whos: Iterable[Who], *, singles: bool) -> list[Budget]:
        """Give the budgets that are told of: none that only count."""
        self._wallets.tell()
        seen = [single for each in (self._keys, self._users) for single in each.values()] if singles else []
        found = {budget.identity: budget for single in seen for budget in single.budgets if not single.fixed}
        for who in whos:
            found |= {budget.identity: budget for budget in self._applying(who, "", now_ns)}
        for budget in self._budgets:
            found.pop(budget.identity, None)
        return [*self._budgets, *(budget for budget in found.values() if budget.is_limited)]


def _state(budget: Budget, now_ns: int) -> BudgetState:
    period = budget.period if now_ns < budget.period.end_ns else budget.roll(now_ns)
    return BudgetState(budget.limit, period.spent, period.held, period.end_ns, period.start_ns, period.refused)


def sum_up(budgets: list[Budget], sums: SumUp) -> None:
    """Book what was spent in the current periods: one sum per distinct period and kind of scope."""
    spans: dict[Span, list[Budget]] = {}
    for budget in budgets:
        spans.setdefault(Span(budget.period.start_ns, budget.period.end_ns), []).append(budget)
    for span, within in spans.items():
        for kind in sorted({budget.limit.scope.kind for budget in within}):
            spent = sum_of_each(sums, span, kind)
            for budget in within:
                if budget.limit.scope.kind == kind:
                    budget.period.spent = spent.get(budget.limit.scope.name, 0)


def sum_of_each(sums: SumUp, span: Span, kind: ScopeKind) -> dict[str, int]:
    """Give what was spent in a span, by name."""
    spent: dict[str, int] = {}
    for row in sums(span, (kind,)):
        name: str | None = getattr(row, kind)
        if name is not None and row.cost_nano_usd:
            spent[name] = spent.get(name, 0) + row.cost_nano_usd
    return spent
