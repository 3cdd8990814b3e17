"""Workers that share budgets: each a process of its own as far as locks go, since every one opens its own files, and its
death lets go of them as the kernel would. Real processes are killed in `test_shared_crash.py`."""

from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random

from penstock.call import Who
from penstock.ledger.budgets import Limit, Scope
from penstock.ledger.ids import Ids
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import to_ns
from penstock.ledger.records import Intent
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import FILE, Store
from penstock.receipt import Receipt

NOW = to_ns(datetime(2026, 10, 24, 20, tzinfo=UTC))
HOUR = 3_600_000_000_000
DAY = 24 * HOUR
WEB, INVOICES = Scope("team", "web"), Scope("feature", "invoices")
ONE = (Limit(WEB, "day", 1000),)
TWO = (Limit(WEB, "day", 1000), Limit(WEB, "month", 5000))
IDS = Ids(Random(5))
BY_WEB = Who(team="web")


class Reserved:
    """A call that holds money."""

    def __init__(self, held, call, who, at):
        self.held, self.id, self.who, self.at = held, call, who, at


class Worker:
    """A process that makes calls: its ledger and its budgets."""

    def __init__(self, home, limits=ONE, now_ns=NOW):
        self.home = home
        self.ledger = Ledger.open(home, now_ns=now_ns)
        self.budgets = SharedBudgets(limits, now_ns=now_ns, home=home)

    def hold(self, ceiling, now_ns=NOW, who=BY_WEB, call=None):
        call = call or IDS.new(now_ns)
        return Reserved(self.budgets.hold(who, ceiling, now_ns, call), call, who, now_ns)

    def grow(self, call, ceiling):
        self.budgets.grow(call.held, ceiling)

    def intend(self, call, ceiling=None):
        who, ceiling = call.who, call.held.ceiling_nano_usd if ceiling is None else ceiling
        names = {"team": who.team, "feature": who.feature, "user": who.user}
        self.ledger.intend(Intent(call.id, call.at, "chat", "m", **names, hold_nano_usd=ceiling))

    def receive(self, call, cost):
        self.ledger.settle(receipt_of(call.id, cost, call.who, call.at))

    def settle(self, call, cost):
        self.budgets.settle(call.held, cost)

    def call(self, ceiling, cost, now_ns=NOW):
        """One call from its hold to its settlement."""
        call = self.hold(ceiling, now_ns)
        self.intend(call)
        self.receive(call, cost)
        self.settle(call, cost)

    def spent(self, now_ns=NOW):
        return [(state.spent_nano_usd, state.held_nano_usd) for state in self.budgets.states(now_ns)]

    def die(self):
        """Leave everything as it is; the kernel takes the locks back."""
        self.budgets._table.close()
        self.ledger._journal.close(delete=False)
        self.ledger.store.close()
        self.ledger._closed = True

    def leave(self):
        self.budgets.close()
        if not self.ledger._closed:
            self.ledger.close(wait_s=1)


def receipt_of(call, cost, who=BY_WEB, at=NOW):
    names = {"team": who.team, "feature": who.feature, "user": who.user}
    return Receipt(call, at, "chat", "m", "ok", 200, **names, cost_nano_usd=cost, cost_status="exact")


@contextmanager
def hiring(home):
    """Gives what starts workers in this home, and sends them away at the end."""
    Store.open(home / FILE).close()
    workers = []

    def hire(limits=ONE, now_ns=NOW):
        workers.append(Worker(home, limits, now_ns))
        return workers[-1]

    yield hire
    for worker in workers:
        worker.leave()


@contextmanager
def sitting_on_the_lock(worker):
    """This worker is stopped in the middle of a booking."""
    table = worker.budgets._table
    table.acquire()
    yield
    table.release()
