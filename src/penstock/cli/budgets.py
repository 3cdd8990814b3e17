"""`penstock budgets`: what may still be spent."""

import time

from penstock.cli.command import command
from penstock.cli.ledger import open_store
from penstock.cli.options import Config, Json
from penstock.cli.screen import money, print_json, print_table
from penstock.config import load
from penstock.ledger.budget_report import BudgetShape, from_ledger
from penstock.ledger.keys import Keyring, read_pepper

COLUMNS = ("kind", "name", "per", "limit", "spent", "held", "left", "percent", "resets", "zone", "enforcement")
NUMBERS = ("limit", "spent", "held", "left", "percent")


@command
def budgets(config: Config = None, json: Json = False) -> None:
    """Say what every budget has left.

    Budgets of teams, features and models, of keys, and of each user who spent something in the current day or month.
    What is spent is read from the ledger, beside a running server or without one; what calls in progress hold at the
    moment is known to the server alone: see GET /admin/v1/budgets.
    """
    loaded, now_ns = load(config), time.time_ns()
    with open_store(loaded) as store:
        keys = Keyring(store, read_pepper(loaded.home)).limited(now_ns)
        found = from_ledger(loaded, keys, store.sums, now_ns)
    if json:
        print_json(found)
    else:
        print_table(COLUMNS, map(_row, found.budgets), NUMBERS)


def _row(budget: BudgetShape) -> tuple[object, ...]:
    amounts = (budget.limit_usd, budget.spent_usd, budget.held_usd, budget.left_usd)
    percent = None if budget.percent is None else f"{budget.percent} %"
    where = (budget.kind, budget.name, budget.window)
    return (*where, *map(money, amounts), percent, budget.resets_at, budget.zone, budget.enforcement)
