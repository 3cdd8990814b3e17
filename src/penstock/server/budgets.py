"""What every budget has left, as the running server knows it: with what calls in progress hold at this moment.

One more of the operations of `live.py`. Budgets belong to the server's loop; only the ledger is asked in a thread, for the
users that have spent something.
"""

import asyncio
import time

from penstock.call import Who
from penstock.ledger.budget_report import BudgetList, spenders, written
from penstock.ledger.store import FILE, Store
from penstock.server.live import Live, LiveOperation
from penstock.settings import Config


async def _budgets(live: Live) -> BudgetList:
    gateway, now_ns = live.gateway, time.time_ns()
    users = await asyncio.to_thread(_spenders, gateway.config, now_ns)
    whos = [*gateway.keys.limited(now_ns), *users]
    return written(gateway.reservations.budgets.states(now_ns, whos))


def _spenders(config: Config, now_ns: int) -> list[Who]:
    store = Store.open(config.home / FILE)
    try:
        return spenders(config, store.sums, now_ns)
    finally:
        store.close()


BUDGETS = LiveOperation(
    "GET",
    "/admin/v1/budgets",
    "budgets",
    "Give what every budget has left: of teams, features and models, of keys, and of each user who spent something.",
    _budgets,
    BudgetList,
)
