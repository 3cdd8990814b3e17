"""Budgets that several processes share: what holds for any of them, whoever dies when."""

import fcntl
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from ledger.killing import killed_at_every_step
from ledger.workers import (
    DAY,
    IDS,
    INVOICES,
    NOW,
    ONE,
    TWO,
    WEB,
    Worker,
    hiring,
    receipt_of,
    sitting_on_the_lock,
)
from penstock.call import Limits, Who
from penstock.errors import BudgetExhausted, Internal, Overloaded
from penstock.ledger.balances import MOST, SPENT
from penstock.ledger.budgets import Each, Limit, Scope
from penstock.ledger.periods import from_ns, to_ns, zone_of
from penstock.ledger.records import pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import FILE, Span, Store
from penstock.ledger.sweeping import sweep
from penstock.settings import BudgetSettings


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def hire(home):
    with hiring(home) as hire:
        yield hire


# -- several processes --


def test_what_one_process_holds_and_spends_the_others_see_at_once(hire):
    first, second = hire(), hire()
    held = first.hold(600)
    with pytest.raises(BudgetExhausted, match=r"0.0000006 held"):
        second.hold(500)
    second.hold(400)
    first.settle(held, 50)
    assert first.spent() == second.spent() == [(50, 400)]
    second.hold(550)
    with pytest.raises(BudgetExhausted):
        first.hold(1)


def test_a_call_needs_an_id_by_which_its_receipt_can_be_found(hire):
    with pytest.raises(ValueError, match="not a call id"):
        hire().budgets.hold(Who(team="web"), 5, NOW)


def test_processes_meet_in_the_next_period_as_well(hire):
    first, second = hire(TWO), hire(TWO)
    first.call(900, 900)
    late = second.hold(100)
    first.call(700, 700, NOW + DAY)
    assert second.spent(NOW + DAY) == [(700, 0), (1600, 100)]
    with pytest.raises(BudgetExhausted, match="day budget"):
        second.hold(301, NOW + DAY)
    second.settle(late, 60)
    assert first.spent(NOW + DAY) == [(700, 0), (1660, 0)]


def test_a_process_that_joins_later_finds_what_is_spent_and_held(hire):
    first = hire(TWO)
    first.call(100, 70)
    first.hold(200)
    assert hire(TWO).spent() == [(70, 200), (70, 200)]


def test_whoever_comes_when_nobody_is_there_begins_with_what_the_receipts_say(hire, home):
    first = hire(TWO)
    first.call(100, 70)
    first.call(100, 5, NOW - DAY)
    first.hold(200)
    first.leave()
    assert (home / "balances" / "table").exists()
    assert hire(TWO).spent() == [(70, 0), (75, 0)]


