"""So many a minute, as a bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.rate import Rate


def test_a_full_bucket_gives_a_minutes_worth_at_once_and_then_one_at_a_time():
    rate = Rate(60, 0.0)
    for _ in range(60):
        assert rate.wait_s(0.0) == 0.0
        rate.take(1.0)
    assert rate.wait_s(0.0) == pytest.approx(1.0)
    assert rate.wait_s(0.25) == pytest.approx(0.75)
    assert rate.wait_s(1.0) == 0.0


def test_more_than_the_bucket_holds_needs_a_full_one():
    rate = Rate(10, 0.0)
    assert rate.wait_s(0.0, 1e9) == 0.0
    rate.take(1e9)
    assert rate.wait_s(0.0, 1e9) == pytest.approx(1e9 * 6)


def test_what_was_not_used_is_given_back_up_to_what_the_bucket_holds():
    rate = Rate(60, 0.0)
    rate.take(60.0)
    rate.take(-100.0)
    assert rate.wait_s(1.0, 60.0) == 0.0
    assert rate.level == 60.0


def test_a_clock_that_stands_still_or_goes_back_gives_nothing():
    rate = Rate(60, 5.0)
    rate.take(60.0)
    assert rate.wait_s(4.0) == rate.wait_s(5.0) == pytest.approx(1.0)


def test_another_limit_keeps_what_was_used():
    rate = Rate(60, 0.0)
    rate.take(90.0)
    rate.change(600, 30.0)
    assert rate.level == 0.0
    assert rate.wait_s(30.0) == pytest.approx(0.1)
    rate.change(6, 1000.0)
    assert rate.level == 6.0


@given(st.integers(1, 10_000), st.lists(st.floats(0, 5), min_size=50, max_size=300))
def test_in_any_time_no_more_comes_through_than_a_full_bucket_and_its_refill(per_minute, gaps):
    rate, now, taken = Rate(per_minute, 0.0), 0.0, 0
    for gap in gaps:
        now += gap
        while taken < 3 * len(gaps) and rate.wait_s(now) == 0.0:
            rate.take(1.0)
            taken += 1
    assert taken <= per_minute + now * per_minute / 60.0 + 1e-6 * taken
