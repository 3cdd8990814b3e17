"""Real processes on the same budgets: many calls at once without overspending, and kill -9 at any moment without a trace."""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from ledger.spending import LIMITS, NOW, ONE
from penstock.ledger.balances import SPENT
from penstock.ledger.ledger import Ledger
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import FILE, Span, Store
from penstock.ledger.sweeping import sweep

DEATHS = 50


class Nursery:
    """Starts processes that spend, and ends them by their ids."""

    def __init__(self, home):
        command = [sys.executable, str(Path(__file__).with_name("spending.py")), str(home)]
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, bufsize=0)
        assert self.line() == ["up"]
        self.seeds = iter(range(10**6))
        self.children = []

    def said(self, wait_s):
        return select.select([self.process.stdout], [], [], wait_s)[0]

    def line(self):
        return self.process.stdout.readline().decode().split()

    def start(self, kind):
        self.process.stdin.write(f"{next(self.seeds)} {kind}\n".encode())

    def born(self):
        word, child = self.line()
        assert word == "child"
        self.children.append(int(child))
        return int(child)

    def kill(self, child):
        self.children.remove(child)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            return
        while alive(child):
            time.sleep(0.001)

    def close(self):
        for child in self.children[:]:
            self.kill(child)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


def alive(child):
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def nursery(tmp_path):
    Store.open(tmp_path / FILE).close()
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


@pytest.mark.timeout(110)
def test_three_processes_with_a_hundred_calls_each_use_a_budget_up_and_not_a_nano_dollar_more(nursery, tmp_path):
    budgets = SharedBudgets(ONE, now_ns=NOW, home=tmp_path)
    for _ in range(3):
        nursery.start("spend")
    ended, holds, spent, grown, most = 0, 0, 0, 0, 0
    while ended < 3:
        (state,) = budgets.states(NOW)
        assert 0 <= state.spent_nano_usd + state.held_nano_usd <= ONE[0].nano_usd
        most = max(most, state.spent_nano_usd + state.held_nano_usd)
        if not nursery.said(0.001):
            continue
        match nursery.line():
            case "child", child:
                nursery.children.append(int(child))
            case "spent", count, cost, growths:
                ended, holds, spent, grown = ended + 1, holds + int(count), spent + int(cost), grown + int(growths)
    (state,) = budgets.states(NOW)
    budgets.close()
    print(
        f"\n3 processes, 100 calls at once each: {holds} calls, {grown} growths; used {100 * spent / ONE[0].nano_usd:.2f} % of"
        f" the budget, overshoot {max(0, spent - ONE[0].nano_usd)}, most spent and held at any look {most} of {ONE[0].nano_usd}"
    )
    assert (state.spent_nano_usd, state.held_nano_usd) == (spent, 0)
    assert grown > 1000
    assert 0.9 * ONE[0].nano_usd <= spent <= ONE[0].nano_usd
    assert holds > 45_000


@pytest.mark.timeout(110)
def test_fifty_kills_leak_no_hold_and_the_balances_are_what_the_receipts_say(nursery, tmp_path):
    """Half of the processes are killed at random moments, half at a random instruction of a booking."""
    chance = random.Random(20261122)
    watching = SharedBudgets(LIMITS, now_ns=NOW, home=tmp_path)
    for death in range(DEATHS):
        while len(nursery.children) < 3:
            nursery.start("suicide" if death % 2 else "live")
            nursery.born()
        victim = nursery.children[0]
        patience = time.monotonic() + (1.0 if death % 2 else chance.random() * 0.06)
        while alive(victim) and time.monotonic() < patience:
            time.sleep(0.002)
        nursery.kill(victim)
        for limit, state in zip(LIMITS, watching.states(NOW), strict=True):
            assert 0 <= state.held_nano_usd <= state.spent_nano_usd + state.held_nano_usd <= limit.nano_usd
        if death % 10 == 9:
            for child in nursery.children[:]:
                nursery.kill(child)
            check(watching, tmp_path)
    watching.close()


def check(watching, home):
    """Everyone is dead: after the sweep nothing is held, and what is spent is what the receipts cost, to the nano-dollar."""
    sweep(home)
    ledger = Ledger.open(home, now_ns=NOW)
    found = [(state.spent_nano_usd, state.held_nano_usd) for state in watching.states(NOW)]
    for limit, budget, (spent, held) in zip(LIMITS, watching._budgets, found, strict=True):
        kind = limit.scope.kind
        sums = ledger.store.sums(Span(budget.period.start_ns, budget.period.end_ns), (kind,))
        receipts = sum(row.cost_nano_usd for row in sums if getattr(row, kind) == limit.scope.name)
        assert (spent, held) == (receipts, 0), limit
        assert spent > 0
    assert watching._table.words[watching._budgets[0].period.line + SPENT] == found[0][0]
    ledger.close()
