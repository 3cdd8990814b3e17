"""Never more than the limit in any minute, and hardly less where more is asked for."""

from math import nextafter
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.policy.rates import GRAIN_S, MINUTE_S, MOST_DEBT, Window

STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), max_size=120)


def most_in_a_minute(taken):
    """The most of (moment, amount) that lies in any minute, begun at one of them."""
    return max((sum(n for at, n in taken if start <= at < start + MINUTE_S) for start, _ in taken), default=0)


@settings(deadline=None)
@given(STEPS, st.integers(1, 100))
def test_no_minute_has_more_than_the_limit(steps, limit):
    window, now, taken = Window(limit), 0.0, []
    for gap, amount in steps:
        now += gap
        if window.fits(amount, now):
            window.take(amount, now)
            taken.append((now, min(amount, limit)))
    assert most_in_a_minute(taken) <= limit


@settings(deadline=None)
@given(STEPS, st.integers(1, 100))
def test_what_is_foretold_comes_true_and_not_before(steps, limit):
    window, now = Window(limit), 0.0
    for gap, amount in steps:
        now += gap
        at = window.ready_at(min(amount, limit), now)
        assert (at == now) == window.fits(amount, now)
        if at > now:
            assert not window.fits(amount, nextafter(at, 0.0))
            now = at
        assert window.fits(amount, now)
        window.take(amount, now)


@pytest.mark.parametrize("limit", [60, 600, 997, 200_000])
@pytest.mark.parametrize("crowd", [1.2, 3.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_over_ten_minutes_of_more_than_enough_99_to_100_percent_pass(limit, crowd, seed):
    rng, window, taken, now = Random(seed), Window(limit), [], 0.0
    size = max(1, limit // 1000)
    while now < 10 * MINUTE_S:
        if window.fits(size, now):
            window.take(size, now)
            taken.append((now, size))
        now += rng.expovariate(crowd * limit / size / MINUTE_S)
    total = sum(amount for _, amount in taken)
    floor = 0.99 if crowd > 2 else 0.95  # a place that becomes free stays so until the next one comes
    assert floor * 10 * limit <= total <= 10 * limit
    for minute in range(10):
        assert sum(n for at, n in taken if minute * MINUTE_S <= at < (minute + 1) * MINUTE_S) <= limit


def test_a_full_limit_passes_at_once_and_again_a_minute_later():
    window = Window(5)
    for _ in range(5):
        assert window.fits(1, 7.0)
        window.take(1, 7.0)
    assert not window.fits(1, 66.9)
    assert window.ready_at(1, 8.0) == 67.0
    assert window.fits(5, 67.0)


def test_what_is_counted_together_leaves_with_the_youngest_of_it():
    window = Window(2)
    assert window.take(1, 0.0) is window.take(1, 0.2)
    assert not window.fits(1, 60.1)
    assert window.ready_at(1, 1.0) == 60.2
    assert window.fits(2, 60.2)


def test_a_window_stays_small_whatever_passes():
    window = Window(10**9)
    for number in range(20_000):
        window.take(1, number * 0.01)
        window.fits(1, number * 0.01)
    assert len(window.slices) <= 2 + MINUTE_S / GRAIN_S


def test_what_is_more_than_the_limit_needs_the_whole_window_and_fills_it():
    window = Window(10)
    taken = window.take(1, 0.0)
    assert not window.fits(1000, 0.0)
    assert window.fits(1000, 60.0)
    assert window.take(1000, 60.0).amount == 10
    assert taken.amount < 0
    assert not window.fits(1, 60.0)


def test_what_was_not_used_is_there_again():
    window = Window(100)
    taken = window.take(100, 0.0)
    window.correct(taken, -80, 1.0)
    assert window.fits(80, 1.0)
    assert not window.fits(81, 1.0)


def test_what_was_not_used_a_minute_ago_is_lost():
    window = Window(100)
    old = window.take(100, 0.0)
    window.take(100, 60.0)
    window.correct(old, -100, 61.0)
    assert not window.fits(1, 61.0)


def test_no_more_is_given_back_than_was_taken():
    window = Window(100)
    window.correct(window.take(10, 0.0), -50, 1.0)
    assert (window.used, window.fits(100, 1.0), window.fits(101, 1.0)) == (0, True, True)
    window.take(1, 1.0)
    assert not window.fits(100, 1.0)


def test_a_debt_takes_up_the_window_before_anything_else():
    window = Window(100)
    window.correct(window.take(60, 0.0), 90, 10.0)  # 150: 40 more fit now, 50 are owed
    assert (window.used, window.debt) == (100, 50)
    assert not window.fits(1, 59.0)
    assert window.ready_at(10, 20.0) == 60.0
    assert window.ready_at(11, 20.0) == 70.0
    assert window.fits(10, 60.0)
    assert not window.fits(11, 60.0)
    assert (window.used, window.debt) == (90, 0)


def test_what_comes_back_pays_debts_first():
    window = Window(100)
    first, second = window.take(50, 0.0), window.take(50, 10.0)
    window.correct(first, 30, 11.0)
    window.correct(second, -40, 12.0)
    assert (window.used, window.debt) == (90, 0)


def test_a_debt_is_forgotten_beyond_ten_minutes():
    window = Window(100)
    window.correct(window.take(1, 0.0), 10**12, 0.0)
    assert window.debt == MOST_DEBT * 100
    assert window.ready_at(100, 0.0) == (MOST_DEBT + 1) * MINUTE_S
    now = 0.0
    while not window.fits(1, now):
        now += 1.0
    assert now == (MOST_DEBT + 1) * MINUTE_S


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 20), st.integers(0, 60)), max_size=100), st.integers(20, 50))
def test_with_debts_no_more_passes_in_the_long_run(steps, limit):
    window, now, used = Window(limit), 0.0, 0
    for gap, estimate, real in steps:
        now += gap
        if window.fits(estimate, now):
            taken = window.take(estimate, now)
            window.correct(taken, real - estimate, now)
            used += real
            assert window.debt == 0 or window.used >= window.limit, "debts are paid as soon as there is room"
        assert used <= limit * (1 + now / MINUTE_S) + 60, "the last call may go beyond"


