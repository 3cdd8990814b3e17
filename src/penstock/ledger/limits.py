"""What budgets are made of: whose spending is limited, how much of it, in which period, and what a refusal says.

Values, and the small mutable records of `budgets.py`, which decides whether a call fits. A limit is hard, a wall that no
call passes, or soft: it is counted and told of, and refuses nobody. What is not limited can be counted just the same, so
that a limit that is set in the middle of a day knows what was spent in it.

Money is integer nano-dollars. Never reads a clock nor touches a disk.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from penstock.call import Limits
from penstock.errors import BudgetExhausted
from penstock.ledger.balances import MOST
from penstock.ledger.periods import NS_PER_S, Window, bounds, iso, zone_of
from penstock.settings import BudgetSettings, Config
from penstock.target import usd

ScopeKind = Literal["team", "feature", "key", "user", "model"]
WINDOWS: Final[tuple[Window, ...]] = ("day", "month")
ENDLESS: Final = MOST
"""A wall beyond all money, and the limit of what is only counted."""
UTC = "UTC"
KEEP_NS: Final = 3_600_000_000_000
"""How long a balance stays after the end of its period, for a clock that is set back a little."""


class Scope(Struct, frozen=True, gc=False):
    """Whose spending is limited."""

    kind: ScopeKind
    name: str


class Limit(Struct, frozen=True, gc=False):
    """One budget: so much per day or month of a time zone. A soft one refuses nobody."""

    scope: Scope
    window: Window
    nano_usd: int
    zone: str = UTC
    soft: bool = False


class BudgetState(Struct, frozen=True, gc=False):
    """A budget at this moment; its window lasts from `starts_ns` to `resets_ns`.

    `refused` counts the calls that this process refused in it because too little was left, not because others held it.
    """

    limit: Limit
    spent_nano_usd: int
    held_nano_usd: int
    resets_ns: int
    starts_ns: int = 0
    refused: int = 0


class Each(Struct, frozen=True):
    """What holds for each key and each user, whoever comes.

    Every key is counted, in the zone of its team (`zones`, by name) or UTC; its limits come with its calls. `users` is
    what each single user may spend; if that is nothing in particular, users are not counted.
    """

    users: BudgetSettings = BudgetSettings()
    zones: tuple[tuple[str, str], ...] = ()


class Period:
    """One window of one budget. Holds keep it, so a late settlement is booked where its call started.

    `calls` are those that hold something here, or may come to. Where budgets are shared, `line` and `key` say where its
    figures stand; `spent` and `held` are those last seen there, and calls are not counted.
    """

    __slots__ = ("calls", "end_ns", "held", "key", "line", "refused", "spent", "start_ns")

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.spent = 0
        self.held = 0
        self.refused = 0
        self.calls = 0
        self.line = 0
        self.key = 0


class Budget:
    """A limit with its current period. `wall` is what no call may pass, close at hand for the request path.

    It is not `is_limited` where it only counts what somebody spends who has no budget.
    """

    __slots__ = ("is_limited", "limit", "period", "wall", "zone")

    def __init__(self, limit: Limit, span: tuple[int, int]) -> None:
        self.zone: ZoneInfo = zone_of(limit.zone)
        self.limit_to(limit)
        self.period = Period(*span)

    def limit_to(self, limit: Limit) -> None:
        """Take another limit of the same identity."""
        self.limit = limit
        self.is_limited = not limit.soft or limit.nano_usd < ENDLESS
        self.wall = ENDLESS if limit.soft else min(limit.nano_usd, ENDLESS)

    def roll(self, now_ns: int) -> Period:
        """Begin the period of `now_ns`, once the current one is over. A clock that steps back never brings one back."""
        self.period = Period(*bounds(self.limit.window, now_ns, self.zone))
        return self.period

    @property
    def identity(self) -> tuple[Scope, Window, str]:
        """What stays the same when a limit changes."""
        return self.limit.scope, self.limit.window, self.limit.zone


class Single:
    """The budgets of one key or one user. `limits` are those that the key came with last; `fixed` ones stay as they are."""

    __slots__ = ("budgets", "fixed", "limits", "team")

    def __init__(
        self, budgets: tuple[Budget, ...], team: str | None = None, limits: Limits | None = None, *, fixed: bool = False
    ) -> None:
        self.budgets = budgets
        self.team = team
        self.limits = limits
        self.fixed = fixed

    def is_idle(self, now_ns: int) -> bool:
        """Whether nothing is known of it that a new one would not know."""
        if self.fixed:
            return False
        for budget in self.budgets:
            period = budget.period
            if period.calls or (now_ns < period.end_ns + KEEP_NS and (period.spent or period.held)):
                return False
        return True


WALLETS = 4096
"""Kinds of callers whose budgets are remembered together."""
UNTOLD = 256
"""Of how many of them the periods need not know the last calls."""

AHEAD = 15
"""Calls for which money is taken in advance."""
ROOMY = 256
"""Calls for which there has to be room then: where a wall is near, nobody has what another one may need."""


class Wallet:
    """What a caller's calls count in, as it was found for one of them, and holds until the first of the periods is over.

    What a call gives back stays at hand for the caller's next one, which need not ask: the periods take what is `free` for
    held, and what is `spent` too, until they are told. So they never think that there is more room than there is. `calls`
    are those that began since, less those that ended.
    """

    __slots__ = ("_walls", "budgets", "calls", "end_ns", "free", "is_told", "limits", "periods", "spent")

    def __init__(self, budgets: Sequence[Budget], periods: Sequence[Period], limits: Limits | None) -> None:
        """`limits` are those of the caller's key."""
        self.budgets = budgets
        self.periods = periods
        self.limits = limits
        self.end_ns = min(period.end_ns for period in periods)
        self._walls = tuple([(p, b.wall) for p, b in zip(periods, budgets, strict=True) if b.wall < ENDLESS])
        self.free = self.spent = self.calls = 0
        self.is_told = True

    def take(self, nano_usd: int) -> bool:
        """Hold so much more, where it surely fits; if not, whoever asks has to look closer.

        Where there is much more room than that, more is taken, which is free for the calls that follow.
        """
        for period, wall in self._walls:
            if period.spent + period.held + nano_usd > wall:
                return False
        if self.is_told:
            self.add(nano_usd)
        else:
            ahead = self._ahead(nano_usd)
            self.add(nano_usd + ahead)
            self.free += ahead
        return True

    def _ahead(self, nano_usd: int) -> int:
        """Give how much to take in advance: nothing where a wall is near."""
        for period, wall in self._walls:
            if period.spent + period.held + nano_usd * ROOMY > wall:
                return 0
        return nano_usd * AHEAD

    def add(self, nano_usd: int) -> None:
        """Have the periods hold so much more, for one call more."""
        for period in self.periods:
            period.held += nano_usd
            period.calls += 1

    @property
    def is_over(self) -> bool:
        """Whether the periods think that a wall is passed."""
        return any(period.spent + period.held > wall for period, wall in self._walls)

    def tell(self) -> None:
        """Let the periods know what happened, and have back what no call holds."""
        spent, over, calls = self.spent, self.free + self.spent, self.calls
        self.free = self.spent = self.calls = 0
        self.is_told = True
        for period in self.periods:
            period.held -= over
            period.spent += spent
            period.calls += calls


