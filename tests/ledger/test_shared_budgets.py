"""Budgets in the file that several processes share. A process is a `Worker` here: its locks are as separate as another
process's, and its death lets go of them as the kernel would. Real ones are killed in `test_shared_crash.py`."""

import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.killing import killed_at_every_step
from penstock.call import Who
from penstock.errors import BudgetExhausted, Internal, Overloaded
from penstock.ledger import balances as balances_file
from penstock.ledger import sweeping
from penstock.ledger.balances import MOST
from penstock.ledger.budgets import Limit, Scope
from penstock.ledger.ids import Ids
from penstock.ledger.ledger import Ledger
from penstock.ledger.periods import from_ns, to_ns, zone_of
from penstock.ledger.records import Intent, pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import FILE, Span, Store
from penstock.ledger.sweeping import sweep
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
        who, price = call.who, {"cost_nano_usd": cost, "cost_status": "exact"}
        names = {"team": who.team, "feature": who.feature, "user": who.user}
        self.ledger.settle(Receipt(call.id, call.at, "chat", "m", "ok", 200, **names, **price))

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


@pytest.fixture
def home(tmp_path):
    Store.open(tmp_path / FILE).close()
    return tmp_path


@pytest.fixture
def hire(home):
    """Starts workers in `home`."""
    workers = []

    def hire(limits=ONE, now_ns=NOW):
        workers.append(Worker(home, limits, now_ns))
        return workers[-1]

    yield hire
    for worker in workers:
        worker.leave()


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


@pytest.mark.parametrize("damage", [None, b"", b"nonsense", bytes(5000), b"\xff" * 300_000])
def test_a_missing_or_damaged_file_is_made_anew_if_nobody_uses_it(hire, home, damage):
    first = hire()
    first.call(100, 70)
    first.leave()
    table = home / "balances" / "table"
    if damage is None:
        shutil.rmtree(home / "balances")
    else:
        table.write_bytes(damage)
    second = hire()
    assert second.spent() == [(70, 0)]
    second.hold(930)
    assert hire().spent() == [(70, 930)]


@pytest.mark.parametrize("word", [0, 2])
def test_a_damaged_file_that_others_use_is_not_joined(hire, word):
    first = hire()
    kept = first.budgets._table.words[word]
    first.budgets._table.words[word] = 10**6
    with pytest.raises(Internal, match="damaged") as caught:
        hire()
    assert "made anew from the receipts" in caught.value.hint
    first.budgets._table.words[word] = kept


def test_a_file_that_was_deleted_under_others_is_not_begun_anew_beside_them(hire, home):
    hire()
    (home / "balances" / "table").unlink()
    with pytest.raises(Internal, match="damaged"):
        hire()


def test_a_home_that_cannot_hold_the_file_is_told(tmp_path):
    (tmp_path / "balances").write_text("in the way")
    with pytest.raises(Internal, match="cannot be used"):
        SharedBudgets(ONE, now_ns=NOW, home=tmp_path)


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


def test_more_holds_at_once_than_fit_into_one_area_get_another(hire):
    worker, other = hire(), hire()
    held = [worker.hold(0) for _ in range(2500)]
    mine = other.hold(1)
    assert len({one.held.record for one in [*held, mine]}) == 2501
    for one in held:
        worker.settle(one, 0)
    again = [worker.hold(0) for _ in range(2500)]
    assert {one.held.record for one in again} == {one.held.record for one in held}
    worker.die()
    assert sweep(other.home) == 2500
    replacement = hire()
    assert {replacement.hold(0).held.record for _ in range(2500)} == {one.held.record for one in held}, (
        "areas are used again"
    )


def test_a_thousand_budgets_and_their_next_periods_find_room(hire):
    limits = [Limit(Scope("team", f"t{n}"), "day", 100) for n in range(1500)]
    worker, other = hire(limits), hire(limits)
    for n in range(1500):
        worker.budgets.hold(Who(team=f"t{n}"), n % 100, NOW, IDS.new(NOW))
    assert other.spent() == [(0, n % 100) for n in range(1500)]
    assert worker.spent(NOW + DAY) == [(0, 0)] * 1500


