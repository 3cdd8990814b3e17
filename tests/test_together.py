"""Many calls, one step: whichever of them fails, every other one is taken, once and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.together import together


@given(st.lists(st.booleans()), st.booleans())
def test_each_is_taken_once_in_order_and_those_that_fail_are_told_of(broken, is_lazy):
    calls, taken, failed = list(enumerate(broken)), [], []

    def step(left):
        for number, fails in left:
            if fails and is_lazy:
                raise ValueError(number)
            taken.append(number)
            if fails:
                raise ValueError(number)

    together(step, calls, lambda call, error: failed.append((call, error.args)))
    assert failed == [((number, True), (number,)) for number, fails in calls if fails]
    assert taken == [number for number, fails in calls if not (fails and is_lazy)]


def test_what_is_raised_before_the_first_one_concerns_none_of_them():
    def step(_left):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it says nothing
        together(step, [1, 2], lambda *_: pytest.fail("nobody was taken"))


def test_what_ends_the_process_ends_the_step():
    def step(left):
        next(left)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(step, [1, 2], lambda *_: pytest.fail("it is no failure of that one"))
