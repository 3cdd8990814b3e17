import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from penstock.errors import Internal
from penstock.ledger import rolling
from penstock.ledger.background import Background
from penstock.ledger.database import StoreBusy
from penstock.ledger.ids import id_bytes
from penstock.ledger.periods import QUARTER_NS
from penstock.ledger.records import pack_receipt
from penstock.ledger.rolling import Roller, Rolling
from penstock.ledger.rollups import DAY, LATE_NS, WAYS, WIDE
from penstock.ledger.store import FILE, Filter, Span, Store

DAY_NS = DAY * QUARTER_NS
START = 1_763_683_200_000_000_000  # 2025-11-21T00:00:00Z
LATER = START + 3 * DAY_NS
EVER = Span(0, 2**62)


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE


@pytest.fixture
def store(path):
    opened = Store.open(path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def little_is_enough(monkeypatch):
    monkeypatch.setattr(rolling, "LEAST", {1: 4, DAY: 4})


def row(receipt):
    return pack_receipt(receipt)[0]


def fill(store, make, calls=40, start=START, **changes):
    """Calls within four quarters of an hour."""
    receipts = [make.receipt(start + number * QUARTER_NS // 10, **changes) for number in range(calls)]
    store.add([row(receipt) for receipt in receipts])
    return receipts


def roll(path, now_ns=LATER):
    made = Rolling.open(path)
    try:
        return made.roll(now_ns)
    finally:
        made.close()


def kept(store):
    """Which buckets have sums: their length, the day's or quarter's place, and their ways."""
    first = START // QUARTER_NS
    found = store._rows("SELECT quarters, quarter, dims FROM rolled WHERE dims IS NOT NULL ORDER BY 1, 2")
    return {(quarters, quarter - first): ways for quarters, quarter, ways in found}


def spent(store, by=(), span=EVER):
    return {
        tuple(getattr(each, name) for name in by): (each.calls, each.cost_nano_usd) for each in store.sums(span, by)
    }


def untrue(store):
    """Make what is kept wrong: who reads it tells."""
    store._execute("UPDATE sums SET calls = calls + 1000000")


EVERY = 2 ** len(WAYS) - 1


def test_whole_quarters_and_days_are_summed_up_once_they_are_over(store, path, make):
    fill(store, make)
    assert roll(path) == 5
    assert kept(store) == {(1, 0): EVERY, (1, 1): EVERY, (1, 2): EVERY, (1, 3): EVERY, (DAY, 0): EVERY}
    assert roll(path) == 0, "there is nothing left to be done"


def test_no_more_is_done_at_once_than_is_asked_for(store, path, make):
    fill(store, make)
    maker = Rolling.open(path)
    assert [maker.roll(LATER, most=2) for _ in range(4)] == [2, 2, 1, 0]
    maker.close()


def test_what_is_kept_is_what_is_read(store, path, make):
    fill(store, make)
    roll(path)
    assert spent(store, ("team",)) == {("web",): (40, 60_000)}
    untrue(store)
    assert spent(store, ("team",)) == {("web",): (1_000_040, 60_000)}
    hour = Span(START, START + 4 * QUARTER_NS)
    assert spent(store, ("team",), hour)[("web",)][0] == 4_000_040, "four quarters, none of them a day"
    assert spent(store, ("team", "user"))[("web", None)][0] == 40, "no way has both: the calls are read"
    most = Span(START + 1, START + 4 * QUARTER_NS)
    assert spent(store, ("team",), most)[("web",)][0] == 3_000_039, (
        "a quarter that is not whole is summed from its calls"
    )


@pytest.mark.parametrize("after_ns", [0, LATE_NS - 1])
def test_a_quarter_is_left_alone_until_its_calls_have_ended(store, path, make, after_ns):
    fill(store, make)
    roll(path, START + 2 * QUARTER_NS + after_ns)
    assert set(kept(store)) == {(1, 0)}
    roll(path, START + 2 * QUARTER_NS + LATE_NS)
    assert set(kept(store)) == {(1, 0), (1, 1)}


def test_a_call_that_comes_late_counts_at_once_and_its_time_is_summed_up_anew(store, path, make):
    fill(store, make)
    roll(path)
    store.add([row(make.receipt(START + QUARTER_NS + 5, team="late", cost_nano_usd=7))])
    assert set(kept(store)) == {(1, 0), (1, 2), (1, 3)}
    assert spent(store, ("team",)) == {("web",): (40, 60_000), ("late",): (1, 7)}
    assert roll(path) == 2
    assert len(kept(store)) == 5
    assert spent(store, ("team",)) == {("web",): (40, 60_000), ("late",): (1, 7)}


def test_a_call_that_is_there_already_neither_counts_twice_nor_takes_anything_back(store, path, make):
    receipts = fill(store, make)
    roll(path)
    store.add([row(receipt) for receipt in receipts])
    assert len(kept(store)) == 5
    assert spent(store) == {(): (40, 60_000)}


def test_calls_that_a_person_deletes_or_corrects_are_summed_up_anew(store, path, make):
    first, second, *_ = fill(store, make)
    for statement, values, expected in (
        ("DELETE FROM calls WHERE id = ?", (id_bytes(first.id),), (39, 58_500)),
        ("UPDATE calls SET cost_nano_usd = 0 WHERE id = ?", (id_bytes(second.id),), (39, 57_000)),
    ):
        roll(path)
        person = sqlite3.connect(path)
        person.execute(statement, values)
        person.commit()
        person.close()
        assert len(kept(store)) == 3
        assert spent(store) == {(): expected}
    roll(path)
    person = sqlite3.connect(path)
    person.execute("UPDATE callers SET team = 'app'")
    person.commit()
    person.close()
    assert spent(store, ("team",)) == {("app",): (39, 57_000)}


def test_a_call_that_is_added_while_its_time_is_summed_up_is_not_lost(store, path, make, monkeypatch):
    fill(store, make)
    sum_up = Rolling._sum

    def slow(self, bucket):
        found = sum_up(self, bucket)
        if bucket == (1, START // QUARTER_NS + 2):
            store.add([row(make.receipt(START + 2 * QUARTER_NS + 5, cost_nano_usd=7))])
        return found

    monkeypatch.setattr(Rolling, "_sum", slow)
    roll(path)
    monkeypatch.setattr(Rolling, "_sum", sum_up)
    assert (1, 2) not in kept(store)
    assert (DAY, 0) in kept(store), "which was summed up after that"
    assert spent(store) == {(): (41, 60_007)}
    assert spent(store, (), Span(START, START + 3 * QUARTER_NS)) == {(): (31, 45_007)}


def test_what_another_process_is_making_is_left_to_it_unless_it_takes_too_long(store, path, make):
    fill(store, make)
    quarter = START // QUARTER_NS
    store._execute("INSERT INTO rolled VALUES (1, ?, NULL, ?)", (quarter, LATER))
    store._execute("INSERT INTO rolled VALUES (1, ?, NULL, ?)", (quarter + 1, LATER - 3600 * 10**9))
    assert roll(path) == 4
    assert set(kept(store)) == {(1, 1), (1, 2), (1, 3), (DAY, 0)}
    assert spent(store) == {(): (40, 60_000)}


def test_a_maker_that_another_one_overtook_keeps_nothing(store, path, make, monkeypatch):
    fill(store, make)
    sum_up = Rolling._sum

    def overtaken(self, bucket):
        store._execute("INSERT OR REPLACE INTO rolled VALUES (?, ?, NULL, 5)", bucket)
        return sum_up(self, bucket)

    monkeypatch.setattr(Rolling, "_sum", overtaken)
    roll(path)
    assert kept(store) == {}
    assert store._one("SELECT count(*) FROM sums") == 0


def test_groups_that_are_nearly_as_many_as_calls_are_not_kept(store, path, make):
    for number in range(40):
        store.add([row(make.receipt(START + number * QUARTER_NS // 10, user=f"user-{number}"))])
    roll(path)
    user = WAYS.index(("user",))
    assert set(kept(store).values()) == {EVERY & ~(1 << user)}
    assert len(spent(store, ("user",))) == 40


def test_a_way_that_did_not_pay_is_tried_again_only_of_more_calls(store, path, make):
    maker = Rolling.open(path)
    for number in range(40):
        store.add([row(make.receipt(START + number * QUARTER_NS // 10, user=f"user-{number}"))])
    maker.roll(LATER)
    user = WAYS.index(("user",))
    assert maker.vain == {(1, user): 10, (DAY, user): 40}
    assert maker._least((1, 0), user) == 20
    assert maker._least((1, 0), WIDE) == 0
    maker.close()


def test_a_day_of_few_calls_is_left_alone_and_not_looked_at_again(store, path, make):
    fill(store, make, 3)
    assert roll(path) == 1
    assert kept(store) == {(DAY, 0): 0}
    assert roll(path) == 0
    assert spent(store) == {(): (3, 4500)}


def test_an_empty_ledger_has_nothing_to_be_summed_up(store, path):
    assert roll(path) == 0


def test_whoever_is_told_to_stop_leaves_the_sums_as_true_as_before(store, path, make):
    fill(store, make, 2000)
    maker = Rolling.open(path)
    asked = []
    maker.pace(lambda: len(asked.append(1) or asked) < 5)
    with pytest.raises(StoreBusy):
        maker.roll(LATER)
    maker.close()
    assert spent(store) == {(): (2000, 3_000_000)}
    roll(path)
    assert spent(store) == {(): (2000, 3_000_000)}


# -- beside the ledger --


def test_a_roller_looks_once_a_quarter(store, path, make, monkeypatch):
    monkeypatch.setattr(rolling, "_REST_S", 0)
    fill(store, make)
    roller = Roller(path)
    roller.run(LATER)
    assert len(kept(store)) == 5
    fill(store, make, start=START + DAY_NS)
    roller.run(LATER + LATE_NS - 1)
    assert len(kept(store)) == 5
    roller.run(LATER + LATE_NS)
    assert len(kept(store)) == 10


def test_a_roller_that_was_stopped_ends_and_does_no_more(store, path, make):
    fill(store, make, 3000)
    roller = Roller(path)
    thread = Background("test", lambda: roller.run(LATER))
    thread.ask()
    roller.stop()
    thread.close()
    roller.run(LATER)
    assert spent(store) == {(): (3000, 4_500_000)}


def test_a_file_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / FILE).write_text("Dear diary, " * 1000)
    with pytest.raises(Internal, match="not a database"):
        Roller(tmp_path / FILE).run(LATER)


def test_a_ledger_sums_up_what_is_over(open_ledger, home, make, monkeypatch):
    monkeypatch.setattr(rolling, "_REST_S", 0)
    ledger = open_ledger()
    for number in range(40):
        ledger.settle(make.receipt(START + number * QUARTER_NS // 10))
    ledger.flush()
    until = time.monotonic() + 20
    while not ledger.store._one("SELECT count(*) FROM rolled WHERE quarters = 96 AND dims > 0"):
        assert time.monotonic() < until
        time.sleep(0.01)
    ledger.close()
    assert ledger.state.trouble == ""


WORKER = """
import random, sys
from itertools import count
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from ledger.conftest import Maker
from penstock.ledger import rolling
from penstock.ledger.database import StoreBusy
from penstock.ledger.ids import Ids
from penstock.ledger.records import pack_receipt
from penstock.ledger.rolling import Rolling
from penstock.ledger.store import Store
path, start, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rolling.LEAST, rolling.PAYS = {1: 1, 96: 1}, {1: 1, 96: 1}
chance, make = random.Random(seed), Maker()
make.ids = Ids(chance)
store, maker = Store.open(path), Rolling.open(path)
for turn in count():
    at = start + chance.randrange(3 * 96) * 900_000_000_000
    names = {"team": chance.choice("ab"), "user": chance.choice("xyz"), "cost_nano_usd": chance.randrange(1000)}
    rows = [pack_receipt(make.receipt(at + number, **names))[0] for number in range(chance.randrange(1, 20))]
    try:
        store.add(rows)
        if turn % 3 == seed % 3:
            maker.roll(start + 4 * 96 * 900_000_000_000 + turn, most=3)
        if turn % 5 == 0:
            store.add(rows)
    except StoreBusy:
        pass
"""


def test_several_processes_that_add_and_sum_up_until_they_are_killed_leave_true_sums(store, path):
    tests = str(Path(__file__).parents[1])
    for seed in range(3):
        workers = [
            Popen([sys.executable, "-c", WORKER, str(path), str(START), str(seed * 10 + place), tests], stderr=DEVNULL)
            for place in range(2)
        ]
        until, calls = time.monotonic() + 20, store._one("SELECT count(*) FROM calls")
        while store._one("SELECT count(*) FROM calls") < calls + 1500 and time.monotonic() < until:
            time.sleep(0.02)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        receipts = store.calls(Filter(EVER), 10**9)
        assert len(receipts) > calls
        assert store._one("SELECT count(*) FROM rolled WHERE dims > 0") > 0
        for by, names in (
            ((), ()),
            (("team",), ("team",)),
            (("user",), ("user",)),
            (("team", "model"), ("team", "model")),
        ):
            expected = {}
            for receipt in receipts:
                place = tuple(getattr(receipt, name) for name in names)
                known = expected.get(place, (0, 0))
                expected[place] = (known[0] + 1, known[1] + receipt.cost_nano_usd)
            assert spent(store, by) == expected