def test_balances_that_are_long_over_make_room_unless_something_is_held_in_them(hire, monkeypatch):
    worker, other = hire(), hire()
    running = worker.hold(7)
    table = worker.budgets._table
    for day in range(2000):
        worker.hold(day % 7, NOW + day * DAY)
    areas = [table._areas(-1), other.budgets._table._areas(-1)]
    assert areas == [areas[0]] * 2
    assert len(areas[0]) == 2, "those with holds stay"
    other.budgets.states(NOW + 2000 * DAY)
    worker.settle(running, 6)
    assert table.words[running.held.periods[0].line + balances_file.SPENT] == 6


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


@contextmanager
def stopped(worker):
    """Another process sits on the lock."""
    table = worker.budgets._table
    table.acquire()
    yield
    table.release()


def test_a_process_that_is_stopped_in_the_middle_lets_calls_fail_soon_and_loses_nothing(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.balances.PATIENCE_S", 0.01)
    monkeypatch.setattr("penstock.ledger.balances.Balances.acquire.__defaults__", (0.01,))
    worker, other = hire(), hire()
    running, other_call, third = worker.hold(100), worker.hold(50), worker.hold(0)
    with stopped(other):
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
        with stopped(other):
            worker.settle(running, 10)
        worker.budgets._table._lock._stuck_until = 0.0
        if by_hold:
            worker.hold(1)
        else:
            worker.settle(last, 0)
        assert not worker.budgets._late
    assert other.spent() == [(20, 2)]


def test_a_period_that_cannot_be_begun_while_the_file_is_stuck_begins_later(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.shared_budgets.SLOW_S", 0.0)
    worker, other = hire(), hire()
    with stopped(other):
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


def test_a_full_disk_refuses_calls_and_leaves_the_balances_as_they_are(hire, monkeypatch):
    worker, other = hire(), hire()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(Overloaded, match="No space left on device"):
        worker.hold(1)
    monkeypatch.undo()
    assert other.spent() == [(0, 0)]
    worker.hold(1000)


def test_a_process_too_many_is_refused(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.sharing.MAX_PROCESSES", 2)
    hire()
    hire()
    with pytest.raises(Internal, match="More than 2 processes"):
        hire()


def test_more_holds_than_the_file_has_room_for_are_refused(hire, monkeypatch):
    worker = hire()
    monkeypatch.setattr("penstock.ledger.balances._MAX_AREAS", 2)
    for _ in range(1024):
        worker.hold(0)
    with pytest.raises(Overloaded, match="Too many calls"):
        worker.hold(0)


# -- the dead --


def test_the_hold_of_a_dead_process_stays_until_the_sweep_and_then_costs_what_its_receipt_says(hire, home):
    worker, other = hire(), hire()
    unknown, cut, answered, settled = (worker.hold(amount) for amount in (1, 10, 100, 300))
    for held in (cut, answered, settled):
        worker.intend(held)
    worker.receive(answered, 70)
    worker.receive(settled, 200)
    worker.settle(settled, 200)
    worker.die()
    assert other.spent() == [(200, 111)]
    with pytest.raises(BudgetExhausted):
        other.hold(690)
    assert sweep(home) == 3
    assert other.spent() == [(280, 0)]
    assert sweep(home) == 0
    other.ledger.recover()
    (total,) = other.ledger.store.sums(Span(0, 2**62), ())
    assert total.cost_nano_usd == 280
    assert unknown.held.open


@pytest.mark.parametrize("recovered", [False, True])
def test_the_sweep_neither_needs_the_recovery_nor_minds_it(hire, home, recovered):
    worker, other = hire(), hire()
    worker.intend(worker.hold(40))
    worker.die()
    if recovered:
        other.ledger.recover()
    sweep(home)
    assert other.spent() == [(40, 0)]
    other.ledger.recover()
    sweep(home)
    assert other.spent() == [(40, 0)]


def test_whoever_joins_sweeps(hire):
    worker, other = hire(), hire()
    worker.intend(worker.hold(40))
    worker.die()
    assert hire().spent() == other.spent() == [(40, 0)]


def test_of_several_holds_of_a_dead_call_one_books_its_cost(hire, home):
    worker, other = hire(TWO), hire(TWO)
    call = IDS.new(NOW)
    first = worker.hold(100, call=call)
    worker.hold(100, call=call)
    worker.hold(50, NOW + DAY, call=call)
    worker.intend(first, 100)
    worker.receive(first, 180)
    worker.die()
    assert sweep(home) == 3
    assert other.spent() == [(180, 0), (180, 0)]
    assert other.spent(NOW + DAY) == [(0, 0), (180, 0)]


def test_what_grew_costs_what_the_intent_says_if_its_process_dies(hire, home):
    worker, other = hire(), hire()
    held = worker.hold(100)
    worker.intend(held)
    worker.grow(held, 400)
    worker.die()
    assert other.spent() == [(0, 400)]
    sweep(home)
    assert other.spent() == [(100, 0)]


def test_nobody_sweeps_where_nobody_is_or_nobody_died(hire, home, tmp_path):
    assert sweep(tmp_path / "nowhere") == 0
    worker = hire()
    worker.hold(5)
    assert sweep(home) == 0
    assert worker.spent() == [(0, 5)]
    worker.die()
    assert sweep(home) == 0, "whoever comes next begins anew"


def test_the_holds_of_the_dead_stay_while_a_journal_cannot_be_read(hire, home, monkeypatch):
    worker, other = hire(), hire()
    worker.intend(worker.hold(40))
    worker.die()
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "read_journals", lambda _: sweeping.Journals({}, newer=True))
        assert sweep(home) == 0
    assert other.spent() == [(0, 40)]
    assert sweep(home) == 1


def test_an_unreadable_journal_folder_is_told(hire, home, monkeypatch):
    def broken(_):
        raise OSError(5, "Input/output error", "journal")

    monkeypatch.setattr(sweeping, "writers", broken)
    with pytest.raises(Internal, match="journal journal cannot be read: Input/output error"):
        sweeping.read_journals(home)


def test_a_segment_that_goes_while_it_is_read_is_in_the_store(home, monkeypatch):
    monkeypatch.setattr(sweeping, "writers", lambda _: ["gone"])
    monkeypatch.setattr(sweeping, "segments_of", lambda *_: [home / "gone.000001.log"])
    assert sweeping.read_journals(home) == sweeping.Journals({})


def test_receipts_that_move_into_the_store_meanwhile_count_once(hire, home):
    """What only a journal knows counts, what the store knows as well does not count twice."""
    first = hire([])
    for _ in range(10):
        first.call(100, 60)
    first.ledger.flush(4)
    with sweeping.sums_of(home) as sums:
        first.ledger.flush(3)
        rows = sums(Span(0, 2**62), ("team",))
        assert {row.team for row in rows} == {"web"}
        assert sum(row.cost_nano_usd for row in rows) == sum(row.calls for row in rows) * 60 == 600


def test_while_others_write_all_the_time_nothing_goes_missing(hire, home, monkeypatch):
    first = hire([])
    for _ in range(5):
        first.call(100, 60)
    versions = count()
    monkeypatch.setattr(Store, "data_version", lambda _: next(versions))
    with sweeping.sums_of(home) as sums:
        assert sum(row.cost_nano_usd for row in sums(Span(0, 2**62), ())) == 300


# -- death at every step --


def test_a_process_may_die_at_any_step_of_a_hold(hire, home):
    other = hire(TWO)
    call = IDS.new(NOW)
    other.hold(7)

    def check(step):
        assert other.spent()[0][1] in {7, 67}, step
        assert other.spent()[0] == other.spent()[1], step
        sweep(home)
        assert other.spent() == [(0, 7)] * 2, step

    steps = killed_at_every_step(
        lambda: SharedBudgets(TWO, now_ns=NOW, home=home),
        lambda budgets: budgets.hold(Who(team="web"), 60, NOW, call),
        check,
    )
    assert steps > 150


def test_a_process_may_die_at_any_step_of_a_settlement(hire, home):
    other = hire(TWO)
    calls = []

    def begin():
        budgets = SharedBudgets(TWO, now_ns=NOW, home=home)
        call = IDS.new(NOW)
        calls.append(Reserved(budgets.hold(BY_WEB, 60, NOW, call), call, BY_WEB, NOW))
        other.intend(calls[-1])
        other.receive(calls[-1], 1)
        return budgets

    def check(step):
        ended = len(calls)
        assert other.spent()[0] in {(ended - 1, 60), (ended, 0)}, step
        assert other.spent()[0] == other.spent()[1], step
        sweep(home)
        assert other.spent() == [(ended, 0)] * 2, step

    assert killed_at_every_step(begin, lambda budgets: budgets.settle(calls[-1].held, 1), check) > 100


def test_a_process_may_die_at_any_step_of_growing(hire, home):
    other = hire(TWO)
    calls = []

    def begin():
        budgets = SharedBudgets(TWO, now_ns=NOW, home=home)
        calls[:] = [budgets.hold(Who(team="web"), 60, NOW, IDS.new(NOW))]
        return budgets

    def check(step):
        assert other.spent()[0] in {(0, 60), (0, 90)}, step
        assert other.spent()[0] == other.spent()[1], step
        sweep(home)
        assert other.spent() == [(0, 0)] * 2, step

    assert killed_at_every_step(begin, lambda budgets: budgets.grow(calls[-1], 90), check) > 100


def test_a_process_may_die_at_any_step_of_beginning_a_period(hire, home):
    other = hire()
    days = count(1)
    moment = [NOW]

    def begin():
        moment[0] = NOW + next(days) * DAY
        return SharedBudgets(ONE, now_ns=moment[0] - DAY, home=home)

    def check(step):
        sweep(home)
        assert other.spent(moment[0]) == [(0, 0)], step

    act = lambda budgets: budgets.hold(Who(team="web"), 1000, moment[0], IDS.new(NOW))  # noqa: E731
    assert killed_at_every_step(begin, act, check, every=41) > 10


def test_a_sweep_may_die_at_any_step_and_the_next_goes_on_with_it(hire, home):
    other = hire()
    total = [0]

    def begin():
        budgets = SharedBudgets(ONE, now_ns=NOW, home=home)
        call = IDS.new(NOW)
        for _ in range(2):
            budgets.hold(BY_WEB, 60, NOW, call)
        receipt = Receipt(call, NOW, "chat", "m", "ok", 200, team="web", cost_nano_usd=1, cost_status="exact")
        other.ledger.store.add([pack_receipt(receipt)[0]])
        total[0] += 1
        budgets._table.close()

    def check(step):
        sweep(home)
        assert other.spent() == [(total[0], 0)], step

    assert killed_at_every_step(begin, lambda _: sweep(home), check, every=37) > 30


def test_a_process_may_die_at_any_step_of_joining_and_so_may_the_first_one(hire, home):
    shown = hire()
    shown.call(100, 60)
    shown.leave()
    for first in (True, False):
        other = None if first else hire()

        def check(step, other=other):
            if other is not None:
                assert other.spent() == [(60, 0)], step
            budgets = SharedBudgets(ONE, now_ns=NOW, home=home)
            assert [(state.spent_nano_usd, state.held_nano_usd) for state in budgets.states(NOW)] == [(60, 0)], step
            budgets.close()

        def join(_):
            SharedBudgets(ONE, now_ns=NOW, home=home).close()

        assert killed_at_every_step(lambda: None, join, check, every=23) > 10


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


def test_the_lock_is_not_held_between_two_bookings(hire, home):
    worker = hire()
    worker.hold(5)
    with (home / "balances" / "table").open("rb") as table:
        fcntl.flock(table, fcntl.LOCK_EX | fcntl.LOCK_NB)
