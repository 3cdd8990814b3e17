"""The mean time for which tries hold their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.held import HELD_S, KEPT, HeldTime

TIMES = st.lists(st.floats(0.0, 600.0), max_size=40)


@given(st.lists(TIMES, max_size=6))
def test_it_is_the_mean_that_it_would_be_were_it_worked_out_each_time(rounds):
    held, mean_s = HeldTime(), HELD_S
    for times in rounds:
        for one in times:
            held.add(one)
            mean_s += 0.1 * (one - mean_s)
        assert held.mean_s() == held.mean_s() == mean_s


@pytest.mark.parametrize("more", [0, 1, 5_000])
def test_what_is_kept_is_all_that_a_float_can_tell(more):
    held, mean_s = HeldTime(), HELD_S
    for number in range(KEPT + more):
        one = 1_000.0 / (1 + number % 7)
        held.add(one)
        mean_s += 0.1 * (one - mean_s)
    assert held.mean_s() == pytest.approx(mean_s, rel=1e-14)
    assert len(held._latest) == 0
