"""The statements of sums give what adding up by hand gives, for every choice of names; `test_rollups.py` has kept sums."""

from collections import Counter
from itertools import chain, combinations

import pytest

from penstock.ledger import summing
from penstock.ledger.records import pack_receipt
from penstock.ledger.rollups import NAMES
from penstock.ledger.store import FILE, Store

EVERY = [*chain.from_iterable(combinations(NAMES, count) for count in (0, 1, 2, len(NAMES)))]
SPAN = {"first": b"", "beyond": b"\xff" * 16, "since_ns": 0, "until_ns": 2**62, "step": 1}


@pytest.fixture
def receipts(make):
    who = [("web", "search"), ("web", None), (None, "search"), (None, None)]
    return [
        make.receipt(team=team, feature=feature, user=f"u{number % 2}", model=f"m{number % 3}")
        for number in range(12)
        for team, feature in who
    ]


@pytest.fixture
def asked(tmp_path, receipts):
    store = Store.open(tmp_path / FILE)
    store.add([pack_receipt(receipt)[0] for receipt in receipts])
    yield lambda statement, values=SPAN: store._execute(statement, values).fetchall()
    store.close()


def names_of(receipt, by):
    own = {"key": receipt.key_id}
    return tuple((own.get(name, getattr(receipt, name, None)) or "") if name in by else "" for name in NAMES)


@pytest.mark.parametrize("by", EVERY, ids="-".join)
def test_calls_are_summed_up_by_any_names(asked, receipts, by):
    expected = Counter(names_of(receipt, by) for receipt in receipts)
    found = Counter()
    for row in asked(summing.sums_of_calls(by, timed=False)):
        found[tuple(name or "" for name in row[: len(NAMES)])] += row[len(NAMES) + 1]
    assert found == expected


@pytest.mark.parametrize("by", [("feature",), ("team", "model")], ids="-".join)
def test_not_grouped_a_name_may_come_several_times_and_adds_up_all_the_same(asked, by):
    def added(rows):
        sums = Counter()
        for row in rows:
            sums[row[: len(NAMES)]] += row[len(NAMES) + 1]
        return sums

    apart = asked(summing.sums_of_calls(by, timed=False, grouped=False))
    assert added(apart) == added(asked(summing.sums_of_calls(by, timed=False)))


def test_by_time_each_quarter_has_its_own_row(asked, receipts):
    rows = asked(summing.sums_of_calls((), timed=True))
    quarters = Counter(receipt.started_ns // 900_000_000_000 for receipt in receipts)
    assert {row[len(NAMES)]: row[len(NAMES) + 1] for row in rows} == quarters


def test_what_is_gathered_is_kept_by_the_names_that_were_asked_for():
    assert summing.make(("team",)).endswith("FROM temp.gathered GROUP BY team")
    assert "temp.narrowed" in summing.make(("team",), narrowed=True)
    assert summing.narrow(("team",)).startswith("INSERT INTO temp.narrowed")
