"""Every budget as people and scripts are told of it: what may be spent, is spent and held, and when it starts anew.

`written` puts states into words; `from_ledger` works them out from the receipts alone, for a command beside a server or
without one, so that what calls in progress hold is not in it. Money is written as exact decimal strings of dollars.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from penstock.call import Who
from penstock.ledger.budgets import Budgets, SumUp, sum_of_each
from penstock.ledger.limits import BudgetState, Scope, ScopeKind, each_of, limits_in, limits_of
from penstock.ledger.periods import Window, bounds, iso, zone_of
from penstock.ledger.store import Span
from penstock.settings import Config
from penstock.target import usd


class BudgetShape(Struct, frozen=True):
    """One budget. `left_usd` is below zero where a soft one is overspent; `percent` is how much of it is spent, to a tenth.

    `name` is that of a team, feature or model, the id of a key, or the pseudonym of a user. `percent` is None where the
    limit is nothing.
    """

    kind: ScopeKind
    name: str
    window: Window
    enforcement: Literal["hard", "soft"]
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str
    percent: str | None
    zone: str
    resets_at: str


class BudgetList(Struct, frozen=True):
    """Every budget: those of the configuration in its order, then those of keys and users."""

    budgets: tuple[BudgetShape, ...]


def written(states: Iterable[BudgetState]) -> BudgetList:
    """Put budgets into words."""
    return BudgetList(tuple(map(_written, states)))


def _written(state: BudgetState) -> BudgetShape:
    limit = state.limit
    tenths = state.spent_nano_usd * 1000 // limit.nano_usd if limit.nano_usd else None
    return BudgetShape(
        limit.scope.kind,
        limit.scope.name,
        limit.window,
        "soft" if limit.soft else "hard",
        usd(limit.nano_usd),
        usd(state.spent_nano_usd),
        usd(state.held_nano_usd),
        usd(limit.nano_usd - state.spent_nano_usd - state.held_nano_usd),
        None if tenths is None else f"{tenths // 10}.{tenths % 10}",
        limit.zone,
        iso(state.resets_ns, zone_of(limit.zone)),
    )


def spenders(config: Config, sums: SumUp, now_ns: int) -> list[Who]:
    """Give each user who spent something in a current window that limits users."""
    names: set[str] = set()
    for limit in limits_in(Scope("user", ""), config.users.budget):
        span = Span(*bounds(limit.window, now_ns, zone_of(limit.zone)))
        names.update(sum_of_each(sums, span, "user"))
    return [Who(user=name) for name in sorted(names)]


def from_ledger(config: Config, keys: Iterable[Who], sums: SumUp, now_ns: int) -> BudgetList:
    """Work every budget out from receipts: of the configuration, of these keys, and of each user who spent something."""
    budgets = Budgets(limits_of(config), now_ns=now_ns, sums=sums, each=each_of(config))
    return written(budgets.states(now_ns, [*keys, *spenders(config, sums, now_ns)]))
