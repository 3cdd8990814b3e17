"""History: every receipt of a span once, however few are read at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ledger.history import receipts, tries, used
from penstock.ledger.records import pack_receipt
from penstock.ledger.store import FILE, Filter, Span, Store
from penstock.receipt import Attempt, Usage

DAY_NS = 86_400 * 10**9
START_NS = 20_000 * DAY_NS  # 2024-10-04


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store.open(tmp_path_factory.mktemp("history") / FILE)
    yield opened
    opened.close()


def fill(store, *found):
    store._execute("DELETE FROM calls")
    store.add([pack_receipt(receipt)[0] for receipt in found])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3 * DAY_NS) | st.integers(0, 3), max_size=30),
    st.integers(1, 5),
    st.tuples(st.integers(-5, 3 * DAY_NS), st.integers(-5, 3 * DAY_NS)).map(sorted),
)
def test_every_receipt_of_the_span_comes_once(store, make, offsets, piece, ends):
    made = [make.receipt(START_NS + offset) for offset in offsets]
    fill(store, *made)
    span = Span(START_NS + ends[0], START_NS + ends[1])
    found = [receipt.id for receipt in receipts(store, Filter(span), piece)]
    inside = [receipt.id for receipt in made if span.since_ns <= receipt.started_ns < span.until_ns]
    assert sorted(found) == sorted(inside)


def test_more_receipts_in_one_nanosecond_than_are_read_at_once(store, make):
    fill(store, *(make.receipt(START_NS) for _ in range(9)))
    assert len(list(receipts(store, Filter(Span(START_NS - 100, START_NS + 100)), 2))) == 9


def test_only_what_is_asked_for(store, make):
    fill(store, make.receipt(START_NS, team="a"), make.receipt(START_NS, team="b"))
    (found,) = receipts(store, Filter(Span(0, START_NS + 1), team="a"))
    assert found.team == "a"


def test_a_try_stands_under_the_day_on_which_it_began_and_its_price_under_that_of_its_call(store, make):
    usage = Usage(5, 6)
    late = Attempt("p/m", started_us=2_000_000, usage=usage, cost_nano_usd=7, cost_status="exact", service_tier="flex")
    fill(store, make.receipt(START_NS + DAY_NS - 10**9, tries=(late,)))
    ever = Filter(Span(0, START_NS + 2 * DAY_NS))
    assert [(day, one.cost_nano_usd) for day, one in tries(store, ever)] == [("2024-10-05", 7)]
    (one,) = used(store, ever)
    assert (one.day, one.usage, one.nano_usd, one.service_tier) == ("2024-10-04", usage, 7, "flex")


def test_a_try_that_used_and_cost_nothing_is_left_out_and_one_that_died_is_not(store, make):
    refused = Attempt("p/m", status="error", cost_nano_usd=0)
    died = Attempt("p/m", status="interrupted", cost_nano_usd=9000, cost_status="estimated")
    unknown = Attempt("p/m", status="interrupted", cost_nano_usd=None, cost_status="unpriced")
    fill(store, make.receipt(START_NS, tries=(refused, died, unknown)))
    ever = Filter(Span(0, START_NS + 1))
    assert [one.cost_nano_usd for _, one in tries(store, ever)] == [9000, None]
    assert list(used(store, ever)) == []
