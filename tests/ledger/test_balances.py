"""The file of shared balances: its beginning, its growth, its end, and death at every step of a change."""

import shutil
from itertools import count

import pytest

from ledger.killing import killed_at_every_step
from ledger.workers import (
    BY_WEB,
    DAY,
    IDS,
    NOW,
    ONE,
    TWO,
    hiring,
    receipt_of,
)
from penstock.call import Who
from penstock.errors import Internal, Overloaded
from penstock.ledger import balances as balances_file
from penstock.ledger.budgets import Limit, Scope
from penstock.ledger.records import pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.sweeping import sweep


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def hire(home):
    with hiring(home) as hire:
        yield hire


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


def test_balances_that_are_over_make_room_for_those_of_later_days(hire):
    worker, other = hire(), hire()
    for day in range(3000):
        worker.settle(worker.hold(9, NOW + day * DAY), day)
        if day % 100 == 0:
            assert other.spent(NOW + day * DAY) == [(day, 0)]
    assert len(worker.budgets._table._areas(-1)) == 1


def test_what_a_dead_process_leaves_is_used_for_balances_that_everybody_finds(hire, home):
    limits = [Limit(Scope("team", f"t{n}"), "day", 100) for n in range(3000)]
    first, dead, third = hire(limits[:1000]), hire(limits[:1000]), hire(limits[:1000])
    dead.budgets.hold(Who(team="t0"), 1, NOW, IDS.new(NOW))
    first.budgets.hold(Who(team="t1"), 2, NOW, IDS.new(NOW))
    first.budgets = SharedBudgets(limits[:2000], now_ns=NOW, home=home, before=first.budgets)
    dead.die()
    sweep(home)
    owners = [first.budgets._table.words[balances_file._OWNERS + number] for number in range(4)]
    assert owners == [-1, 0, 1, -1], "balances, nobody, the first, balances"
    first.budgets = SharedBudgets(limits, now_ns=NOW, home=home, before=first.budgets)
    assert first.budgets._table._areas(-1)[1] < first.budgets._table._areas(1)[0], "among the others"
    for n in range(3000):
        first.budgets.hold(Who(team=f"t{n}"), n % 50, NOW, IDS.new(NOW))
    third.budgets = SharedBudgets(limits, now_ns=NOW, home=home, before=third.budgets)
    assert first.budgets._table._areas(-1) == third.budgets._table._areas(-1)
    assert third.spent() == first.spent() == [(0, n % 50 + 2 * (n == 1)) for n in range(3000)]
    lines = [budget.period.line for budget in third.budgets._budgets]
    assert lines == [budget.period.line for budget in first.budgets._budgets]
    assert len(set(lines)) == 3000


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
    monkeypatch.setattr("penstock.ledger.processes.MAX_PROCESSES", 2)
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
        calls.append(budgets.hold(BY_WEB, 60, NOW, call))
        other.ledger.store.add([pack_receipt(receipt_of(call, 1))[0]])
        return budgets

    def check(step):
        ended = len(calls)
        assert other.spent()[0] in {(ended - 1, 60), (ended, 0)}, step
        assert other.spent()[0] == other.spent()[1], step
        sweep(home)
        assert other.spent() == [(ended, 0)] * 2, step

    assert killed_at_every_step(begin, lambda budgets: budgets.settle(calls[-1], 1), check) > 100


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

        assert killed_at_every_step(lambda: None, join, check, every=59) > 10