def test_several_in_a_row_need_several_minutes():
    window = Window(10)
    assert window.ready_at(10, 5.0) == 5.0
    assert window.ready_at(15, 5.0) == 65.0
    assert window.ready_at(35, 5.0) == 185.0
    window.take(10, 0.0)
    assert window.ready_at(10, 5.0) == 60.0
    assert window.ready_at(11, 5.0) == 120.0


def test_a_clock_that_goes_back_a_little_loses_nothing():
    window = Window(2)
    window.take(1, 10.0)
    window.take(1, 9.99)
    assert not window.fits(1, 69.999)
    assert window.fits(2, 70.0)


# -- calls beside the amount --


def test_calls_are_limited_beside_what_they_take():
    window = Window(100, 2)
    window.take(10, 0.0)
    window.take(10, 5.0)
    assert not window.fits(1, 59.9)
    assert window.has(80)
    assert [window.ready_at(1, 6.0, calls) for calls in (0, 1, 2, 3)] == [6.0, 60.0, 65.0, 120.0]
    assert window.ready_at(81, 6.0) == window.ready_at(81, 6.0, 0) == 60.0
    assert window.fits(80, 60.0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40), st.floats(0, 1), st.booleans()), max_size=60),
    st.integers(1, 9),
    st.integers(1, 100),
)
def test_one_window_of_both_is_as_two_windows_of_one_each(steps, most_calls, limit):
    both, amounts, calls, now = Window(limit, most_calls), Window(limit), Window(most_calls), 0.0
    for gap, asked, used, is_undone in steps:
        now, amount = now + gap, min(asked, limit)
        assert both.fits(asked, now) == (amounts.fits(asked, now) and calls.fits(1, now))
        assert both.ready_at(amount, now) == max(amounts.ready_at(amount, now), calls.ready_at(1, now))
        if both.fits(asked, now):
            taken, of_amount, of_calls = both.take(amount, now), amounts.take(amount, now), calls.take(1, now)
            if is_undone:
                both.undo(taken, amount, now)
                amounts.correct(of_amount, -amount, now)
                calls.correct(of_calls, -1, now)
            else:
                both.correct(taken, int(used * amount) - amount, now)
                amounts.correct(of_amount, int(used * amount) - amount, now)
        assert (both.used, both.debt, both.calls) == (amounts.used, amounts.debt, calls.used)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 20), st.integers(0, 60)), max_size=100),
    st.integers(1, 9),
    st.integers(20, 50),
)
def test_no_minute_has_more_calls_than_the_limit_whatever_they_used(steps, most_calls, limit):
    window, now, taken = Window(limit, most_calls), 0.0, []
    for gap, estimate, real in steps:
        now += gap
        if window.fits(estimate, now):
            window.correct(window.take(estimate, now), real - estimate, now)
            taken.append((now, 1))
        assert window.calls == sum(one.calls for one in window.slices)
        assert window.used == sum(one.amount for one in window.slices) <= limit
        if taken and not window.debt:  # what is corrected in the same grain keeps a call for hardly longer
            assert window.ready_at(0, now, most_calls) <= max(now, taken[-1][0] + MINUTE_S + GRAIN_S)
    assert most_in_a_minute(taken) <= most_calls


def test_a_call_that_has_left_the_window_is_not_undone_twice():
    window = Window(100, 1)
    old = window.take(10, 0.0)
    new = window.take(10, 60.0) if window.fits(10, 60.0) else None
    window.undo(old, 10, 61.0)
    assert (window.calls, window.used) == (1, 10)
    window.undo(new, 10, 61.0)
    assert (window.calls, window.used) == (0, 0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 0.3, 20.0, 59.9, 61.0]),
            st.integers(0, 40),
            st.integers(-50, 30),
            st.integers(0, 9),
        ),
        max_size=60,
    ),
    st.integers(1, 100),
)
@example([(0.0, 10, 0, 0), (59.9, 10, 0, 0), (0.1, 1, -5, 0)], 100)
@example([(0.0, 1, 99, 0), (0.1, 1, -1, 0)], 50)
def test_what_was_not_used_comes_back_in_one_step_as_in_all(steps, limit):
    short, general, now, taken = Window(limit), Window(limit), 0.0, []
    for gap, amount, more, which in steps:
        now += gap
        taken.append((short.take(amount, now), general.take(amount, now)))
        first, second = taken[which % len(taken)]
        short.correct(first, more, now)
        general._correct(second, more, now)
        assert [(s.amount, s.calls, s.at) for s in short.slices] == [(s.amount, s.calls, s.at) for s in general.slices]
        assert (first.amount, short.used, short.debt, short.calls) == (
            *(second.amount, general.used, general.debt, general.calls),
        )


def test_a_place_in_a_window_that_is_no_more_gives_nothing_back_to_another():
    old, new = Window(10), Window(10)
    gone = old.take(5, 0.0)
    old.pass_on(61.0)
    new.correct(gone, -1, 61.0)
    assert (new.used, gone.amount) == (0, -1)
