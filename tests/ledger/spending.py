"""Processes that make calls on shared budgets until they are killed: `python tests/ledger/spending.py HOME`.

This one only starts them, so that each is up within milliseconds: for a line `SEED KIND` on its input it forks one and
prints its id. KIND is `spend` (until the budget is used up, then say what was spent), `live` (with a ledger, until somebody
kills it) or `suicide` (the same, but by its own hand at a random instruction of a hold, a growth or a settlement).
"""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from penstock.call import Who
from penstock.errors import BudgetExhausted, Overloaded
from penstock.ledger import balances, booking, shared_budgets
from penstock.ledger.budgets import Limit, Scope
from penstock.ledger.ids import Ids
from penstock.ledger.ledger import Ledger, LedgerSettings
from penstock.ledger.periods import to_ns
from penstock.ledger.records import Intent
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.outbox import Outbox
from penstock.receipt import Receipt

NOW = to_ns(datetime(2026, 10, 24, 20, tzinfo=UTC))
WEB = Who(team="web", feature="invoices", user="ann")
APP = Who(team="app", feature="invoices", user="bob")
ONE = (Limit(Scope("team", "web"), "day", 15_000_000),)
LIMITS = (
    Limit(Scope("team", "web"), "day", 2_000_000),
    Limit(Scope("team", "web"), "month", 10**12),
    Limit(Scope("feature", "invoices"), "day", 10**12),
    Limit(Scope("user", "bob"), "month", 100_000),
)
AT_ONCE = 100
LIFE_S = 60.0


class Turns:
    """A loop, of which somebody says when a turn of it ends."""

    def __init__(self):
        self.due = []

    def call_soon(self, work):
        """Do it at the end of the turn."""
        self.due.append(work)

    def end(self):
        """End the turn."""
        due, self.due = self.due, []
        for work in due:
            work()


def spend(home, chance):
    """Have 100 calls at once, some of which outgrow what is held for them, until nothing is let in any more."""
    budgets = SharedBudgets(ONE, now_ns=NOW, home=home)
    name = Ids(chance).new(NOW)
    running, holds, spent, refused, grown = [], 0, 0, 0, 0
    while refused < 10:
        while len(running) < AT_ONCE and not refused:
            try:
                running.append(budgets.hold(WEB, chance.randrange(1, 1000), NOW, name))
                holds += 1
            except BudgetExhausted:
                refused += 1
        for held in chance.choices(running, k=2) if running else ():
            with suppress(BudgetExhausted):  # then it stays as large as it was
                budgets.grow(held, held.ceiling_nano_usd + chance.randrange(1, 500))
                grown += 1
        for _ in range(chance.randrange(1, 20)):
            if running:
                ended = running.pop(chance.randrange(len(running)))
                cost = chance.randrange(ended.ceiling_nano_usd + 1)
                budgets.settle(ended, cost)
                spent += cost
        if refused:
            refused = refused + 1 if not running else 1
    budgets.close()
    tell(f"spent {holds} {spent} {grown}\n")


def live(home, chance, *, suicide):
    """Make calls as the gateway does, and never stop."""
    settings = LedgerSettings(segment_bytes=50_000, memory_rows=64)
    ledger = Ledger.open(home, now_ns=NOW, settings=settings)
    budgets = SharedBudgets(LIMITS, now_ns=NOW, home=home)
    turns = Turns()
    outbox = Outbox(turns)
    budgets.gather(outbox, ledger)
    ledger.gather(outbox)
    running, left = [], chance.randrange(1, 150)
    until = time.monotonic() + LIFE_S
    while time.monotonic() < until:
        left -= 1
        if suicide and left < 0:
            die_within(chance.randrange(700))
        act(ledger, budgets, chance, running)
        if chance.random() < 0.05:
            ledger.flush(chance.choice((8, 64)))
        if chance.random() < 0.2:
            turns.end()
        sys.settrace(None)


def act(ledger, budgets, chance, running):
    """Begin a call, or go on with one."""
    if len(running) < chance.randrange(AT_ONCE):
        call, who, ceiling = ledger.new_id(NOW), chance.choice((WEB, APP)), chance.randrange(1, 1000)
        try:
            held = budgets.hold(who, ceiling, NOW, call)
        except (BudgetExhausted, Overloaded):
            return
        names = {"team": who.team, "feature": who.feature, "user": who.user}
        ledger.intend(Intent(call, NOW, "chat", "m", **names, hold_nano_usd=ceiling))
        running.append((call, names, who, ceiling, [held]))
    elif running:
        call, names, who, ceiling, holds = running.pop(chance.randrange(len(running)))
        try:
            if chance.random() < 0.2:
                budgets.grow(holds[0], ceiling + chance.randrange(500))
            if chance.random() < 0.2:
                holds.append(budgets.hold(who, ceiling, NOW, call))
        except (BudgetExhausted, Overloaded):
            pass
        cost = chance.randrange(ceiling + 1)
        ledger.settle(Receipt(call, NOW, "chat", "m", "ok", 200, **names, cost_nano_usd=cost, cost_status="exact"))
        for held in holds[:0:-1]:
            budgets.settle(held, 0)
        budgets.settle(holds[0], cost)


def die_within(steps):
    """Kill this process after so many instructions of what deals with the shared file."""

    def at_instruction(frame, event, _):
        nonlocal steps
        if event == "opcode":
            steps -= 1
            if steps < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_instruction

    def at_call(frame, event, _):
        if frame.f_code.co_filename not in {balances.__file__, booking.__file__, shared_budgets.__file__}:
            return None
        frame.f_trace_opcodes = True
        return at_instruction

    sys.settrace(at_call)


def tell(text):
    os.write(1, text.encode())


def main():
    home = Path(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    balances.Balances.acquire.__defaults__ = (30.0,)  # a busy machine is no reason to refuse a call here
    tell("up\n")
    for line in sys.stdin:
        seed, kind = line.split()
        child = os.fork()
        if child:
            tell(f"child {child}\n")
            continue
        try:
            chance = random.Random(int(seed))
            if kind == "spend":
                spend(home, chance)
            else:
                live(home, chance, suicide=kind == "suicide")
        finally:
            os._exit(0)


if __name__ == "__main__":
    main()
