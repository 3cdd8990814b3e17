"""How many tries at once a target shows to take."""

from heapq import heappop, heappush
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.concurrency import AdaptiveLimit


def filled(in_flight):
    limit = AdaptiveLimit()
    limit.in_flight = in_flight
    return limit


def is_full(limit):
    """Whether one more would be too many, as `health.py` asks."""
    return limit.in_flight + 1 > limit.most


def test_it_begins_at_the_cap_and_is_not_full():
    limit = filled(10_000)
    assert limit.limit(100) == 100
    assert not is_full(limit), "the cap is kept elsewhere, for all targets of a provider together"


def test_backing_off_goes_to_nine_tenths_of_what_was_shown_to_work():
    limit = filled(80)
    limit.back_off(0.0, 1.0, 100)
    assert limit.limit(100) == 90
    limit = filled(10)
    limit.back_off(0.0, 1.0, 1000)
    assert limit.limit(1000) == 18


def test_it_backs_off_once_per_round_trip():
    limit = filled(100)
    for now in (0.0, 0.3, 0.99):
        limit.back_off(now, 1.0, 100)
    assert limit.limit(100) == 90
    limit.back_off(1.0, 1.0, 100)
    assert limit.limit(100) == 81


def test_a_busy_target_keeps_what_it_took():
    limit = AdaptiveLimit()
    for in_flight in (30, 29, 28, 27, 26, 25, 24, 23, 22, 21):  # it takes 20 and refuses ten at once
        limit.in_flight = in_flight
        limit.refuse(0.0, 1.0, 1000)
    assert limit.limit(1000) == 20
    limit.in_flight = 20
    assert is_full(limit)


def test_one_stray_refusal_is_soon_forgotten():
    limit = filled(1)
    limit.refuse(0.0, 1.0, 1000)
    assert limit.limit(1000) == 1
    round_trips = 0
    while limit.limit(1000) < 100:
        limit.in_flight = limit.limit(1000)
        for _ in range(limit.in_flight):
            limit.grow(1000)
        round_trips += 1
    assert round_trips == 7


def test_one_is_always_allowed():
    limit = filled(1)
    for now in range(100):
        limit.back_off(float(now), 1.0, 100)
        limit.refuse(now + 0.5, 0.1, 100)
    limit.in_flight = 0
    assert limit.limit(100) == 1
    assert not is_full(limit)
    limit.in_flight = 1
    assert is_full(limit)


def test_above_what_was_too_much_it_grows_by_one_in_a_round_trip():
    limit = filled(10)
    limit.back_off(0.0, 1.0, 100)
    limit.in_flight = 18
    for _ in range(19):
        limit.grow(100)
    assert limit.limit(100) == 19


def test_it_grows_only_while_half_of_it_is_used():
    limit = filled(10)
    limit.back_off(0.0, 1.0, 100)
    limit.in_flight = 8
    for _ in range(1000):
        limit.grow(100)
    assert limit.limit(100) == 18


def test_it_grows_up_to_the_cap():
    limit = filled(10)
    limit.back_off(0.0, 1.0, 100)
    limit.in_flight = 100
    for _ in range(10_000):
        limit.grow(100)
    assert limit.limit(100) == 100


def test_a_lower_cap_counts_at_once():
    assert filled(50).limit(7) == 7


def overload(capacity, demand, *, first_s=1.0, refusal_s=0.01, end_s=120.0):
    """Play a target that takes so many at once and refuses the rest quickly, while `demand` calls always wait; from the 20th
    second on, give the share of its capacity that was used and the share of tries that it refused."""
    limit, ends, number, inside = AdaptiveLimit(), [], count(), 0
    now, answered, refused = 0.0, 0, 0
    while now < end_s:
        while limit.in_flight < demand and not is_full(limit):
            limit.in_flight += 1
            is_taken = inside < capacity
            inside += is_taken
            heappush(ends, (now + (first_s if is_taken else refusal_s), next(number), is_taken))
        now, _, is_taken = heappop(ends)
        if is_taken:
            inside -= 1
            limit.grow(1000)
            answered += now > 20
        else:
            limit.refuse(now, first_s, 1000)
            refused += now > 20
        limit.in_flight -= 1
    return answered * first_s / capacity / (end_s - 20), refused / max(1, answered + refused)


@pytest.mark.parametrize("capacity", [1, 4, 20, 64, 150])
def test_it_finds_what_a_target_can_take(capacity):
    used, refused = overload(capacity, 200)
    print(f"takes {capacity} of 200: {used:.1%} used, {refused:.1%} of the tries refused")
    assert used >= 0.9
    assert refused <= 0.25


def test_a_target_that_takes_all_gets_all():
    assert overload(300, 200) == (pytest.approx(200 / 300, abs=0.01), 0.0)


@given(
    st.lists(st.tuples(st.sampled_from("gbr"), st.integers(0, 300), st.floats(0, 3)), max_size=300),
    st.integers(1, 200),
)
def test_it_stays_between_one_and_the_cap(steps, cap):
    limit, now = AdaptiveLimit(), 0.0
    for what, in_flight, passed in steps:
        now += passed
        limit.in_flight = in_flight
        if what == "g":
            limit.grow(cap)
        elif what == "b":
            limit.back_off(now, 1.0, cap)
        else:
            limit.refuse(now, 1.0, cap)
        assert 1 <= limit.limit(cap) <= cap