def test_a_process_that_cannot_read_the_receipts_does_not_stay_in_the_roll(home):
    (home / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(Internal):
        SharedBudgets(ONE, now_ns=NOW, home=home)
    (home / FILE).unlink()
    budgets = SharedBudgets(ONE, now_ns=NOW, home=home)
    assert budgets._table.number == 1
    budgets.close()


def test_a_configuration_that_is_taken_over_keeps_what_is_spent_and_held(hire):
    worker, other = hire(TWO), hire(TWO)
    worker.call(100, 60)
    running = worker.hold(30)
    before, limits = worker.budgets, [Limit(WEB, "day", 90), Limit(INVOICES, "day", 10)]
    worker.budgets = SharedBudgets(limits, now_ns=NOW, home=worker.home, before=before)
    assert worker.spent() == [(60, 30), (0, 0)]
    with pytest.raises(BudgetExhausted):
        worker.hold(1)
    with pytest.raises(BudgetExhausted, match=r"of 0\.00000009 USD"):
        worker.grow(running, 31)
    other.hold(900)  # until it takes the new limit over as well
    worker.settle(running, 10)
    assert worker.spent() == [(70, 900), (0, 0)]
    assert other.spent() == [(70, 900), (70, 900)]


def test_what_is_no_longer_limited_may_grow(hire):
    worker = hire()
    running = worker.hold(900)
    worker.budgets = SharedBudgets([], now_ns=NOW, home=worker.home, before=worker.budgets)
    worker.grow(running, 5000)
    assert hire().spent() == [(0, 5000)]


def test_a_new_budget_counts_calls_in_progress_at_their_ceilings_so_that_it_is_never_overspent(hire):
    first, second = hire([]), hire([])
    for worker in (first, second):
        worker.call(100, 60)
        worker.intend(worker.hold(300), 300)
    assert hire().spent() == [(720, 0)]


def test_a_limit_beyond_all_money_is_kept_all_the_same(hire):
    worker = hire([Limit(WEB, "day", 10**30)])
    with pytest.raises(BudgetExhausted):
        worker.hold(10**30)
    held = worker.hold(MOST)
    with pytest.raises(BudgetExhausted):
        worker.hold(1)
    worker.settle(held, 10**40)
    assert worker.spent() == [(MOST, 0)]


def test_calls_in_many_budgets_are_held_in_all_of_them(hire):
    who = Who(key_id="k", team="t", feature="f", user="u")
    names = {"team": "t", "feature": "f", "key": "k", "user": "u", "model": "m"}
    limits = [Limit(Scope(kind, name), window, 100) for kind, name in names.items() for window in ("day", "month")]
    worker, other = hire(limits), hire(limits)
    held = worker.budgets.hold(who, 60, NOW, IDS.new(NOW), "m")
    assert other.spent() == [(0, 60)] * 10
    worker.budgets.settle(held, 40)
    assert other.spent() == [(40, 0)] * 10


def test_a_clock_that_ran_ahead_by_days_and_came_back_brings_no_spent_money_back(hire):
    worker, ahead = hire(), hire()
    worker.call(900, 900)
    worker.ledger.flush()
    for day in range(3, 1100):
        ahead.settle(ahead.hold(1, NOW + day * DAY), 0)
    table = worker.budgets._table
    assert table.words[worker.budgets._budgets[0].period.line] != worker.budgets._budgets[0].period.key, "it went"
    with pytest.raises(BudgetExhausted):
        worker.hold(101)
    assert worker.spent() == [(900, 0)]


# -- trouble --


def test_a_process_that_is_stopped_in_the_middle_lets_calls_fail_soon_and_loses_nothing(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.balances.PATIENCE_S", 0.01)
    monkeypatch.setattr("penstock.ledger.balances.Balances.acquire.__defaults__", (0.01,))
    worker, other = hire(), hire()
    running, other_call, third = worker.hold(100), worker.hold(50), worker.hold(0)
    with sitting_on_the_lock(other):
        with pytest.raises(Overloaded, match="sits on the lock"):
            worker.hold(1)
        worker.settle(running, 90)
        worker.settle(other_call, 40)
        with pytest.raises(Overloaded):
            worker.grow(third, 500)
        assert worker.spent() == [(0, 150)], "as last seen"
    assert other.spent() == [(0, 150)]
    assert worker.spent() == [(130, 0)], "what was settled meanwhile is booked now"
    assert other.spent() == [(130, 0)]


def test_what_was_settled_late_is_booked_with_the_next_hold_or_settlement(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.balances.Balances.acquire.__defaults__", (0.0,))
    worker, other = hire(), hire()
    for by_hold in (True, False):
        running, last = worker.hold(100), worker.hold(1)
        with sitting_on_the_lock(other):
            worker.settle(running, 10)
        worker.budgets._table._lock._stuck_until = 0.0
        if by_hold:
            worker.hold(1)
        else:
            worker.settle(last, 0)
        assert not worker.budgets._bookings._waiting
    assert other.spent() == [(20, 2)]


def test_a_period_that_cannot_be_begun_while_the_file_is_stuck_begins_later(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.shared_budgets.SLOW_S", 0.0)
    worker, other = hire(), hire()
    with sitting_on_the_lock(other):
        assert worker.spent(NOW + DAY) == [(0, 0)]
        with pytest.raises(Overloaded):
            worker.hold(1, NOW + 2 * DAY)
    worker.budgets._table._lock._stuck_until = 0.0
    worker.hold(5, NOW + DAY)
    assert other.spent(NOW + DAY) == [(0, 5)]


def test_after_closing_calls_are_refused_and_settlements_do_no_harm(hire):
    worker, other = hire(), hire()
    running = worker.hold(100)
    worker.intend(running)
    worker.receive(running, 60)
    worker.budgets.close()
    worker.settle(running, 60)
    with pytest.raises(Overloaded, match="ending"):
        worker.hold(1)
    assert sweep(other.home) == 1
    assert other.spent() == [(60, 0)]


def test_the_lock_is_not_held_between_two_bookings(hire, home):
    worker = hire()
    worker.hold(5)
    with (home / "balances" / "table").open("rb") as table:
        fcntl.flock(table, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- any sequence of calls, processes and deaths, against a model that keeps every call --

LIMITS = (
    Limit(WEB, "day", 1000, "Europe/Berlin"),
    Limit(WEB, "month", 2500, "Australia/Lord_Howe"),
    Limit(INVOICES, "day", 700, "Asia/Kolkata"),
    Limit(Scope("user", "ann"), "month", 1500),
)


class Call:
    def __init__(self, worker, who, at, held, ceiling):
        self.worker, self.who, self.at = worker, who, at
        self.holds, self.intended, self.cost, self.over = [held], None, None, False
        self.ceilings = [ceiling]

    @property
    def debt(self):
        """What it costs if its process is dead."""
        return self.cost if self.cost is not None else self.intended or 0


class Sharing(RuleBasedStateMachine):
    """Workers come, call, die at any point of a call and are swept; the model sums all calls up anew each time."""

    @initialize()
    def open(self):
        self.folder = Path(tempfile.mkdtemp())
        self.now = to_ns(datetime(2026, 10, 24, 0, tzinfo=UTC))
        self.workers, self.calls = [Worker(self.folder, LIMITS, self.now)], []

    def teardown(self):
        for worker in self.workers:
            worker.leave()
        shutil.rmtree(self.folder)

    def running(self):
        return [call for call in self.calls if call.worker in self.workers and not call.over]

    def period(self, limit, ns):
        day = from_ns(ns, zone_of(limit.zone)).date()
        return day if limit.window == "day" else day.replace(day=1)

    def booked(self, limit):
        mine = [
            call
            for call in self.calls
            if getattr(call.who, limit.scope.kind) == limit.scope.name
            and self.period(limit, call.at) == self.period(limit, self.now)
        ]
        held = sum(sum(call.ceilings) for call in mine if not call.over)
        return sum(call.debt for call in mine if call.over), held

    def fits(self, who, more):
        applying = [limit for limit in LIMITS if getattr(who, limit.scope.kind) == limit.scope.name]
        return all(sum(self.booked(limit)) + more <= limit.nano_usd for limit in applying)

    def bury(self):
        for call in self.calls:
            if call.worker not in self.workers:
                call.over = True

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def hire(self):
        self.workers.append(Worker(self.folder, LIMITS, self.now))
        self.bury()

    @precondition(lambda self: self.workers)
    @rule(choice=st.randoms(use_true_random=False))
    def die(self, choice):
        worker = choice.choice(self.workers)
        self.workers.remove(worker)
        worker.die()

    @rule()
    def sweep(self):
        sweep(self.folder)
        if self.workers:
            self.bury()

    @precondition(lambda self: self.workers)
    @rule(choice=st.randoms(use_true_random=False), recover=st.booleans())
    def flush(self, choice, recover):
        ledger = choice.choice(self.workers).ledger
        ledger.recover() if recover else ledger.flush(2)

    @precondition(lambda self: self.workers)
    @rule(choice=st.randoms(use_true_random=False))
    def take_over(self, choice):
        worker = choice.choice(self.workers)
        worker.budgets = SharedBudgets(LIMITS, now_ns=self.now, home=self.folder, before=worker.budgets)

    @precondition(lambda self: self.workers)
    @rule(
        choice=st.randoms(use_true_random=False),
        team=st.sampled_from(["web", "app", None]),
        feature=st.sampled_from(["invoices", None]),
        user=st.sampled_from(["ann", "bob"]),
        ceiling=st.integers(0, 400),
    )
    def begin(self, choice, team, feature, user, ceiling):
        worker, who = choice.choice(self.workers), Who(team=team, feature=feature, user=user)
        fits = self.fits(who, ceiling)
        try:
            held = worker.hold(ceiling, self.now, who)
        except BudgetExhausted:
            assert not fits, "a call that fits is let in"
        else:
            assert fits, "a call that does not fit is refused"
            self.calls.append(Call(worker, who, self.now, held, ceiling))

    @precondition(lambda self: self.running())
    @rule(choice=st.randoms(use_true_random=False), more=st.integers(0, 300))
    def grow(self, choice, more):
        call = choice.choice(self.running())
        if self.now != call.at:
            return
        fits = self.fits(call.who, more)
        try:
            call.worker.grow(call.holds[0], call.ceilings[0] + more)
        except BudgetExhausted:
            assert not fits
        else:
            assert fits or not more or not call.holds[0].held.periods
            call.ceilings[0] += more

    @precondition(lambda self: self.running())
    @rule(choice=st.randoms(use_true_random=False))
    def again(self, choice):
        call = choice.choice(self.running())
        if self.now != call.at:
            return
        name = call.holds[0].id
        try:
            call.holds.append(call.worker.hold(call.ceilings[0], call.at, call.who, name))
        except BudgetExhausted:
            assert not self.fits(call.who, call.ceilings[0])
        else:
            call.ceilings.append(call.ceilings[0])

    @precondition(lambda self: self.running())
    @rule(choice=st.randoms(use_true_random=False))
    def intend(self, choice):
        call = choice.choice(self.running())
        if call.intended is None and call.cost is None:
            call.intended = call.ceilings[0]
            call.worker.intend(call.holds[0], call.intended)

    @precondition(lambda self: self.running())
    @rule(choice=st.randoms(use_true_random=False), share=st.integers(0, 100), settles=st.integers(0, 3))
    def end(self, choice, share, settles):
        """Write the receipt, and perhaps get as far as settling some of the holds or all of them."""
        call = choice.choice(self.running())
        if call.cost is None:
            call.cost = call.ceilings[0] * share // 100 if call.intended is not None else 0
            call.worker.receive(call.holds[0], call.cost)
        for _ in range(settles):
            if len(call.holds) > 1:
                call.worker.settle(call.holds.pop(), 0)
                call.ceilings.pop()
            elif not call.over:
                call.worker.settle(call.holds[0], call.cost)
                call.over = True

    @rule(minutes=st.integers(1, 3000))
    def wait(self, minutes):
        self.now += minutes * 60 * 10**9

    @invariant()
    def everyone_sees_the_same_and_it_is_exact_and_within_the_limits(self):
        for worker in self.workers:
            for limit, state in zip(LIMITS, worker.budgets.states(self.now), strict=True):
                assert (state.spent_nano_usd, state.held_nano_usd) == self.booked(limit)
                assert 0 <= state.spent_nano_usd + state.held_nano_usd <= limit.nano_usd

    @precondition(lambda self: self.workers)
    @rule()
    def the_balance_is_what_the_receipts_say_and_what_is_open(self):
        sweep(self.folder)
        self.bury()
        ledger = self.workers[0].ledger
        ledger.recover()
        for worker in self.workers:
            while worker.ledger.flush():
                pass
        open_costs = dict.fromkeys(LIMITS, 0)
        for call in self.running():
            for limit in LIMITS:
                named = getattr(call.who, limit.scope.kind) == limit.scope.name
                if named and call.cost is not None and self.period(limit, call.at) == self.period(limit, self.now):
                    open_costs[limit] += call.cost
        for limit, budget, state in zip(
            LIMITS, self.workers[0].budgets._budgets, self.workers[0].budgets.states(self.now), strict=True
        ):
            span = Span(budget.period.start_ns, budget.period.end_ns)
            sums = {
                getattr(row, limit.scope.kind): row.cost_nano_usd
                for row in ledger.store.sums(span, (limit.scope.kind,))
            }
            assert sums.get(limit.scope.name, 0) - open_costs[limit] == state.spent_nano_usd


Sharing.TestCase.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
TestSharing = Sharing.TestCase


# -- keys and users, whose balances are added when they are needed --

EACH = Each(BudgetSettings(1000, None))
ANN = Who("k1", user="0123456789abcdef", limits=Limits(day_nano_usd=600, month_nano_usd=5000))


@pytest.fixture
def counting(home):
    """Makes the budgets of one process that counts keys and users."""
    made = []

    def counting(before=None, each=EACH, now_ns=NOW):
        made.append(SharedBudgets((), now_ns=now_ns, home=home, before=before, each=each))
        return made[-1]

    Store.open(home / FILE).close()
    yield counting
    for budgets in made:
        budgets.close()


def hold(budgets, who, ceiling, now_ns=NOW):
    return budgets.hold(who, ceiling, now_ns, IDS.new(now_ns))


def figures(budgets, who=ANN, now_ns=NOW):
    """What is spent and held of a key per day and month, and of a user per day."""
    states = budgets.states(now_ns, [who])
    mine = [one for one in states if one.limit.scope.name in (who.key_id, who.user)]
    return [(one.spent_nano_usd, one.held_nano_usd) for one in mine]


def receive(home, cost, who=ANN, now_ns=NOW):
    store = Store.open(home / FILE)
    receipt = structs.replace(receipt_of(IDS.new(now_ns), cost, who, now_ns), key_id=who.key_id)
    store.add([pack_receipt(receipt)[0]])
    store.close()


def test_whoever_comes_first_adds_a_balance_and_the_others_find_it(counting):
    first, second = counting(), counting()
    held = hold(first, ANN, 400)
    with pytest.raises(BudgetExhausted, match="key 'k1'"):
        hold(second, ANN, 201)
    first.settle(held, 300)
    hold(second, ANN, 300)
    assert figures(first) == figures(second) == figures(counting()) == [(300, 300)] * 3


def test_what_the_receipts_say_counts_once_however_many_begin_with_it(counting, home):
    receive(home, 100)
    receive(home, 7, Who("k2", user="bob"))
    first, second = counting(), counting()
    first.settle(hold(first, ANN, 50), 50)
    receive(home, 50)
    third = counting()
    fourth = counting(before=second)
    assert figures(third) == figures(fourth) == figures(second) == [(150, 0)] * 3
    assert figures(fourth, Who("k2", user="bob", limits=Limits(day_nano_usd=1))) == [(7, 0)] * 2


def test_what_was_booked_in_a_day_counts_once_for_whoever_begins_in_it(counting, home):
    first = counting(now_ns=NOW - DAY)
    first.settle(hold(first, ANN, 40), 40)
    receive(home, 40)
    assert figures(counting()) == figures(first) == [(40, 0)] * 3


def test_nobody_reads_the_receipts_again_once_all_have_been_added(counting, home, monkeypatch):
    counting()
    monkeypatch.setattr("penstock.ledger.shared_budgets.sums_of", None)
    hold(counting(), ANN, 5)


def test_balances_of_all_are_added_a_few_at_a_time(counting, home, monkeypatch):
    monkeypatch.setattr("penstock.ledger.shared_budgets.AT_ONCE", 3)
    store = Store.open(home / FILE)
    for number in range(20):
        who = Who(f"k{number}", user=f"u{number}")
        receipt = structs.replace(receipt_of(IDS.new(NOW), number + 1, who, NOW), key_id=who.key_id)
        store.add([pack_receipt(receipt)[0]])
    store.close()
    budgets = counting()
    whos = [Who(f"k{number}", user=f"u{number}", limits=Limits(month_nano_usd=9)) for number in range(20)]
    found = {(one.limit.scope.kind, one.limit.scope.name): one.spent_nano_usd for one in budgets.states(NOW, whos)}
    assert found == {(kind, f"{kind[0]}{number}"): number + 1 for kind in ("key", "user") for number in range(20)}


def test_a_key_without_a_budget_holds_nothing_and_is_counted_when_its_calls_end(counting, monkeypatch):
    first, second = counting(each=Each()), counting(each=Each())
    free = structs.replace(ANN, limits=None)
    hold(first, free, 1)
    monkeypatch.setattr("penstock.ledger.balances.Balances.acquire.__defaults__", (0.0,))
    other = type("", (), {"budgets": second})
    with sitting_on_the_lock(other):
        held = hold(first, free, 10**6)
    first._table._lock._stuck_until = 0.0
    first.grow(held, 10**7)
    assert figures(second) == [(0, 0)] * 2
    first.settle(held, 70)
    first.settle(held, 70)
    assert figures(second) == [(70, 0)] * 2
    with pytest.raises(BudgetExhausted):
        hold(second, ANN, 531)


def test_a_key_is_counted_in_the_next_day_as_well(counting):
    first, second = counting(each=Each()), counting(each=Each())
    free = structs.replace(ANN, limits=None)
    for now in (NOW, NOW + DAY):
        first.settle(hold(first, free, 5, now), 30)
        second.settle(hold(second, free, 5, now), 3)
    assert figures(first, now_ns=NOW + DAY) == [(33, 0), (66, 0)]


def test_what_was_counted_is_let_go_with_its_line(counting):
    ahead = counting(each=Each())
    late = hold(ahead, structs.replace(ANN, limits=None), 5)
    table, period = ahead._table, late.periods[0]
    table.words[period.line] = 0
    ahead.settle(late, 30)
    assert table.words[period.line + SPENT] == 0
    assert table.words[late.periods[1].line + SPENT] == 30


def test_a_first_call_waits_for_nobody_who_sits_on_the_file(counting, monkeypatch):
    first, second = counting(), counting()
    monkeypatch.setattr("penstock.ledger.shared_budgets.PATIENCE_S", 0.0)
    other = type("", (), {"budgets": second})
    with sitting_on_the_lock(other), pytest.raises(Overloaded):
        hold(first, ANN, 1)
    first._table._lock._stuck_until = 0.0
    hold(first, ANN, 600)
    assert figures(second)[0] == (0, 600)


def test_a_forgotten_caller_is_found_again_with_all_that_it_spent_and_holds(counting, monkeypatch):
    monkeypatch.setattr("penstock.ledger.budgets.SINGLES", 1)
    first = counting()
    running = hold(first, ANN, 0)
    for number in range(20):
        hold(first, Who(f"k{number + 2}", user=f"u{number}", limits=Limits(day_nano_usd=9)), 0)
    assert ANN.key_id not in first._keys
    first.grow(running, 600)
    with pytest.raises(BudgetExhausted):
        first.grow(running, 601)
    assert figures(first, ANN)[0] == (0, 600)
    first.settle(running, 20)
    assert figures(first, ANN)[0] == (20, 0)


def test_a_process_may_die_at_any_step_of_adding_a_balance(counting, home):
    other, numbers, seen = counting(), count(), []

    def begin():
        seen.append(Who(f"k{next(numbers)}", user=f"u{next(numbers)}", limits=ANN.limits))
        return SharedBudgets((), now_ns=NOW, home=home, each=EACH)

    def check(step):
        sweep(home)
        held = hold(other, seen[-1], 600)
        for who in seen:
            assert figures(other, who) == [(0, 600) if who is seen[-1] else (600, 0)] * 3, step
        other.settle(held, 600)

    act = lambda budgets: hold(budgets, seen[-1], 1)  # noqa: E731
    assert killed_at_every_step(begin, act, check, every=43) > 10


FIRST_TOUCH = """
import os, random, sys
from pathlib import Path
from penstock.call import Limits, Who
from penstock.ledger import balances
from penstock.ledger.ids import Ids
from penstock.ledger.limits import Each
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.settings import BudgetSettings

home, now, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
balances.Balances.acquire.__defaults__ = (30.0,)
budgets = SharedBudgets((), now_ns=now, home=home, each=Each(BudgetSettings(10**9)))
name, chance = Ids(random.Random(seed)).new(now), random.Random(seed)
print("up", flush=True)
sys.stdin.readline()
for number in sorted(range(300), key=lambda n: (n // 20, chance.random())):
    who = Who(f"k{number}", user=f"u{number}", limits=Limits(None, None, None, 10**9) if number % 2 else None)
    budgets.settle(budgets.hold(who, 5, now, name), 3)
print("done", flush=True)
sys.stdin.readline()
budgets.close()
"""


def test_processes_that_see_the_same_callers_first_at_one_moment_count_every_call_once(counting, home):
    receive(home, 100, Who("k7", user="u7"))
    run = [sys.executable, "-c", FIRST_TOUCH, str(home), str(NOW)]
    processes = [Popen([*run, str(seed)], stdin=PIPE, stdout=PIPE, text=True) for seed in range(3)]
    try:
        for said, answer in (("up\n", "go\n"), ("done\n", "end\n")):
            assert [one.stdout.readline() for one in processes] == [said] * 3
            if said == "done\n":
                budgets = counting()
                whos = [Who(f"k{n}", user=f"u{n}", limits=Limits(month_nano_usd=10**9)) for n in range(300)]
                found = [one.spent_nano_usd for one in budgets.states(NOW, whos)]
                assert found == [9 + 100 * (number == 7) for number in range(300) for _ in range(2)]
            for one in processes:
                one.stdin.write(answer)
                one.stdin.flush()
    finally:
        for one in processes:
            one.communicate(timeout=30)
    assert [one.returncode for one in processes] == [0] * 3
