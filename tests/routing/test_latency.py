"""What is expected of a target's first content."""

import pytest

from penstock.routing.latency import ENOUGH, EVERY, KEPT, STALE_S, Latency


def fed(times, at=0.0, every=0.1):
    latency = Latency()
    for number, time_s in enumerate(times):
        latency.add(time_s, at + number * every)
    return latency


def test_too_few_times_say_nothing():
    assert Latency().expected_s(0.0) is None
    assert Latency().mean_s() is None
    assert Latency().quantiles_s() is None
    assert fed([1.0] * (ENOUGH - 1)).expected_s(2.0) is None


def test_enough_of_them_give_the_median():
    assert fed([1.0] * 9 + [3.0] * 11).expected_s(2.0) == 3.0


def test_the_median_follows_a_target_that_changes():
    latency = fed([1.0] * KEPT)
    for number in range(KEPT // 2 + EVERY):
        latency.add(5.0, 7.0 + number * 0.1)
    assert latency.expected_s(12.0) == 5.0


def test_what_is_older_than_a_minute_is_not_believed_and_then_forgotten():
    latency = fed([9.0] * ENOUGH, every=0.0)
    assert latency.expected_s(STALE_S) == 9.0
    assert latency.expected_s(STALE_S + 0.1) is None
    latency.add(1.0, STALE_S + 1.0)
    assert latency.expected_s(STALE_S + 1.0) is None
    assert latency.quantiles_s() == (1.0, 1.0)


def test_quantiles_are_of_the_last_ones():
    latency = fed([100.0] + [float(n) for n in range(64)])
    assert latency.quantiles_s() == (32.0, 60.0)


def test_a_target_that_becomes_three_times_as_slow_of_late_surges():
    latency = fed([0.5] * 100)
    assert not latency.has_surged()
    for number in range(10):
        latency.add(5.0, 10.0 + number)
    assert latency.has_surged()
    assert latency.mean_s() == pytest.approx(0.9, abs=0.1)


def test_what_stays_slow_is_no_surge_in_the_end():
    latency = fed([0.5] * 100 + [5.0] * 40)
    assert not latency.has_surged()


def test_a_surge_below_a_second_is_none_and_neither_is_one_of_few_times():
    assert not fed([0.01] * 100 + [0.9] * 10).has_surged()
    assert not fed([0.01] * 4 + [9.0] * 3).has_surged()
