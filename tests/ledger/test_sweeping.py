"""What dead processes held is settled once, by what their calls cost."""

import os
from itertools import count

import pytest

from ledger.killing import killed_at_every_step
from ledger.workers import BY_WEB, DAY, IDS, NOW, ONE, TWO, hiring, receipt_of
from penstock.errors import BudgetExhausted, Internal
from penstock.ledger import sweeping
from penstock.ledger.journal import lock
from penstock.ledger.records import pack_receipt
from penstock.ledger.shared_budgets import SharedBudgets
from penstock.ledger.store import Span, Store
from penstock.ledger.sweeping import sweep


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def hire(home):
    with hiring(home) as hire:
        yield hire


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


def test_a_recovery_between_the_two_looks_of_a_sweep_hides_no_call_from_it(hire, home, monkeypatch):
    worker, other = hire(), hire()
    worker.intend(worker.hold(40))
    worker.die()
    looks = {"journals": sweeping.read_journals, "store": Store.call}

    def look(kind, *args):
        found = looks[kind](*args)
        monkeypatch.undo()
        assert other.ledger.recover().interrupted == 1
        return found

    monkeypatch.setattr(sweeping, "read_journals", lambda *args: look("journals", *args))
    monkeypatch.setattr(Store, "call", lambda *args: look("store", *args))
    assert sweep(home) == 1
    assert other.spent() == [(40, 0)]


def test_of_two_who_sweep_at_once_one_does(hire, home, monkeypatch):
    worker, other = hire(), hire()
    worker.intend(worker.hold(40))
    worker.die()
    read, inner = sweeping.read_journals, []

    def meanwhile(folder):
        inner.append(sweep(home))
        return read(folder)

    monkeypatch.setattr(sweeping, "read_journals", meanwhile)
    assert (sweep(home), inner) == (1, [0])
    assert other.spent() == [(40, 0)]


def test_who_joins_while_somebody_else_recovers_the_dead_counts_their_calls_all_the_same(hire, home):
    worker = hire()
    worker.intend(worker.hold(40))
    answered = worker.hold(500)
    worker.intend(answered)
    worker.receive(answered, 300)
    folder, writer = worker.ledger._journal.folder, worker.ledger._journal.writer
    worker.die()
    recovering = lock(folder, writer)
    try:
        assert hire().spent() == [(340, 0)]
    finally:
        os.close(recovering)


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


def test_a_receipt_that_moves_between_the_two_looks_is_looked_for_again(hire, home, monkeypatch):
    first = hire([])
    for _ in range(5):
        first.call(100, 60)
    look = Store.sums

    def move(store, span, by):
        found = look(store, span, by)
        first.ledger.flush()
        return found

    monkeypatch.setattr(Store, "sums", move)
    with sweeping.sums_of(home) as sums:
        assert sum(row.cost_nano_usd for row in sums(Span(0, 2**62), ())) == 300


def test_while_others_write_all_the_time_nothing_goes_missing(hire, home, monkeypatch):
    first = hire([])
    for _ in range(5):
        first.call(100, 60)
    versions = count()
    monkeypatch.setattr(Store, "data_version", lambda _: next(versions))
    with sweeping.sums_of(home) as sums:
        assert sum(row.cost_nano_usd for row in sums(Span(0, 2**62), ())) == 300


def test_a_sweep_may_die_at_any_step_and_the_next_goes_on_with_it(hire, home):
    other = hire()
    total = [0]

    def begin():
        budgets = SharedBudgets(ONE, now_ns=NOW, home=home)
        call = IDS.new(NOW)
        for _ in range(2):
            budgets.hold(BY_WEB, 60, NOW, call)
        other.ledger.store.add([pack_receipt(receipt_of(call, 1))[0]])
        total[0] += 1
        budgets._table.close()

    def check(step):
        sweep(home)
        assert other.spent() == [(total[0], 0)], step

    assert killed_at_every_step(begin, lambda _: sweep(home), check, every=97) > 30