class Wallets:
    """The wallets of the callers of one configuration. `known` has them by all that says which budgets apply.

    Something is at hand only as long as the periods think that no wall is passed. So they are told when a call cost more
    than was held; before a call is refused; and before anybody looks.
    """

    __slots__ = ("_once", "_successor", "_untold", "known")

    def __init__(self) -> None:
        self.known: dict[tuple[str | None, ...], Wallet] = {}
        self._once: set[tuple[str | None, ...]] = set()
        self._untold: list[Wallet] = []
        self._successor: Wallets | None = None

    def comes_again(self, names: tuple[str | None, ...]) -> bool:
        """Tell whether a caller came not long ago: with many more callers than that, none of them is worth remembering."""
        once = self._once
        if names in once:
            return True
        if len(once) >= WALLETS:
            once.clear()
        once.add(names)
        return False

    def add(self, names: tuple[str | None, ...], wallet: Wallet) -> None:
        """Remember a wallet, unless the same periods have others by now."""
        if self._successor is not None:
            self._successor.tell()
            return
        if len(self.known) >= WALLETS:
            self.known.clear()
        self.known[names] = wallet

    def keep(self, wallet: Wallet) -> None:
        """See that the periods of a wallet are told later, or at once where that cannot wait."""
        self._untold.append(wallet)
        wallet.is_told = False
        if wallet.free < 0 or wallet.is_over or len(self._untold) > UNTOLD or self._successor is not None:
            self.tell()

    def tell(self) -> None:
        """Let all periods know everything."""
        for wallet in self._untold:
            wallet.tell()
        self._untold.clear()
        if self._successor is not None:
            self._successor.tell()

    def give_way(self, successor: "Wallets") -> None:
        """Keep nothing at hand from now on: the same periods have other wallets, under other limits."""
        self._successor = successor
        self.known.clear()
        self.tell()

    def grown(self) -> None:
        """Take note that a hold has grown."""
        if self._successor is not None:
            self._successor.tell()


