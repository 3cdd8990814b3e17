"""What ends in one turn of the loop is booked at its end, behind the receipts; nobody is refused for it, and nothing is lost."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.killing import killed_at_every_step
from ledger.spending import Turns
from ledger.workers import BY_WEB, DAY, IDS, NOW, ONE, TWO, WEB, hiring, receipt_of, sitting_on_the_lock
from penstock.call import Limits, Who
from penstock.errors import BudgetExhausted
from penstock.ledger.budgets import Each, Limit, Scope
from penstock.ledger.records import pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.sweeping import read_journals, sweep
from penstock.outbox import Outbox
from penstock.settings import BudgetSettings


@pytest.fixture
def hire(tmp_path):
    with hiring(tmp_path) as hire:
        yield hire


def gathering(worker):
    """Let this worker have turns; give what ends one."""
    turns = Turns()
    outbox = Outbox(turns)
    worker.budgets.gather(outbox, worker.ledger)
    worker.ledger.gather(outbox)
    worker.outbox = outbox
    return turns


def known(worker, *whos):
    """Let these callers be known from earlier calls."""
    for who in whos * 2:
        worker.settle(worker.hold(0, who=who), 0)


def begun(worker, *ceilings, who=BY_WEB):
    calls = [worker.hold(ceiling, who=who) for ceiling in ceilings]
    for call in calls:
        worker.intend(call)
    return calls


def end(worker, call, cost):
    worker.receive(call, cost)
    worker.settle(call, cost)


def commits(worker, monkeypatch):
    """Note how much this worker books at once, and look each time whether the journal has all receipts."""
    seen, table = [], worker.budgets._table
    inner = type(table).close_records

    def close_records(self, records, held, lines, cost):
        seen.append(2 * len(records) + 4 * len(lines))
        assert not worker.ledger.receipts_wait, "a balance is ahead of a receipt"
        inner(self, records, held, lines, cost)

    monkeypatch.setattr(type(table), "close_records", close_records)
    return seen


def test_what_ends_in_a_turn_is_booked_at_once_at_its_end_behind_the_receipts(hire, monkeypatch):
    worker, other = hire(TWO), hire(TWO)
    known(worker, BY_WEB)
    turns = gathering(worker)
    calls = begun(worker, *[10] * 16)
    turns.end()
    seen = commits(worker, monkeypatch)
    for call in calls:
        end(worker, call, 3)
    assert (seen, other.spent()) == ([], [(0, 160)] * 2)
    worker.outbox.commit()
    assert seen == [16 * 2 + 2 * 4], "one commit for all of them"
    assert other.spent() == [(48, 0)] * 2
    turns.end()
    assert len(seen) == 1


def test_more_than_the_log_has_room_for_are_booked_in_parts(hire, monkeypatch):
    who = Who(key_id="k", team="t", feature="f", user="u")
    names = {"team": "t", "feature": "f", "key": "k", "user": "u"}
    limits = [Limit(Scope(kind, name), window, 1000) for kind, name in names.items() for window in ("day", "month")]
    worker, other = hire(limits), hire(limits)
    known(worker, who)
    gathering(worker)
    calls = begun(worker, *[10] * 40, who=who)
    worker.outbox.commit()
    seen = commits(worker, monkeypatch)
    for call in calls:
        end(worker, call, 7)
    worker.outbox.commit()
    assert seen == [64, 64, 2 * 8 + 32]
    assert other.spent() == [(280, 0)] * 8
    again = begun(worker, *[10] * 40, who=who)
    assert {one.held.record for one in again} == {one.held.record for one in calls}


def test_callers_that_take_turns_are_booked_together_all_the_same(hire, monkeypatch):
    limits = [Limit(WEB, "day", 1000), Limit(Scope("team", "app"), "day", 1000)]
    worker, other = hire(limits), hire(limits)
    known(worker, BY_WEB, Who(team="app"))
    gathering(worker)
    calls = [begun(worker, 10, who=Who(team=("web", "app")[number % 2]))[0] for number in range(9)]
    begun(worker, 1)
    worker.outbox.commit()
    seen = commits(worker, monkeypatch)
    for call in calls:
        end(worker, call, 2)
    end(worker, begun(worker, 1, who=Who(team="app"))[0], 1)
    assert not seen
    worker.outbox.commit()
    assert len(seen) == 2
    assert other.spent() == [(10, 1), (9, 0)]


def test_a_call_that_is_alone_is_booked_at_once(hire):
    worker, other = hire(), hire()
    gathering(worker)
    (call,) = begun(worker, 10)
    end(worker, call, 3)
    assert other.spent() == [(3, 0)]


def test_nothing_is_refused_for_money_that_was_given_back_in_this_turn(hire, monkeypatch):
    worker, other = hire(), hire()
    gathering(worker)
    calls = begun(worker, 500, 400, 50)
    worker.outbox.commit()
    seen = commits(worker, monkeypatch)
    end(worker, calls[0], 10)
    worker.hold(50)
    assert not seen, "it fits, and what has ended waits"
    held = worker.hold(490)
    assert other.spent() == [(10, 990)]
    with pytest.raises(BudgetExhausted, match=r"0\.00000001 are spent and 0\.00000099 held"):
        worker.hold(1)
    end(worker, calls[1], 20)
    worker.grow(held, 870)
    assert other.spent() == [(30, 970)]


def test_whoever_looks_sees_what_has_ended_in_this_turn(hire):
    worker = hire()
    gathering(worker)
    calls = begun(worker, 500, 400)
    worker.outbox.commit()
    end(worker, calls[0], 500)
    assert worker.spent() == [(500, 400)]
    end(worker, calls[1], 400)
    worker.budgets.refuse(BY_WEB, 101, NOW)
    worker.budgets.refuse(BY_WEB, 100, NOW)
    assert [state.refused for state in worker.budgets.states(NOW)] == [1]


def test_closing_books_what_waits(hire):
    worker, other = hire(), hire()
    gathering(worker)
    calls = begun(worker, 500, 400)
    worker.outbox.commit()
    for call in calls:
        end(worker, call, 60)
    worker.budgets.close()
    assert len(read_journals(worker.home).calls) == 2
    assert not worker.ledger.receipts_wait
    assert other.spent() == [(120, 0)]
    assert sweep(worker.home) == 0
    worker.outbox.commit()
    assert other.spent() == [(120, 0)]


def test_what_a_configuration_of_before_lets_end_is_booked_as_well(hire):
    worker, other = hire(), hire()
    gathering(worker)
    calls = begun(worker, 500, 400)
    worker.outbox.commit()
    before = worker.budgets
    worker.budgets = SharedBudgets(TWO, now_ns=NOW, home=worker.home, before=before)
    for budgets, call in zip((before, worker.budgets), calls, strict=True):
        worker.receive(call, 60)
        budgets.settle(call.held, 60)
    assert other.spent() == [(0, 900)]
    worker.outbox.commit()
    assert other.spent() == [(120, 0)]


def test_where_somebody_sits_on_the_file_at_the_end_of_a_turn_it_is_booked_later(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.balances.Balances.acquire.__defaults__", (0.0,))
    worker, other = hire(), hire()
    turns = gathering(worker)
    calls = begun(worker, 500, 400)
    turns.end()
    for call in calls:
        end(worker, call, 60)
    with sitting_on_the_lock(other):
        turns.end()
    assert other.spent() == [(0, 900)]
    worker.budgets._table._lock._stuck_until = 0.0
    worker.hold(5)
    assert other.spent() == [(120, 5)]


def test_a_process_may_die_at_any_step_of_the_end_of_a_turn(hire, tmp_path):
    limits = (Limit(WEB, "day", 10**9), Limit(WEB, "month", 10**9))
    other, costs = hire(limits), [0]

    def begin():
        budgets = SharedBudgets(limits, now_ns=NOW, home=tmp_path)
        names = [IDS.new(NOW) for _ in range(3)]
        holds = [budgets.hold(BY_WEB, 40, NOW, name) for name in names]
        budgets._places.clear()  # as another key's new limits do
        more = budgets.hold(BY_WEB, 40, NOW, names[0])
        for name, cost in zip(names, (30, 0, 20), strict=True):
            other.ledger.store.add([row_of(name, cost)])
        budgets._bookings._is_due = True
        budgets.settle(more, 0)
        for held, cost in zip(holds, (30, 0, 20), strict=True):
            budgets.settle(held, cost)
        costs[0] += 50
        return budgets

    def check(step):
        assert other.spent()[0] == other.spent()[1], step
        sweep(tmp_path)
        assert other.spent() == [(costs[0], 0)] * 2, step

    assert killed_at_every_step(begin, lambda budgets: budgets._bookings._end_turn(), check, every=3) > 50


def test_a_process_may_die_at_any_step_of_a_hold_that_finds_its_place_known(hire, tmp_path):
    other = hire(TWO)
    other.hold(7)

    def begin():
        budgets = SharedBudgets(TWO, now_ns=NOW, home=tmp_path)
        for _ in range(2):
            budgets.settle(budgets.hold(BY_WEB, 60, NOW, IDS.new(NOW)), 0)
        assert budgets._places
        return budgets

    def check(step):
        assert other.spent()[0] in {(0, 7), (0, 67)}, step
        assert other.spent()[0] == other.spent()[1], step
        sweep(tmp_path)
        assert other.spent() == [(0, 7)] * 2, step

    steps = killed_at_every_step(begin, lambda budgets: budgets.hold(BY_WEB, 60, NOW, IDS.new(NOW)), check)
    assert steps > 100


def row_of(name, cost):
    return pack_receipt(receipt_of(name, cost))[0]


# -- with turns and without --

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 300), st.sampled_from(["web", "app"])),
        st.tuples(st.just("end"), st.integers(0, 20), st.integers(0, 120)),
        st.tuples(st.just("grow"), st.integers(0, 20), st.integers(0, 200)),
        st.tuples(st.just("turn"), st.just(0), st.just(0)),
        st.tuples(st.just("look"), st.just(0), st.just(0)),
    ),
    max_size=60,
)
TEAMS = (Limit(WEB, "day", 700), Limit(Scope("team", "app"), "month", 500), Limit(WEB, "month", 900))


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, dies=st.booleans())
def test_a_process_with_turns_decides_as_one_without(steps, dies):
    folders = [Path(tempfile.mkdtemp()) for _ in range(2)]
    try:
        with hiring(folders[0]) as hire, hiring(folders[1]) as hire_plain:
            workers = hire(TEAMS), hire_plain(TEAMS)
            watching = hire(TEAMS), hire_plain(TEAMS)
            turns = gathering(workers[0])
            running = [], []
            for step in steps:
                said = [take(worker, own, step, turns) for worker, own in zip(workers, running, strict=True)]
                assert said[0] == said[1], step
            if dies:
                workers[0].outbox.commit()
                for worker in workers:
                    worker.die()
                for folder in folders:
                    sweep(folder)
            else:
                turns.end()
            assert watching[0].spent() == watching[1].spent()
    finally:
        for folder in folders:
            shutil.rmtree(folder)


def take(worker, running, step, turns):
    kind, number, detail = step
    if kind == "begin":
        try:
            running.extend(begun(worker, number, who=Who(team=detail)))
        except BudgetExhausted as error:
            return str(error)
    elif kind == "turn":
        turns.end()
    elif kind == "look":
        return worker.spent()
    elif running:
        call = running[number % len(running)]
        if kind == "grow":
            try:
                worker.grow(call, call.held.ceiling_nano_usd + detail)
            except BudgetExhausted as error:
                return str(error)
        else:
            running.remove(call)
            end(worker, call, call.held.ceiling_nano_usd * detail // 100)
    return len(running)


# -- the short way of a hold, and the general one --

USERS = Each(BudgetSettings(900, None))
NAMED = (Limit(WEB, "day", 900), Limit(WEB, "month", 2000, soft=True), Limit(Scope("model", "m"), "day", 1500))
KEYS = [Limits(day_nano_usd=500), Limits(month_nano_usd=800), None]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_short_way_decides_as_the_general_one(seed):
    folders = [Path(tempfile.mkdtemp()) for _ in range(2)]
    found = []
    try:
        for folder, places in zip(folders, (3 + seed % 30, 0), strict=True):
            found.append(history(folder, random.Random(seed), places))
        assert found[0][0] == found[1][0]
        assert found[1][1] == 0
    finally:
        for folder in folders:
            shutil.rmtree(folder)


def history(folder, chance, places):
    """Make calls of a few callers, with days that pass, limits that change and another process; give what became of them."""
    with hiring(folder) as hire:
        hire().leave()
        mine, other = (SharedBudgets(NAMED, now_ns=NOW, home=folder, each=USERS) for _ in range(2))
        mine._most_places, now, limits, running, said, kept = places, NOW, KEYS[0], [], [], 0
        before = mine
        for _ in range(120):
            what = chance.randrange(12)
            if what == 0:
                now += chance.choice((DAY, DAY // 3, -DAY // 4))
            elif what == 1:
                limits = chance.choice(KEYS)
            elif what == 2:
                before, mine = mine, SharedBudgets(NAMED, now_ns=now, home=folder, each=USERS, before=mine)
                mine._most_places = places
            elif what == 3 and mine._table.words[mine._budgets[0].period.line]:
                mine._table._expire(now + 4 * DAY)
            elif what < 7 and running:
                budgets, held = running.pop(chance.randrange(len(running)))
                budgets.settle(held, chance.randrange(held.ceiling_nano_usd + 1))
            else:
                who = Who(chance.choice(("k", "l")), team=chance.choice(("web", None)), limits=limits, user="u")
                budgets, ceiling = chance.choice((mine, mine, before, other)), chance.choice((None, *range(0, 300, 30)))
                try:
                    held = budgets.hold(who, ceiling, now, IDS.new(now), chance.choice(("m", "n")))
                except BudgetExhausted as error:
                    said.append(str(error))
                else:
                    running.append((budgets, held))
                    said.append(held.ceiling_nano_usd)
            states = mine.states(now)
            said.append(sorted([repr(state) for state in states]))
            kept = max(kept, len(mine._places))
        mine.close()
        other.close()
    return said, kept


def test_a_hold_whose_place_is_known_takes_the_short_way(hire, monkeypatch):
    worker = hire(ONE)
    worker.hold(60)
    worker.hold(40)
    monkeypatch.setattr(worker.budgets, "_applying", None)
    held = worker.hold(900)
    monkeypatch.undo()
    with pytest.raises(BudgetExhausted):
        worker.hold(1)
    worker.settle(held, 0)
    assert worker.spent() == [(0, 100)]
    assert worker.hold(1, NOW + DAY).held.periods[0].start_ns > held.held.periods[0].start_ns


def test_places_are_not_remembered_without_bound(hire, monkeypatch):
    monkeypatch.setattr("penstock.ledger.shared_budgets.WALLETS", 3)
    worker = hire(ONE)
    for number in range(10):
        who = Who(team="web", feature=str(number))
        worker.budgets.hold(who, 1, NOW, IDS.new(NOW))
        assert (who.team, who.feature, None, None, "") not in worker.budgets._places, "it came once"
        worker.budgets.hold(who, 1, NOW, IDS.new(NOW))
        assert 0 < len(worker.budgets._places) <= 3


@pytest.fixture
def counting(tmp_path):
    """Makes the budgets of a process that counts keys."""
    made = []

    def counting(before=None):
        made.append(SharedBudgets(NAMED, now_ns=NOW, home=tmp_path, each=USERS, before=before))
        return made[-1]

    with hiring(tmp_path):
        yield counting
    for budgets in made:
        budgets.close()


def of_key(budgets):
    return [state.limit.nano_usd for state in budgets.states(NOW) if state.limit.scope.kind == "key"]


def called(budgets, limits, model="", now_ns=NOW):
    return budgets.hold(Who("k", limits=limits), 1, now_ns, IDS.new(now_ns), model)


def test_a_place_is_found_anew_once_another_caller_has_begun_the_next_period(counting):
    budgets = counting()
    for _ in range(2):
        called(budgets, KEYS[0], "m")
    later = called(budgets, KEYS[0], "n", NOW + DAY)
    again = called(budgets, KEYS[0], "m")
    assert [*again.periods[1:]] == [*later.periods], "a clock that steps back brings no period back"


def test_a_place_is_found_anew_once_the_limits_of_its_key_were_others(counting):
    budgets = counting()
    called(budgets, KEYS[0], "m")
    for limits, model, day in ((KEYS[0], "m", 500), (Limits(day_nano_usd=400), "n", 400), (KEYS[0], "m", 500)):
        called(budgets, limits, model)
        assert of_key(budgets) == [day]


def test_a_configuration_of_before_remembers_no_places(counting):
    before = counting()
    for _ in range(2):
        called(before, KEYS[0])
    after = counting(before)
    called(after, Limits(day_nano_usd=400))
    for _ in range(3):
        called(before, KEYS[0])
    assert not before._places
    assert of_key(after) == [500]