class Hold(Struct, eq=False):
    """A reservation of `ceiling_nano_usd` in a period of each of its budgets; `Budgets.settle` ends it.

    `record` says where it stands in the file of shared budgets; 0 is nowhere. `wallet` is what it came from in memory.
    """

    ceiling_nano_usd: int
    budgets: Sequence[Budget]
    periods: Sequence[Period]
    record: int = 0
    open: bool = True
    wallet: Wallet | None = None


# -- of a configuration --


def limits_of(config: Config) -> Iterator[Limit]:
    """Give every budget of a configuration that is known by its name."""
    for team in config.teams:
        yield from limits_in(Scope("team", team.name), team.budget)
    for feature in config.features:
        yield from limits_in(Scope("feature", feature.name), feature.budget)
    for model in config.models:
        yield from limits_in(Scope("model", model.name), model.budget)


def each_of(config: Config) -> Each:
    """Give what a configuration says of each key and each user."""
    return Each(config.users.budget, tuple((team.name, team.zone) for team in config.teams))


def limits_in(scope: Scope, budget: BudgetSettings) -> Iterator[Limit]:
    """Give the limits of one `budget_usd`."""
    for window, nano_usd in zip(WINDOWS, (budget.day_nano_usd, budget.month_nano_usd), strict=True):
        if nano_usd is not None:
            yield Limit(scope, window, nano_usd, budget.zone, budget.soft)


def limits_of_key(key_id: str, limits: Limits | None, zone: str) -> Iterator[Limit]:
    """Give what a key may spend in a day and in a month, with what is only counted as an endless soft limit."""
    scope = Scope("key", key_id)
    given = (None, None) if limits is None else (limits.day_nano_usd, limits.month_nano_usd)
    for window, nano_usd in zip(WINDOWS, given, strict=True):
        if nano_usd is None:
            yield Limit(scope, window, ENDLESS, zone, soft=True)
        else:
            yield Limit(scope, window, nano_usd, zone)


# -- refusals --


def no_price(limit: Limit) -> BudgetExhausted:
    """Say that a budget cannot be kept where nobody knows what a call costs."""
    scope = limit.scope
    return BudgetExhausted(
        f"The {limit.window} budget of {scope.kind} {scope.name!r} cannot be kept: no price is known for this model.",
        hint='Give it one: [prices."provider/model"] with input and output in USD per million tokens.',
    )


def unpriced(budgets: Iterable[Budget]) -> int:
    """Give what to hold for a call without a price: nothing, or raise `BudgetExhausted` where a hard budget applies."""
    for budget in budgets:
        if not budget.limit.soft:
            raise no_price(budget.limit)
    return 0


def exhausted(budgets: Sequence[Budget], ceiling_nano_usd: int, now_ns: int) -> BudgetExhausted:
    """Name the budget that stands in the way for longest."""
    full: list[tuple[int, Budget]] = []
    for budget in budgets:
        period = budget.period
        if now_ns < period.end_ns and period.spent + period.held + ceiling_nano_usd > budget.wall:
            full.append((period.end_ns, budget))
    end_ns, budget = max(full, key=lambda each: each[0])
    resets = iso(end_ns, budget.zone)
    if budget.period.spent + ceiling_nano_usd > budget.wall:
        hint, wait_s = f"It starts anew at {resets}.", -((now_ns - end_ns) // NS_PER_S)
    else:
        hint, wait_s = f"Calls in progress hold the rest: try again shortly, or at {resets}.", 1
    message = f"{_used_up(budget, budget.period)}, and this call may cost {usd(ceiling_nano_usd)}."
    return BudgetExhausted(message, hint=hint, retry_after_s=wait_s)


def outgrown(budget: Budget, period: Period, more: int) -> BudgetExhausted:
    """Say which budget a call in progress does not fit into any more."""
    return BudgetExhausted(
        f"{_used_up(budget, period)}, and this call in progress needs {usd(more)} more.",
        hint="Set max_tokens, so that what a long answer can cost is held from the start.",
    )


def _used_up(budget: Budget, period: Period) -> str:
    scope = budget.limit.scope
    return (
        f"The {budget.limit.window} budget of {scope.kind} {scope.name!r} is used up: of {usd(budget.wall)} USD,"
        f" {usd(period.spent)} are spent and {usd(period.held)} held"
    )
